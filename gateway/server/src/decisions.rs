//! The last decisions, kept for `GET /v1/decisions/{id}`, and the way of every row to the log.
//!
//! Rows go through a bounded channel to a thread of their own: a slow disk delays no request, and what does not fit is
//! counted and dropped. A [`Draft`] is a row being filled; one that is dropped unfinished (the client went away) is
//! written with that outcome.

use crate::record::{Feedback, FeedbackRow, Record};
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use weir_plan::LogSink;

/// Decisions kept in memory.
const KEPT: usize = 4096;
/// Rows that may wait for the log.
const WAITING: usize = 4096;
/// Name of the log in the state directory.
const FILE_NAME: &str = "decisions.jsonl";

/// Why the decision log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `logs.sink: file` needs a place.
    #[error("decisions cannot be logged to a file: the gateway has no state directory")]
    NoStateDir,
    /// The file cannot be opened.
    #[error("decision log {path} cannot be opened")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No thread could be started.
    #[error("no thread for the decision log could be started")]
    Thread(#[source] std::io::Error),
}

/// The last decisions and the log. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    records: HashMap<String, Record>,
    order: VecDeque<String>,
    sink: Option<Sink>,
}

#[derive(Debug)]
struct Sink {
    target: Target,
    lines: SyncSender<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Stdout,
    File(PathBuf),
}

impl Decisions {
    /// Sends rows to `sink` from now on.
    pub(crate) fn log_to(&self, sink: LogSink, state_dir: Option<&Path>) -> Result<(), LogError> {
        let target = match sink {
            LogSink::None => None,
            LogSink::Stdout => Some(Target::Stdout),
            LogSink::File => Some(Target::File(
                state_dir.ok_or(LogError::NoStateDir)?.join(FILE_NAME),
            )),
        };
        let mut inner = self.lock();
        if inner.sink.as_ref().map(|sink| &sink.target) != target.as_ref() {
            inner.sink = target.map(Sink::start).transpose()?;
        }
        Ok(())
    }

    /// What was recorded about a decision, if it is still kept.
    pub fn get(&self, id: &str) -> Option<Record> {
        self.lock().records.get(id).cloned()
    }

    /// Adds a score to a decision. False when it is not kept any more.
    pub fn feedback(&self, id: &str, feedback: &Feedback) -> bool {
        let mut inner = self.lock();
        let Some(record) = inner.records.get_mut(id) else {
            return false;
        };
        record.quality = Some(feedback.clone());
        inner.write(&FeedbackRow {
            feedback_for: id.to_owned(),
            score: feedback.score,
            label: feedback.label.clone(),
        });
        true
    }

    pub(crate) fn keep(&self, record: &Record) {
        let mut inner = self.lock();
        inner.write(record);
        if inner.order.len() >= KEPT
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.records.remove(&oldest);
        }
        inner.order.push_back(record.decision_id.clone());
        inner
            .records
            .insert(record.decision_id.clone(), record.clone());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&self, row: &impl Serialize) {
        let Some(sink) = &self.sink else { return };
        let sent = serde_json::to_string(row).is_ok_and(|line| sink.lines.try_send(line).is_ok());
        if !sent {
            metrics::counter!("weir_log_rows_lost_total").increment(1);
        }
    }
}

impl Sink {
    fn start(target: Target) -> Result<Self, LogError> {
        let file = match &target {
            Target::Stdout => None,
            Target::File(path) => Some(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .map_err(|source| LogError::Open {
                        path: path.clone(),
                        source,
                    })?,
            ),
        };
        let (lines, rows) = sync_channel(WAITING);
        std::thread::Builder::new()
            .name("weir-log".to_owned())
            .spawn(move || write_rows(&rows, file))
            .map_err(LogError::Thread)?;
        Ok(Self { target, lines })
    }
}

fn write_rows(rows: &Receiver<String>, mut file: Option<File>) {
    while let Ok(mut line) = rows.recv() {
        line.push('\n');
        let written = match &mut file {
            Some(file) => file.write_all(line.as_bytes()),
            None => std::io::stdout().lock().write_all(line.as_bytes()),
        };
        if let Err(error) = written {
            tracing::error!(%error, "a decision row could not be written");
        }
    }
}

/// A row being filled.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The row so far.
    pub(crate) row: Record,
    received: std::time::Instant,
    decisions: Decisions,
    finished: bool,
}

impl Draft {
    pub(crate) fn new(row: Record, received: std::time::Instant, decisions: Decisions) -> Self {
        Self {
            row,
            received,
            decisions,
            finished: false,
        }
    }

    /// Milliseconds since the request arrived.
    pub(crate) fn elapsed_ms(&self) -> f64 {
        self.received.elapsed().as_secs_f64() * 1e3
    }

    /// Completes the row, keeps it and logs it.
    pub(crate) fn finish(&mut self, finish_reason: Option<String>, error: Option<&str>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.row.latency_ms.total = self.elapsed_ms();
        self.row.outcome.finish_reason = finish_reason;
        self.row.outcome.error = error.map(str::to_owned);
        self.decisions.keep(&self.row);
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
            decisions.keep(&record(&number.to_string()));
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
        decisions.keep(&record("a"));
        let feedback = Feedback {
            score: 4.0,
            label: None,
        };
        assert!(decisions.feedback("a", &feedback));
        assert!(!decisions.feedback("b", &feedback));
        assert_eq!(
            decisions.get("a").and_then(|row| row.quality),
            Some(feedback)
        );
    }
}
