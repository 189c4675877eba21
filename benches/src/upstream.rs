//! A scripted engine in OpenAI's shape, for measuring what stands between it and its clients: it answers at once, and streams as
//! many events as it is told, as far apart as it is told.
//!
//! Every event's text is the time at which it was made, so that a client in the same process knows how long it was on its way.

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Name of the model it serves.
pub const MODEL: &str = "bench";
/// What routers and gateways ask a server about itself.
const ABOUT: &str = r#"{"object":"list","status":"ok","data":[{"id":"bench","object":"model","created":0,"owned_by":"weir"}]}"#;
/// A whole answer.
const WHOLE: &str = r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"A weir is a low wall across a river, which raises the water behind it and lets the rest flow over."},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":24,"total_tokens":44}}"#;
const END: &str = "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// A running engine; it ends when this is dropped.
pub struct Upstream {
    /// Base URL without `/v1`.
    pub url: String,
    script: Arc<Script>,
    server: tokio::task::JoinHandle<()>,
}

/// What streams are made of from now on.
#[derive(Default)]
struct Script {
    events: AtomicU64,
    gap_us: AtomicU64,
}

/// Nanoseconds since the first call in this process.
pub fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Upstream {
    /// Starts an engine on a port of its own.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let script = Arc::new(Script::default());
        let scripted = Arc::clone(&script);
        let server = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let script = Arc::clone(&scripted);
                tokio::spawn(async move {
                    let _ = connection.set_nodelay(true);
                    let answer = service_fn(move |request| answer(request, Arc::clone(&script)));
                    // A client that leaves in the middle is no news.
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(connection), answer)
                        .await;
                });
            }
        });
        Ok(Self {
            url,
            script,
            server,
        })
    }

    /// Streams from now on so many events so far apart.
    pub fn streams(&self, events: u64, gap: Duration) {
        let gap_us = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
        self.script.events.store(events, Ordering::Relaxed);
        self.script.gap_us.store(gap_us, Ordering::Relaxed);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Arc<Script>,
) -> Result<Response<Answer>, hyper::Error> {
    let is_chat = request.uri().path().ends_with("/chat/completions");
    let body = request.into_body().collect().await?.to_bytes();
    let streams =
        is_chat && serde_json::from_slice::<Value>(&body).is_ok_and(|body| body["stream"] == true);
    let (kind, body) = if streams {
        ("text/event-stream", events(&script))
    } else {
        let text = if is_chat { WHOLE } else { ABOUT };
        (
            "application/json",
            Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync(),
        )
    };
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn events(script: &Script) -> Answer {
    let events = script.events.load(Ordering::Relaxed);
    let gap = Duration::from_micros(script.gap_us.load(Ordering::Relaxed));
    let pace = (!gap.is_zero()).then(|| tokio::time::interval(gap));
    let frames = stream::unfold((0, pace), move |(sent, mut pace)| async move {
        if sent > events {
            return None;
        }
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let data = if sent == events {
            END.to_owned()
        } else {
            event()
        };
        Some((Ok(Frame::data(Bytes::from(data))), (sent + 1, pace)))
    });
    BodyExt::boxed_unsync(StreamBody::new(Box::pin(frames)))
}

fn event() -> String {
    let now = now_ns();
    format!(
        "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"bench\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{now} \"}},\"finish_reason\":null}}]}}\n\n"
    )
}
