//! `POST /v1/embeddings`: the memory's own embedder, or a pool's when `model` names one.
//!
//! Reading on: weir-embed's `queue.rs`; questions and searches of the memory are embedded by the memory itself.

use super::{Shared, body, caller, extension, pinned};
use crate::ask::{Ask, wrong};
use crate::gateway::Serving;
use crate::recall::want_vectors;
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::{Request, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Instant;
use weir_embed::TokenCounter;
use weir_engine::Embedded;
use weir_memory_live::MemoryError;
use weir_plan::Scope;

/// Most texts of one request, as for OpenAI.
const INPUTS_MAX: usize = 2048;

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "EmbeddingsRequest")]
pub(crate) struct Wanted {
    /// The memory's embedding model, or a pool's model.
    model: String,
    input: Inputs,
    #[schemars(extend("enum" = ["float", "base64", null]))]
    encoding_format: Option<Value>,
    /// The vectors' own length; another is refused.
    #[schemars(with = "Option<u32>")]
    dimensions: Option<Value>,
}

/// A text, or up to 2,048 of them.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Inputs {
    One(String),
    Many(#[schemars(length(min = 1, max = INPUTS_MAX))] Vec<String>),
    #[schemars(skip)]
    Other(serde::de::IgnoredAny),
}

#[derive(Clone, Copy)]
enum Encoding {
    Float,
    Base64,
}

pub(crate) async fn embed(
    State(surfaces): Shared,
    request: Request,
) -> Result<Json<Value>, Rescue> {
    let received = Instant::now();
    let serving = surfaces.gateway.serving();
    let identity = surfaces
        .identify(&serving, request.headers(), Scope::Ask)
        .await?;
    let (head, bytes) = body::read(request, serving.plan.limits.body_max_bytes).await?;
    let wanted: Wanted = body::typed(&bytes)?;
    let inputs = wanted.input.texts()?;
    let encoding = Encoding::read(wanted.encoding_format.as_ref())?;
    let dimensions = wanted.dimensions.as_ref();
    let mut ask = Ask::question("", caller(identity, &head.headers));
    ask.weir = extension(&head.headers)?;
    let until = serving.deadline(&ask.weir, received);
    let _place = surfaces.enter_to_ask(&serving, &mut ask, until).await?;
    let memory = serving.plan.memory.as_ref();
    let embedder = serving.plan.embedder();
    let of_memory = memory.filter(|memory| {
        memory.embedding_model == wanted.model
            || embedder.is_some_and(|pool| pool.model == wanted.model)
    });
    let counter = TokenCounter::estimate();
    let estimated: usize = inputs.iter().map(|text| counter.count(text)).sum();
    let Embedded { vectors, tokens } = match of_memory {
        Some(memory) => {
            right_length(dimensions, memory.dimensions, &wanted.model)?;
            texts(&serving, &ask, inputs, until).await?
        }
        None => {
            let (_, pool) = pinned::pool(&serving, &ask, &wanted.model)?;
            let warm = serving.engines.warm(pool, until).await?;
            serving.engines.embeddings(&warm, &inputs, until).await?
        }
    };
    // A pool's length is known only from its answer.
    if let Some(vector) = vectors.first() {
        right_length(dimensions, vector.len(), &wanted.model)?;
    }
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| {
            let embedding = encoding.write(vector);
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let tokens = match tokens {
        Some(said) => u64::from(said),
        None => u64::try_from(estimated).unwrap_or(u64::MAX),
    };
    let quotas = surfaces.gateway.quotas();
    quotas.used(&ask.caller.tenant, tokens, 0.0);
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    let body = json!({"object": "list", "data": data, "model": wanted.model, "usage": usage});
    Ok(Json(body))
}

/// Vectors from wherever the memory's plan says: a pool within the request's privacy, or the memory itself.
async fn texts(
    serving: &Serving,
    ask: &Ask,
    texts: Vec<String>,
    until: Instant,
) -> Result<Embedded, Rescue> {
    let asked = serving.plan.vectors_from();
    if let Some(pool) = asked.filter(|pool| pool.privacy > serving.privacy(ask)) {
        return Err(Rescue::privacy(&pool.model));
    }
    match (serving.plan.embedder(), &serving.memory) {
        (Some(pool), _) => {
            let warm = serving.engines.warm(pool, until).await?;
            Ok(serving.engines.embeddings(&warm, &texts, until).await?)
        }
        (None, Some(memory)) => {
            want_vectors(serving);
            let vectors = tokio::time::timeout_at(until.into(), memory.embed(texts)).await;
            Ok(Embedded {
                vectors: vectors.unwrap_or(Err(MemoryError::Late))?,
                tokens: None,
            })
        }
        (None, None) => Err(Rescue::unavailable("the embedder is not loaded")),
    }
}

impl Inputs {
    fn texts(self) -> Result<Vec<String>, Rescue> {
        let texts = match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
            Self::Other(_) => {
                return Err(Rescue::field(
                    "input",
                    "input holds no text: send a string or a list",
                ));
            }
        };
        if texts.is_empty() || texts.len() > INPUTS_MAX {
            let message = format!("input has {} texts: send 1 to {INPUTS_MAX}", texts.len());
            return Err(Rescue::field("input", message));
        }
        match texts.iter().position(|text| text.trim().is_empty()) {
            Some(index) => Err(Rescue::field(
                format!("input[{index}]"),
                "an input is empty",
            )),
            None => Ok(texts),
        }
    }
}

/// Vectors are never cut: a length that the client wants must be the model's own.
fn right_length(wanted: Option<&Value>, length: usize, model: &str) -> Result<(), Rescue> {
    match wanted {
        Some(wanted) if wanted.as_u64() != u64::try_from(length).ok() => {
            let expected = format!("{length}, the length of {model:?}, or leave it out");
            Err(wrong("dimensions", wanted, &expected).into())
        }
        _ => Ok(()),
    }
}

impl Encoding {
    fn read(wanted: Option<&Value>) -> Result<Self, Rescue> {
        match wanted {
            None => Ok(Self::Float),
            Some(Value::String(name)) if name == "float" => Ok(Self::Float),
            Some(Value::String(name)) if name == "base64" => Ok(Self::Base64),
            Some(other) => Err(wrong("encoding_format", other, "float or base64").into()),
        }
    }

    /// OpenAI's base64 is that of little-endian 32-bit floats.
    fn write(self, vector: &[f32]) -> Value {
        match self {
            Self::Float => json!(vector),
            Self::Base64 => {
                let bytes: Vec<u8> = vector
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                Value::String(STANDARD.encode(bytes))
            }
        }
    }
}
