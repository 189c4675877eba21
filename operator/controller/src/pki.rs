//! Certificates: one authority per operator, and a leaf for each process that speaks to another.
//!
//! Keys are P-256. A certificate is replaced at two thirds of its life, and at once when it is damaged, expired, names
//! something else or was signed by another authority. The authority is replaced with an overlap: its successor is
//! trusted everywhere (`ca.crt` carries both) long before it signs anything, and stays beside the former one until that
//! has expired. Pure, but for the randomness of keys: `authority.rs` keeps the results in Secrets.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::extensions::ParsedExtension;
use x509_parser::pem::Pem;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Life of an authority.
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(2 * 365);
/// Life of a leaf.
const LEAF_LIFE: Duration = DAY.saturating_mul(90);
/// Clocks of two machines differ by less than this.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

/// Entry of a Secret with the certificates to trust.
pub(crate) const CA: &str = "ca.crt";
/// Entry of a Secret with the certificate.
pub(crate) const CERTIFICATE: &str = "tls.crt";
/// Entry of a Secret with the private key.
pub(crate) const KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";

/// What is kept in a Secret: entries by name.
pub(crate) type Entries = BTreeMap<String, Vec<u8>>;

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    /// The library refused.
    #[error("make a certificate for {subject:?}: {source}")]
    Make {
        subject: String,
        #[source]
        source: rcgen::Error,
    },
    /// The authority's key does not parse.
    #[error("the authority's Secret holds no usable key and certificate")]
    Authority,
}

/// Signs leaves.
pub(crate) struct Authority {
    key: KeyPair,
    /// Names the key in the leaves it signed.
    key_id: Vec<u8>,
    /// Every certificate to trust, as PEM.
    pub(crate) bundle: String,
}

/// Whom a leaf names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `weir://<namespace>/<kind>/<name>`.
    pub(crate) uri: String,
    /// Names under which it is reached; none for a client.
    pub(crate) dns: Vec<String>,
}

/// What a new or kept authority looks like at `now`: `None` when the entries may stay as they are.
pub(crate) fn renew_authority(
    entries: &Entries,
    now: SystemTime,
) -> Result<Option<Entries>, PkiError> {
    let current = Held::read(entries, CERTIFICATE, KEY).filter(|held| held.is_valid(now));
    let next = Held::read(entries, NEXT_CERTIFICATE, NEXT_KEY).filter(|held| held.is_valid(now));
    match (current, next) {
        (None, next) => {
            let next = match next {
                Some(next) => next,
                None => Held::make_authority(now)?,
            };
            let trusted = trusted(entries, &[&next.certificate], now);
            Ok(Some(next.entries(CERTIFICATE, KEY, trusted)))
        }
        (Some(current), Some(next)) if current.spent(now) >= 5.0 / 6.0 => {
            let trusted = trusted(entries, &[&next.certificate, &current.certificate], now);
            Ok(Some(next.entries(CERTIFICATE, KEY, trusted)))
        }
        (Some(current), None) if current.spent(now) >= 2.0 / 3.0 => {
            let next = Held::make_authority(now)?;
            let trusted = trusted(entries, &[&current.certificate, &next.certificate], now);
            let mut renewed = current.entries(CERTIFICATE, KEY, trusted);
            renewed.insert(NEXT_CERTIFICATE.into(), next.certificate.into_bytes());
            renewed.insert(NEXT_KEY.into(), next.key.into_bytes());
            Ok(Some(renewed))
        }
        (Some(current), next) => {
            let mut wanted = vec![current.certificate.as_str()];
            wanted.extend(next.as_ref().map(|next| next.certificate.as_str()));
            let trusted = trusted(entries, &wanted, now);
            if entries.get(CA).map(Vec::as_slice) == Some(trusted.as_bytes()) {
                return Ok(None);
            }
            let mut renewed = entries.clone();
            renewed.insert(CA.into(), trusted.into_bytes());
            Ok(Some(renewed))
        }
    }
}

impl Authority {
    /// The authority in a Secret's entries.
    pub(crate) fn read(entries: &Entries) -> Result<Self, PkiError> {
        let held = Held::read(entries, CERTIFICATE, KEY).ok_or(PkiError::Authority)?;
        let key = KeyPair::from_pem(&held.key).map_err(|_| PkiError::Authority)?;
        let bundle = entries
            .get(CA)
            .and_then(|pem| std::str::from_utf8(pem).ok());
        Ok(Self {
            key_id: authority_params().key_identifier(&key),
            bundle: bundle.unwrap_or(&held.certificate).to_owned(),
            key,
        })
    }

    /// The entries of a leaf's Secret at `now`: those it has while they are good, otherwise new ones.
    pub(crate) fn leaf(
        &self,
        entries: &Entries,
        identity: &Identity,
        now: SystemTime,
    ) -> Result<Entries, PkiError> {
        let held = Held::read(entries, CERTIFICATE, KEY).filter(|held| {
            held.is_valid(now)
                && held.spent(now) < 2.0 / 3.0
                && held.signed_by.as_deref() == Some(self.key_id.as_slice())
                && held.identity == *identity
        });
        let held = match held {
            Some(held) => held,
            None => self.issue(identity, now)?,
        };
        Ok(held.entries(CERTIFICATE, KEY, self.bundle.clone()))
    }

    fn issue(&self, identity: &Identity, now: SystemTime) -> Result<Held, PkiError> {
        let fail = |source| PkiError::Make {
            subject: identity.uri.clone(),
            source,
        };
        let key = KeyPair::generate().map_err(fail)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + LEAF_LIFE).into();
        params.serial_number = Some(serial());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let uri = identity.uri.as_str().try_into().map_err(fail)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        for name in &identity.dns {
            let name = name.as_str().try_into().map_err(fail)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        if !identity.dns.is_empty() {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let issuer = Issuer::new(authority_params(), &self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(fail)?;
        Ok(Held {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            not_before: now - CLOCK_SKEW,
            not_after: now + LEAF_LIFE,
            signed_by: Some(self.key_id.clone()),
            identity: identity.clone(),
        })
    }
}

/// A certificate with its key, and what is said in it.
struct Held {
    certificate: String,
    key: String,
    not_before: SystemTime,
    not_after: SystemTime,
    signed_by: Option<Vec<u8>>,
    identity: Identity,
}

impl Held {
    /// Reads a pair; `None` when either part is missing or damaged, or they do not belong together.
    fn read(entries: &Entries, certificate: &str, key: &str) -> Option<Self> {
        let certificate = std::str::from_utf8(entries.get(certificate)?).ok()?;
        let key = std::str::from_utf8(entries.get(key)?).ok()?;
        let pair = KeyPair::from_pem(key).ok()?;
        let pem = Pem::iter_from_buffer(certificate.as_bytes()).next()?.ok()?;
        let parsed = pem.parse_x509().ok()?;
        if parsed.public_key().subject_public_key.data.as_ref() != pair.public_key_raw() {
            return None;
        }
        let mut identity = Identity {
            uri: String::new(),
            dns: Vec::new(),
        };
        let mut signed_by = None;
        for extension in parsed.iter_extensions() {
            match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(by) => {
                    signed_by = by.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                ParsedExtension::SubjectAlternativeName(names) => read_names(names, &mut identity),
                _ => {}
            }
        }
        Some(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
            signed_by,
            identity,
        })
    }

    fn make_authority(now: SystemTime) -> Result<Self, PkiError> {
        let fail = |source| PkiError::Make {
            subject: "weir".into(),
            source,
        };
        let key = KeyPair::generate().map_err(fail)?;
        let mut params = authority_params();
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + AUTHORITY_LIFE).into();
        params.serial_number = Some(serial());
        let certificate = params.self_signed(&key).map_err(fail)?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            not_before: now - CLOCK_SKEW,
            not_after: now + AUTHORITY_LIFE,
            signed_by: None,
            identity: Identity {
                uri: String::new(),
                dns: Vec::new(),
            },
        })
    }

    fn is_valid(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// The share of its life that is over, 0 to 1.
    fn spent(&self, now: SystemTime) -> f64 {
        let life = self.not_after.duration_since(self.not_before);
        let over = now.duration_since(self.not_before);
        match (life, over) {
            (Ok(life), Ok(over)) if !life.is_zero() => over.as_secs_f64() / life.as_secs_f64(),
            _ => 0.0,
        }
    }

    fn entries(&self, certificate: &str, key: &str, trusted: String) -> Entries {
        Entries::from([
            (
                certificate.to_owned(),
                self.certificate.clone().into_bytes(),
            ),
            (key.to_owned(), self.key.clone().into_bytes()),
            (CA.to_owned(), trusted.into_bytes()),
        ])
    }
}

fn read_names(
    names: &x509_parser::extensions::SubjectAlternativeName<'_>,
    identity: &mut Identity,
) {
    use x509_parser::extensions::GeneralName;
    for name in &names.general_names {
        match name {
            GeneralName::URI(uri) => (*uri).clone_into(&mut identity.uri),
            GeneralName::DNSName(name) => identity.dns.push((*name).to_owned()),
            _ => {}
        }
    }
}

/// The `weir://` name in a client's certificate, given in DER.
pub(crate) fn identity_of(der: &[u8]) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut identity = Identity {
        uri: String::new(),
        dns: Vec::new(),
    };
    read_names(names.value, &mut identity);
    identity.uri.starts_with("weir://").then_some(identity.uri)
}

/// The wanted certificates, then whatever was trusted before and has not expired.
fn trusted(entries: &Entries, wanted: &[&str], now: SystemTime) -> String {
    let mut all: Vec<String> = wanted.iter().map(|pem| (*pem).to_owned()).collect();
    let before = entries.get(CA).map(Vec::as_slice).unwrap_or_default();
    for pem in Pem::iter_from_buffer(before).filter_map(Result::ok) {
        let Ok(parsed) = pem.parse_x509() else {
            continue;
        };
        let alive = now < time(parsed.validity().not_after.timestamp());
        let known = all.iter().any(|one| {
            Pem::iter_from_buffer(one.as_bytes())
                .filter_map(Result::ok)
                .any(|one| one.contents == pem.contents)
        });
        if alive && !known {
            all.push(encode(&pem.contents));
        }
    }
    all.concat()
}

/// A certificate as PEM.
fn encode(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// What every authority's certificate says, but for its life and its number.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "weir");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Sixteen random bytes, the first of them positive as an integer.
fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> Identity {
        Identity {
            uri: "weir://demo/gateway/support".into(),
            dns: Vec::new(),
        }
    }

    fn made(now: SystemTime) -> Entries {
        renew_authority(&Entries::new(), now).unwrap().unwrap()
    }

    fn certificates(entries: &Entries) -> usize {
        Pem::iter_from_buffer(&entries[CA]).count()
    }

    #[test]
    fn a_good_leaf_is_kept_and_one_past_two_thirds_is_replaced() {
        let now = SystemTime::now();
        let authority = Authority::read(&made(now)).unwrap();
        let first = authority.leaf(&Entries::new(), &gateway(), now).unwrap();
        let later = authority.leaf(&first, &gateway(), now + DAY * 59).unwrap();
        assert_eq!(later, first);
        let renewed = authority.leaf(&first, &gateway(), now + DAY * 61).unwrap();
        assert_ne!(renewed[CERTIFICATE], first[CERTIFICATE]);
    }

    #[test]
    fn a_leaf_that_is_damaged_or_names_another_is_replaced() {
        let now = SystemTime::now();
        let authority = Authority::read(&made(now)).unwrap();
        let first = authority.leaf(&Entries::new(), &gateway(), now).unwrap();
        let other = Identity {
            uri: "weir://demo/gateway/sales".into(),
            dns: Vec::new(),
        };
        assert_ne!(authority.leaf(&first, &other, now).unwrap(), first);

        let mut swapped = first.clone();
        let stranger = authority.leaf(&Entries::new(), &gateway(), now).unwrap();
        swapped.insert(KEY.into(), stranger[KEY].clone());
        assert_ne!(authority.leaf(&swapped, &gateway(), now).unwrap(), swapped);

        let mut damaged = first.clone();
        damaged.insert(CERTIFICATE.into(), b"-----BEGIN".to_vec());
        assert!(
            Held::read(
                &authority.leaf(&damaged, &gateway(), now).unwrap(),
                CERTIFICATE,
                KEY
            )
            .is_some()
        );
    }

    #[test]
    fn a_leaf_of_a_former_authority_is_replaced() {
        let now = SystemTime::now();
        let former = Authority::read(&made(now)).unwrap();
        let leaf = former.leaf(&Entries::new(), &gateway(), now).unwrap();
        let authority = Authority::read(&made(now)).unwrap();
        assert_ne!(
            authority.leaf(&leaf, &gateway(), now).unwrap()[CERTIFICATE],
            leaf[CERTIFICATE]
        );
    }

    #[test]
    fn a_successor_is_trusted_before_it_signs_and_the_former_after() {
        let now = SystemTime::now();
        let first = made(now);
        assert_eq!(renew_authority(&first, now + DAY * 400).unwrap(), None);

        let overlap = renew_authority(&first, now + DAY * 500).unwrap().unwrap();
        assert_eq!(overlap[CERTIFICATE], first[CERTIFICATE], "it still signs");
        assert_eq!(certificates(&overlap), 2);
        assert_eq!(renew_authority(&overlap, now + DAY * 501).unwrap(), None);

        let second = renew_authority(&overlap, now + DAY * 620).unwrap().unwrap();
        assert_eq!(second[CERTIFICATE], overlap[NEXT_CERTIFICATE]);
        assert_eq!(certificates(&second), 2, "leaves of the former still work");

        let settled = renew_authority(&second, now + DAY * 740).unwrap().unwrap();
        assert_eq!(certificates(&settled), 1);
    }

    #[test]
    fn a_damaged_authority_is_made_anew() {
        let now = SystemTime::now();
        let mut entries = made(now);
        entries.insert(KEY.into(), b"no key".to_vec());
        let renewed = renew_authority(&entries, now).unwrap().unwrap();
        assert!(Authority::read(&renewed).is_ok());
    }

    #[test]
    fn the_name_in_a_certificate_is_read_back() {
        let now = SystemTime::now();
        let authority = Authority::read(&made(now)).unwrap();
        let leaf = authority.leaf(&Entries::new(), &gateway(), now).unwrap();
        let pem = Pem::iter_from_buffer(&leaf[CERTIFICATE])
            .next()
            .unwrap()
            .unwrap();
        assert_eq!(identity_of(&pem.contents), Some(gateway().uri));
    }
}
