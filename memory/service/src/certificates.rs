//! The service's certificate and whom it lets in: gateways of its own namespace, by the URI in their certificate.
//!
//! The files are read again for every connection, since whoever issues them renews them in place; a renewal that cannot
//! be used is said and the last good one stays. Connections are made in `acceptor.rs`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use x509_parser::extensions::GeneralName;

/// The files of the folder, in the order of [`Files`].
const NAMES: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];

/// What they hold.
type Files = [Vec<u8>; 3];

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is no PEM file of its kind.
    #[error("{file} holds no certificate or key in PEM format")]
    Pem {
        /// The file.
        file: &'static str,
        /// What was found.
        source: pem::Error,
    },
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
pub(crate) struct Certificates {
    folder: PathBuf,
    present: Mutex<(Files, Identity)>,
}

/// Who the service is, and whom it lets in.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) acceptor: TlsAcceptor,
    /// Beginning of the URI of those that may connect.
    callers: Arc<str>,
}

/// The key is nobody's to see.
impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    pub(crate) fn load(folder: &Path) -> Result<Self, TlsError> {
        let files = read(folder)?;
        let identity = Identity::of(&files)?;
        Ok(Self {
            folder: folder.to_owned(),
            present: Mutex::new((files, identity)),
        })
    }

    /// The identity by the files as they are now.
    pub(crate) fn identity(&self) -> Identity {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = read(&self.folder).and_then(|files| match files == present.0 {
            true => Ok(None),
            false => Ok(Some((Identity::of(&files)?, files))),
        });
        match renewed {
            Ok(Some((identity, files))) => {
                tracing::info!("the certificates were renewed");
                *present = (files, identity);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(
                "the certificates cannot be renewed, the last ones stay: {}",
                weir_plan::chain(&error)
            ),
        }
        present.1.clone()
    }
}

impl Identity {
    fn of([authority, certificate, key]: &Files) -> Result<Self, TlsError> {
        let chain = certificates("tls.crt", certificate)?;
        let own = chain.first().ok_or(TlsError::NoIdentity)?;
        let namespace = uris(own).into_iter().find_map(|uri| {
            let (namespace, _) = uri.strip_prefix("weir://")?.split_once("/memory/")?;
            Some(namespace.to_owned())
        });
        let namespace = namespace.ok_or(TlsError::NoIdentity)?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca.crt", authority)? {
            roots.add(certificate)?;
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| TlsError::Pem {
            file: "tls.key",
            source,
        })?;
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.build()?)
            .with_single_cert(chain, key)?;
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

fn read(folder: &Path) -> Result<Files, TlsError> {
    let [authority, certificate, key] = NAMES.map(|name| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|source| TlsError::Read { path, source })
    });
    Ok([authority?, certificate?, key?])
}

fn certificates(
    file: &'static str,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|source| TlsError::Pem { file, source })?;
    match found.is_empty() {
        true => Err(TlsError::Pem {
            file,
            source: pem::Error::NoItemsFound,
        }),
        false => Ok(found),
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
