//! One fetch of an issuer's keys: of the plan's address alone, following no redirect, within bounds of size and time.

use super::key_set::{KeySet, KeySetError};
use crate::outside::connector;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

/// A fetch that takes longer has failed.
pub(crate) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest document that is read.
const BODY_MAX: usize = 256 << 10;

/// Fetches documents.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// Why no keys came. Says no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no answer within {} s", FETCH_TIMEOUT.as_secs())]
    Late,
    #[error("its address cannot be read")]
    Address,
    #[error("it cannot be asked")]
    Away(#[source] hyper_util::client::legacy::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its document broke off or is larger than {BODY_MAX} bytes")]
    Body,
    #[error(transparent)]
    Document(#[from] KeySetError),
}

impl Fetcher {
    pub(crate) fn new() -> Self {
        // A connection is of no use after minutes.
        let mut builder = Client::builder(TokioExecutor::new());
        let client = builder
            .pool_max_idle_per_host(0)
            .build(connector(FETCH_TIMEOUT));
        Self { client }
    }

    /// The keys, and for how long the issuer says that they are good.
    pub(crate) async fn fetch(&self, url: &str) -> Result<(KeySet, Option<Duration>), FetchError> {
        tokio::time::timeout(FETCH_TIMEOUT, self.ask(url))
            .await
            .map_err(|_| FetchError::Late)?
    }

    async fn ask(&self, url: &str) -> Result<(KeySet, Option<Duration>), FetchError> {
        let request =
            Request::get(url).header(header::ACCEPT, "application/jwk-set+json, application/json");
        let request = request
            .body(Empty::new())
            .map_err(|_| FetchError::Address)?;
        let answer = self
            .client
            .request(request)
            .await
            .map_err(FetchError::Away)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let good_for = max_age(answer.headers());
        let body = Limited::new(answer.into_body(), BODY_MAX).collect();
        let body = body.await.map_err(|_| FetchError::Body)?.to_bytes();
        Ok((KeySet::parse(&body)?, good_for))
    }
}

/// What `Cache-Control: max-age` says.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let said = headers.get_all(header::CACHE_CONTROL).iter();
    let mut directives = said
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    directives.find_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        let seconds = value.trim_matches('"').parse().ok()?;
        name.eq_ignore_ascii_case("max-age")
            .then(|| Duration::from_secs(seconds))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_found_among_other_directives() {
        for (said, seconds) in [
            ("max-age=60", Some(60)),
            ("public, Max-Age=\"3600\", must-revalidate", Some(3600)),
            ("no-store", None),
            ("max-age=soon", None),
        ] {
            let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, said.parse().unwrap())]);
            assert_eq!(
                max_age(&headers),
                seconds.map(Duration::from_secs),
                "{said}"
            );
        }
    }
}
