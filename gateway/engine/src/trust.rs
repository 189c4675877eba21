//! Whom a connection believes: the public authorities, or those of one pool.
//!
//! A pool with authorities of its own has connections of its own, so that one that a pool's authorities vouched for is never
//! used for another pool. Other authorities are other connections: the former ones end as they idle. Reading on: `links.rs`.

use crate::links::Links;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_rustls::builderstates::WantsSchemes;
use hyper_util::client::legacy::connect::HttpConnector;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A connection that nobody accepts for this long is refused.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Connections, by whom they believe.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    public: Links,
    /// Authorities, PEM, and the connections that believe them alone, by pool.
    own: Arc<Mutex<HashMap<String, (String, Links)>>>,
}

impl Trust {
    pub(crate) fn new() -> Self {
        let public = HttpsConnectorBuilder::new().with_webpki_roots();
        Self {
            public: links(public),
            own: Arc::default(),
        }
    }

    /// The connections of a pool with these authorities, or with none of its own. `None`: they cannot be read.
    pub(crate) fn links(&self, pool: &str, authorities: Option<&str>) -> Option<Links> {
        let Some(authorities) = authorities else {
            return Some(self.public.clone());
        };
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, links)) = own.get(pool)
            && known == authorities
        {
            return Some(links.clone());
        }
        let links = believing(authorities)?;
        own.insert(pool.to_owned(), (authorities.to_owned(), links.clone()));
        Some(links)
    }

    /// Forgets the connections of all other pools.
    pub(crate) fn retain(&self, pools: &HashSet<&str>) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|pool, _| pools.contains(pool.as_str()));
    }
}

fn believing(authorities: &str) -> Option<Links> {
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
    Some(links(HttpsConnectorBuilder::new().with_tls_config(config)))
}

fn links(trusting: HttpsConnectorBuilder<WantsSchemes>) -> Links {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.enforce_http(false);
    let connector = trusting.https_or_http().enable_http1().wrap_connector(tcp);
    Links::new(connector)
}
