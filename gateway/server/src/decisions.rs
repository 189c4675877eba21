//! The last decisions, kept for `GET /v1/decisions/{id}`, and the way of every row to the log.
//!
//! A [`Draft`] is a row being filled; one that is dropped unfinished (the client went away) is written with that outcome.
//! How rows are written, and lost when they cannot be, is `row_log.rs`.

pub use crate::row_log::LogError;

use crate::comparison::Comparison;
use crate::evidence::Dispatched;
use crate::metrics::Steps;
use crate::quota::Quotas;
use crate::record::{Feedback, FeedbackRow, Record, is_fault};
use crate::row_log::{Row, RowLog, Target};
use crate::traces::Traces;
use crate::waterfall::Waterfall;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use weir_plan::LogSink;

/// Decisions kept in memory.
const KEPT: usize = 4096;

/// The last decisions and the log. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    inner: Arc<Mutex<Inner>>,
    quotas: Quotas,
    steps: Arc<OnceLock<Steps>>,
    pub(crate) traces: Traces,
}

#[derive(Debug, Default)]
struct Inner {
    records: HashMap<String, Arc<Record>>,
    /// The same, oldest first, as they were kept.
    order: VecDeque<Arc<Record>>,
    log: Option<RowLog>,
    lost: Arc<AtomicU64>,
}

impl Decisions {
    /// Decisions whose answers are taken out of these budgets.
    pub(crate) fn charging(quotas: Quotas) -> Self {
        Self {
            quotas,
            ..Self::default()
        }
    }

    /// Has the times of every request counted there from now on.
    pub(crate) fn measured_by(&self, steps: Steps) {
        // Who counts already goes on: of a gateway with two ports both show the same.
        let _ = self.steps.set(steps);
    }

    /// Sends rows to `sink` from now on.
    pub(crate) fn log_to(&self, sink: LogSink, state_dir: Option<&Path>) -> Result<(), LogError> {
        let target = Target::of(sink, state_dir)?;
        let mut inner = self.lock();
        if inner.log.as_ref().map(RowLog::target) == target.as_ref() {
            return Ok(());
        }
        let lost = Arc::clone(&inner.lost);
        let log = target
            .map(|target| RowLog::start(target, lost))
            .transpose()?;
        let before = std::mem::replace(&mut inner.log, log);
        // The log that ends waits for its rows; no request shall wait with it.
        drop(inner);
        drop(before);
        Ok(())
    }

    /// Rows that the log could not take or write.
    pub(crate) fn rows_lost(&self) -> u64 {
        self.lock().lost.load(Ordering::Relaxed)
    }

    /// What was recorded about a decision, if it is still kept.
    pub fn get(&self, id: &str) -> Option<Record> {
        let kept = self.lock().records.get(id).cloned();
        kept.map(Arc::unwrap_or_clone)
    }

    /// Adds a score to a decision and to the log. False when the decision is not kept any more; then it is logged only if
    /// it `counts`, as evidence of a rollout.
    pub(crate) fn feedback(&self, id: &str, feedback: &Feedback, counts: bool) -> bool {
        let mut inner = self.lock();
        let kept = inner.records.get_mut(id).map(|record| {
            Arc::make_mut(record).quality = Some(feedback.clone());
        });
        drop(inner);
        if kept.is_some() || counts {
            let row = FeedbackRow {
                feedback_for: id.to_owned(),
                score: feedback.score,
                label: feedback.label.clone(),
                propensity: feedback.propensity,
            };
            self.lock().log(Row::Feedback(row));
        }
        kept.is_some()
    }

    pub(crate) fn keep(&self, record: Arc<Record>) {
        let tokens = u64::from(record.tokens.prompt) + u64::from(record.tokens.completion);
        self.quotas.used(&record.tenant, tokens, record.cost);
        if let Some(steps) = self.steps.get() {
            steps.record(&record.latency_ms);
        }
        let id = record.decision_id.clone();
        let mut inner = self.lock();
        inner.log(Row::Decision(Arc::clone(&record)));
        let full = inner.order.len() >= KEPT;
        let oldest = full.then(|| inner.order.pop_front()).flatten();
        let forgotten = oldest.map(|oldest| inner.records.remove(&oldest.decision_id));
        inner.order.push_back(Arc::clone(&record));
        inner.records.insert(id, record);
        // Nobody waits while it is freed.
        drop(inner);
        drop(forgotten);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Hands a row to the log, if there is one.
    fn log(&self, row: Row) {
        if let Some(log) = &self.log {
            log.write(row);
        }
    }
}

/// A row being filled.
#[derive(Debug)]
pub(crate) struct Draft {
    row: Arc<Record>,
    /// Counts the request in a rollout until the row is finished.
    pub(crate) dispatched: Option<Dispatched>,
    pub(crate) waterfall: Waterfall,
    /// The trace that the client says its request is a part of.
    pub(crate) traceparent: Option<String>,
    decisions: Decisions,
    finished: bool,
}

impl Draft {
    pub(crate) fn new(row: Record, received: std::time::Instant, decisions: Decisions) -> Self {
        Self {
            row: Arc::new(row),
            dispatched: None,
            waterfall: Waterfall::since(received),
            traceparent: None,
            decisions,
            finished: false,
        }
    }

    /// The row so far.
    pub(crate) fn row(&self) -> &Record {
        &self.row
    }

    /// The row, to be filled.
    pub(crate) fn fill(&mut self) -> &mut Record {
        Arc::make_mut(&mut self.row)
    }

    /// Milliseconds since the request arrived.
    pub(crate) fn elapsed_ms(&self) -> f64 {
        self.waterfall.until(std::time::Instant::now())
    }

    /// Completes the row, keeps it and logs it.
    pub(crate) fn finish(&mut self, finish_reason: Option<String>, error: Option<&str>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let total_ms = self.elapsed_ms();
        let row = self.fill();
        row.latency_ms.total = total_ms;
        row.outcome.finish_reason = finish_reason;
        row.outcome.error = error.map(str::to_owned);
        if let Some(dispatched) = self.dispatched.take() {
            let failed = std::thread::panicking() || error.is_some_and(is_fault);
            if let Some(comparison) = Comparison::of(&self.row) {
                dispatched.compared(&self.row.decision_id, comparison, failed);
            }
            dispatched.end(self.row.latency_ms.total, failed);
        }
        let traceparent = self.traceparent.as_deref();
        self.decisions
            .traces
            .ended(&self.row, &self.waterfall, traceparent);
        self.decisions.keep(Arc::clone(&self.row));
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.finish(None, Some("client_gone"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn record(id: &str) -> Record {
        Record {
            decision_id: id.to_owned(),
            ..Record::default()
        }
    }

    #[test]
    fn the_oldest_decision_makes_room_for_the_newest() {
        let decisions = Decisions::default();
        for number in 0..=KEPT {
            decisions.keep(Arc::new(record(&number.to_string())));
        }
        assert!(decisions.get("0").is_none());
        assert!(decisions.get("1").is_some());
        assert!(decisions.get(&KEPT.to_string()).is_some());
    }

    #[test]
    fn a_draft_nobody_finished_is_recorded_as_a_client_that_went_away() {
        let decisions = Decisions::default();
        drop(Draft::new(record("a"), Instant::now(), decisions.clone()));
        let row = decisions.get("a").expect("it is kept");
        assert_eq!(row.outcome.error.as_deref(), Some("client_gone"));
    }

    #[test]
    fn feedback_reaches_the_record_and_an_unknown_id_is_refused() {
        let decisions = Decisions::default();
        decisions.keep(Arc::new(record("a")));
        let feedback = Feedback {
            score: 4.0,
            ..Feedback::default()
        };
        assert!(decisions.feedback("a", &feedback, false));
        assert!(!decisions.feedback("b", &feedback, false));
        assert_eq!(
            decisions.get("a").and_then(|row| row.quality),
            Some(feedback)
        );
    }
}
