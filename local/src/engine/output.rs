//! What an engine says: its two outputs, line after line into its log.
//!
//! They are read to their end whatever becomes of the log: an engine whose pipe is full stands still. That a log cannot be
//! written is told once. Files and their rotation are `log.rs`; who starts engines is `supervisor.rs`.

use super::log::{RotatingLog, open_log};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes read at a time.
const PIECE_BYTES: usize = 8192;

/// Told why a log cannot be written.
type Told = Box<dyn FnOnce(&io::Error) + Send>;

/// The log of one process, as far as it can be written.
pub(super) struct OutputLog {
    file: Option<RotatingLog>,
    told: Option<Told>,
}

impl OutputLog {
    /// Opens the log. `told` is called once, here or later, when it cannot be opened or a write to it fails.
    pub(super) fn open(path: &Path, told: impl FnOnce(&io::Error) + Send + 'static) -> Self {
        let opened = open_log(path);
        let mut log = Self {
            file: None,
            told: Some(Box::new(told)),
        };
        match opened {
            Ok(file) => log.file = Some(file),
            Err(error) => log.failed(&error),
        }
        log
    }

    /// Appends what can be appended. After a failure the next write tries again.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let written = self.file.as_mut().map(|file| file.write_all(bytes));
        if let Some(Err(error)) = written {
            self.failed(&error);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if let Some(told) = self.told.take() {
            told(error);
        }
    }
}

/// Reads one output until the process has closed it.
pub(super) async fn copy(mut output: impl AsyncRead + Unpin, log: Arc<Mutex<OutputLog>>) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(read @ 1..) = output.read(&mut piece).await {
        let mut log = log.lock().expect("no writer of this log panics");
        log.write(&piece[..read]);
    }
}

// `/dev/full` is a disk that is full.
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use crate::engine::EngineSpec;
    use crate::engine::supervisor::{Engine, Launcher, StartError};
    use crate::event::Event;
    use crate::files;
    use crate::probe::Probe;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tokio_util::task::TaskTracker;
    use weir_engine::Engines;

    /// An "engine" that a shell makes of these words, and what was warned of until it ended.
    async fn ended(script: &str, log: &Path) -> (StartError, Vec<String>) {
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let warned = Arc::clone(&warnings);
        let launcher = Launcher {
            shim: ["sh", "-c", script].map(Into::into).to_vec(),
            start_timeout: Duration::from_secs(20),
            tasks: TaskTracker::new(),
            events: Arc::new(move |event| {
                if let Event::Warning(what) = event {
                    warned.lock().unwrap().push(what);
                }
            }),
        };
        let shell = PathBuf::from("/bin/sh");
        let spec = EngineSpec {
            pool: "small".into(),
            model: "small-model".into(),
            stamp: files::stamp(&shell).unwrap(),
            program: shell.clone(),
            file: shell,
            context_tokens: 512,
            slots: 1,
            threads: 1,
            embeds: None,
            extra_args: Vec::new(),
        };
        let probe = Probe::new(Engines::new(), "small", 512, None);
        let engine = Engine::start(spec, launcher, log.to_owned(), probe);
        let error = engine.first_start().await.unwrap_err();
        engine.stop().await;
        let warnings = warnings.lock().unwrap().clone();
        (error, warnings)
    }

    #[tokio::test]
    async fn an_engine_is_read_to_its_end_when_its_log_cannot_be_written_and_that_is_told_once() {
        // More than a pipe holds, on both outputs.
        let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 7";
        let folder = tempfile::tempdir().unwrap();
        for log in [
            Path::new("/dev/full"),
            &folder.path().join("none/engine.log"),
        ] {
            let (error, warnings) = ended(script, log).await;
            assert!(error.to_string().contains("exit code 7"), "{error}");
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            let told = format!("its log {} cannot be written", log.display());
            assert!(warnings[0].contains(&told), "{warnings:?}");
        }
    }

    #[tokio::test]
    async fn both_outputs_of_an_engine_are_in_its_log_behind_the_mark_of_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("engine.log");
        let (_, warnings) = ended("echo out; echo err >&2; exit 7", &log).await;
        let text = std::fs::read_to_string(&log).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("--- weir starts /bin/sh"), "{text}");
        lines[1..].sort_unstable();
        assert_eq!((&lines[1..], warnings.len()), (&["err", "out"][..], 0));
    }
}
