//! What is wrong with Secrets that documents name: tokens, certificate authorities, credentials of downloads. API keys of
//! clients are read in `keys.rs`. No problem ever says what an entry holds.

use super::{On, Problem};
use crate::keys::entries;
use crate::stack::Stack;
use std::collections::BTreeMap;
use weir_crds::{CaSecretRef, ModelPool};

/// The entry by which S3 at another address is asked, with a key or without one.
const S3_ENDPOINT: &str = "AWS_ENDPOINT_URL";

/// What is wrong with an entry of a Secret that is sent as a key. `field` of the reference says which entry that is.
pub(super) fn key_problems(
    stack: &Stack,
    on: &On<'_>,
    (secret, key): (&str, &str),
    field: &str,
) -> Vec<Problem> {
    let Some(secret) = stack.secret(secret) else {
        return vec![on.missing("name", "Secret", secret, &stack.secret_names())];
    };
    let entries = entries(secret);
    match entries.get(key) {
        Some(value) if is_sendable(value) => Vec::new(),
        Some(_) => vec![unsendable(on, field, key)],
        None => {
            let exist: Vec<&str> = entries.keys().map(String::as_str).collect();
            vec![on.missing(field, "entry", key, &exist)]
        }
    }
}

/// An entry that can be no token.
fn unsendable(on: &On<'_>, field: &str, entry: &str) -> Problem {
    let message = format!("entry {entry:?} is empty, or has spaces or line ends");
    on.problem(
        field,
        "SecretMalformed",
        message,
        "write the token alone".into(),
    )
}

/// Whether a value can be a token: a header carries it.
fn is_sendable(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_graphic)
}

/// What is wrong with an entry of a Secret that holds certificate authorities.
pub(super) fn authority_problems(
    stack: &Stack,
    on: &On<'_>,
    reference: &CaSecretRef,
) -> Vec<Problem> {
    let Some(secret) = stack.secret(&reference.name) else {
        return vec![on.missing("name", "Secret", &reference.name, &stack.secret_names())];
    };
    let entries = entries(secret);
    let Some(value) = entries.get(&reference.key) else {
        let exist: Vec<&str> = entries.keys().map(String::as_str).collect();
        return vec![on.missing("key", "entry", &reference.key, &exist)];
    };
    let text = std::str::from_utf8(value).unwrap_or_default();
    if text.contains("-----BEGIN CERTIFICATE-----") {
        return Vec::new();
    }
    let message = format!("entry {:?} holds no certificate", reference.key);
    let instead =
        "write the authority's certificate as PEM, from -----BEGIN CERTIFICATE-----".into();
    vec![on.problem("key", "SecretMalformed", message, instead)]
}

/// What is wrong with the Secret that a pool's model is downloaded with. In a cluster alone: `weir up` takes the same names
/// from its own environment.
pub(crate) fn of_download(stack: &Stack, pool: &ModelPool) -> Vec<Problem> {
    let model = &pool.spec.model;
    let (Some(reference), Some(source)) = (&model.credentials_secret_ref, &model.source) else {
        return Vec::new();
    };
    let part = "spec.model.credentialsSecretRef";
    let on = On::new("ModelPool", &pool.metadata.name, part);
    let Some(secret) = stack.secret(&reference.name) else {
        let exist = stack.secret_names();
        return vec![on.missing("name", "Secret", &reference.name, &exist)];
    };
    let entries = entries(secret);
    let scheme = source.split(':').next().unwrap_or_default();
    let wanted = wanted(scheme, &entries);
    let problems = wanted.iter().filter_map(|entry| match entries.get(*entry) {
        Some(value) if is_sendable(value) => None,
        Some(_) => Some(unsendable(&on, "name", entry)),
        None => {
            let message = format!("Secret {} has no entry {entry:?}", reference.name);
            let reads = wanted.join(" and ");
            let instead = format!("add {entry}, since a download from {scheme}:// reads {reads}");
            Some(on.problem("name", "SecretMalformed", message, instead))
        }
    });
    problems.collect()
}

/// The entries without which a download from such a source is authorised by nothing.
fn wanted(scheme: &str, entries: &BTreeMap<String, Vec<u8>>) -> &'static [&'static str] {
    match scheme {
        "hf" => &["HF_TOKEN"],
        "https" => &["WEIR_SOURCE_TOKEN"],
        "s3" => {
            let key = &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
            let is_open = entries.contains_key(S3_ENDPOINT)
                && !key.iter().any(|entry| entries.contains_key(*entry));
            if is_open { &[] } else { key }
        }
        _ => &[],
    }
}
