//! `Serving`: a plan with its assets, as requests see it.
//!
//! Made once for a plan and never changed: a request holds the one it began with. Swapping is `gateway.rs`; whether a plan
//! and its assets fit is `check.rs`.

use crate::ask::Ask;
use crate::candidate::Candidate;
use crate::counts::Counts;
use crate::extension::Extension;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_embed::{EmbedQueue, TokenCounter};
use weir_engine::Engines;
use weir_memory::Memory;
use weir_memory_live::{Embedder, LiveMemory, MemoryCalls};
use weir_plan::{CandidatePlan, GatewayPlan, Pool, Privacy, RouterPlan};
use weir_router::Router;

/// What goes with a plan and is not data: open files and loaded models.
#[derive(Clone, Debug)]
pub struct Assets {
    /// The memory that the plan names.
    pub memory: Option<MemoryAsset>,
    /// The router, as loaded: it is bound to the plan's pools here.
    pub router: Router,
    /// The router of the plan's candidate. Without it the active one serves alone.
    pub candidate: Option<Router>,
    /// Exact token counters by pool name; a pool without one is asked itself, or estimated where it cannot be.
    pub counters: HashMap<String, TokenCounter>,
    /// Where the decision log is written.
    pub state_dir: Option<PathBuf>,
}

/// The memory that goes with a plan.
#[derive(Clone, Debug)]
pub enum MemoryAsset {
    /// A store that this process has open.
    Open {
        /// The store.
        store: Memory,
        /// Its embedder, when that runs in this process too.
        embed: Option<EmbedQueue>,
    },
    /// A memory of another process. It compares the plan's dimensions with the store's itself, when it reaches it.
    Service(Arc<dyn MemoryCalls>),
}

/// A plan with its assets, as requests see it.
#[derive(Clone, Debug)]
pub struct Serving {
    /// The plan.
    pub plan: GatewayPlan,
    /// The engines of its pools.
    pub engines: Engines,
    /// The memory.
    pub memory: Option<Arc<dyn MemoryCalls>>,
    /// The router, bound to the plan's pools.
    pub router: Router,
    /// The version that is tried beside it.
    pub candidate: Option<Candidate>,
    /// When the plan was applied.
    pub since: Instant,
    pub(crate) counts: Counts,
    counters: HashMap<String, TokenCounter>,
}

impl MemoryAsset {
    /// The memory as requests ask it: an open store is joined with its embedder, here or in a pool of the plan.
    fn calls(self, plan: &GatewayPlan, engines: &Engines) -> Arc<dyn MemoryCalls> {
        let (store, embed) = match self {
            Self::Service(calls) => return calls,
            Self::Open { store, embed } => (store, embed),
        };
        let pool = || {
            let pool = plan.embedder()?.clone();
            Some(Embedder::pool(engines.clone(), move || Some(pool.clone())))
        };
        let embedder = embed.map(Embedder::InProcess).or_else(pool);
        Arc::new(LiveMemory::new(store, embedder))
    }
}

impl Assets {
    /// The store, where this process has it open.
    pub fn store(&self) -> Option<&Memory> {
        match &self.memory {
            Some(MemoryAsset::Open { store, .. }) => Some(store),
            _ => None,
        }
    }
}

impl Serving {
    pub(crate) fn new(plan: GatewayPlan, assets: Assets, engines: Engines, counts: Counts) -> Self {
        let router = assets.router.bind(plan.pools.len());
        let memory = assets.memory.map(|asset| asset.calls(&plan, &engines));
        let candidate = match (&plan.candidate, assets.candidate) {
            (Some(planned), Some(router)) => Some(Candidate {
                plan: planned.clone(),
                router: router.bind(plan.pools.len()),
            }),
            (Some(planned), None) => {
                let rollout = &planned.rollout;
                tracing::warn!(
                    "rollout {rollout}: its candidate cannot be loaded; the active router serves alone"
                );
                None
            }
            (None, _) => None,
        };
        Self {
            plan,
            engines,
            memory,
            router,
            candidate,
            since: Instant::now(),
            counts,
            counters: assets.counters,
        }
    }

    /// A counter for one prompt of a pool's model.
    pub fn counter(&self, pool: &Pool) -> TokenCounter {
        let exact = self.counters.get(&pool.name).filter(|file| file.exact());
        exact.cloned().unwrap_or_else(|| self.counts.counter(pool))
    }

    /// Makes something with such a counter, see [`Counts::settled`].
    pub(crate) async fn settled<T>(
        &self,
        counted: (&Pool, &TokenCounter),
        deadline: Instant,
        make: impl Fn() -> T,
    ) -> T {
        self.counts
            .settled(&self.engines, counted, deadline, make)
            .await
    }

    /// How far a request may travel.
    pub(crate) fn privacy(&self, ask: &Ask) -> Privacy {
        self.plan.privacy_of(&ask.caller.tenant, ask.weir.privacy)
    }

    /// When a request must be answered: by the gateway's limit and by the request's own budget.
    pub(crate) fn deadline(&self, weir: &Extension, received: Instant) -> Instant {
        let most = self.plan.limits.request_timeout_ms;
        received + Duration::from_millis(weir.budget_ms.map_or(most, |budget| budget.min(most)))
    }

    /// Name of the active version of the router.
    pub(crate) fn router_version(&self) -> &str {
        version_name(self.plan.router.as_ref())
    }

    /// The rollout that runs, as the plan tells it.
    pub(crate) fn candidate_plan(&self) -> Option<&CandidatePlan> {
        self.candidate.as_ref().map(|candidate| &candidate.plan)
    }
}

/// What a version of the router is called.
pub(crate) fn version_name(plan: Option<&RouterPlan>) -> &str {
    plan.map_or(RouterPlan::BUILTIN, |plan| &plan.version)
}
