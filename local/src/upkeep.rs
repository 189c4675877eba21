//! Upkeep of a memory, the same for a running instance and for files that nobody has open: one task in, one outcome out.
//!
//! What a task does is weir-memory's `upkeep`; this file turns it into messages that cross the control socket. A task blocks
//! the thread that performs it and tells how far it is.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use weir_memory::upkeep::{
    Diagnosis, Erased, ExportError, Exported, ImportOptions, Imported, Progress, PrunePolicy,
    Pruned, Shown, Stats, TuneError, TuneOptions, Tuned,
};
use weir_memory::{Memory, NodeId, ReadError, WriteError};

/// Bytes of an export that travel together.
const CHUNK_BYTES: usize = 256 << 10;

/// Pause between two slices of pruning, so that requests go first.
const SLICE_PAUSE: Duration = Duration::from_millis(5);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Task {
    /// Write everything out.
    Export,
    /// Read an export in.
    #[serde(rename_all = "camelCase")]
    Import {
        /// The file, absolute.
        file: PathBuf,
        /// Whether vectors are left out.
        without_vectors: bool,
    },
    /// Remove everything about a subject.
    Erase {
        /// The subject.
        subject: String,
        /// Its tenant; `None` means all.
        tenant: Option<String>,
    },
    /// Count what is there.
    Stats,
    /// Show a node.
    Show(NodeId),
    /// Look for what is wrong.
    Doctor {
        /// Whether it is repaired.
        repair: bool,
    },
    /// Let go of edges and traces.
    Prune(PrunePolicy),
    /// Measure what searches find, and let them look as hard as that needs.
    Tune(TuneOptions),
}

/// What comes while a task is performed.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// How far it is.
    At(Progress),
    /// Lines of an export.
    Lines(String),
}

/// What came of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Of an export.
    Exported(Exported),
    /// Of an import.
    Imported(Imported),
    /// Of an erasure.
    Erased(Erased),
    /// Counts, with the bytes of the memory's folder.
    #[serde(rename_all = "camelCase")]
    Stats {
        /// The counts.
        stats: Stats,
        /// Bytes of its files.
        bytes_on_disk: u64,
    },
    /// A node; `None` when it is not there.
    Shown(Option<Shown>),
    /// Of a check-up.
    Diagnosed(Diagnosis),
    /// Of pruning.
    Pruned(Pruned),
    /// Of a measurement.
    Tuned(Tuned),
}

/// Why a task was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpkeepError {
    /// The memory could not be written out.
    #[error("export: {}", weir_plan::chain(.0))]
    Export(#[from] ExportError),
    /// The file cannot be opened.
    #[error("import {}: {source}", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file cannot be read in.
    #[error("import {}: {}", file.display(), weir_plan::chain(.source))]
    Import {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: weir_memory::upkeep::ImportError,
    },
    /// The memory cannot be read.
    #[error("read the memory: {}", weir_plan::chain(.0))]
    Read(#[from] ReadError),
    /// The memory cannot be written.
    #[error("write the memory: {}", weir_plan::chain(.0))]
    Write(#[from] WriteError),
    /// The index could not be measured.
    #[error("measure the index: {}", weir_plan::chain(.0))]
    Tune(#[from] TuneError),
    /// The process was told to end.
    #[error(
        "the gateway was told to end: start it again and repeat the command, what was done is kept"
    )]
    Stopped,
}

/// Performs a task on the memory in `folder`. `tell` is called from this thread and may end the task.
///
/// # Errors
/// The task was not done, or not to its end.
pub fn perform(
    memory: &Memory,
    folder: &Path,
    task: &Task,
    tell: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<Outcome, UpkeepError> {
    match task {
        Task::Export => export(memory, tell).map(Outcome::Exported),
        Task::Import {
            file,
            without_vectors,
        } => {
            let options = ImportOptions {
                without_vectors: *without_vectors,
            };
            import(memory, file, options, tell).map(Outcome::Imported)
        }
        Task::Erase { subject, tenant } => {
            Ok(Outcome::Erased(memory.erase(subject, tenant.as_deref())?))
        }
        Task::Stats => Ok(Outcome::Stats {
            stats: memory.stats()?,
            bytes_on_disk: bytes_in(folder),
        }),
        Task::Show(id) => Ok(Outcome::Shown(memory.show(*id)?)),
        Task::Doctor { repair } => Ok(Outcome::Diagnosed(memory.doctor(*repair)?)),
        Task::Prune(policy) => prune(memory, *policy, tell).map(Outcome::Pruned),
        Task::Tune(options) => tune(memory, *options, tell).map(Outcome::Tuned),
    }
}

fn export(
    memory: &Memory,
    tell: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<Exported, UpkeepError> {
    let tell = std::cell::RefCell::new(tell);
    let mut chunks = Chunks {
        tell: &tell,
        bytes: Vec::new(),
    };
    let done = memory.export(&mut chunks, &mut |at| {
        // The next lines find out that nobody listens.
        let _ = (tell.borrow_mut())(Step::At(at));
    });
    match done {
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(UpkeepError::Stopped)
        }
        other => Ok(other?),
    }
}

/// Told to whoever waits for an export.
type Tell<'a> = std::cell::RefCell<&'a mut dyn FnMut(Step) -> ControlFlow<()>>;

/// Gathers lines into chunks.
struct Chunks<'a, 'b> {
    tell: &'a Tell<'b>,
    bytes: Vec<u8>,
}

impl Write for Chunks<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let text = String::from_utf8(std::mem::take(&mut self.bytes)).map_err(io::Error::other)?;
        match (self.tell.borrow_mut())(Step::Lines(text)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

fn import(
    memory: &Memory,
    file: &Path,
    options: ImportOptions,
    tell: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<Imported, UpkeepError> {
    let opened = File::open(file).map_err(|source| UpkeepError::Open {
        file: file.to_path_buf(),
        source,
    })?;
    let mut input = BufReader::new(opened);
    let done = memory.import(&mut input, options, &mut |at| tell(Step::At(at)));
    done.map_err(|source| UpkeepError::Import {
        file: file.to_path_buf(),
        source,
    })
}

fn prune(
    memory: &Memory,
    policy: PrunePolicy,
    tell: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<Pruned, UpkeepError> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let mut pruning = memory.prune(policy, now_ms);
    while !pruning.step()? {
        if tell(Step::At(Progress::default())).is_break() {
            return Err(UpkeepError::Stopped);
        }
        std::thread::sleep(SLICE_PAUSE);
    }
    Ok(pruning.pruned())
}

fn tune(
    memory: &Memory,
    options: TuneOptions,
    tell: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<Tuned, UpkeepError> {
    let mut measuring = memory.tune(options)?;
    while !measuring.step()? {
        if tell(Step::At(measuring.progress())).is_break() {
            return Err(UpkeepError::Stopped);
        }
    }
    Ok(measuring.finish()?)
}

/// Bytes of the files in a folder; what cannot be read counts nothing.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok());
    files
        .filter(std::fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}
