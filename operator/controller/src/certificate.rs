//! Whether a Secret holds a certificate with which a server can answer: what would only fail in the gateway's pods is said
//! in a condition instead. Reads a pair as the gateway reads it (`gateway/cluster/src/https.rs`), and keeps nothing of it.

use crate::pki::Entries;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::Error;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// What is wrong with the certificate in a Secret's entries. Never says anything of the key.
pub(crate) fn fault(entries: &Entries, now: SystemTime) -> Option<String> {
    check(entries, now).err()
}

fn check(entries: &Entries, now: SystemTime) -> Result<(), String> {
    let entry = |name: &str| {
        let found = entries.get(name);
        found.ok_or_else(|| format!("it has no entry {name}"))
    };
    let (certificate, key) = (entry(CERTIFICATE)?, entry(KEY)?);
    let no_certificate = || format!("entry {CERTIFICATE} is no certificate in PEM");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain: Vec<CertificateDer<'static>> = chain.map_err(|_| no_certificate())?;
    let leaf = chain.first().ok_or_else(no_certificate)?;
    let ends = match x509_parser::parse_x509_certificate(leaf) {
        Ok((_, leaf)) => leaf.validity().not_after,
        Err(_) => return Err(no_certificate()),
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if u64::try_from(ends.timestamp()).unwrap_or_default() < now {
        return Err(format!("the certificate of {CERTIFICATE} ended at {ends}"));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| format!("entry {KEY} is no private key in PEM"))?;
    let pair = CertifiedKey::from_der(chain, key, &ring::default_provider());
    pair.map(drop).map_err(|error| match error {
        Error::InconsistentKeys(_) => {
            format!("the key of {KEY} does not belong to the certificate of {CERTIFICATE}")
        }
        _ => format!("the key of {KEY} is of a kind that cannot be used"),
    })
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

    fn fault_of(entries: &[(&str, &str)], now: SystemTime) -> Option<String> {
        let entries = entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        fault(&entries.collect(), now)
    }

    #[test]
    fn every_fault_is_named_and_no_key_shown() {
        let ((certificate, key), (_, other), now) = (pair(), pair(), SystemTime::now());
        let of = |certificate: &str, key: &str| {
            let fault = fault_of(&[("tls.crt", certificate), ("tls.key", key)], now);
            assert!(
                fault
                    .as_ref()
                    .is_none_or(|fault| !fault.contains("PRIVATE"))
            );
            fault.unwrap_or_default()
        };
        assert_eq!(of(&certificate, &key), "");
        assert_eq!(of("text", &key), "entry tls.crt is no certificate in PEM");
        let damaged = certificate.replace("MI", "!!");
        assert_eq!(of(&damaged, &key), "entry tls.crt is no certificate in PEM");
        assert_eq!(
            of(&certificate, "text"),
            "entry tls.key is no private key in PEM"
        );
        assert_eq!(
            of(&certificate, &other),
            "the key of tls.key does not belong to the certificate of tls.crt"
        );
        let alone = fault_of(&[("tls.crt", &certificate)], now);
        assert_eq!(alone.as_deref(), Some("it has no entry tls.key"));
        let whole = [("tls.crt", certificate.as_str()), ("tls.key", key.as_str())];
        let later = fault_of(&whole, now + Duration::from_secs(3 * 86_400)).unwrap();
        assert!(
            later.starts_with("the certificate of tls.crt ended at "),
            "{later}"
        );
    }
}
