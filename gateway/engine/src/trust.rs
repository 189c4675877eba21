//! Whom the client believes: the public authorities, or those of one pool.
//!
//! A pool with authorities of its own has a client of its own, so that a connection that one pool's authorities vouched for
//! is never used for another pool. Other authorities are another client: connections of the former one end as they idle.

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::builderstates::WantsSchemes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A connection that nobody accepts for this long is refused.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Below the five seconds after which llama.cpp closes an idle connection, so that none is reused as it closes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) type Hyper = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The clients, by whom they believe.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    public: Hyper,
    /// Authorities, PEM, and the client that believes them alone, by pool.
    own: Arc<Mutex<HashMap<String, (String, Hyper)>>>,
}

impl Trust {
    pub(crate) fn new() -> Self {
        let public = HttpsConnectorBuilder::new().with_webpki_roots();
        Self {
            public: client(public),
            own: Arc::default(),
        }
    }

    /// The client for a pool with these authorities, or with none of its own. `None`: they cannot be read.
    pub(crate) fn client(&self, pool: &str, authorities: Option<&str>) -> Option<Hyper> {
        let Some(authorities) = authorities else {
            return Some(self.public.clone());
        };
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, client)) = own.get(pool)
            && known == authorities
        {
            return Some(client.clone());
        }
        let client = believing(authorities)?;
        own.insert(pool.to_owned(), (authorities.to_owned(), client.clone()));
        Some(client)
    }

    /// Forgets the clients of all other pools.
    pub(crate) fn retain(&self, pools: &HashSet<&str>) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|pool, _| pools.contains(pool.as_str()));
    }
}

fn believing(authorities: &str) -> Option<Hyper> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(certificate.ok()?).ok()?;
    }
    if roots.is_empty() {
        return None;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Some(client(HttpsConnectorBuilder::new().with_tls_config(config)))
}

fn client(trusting: HttpsConnectorBuilder<WantsSchemes>) -> Hyper {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.enforce_http(false);
    let connector = trusting
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build(connector)
}
