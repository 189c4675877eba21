//! A certificate with its key, out of PEM: the one place that says whether a server can answer with them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, Error};
use x509_parser::time::ASN1Time;

/// Name of the certificate, in a folder and in a Secret.
pub const CERTIFICATE: &str = "tls.crt";
/// Name of its key.
pub const KEY: &str = "tls.key";

/// Why certificates cannot be used. Never says anything of a key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No certificate, or a damaged one.
    #[error("{0} is no certificate in PEM")]
    Certificate(&'static str),
    /// No key, or a damaged one.
    #[error("{KEY} is no private key in PEM")]
    Key,
    /// The key of another certificate.
    #[error("the key of {KEY} does not belong to the certificate of {CERTIFICATE}")]
    Foreign,
    /// A key that nothing here can sign with.
    #[error("the key of {KEY} is of a kind that cannot be used")]
    Kind,
    /// Its time is over.
    #[error("the certificate of {CERTIFICATE} ended at {0}")]
    Over(String),
    /// TLS cannot be spoken with it.
    #[error("{CERTIFICATE} and {KEY} cannot be used")]
    Tls(#[from] rustls::Error),
}

/// A certificate chain and its key, which fit.
#[derive(Clone)]
pub struct Pair {
    certified: Arc<CertifiedKey>,
    ends: ASN1Time,
}

/// The key is nobody's to see.
impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(***)")
    }
}

impl Pair {
    /// Reads and checks a pair. One whose time is over is a pair all the same: see [`Pair::not_over`].
    ///
    /// # Errors
    /// A part is damaged, or they do not fit.
    pub fn of(certificate: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = certificates(CERTIFICATE, certificate)?;
        let ends = match x509_parser::parse_x509_certificate(&chain[0]) {
            Ok((_, leaf)) => leaf.validity().not_after,
            Err(_) => return Err(CertificateError::Certificate(CERTIFICATE)),
        };
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::Key)?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
        let certified = certified.map_err(|error| match error {
            Error::InconsistentKeys(_) => CertificateError::Foreign,
            _ => CertificateError::Kind,
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            ends,
        })
    }

    /// The same, when its time is not over at `now`.
    ///
    /// # Errors
    /// It is.
    pub fn not_over(self, now: SystemTime) -> Result<Self, CertificateError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if u64::try_from(self.ends.timestamp()).unwrap_or_default() < now {
            return Err(CertificateError::Over(self.ends.to_string()));
        }
        Ok(self)
    }

    /// The certificate itself, without those of its authorities.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.certified.cert[0]
    }

    /// What a server answers every client with.
    pub fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified)))
    }
}

/// The certificates of a file or entry called `name`: at least one.
///
/// # Errors
/// There is none, or one is damaged.
pub fn certificates(
    name: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or(CertificateError::Certificate(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::time::Duration;

    /// A pair that is good for a day.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["ask.example.com".to_owned()]).unwrap();
        params.not_after = (SystemTime::now() + Duration::from_secs(86_400)).into();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn every_fault_is_named_and_no_key_shown() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        let (certificate, key, other) = (certificate.as_str(), key.as_str(), other.as_str());
        let damaged = certificate.replace("MI", "!!");
        let no_certificate = "tls.crt is no certificate in PEM";
        for (certificate, key, says) in [
            ("text", key, no_certificate),
            ("", key, no_certificate),
            (damaged.as_str(), key, no_certificate),
            (certificate, "text", "tls.key is no private key in PEM"),
            (
                certificate,
                other,
                "the key of tls.key does not belong to the certificate of tls.crt",
            ),
        ] {
            let fault = Pair::of(certificate.as_bytes(), key.as_bytes()).unwrap_err();
            assert_eq!(fault.to_string(), says);
            assert!(!format!("{fault:?}").contains("PRIVATE"));
        }
        let whole = Pair::of(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(format!("{whole:?}"), "Pair(***)");
        let now = SystemTime::now();
        assert!(whole.clone().not_over(now).is_ok());
        let later = whole.not_over(now + Duration::from_secs(3 * 86_400));
        let later = later.unwrap_err().to_string();
        assert!(
            later.starts_with("the certificate of tls.crt ended at "),
            "{later}"
        );
    }
}
