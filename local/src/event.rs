//! What happens during `weir up`, told to whoever shows it: the binary prints, tests collect.

use crate::status::Status;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use weir_plan::Performance;

/// Receives every event, from any thread. Must not block.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// Something a person may want to see.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The gateway's state folder belongs to this process from now on.
    Owned {
        /// Where the gateway's own log is to be written.
        log: PathBuf,
    },
    /// A model or embedder is on its way.
    Fetching {
        /// The pool or memory it is for.
        name: String,
        /// Bytes on the disk.
        downloaded: u64,
        /// Bytes of the whole, when known.
        total: Option<u64>,
    },
    /// The model's file is there and, when a checksum was given, is the right one.
    Fetched {
        /// The pool or memory it is for.
        name: String,
    },
    /// An engine was started.
    EngineLoading {
        /// Its pool.
        pool: String,
    },
    /// An engine has generated its first token.
    EngineReady {
        /// Its pool.
        pool: String,
        /// Time since it was started.
        took: Duration,
    },
    /// An engine's speed is being measured.
    EngineMeasuring {
        /// Its pool.
        pool: String,
    },
    /// An engine's speed is known.
    EngineMeasured {
        /// Its pool.
        pool: String,
        /// The speed.
        performance: Performance,
    },
    /// An engine ended while it served; it is started again.
    EngineLost {
        /// Its pool.
        pool: String,
        /// Why.
        reason: String,
    },
    /// An engine that had ended serves again.
    EngineBack {
        /// Its pool.
        pool: String,
    },
    /// The gateway answers.
    Serving(Box<Status>),
    /// The stack changed and is served now.
    Reloaded(Box<Status>),
    /// The stack changed and is not served; the last good one is.
    ReloadRefused {
        /// Why.
        reason: String,
    },
    /// Something is not as asked, and the gateway works without it.
    Warning(String),
    /// No new requests; those in flight finish.
    Draining {
        /// What asked for it.
        why: &'static str,
    },
}
