//! The surface over gRPC, on the same port: each call is the HTTP request that it stands for, and takes its way.
//!
//! Owns the translation and nothing else: a message becomes the body of a request to the gateway's own routes (`request.rs`), what
//! they answer becomes a message (`reply.rs`, `stream.rs`) or a status (`status.rs`). Keys, budgets, places, privacy, the log row
//! and metrics are therefore HTTP's. The messages are weir-proto's. Reading on: `http/mod.rs`.

pub mod details;
mod health;
mod reply;
mod request;
mod status;
mod stream;

pub use request::chat_body;

use crate::ask::{AskError, wrong};
use crate::gateway::Gateway;
use crate::http::{TRACEPARENT, body};
use crate::rescue::Rescue;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use health::Health;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, Version, header};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::{ChunkStream, Life};
use tonic::metadata::MetadataMap;
use tonic::{Request as Call, Response as Reply, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tower::ServiceExt;
use weir_plan::Scope;
use weir_proto::gateway::v1::gateway_server::{Gateway as Calls, GatewayServer, SERVICE_NAME};
use weir_proto::gateway::v1::{
    ChatReply, ChatRequest, DESCRIPTORS, EmbedReply, EmbedRequest, ListModelsReply,
    ListModelsRequest,
};

const CHAT: &str = "/v1/chat/completions";
const EMBEDDINGS: &str = "/v1/embeddings";
const MODELS: &str = "/v1/models";
/// An empty message with what stands before it: its length, and that it is not compressed.
const EMPTY: Bytes = Bytes::from_static(&[0; 5]);
/// Largest message to the services that need no key.
const OPEN_MAX: usize = 16 << 10;
static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Answers calls by way of the gateway's own routes.
struct Twin {
    http: Router,
    gateway: Gateway,
}

/// When a call's time is over; kept with its message.
#[derive(Clone, Copy)]
struct Until(Option<Instant>);

/// The gateway's routes with those of gRPC beside them. Health and reflection need no key, as `/healthz` does not: they say what
/// this port serves and whether it can, and nothing of a tenant.
pub(crate) fn beside(http: Router, gateway: Gateway) -> Router {
    let twin = Arc::new(Twin {
        http: http.clone(),
        gateway: gateway.clone(),
    });
    let health = HealthServer::new(Health::of(gateway)).max_decoding_message_size(OPEN_MAX);
    http.route(&calls_of(SERVICE_NAME), post(answer).with_state(twin))
        .route_service(&calls_of(health::NAME), health)
        .route_service(
            &calls_of("grpc.reflection.v1.ServerReflection"),
            reflection(),
        )
}

/// The answer to a call of something that is not served; `None` where the request is no call.
pub(crate) fn unknown(headers: &HeaderMap) -> Option<Response> {
    let status = || Status::unimplemented("no such service: list them by reflection");
    is_call(headers).then(|| status().into_http())
}

fn calls_of(service: &str) -> String {
    format!("/{service}/{{method}}")
}

fn reflection() -> ServerReflectionServer<impl ServerReflection> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors are those that the messages were made from")
        .max_decoding_message_size(OPEN_MAX)
}

async fn answer(State(twin): State<Arc<Twin>>, request: Request) -> Response {
    if !is_call(request.headers()) {
        let message = "this path is served over gRPC: send application/grpc";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Rescue::new(status, "not_grpc", message).into_response();
    }
    let received = Instant::now();
    let (request, until) = match twin.read(request, received).await {
        Ok(read) => read,
        Err(rescue) => return status::of(&rescue, &HeaderMap::new()).into_http(),
    };
    let calls = GatewayServer::from_arc(twin).max_decoding_message_size(usize::MAX);
    let answered = stream::in_time(until, calls.oneshot(request)).await;
    match answered {
        Some(Ok(response)) => response.map(Body::new),
        Some(Err(never)) => match never {},
        None => stream::late().into_http(),
    }
}

/// Whether a request is a call with messages as Protocol Buffers; gRPC-Web and JSON are not served.
fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    kind.is_some_and(|rest| {
        let rest = rest.strip_prefix(b"+proto").unwrap_or(rest);
        rest.is_empty() || rest.starts_with(b";")
    })
}

/// gRPC's own deadline, from the moment that the call arrived.
fn until(headers: &HeaderMap, received: Instant) -> Result<Option<Instant>, AskError> {
    let Some(value) = headers.get(&TIMEOUT) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let read = || {
        let unit = text.chars().last()?;
        let number = text.strip_suffix(unit)?;
        let digits = (1..=8).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        let number: u64 = number.parse().ok().filter(|_| digits)?;
        Some(match unit {
            'H' => Duration::from_secs(number * 3600),
            'M' => Duration::from_secs(number * 60),
            'S' => Duration::from_secs(number),
            'm' => Duration::from_millis(number),
            'u' => Duration::from_micros(number),
            'n' => Duration::from_nanos(number),
            _ => return None,
        })
    };
    let expected = "up to 8 digits and one of H, M, S, m, u and n";
    let time = read().ok_or_else(|| wrong(TIMEOUT.as_str(), &Value::from(&*text), expected))?;
    Ok(received.checked_add(time))
}

impl Twin {
    /// The call with its message, which is bounded as the body of a request is, and the end of its time. Whose key is not good is
    /// refused by the routes; nothing that they send is read before.
    async fn read(
        &self,
        request: Request,
        received: Instant,
    ) -> Result<(Request, Option<Instant>), Rescue> {
        let serving = self.gateway.serving();
        let until = until(request.headers(), received)?;
        let identity = self.gateway.identity(&serving, request.headers()).await;
        let known = identity.is_ok_and(|identity| identity.has(Scope::Ask));
        let (mut head, message) = match known {
            true => body::read(request, serving.plan.limits.body_max_bytes).await?,
            false => (request.into_parts().0, EMPTY),
        };
        head.extensions.insert(Until(until));
        Ok((Request::from_parts(head, Body::from(message)), until))
    }

    /// What the gateway's routes answer to this body with the call's metadata.
    async fn ask(
        &self,
        (method, path): (Method, &'static str),
        metadata: MetadataMap,
        body: Bytes,
    ) -> Result<(MetadataMap, Body), Status> {
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_static(path);
        *request.version_mut() = Version::HTTP_2;
        let sent = metadata.into_headers();
        let theirs = [header::AUTHORIZATION, TRACEPARENT];
        let passed = |name: &HeaderName| theirs.contains(name) || status::ours(name);
        for (name, value) in sent.iter().filter(|(name, _)| passed(name)) {
            request.headers_mut().append(name, value.clone());
        }
        let response = match self.http.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        if response.status().is_success() {
            let (head, body) = response.into_parts();
            Ok((status::said(&head.headers), body))
        } else {
            Err(status::refused(response).await)
        }
    }

    async fn chat_of(
        &self,
        metadata: MetadataMap,
        asked: ChatRequest,
        stream: bool,
    ) -> Result<(MetadataMap, Body), Status> {
        let body = chat_body(asked, stream).map_err(status::field)?;
        self.ask((Method::POST, CHAT), metadata, body).await
    }
}

#[tonic::async_trait]
impl Calls for Twin {
    type ChatStreamStream = ChunkStream;

    async fn chat(&self, call: Call<ChatRequest>) -> Result<Reply<ChatReply>, Status> {
        let (metadata, _, asked) = call.into_parts();
        let (said, body) = self.chat_of(metadata, asked, false).await?;
        Ok(with(said, reply::read(&reply::whole(body).await?)?))
    }

    async fn chat_stream(&self, call: Call<ChatRequest>) -> Result<Reply<ChunkStream>, Status> {
        let (metadata, extensions, asked) = call.into_parts();
        let limits = self.gateway.serving().plan.limits;
        let life = Life {
            until: extensions.get().and_then(|Until(until)| *until),
            patience: Duration::from_millis(limits.request_timeout_ms),
        };
        let (said, body) = self.chat_of(metadata, asked, true).await?;
        Ok(with(said, stream::chunks(body, life)))
    }

    async fn embed(&self, call: Call<EmbedRequest>) -> Result<Reply<EmbedReply>, Status> {
        let (metadata, _, asked) = call.into_parts();
        let body = request::embed_body(&asked);
        let (said, body) = self.ask((Method::POST, EMBEDDINGS), metadata, body).await?;
        Ok(with(said, reply::vectors(&reply::whole(body).await?)?))
    }

    async fn list_models(
        &self,
        call: Call<ListModelsRequest>,
    ) -> Result<Reply<ListModelsReply>, Status> {
        let (metadata, ..) = call.into_parts();
        let (said, body) = self
            .ask((Method::GET, MODELS), metadata, Bytes::new())
            .await?;
        Ok(with(said, reply::read(&reply::whole(body).await?)?))
    }
}

fn with<T>(metadata: MetadataMap, message: T) -> Reply<T> {
    Reply::from_parts(metadata, message, tonic::Extensions::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn a_call_is_known_by_its_content_type() {
        for (kind, call) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc+json", false),
            ("application/json", false),
        ] {
            assert_eq!(is_call(&headers("content-type", kind)), call, "{kind}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn a_deadline_has_digits_and_a_unit() {
        let now = Instant::now();
        for (text, time) in [
            ("2S", Duration::from_secs(2)),
            ("1500m", Duration::from_millis(1500)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("3H", Duration::from_secs(3 * 3600)),
            ("7M", Duration::from_secs(7 * 60)),
            ("0n", Duration::ZERO),
        ] {
            let until = until(&headers("grpc-timeout", text), now).unwrap();
            assert_eq!(until, Some(now + time), "{text}");
        }
        for text in ["", "S", "5", "5s", "123456789S", "-1S", "+1S"] {
            let error = until(&headers("grpc-timeout", text), now).unwrap_err();
            assert_eq!(error.param, "grpc-timeout", "{text}");
        }
        assert_eq!(until(&HeaderMap::new(), now), Ok(None));
    }
}
