//! The service's certificate and whom it lets in: gateways of its own namespace, by the URI in their certificate.
//!
//! The files are read again for every connection, since whoever issues them renews them in place; a renewal that cannot
//! be used is said and the last good one stays. Connections are made in `acceptor.rs`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use weir_certificates::{CERTIFICATE, CertificateError, KEY, Pair, Reloaded, certificates};
use x509_parser::extensions::GeneralName;

/// The authorities of those who may call.
const AUTHORITIES: &str = "ca.crt";

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate and the key cannot serve.
    #[error("tls.crt and tls.key cannot be used together")]
    Unusable(#[from] rustls::Error),
    /// The certificate authority cannot verify anybody.
    #[error("ca.crt names no authority")]
    Authority(#[from] VerifierBuilderError),
    /// The certificate does not say whose it is.
    #[error(
        "tls.crt has no URI weir://NAMESPACE/memory/NAME among its subject alternative names, so nobody could be let in"
    )]
    NoIdentity,
}

/// The certificates of a folder.
#[derive(Debug)]
pub(crate) struct Certificates(Reloaded<Identity, TlsError, 3>);

/// Who the service is, and whom it lets in.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) acceptor: TlsAcceptor,
    /// Beginning of the URI of those that may connect.
    callers: Arc<str>,
}

impl Certificates {
    pub(crate) fn load(folder: &Path) -> Result<Self, TlsError> {
        let names = [AUTHORITIES, CERTIFICATE, KEY];
        let reloaded = Reloaded::of(folder, names, Duration::ZERO, Identity::of);
        Ok(Self(reloaded.loaded()?))
    }

    /// The identity by the files as they are now.
    pub(crate) fn identity(&self) -> Identity {
        self.0.get().expect("they were loaded at the start")
    }
}

impl Identity {
    fn of([authorities, certificate, key]: &[Vec<u8>; 3]) -> Result<Self, TlsError> {
        let pair = Pair::of(certificate, key)?;
        let namespace = uris(pair.leaf()).into_iter().find_map(|uri| {
            let (namespace, _) = uri.strip_prefix("weir://")?.split_once("/memory/")?;
            Some(namespace.to_owned())
        });
        let namespace = namespace.ok_or(TlsError::NoIdentity)?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(AUTHORITIES, authorities)? {
            roots.add(authority)?;
        }
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.build()?)
            .with_cert_resolver(pair.resolver());
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            callers: format!("weir://{namespace}/gateway/").into(),
        })
    }

    /// Whether this certificate, whose issuer was verified, is a gateway's of the service's own namespace.
    pub(crate) fn lets_in(&self, certificate: &CertificateDer<'_>) -> Result<(), String> {
        let uris = uris(certificate);
        let name = |uri: &String| {
            let name = uri.strip_prefix(&*self.callers)?;
            (!name.is_empty() && !name.contains('/')).then_some(())
        };
        match uris.iter().find_map(name) {
            Some(()) => Ok(()),
            None => Err(format!("it is {uris:?}, not {}NAME", self.callers)),
        }
    }
}

/// The URIs among a certificate's subject alternative names.
fn uris(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else {
        return Vec::new();
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(uri).collect()
}
