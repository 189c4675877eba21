//! What the gateway's routes answer, as messages.
//!
//! Fields have the same names in both. What an engine says beyond them is left out; what it says in another shape than OpenAI's
//! makes the answer unreadable. Reading on: `stream.rs`.

use super::request::prune;
use super::status;
use axum::body::{Body, Bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tonic::Status;
use weir_proto::gateway::v1::{EmbedReply, Embedding, Usage};

#[derive(Deserialize)]
struct WireVectors {
    model: String,
    data: Vec<WireVector>,
    usage: Usage,
}

#[derive(Deserialize)]
struct WireVector {
    embedding: String,
}

/// All of an answer.
pub(super) async fn whole(body: Body) -> Result<Bytes, Status> {
    let bytes = axum::body::to_bytes(body, usize::MAX).await;
    bytes.map_err(|_| status::unreadable())
}

/// An answer, or a piece of one.
pub(super) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Status> {
    let mut value: Value = serde_json::from_slice(json).map_err(|_| status::unreadable())?;
    told(&mut value)
}

/// The same of JSON that was read.
pub(super) fn told<T: DeserializeOwned>(value: &mut Value) -> Result<T, Status> {
    if let Some(explain) = value.pointer_mut("/weir/explain") {
        *explain = Value::String(explain.to_string());
    }
    let choices = value.get_mut("choices").and_then(Value::as_array_mut);
    for choice in choices.into_iter().flatten() {
        name_thoughts(choice);
    }
    prune(value);
    serde_json::from_value(value.take()).map_err(|error| {
        tracing::warn!(%error, "an answer cannot be sent over gRPC");
        status::unreadable()
    })
}

/// vLLM's newer name for what the model thought.
fn name_thoughts(choice: &mut Value) {
    for said in ["message", "delta"] {
        let said = choice.get_mut(said).and_then(Value::as_object_mut);
        if let Some(said) = said
            && let Some(thoughts) = said.remove("reasoning")
        {
            let named = said.entry("reasoning_content").or_insert(Value::Null);
            if named.is_null() {
                *named = thoughts;
            }
        }
    }
}

/// Vectors, which come as little-endian 32-bit floats.
pub(super) fn vectors(json: &[u8]) -> Result<EmbedReply, Status> {
    let wire: WireVectors = serde_json::from_slice(json).map_err(|_| status::unreadable())?;
    let data = (0u32..).zip(wire.data).map(|(index, vector)| {
        let bytes = STANDARD.decode(vector.embedding);
        let bytes = bytes.map_err(|_| status::unreadable())?;
        let (floats, _) = bytes.as_chunks();
        let embedding = floats
            .iter()
            .map(|float| f32::from_le_bytes(*float))
            .collect();
        Ok(Embedding { index, embedding })
    });
    Ok(EmbedReply {
        model: wire.model,
        data: data.collect::<Result<_, Status>>()?,
        usage: Some(wire.usage),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use weir_proto::gateway::v1::{ChatChunk, ChatReply};

    #[test]
    fn nulls_are_fields_that_are_not_set_and_unknown_ones_are_left_out() {
        let answer = json!({
            "id": "x", "created": 7, "model": "m", "usage": null, "timings": {"n": 1},
            "choices": [{"index": 0, "finish_reason": null, "logprobs": null, "text": "?",
                         "message": {"role": "assistant", "content": null, "tool_calls": null, "reasoning": "hm"}}],
        });
        let reply: ChatReply = read(answer.to_string().as_bytes()).unwrap();
        let choice = &reply.choices[0];
        assert_eq!((reply.created, choice.finish_reason.as_deref()), (7, None));
        let message = choice.message.as_ref().unwrap();
        assert_eq!(message.content, None);
        assert_eq!(message.reasoning_content.as_deref(), Some("hm"));
    }

    #[test]
    fn a_log_row_is_told_as_the_json_that_it_is() {
        let chunk = json!({"choices": [], "weir": {"decision_id": "d", "sources": [], "explain": {"a": [null]}}});
        let chunk: ChatChunk = read(chunk.to_string().as_bytes()).unwrap();
        let weir = chunk.weir.unwrap();
        assert_eq!(weir.decision_id, "d");
        assert_eq!(weir.explain.as_deref(), Some(r#"{"a":[null]}"#));
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        for answer in [
            "",
            "[1]",
            "7",
            r#"{"choices": "none"}"#,
            r#"{"choices": [{"index": -1}]}"#,
        ] {
            let read = read::<ChatReply>(answer.as_bytes());
            assert_eq!(
                read.unwrap_err().code(),
                tonic::Code::Unavailable,
                "{answer}"
            );
        }
    }
}
