//! The way of rows to standard output or a file: a bounded channel and a thread of its own.
//!
//! A slow disk delays no request; a row that does not fit the channel, or cannot be written, is counted as lost. Dropping a
//! log waits until its rows are written, for a while. The file is `rotating_log.rs`; what a row says is `record.rs`, and
//! which rows there are is `decisions.rs`.

use crate::rotating_log::RotatingLog;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::Duration;
use weir_plan::LogSink;

/// Rows that may wait for the log.
const WAITING: usize = 4096;
/// Name of the log in the state directory.
const FILE_NAME: &str = "decisions.jsonl";
/// The file grows to this size; then it becomes `decisions.jsonl.1` and a new one begins.
const ROTATE_AT_BYTES: u64 = 64 << 20;
/// Longest that the end waits for rows; standard output may be a pipe that nobody reads.
const DRAIN: Duration = Duration::from_secs(5);

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
        source: io::Error,
    },
    /// No thread could be started.
    #[error("no thread for the decision log could be started")]
    Thread(#[source] io::Error),
}

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    File(PathBuf),
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct RowLog {
    target: Target,
    /// `None` once the log is ending.
    lines: Option<SyncSender<String>>,
    /// Disconnected when the last row is written.
    ended: Receiver<()>,
    lost: Arc<AtomicU64>,
}

impl Target {
    pub(crate) fn of(sink: LogSink, state_dir: Option<&Path>) -> Result<Option<Self>, LogError> {
        Ok(match sink {
            LogSink::None => None,
            LogSink::Stdout => Some(Self::Stdout),
            LogSink::File => {
                let folder = state_dir.ok_or(LogError::NoStateDir)?;
                Some(Self::File(folder.join(FILE_NAME)))
            }
        })
    }
}

impl RowLog {
    /// Rows go to `target` from now on; those that are lost are added to `lost`.
    pub(crate) fn start(target: Target, lost: Arc<AtomicU64>) -> Result<Self, LogError> {
        let file = match &target {
            Target::Stdout => None,
            Target::File(path) => {
                let opened = RotatingLog::open(path, ROTATE_AT_BYTES);
                Some(opened.map_err(|source| LogError::Open {
                    path: path.clone(),
                    source,
                })?)
            }
        };
        let (lines, rows) = sync_channel(WAITING);
        let (ending, ended) = channel::<()>();
        let unwritten = Arc::clone(&lost);
        std::thread::Builder::new()
            .name("weir-log".to_owned())
            .spawn(move || {
                write_rows(&rows, file, &unwritten);
                drop(ending);
            })
            .map_err(LogError::Thread)?;
        Ok(Self {
            target,
            lines: Some(lines),
            ended,
            lost,
        })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Hands a row, without its end of line, to the thread.
    pub(crate) fn write(&self, row: String) {
        let sent = self.lines.as_ref().map(|lines| lines.try_send(row));
        if !matches!(sent, Some(Ok(()))) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for RowLog {
    fn drop(&mut self) {
        self.lines = None;
        if self.ended.recv_timeout(DRAIN) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last decision rows were not written within {DRAIN:?}");
        }
    }
}

fn write_rows(rows: &Receiver<String>, mut file: Option<RotatingLog>, lost: &AtomicU64) {
    while let Ok(mut row) = rows.recv() {
        row.push('\n');
        let written = match &mut file {
            Some(file) => file.write_all(row.as_bytes()),
            None => io::stdout().lock().write_all(row.as_bytes()),
        };
        if let Err(error) = written {
            lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "a decision row could not be written");
        }
        if let Some(error) = file.as_mut().and_then(RotatingLog::unrotated) {
            tracing::warn!(%error, "the decision log could not be rotated and grows on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_waits_for_its_last_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let lost = Arc::new(AtomicU64::new(0));
        let log = RowLog::start(Target::File(path.clone()), Arc::clone(&lost)).unwrap();
        let row = "x".repeat(2000);
        for _ in 0..WAITING {
            log.write(row.clone());
        }
        drop(log);
        let lines = std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines, lost.load(Ordering::Relaxed)), (WAITING, 0));
    }
}
