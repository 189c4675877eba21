//! Shapes of what Weir's own surfaces answer, and of the memory's types in what they take.
//!
//! The memory is a pure crate that knows no schemas, so its types are written here; a test reads their names from the
//! types. Reading on: `openai.rs`.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};
use weir_memory::{NodeSource, NodeType};

pub(crate) fn node_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": NodeType::ALL.map(NodeType::as_str), "default": "doc"})
}

pub(crate) fn node_source(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": NodeSource::ALL.map(NodeSource::as_str), "default": "kb",
        "description": "Who the node comes from"})
}

pub(crate) fn metadata(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "properties": {
        "timestamp": {"type": ["integer", "null"], "minimum": 0, "description": "Unix time in milliseconds; absent means now"},
        "tags": {"type": "array", "items": {"type": "string"}, "description": "Shown with the node in a prompt"},
        "language": {"type": ["string", "null"], "description": "BCP 47 language tag"},
        "domain": {"type": ["string", "null"], "description": "Filters select by it"},
        "version": {"type": ["string", "null"]},
        "score": {"type": ["number", "null"]},
        "subject": {"type": ["string", "null"], "description": "Whom it is about; what erasure selects by"},
        "title": {"type": ["string", "null"]},
        "uri": {"type": ["string", "null"]},
    }})
}

pub(crate) fn edge_metadata(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "properties": {
        "timestamp": {"type": ["integer", "null"], "minimum": 0},
        "created_by": {"type": ["string", "null"]},
        "confidence": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "evidence": {"type": ["string", "null"], "description": "The sentence that carries the link"},
    }})
}

pub(super) fn error() -> Value {
    object(&json!({"error": object(&json!({
        "message": {"type": "string", "description": "What is wrong, with the value, and what to send instead"},
        "type": {"type": "string", "examples": ["invalid_request_error", "rate_limit_error", "api_error"]},
        "param": {"type": ["string", "null"], "description": "The field, for example messages[2].role"},
        "code": {"type": "string", "examples": ["invalid_value", "context_length_exceeded", "model_not_found", "engine_failed"]},
    }))}))
}

/// An object that always has all of these members.
fn object(properties: &Value) -> Value {
    let names: Vec<&String> = properties
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .collect();
    json!({"type": "object", "properties": properties, "required": names})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn list(items: &Value) -> Value {
    json!({"type": "array", "items": items})
}

pub(super) fn model() -> Value {
    object(&json!({
        "id": {"type": "string"}, "object": {"const": "model"}, "created": count(), "owned_by": {"const": "weir"},
        "weir": {"type": "object", "properties": {
            "pool": {"type": "string"}, "tier": {"type": "string"},
            "privacy": {"enum": ["local", "onPrem", "cloud"]},
            "context_tokens": {"type": ["integer", "null"]}, "available": {"type": "boolean"},
        }},
    }))
}

pub(super) fn embeddings() -> Value {
    let vector = json!({"oneOf": [list(&json!({"type": "number"})), {"type": "string", "contentEncoding": "base64"}]});
    object(&json!({
        "object": {"const": "list"}, "model": {"type": "string"},
        "data": list(&object(&json!({"object": {"const": "embedding"}, "index": count(), "embedding": vector}))),
        "usage": object(&json!({"prompt_tokens": count(), "total_tokens": count()})),
    }))
}

pub(super) fn generated() -> Value {
    object(&json!({
        "decision_id": {"type": "string"}, "model_id": {"type": "string"}, "text": {"type": "string"},
        "finish_reason": {"type": ["string", "null"]}, "usage": {"$ref": "#/components/schemas/Usage"},
    }))
}

pub(super) fn route() -> Value {
    let arm = object(&json!({
        "recall": {"enum": ["none", "vector", "graph"]}, "model": {"type": ["string", "null"]}, "context_tokens": count(),
        "masked": {"type": ["string", "null"], "description": "Why it was not to be chosen"},
        "quality": {"type": "number"}, "latency_s": {"type": "number"}, "cost": {"type": "number"},
        "utility": {"type": ["number", "null"]}, "probability": {"type": "number"},
    }));
    object(&json!({
        "model": {"type": ["string", "null"]}, "recall": {"enum": ["none", "vector", "graph"]}, "context_tokens": count(),
        "sampling": {"type": "string"}, "explored": {"type": "boolean"}, "guardrail": {"type": ["string", "null"]},
        "arms": list(&arm), "retrieval": {"type": "object"},
    }))
}

pub(super) fn scored() -> Value {
    object(
        &json!({"decision_id": {"type": "string"}, "recorded": {"const": true}, "counted": {"type": "boolean"}}),
    )
}

pub(super) fn row() -> Value {
    json!({"type": "object", "required": ["decision_id", "tenant", "timestamp"], "properties": {
        "decision_id": {"type": "string"}, "request_id": {"type": "string"}, "tenant": {"type": "string"},
        "timestamp": {"type": "string", "format": "date-time"},
    }, "additionalProperties": true})
}

pub(super) fn written_nodes() -> Value {
    object(
        &json!({"ids": list(&json!({"type": "string"})), "inserted": count(), "updated": count(), "unchanged": count()}),
    )
}

pub(super) fn written_edges() -> Value {
    object(&json!({"edges": count()}))
}

/// A node with its scores.
fn node(scores: &Value) -> Value {
    let mut properties = json!({
        "id": {"type": "string"}, "type": {"enum": NodeType::ALL.map(NodeType::as_str)},
        "source": {"enum": NodeSource::ALL.map(NodeSource::as_str)}, "text": {"type": "string"},
        "metadata": {"type": "object"},
    });
    for (name, schema) in scores.as_object().into_iter().flatten() {
        properties[name] = schema.clone();
    }
    object(&properties)
}

pub(super) fn hits() -> Value {
    let scores = json!({"cosine": {"type": ["number", "null"]}, "bm25": {"type": ["number", "null"]},
        "strength": {"type": ["number", "null"]}});
    object(&json!({"hits": list(&node(&scores)), "filter_share": {"type": ["number", "null"]}}))
}

pub(super) fn attended() -> Value {
    let scores = json!({"score": {"type": "number"}, "cosine": {"type": ["number", "null"]}, "depth": count()});
    object(&json!({
        "nodes": list(&node(&scores)), "entropy": {"type": ["number", "null"]}, "depth": count(), "nodes_used": count(),
    }))
}

pub(super) fn deleted() -> Value {
    object(&json!({"id": {"type": "string"}, "deleted": {"const": true}}))
}

pub(super) fn erased() -> Value {
    let texts = list(&json!({"type": "string"}));
    object(&json!({
        "nodes": count(), "summaries": count(), "traces": count(), "vectors": count(), "edges": count(), "documents": count(),
        "recollections": count(), "answers": count(), "ids": texts, "generation": {}, "erased_at": {}, "caches": {}, "not_erased": {},
    }))
}

pub(super) fn ready() -> Value {
    let pool = object(&json!({
        "name": {"type": "string"}, "model": {"type": "string"}, "replicas": count(), "available": {"type": "boolean"},
        "in_flight": count(), "waiting": count(), "cold": {"type": "boolean"},
    }));
    object(&json!({
        "ready": {"type": "boolean"}, "gateway": {"type": "string"}, "pools": list(&pool),
        "memory": {"type": ["object", "null"]}, "draining": {"type": "boolean"},
        "plan": {"type": "object"}, "router": {"type": "object"},
    }))
}
