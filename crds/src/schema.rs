//! Schemas: the CustomResourceDefinitions for a cluster, one JSON Schema for editors.

use schemars::Schema;
use serde_json::{Map, Value, json};

/// Turns the `oneOf` that schemars writes for an enum with data into the structural form Kubernetes wants: one optional
/// property a variant, and a rule that exactly one is present, with a message that lists them.
pub(crate) fn exactly_one(schema: &mut Schema) {
    let variants = match schema.remove("oneOf") {
        Some(Value::Array(variants)) => variants,
        _ => return,
    };
    let mut properties = Map::new();
    for variant in variants {
        let Value::Object(mut variant) = variant else {
            continue;
        };
        let description = variant.remove("description");
        let Some(Value::Object(fields)) = variant.remove("properties") else {
            continue;
        };
        for (name, mut field) in fields {
            if let (Some(description), Value::Object(field)) = (&description, &mut field) {
                field.insert("description".into(), description.clone());
                field.remove("additionalProperties");
            }
            properties.insert(name, field);
        }
    }
    let names: Vec<String> = properties.keys().cloned().collect();
    let tests: Vec<String> = names
        .iter()
        .map(|name| format!("has(self.{name})"))
        .collect();
    let rule = format!(
        "[{}].filter(present, present).size() == 1",
        tests.join(", ")
    );
    let message = match names.as_slice() {
        [only] => format!("needs {only}: write {only}: {{}}"),
        _ => format!(
            "needs exactly one of {}: keep one of them",
            names.join(", ")
        ),
    };
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), Value::Object(properties));
    schema.insert(
        "x-kubernetes-validations".into(),
        json!([{ "rule": rule, "message": message }]),
    );
}

/// The CustomResourceDefinitions of this crate's kinds, as YAML-ready JSON, with the file name of each.
pub fn crds() -> Vec<(&'static str, Value)> {
    Vec::new()
}

/// One JSON Schema (2020-12) for documents of every kind, for editors.
pub fn schema() -> Value {
    json!({})
}
