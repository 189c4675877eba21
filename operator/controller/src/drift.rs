//! Whether a live object still is what was asked for. Pure.
//!
//! An annotation carries the hash of what was asked for last, so that a field that is asked for no more is noticed too.
//! Beyond that every field that is asked for must be there; what the API server or others added beside them is theirs.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Annotation with the hash of what was applied.
pub(crate) const APPLIED: &str = "weir.dev/applied";

/// The hash of a document. Equal documents have equal hashes, whatever the order of their fields.
pub(crate) fn hash(document: &Value) -> String {
    let mut digest = Sha256::new();
    feed(document, &mut digest);
    hex::encode(&digest.finalize()[..16])
}

fn feed(value: &Value, digest: &mut Sha256) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            digest.update(b"{");
            for (name, value) in fields {
                feed(&Value::String(name.clone()), digest);
                feed(value, digest);
            }
            digest.update(b"}");
        }
        Value::Array(items) => {
            digest.update(b"[");
            items.iter().for_each(|item| feed(item, digest));
            digest.update(b"]");
        }
        scalar => {
            digest.update(scalar.to_string());
            digest.update(b",");
        }
    }
}

/// The hash of what others may change in a live object: everything but its status and what each write changes.
pub(crate) fn fingerprint(live: &Value) -> String {
    let mut live = live.clone();
    if let Some(fields) = live.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = live["metadata"].as_object_mut() {
        for volatile in ["resourceVersion", "generation", "managedFields"] {
            metadata.remove(volatile);
        }
    }
    hash(&live)
}

/// Whether every field of `wanted` is in `live`.
pub(crate) fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            match live.get(name) {
                Some(live) => contains(live, wanted),
                // The API server drops what is empty.
                None => is_empty(wanted),
            }
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| contains(l, w))
        }
        (Value::Number(live), Value::Number(wanted)) => live.as_f64() == wanted.as_f64(),
        (live, wanted) => live == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(truth) => !truth,
        Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_server_adds_is_no_drift_and_what_it_lacks_is() {
        let wanted =
            json!({"spec": {"replicas": 2, "ports": [{"port": 80}], "paused": false, "x": {}}});
        let live = json!({"spec": {"replicas": 2, "ports": [{"port": 80, "protocol": "TCP"}]}, "status": {}});
        assert!(contains(&live, &wanted));
        let scaled = json!({"spec": {"replicas": 3, "ports": [{"port": 80}]}});
        assert!(!contains(&scaled, &wanted));
        let more = json!({"spec": {"replicas": 2, "ports": [{"port": 80}, {"port": 81}]}});
        assert!(!contains(&more, &wanted));
    }

    #[test]
    fn hashes_ignore_the_order_of_fields_and_nothing_else() {
        let one: Value = serde_json::from_str(r#"{"a": 1, "b": ["x", "y"]}"#).unwrap();
        let same: Value = serde_json::from_str(r#"{"b": ["x", "y"], "a": 1}"#).unwrap();
        let other: Value = serde_json::from_str(r#"{"a": 1, "b": ["y", "x"]}"#).unwrap();
        assert_eq!(hash(&one), hash(&same));
        assert_ne!(hash(&one), hash(&other));
        assert_ne!(hash(&json!(["ab"])), hash(&json!(["a", "b"])));
    }

    #[test]
    fn a_status_does_not_change_a_fingerprint_and_a_label_does() {
        let before =
            json!({"metadata": {"resourceVersion": "1", "generation": 1}, "spec": {"a": 1}});
        let ready = json!({"metadata": {"resourceVersion": "2", "generation": 1}, "spec": {"a": 1}, "status": {"ready": 1}});
        let labelled = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"a": 1}});
        assert_eq!(fingerprint(&before), fingerprint(&ready));
        assert_ne!(fingerprint(&before), fingerprint(&labelled));
    }
}
