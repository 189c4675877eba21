//! What the parts of one `weir up` know of each other: its status, its memory, and how to tell it to end.
//!
//! `world.rs` writes it when something changes, `listen.rs` reads it for commands. It holds no engine, only views of them.

use crate::engine::{EngineState, Phase};
use crate::external::Reach;
use crate::stage::OpenMemory;
use crate::status::{GatewayPhase, MemoryStatus, PoolStatus, RouterStatus, Status};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;
use weir_crds::IndexStatus;
use weir_gateway::{Gateway, Stop};
use weir_memory_live::{Embedder, UpkeepCounts, Upkept};

/// How long a command that does not read its reply keeps `weir up` from ending.
const REPLY_PATIENCE: Duration = Duration::from_secs(2);

/// Shared by the tasks of one `weir up`.
pub(crate) struct Shared {
    /// The gateway's name.
    pub(crate) gateway: String,
    /// The stack files.
    pub(crate) files: Vec<PathBuf>,
    /// When this process was started, RFC 3339.
    pub(crate) started: String,
    /// How this process is told to end.
    pub(crate) stop: Stop,
    /// Readings of files, which have the memory open: the state folder is not given up while one goes on.
    pub(crate) reading: TaskTracker,
    /// Commands that wait for a reply.
    pub(crate) replies: TaskTracker,
    /// New passages wait for vectors.
    pub(crate) new_passages: Arc<Notify>,
    /// Passages that the embedder refused for good.
    pub(crate) given_up: Arc<AtomicUsize>,
    /// What upkeep did to the memory.
    pub(crate) upkept: Mutex<Arc<Upkept>>,
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
    pub(crate) embedder: Option<Embedder>,
    pub(crate) gateway: Option<Gateway>,
    pub(crate) keys_required: bool,
    pub(crate) router: RouterStatus,
}

/// A pool and, when its engine is ours, what that does.
#[derive(Clone)]
pub(crate) struct PoolView {
    /// Everything but the engine's state.
    pub(crate) fixed: PoolStatus,
    pub(crate) engine: Option<watch::Receiver<EngineState>>,
    /// When it is somebody else's, whether that can be reached.
    pub(crate) reach: Option<Reach>,
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
            embedder: None,
            gateway: None,
            keys_required: false,
            router: RouterStatus::default(),
        };
        Self {
            gateway,
            files,
            started: jiff::Timestamp::now().to_string(),
            stop: Stop::default(),
            reading: TaskTracker::new(),
            replies: TaskTracker::new(),
            new_passages: Arc::new(Notify::new()),
            given_up: Arc::new(AtomicUsize::new(0)),
            upkept: Mutex::default(),
            view: Mutex::new(view),
        }
    }

    /// The view, to read or to change.
    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What upkeep does to the memory of the present stack.
    pub(crate) fn upkept(&self) -> Arc<Upkept> {
        let held = self.upkept.lock();
        held.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another memory is kept up, and counted anew.
    pub(crate) fn begin_upkeep(&self) -> Arc<Upkept> {
        let held = self.upkept.lock();
        let mut held = held.unwrap_or_else(PoisonError::into_inner);
        *held = Arc::default();
        held.clone()
    }

    /// Waits until no command has the memory open and, for a moment, until their replies are sent. Draining has begun, so a
    /// reading ends after the file at hand.
    pub(crate) async fn settle(&self) {
        self.reading.close();
        self.reading.wait().await;
        self.replies.close();
        let _ = tokio::time::timeout(REPLY_PATIENCE, self.replies.wait()).await;
    }

    /// What `weir status` shows.
    pub(crate) fn status(&self) -> Status {
        let view = self.view().clone();
        let pools: Vec<PoolStatus> = {
            let gateway = view.gateway.as_ref();
            view.pools.iter().map(|pool| pool.status(gateway)).collect()
        };
        let ready = view.phase == GatewayPhase::Serving
            && pools.iter().any(|pool| pool.ready && !pool.embeds);
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
            keys_required: view.keys_required,
            pools,
            memory: {
                let given_up = self.given_up.load(Ordering::Relaxed);
                let upkept = self.upkept().counts();
                let memory = view.memory.as_ref();
                memory.map(|open| open.status(given_up, &upkept))
            },
            router: view.router,
        }
    }
}

impl PoolView {
    fn status(&self, gateway: Option<&Gateway>) -> PoolStatus {
        let mut status = self.fixed.clone();
        if let Some(reach) = &self.reach {
            let why = reach.borrow().clone();
            let reason = match &why {
                Some(_) => "Unreachable",
                None if is_left_alone(gateway, &status.name) => "Failing",
                None => "External",
            };
            reason.clone_into(&mut status.reason);
            status.ready = reason == "External";
            status.last_error = why;
            return status;
        }
        let Some(engine) = &self.engine else {
            return status;
        };
        let state = engine.borrow().clone();
        status.ready = state.phase == Phase::Ready;
        let reason = match state.phase {
            Phase::Ready if status.embeds => "Embedding",
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

/// Whether the gateway leaves a pool alone since requests to it failed lately.
fn is_left_alone(gateway: Option<&Gateway>, name: &str) -> bool {
    let Some(gateway) = gateway else {
        return false;
    };
    let serving = gateway.serving();
    let mut pools = serving.plan.served();
    pools.any(|pool| pool.name == name && !serving.engines.available(pool))
}

impl OpenMemory {
    fn status(&self, given_up: usize, upkept: &UpkeepCounts) -> MemoryStatus {
        let counts = self.memory.counts();
        let tuning = self.memory.tuning();
        let refused = given_up.min(counts.pending);
        MemoryStatus {
            name: self.name.clone(),
            kind: "embedded".into(),
            nodes: counts.nodes as u64,
            edges: counts.edges as u64,
            vectors: counts.vectors as u64,
            vectors_pending: (counts.pending - refused) as u64,
            vectors_refused: refused as u64,
            embedding: self.config.embedding_model.clone(),
            index: tuning.map(|tuning| {
                let ef_search = u32::try_from(tuning.ef_search).unwrap_or(u32::MAX);
                IndexStatus::measured(tuning.recall, ef_search, tuning.measured_at)
            }),
            summaries: self.memory.summaries() as u64,
            pruned_edges: upkept.edges(),
            pruned_traces: upkept.traces,
        }
    }
}
