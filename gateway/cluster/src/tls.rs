//! The certificates that the operator issued, as they lie in the mounted folder.
//!
//! `ca.crt` says whom to trust, `tls.crt` and `tls.key` who this gateway is. The folder is read anew for every connection,
//! so that renewed certificates are used without a restart; nothing else is ever trusted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Whom to trust and who we are, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Why the certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("certificate file {path} cannot be read")]
pub struct TlsError {
    /// The file.
    path: PathBuf,
    source: io::Error,
}

impl Tls {
    /// Reads `ca.crt`, `tls.crt` and `tls.key`.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn read(folder: &Path) -> Result<Self, TlsError> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).map_err(|source| TlsError { path, source })
        };
        Ok(Self {
            ca: read("ca.crt")?,
            certificate: read("tls.crt")?,
            key: read("tls.key")?,
        })
    }

    /// What a client of another process of Weir presents and accepts.
    pub fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(&self.certificate, &self.key))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(***)")
    }
}
