//! `POST /generate`: one named model, one prompt, no memory and no router.
//!
//! Takes `{model_id, prompt, max_tokens, temperature, top_p}` and answers with the text and what it used. The request is
//! checked as a pinned chat of one user turn. Reading on: `pinned.rs`.

use super::asked;
use super::chat::usage;
use super::pinned::{self, Sent};
use super::{Shared, body};
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::{Request, State};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What a chat's fields are called here.
const NAMES: [(&str, &str); 2] = [("messages", "prompt"), ("model", "model_id")];

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "GenerateRequest")]
pub(crate) struct Wanted {
    /// A pool's model; `auto` is refused.
    model_id: String,
    prompt: String,
    #[schemars(with = "Option<u32>", range(min = 1))]
    max_tokens: Option<Value>,
    #[schemars(with = "Option<f32>", range(min = 0, max = 2))]
    temperature: Option<Value>,
    #[schemars(with = "Option<f32>", range(min = 0, max = 1))]
    top_p: Option<Value>,
}

pub(crate) async fn generate(
    State(surfaces): Shared,
    request: Request,
) -> Result<Json<Value>, Rescue> {
    let read = |bytes: Bytes| {
        let chat = body::typed::<Wanted>(&bytes)?.into_chat()?;
        Ok((chat.clone(), chat))
    };
    let answered = async {
        let (asked, chat) = asked::ask(surfaces, request, read).await?;
        pinned::stream(asked, Sent::Chat(chat))
            .await?
            .collect()
            .await
    };
    let answer = answered.await.map_err(|error| error.renamed(&NAMES))?;
    Ok(Json(json!({
        "decision_id": answer.decision.id, "model_id": answer.decision.model, "text": answer.message["content"],
        "finish_reason": answer.finish_reason, "usage": usage(answer.usage),
    })))
}

impl Wanted {
    fn into_chat(self) -> Result<Map<String, Value>, Rescue> {
        if self.model_id == "auto" {
            return Err(Rescue::field(
                "model_id",
                "model_id is auto: send a model's name",
            ));
        }
        if self.prompt.trim().is_empty() {
            return Err(Rescue::field("prompt", "prompt is empty: send a text"));
        }
        let mut chat = Map::new();
        chat.insert("model".to_owned(), json!(self.model_id));
        chat.insert(
            "messages".to_owned(),
            json!([{"role": "user", "content": self.prompt}]),
        );
        for (name, value) in [
            ("max_tokens", self.max_tokens),
            ("temperature", self.temperature),
            ("top_p", self.top_p),
        ] {
            if let Some(value) = value {
                chat.insert(name.to_owned(), value);
            }
        }
        Ok(chat)
    }
}
