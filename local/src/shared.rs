//! What the parts of one `weir up` know of each other: its status, its memory, and how to tell it to end.
//!
//! `world.rs` writes it when something changes, `listen.rs` reads it for commands. It holds no engine, only views of them.

use crate::engine::{EngineState, Phase};
use crate::stage::OpenMemory;
use crate::status::{GatewayPhase, MemoryStatus, PoolStatus, RouterStatus, Status};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Shared by the tasks of one `weir up`.
pub(crate) struct Shared {
    /// The gateway's name.
    pub(crate) gateway: String,
    /// The stack files.
    pub(crate) files: Vec<PathBuf>,
    /// When this process was started, RFC 3339.
    pub(crate) started: String,
    /// Requests in flight finish, then everything ends.
    pub(crate) drain: CancellationToken,
    /// Everything ends at once.
    pub(crate) now: CancellationToken,
    /// New passages wait for vectors.
    pub(crate) new_passages: Arc<Notify>,
    view: Mutex<View>,
}

/// What is served.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) phase: GatewayPhase,
    pub(crate) address: String,
    pub(crate) plans: u64,
    pub(crate) reload_refused: Option<String>,
    pub(crate) pools: Vec<PoolView>,
    pub(crate) memory: Option<OpenMemory>,
    pub(crate) router: RouterStatus,
}

/// A pool and, when its engine is ours, what that does.
#[derive(Clone)]
pub(crate) struct PoolView {
    /// Everything but the engine's state.
    pub(crate) fixed: PoolStatus,
    pub(crate) engine: Option<watch::Receiver<EngineState>>,
}

impl Shared {
    pub(crate) fn new(gateway: String, files: Vec<PathBuf>) -> Self {
        let view = View {
            phase: GatewayPhase::Starting,
            address: String::new(),
            plans: 0,
            reload_refused: None,
            pools: Vec::new(),
            memory: None,
            router: RouterStatus::default(),
        };
        Self {
            gateway,
            files,
            started: jiff::Timestamp::now().to_string(),
            drain: CancellationToken::new(),
            now: CancellationToken::new(),
            new_passages: Arc::new(Notify::new()),
            view: Mutex::new(view),
        }
    }

    /// The view, to read or to change.
    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `weir status` shows.
    pub(crate) fn status(&self) -> Status {
        let view = self.view().clone();
        let pools: Vec<PoolStatus> = view.pools.iter().map(PoolView::status).collect();
        let ready = view.phase == GatewayPhase::Serving && pools.iter().any(|pool| pool.ready);
        Status {
            gateway: self.gateway.clone(),
            ready,
            phase: view.phase,
            address: view.address,
            pid: std::process::id(),
            started: self.started.clone(),
            files: self.files.clone(),
            plans: view.plans,
            reload_refused: view.reload_refused,
            pools,
            memory: view.memory.as_ref().map(OpenMemory::status),
            router: view.router,
        }
    }
}

impl PoolView {
    fn status(&self) -> PoolStatus {
        let mut status = self.fixed.clone();
        let Some(engine) = &self.engine else {
            return status;
        };
        let state = engine.borrow().clone();
        status.ready = state.phase == Phase::Ready;
        let reason = match state.phase {
            Phase::Ready => "Serving",
            Phase::Loading if state.restarts == 0 => "Loading",
            Phase::Loading | Phase::Waiting => "Restarting",
            Phase::Stopped => "Stopped",
        };
        reason.clone_into(&mut status.reason);
        status.last_error = state.last_error.map(|error| error.to_string());
        status.restarts = state.restarts;
        status.pid = state.pid;
        status
    }
}

impl OpenMemory {
    fn status(&self) -> MemoryStatus {
        let counts = self.memory.counts();
        MemoryStatus {
            name: self.name.clone(),
            kind: "embedded".into(),
            nodes: counts.nodes as u64,
            edges: counts.edges as u64,
            vectors: counts.vectors as u64,
            vectors_pending: counts.pending as u64,
            embedding: self.config.embedding_model.clone(),
        }
    }
}
