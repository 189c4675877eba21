//! API keys out of a Secret: who they belong to, what they allow, and only their hashes.
//!
//! An entry's name is `<tenant>.<keyId>` or `<tenant>.<keyId>.<scopes>`, where scopes are `ask`, `memory`, `judge` and
//! `admin` joined by `-` (`acme.laptop.ask-memory`). Without scopes a key may ask and use the memory. The entry's value is the
//! key itself, which leaves this file only as its SHA-256.
//!
//! A Secret that is gone is no Secret without entries: whoever brings it back, by a restore or by making it anew, takes
//! seconds, and clients must not notice. So the keys it last had open for [`KEPT_FOR`] more, and not for ever. Since when
//! it is gone is kept in the gateway's condition [`ACCEPTED`], so that another process goes on counting.

use crate::condition::Timestamp;
use crate::stack::Stack;
use k8s_openapi::jiff::SignedDuration;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use weir_crds::{Condition, InferenceGateway, Secret};
use weir_plan::{self as plan, ANONYMOUS, ApiKey, Scope};

/// Shorter keys can be guessed.
const KEY_MIN_CHARACTERS: usize = 16;

/// How long the keys of a Secret that is gone still open.
pub(crate) const KEPT_FOR: SignedDuration = SignedDuration::from_mins(5);
/// Type of the condition that says what became of a gateway's keys.
pub(crate) const ACCEPTED: &str = "KeysAccepted";
/// Its reason while the keys of a Secret that is gone still open. It is Unknown then, and never for another reason.
pub(crate) const GONE: &str = "SecretGone";
/// Its reason once they open nothing any more.
pub(crate) const WITHDRAWN: &str = "KeysWithdrawn";

/// Why an entry of a Secret is no API key. Never says the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name has not two or three parts of letters, digits, `_` and `-`.
    #[error("entry {0:?} does not say whose key it is")]
    Name(String),
    /// An unknown scope.
    #[error("entry {entry:?} has the unknown scope {scope:?}")]
    Scope {
        /// Name of the entry.
        entry: String,
        /// What stands for a scope.
        scope: String,
    },
    /// Two entries for one key id.
    #[error("entry {0:?} has the tenant and key id of an earlier entry")]
    RepeatedId(String),
    /// Two entries with one value.
    #[error("entry {0:?} has the key of an earlier entry")]
    RepeatedKey(String),
    /// Too short, or not text a header can carry.
    #[error("the key of entry {0:?} is too short, or has spaces or line ends")]
    Value(String),
}

impl KeyError {
    /// What to write instead.
    pub fn instead(&self) -> String {
        match self {
            Self::Name(_) => "name it TENANT.KEYID or TENANT.KEYID.SCOPES, with letters, digits, \
                              '_' and '-', for example acme.laptop"
                .into(),
            Self::Scope { .. } => "write ask, memory, judge or admin, joined by '-'".into(),
            Self::RepeatedId(_) => "give each entry its own key id".into(),
            Self::RepeatedKey(_) => "give each entry its own key".into(),
            Self::Value(_) => format!(
                "write at least {KEY_MIN_CHARACTERS} visible ASCII characters, for example what \
                 `openssl rand -hex 24` prints"
            ),
        }
    }
}

/// The keys of a Secret in the order of entry names, and what is wrong with the entries that are none.
pub fn api_keys(secret: &Secret) -> (Vec<ApiKey>, Vec<KeyError>) {
    let mut keys: Vec<ApiKey> = Vec::new();
    let mut errors = Vec::new();
    let mut ids = BTreeSet::new();
    let mut hashes = BTreeSet::new();
    for (entry, value) in entries(secret) {
        match api_key(&entry, &value) {
            Err(error) => errors.push(error),
            Ok(key) if !ids.insert((key.tenant.clone(), key.key_id.clone())) => {
                errors.push(KeyError::RepeatedId(entry));
            }
            Ok(key) if !hashes.insert(key.sha256.clone()) => {
                errors.push(KeyError::RepeatedKey(entry));
            }
            Ok(key) => keys.push(key),
        }
    }
    (keys, errors)
}

/// Who may ask a gateway; `None` while the Secret of its keys is gone and the keys it last had still open.
pub(crate) fn who_may_ask(stack: &Stack, gateway: &InferenceGateway) -> Option<plan::Auth> {
    let auth = &gateway.spec.auth;
    if auth.anonymous.is_some() {
        return Some(plan::Auth::Anonymous);
    }
    // Tokens alone open, which is not said here.
    let Some(reference) = &auth.api_keys_secret_ref else {
        return Some(plan::Auth::ApiKeys(Vec::new()));
    };
    match stack.secret(&reference.name) {
        Some(secret) => Some(plan::Auth::ApiKeys(api_keys(secret).0)),
        None => are_withdrawn(gateway).then(|| plan::Auth::ApiKeys(Vec::new())),
    }
}

/// Who of those that might ask `before` still may, whatever else is wrong with the stack: what was taken back is closed, and
/// nothing is opened.
pub fn still_may_ask(stack: &Stack, gateway: &InferenceGateway, before: &plan::Auth) -> plan::Auth {
    match (before, who_may_ask(stack, gateway)) {
        (plan::Auth::ApiKeys(before), Some(plan::Auth::ApiKeys(now))) => {
            let still = before.iter().filter(|key| now.contains(key));
            plan::Auth::ApiKeys(still.cloned().collect())
        }
        (plan::Auth::Anonymous, Some(now)) => now,
        (before, _) => before.clone(),
    }
}

/// Whether the gateway's status says that the keys of a Secret that is gone open nothing any more.
pub(crate) fn are_withdrawn(gateway: &InferenceGateway) -> bool {
    accepted(gateway).is_some_and(|condition| condition.reason == WITHDRAWN)
}

/// Until when the keys of a Secret that is gone open, by the condition before.
pub(crate) fn kept_until(gateway: &InferenceGateway, now: Timestamp) -> Timestamp {
    let since = accepted(gateway).filter(|condition| condition.reason == GONE);
    let since = since.map_or(now, |condition| condition.last_transition_time.0);
    since.checked_add(KEPT_FOR).unwrap_or(since)
}

fn accepted(gateway: &InferenceGateway) -> Option<&Condition> {
    let mut conditions = gateway.status.iter().flat_map(|status| &status.conditions);
    conditions.find(|condition| condition.type_ == ACCEPTED)
}

/// The tenants that a gateway's spec names and nobody can ask as, since no key is theirs.
pub fn tenants_without_keys<'a>(stack: &Stack, gateway: &'a InferenceGateway) -> Vec<&'a str> {
    let auth = &gateway.spec.auth;
    // An issuer can vouch for every one of them.
    if auth.jwt.is_some() {
        return Vec::new();
    }
    let owners: BTreeSet<String> = match &auth.api_keys_secret_ref {
        None => [ANONYMOUS.to_owned()].into(),
        Some(reference) => {
            let keys = stack
                .secret(&reference.name)
                .map(|secret| api_keys(secret).0);
            let keys = keys.unwrap_or_default().into_iter();
            keys.map(|key| key.tenant).collect()
        }
    };
    let named = gateway
        .spec
        .tenants
        .iter()
        .map(|tenant| tenant.name.as_str());
    named.filter(|name| !owners.contains(*name)).collect()
}

fn api_key(entry: &str, value: &[u8]) -> Result<ApiKey, KeyError> {
    let is_word = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    let parts: Vec<&str> = entry.split('.').collect();
    let (tenant, key_id, scopes) = match parts.as_slice() {
        [tenant, key_id] => (*tenant, *key_id, "ask-memory"),
        [tenant, key_id, scopes] => (*tenant, *key_id, *scopes),
        _ => return Err(KeyError::Name(entry.to_owned())),
    };
    if ![tenant, key_id].iter().all(is_word) {
        return Err(KeyError::Name(entry.to_owned()));
    }
    let scope = |word: &str| {
        let mut scopes = Scope::ALL.into_iter();
        let known = scopes.find(|scope| scope.as_str() == word);
        known.ok_or_else(|| KeyError::Scope {
            entry: entry.to_owned(),
            scope: word.to_owned(),
        })
    };
    let scopes = scopes
        .split('-')
        .map(scope)
        .collect::<Result<Vec<_>, _>>()?;
    if value.len() < KEY_MIN_CHARACTERS || !value.iter().all(u8::is_ascii_graphic) {
        return Err(KeyError::Value(entry.to_owned()));
    }
    Ok(ApiKey {
        tenant: tenant.to_owned(),
        key_id: key_id.to_owned(),
        sha256: hex::encode(Sha256::digest(value)),
        scopes,
    })
}

/// SHA-256 of a key, lower-case hexadecimal, as [`ApiKey::sha256`] holds it.
pub fn hash_key(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

/// Every entry of a Secret; `stringData` wins over `data`, as in the API server.
pub(crate) fn entries(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    let encoded = secret
        .data
        .iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.0.clone()));
    let plain = secret.string_data.iter().flatten();
    encoded
        .chain(plain.map(|(name, value)| (name.clone(), value.clone().into_bytes())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(entries: &[(&str, &str)]) -> Secret {
        let entries = entries
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Secret {
            string_data: Some(entries.collect()),
            ..Secret::default()
        }
    }

    #[test]
    fn an_entry_names_tenant_key_and_scopes() {
        let long = "k".repeat(KEY_MIN_CHARACTERS);
        let (keys, errors) = api_keys(&secret(&[
            ("acme.laptop", &long),
            ("ops.root.admin", &format!("{long}2")),
        ]));
        assert_eq!(errors, []);
        assert_eq!(
            (keys[0].tenant.as_str(), keys[0].key_id.as_str()),
            ("acme", "laptop")
        );
        assert_eq!(keys[0].scopes, [Scope::Ask, Scope::Memory]);
        assert_eq!(keys[1].scopes, [Scope::Admin]);
        assert_eq!(keys[0].sha256, hash_key(&long));
    }

    #[test]
    fn entries_that_are_no_keys_are_named_and_never_shown() {
        let (a, b) = ("a".repeat(32), "b".repeat(32));
        let (keys, errors) = api_keys(&secret(&[
            ("acme", &a),
            ("acme..ask", &a),
            ("acme.a.ask", &a),
            ("acme.a.memory", &b),
            ("acme.b.write", &b),
            ("acme.c", "short"),
            ("acme.d", &format!("{b}\n")),
            ("other.a", &a),
        ]));
        assert_eq!(keys.len(), 1);
        assert_eq!(
            errors,
            [
                KeyError::Name("acme".into()),
                KeyError::Name("acme..ask".into()),
                KeyError::RepeatedId("acme.a.memory".into()),
                KeyError::Scope {
                    entry: "acme.b.write".into(),
                    scope: "write".into()
                },
                KeyError::Value("acme.c".into()),
                KeyError::Value("acme.d".into()),
                KeyError::RepeatedKey("other.a".into()),
            ]
        );
        for error in &errors {
            let text = format!("{error}: {} {error:?}", error.instead());
            assert!(
                !text.contains(&a) && !text.contains(&b) && !text.contains("short\""),
                "{text}"
            );
        }
    }
}
