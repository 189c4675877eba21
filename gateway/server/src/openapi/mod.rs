//! The OpenAPI 3.1 document of every HTTP route: `weir openapi`, committed as `docs/openapi.json`.
//!
//! Bodies that are types of ours are derived from them; OpenAI's, which are read field by field, stand in `openai.rs`.
//! A test compares the routes here with those that are served, so neither can be without the other. Owns no behaviour.
//! Reading on: `operations.rs`.

mod answers;
mod openai;
mod operations;

pub(crate) use answers::{edge_metadata, metadata, node_source, node_type};

use operations::{Operation, operations};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The document.
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for operation in operations(&mut schemas) {
        let (path, method) = (operation.path, operation.method);
        let path = paths.entry(path).or_insert_with(|| json!({}));
        path[method] = operation.object();
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "OpenAI's surfaces, the memory and what was decided. Every error has the body `Error`; a stream that \
                breaks ends with an event that has it too. Answers carry `x-weir-decision`, `x-weir-model`, `x-weir-recall`, \
                `x-weir-escalated` and `x-weir-plan-age`, and `x-weir-cache` where answers are kept.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "A gateway; metrics stand on a port of their own where the plan says so"}],
        "paths": paths,
        "components": {
            "schemas": schemas.take(),
            "securitySchemes": {"key": {
                "type": "http", "scheme": "bearer",
                "description": "A key with one of the scopes that the operation names. `admin` has all of `ask` and `memory` and \
                    `judge`. A gateway without keys asks for none. \
                    Where the gateway takes tokens of an issuer (JWT), one stands in the place of a key with `ask` and `memory`.",
            }},
            "responses": {"Error": {
                "description": "What is wrong and what to send instead. `x-should-retry` says whether the same request may \
                    succeed later, `retry-after` when.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            }},
        },
    })
}

/// Method and path of every operation of the document.
#[cfg(test)]
pub(crate) fn documented() -> Vec<(&'static str, &'static str)> {
    let operations = operations(&mut Schemas::new());
    operations.iter().map(|of| (of.method, of.path)).collect()
}

/// The named schemas, derived and written.
pub(crate) struct Schemas {
    derived: SchemaGenerator,
    written: Map<String, Value>,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self {
            derived: settings.into_generator(),
            written: Map::new(),
        }
    }

    /// A reference to the schema of a type of ours.
    pub(crate) fn of<T: JsonSchema>(&mut self) -> Value {
        self.derived.subschema_for::<T>().to_value()
    }

    /// A reference to a schema that is written here.
    fn named(&mut self, name: &str, schema: Value) -> Value {
        self.written.insert(name.to_owned(), schema);
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn take(mut self) -> Map<String, Value> {
        self.named("Error", answers::error());
        let mut all = self.derived.take_definitions(true);
        all.extend(self.written);
        all
    }
}

impl Operation {
    fn object(self) -> Value {
        let error = json!({"$ref": "#/components/responses/Error"});
        let mut responses = Map::new();
        for (status, description, content) in self.answers {
            responses.insert(
                status.to_string(),
                json!({"description": description, "content": content}),
            );
        }
        for status in self.errors {
            responses.insert(status.to_string(), error.clone());
        }
        let mut object = json!({
            "operationId": self.id, "summary": self.summary, "tags": [self.tag], "responses": responses,
            "security": match self.scopes {
                [] => json!([]),
                scopes => scopes.iter().map(|scope| json!({"key": [scope]})).collect(),
            },
        });
        if let Some(schema) = self.request {
            object["requestBody"] =
                json!({"required": true, "content": {"application/json": {"schema": schema}}});
        }
        if !self.parameters.is_empty() {
            object["parameters"] = Value::Array(self.parameters);
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_exactly_the_routes_that_are_served() {
        let (mut documented, mut served) = (documented(), crate::http::served());
        documented.sort_unstable();
        served.sort_unstable();
        served.dedup();
        assert_eq!(documented, served);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(object) => {
                    found.extend(object.get("$ref").and_then(Value::as_str));
                    object.values().for_each(|value| references(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let pointer = reference
                .strip_prefix('#')
                .expect("a reference within the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
