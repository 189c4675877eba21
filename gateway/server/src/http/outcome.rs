//! How a pinned request went: recorded once, also when its client goes away.
//!
//! Owns nothing of the answer but its end. Reading on: `pinned.rs`.

use super::Surfaces;
use super::admission::Place;
use super::asked::Asked;
use crate::answer::Decided;
use crate::decisions::Draft;
use crate::fill::Passed;
use crate::rescue::Rescue;
use crate::serving::Serving;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use weir_engine::{ChatEvent, EngineError, Usage};
use weir_plan::{EngineKind, Pool};

/// The outcome of a pinned request. Dropping it records it.
pub(crate) struct Outcome {
    surfaces: Arc<Surfaces>,
    serving: Arc<Serving>,
    /// Rank of the pool that is asked.
    rank: usize,
    row: Draft,
    /// Answers that are asked for.
    choices: u32,
    usage: Option<Usage>,
    /// Events that brought something generated.
    events: u32,
    finish_reason: Option<String>,
    error: Option<&'static str>,
    ttft_ms: Option<f64>,
    /// Time spent waiting for a place at the pool, or for its first replica.
    held: Duration,
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
    /// Of a request whose pool has this rank. Nothing of the conversation is kept.
    pub(crate) fn new(asked: Asked, rank: usize) -> Self {
        let (surfaces, serving) = (asked.surfaces, asked.serving);
        let pool = &serving.plan.pools[rank];
        let row = surfaces.gateway.pinned_draft(&serving, &asked.ask, pool);
        Self {
            surfaces,
            serving,
            rank,
            row,
            choices: asked.ask.client.choices(),
            usage: None,
            events: 0,
            finish_reason: None,
            error: Some("client_gone"),
            ttft_ms: None,
            held: Duration::ZERO,
            _place: asked.place,
        }
    }

    /// What a response says about an answer that nobody decided.
    pub(crate) fn decision(&self) -> Decided {
        self.row.decided(false)
    }

    /// It waited so long before its engine was asked.
    pub(crate) fn held(&mut self, held: Duration) {
        self.held = held;
    }

    /// Something of the answer is there.
    pub(crate) fn begun(&mut self) {
        self.ttft_ms = Some(self.row.elapsed_ms());
    }

    /// An event has passed.
    pub(crate) fn saw(&mut self, event: &ChatEvent) {
        self.usage = event.used().or(self.usage);
        self.events += u32::from(event.delta.is_some() || event.aside);
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

impl Outcome {
    /// Tokens used, and whether they are Weir's count because the engine did not say so.
    fn used(&self, pool: &Pool) -> (Option<Usage>, bool) {
        match self.usage {
            // llama.cpp says what the first of several answers used.
            Some(first) if self.choices > 1 && pool.engine == EngineKind::LlamaCpp => {
                let completion_tokens = first.completion_tokens.saturating_mul(self.choices);
                let all = Usage {
                    completion_tokens,
                    ..first
                };
                (Some(all), true)
            }
            None if self.events > 0 => {
                let seen = Usage {
                    completion_tokens: self.events,
                    ..Usage::default()
                };
                (Some(seen), true)
            }
            said => (said, false),
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        let pool = &self.serving.plan.pools[self.rank];
        let (usage, counted) = self.used(pool);
        if self.error.is_none() {
            let metrics = &self.surfaces.metrics;
            metrics.pinned(&pool.model, usage.unwrap_or_default());
        }
        let passed = Passed {
            usage,
            counted,
            finish_reason: self.finish_reason.take(),
            error: self.error,
            ttft_ms: self.ttft_ms,
            held: self.held,
        };
        self.row.passed(pool, passed);
    }
}
