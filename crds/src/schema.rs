//! Schemas: the CustomResourceDefinitions for a cluster, what offline validation reads, one JSON Schema for editors.
//!
//! All three come from the same Rust types. `validate.rs` walks what [`of_kind`] returns; nothing else knows a rule.

use crate::{API_VERSION, InferenceGateway, MemoryStore, ModelPool, RouterRollout, RouterVersion};
use kube::CustomResourceExt;
use schemars::Schema;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

/// Kinds a stack may hold, in the order people write them.
pub const KINDS: [&str; 5] = [
    "ModelPool",
    "MemoryStore",
    "RouterVersion",
    "InferenceGateway",
    "Secret",
];

/// Turns the `oneOf` that schemars writes for an enum with data into the structural form Kubernetes wants: one optional
/// property a variant, and a rule that exactly one is present, with a message that lists them.
pub(crate) fn exactly_one(schema: &mut Schema) {
    let Some(Value::Array(variants)) = schema.remove("oneOf") else {
        return;
    };
    let mut properties = Map::new();
    let mut names = Vec::new();
    for variant in variants {
        let description = variant.get("description").cloned();
        let Some(fields) = variant.get("properties").and_then(Value::as_object) else {
            continue;
        };
        for (name, field) in fields {
            let mut field = field.clone();
            if let (Some(description), Some(field)) = (&description, field.as_object_mut()) {
                field.insert("description".into(), description.clone());
                field.remove("additionalProperties");
            }
            names.push(name.clone());
            properties.insert(name.clone(), field);
        }
    }
    let present: Vec<String> = names
        .iter()
        .map(|name| format!("has(self.{name})"))
        .collect();
    let (rule, message) = match names.as_slice() {
        [only] => (
            present.join(""),
            format!("needs {only}: write {only}: {{}}"),
        ),
        _ => (
            format!(
                "[{}].filter(present, present).size() == 1",
                present.join(", ")
            ),
            format!(
                "needs exactly one of {}: write one of them, with {{}} when it has no fields",
                names.join(", ")
            ),
        ),
    };
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), Value::Object(properties));
    schema.insert(
        "x-kubernetes-validations".into(),
        json!([{ "rule": rule, "message": message }]),
    );
}

/// The CustomResourceDefinitions, each with the name of its file in `crds/yaml`.
pub fn crds() -> Vec<(&'static str, Value)> {
    [
        ("modelpools.yaml", ModelPool::crd()),
        ("memorystores.yaml", MemoryStore::crd()),
        ("routerversions.yaml", RouterVersion::crd()),
        ("inferencegateways.yaml", InferenceGateway::crd()),
        ("routerrollouts.yaml", RouterRollout::crd()),
    ]
    .into_iter()
    .map(|(file, crd)| {
        let mut crd = serde_json::to_value(crd).expect("a CustomResourceDefinition is plain data");
        tidy(&mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
        (file, crd)
    })
    .collect()
}

/// Drops what Kubernetes would warn about or what would change meaning: unsigned formats, and `nullable`, so that a
/// field written as null counts as not written and takes its default.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let unsigned = |value: &Value| value.as_str().is_some_and(|f| f.starts_with("uint"));
            if fields.get("format").is_some_and(unsigned) {
                fields.remove("format");
            }
            if fields.get("nullable").is_some_and(Value::is_boolean) {
                fields.remove("nullable");
            }
            if fields.get("default").is_some_and(Value::is_null) {
                fields.remove("default");
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// The whole schema of a document of `kind`: what the CRD says, with `apiVersion`, `kind` and `metadata`.
pub fn of_kind(kind: &str) -> Option<&'static Value> {
    static SCHEMAS: OnceLock<Vec<(String, Value)>> = OnceLock::new();
    let schemas = SCHEMAS.get_or_init(|| {
        let mut schemas: Vec<(String, Value)> = crds()
            .into_iter()
            .map(|(_, crd)| {
                let kind = crd["spec"]["names"]["kind"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                let mut schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
                complete(&mut schema, &kind, API_VERSION);
                (kind, schema)
            })
            .collect();
        schemas.push(("Secret".into(), secret()));
        schemas
    });
    schemas
        .iter()
        .find(|(name, _)| name == kind)
        .map(|(_, schema)| schema)
}

/// Every field of a kind's `part` (`spec`, `status`) that has no fields of its own, by path: `spec.privacy.max`. A list
/// counts as one field.
pub fn fields_of(kind: &str, part: &str) -> Option<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    leaves(&of_kind(kind)?["properties"][part], part, &mut found);
    Some(found)
}

fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let fields = schema["properties"].as_object();
    let Some(fields) = fields.filter(|fields| !fields.is_empty()) else {
        found.insert(path.to_owned());
        return;
    };
    for (name, inner) in fields {
        leaves(inner, &format!("{path}.{name}"), found);
    }
}

/// The words that each field of a kind's `part` may hold, by path, where there are only so many. Those inside lists are left out.
pub fn choices_of(kind: &str, part: &str) -> Option<BTreeMap<String, Vec<String>>> {
    let mut found = BTreeMap::new();
    choices(&of_kind(kind)?["properties"][part], part, &mut found);
    Some(found)
}

fn choices(schema: &Value, path: &str, found: &mut BTreeMap<String, Vec<String>>) {
    if let Some(words) = schema["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str).map(str::to_owned);
        found.insert(path.to_owned(), words.collect());
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        choices(inner, &format!("{path}.{name}"), found);
    }
}

/// Adds what every Kubernetes object has and a CRD does not repeat.
fn complete(schema: &mut Value, kind: &str, api_version: &str) {
    schema["properties"]["apiVersion"] = json!({ "type": "string", "enum": [api_version] });
    schema["properties"]["kind"] = json!({ "type": "string", "enum": [kind] });
    schema["properties"]["metadata"] = metadata();
    schema["required"] = match kind {
        "Secret" => json!(["apiVersion", "kind", "metadata"]),
        _ => json!(["apiVersion", "kind", "metadata", "spec"]),
    };
}

/// The part of ObjectMeta that people write, with the limits the API server puts on names and labels. What it adds
/// itself (`kubectl get -o yaml`) is let through unread.
fn metadata() -> Value {
    let added = json!({ "x-kubernetes-preserve-unknown-fields": true });
    json!({
        "type": "object",
        "description": "Name and labels of the object.",
        "required": ["name"],
        "properties": {
            "name": {
                "type": "string",
                "description": "Name of the object, its own among those of its kind.",
                "minLength": 1,
                "maxLength": 253,
                "x-kubernetes-validations": [{
                    "rule": "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
                    "message": "must be lower-case letters, digits, '-' and '.', starting and ending with a letter or digit: write for example small-model"
                }]
            },
            "namespace": { "type": "string", "minLength": 1, "maxLength": 63 },
            "labels": {
                "type": "object",
                "description": "Labels, which gateways select pools by.",
                "additionalProperties": {
                    "type": "string",
                    "maxLength": 63,
                    "x-kubernetes-validations": [{
                        "rule": "self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",
                        "message": "is no label value: write letters, digits, '-', '_' and '.', starting and ending with a letter or digit"
                    }]
                }
            },
            "annotations": { "type": "object", "additionalProperties": { "type": "string" } },
            "creationTimestamp": added,
            "finalizers": added,
            "generation": added,
            "managedFields": added,
            "ownerReferences": added,
            "resourceVersion": added,
            "uid": added
        }
    })
}

/// The part of a core `v1` Secret that a stack may hold.
fn secret() -> Value {
    let mut schema = json!({
        "type": "object",
        "description": "Keys: of clients (auth.apiKeysSecretRef) or for external engines (apiKeySecretRef).",
        "properties": {
            "type": { "type": "string" },
            "immutable": { "type": "boolean" },
            "stringData": {
                "type": "object",
                "description": "Entries as they are.",
                "additionalProperties": { "type": "string", "format": "password" }
            },
            "data": {
                "type": "object",
                "description": "Entries in base64.",
                "additionalProperties": {
                    "type": "string",
                    "format": "password",
                    "x-kubernetes-validations": [{
                        "rule": "self.matches('^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$')",
                        "message": "is not base64: write what `base64 -w0` prints, or the value itself under stringData"
                    }]
                }
            }
        }
    });
    complete(&mut schema, "Secret", "v1");
    schema
}

/// Why there is no schema to print.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// No such kind.
    #[error("no kind is called {wanted:?}: a stack holds {kinds}", wanted = .0, kinds = KINDS.join(", "))]
    UnknownKind(String),
}

/// JSON Schema (2020-12) for editors, of documents of one kind, or of all when `kind` is `None`:
/// `# yaml-language-server: $schema=weir.schema.json`.
///
/// # Errors
/// When a stack holds no such kind.
pub fn schema(kind: Option<&str>) -> Result<Value, SchemaError> {
    let mut schema = match kind {
        Some(kind) => of_kind(kind)
            .cloned()
            .ok_or_else(|| SchemaError::UnknownKind(kind.to_owned()))?,
        None => json!({
            "title": "Weir resources",
            "description": "A document of a Weir stack.",
            "oneOf": KINDS.iter().filter_map(|kind| of_kind(kind)).collect::<Vec<_>>()
        }),
    };
    for_editors(&mut schema);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    Ok(schema)
}

/// Kubernetes' extensions out, closed objects in, since editors know `additionalProperties` only.
fn for_editors(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_open = fields.contains_key("x-kubernetes-preserve-unknown-fields");
            let is_object = fields.get("type").is_some_and(|kind| kind == "object");
            if is_object && !is_open && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), false.into());
            }
            let extensions: Vec<String> = fields
                .keys()
                .filter(|name| name.starts_with("x-kubernetes-"))
                .cloned()
                .collect();
            for name in extensions {
                fields.remove(&name);
            }
            fields.values_mut().for_each(for_editors);
        }
        Value::Array(items) => items.iter_mut().for_each(for_editors),
        _ => {}
    }
}
