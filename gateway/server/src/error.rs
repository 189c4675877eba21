//! Why a request got no answer. `rescue.rs` maps these to statuses.
//!
//! Messages are for clients: they name models and fields, never an address, a path or a key.

use crate::ask::AskError;
use std::time::Duration;
use weir_engine::EngineError;
use weir_plan::Privacy;
use weir_router::{ChooseError, JudgeError};

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// A field that cannot be served: 400.
    #[error(transparent)]
    BadInput(#[from] AskError),
    /// No pool serves this model: 404.
    #[error("model {model:?} is not served here; known models: {}", known.join(", "))]
    UnknownModel {
        /// The model asked for.
        model: String,
        /// `auto` and every pool's model.
        known: Vec<String>,
    },
    /// The request may not leave where the client keeps it, and no pool is within: 403.
    #[error(
        "no model within privacy {privacy:?} serves this request; allow a wider privacy or pin none"
    )]
    Privacy {
        /// How far the request may go.
        privacy: Privacy,
    },
    /// The prompt does not fit: 400 `context_length_exceeded`.
    #[error(
        "the prompt has {prompt_tokens} tokens, model {model:?} takes {context_tokens}; send fewer"
    )]
    PromptTooLong {
        /// The permitted model with the largest context.
        model: String,
        /// Tokens of the system prompt and the last turn, which are never cut.
        prompt_tokens: u32,
        /// Tokens the model takes, answer included.
        context_tokens: u32,
    },
    /// No pool has a replica that can answer now: 503.
    #[error("no model can answer now; try again in {} s", retry_after.as_secs().max(1))]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// The request's time was over before a model was asked: 504.
    #[error("the request's time was over after {} ms, before a model was asked", waited.as_millis())]
    Late {
        /// How long the request had.
        waited: Duration,
    },
    /// The last engine asked failed: by its kind 400, 429, 502, 503 or 504.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The router could not choose: 500.
    #[error("the router could not choose")]
    Choose(#[from] ChooseError),
    /// The router could not judge: 500.
    #[error("the router could not judge the answer")]
    Judge(#[from] JudgeError),
    /// A forced attempt names an arm or a sampling class that the table lacks: 500.
    #[error("arm {arm} with sampling class {sampling} does not exist")]
    NoSuchArm {
        /// The arm named.
        arm: usize,
        /// The sampling class named.
        sampling: usize,
    },
    /// A worker thread of the gateway died: 500.
    #[error("the gateway lost the thread that was doing {step}")]
    Lost {
        /// What was being done.
        step: &'static str,
    },
}

impl AnswerError {
    /// A short, fixed name for the log row and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::BadInput(_) => "bad_input",
            Self::UnknownModel { .. } => "unknown_model",
            Self::Privacy { .. } => "privacy",
            Self::PromptTooLong { .. } => "prompt_too_long",
            Self::Unavailable { .. } => "unavailable",
            Self::Late { .. } => "late",
            Self::Engine(error) => error.kind(),
            Self::Choose(_) | Self::Judge(_) | Self::NoSuchArm { .. } => "router",
            Self::Lost { .. } => "internal",
        }
    }
}
