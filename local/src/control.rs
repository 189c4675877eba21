//! How commands talk to a running `weir up`: one JSON line in, JSON lines out, over a Unix socket in its state folder.
//!
//! The socket lies in a folder that only its user can enter, so it asks for no key. This file owns the messages and both
//! ends of the wire; what they do is in `memory.rs`, `world.rs` and `shared.rs`.

use crate::home::{Home, StateDir};
use crate::memory::{IngestLine, IngestOptions, IngestSummary};
use crate::search::{Found, Picture, SearchOptions};
use crate::status::Status;
use crate::upkeep::{Outcome, Task};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use weir_memory::upkeep::Progress;

/// Longest wait for the first reply of a running instance.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a command asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// What is there?
    Status,
    /// Drain and end; `now` does not wait for requests in flight.
    Shutdown {
        /// Whether requests in flight are cut off.
        now: bool,
    },
    /// Read files into the memory.
    Ingest(IngestOptions),
    /// Find passages.
    Search(SearchOptions),
    /// Find passages and what led to them.
    Picture(SearchOptions),
    /// Upkeep of the memory.
    Upkeep(Task),
}

/// What comes back; every answer ends with the end of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Shutdown`]: draining has begun.
    Draining,
    /// While files are read.
    Progress(IngestLine),
    /// All files are read.
    Ingested(IngestSummary),
    /// To [`Request::Search`].
    Found(Vec<Found>),
    /// To [`Request::Picture`].
    Pictured(Picture),
    /// How far a [`Request::Upkeep`] is.
    At(Progress),
    /// Lines of an export.
    Lines(String),
    /// To [`Request::Upkeep`]: it is done.
    Done(Box<Outcome>),
    /// It did not work.
    Failed(String),
}

/// Names the running `weir up`; written when it starts, removed when it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlFile {
    /// The gateway.
    pub gateway: String,
    /// Process id of `weir up`.
    pub pid: u32,
    /// Base URL of the gateway; empty until it listens.
    pub address: String,
    /// Process groups of the engines.
    pub engines: Vec<u32>,
    /// The socket.
    pub socket: PathBuf,
    /// The stack files.
    pub files: Vec<PathBuf>,
    /// When it was started, RFC 3339.
    pub started: String,
}

/// Why a running instance could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Nothing runs.
    #[error("no gateway is running under {home}: start one with `weir up -f stack.yaml`")]
    NothingRuns {
        /// The state folder of all gateways.
        home: PathBuf,
    },
    /// The named gateway does not run.
    #[error("gateway {0:?} is not running: start it with `weir up -f stack.yaml`")]
    NotRunning(String),
    /// Several run and none was named.
    #[error("{} gateways are running ({}): choose one with --name", .0.len(), .0.join(", "))]
    Which(Vec<String>),
    /// The connection failed.
    #[error("talk to gateway {gateway:?}: {source}; see `weir logs gateway`")]
    Io {
        /// The gateway.
        gateway: String,
        /// The cause.
        source: io::Error,
    },
    /// The instance said no.
    #[error("{0}")]
    Failed(String),
    /// The instance said something that this build does not know.
    #[error("gateway {gateway:?} answered something else: is it another version of weir? ({what})")]
    Unexpected {
        /// The gateway.
        gateway: String,
        /// What came.
        what: String,
    },
}

/// A running `weir up`.
#[derive(Clone, Debug)]
pub struct Instance {
    /// What its control file says.
    pub control: ControlFile,
}

/// The replies to one request.
pub struct Replies {
    gateway: String,
    lines: Lines<BufReader<OwnedReadHalf>>,
}

impl Instance {
    /// The gateway `name`, or the only one that runs.
    ///
    /// # Errors
    /// None runs, or several and none was named.
    pub async fn find(home: &Home, name: Option<&str>) -> Result<Self, ControlError> {
        if let Some(name) = name {
            let found = Self::at(&home.gateway(name)).await;
            return found.ok_or_else(|| ControlError::NotRunning(name.to_owned()));
        }
        let mut running = Vec::new();
        for name in home.gateways() {
            running.extend(Self::at(&home.gateway(&name)).await);
        }
        match (running.pop(), running.is_empty()) {
            (None, _) => Err(ControlError::NothingRuns {
                home: home.root().to_path_buf(),
            }),
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                let all = running.iter().chain([&last]);
                Err(ControlError::Which(
                    all.map(|one| one.control.gateway.clone()).collect(),
                ))
            }
        }
    }

    /// The instance that owns a state folder, if one answers there.
    pub async fn at(state: &StateDir) -> Option<Self> {
        let bytes = std::fs::read(state.control_file()).ok()?;
        let control: ControlFile = serde_json::from_slice(&bytes).ok()?;
        UnixStream::connect(&control.socket).await.ok()?;
        Some(Self { control })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The instance is gone.
    pub async fn ask(&self, request: &Request) -> Result<Replies, ControlError> {
        let gateway = self.control.gateway.clone();
        let io = |source| ControlError::Io {
            gateway: gateway.clone(),
            source,
        };
        let stream = UnixStream::connect(&self.control.socket)
            .await
            .map_err(io)?;
        let (read, mut write) = stream.into_split();
        write.write_all(&line(request)).await.map_err(io)?;
        // The write half is dropped with the message behind it; the instance needs no more.
        Ok(Replies {
            gateway,
            lines: BufReader::new(read).lines(),
        })
    }

    /// What it serves.
    ///
    /// # Errors
    /// The instance is gone or does not answer.
    pub async fn status(&self) -> Result<Status, ControlError> {
        let mut replies = self.ask(&Request::Status).await?;
        match tokio::time::timeout(REPLY_TIMEOUT, replies.next()).await {
            Ok(reply) => match reply? {
                Some(Reply::Status(status)) => Ok(*status),
                other => Err(replies.unexpected(&other)),
            },
            Err(_) => Err(ControlError::Io {
                gateway: self.control.gateway.clone(),
                source: io::ErrorKind::TimedOut.into(),
            }),
        }
    }

    /// Asks it to drain, or to end `now`, and waits until it has ended, at most `patience`.
    ///
    /// # Errors
    /// It is still there after that time.
    pub async fn shut_down(
        &self,
        home: &Home,
        now: bool,
        patience: Duration,
    ) -> Result<(), ControlError> {
        let mut replies = self.ask(&Request::Shutdown { now }).await?;
        while replies.next().await?.is_some() {}
        let state = home.gateway(&self.control.gateway);
        let ended = async {
            while !matches!(state.lock(), Ok(Some(_))) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(patience, ended).await.map_err(|_| ControlError::Failed(format!(
            "gateway {:?} (pid {}) is still draining after {} s: wait, or end it with `weir down --now`",
            self.control.gateway, self.control.pid, patience.as_secs(),
        )))
    }
}

impl Replies {
    /// The next reply, `None` at the end.
    ///
    /// # Errors
    /// The connection broke, or the instance reports a failure.
    pub async fn next(&mut self) -> Result<Option<Reply>, ControlError> {
        let gateway = self.gateway.clone();
        let line = self
            .lines
            .next_line()
            .await
            .map_err(|source| ControlError::Io {
                gateway: gateway.clone(),
                source,
            })?;
        let Some(line) = line else { return Ok(None) };
        match serde_json::from_str(&line) {
            Ok(Reply::Failed(message)) => Err(ControlError::Failed(message)),
            Ok(reply) => Ok(Some(reply)),
            Err(error) => Err(ControlError::Unexpected {
                gateway,
                what: error.to_string(),
            }),
        }
    }

    /// The error for a reply that does not fit the question.
    pub fn unexpected(&self, reply: &Option<Reply>) -> ControlError {
        let what = match reply {
            Some(reply) => format!("{reply:?}").chars().take(60).collect(),
            None => "nothing".to_owned(),
        };
        ControlError::Unexpected {
            gateway: self.gateway.clone(),
            what,
        }
    }
}

/// One message as a line.
pub(crate) fn line(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(message).expect("control messages are plain data");
    bytes.push(b'\n');
    bytes
}
