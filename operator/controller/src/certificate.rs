//! Whether a Secret holds a certificate with which a server can answer: what would only fail in the gateway's pods is said
//! in a condition instead. What is a usable pair is in weir-certificates, by which the gateway reads it too.

use crate::pki::Entries;
use std::time::SystemTime;
use weir_certificates::{CERTIFICATE, KEY, Pair};

/// What is wrong with the certificate in a Secret's entries. Never says anything of the key.
pub(crate) fn fault(entries: &Entries, now: SystemTime) -> Option<String> {
    check(entries, now).err()
}

fn check(entries: &Entries, now: SystemTime) -> Result<(), String> {
    let entry = |name: &str| {
        let found = entries.get(name);
        found.ok_or_else(|| format!("it has no entry {name}"))
    };
    let pair = Pair::of(entry(CERTIFICATE)?, entry(KEY)?);
    let pair = pair.and_then(|pair| pair.not_over(now));
    pair.map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::time::Duration;

    #[test]
    fn a_pair_that_is_whole_and_not_over_has_no_fault() {
        let (key, now) = (KeyPair::generate().unwrap(), SystemTime::now());
        let mut params = CertificateParams::new(vec!["ask.example.com".to_owned()]).unwrap();
        params.not_after = (now + Duration::from_secs(86_400)).into();
        let certificate = params.self_signed(&key).unwrap().pem().into_bytes();
        let mut entries = Entries::from([(CERTIFICATE.to_owned(), certificate)]);
        let alone = fault(&entries, now);
        assert_eq!(alone.as_deref(), Some("it has no entry tls.key"));
        entries.insert(KEY.to_owned(), key.serialize_pem().into_bytes());
        assert_eq!(fault(&entries, now), None);
        let later = fault(&entries, now + Duration::from_secs(3 * 86_400));
        let later = later.unwrap_or_default();
        assert!(
            later.starts_with("the certificate of tls.crt ended at "),
            "{later}"
        );
        entries.insert(KEY.to_owned(), b"text".to_vec());
        let damaged = fault(&entries, now);
        assert_eq!(damaged.as_deref(), Some("tls.key is no private key in PEM"));
    }
}
