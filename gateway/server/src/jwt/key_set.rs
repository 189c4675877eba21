//! A JWK Set (RFC 7517), and whether a signature is of one of its keys.
//!
//! A key says by its kind, and by its own `alg` where it has one, which algorithms are its own. Keys of other kinds, for
//! encryption, shared, or too weak are passed over: an issuer's document may hold them beside those that sign.

use super::TokenError;
use super::compact::{Compact, Header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

/// Keys that are kept of one document.
const KEYS_MAX: usize = 64;
/// Longest name of a key.
const KEY_ID_MAX: usize = 256;
/// Bytes of the modulus of the weakest RSA key: 2048 bits.
const MODULUS_MIN: usize = 256;

/// The keys of an issuer that can sign tokens.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// A document that is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JWK Set")]
pub struct KeySetError;

/// One public key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name, by which tokens mean it.
    pub id: Option<String>,
    /// The one algorithm that it says is its own.
    alg: Option<String>,
    public: Public,
}

#[derive(Clone, Debug)]
enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The fields of a JWK that are read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

impl KeySet {
    /// Reads a document.
    ///
    /// # Errors
    /// It is no JSON object with a list `keys`.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(document).map_err(|_| KeySetError)?;
        let keys = document.keys.into_iter().filter_map(|key| {
            let jwk: Jwk = serde_json::from_value(key).ok()?;
            jwk.key()
        });
        Ok(Self {
            keys: keys.take(KEYS_MAX).collect(),
        })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key that a token means. One that names none means the only one there is.
    pub(crate) fn key_of(&self, header: &Header) -> Result<&Key, TokenError> {
        let named = match &header.kid {
            Some(kid) => self.keys.iter().find(|key| key.id.as_ref() == Some(kid)),
            None => self.keys.first().filter(|_| self.keys.len() == 1),
        };
        named.ok_or(TokenError::UnknownKey)
    }
}

impl Jwk {
    fn key(self) -> Option<Key> {
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let ops = self.key_ops.as_ref();
        let may_verify = ops.is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let named = self.kid.as_ref().is_none_or(|kid| kid.len() <= KEY_ID_MAX);
        if !(for_signatures && may_verify && named) {
            return None;
        }
        let public = match (self.kty.as_str(), self.crv.as_str()) {
            ("RSA", _) => Public::Rsa {
                n: number(&self.n).filter(|n| n.len() >= MODULUS_MIN)?,
                e: number(&self.e)?,
            },
            ("EC", "P-256") => Public::P256(point(&self.x, &self.y, 32)?),
            ("EC", "P-384") => Public::P384(point(&self.x, &self.y, 48)?),
            ("OKP", "Ed25519") => Public::Ed25519(decoded(&self.x).filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let key = Key {
            id: self.kid,
            alg: self.alg,
            public,
        };
        let usable = key.alg.as_ref().is_none_or(|alg| key.takes(alg));
        usable.then_some(key)
    }
}

impl Key {
    /// Whether tokens of this algorithm can be this key's.
    fn takes(&self, alg: &str) -> bool {
        let own = self.alg.as_deref().is_none_or(|own| own == alg);
        own && match &self.public {
            Public::Rsa { .. } => rsa(alg).is_some(),
            Public::P256(_) => alg == "ES256",
            Public::P384(_) => alg == "ES384",
            Public::Ed25519(_) => alg == "EdDSA",
        }
    }

    /// Checks that this key signed the token.
    pub(crate) fn verify(&self, token: &Compact<'_>) -> Result<(), TokenError> {
        let alg = token.header.alg.as_str();
        if !self.takes(alg) {
            return Err(TokenError::Algorithm);
        }
        let (signed, signature) = (token.signed.as_bytes(), token.signature.as_slice());
        let verified = match &self.public {
            Public::Rsa { n, e } => {
                let parameters = rsa(alg).ok_or(TokenError::Algorithm)?;
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature)
            }
            Public::P256(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(signed, signature)
            }
            Public::P384(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point)
                    .verify(signed, signature)
            }
            Public::Ed25519(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(signed, signature)
            }
        };
        verified.map_err(|_| TokenError::Signature)
    }
}

fn rsa(alg: &str) -> Option<&'static RsaParameters> {
    Some(match alg {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn decoded(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// A number, without the zeros that some issuers put before it.
fn number(part: &str) -> Option<Vec<u8>> {
    let bytes = decoded(part)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let number = bytes.get(zeros..)?.to_vec();
    (!number.is_empty()).then_some(number)
}

/// A point of a curve, uncompressed (SEC 1, section 2.3.3).
fn point(x: &str, y: &str, bytes: usize) -> Option<Vec<u8>> {
    let (x, y) = (decoded(x)?, decoded(y)?);
    (x.len() == bytes && y.len() == bytes).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_keys_that_can_sign_tokens_count() {
        let n = URL_SAFE_NO_PAD.encode([0xc1; 256]);
        let x = URL_SAFE_NO_PAD.encode([1; 32]);
        let rsa = |more: Value| {
            let mut key = json!({"kty": "RSA", "n": n, "e": "AQAB"});
            for (name, value) in more.as_object().into_iter().flatten() {
                key[name] = value.clone();
            }
            key
        };
        for (key, counts) in [
            (rsa(json!({})), true),
            (rsa(json!({"use": "sig", "alg": "PS512"})), true),
            (rsa(json!({"use": "enc"})), false),
            (rsa(json!({"key_ops": ["encrypt"]})), false),
            (rsa(json!({"alg": "HS256"})), false),
            (rsa(json!({"alg": "RSA-OAEP"})), false),
            (rsa(json!({"alg": "ES256"})), false),
            (
                rsa(json!({"n": URL_SAFE_NO_PAD.encode([0xc1; 128])})),
                false,
            ),
            (rsa(json!({"e": "AA"})), false),
            (rsa(json!({"e": 3})), false),
            (json!({"kty": "oct", "k": x, "alg": "HS256"}), false),
            (json!({"kty": "EC", "crv": "P-256", "x": x, "y": x}), true),
            (json!({"kty": "EC", "crv": "P-384", "x": x, "y": x}), false),
            (
                json!({"kty": "EC", "crv": "secp256k1", "x": x, "y": x}),
                false,
            ),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": x}), true),
            (json!({"kty": "OKP", "crv": "X25519", "x": x}), false),
            (json!("text"), false),
        ] {
            let set = KeySet::parse(json!({"keys": [key]}).to_string().as_bytes()).unwrap();
            assert_eq!(set.len(), usize::from(counts), "{key}");
        }
        assert_eq!(KeySet::parse(b"{}").err(), Some(KeySetError));
        assert_eq!(KeySet::parse(b"<html>").err(), Some(KeySetError));
    }
}
