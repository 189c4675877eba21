//! `POST /generate`: one named model, one prompt, no memory and no router.
//!
//! Takes `{model_id, prompt, max_tokens, temperature, top_p}` and answers with the text and what it used. The request is
//! checked as a pinned chat of one user turn. Reading on: `pinned.rs`.

use super::{Shared, body, caller, extension, pinned};
use crate::ask::Ask;
use crate::fill::PinnedAnswer;
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::{Request, State};
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::Instant;
use weir_engine::{ChatRequest, ChatStream, EngineError, Usage};
use weir_plan::Scope;

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

struct Generated {
    text: String,
    finish_reason: Option<String>,
    usage: Usage,
}

pub(crate) async fn generate(
    State(surfaces): Shared,
    request: Request,
) -> Result<Json<Value>, Rescue> {
    let received = Instant::now();
    let serving = surfaces.gateway.serving();
    let identity = surfaces.identify(&serving, request.headers(), Scope::Ask)?;
    let (head, bytes) = body::read(request, serving.plan.limits.body_max_bytes).await?;
    let chat = body::typed::<Wanted>(&bytes)?.into_chat()?;
    let settings = extension(&head.headers)?;
    let caller = caller(identity, &head.headers);
    let mut ask = Ask::parse(chat.clone(), settings, caller, received)?;
    let model = chat["model"].as_str().unwrap_or_default();
    let (rank, pool) = pinned::pool(&serving, &ask, model)?;
    let until = serving.deadline(&ask.weir, ask.received);
    let _place = surfaces.enter_to_ask(&serving, &mut ask, until).await?;
    let id = surfaces.gateway.new_decision_id();
    let wanted = ChatRequest {
        body: chat.clone(),
        prefix: Some(ask.prefix(&ask.messages)),
        deadline: until,
    };
    let asked = match serving.engines.warm(pool, until).await {
        Ok(warm) => serving.engines.chat(&warm, wanted).await,
        Err(error) => Err(error),
    };
    let ttft = asked.is_ok().then(|| ask.received.elapsed());
    let generated = match asked {
        Ok(stream) => read(stream).await,
        Err(error) => Err(error),
    };
    let read = generated.as_ref().ok();
    let total = ask.received.elapsed();
    surfaces.gateway.pinned(PinnedAnswer {
        serving: &serving,
        id: id.clone(),
        ask: &ask,
        pool: rank,
        usage: read.map(|read| read.usage),
        finish_reason: read.and_then(|read| read.finish_reason.clone()),
        error: generated.as_ref().err().map(EngineError::kind),
        ttft: ttft.unwrap_or(total),
        total,
    });
    let generated = generated.inspect_err(|error| surfaces.metrics.failed(error.kind()))?;
    surfaces.metrics.pinned(model, generated.usage);
    Ok(Json(json!({
        "decision_id": id, "model_id": model, "text": generated.text,
        "finish_reason": generated.finish_reason, "usage": super::chat::usage(generated.usage),
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

async fn read(mut stream: ChatStream) -> Result<Generated, EngineError> {
    let mut read = Generated {
        text: String::new(),
        finish_reason: None,
        usage: Usage::default(),
    };
    while let Some(event) = stream.next().await {
        let event = event?;
        read.text
            .push_str(event.delta.as_deref().unwrap_or_default());
        read.finish_reason = event.finish_reason.or(read.finish_reason);
        read.usage = event.usage.unwrap_or(read.usage);
    }
    Ok(read)
}
