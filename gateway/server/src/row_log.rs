//! The way of rows to standard output or a file: a bounded queue and a thread of its own.
//!
//! The thread makes JSON of rows and writes them some at a time, so that neither a request nor a slow disk waits for the other. It
//! is woken by the first row after a while without any; then it looks again by itself as long as rows come. A row that the queue
//! has no room for, or that cannot be written, is counted as lost. Dropping a log waits until its rows are written, for a while.
//! The file is `rotating_log.rs`; what a row says is `record.rs`, and which rows there are is `decisions.rs`.

use crate::record::{FeedbackRow, Record};
use crate::rotating_log::RotatingLog;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use weir_plan::LogSink;

/// Rows that may wait for the log.
const WAITING: usize = 4096;
/// Rows of so much time are written at once.
const GATHERED: Duration = Duration::from_millis(50);
/// A write of several rows is about as long as this at most, in bytes.
const WRITTEN_AT_ONCE: usize = 256 << 10;
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

/// A line of the log.
#[derive(Debug)]
pub(crate) enum Row {
    Decision(Arc<Record>),
    Feedback(FeedbackRow),
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct RowLog {
    target: Target,
    queue: Arc<Queue>,
    /// Disconnected when the last row is written.
    ended: Receiver<()>,
    lost: Arc<AtomicU64>,
}

/// Rows on their way to the thread.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    told: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    rows: Vec<Row>,
    /// Whether the thread must be woken for the next row.
    asleep: bool,
    ending: bool,
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
        let (ending, ended) = channel::<()>();
        let queue = Arc::new(Queue::default());
        let (rows, unwritten) = (Arc::clone(&queue), Arc::clone(&lost));
        std::thread::Builder::new()
            .name("weir-log".to_owned())
            .spawn(move || {
                let mut writer = Writer::new(file, unwritten);
                while let Some(rows) = rows.next() {
                    writer.write(&rows);
                }
                drop(ending);
            })
            .map_err(LogError::Thread)?;
        Ok(Self {
            target,
            queue,
            ended,
            lost,
        })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Hands a row to the thread.
    pub(crate) fn write(&self, row: Row) {
        let mut waiting = self.queue.lock();
        if waiting.rows.len() >= WAITING {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.rows.push(row);
        if std::mem::take(&mut waiting.asleep) {
            self.queue.told.notify_one();
        }
    }
}

impl Drop for RowLog {
    fn drop(&mut self) {
        self.queue.lock().ending = true;
        self.queue.told.notify_one();
        if self.ended.recv_timeout(DRAIN) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last decision rows were not written within {DRAIN:?}");
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows that came in the last [`GATHERED`], or, after a pause, with the first one; `None` when the log has ended.
    fn next(&self) -> Option<Vec<Row>> {
        let mut waiting = self.lock();
        loop {
            if !waiting.ending {
                let gathering = self
                    .told
                    .wait_timeout_while(waiting, GATHERED, |waiting| !waiting.ending);
                waiting = gathering.unwrap_or_else(PoisonError::into_inner).0;
            }
            if !waiting.rows.is_empty() {
                return Some(std::mem::take(&mut waiting.rows));
            }
            if waiting.ending {
                return None;
            }
            waiting.asleep = true;
            let asleep = |waiting: &mut Waiting| waiting.asleep && !waiting.ending;
            let woken = self.told.wait_while(waiting, asleep);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Writes rows, some at a time.
struct Writer {
    /// `None` writes to standard output.
    file: Option<RotatingLog>,
    lost: Arc<AtomicU64>,
    lines: Vec<u8>,
    /// Where each row's line ends in `lines`.
    ends: Vec<usize>,
}

impl Writer {
    fn new(file: Option<RotatingLog>, lost: Arc<AtomicU64>) -> Self {
        Self {
            file,
            lost,
            lines: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn write(&mut self, rows: &[Row]) {
        for row in rows {
            let begin = self.lines.len();
            let made = match row {
                Row::Decision(record) => serde_json::to_writer(&mut self.lines, &**record),
                Row::Feedback(feedback) => serde_json::to_writer(&mut self.lines, feedback),
            };
            if let Err(error) = made {
                self.lines.truncate(begin);
                self.lost.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "a decision row is no JSON");
                continue;
            }
            self.lines.push(b'\n');
            self.ends.push(self.lines.len());
            if self.lines.len() >= WRITTEN_AT_ONCE {
                self.flush();
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        let (written, error) = match &mut self.file {
            Some(file) => write_all(file, &self.lines),
            None => write_all(&mut io::stdout().lock(), &self.lines),
        };
        if let Some(error) = error {
            let unwritten = self.ends.iter().filter(|end| **end > written).count();
            self.lost.fetch_add(unwritten as u64, Ordering::Relaxed);
            tracing::error!(%error, "{unwritten} decision rows could not be written");
        }
        if let Some(error) = self.file.as_mut().and_then(RotatingLog::unrotated) {
            tracing::warn!(%error, "the decision log could not be rotated and grows on");
        }
        self.ends.clear();
        self.lines.clear();
        self.lines.shrink_to(WRITTEN_AT_ONCE);
    }
}

/// Writes as much as can be: the bytes written, and why there are not more.
fn write_all(file: &mut impl Write, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
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
        let record = Record {
            request_id: "x".repeat(2000),
            ..Record::default()
        };
        let record = Arc::new(record);
        for _ in 0..WAITING {
            log.write(Row::Decision(Arc::clone(&record)));
        }
        drop(log);
        let lines = std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines, lost.load(Ordering::Relaxed)), (WAITING, 0));
    }
}
