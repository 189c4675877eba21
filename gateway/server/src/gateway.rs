//! `Gateway`: what is served now, and the one place where it is swapped.
//!
//! [`Gateway::apply`] checks a plan and its assets, then swaps both at once; requests in flight finish on what they
//! began with. Decides nothing about a request: that is `answer.rs`.

use crate::ask::{Ask, ModelChoice};
use crate::candidate::Candidate;
use crate::decisions::{Decisions, Draft, LogError};
use crate::evidence::{Evidence, RolloutReport};
use crate::extension::Extension;
use crate::lifecycle::Lifecycle;
use crate::normalise::Question;
use crate::recall::want_vectors;
use crate::record::{ExecutedRow, Feedback, QueryRow, Record, RouterRow, TokensRow};
use crate::speed::Speeds;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use weir_embed::{EmbedQueue, TokenCounter};
use weir_engine::{Engines, Usage};
use weir_memory::Memory;
use weir_memory_live::{Embedder, LiveMemory, MemoryCalls, Presence};
use weir_plan::{
    CandidatePlan, Endpoint, FORMAT, GatewayPlan, Pool, Privacy, QueryText, RouterPlan,
};
use weir_router::{FeatureSchema, RecallMode, Router};

/// A gateway. Cheap to clone; all clones are the same gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    serving: RwLock<Arc<Serving>>,
    engines: Engines,
    speeds: Speeds,
    decisions: Decisions,
    evidence: Evidence,
    lifecycle: Lifecycle,
    /// Held while what is served is replaced.
    replacing: Mutex<()>,
}

/// What goes with a plan and is not data: open files and loaded models.
#[derive(Clone, Debug)]
pub struct Assets {
    /// The memory that the plan names.
    pub memory: Option<MemoryAsset>,
    /// The router, as loaded: it is bound to the plan's pools here.
    pub router: Router,
    /// The router of the plan's candidate. Without it the active one serves alone.
    pub candidate: Option<Router>,
    /// Token counters by pool name; a pool without one is estimated.
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
    counters: HashMap<String, TokenCounter>,
}

/// Why a plan cannot be served. The one before it stays.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Written by another generation of Weir.
    #[error(
        "plan has format {found_major}.{found_minor}, this gateway serves {}.{} and one minor beside it",
        FORMAT.major, FORMAT.minor
    )]
    Format {
        /// Major version found.
        found_major: u32,
        /// Minor version found.
        found_minor: u32,
    },
    /// Two pools cannot be told apart.
    #[error("plan names {0:?} twice; names and models of pools are unique")]
    Duplicate(String),
    /// The plan names a memory that was not handed in, or the other way round.
    #[error("plan names memory {planned:?}, but {} memory was opened", if *opened { "a" } else { "no" })]
    Memory {
        /// Name in the plan.
        planned: Option<String>,
        /// Whether one was handed in.
        opened: bool,
    },
    /// The store holds other vectors than the plan says.
    #[error("memory holds vectors of {found} dimensions, the plan says {planned}")]
    Dimensions {
        /// In the plan.
        planned: usize,
        /// In the store.
        found: usize,
    },
    /// The embedder makes other vectors than the store holds.
    #[error("the embedder makes vectors of {found} dimensions, the memory holds {planned}")]
    Embedder {
        /// In the plan.
        planned: usize,
        /// Of the embedder.
        found: usize,
    },
    /// The decision log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// How a pinned pass-through ended.
#[derive(Debug)]
pub struct PinnedAnswer<'a> {
    /// What the request was served by.
    pub serving: &'a Serving,
    /// The decision's id, from [`Gateway::new_decision_id`].
    pub id: String,
    /// What was asked.
    pub ask: &'a Ask,
    /// Rank of the pool that was asked.
    pub pool: usize,
    /// Tokens used.
    pub usage: Option<Usage>,
    /// The engine's reason.
    pub finish_reason: Option<String>,
    /// Kind of the failure.
    pub error: Option<&'static str>,
    /// From arrival to the first token.
    pub ttft: Duration,
    /// From arrival to the end.
    pub total: Duration,
}

impl Gateway {
    /// A gateway that serves `plan`.
    pub fn new(plan: GatewayPlan, assets: Assets) -> Result<Self, PlanError> {
        check(&plan, &assets)?;
        let (engines, decisions) = (Engines::new(), Decisions::default());
        decisions.log_to(plan.logs.sink, assets.state_dir.as_deref())?;
        engines.set_pools(plan.served());
        let serving = Arc::new(Serving::new(plan, assets, engines.clone()));
        let evidence = Evidence::default();
        evidence.follow(serving.candidate_plan());
        let serving = RwLock::new(serving);
        let inner = Inner {
            serving,
            engines,
            speeds: Speeds::default(),
            decisions,
            evidence,
            lifecycle: Lifecycle::default(),
            replacing: Mutex::new(()),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Serves another plan from now on. When it is refused the present one stays.
    pub fn apply(&self, plan: GatewayPlan, assets: Assets) -> Result<(), PlanError> {
        check(&plan, &assets)?;
        let _one = self.inner.replacing.lock();
        self.inner
            .decisions
            .log_to(plan.logs.sink, assets.state_dir.as_deref())?;
        self.replace(Serving::new(plan, assets, self.inner.engines.clone()));
        Ok(())
    }

    /// Serves a pool at other endpoints from now on; everything else stays. False when the plan has no such pool.
    pub fn set_endpoints(&self, pool: &str, endpoints: Vec<Endpoint>) -> bool {
        let _one = self.inner.replacing.lock();
        let mut serving = Serving::clone(&self.serving());
        let Some(pool) = serving.plan.served_mut(pool) else {
            return false;
        };
        pool.endpoints = endpoints;
        self.replace(serving);
        true
    }

    fn replace(&self, serving: Serving) {
        self.inner.engines.set_pools(serving.plan.served());
        self.inner.evidence.follow(serving.candidate_plan());
        *self
            .inner
            .serving
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(serving);
    }

    /// What is served now.
    pub fn serving(&self) -> Arc<Serving> {
        Arc::clone(
            &self
                .inner
                .serving
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The HTTP surfaces of this gateway, all on one port.
    pub fn http(&self) -> axum::Router {
        crate::http::router(self.clone())
    }

    /// The surfaces for clients, and those for who runs the gateway: metrics and health, for a port of their own.
    pub fn http_apart(&self) -> (axum::Router, axum::Router) {
        crate::http::routers(self.clone())
    }

    /// The engines.
    pub fn engines(&self) -> &Engines {
        &self.inner.engines
    }

    /// What was counted of the present rollout since this process began to count it.
    pub fn rollout_report(&self) -> Option<RolloutReport> {
        self.inner.evidence.report()
    }

    /// Counts that the pool of the memory's vectors is wanted while passages wait for theirs: no request says so, since the
    /// memory's own process asks that pool.
    pub fn want_pending_vectors(&self) {
        let serving = self.serving();
        let presence = serving.memory.as_ref().map(|memory| memory.presence());
        if matches!(presence, Some(Presence::Here(counts)) if counts.pending > 0) {
            want_vectors(&serving);
        }
    }

    /// A new name for a decision; later ones sort later.
    pub fn new_decision_id(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }

    /// What was recorded about a decision, if it is still kept.
    pub fn decision(&self, id: &str) -> Option<Record> {
        self.inner.decisions.get(id)
    }

    /// Adds a score to a decision. False when it is not kept any more.
    pub fn feedback(&self, id: &str, feedback: &Feedback) -> bool {
        self.inner.decisions.feedback(id, feedback)
    }

    /// Records a pass-through to a pinned model.
    pub fn pinned(&self, answer: PinnedAnswer<'_>) {
        let serving = answer.serving;
        let mut draft = self.draft(serving, answer.ask, answer.id);
        let row = &mut draft.row;
        if let Some(pool) = serving.plan.pools.get(answer.pool) {
            let usage = answer.usage.unwrap_or_default();
            row.cost = cost_of(pool, usage);
            row.tokens = TokensRow::from(usage);
            row.executed = Some(ExecutedRow::pinned(pool, answer.ask));
        }
        row.latency_ms.ttft = answer.ttft.as_secs_f64() * 1e3;
        row.latency_ms.llm = answer.total.as_secs_f64() * 1e3;
        draft.finish(answer.finish_reason, answer.error);
    }

    /// Rows that the log could not take or write.
    pub(crate) fn rows_lost(&self) -> u64 {
        self.inner.decisions.rows_lost()
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.inner.lifecycle
    }

    pub(crate) fn evidence(&self) -> &Evidence {
        &self.inner.evidence
    }

    pub(crate) fn speeds(&self) -> &Speeds {
        &self.inner.speeds
    }

    /// The beginning of a request's row.
    pub(crate) fn draft(&self, serving: &Serving, ask: &Ask, decision_id: String) -> Draft {
        let asked = jiff::Timestamp::now()
            .saturating_sub(
                jiff::SignedDuration::try_from(ask.received.elapsed()).unwrap_or_default(),
            )
            .unwrap_or_else(|_| jiff::Timestamp::now());
        let user = ask.client.user.as_deref();
        let row = Record {
            decision_id,
            request_id: ask.caller.request_id.clone(),
            timestamp: asked.to_string(),
            gateway: serving.plan.gateway.clone(),
            tenant: ask.caller.tenant.clone(),
            key_id: ask.caller.key_id.clone(),
            user: user.map(|user| sha256(&format!("{}:{user}", ask.caller.tenant))),
            session: ask.weir.session.clone(),
            domain: ask.weir.domain.clone(),
            query: serving.query_row(&Question::of(&ask.messages).text),
            plan: serving.plan.revision,
            router: serving.router_row(&serving.router, serving.plan.router.as_ref()),
            ..Record::default()
        };
        Draft::new(row, ask.received, self.inner.decisions.clone())
    }
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
    fn new(plan: GatewayPlan, assets: Assets, engines: Engines) -> Self {
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
            counters: assets.counters,
        }
    }

    /// The counter of a pool's model.
    pub fn counter(&self, pool: &Pool) -> TokenCounter {
        self.counters
            .get(&pool.name)
            .cloned()
            .unwrap_or_else(TokenCounter::estimate)
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

    /// The question as the plan allows it in a row.
    pub(crate) fn query_row(&self, question: &str) -> QueryRow {
        match self.plan.logs.query_text {
            QueryText::Full => QueryRow {
                text: Some(question.to_owned()),
                sha256: None,
            },
            QueryText::Hashed => QueryRow {
                text: None,
                sha256: Some(sha256(question)),
            },
            QueryText::None => QueryRow::default(),
        }
    }

    /// Name of the active version of the router.
    pub(crate) fn router_version(&self) -> &str {
        version_name(self.plan.router.as_ref())
    }

    /// A version of the router, as a row names it.
    pub(crate) fn router_row(&self, router: &Router, plan: Option<&RouterPlan>) -> RouterRow {
        RouterRow {
            version: version_name(plan).to_owned(),
            artifact_sha256: router.artifact().sha256().to_owned(),
            schema_hash: FeatureSchema::current().hash().to_owned(),
            models: self.plan.pools.len(),
            cold_start: router.cold_start(),
        }
    }

    /// The rollout that runs, as the plan tells it.
    fn candidate_plan(&self) -> Option<&CandidatePlan> {
        self.candidate.as_ref().map(|candidate| &candidate.plan)
    }
}

impl ExecutedRow {
    fn pinned(pool: &Pool, ask: &Ask) -> Self {
        Self {
            arm: None,
            recall: RecallMode::None,
            model: pool.model.clone(),
            pool: pool.name.clone(),
            context_tokens: 0,
            sampling: None,
            temperature: ask.client.temperature,
            top_p: ask.client.top_p,
            client_set: client_set(ask),
            fallback_to_cloud: pool.privacy == Privacy::Cloud,
            turns_cut: 0,
        }
    }
}

impl From<Usage> for TokensRow {
    fn from(usage: Usage) -> Self {
        Self {
            prompt: usage.prompt_tokens,
            cached: usage.cached_tokens,
            completion: usage.completion_tokens,
        }
    }
}

fn version_name(plan: Option<&RouterPlan>) -> &str {
    plan.map_or(RouterPlan::BUILTIN, |plan| &plan.version)
}

/// What the client decided itself.
pub(crate) fn client_set(ask: &Ask) -> Vec<String> {
    let pinned = matches!(ask.model, ModelChoice::Pinned(_));
    [
        (pinned, "model"),
        (ask.client.temperature.is_some(), "temperature"),
        (ask.client.top_p.is_some(), "top_p"),
        (ask.client.max_tokens.is_some(), "max_tokens"),
        (ask.has_system(), "system"),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .map(|(_, name)| name.to_owned())
    .collect()
}

/// Price of an answer, in cost units.
pub(crate) fn cost_of(pool: &Pool, usage: Usage) -> f64 {
    (f64::from(usage.prompt_tokens) * pool.cost.prompt_per_million
        + f64::from(usage.completion_tokens) * pool.cost.completion_per_million)
        / 1e6
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn check(plan: &GatewayPlan, assets: &Assets) -> Result<(), PlanError> {
    if !plan.format.is_served() {
        let (found_major, found_minor) = (plan.format.major, plan.format.minor);
        return Err(PlanError::Format {
            found_major,
            found_minor,
        });
    }
    for (position, pool) in plan.served().enumerate() {
        let twin = plan
            .served()
            .take(position)
            .find(|p| p.name == pool.name || p.model == pool.model);
        if let Some(twin) = twin {
            let name = if twin.name == pool.name {
                &pool.name
            } else {
                &pool.model
            };
            return Err(PlanError::Duplicate(name.clone()));
        }
    }
    match (&plan.memory, &assets.memory) {
        (None, None) | (Some(_), Some(MemoryAsset::Service(_))) => Ok(()),
        (Some(memory), Some(MemoryAsset::Open { store, embed })) => {
            let (planned, found) = (memory.dimensions, store.config().dimensions);
            if planned != found {
                return Err(PlanError::Dimensions { planned, found });
            }
            match embed.as_ref().map(EmbedQueue::dimensions) {
                Some(found) if found != planned => Err(PlanError::Embedder { planned, found }),
                _ => Ok(()),
            }
        }
        (planned, opened) => Err(PlanError::Memory {
            planned: planned.as_ref().map(|memory| memory.name.clone()),
            opened: opened.is_some(),
        }),
    }
}
