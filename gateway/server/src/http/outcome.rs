//! How a pinned request went: recorded once, also when its client goes away.
//!
//! Owns nothing of the answer but its end. Reading on: `pinned.rs`.

use super::Surfaces;
use super::admission::Place;
use super::asked::Asked;
use super::chat::headers;
use crate::answer::Decided;
use crate::ask::Ask;
use crate::fill::PinnedAnswer;
use crate::rescue::Rescue;
use crate::serving::Serving;
use http::HeaderMap;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use weir_engine::{ChatEvent, EngineError, Usage};
use weir_router::RecallMode;

/// The outcome of a pinned request. Dropping it records it.
pub(crate) struct Outcome {
    pub(crate) ask: Ask,
    surfaces: Arc<Surfaces>,
    serving: Arc<Serving>,
    rank: usize,
    id: String,
    model: String,
    usage: Option<Usage>,
    finish_reason: Option<String>,
    error: Option<&'static str>,
    ttft: Option<Duration>,
    _place: Place,
}

#[derive(Deserialize)]
struct WireWhole {
    #[serde(default)]
    choices: Vec<WireChoice>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct WireChoice {
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    prompt_tokens_details: Option<WireDetails>,
}

#[derive(Deserialize)]
struct WireDetails {
    #[serde(default)]
    cached_tokens: u32,
}

impl Outcome {
    /// Of a request whose pool has this rank, before it was asked.
    pub(crate) fn new(asked: Asked, model: String, rank: usize) -> Self {
        let id = asked.surfaces.gateway.new_decision_id();
        Self {
            ask: asked.ask,
            surfaces: asked.surfaces,
            serving: asked.serving,
            rank,
            id,
            model,
            usage: None,
            finish_reason: None,
            error: Some("client_gone"),
            ttft: None,
            _place: asked.place,
        }
    }

    /// What a response says about an answer that nobody decided.
    pub(crate) fn decision(&self) -> Decided {
        Decided {
            id: self.id.clone(),
            model: self.model.clone(),
            recall: RecallMode::None,
            escalated: false,
            sources: Vec::new(),
            explain: None,
        }
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        headers(&self.decision(), &self.serving)
    }

    /// Something of the answer is there.
    pub(crate) fn begun(&mut self) {
        self.ttft = Some(self.ask.received.elapsed());
    }

    /// An event has passed.
    pub(crate) fn saw(&mut self, event: &ChatEvent) {
        self.usage = event.usage.or(self.usage);
        if event.finish_reason.is_some() {
            self.finish_reason.clone_from(&event.finish_reason);
        }
    }

    /// The whole answer has passed. One that does not say what it used is recorded without.
    pub(crate) fn read(&mut self, answer: &[u8]) {
        self.begun();
        let Ok(wire) = serde_json::from_slice::<WireWhole>(answer) else {
            return;
        };
        self.usage = wire.usage.map(|usage| Usage {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            cached_tokens: usage
                .prompt_tokens_details
                .map_or(0, |details| details.cached_tokens),
        });
        let first = wire.choices.into_iter().next();
        self.finish_reason = first.and_then(|choice| choice.finish_reason);
    }

    pub(crate) fn failed(&mut self, error: &EngineError) -> Rescue {
        self.error = Some(error.kind());
        self.surfaces.metrics.failed(error.kind());
        Rescue::from(error)
    }

    pub(crate) fn succeeded(&mut self) {
        self.error = None;
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if self.error.is_none() {
            self.surfaces
                .metrics
                .pinned(&self.model, self.usage.unwrap_or_default());
        }
        let total = self.ask.received.elapsed();
        self.surfaces.gateway.pinned(PinnedAnswer {
            serving: &self.serving,
            id: self.id.clone(),
            ask: &self.ask,
            pool: self.rank,
            usage: self.usage,
            finish_reason: self.finish_reason.take(),
            error: self.error,
            ttft: self.ttft.unwrap_or(total),
            total,
        });
    }
}
