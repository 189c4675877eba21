//! One HTTP client for all engines, and the one place that sees addresses and keys.
//!
//! Sends a request, waits for the head of the answer, turns everything that is not 2xx into an [`EngineError`].
//! It does not retry. Reading on: `engines.rs`; `links.rs` for the connections.

use crate::breaker::BACKOFF_MAX;
use crate::error::{EngineError, Phase, Reply, place};
use crate::links::{Answer, LinkError};
use crate::trust::Trust;
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};
use tokio_rustls::rustls;
use weir_plan::{Endpoint, Pool, Secret};

/// Largest error body that is read.
const ERROR_BODY_MAX: usize = 64 << 10;

#[derive(Clone, Debug)]
pub(crate) struct Client {
    trust: Trust,
}

/// One endpoint of one pool, with what must never be shown about it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) pool: String,
    endpoint: Endpoint,
    authorities: Option<String>,
    /// What a request is addressed with, or why it cannot be.
    address: Result<Address, &'static str>,
}

#[derive(Debug)]
struct Address {
    /// Scheme, host and port.
    origin: Uri,
    host: HeaderValue,
    /// What stands before the path of a call; empty for most.
    base: String,
    bearer: Option<HeaderValue>,
}

/// A request that has been built but not sent, and how long it may take to begin answering.
pub(crate) struct Call<'a> {
    pub(crate) path: &'a str,
    pub(crate) body: Bytes,
    pub(crate) until: Instant,
}

impl Target {
    pub(crate) fn new(pool: &Pool, endpoint: &Endpoint) -> Self {
        Self {
            pool: pool.name.clone(),
            endpoint: endpoint.clone(),
            authorities: pool.authorities.clone(),
            address: Address::of(endpoint),
        }
    }

    /// Whether this is what a plan says of an endpoint of the pool.
    pub(crate) fn is_of(&self, pool: &Pool, endpoint: &Endpoint) -> bool {
        self.endpoint == *endpoint && self.authorities == pool.authorities && self.pool == pool.name
    }

    #[cfg(test)]
    pub(crate) fn url(&self) -> &str {
        &self.endpoint.url
    }

    /// Strings that must not appear in a message.
    pub(crate) fn hidden(&self) -> [&str; 2] {
        let address = self.address.as_ref().ok();
        let authority = address.and_then(|address| address.origin.authority());
        [authority.map_or("", Authority::as_str), key(&self.endpoint)]
    }

    pub(crate) fn timed_out(&self, phase: Phase, since: Instant) -> EngineError {
        EngineError::TimedOut {
            pool: self.pool.clone(),
            phase,
            waited: since.elapsed(),
        }
    }

    pub(crate) fn reset(&self, phase: Phase, source: Option<hyper::Error>) -> EngineError {
        let source = source.map(Into::into);
        EngineError::Reset {
            pool: self.pool.clone(),
            phase,
            source,
        }
    }

    pub(crate) fn bad_event(&self, what: impl Into<String>) -> EngineError {
        EngineError::BadEvent {
            pool: self.pool.clone(),
            what: what.into(),
        }
    }

    fn bad_endpoint(&self, what: &'static str) -> EngineError {
        EngineError::BadEndpoint {
            pool: self.pool.clone(),
            what,
        }
    }
}

impl Client {
    pub(crate) fn new() -> Self {
        let trust = Trust::new();
        Self { trust }
    }

    /// Forgets what is kept for pools other than these.
    pub(crate) fn retain(&self, pools: &HashSet<&str>) {
        self.trust.retain(pools);
    }

    /// Posts JSON and waits for the head of a 2xx answer. Dropping the future closes the connection.
    pub(crate) async fn post(
        &self,
        target: &Target,
        call: Call<'_>,
    ) -> Result<Response<Answer>, EngineError> {
        let since = Instant::now();
        let address = target.address.as_ref();
        let address = address.map_err(|what| target.bad_endpoint(what))?;
        let request = address.request(call.path, call.body);
        let request = request.map_err(|what| target.bad_endpoint(what))?;
        let links = self
            .trust
            .links(&target.pool, target.authorities.as_deref());
        let unreadable =
            || target.bad_endpoint("the certificates of its authorities cannot be read");
        let links = links.ok_or_else(unreadable)?;
        let sent = links.send(&address.origin, request);
        let response = match tokio::time::timeout_at(call.until.into(), sent).await {
            Err(_) => return Err(target.timed_out(Phase::FirstEvent, since)),
            Ok(Ok(response)) => response,
            Ok(Err(LinkError::Connect(source))) => {
                let pool = target.pool.clone();
                return Err(if is_untrusted(source.as_ref()) {
                    EngineError::Untrusted { pool, source }
                } else {
                    EngineError::Refused { pool, source }
                });
            }
            Ok(Err(LinkError::Broke(error))) => {
                return Err(target.reset(Phase::FirstEvent, Some(error)));
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(target, response, call.until).await)
    }
}

/// The JSON of an answer of at most so many bytes; `what` it should be is named when it is not.
pub(crate) async fn read_json<T: DeserializeOwned>(
    target: &Target,
    response: Response<Answer>,
    (bytes_max, what): (usize, &str),
    until: Instant,
) -> Result<T, EngineError> {
    let body = read_body(target, response, bytes_max, until).await?;
    serde_json::from_slice(&body).map_err(|error| {
        let place = place(&error);
        target.bad_event(format!("something that is not {what} ({place})"))
    })
}

/// The bytes of an answer of at most so many.
pub(crate) async fn read_body(
    target: &Target,
    response: Response<Answer>,
    bytes_max: usize,
    until: Instant,
) -> Result<Bytes, EngineError> {
    let since = Instant::now();
    let body = Limited::new(response.into_body(), bytes_max).collect();
    match tokio::time::timeout_at(until.into(), body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(source)) => Err(EngineError::Reset {
            pool: target.pool.clone(),
            phase: Phase::Answer,
            source: Some(source),
        }),
        Err(_) => Err(target.timed_out(Phase::Answer, since)),
    }
}

/// Whether the handshake failed over the other side's certificate.
fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return matches!(tls, rustls::Error::InvalidCertificate(_));
        }
        // The source of an I/O error is that of the error in it, which would be passed over.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let inner = inner.map(|inner| inner as &(dyn Error + 'static));
        next = inner.or_else(|| error.source());
    }
    false
}

/// What an endpoint asks for; empty where it asks for nothing.
fn key(endpoint: &Endpoint) -> &str {
    endpoint.api_key.as_ref().map_or("", Secret::expose)
}

impl Address {
    fn of(endpoint: &Endpoint) -> Result<Self, &'static str> {
        let unreadable = "its URL cannot be read";
        let uri: Uri = endpoint.url.parse().map_err(|_| unreadable)?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err("its URL has no scheme or host");
        };
        // What stands before an `@` is no part of a host.
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let host = HeaderValue::from_str(host).map_err(|_| unreadable)?;
        let base = parts.path_and_query.as_ref().map_or("", PathAndQuery::path);
        let base = base.trim_end_matches('/').to_owned();
        let origin = Uri::builder().scheme(scheme).authority(authority);
        let origin = origin.path_and_query("/").build().map_err(|_| unreadable)?;
        let bearer = match key(endpoint) {
            "" => None,
            key => {
                let bearer = HeaderValue::try_from(format!("Bearer {key}"));
                let mut bearer = bearer.map_err(|_| "its key is no header value")?;
                bearer.set_sensitive(true);
                Some(bearer)
            }
        };
        Ok(Self {
            origin,
            host,
            base,
            bearer,
        })
    }

    fn request(&self, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, &'static str> {
        let path = PathAndQuery::try_from(format!("{}{path}", self.base));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.map_err(|_| "its URL cannot be read")?.into();
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(bearer) = &self.bearer {
            headers.insert(header::AUTHORIZATION, bearer.clone());
        }
        Ok(request)
    }
}

/// The time of a `Retry-After` in seconds, at most [`BACKOFF_MAX`]: the replica is asked again by then whatever it says. `None`
/// for anything else, a date included.
fn rest(retry_after: &str) -> Option<Duration> {
    let seconds: f64 = retry_after.trim().parse().ok()?;
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(BACKOFF_MAX.as_secs_f64())))
}

async fn refusal(target: &Target, response: Response<Answer>, until: Instant) -> EngineError {
    let retry_after = response.headers().get(header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| rest(value.to_str().ok()?));
    let hidden = target.hidden();
    let reply = Reply {
        pool: &target.pool,
        status: match response.status() {
            // A redirect would send the prompt somewhere that the plan does not name.
            status if status.is_redirection() => StatusCode::BAD_GATEWAY.as_u16(),
            status => status.as_u16(),
        },
        retry_after,
        hidden: &hidden,
    };
    let body = Limited::new(response.into_body(), ERROR_BODY_MAX).collect();
    match tokio::time::timeout_at(until.into(), body).await {
        Ok(Ok(body)) => reply.into_error(&body.to_bytes()),
        _ => reply.into_error(b"no readable message"),
    }
}
