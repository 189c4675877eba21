//! One HTTP client for all engines, and the one place that sees addresses and keys.
//!
//! Sends a request, waits for the head of the answer, turns everything that is not 2xx into an [`EngineError`].
//! It does not retry. Reading on: `engines.rs`; `trust.rs` for whom it believes.

use crate::breaker::BACKOFF_MAX;
use crate::error::{EngineError, Phase, Reply, place};
use crate::trust::Trust;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};
use tokio_rustls::rustls;
use weir_plan::{Endpoint, Pool};

/// Largest error body that is read.
const ERROR_BODY_MAX: usize = 64 << 10;

#[derive(Clone, Debug)]
pub(crate) struct Client {
    trust: Trust,
}

/// One endpoint of one pool, with what must never be shown about it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) pool: String,
    url: String,
    authority: String,
    key: String,
    authorities: Option<String>,
}

/// A request that has been built but not sent, and how long it may take to begin answering.
pub(crate) struct Call<'a> {
    pub(crate) path: &'a str,
    pub(crate) body: Bytes,
    pub(crate) until: Instant,
}

impl Target {
    pub(crate) fn new(pool: &Pool, endpoint: &Endpoint) -> Self {
        let authority = endpoint.url.parse::<Uri>().ok();
        let authority = authority.and_then(|uri| uri.authority().map(ToString::to_string));
        Self {
            pool: pool.name.clone(),
            url: endpoint.url.trim_end_matches('/').to_owned(),
            authority: authority.unwrap_or_default(),
            key: endpoint
                .api_key
                .as_ref()
                .map_or("", |key| key.expose())
                .to_owned(),
            authorities: pool.authorities.clone(),
        }
    }

    /// Strings that must not appear in a message.
    pub(crate) fn hidden(&self) -> [&str; 2] {
        [&self.authority, &self.key]
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
    ) -> Result<Response<Incoming>, EngineError> {
        let since = Instant::now();
        let request = build(target, call.path, call.body)?;
        let client = self
            .trust
            .client(&target.pool, target.authorities.as_deref());
        let unreadable =
            || target.bad_endpoint("the certificates of its authorities cannot be read");
        let client = client.ok_or_else(unreadable)?;
        let sent = tokio::time::timeout_at(call.until.into(), client.request(request)).await;
        let response = match sent {
            Err(_) => return Err(target.timed_out(Phase::FirstEvent, since)),
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => {
                let pool = target.pool.clone();
                return Err(if is_untrusted(&error) {
                    EngineError::Untrusted {
                        pool,
                        source: error.into(),
                    }
                } else {
                    EngineError::Refused {
                        pool,
                        source: error.into(),
                    }
                });
            }
            Ok(Err(error)) => {
                let (pool, phase) = (target.pool.clone(), Phase::FirstEvent);
                return Err(EngineError::Reset {
                    pool,
                    phase,
                    source: Some(error.into()),
                });
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
    response: Response<Incoming>,
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
    response: Response<Incoming>,
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

fn build(target: &Target, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, EngineError> {
    let uri = format!("{}{path}", target.url);
    let uri: Uri = uri
        .parse()
        .map_err(|_| target.bad_endpoint("its URL cannot be read"))?;
    if uri.scheme().is_none() || uri.authority().is_none() {
        return Err(target.bad_endpoint("its URL has no scheme or host"));
    }
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if !target.key.is_empty() {
        let bearer = HeaderValue::try_from(format!("Bearer {}", target.key));
        let mut bearer = bearer.map_err(|_| target.bad_endpoint("its key is no header value"))?;
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
    Ok(request)
}

/// The time of a `Retry-After` in seconds, at most [`BACKOFF_MAX`]: the replica is asked again by then whatever it says. `None`
/// for anything else, a date included.
fn rest(retry_after: &str) -> Option<Duration> {
    let seconds: f64 = retry_after.trim().parse().ok()?;
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(BACKOFF_MAX.as_secs_f64())))
}

async fn refusal(target: &Target, response: Response<Incoming>, until: Instant) -> EngineError {
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
