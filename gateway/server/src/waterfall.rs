//! The steps of one request as they happened: when each began and how long it took, measured where it ran.
//!
//! A row's `latency_ms` has the sums. A step is noted when it has ended. Who shows them: `fill.rs` for a client that asks for
//! `explain`, `traces.rs` for a collector.

use serde::Serialize;
use std::time::Instant;

/// Steps in the order in which they ended.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Waterfall {
    steps: Vec<Step>,
    #[serde(skip)]
    received: Instant,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Step {
    pub(crate) step: &'static str,
    /// Milliseconds from the arrival of the request's head to its beginning.
    pub(crate) start_ms: f64,
    pub(crate) took_ms: f64,
    /// The model that an `llm` step asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
}

impl Waterfall {
    /// Of a request whose head arrived then.
    pub(crate) fn since(received: Instant) -> Self {
        Self {
            steps: Vec::with_capacity(8),
            received,
        }
    }

    /// Milliseconds from the request's arrival until `at`.
    pub(crate) fn until(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.received).as_secs_f64() * 1e3
    }

    /// A step has ended now.
    pub(crate) fn ended(&mut self, step: &'static str, took_ms: f64) {
        let end_ms = self.until(Instant::now());
        self.add(step, (end_ms - took_ms).max(0.0), took_ms);
    }

    /// A step of this time has ended; one that took none was not taken.
    pub(crate) fn add(&mut self, step: &'static str, start_ms: f64, took_ms: f64) {
        if took_ms > 0.0 {
            self.steps.push(Step {
                step,
                start_ms,
                took_ms,
                model: None,
            });
        }
    }

    /// An engine was asked.
    pub(crate) fn asked(&mut self, model: &str, (start_ms, took_ms): (f64, f64)) {
        self.steps.push(Step {
            step: "llm",
            start_ms,
            took_ms,
            model: Some(model.to_owned()),
        });
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(crate) fn received(&self) -> Instant {
        self.received
    }
}
