//! OpenAI's bodies as they are read and written here.
//!
//! Requests are read field by field (`ask.rs`, `http/completions.rs`, `http/responses/input.rs`) so that a refusal can say
//! what to send instead, which is why they are no types. Reading on: `mod.rs`.

use serde_json::{Value, json};

/// The fields of every surface that samples.
fn sampling() -> Value {
    json!({
        "model": {"type": "string", "description": "`auto` lets the router choose; a model of GET /v1/models pins it"},
        "stream": {"type": "boolean", "default": false},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "minimum": 0, "maximum": 1},
        "user": {"type": "string", "description": "Kept as a hash only"},
        "weir": {"$ref": "#/components/schemas/Weir"},
    })
}

/// `sampling` with more.
fn with(more: Value) -> Value {
    let mut fields = sampling();
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
    fields
}

fn chat_fields() -> Value {
    json!({
        "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
        "stop": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        "seed": {"type": "integer"},
        "n": {"type": "integer", "minimum": 1, "maximum": 16, "description": "More than 1 of a named model alone, and without tools"},
        "presence_penalty": {"type": "number"},
        "frequency_penalty": {"type": "number"},
        "logit_bias": {"type": "object"},
        "max_tokens": {"type": "integer", "minimum": 1, "description": "Without it 512 on `auto`; a pinned engine's own limit"},
    })
}

pub(super) fn chat_request() -> Value {
    let text = json!({"type": "object", "required": ["type", "text"],
        "properties": {"type": {"const": "text"}, "text": {"type": "string"}}});
    let message = json!({"type": "object", "required": ["role"], "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {"oneOf": [{"type": "string"}, {"type": "array", "items": text}, {"type": "null"}],
            "description": "null only where the assistant called tools"},
        "tool_calls": {"type": "array", "items": tool_call()},
        "tool_call_id": {"type": "string"},
    }});
    let mut properties = with(chat_fields());
    for (name, schema) in [
        (
            "messages",
            json!({"type": "array", "minItems": 1, "items": message,
            "description": "At least one user message with text; text only"}),
        ),
        (
            "max_completion_tokens",
            json!({"type": "integer", "minimum": 1}),
        ),
        (
            "logprobs",
            json!({"type": "boolean", "description": "Not beside tools on `auto`"}),
        ),
        (
            "top_logprobs",
            json!({"type": "integer", "minimum": 0, "maximum": 20, "description": "Only beside logprobs"}),
        ),
        (
            "tools",
            json!({"type": "array", "items": {"type": "object", "required": ["type", "function"], "properties": {
            "type": {"const": "function"}, "function": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string"}, "description": {"type": "string"}, "parameters": {"type": "object"}}}}}}),
        ),
        (
            "tool_choice",
            json!({"description": "`none`, `auto`, `required` or one function; passed to the engine, of which not all force a call"}),
        ),
        (
            "response_format",
            json!({"type": "object", "required": ["type"], "properties": {
            "type": {"enum": ["text", "json_object", "json_schema"]}, "json_schema": {"type": "object"}}}),
        ),
    ] {
        properties[name] = schema;
    }
    json!({
        "type": "object", "required": ["model", "messages"], "properties": properties, "additionalProperties": true,
        "description": "Fields that are not named here are sent to the engine as they came",
    })
}

fn tool_call() -> Value {
    json!({"type": "object", "required": ["id", "type", "function"], "properties": {
        "id": {"type": "string"}, "type": {"const": "function"},
        "function": {"type": "object", "required": ["name", "arguments"], "properties": {
            "name": {"type": "string"}, "arguments": {"type": "string", "contentMediaType": "application/json"}}},
    }})
}

pub(super) fn usage() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    json!({"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens"], "properties": {
        "prompt_tokens": count, "completion_tokens": count, "total_tokens": count,
        "prompt_tokens_details": {"type": "object", "properties": {"cached_tokens": count}},
    }})
}

fn finish_reason() -> Value {
    json!({"type": ["string", "null"], "examples": ["stop", "length", "tool_calls"]})
}

/// What stands around the choices.
fn frame(object: &str, choice: &Value) -> Value {
    json!({"type": "object", "required": ["object", "choices"], "properties": {
        "id": {"type": "string"}, "object": {"const": object}, "created": {"type": "integer"}, "model": {"type": "string"},
        "choices": {"type": "array", "items": choice},
        "usage": {"$ref": "#/components/schemas/Usage"},
        "weir": {"type": "object", "description": "Where weir.citations or weir.explain asked for it", "properties": {
            "decision_id": {"type": "string"}, "sources": {"type": "array", "items": {"type": "object"}},
            "explain": {"type": "object"}}},
    }})
}

pub(super) fn chat_completion() -> Value {
    frame(
        "chat.completion",
        &json!({"type": "object", "properties": {
            "index": {"const": 0}, "finish_reason": finish_reason(), "logprobs": {"type": ["object", "null"]},
            "message": {"type": "object", "properties": {
                "role": {"const": "assistant"}, "content": {"type": ["string", "null"]},
                "tool_calls": {"type": "array", "items": tool_call()}}},
        }}),
    )
}

pub(super) fn chat_chunk() -> Value {
    let piece = json!({"type": "object", "required": ["index"], "properties": {
        "index": {"type": "integer", "minimum": 0, "description": "Always there"},
        "id": {"type": "string", "description": "Where the call begins"}, "type": {"const": "function"},
        "function": {"type": "object", "properties": {"name": {"type": "string"}, "arguments": {"type": "string"}}},
    }});
    frame(
        "chat.completion.chunk",
        &json!({"type": "object", "properties": {
            "index": {"const": 0}, "finish_reason": finish_reason(), "logprobs": {"type": ["object", "null"]},
            "delta": {"type": "object", "properties": {
                "role": {"const": "assistant"}, "content": {"type": ["string", "null"]},
                "tool_calls": {"type": "array", "items": piece}}},
        }}),
    )
}

pub(super) fn completion_request() -> Value {
    let mut properties = with(chat_fields());
    properties["prompt"] = json!({"oneOf": [{"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1}]});
    properties["logprobs"] = json!({"type": "integer", "minimum": 0, "maximum": 5});
    properties["echo"] = json!({"const": false});
    properties["best_of"] = json!({"const": 1});
    properties["suffix"] = json!({"enum": [null, ""]});
    json!({
        "type": "object", "required": ["model", "prompt"], "properties": properties, "additionalProperties": true,
        "description": "Fields that are not named here are sent to the engine as they came; those of a chat are refused",
    })
}

pub(super) fn completion() -> Value {
    frame(
        "text_completion",
        &json!({"type": "object", "properties": {
            "index": {"const": 0}, "text": {"type": "string"}, "finish_reason": finish_reason(),
            "logprobs": {"type": ["object", "null"]},
        }}),
    )
}

pub(super) fn response_request() -> Value {
    let mut properties = with(json!({
        "input": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}],
            "description": "Items are messages, function_call and function_call_output; parts are input_text and output_text"},
        "instructions": {"type": "string"},
        "max_output_tokens": {"type": "integer", "minimum": 1},
        "metadata": {"type": "object", "maxProperties": 16, "additionalProperties": {"type": "string"}},
        "parallel_tool_calls": {"type": "boolean"},
        "store": {"const": false},
        "text": {"type": "object", "properties": {"format": {"type": "object", "required": ["type"], "properties": {
            "type": {"enum": ["text", "json_object", "json_schema"]}, "name": {"type": "string"}, "schema": {"type": "object"}}}}},
        "tool_choice": {"description": "`none`, `auto`, `required` or {\"type\": \"function\", \"name\": ...}"},
        "tools": {"type": "array", "items": {"type": "object", "required": ["type", "name"], "properties": {
            "type": {"const": "function"}, "name": {"type": "string"}, "description": {"type": "string"},
            "parameters": {"type": "object"}}}},
    }));
    for field in [
        "previous_response_id",
        "conversation",
        "background",
        "include",
        "prompt",
        "reasoning",
        "truncation",
    ] {
        properties[field] = json!({"description": "Refused with 400 unless it asks for nothing (null, false, empty, auto)"});
    }
    json!({"type": "object", "required": ["model", "input"], "properties": properties})
}

pub(super) fn response() -> Value {
    json!({"type": "object", "required": ["id", "object", "status", "output"], "properties": {
        "id": {"type": "string"}, "object": {"const": "response"}, "created_at": {"type": "integer"},
        "status": {"enum": ["in_progress", "completed", "incomplete", "failed"]},
        "error": {"type": ["object", "null"]}, "incomplete_details": {"type": ["object", "null"]},
        "model": {"type": "string"}, "store": {"const": false},
        "output": {"type": "array", "items": {"type": "object", "required": ["id", "type", "status"], "properties": {
            "id": {"type": "string"}, "type": {"enum": ["message", "function_call"]}, "status": {"type": "string"},
            "role": {"const": "assistant"}, "content": {"type": "array", "items": {"type": "object"}},
            "call_id": {"type": "string"}, "name": {"type": "string"}, "arguments": {"type": "string"}}}},
        "usage": {"type": ["object", "null"], "properties": {
            "input_tokens": {"type": "integer"}, "output_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"}}},
    }, "description": "With the fields of the request that OpenAI repeats"})
}

pub(super) fn response_event() -> Value {
    json!({"type": "object", "required": ["type", "sequence_number"], "properties": {
        "type": {"enum": [
            "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
            "response.output_text.delta", "response.output_text.done", "response.content_part.done",
            "response.function_call_arguments.delta", "response.function_call_arguments.done",
            "response.output_item.done", "response.completed", "response.incomplete", "response.failed", "error",
        ]},
        "sequence_number": {"type": "integer", "minimum": 0},
    }})
}
