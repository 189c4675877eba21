//! One engine's process, from start to end: start it through the shim, wait until it can generate, watch it, start it
//! again when it crashes, after pauses that grow (`pause.rs`).
//!
//! The task owns the process; everybody else reads [`EngineState`] from a watch channel. It does not know pools, plans or
//! requests. The process group is the shim's (`shim.rs`), so that ending the group ends the engine's own children too.

use super::launch::{EngineSpec, free_port};
use super::log::last_lines;
use super::output::{self, OutputLog};
use super::pause;
use crate::event::{Event, Events};
use crate::probe::{self, Probe, Unfit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the shim may take to end its engine before the group is killed from here.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Lines of the engine's log that an error message shows.
const TAIL_LINES: usize = 8;

/// How long the last output of an engine that ended may take to reach its log.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// Begins the line that stands in the log before each start.
const START_MARK: &str = "--- weir starts ";

/// How engines are started on this machine.
#[derive(Clone)]
pub(crate) struct Launcher {
    /// This program and the words that make it the shim.
    pub(crate) shim: Vec<OsString>,
    /// How long an engine may take until it can generate.
    pub(crate) start_timeout: Duration,
    /// Tasks that own engine processes; `weir up` ends after they have.
    pub(crate) tasks: TaskTracker,
    /// Who is told what happens.
    pub(crate) events: Events,
}

/// A running engine; dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Engine {
    spec: EngineSpec,
    state: watch::Receiver<EngineState>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// What everybody may know about an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EngineState {
    /// Where it is in its life.
    pub(crate) phase: Phase,
    /// Base URL of the process, when there is one.
    pub(crate) url: Option<String>,
    /// The shim's process id, which is the group's too.
    pub(crate) pid: Option<u32>,
    /// Starts after the first.
    pub(crate) restarts: u32,
    /// Why the last process ended.
    pub(crate) last_error: Option<StartError>,
}

/// Where an engine is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The process runs and cannot generate yet.
    #[default]
    Loading,
    /// It generates.
    Ready,
    /// It ended and is started again after a pause.
    Waiting,
    /// It was told to end.
    Stopped,
}

/// Why an engine does not serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The process could not be created.
    #[error("engine of pool {pool}: cannot start {program}: {reason}")]
    Spawn {
        /// The pool.
        pool: String,
        /// The program.
        program: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The process ended.
    #[error(
        "engine of pool {pool} ended with {how}{}; whole log: {log}",
        quoted(tail)
    )]
    Exited {
        /// The pool.
        pool: String,
        /// `exit code 1` or `signal 9`.
        how: String,
        /// The last lines of its log.
        tail: Vec<String>,
        /// Where the whole log is.
        log: PathBuf,
    },
    /// The process answers and cannot do what the pool is for.
    #[error("engine of pool {pool}: {reason}")]
    Unfit {
        /// The pool.
        pool: String,
        /// What it lacks.
        reason: String,
    },
    /// The process runs and does not answer.
    #[error(
        "engine of pool {pool} could not generate within {seconds} s{}; a big model on a slow disk may need more \
         (--start-timeout), a hanging engine another build of llama-server; whole log: {log}",
        quoted(tail)
    )]
    Timeout {
        /// The pool.
        pool: String,
        /// The bound.
        seconds: u64,
        /// The last lines of its log.
        tail: Vec<String>,
        /// Where the whole log is.
        log: PathBuf,
    },
}

impl Engine {
    /// Starts supervising; returns at once.
    pub(crate) fn start(spec: EngineSpec, launcher: Launcher, log: PathBuf, probe: Probe) -> Self {
        let (publish, state) = watch::channel(EngineState::default());
        let stop = CancellationToken::new();
        let tasks = launcher.tasks.clone();
        let life = Life {
            spec: spec.clone(),
            launcher,
            log,
            probe,
            publish,
            stop: stop.clone(),
        };
        let task = tasks.spawn(life.run());
        Self {
            spec,
            state,
            stop,
            task,
        }
    }

    /// What it was started with.
    pub(crate) fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    /// What it does now.
    pub(crate) fn state(&self) -> EngineState {
        self.state.borrow().clone()
    }

    /// Follows what it does.
    pub(crate) fn watch(&self) -> watch::Receiver<EngineState> {
        self.state.clone()
    }

    /// Waits for the outcome of the first start.
    pub(crate) async fn first_start(&self) -> Result<String, StartError> {
        let mut state = self.state.clone();
        let decided = state
            .wait_for(|s| s.phase == Phase::Ready || s.last_error.is_some())
            .await;
        let Ok(decided) = decided else {
            return Err(self.spawn_error("it was told to end"));
        };
        match (&decided.last_error, &decided.url) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(url)) => Ok(url.clone()),
            (None, None) => Err(self.spawn_error("it has no address")),
        }
    }

    fn spawn_error(&self, reason: &str) -> StartError {
        StartError::Spawn {
            pool: self.spec.pool.clone(),
            program: self.spec.program.clone(),
            reason: reason.into(),
        }
    }

    /// Ends the process and waits until it is gone.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        // A task that panicked has dropped its process, which kills it.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What the supervising task works with.
struct Life {
    spec: EngineSpec,
    launcher: Launcher,
    log: PathBuf,
    probe: Probe,
    publish: watch::Sender<EngineState>,
    stop: CancellationToken,
}

/// A started process and where it listens.
struct Process {
    child: Child,
    /// The pipe that the shim watches, held apart from `child`: waiting for a child closes its standard input.
    owner: Option<ChildStdin>,
    group: Option<Pid>,
    url: String,
    output: Vec<tokio::task::JoinHandle<()>>,
}

impl Life {
    async fn run(self) {
        let mut last_pause = None;
        while !self.stop.is_cancelled() {
            let (error, served) = self.live_once().await;
            let Some(error) = error else { break };
            let pause = pause::after(last_pause, served);
            tracing::warn!(pool = %self.spec.pool, pause_ms = pause.as_millis(), "{error}");
            self.publish.send_modify(|state| {
                state.phase = Phase::Waiting;
                state.url = None;
                state.pid = None;
                state.last_error = Some(error);
            });
            let again = self
                .stop
                .run_until_cancelled(tokio::time::sleep(pause))
                .await;
            if again.is_none() {
                break;
            }
            last_pause = Some(pause);
            self.publish.send_modify(|state| state.restarts += 1);
        }
        self.publish.send_modify(|state| {
            state.phase = Phase::Stopped;
            state.url = None;
            state.pid = None;
        });
    }

    /// One process from start to end: why it ended (`None`: it was told to) and how long it served.
    async fn live_once(&self) -> (Option<StartError>, Duration) {
        let mut process = match self.spawn() {
            Ok(process) => process,
            Err(error) => return (Some(self.cannot_spawn(&error)), Duration::ZERO),
        };
        self.publish.send_modify(|state| {
            state.phase = Phase::Loading;
            state.pid = process.child.id();
            state.url = Some(process.url.clone());
        });
        let deadline = Instant::now() + self.launcher.start_timeout;
        let url = process.url.clone();
        let loaded = tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(false),
            status = process.ended() => Err(self.exited(&status)),
            fit = probe::until_ready(&self.probe, &url) => match fit {
                Ok(()) => Ok(true),
                Err(unfit) => Err(self.unfit(&unfit)),
            },
            () = tokio::time::sleep_until(deadline) => Err(self.timed_out()),
        };
        let error = match loaded {
            Err(error) => Some(error),
            Ok(false) => None,
            Ok(true) => {
                let since = Instant::now();
                self.publish.send_modify(|state| {
                    state.phase = Phase::Ready;
                    state.last_error = None;
                });
                let error = tokio::select! {
                    biased;
                    () = self.stop.cancelled() => None,
                    status = process.ended() => Some(self.exited(&status)),
                };
                process.end().await;
                return (error, since.elapsed());
            }
        };
        process.end().await;
        (error, Duration::ZERO)
    }

    fn spawn(&self) -> io::Result<Process> {
        let port = free_port()?;
        let (shim, words) = self
            .launcher
            .shim
            .split_first()
            .ok_or(io::ErrorKind::NotFound)?;
        let mut command = Command::new(shim);
        command
            .args(words)
            .arg("--")
            .arg(&self.spec.program)
            .args(self.spec.args(port))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut log = OutputLog::open(&self.log, self.log_failed());
        let program = self.spec.program.display();
        log.write(format!("{START_MARK}{program} on port {port}\n").as_bytes());
        let log = Arc::new(Mutex::new(log));
        let mut child = command.spawn()?;
        let out = child
            .stdout
            .take()
            .map(|out| tokio::spawn(output::copy(out, Arc::clone(&log))));
        let err = child
            .stderr
            .take()
            .map(|err| tokio::spawn(output::copy(err, log)));
        let output = out.into_iter().chain(err).collect();
        let group = child.id().map(|pid| Pid::from_raw(pid.cast_signed()));
        let owner = child.stdin.take();
        Ok(Process {
            child,
            owner,
            group,
            url: format!("http://127.0.0.1:{port}"),
            output,
        })
    }

    /// Says that the log cannot be written.
    fn log_failed(&self) -> impl FnOnce(&io::Error) + Send + 'static {
        let (pool, log) = (self.spec.pool.clone(), self.log.display().to_string());
        let events = Arc::clone(&self.launcher.events);
        move |error| {
            let what = format!(
                "engine of pool {pool}: its log {log} cannot be written, so what it says is lost: {error}"
            );
            events(Event::Warning(what));
        }
    }

    fn cannot_spawn(&self, error: &io::Error) -> StartError {
        StartError::Spawn {
            pool: self.spec.pool.clone(),
            program: self.spec.program.clone(),
            reason: error.to_string(),
        }
    }

    fn exited(&self, status: &io::Result<ExitStatus>) -> StartError {
        StartError::Exited {
            pool: self.spec.pool.clone(),
            how: describe(status),
            tail: self.tail(),
            log: self.log.clone(),
        }
    }

    fn unfit(&self, unfit: &Unfit) -> StartError {
        StartError::Unfit {
            pool: self.spec.pool.clone(),
            reason: unfit.to_string(),
        }
    }

    fn timed_out(&self) -> StartError {
        StartError::Timeout {
            pool: self.spec.pool.clone(),
            seconds: self.launcher.start_timeout.as_secs(),
            tail: self.tail(),
            log: self.log.clone(),
        }
    }

    /// The last lines since the last start.
    fn tail(&self) -> Vec<String> {
        let lines = last_lines(&self.log, TAIL_LINES).unwrap_or_default();
        let start = lines.iter().rposition(|line| line.starts_with(START_MARK));
        lines[start.map_or(0, |mark| mark + 1)..].to_vec()
    }
}

impl Process {
    /// Waits until the process has ended and what it said is in its log.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        let output = futures_util::future::join_all(self.output.drain(..));
        let _ = tokio::time::timeout(LAST_OUTPUT, output).await;
        status
    }

    /// Closes the shim's input, which ends the engine, and makes sure that nothing of the group is left.
    async fn end(mut self) {
        drop(self.owner.take());
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await;
        if let Some(group) = self.group {
            // ESRCH is the usual answer: everything has ended already.
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = self.child.wait().await;
    }
}

fn describe(status: &io::Result<ExitStatus>) -> String {
    let Ok(status) = status else {
        return "an unknown status".into();
    };
    match (status.code(), status.signal()) {
        // The shim reports its engine's signal as shells do.
        (Some(code), _) if code > 128 => format!("signal {}", code - 128),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}

fn quoted(tail: &[String]) -> String {
    let mut text = String::new();
    for line in tail {
        text.push_str("\n    | ");
        text.push_str(line);
    }
    text
}
