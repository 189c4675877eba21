//! What is served now and how it changes: a staged stack is committed, an engine comes or goes, and each time one new
//! plan is made by the pure function and applied at once.
//!
//! One task owns a `World` (`up.rs`), so nothing here is locked. Engines of an old stack end only after requests on them
//! have finished. It starts no engine and reads no file: that was `stage.rs`.

use crate::engine::{Engine, EngineSpec, Phase};
use crate::event::{Event, Events};
use crate::external::Reach;
use crate::probe;
use crate::shared::{PoolView, Shared};
use crate::stack::Loaded;
use crate::stage::{Kept, LocalModel, OpenMemory, Staged, name_of};
use crate::stage_error::StageError;
use crate::status::{PoolStatus, RouterStatus};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_engine::Engines;
use weir_gateway::{Assets, Gateway, MemoryAsset};
use weir_memory_live::{Embedder, fill, keep_up};
use weir_plan::{Endpoint, GatewayPlan, Revision};
use weir_reconcile::{ModelFacts, Observed, ObservedPool};
use weir_router::Router;

/// An engine of a replaced stack is looked at this often until it is idle.
const IDLE_POLL: Duration = Duration::from_millis(500);

/// Requests that chose a pool under the old plan reach its engine within this time.
const LATE_ARRIVALS: Duration = Duration::from_secs(2);

/// Everything that is served.
pub(crate) struct World {
    shared: Arc<Shared>,
    events: Events,
    state_dir: PathBuf,
    engines: BTreeMap<String, Engine>,
    current: Current,
    gateway: Option<Gateway>,
    revision: Revision,
    changed: mpsc::UnboundedSender<String>,
    filling: CancellationToken,
    filler: Option<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
    retiring: Vec<JoinHandle<()>>,
}

/// The stack that is served and what belongs to it.
struct Current {
    loaded: Loaded,
    models: BTreeMap<String, LocalModel>,
    memory: Option<OpenMemory>,
    router: Router,
    router_status: RouterStatus,
    reaches: BTreeMap<String, Reach>,
}

impl World {
    /// A world that serves `staged`. Names of pools whose engine changed are sent to `changed`.
    pub(crate) fn new(
        shared: Arc<Shared>,
        events: Events,
        state_dir: PathBuf,
        staged: Staged,
        changed: mpsc::UnboundedSender<String>,
    ) -> Result<Self, StageError> {
        let epoch = jiff::Timestamp::now().as_millisecond().unsigned_abs();
        let (current, started) = Current::from_staged(staged);
        let mut world = Self {
            shared,
            events,
            state_dir,
            engines: BTreeMap::new(),
            current,
            gateway: None,
            revision: Revision { epoch, counter: 0 },
            changed,
            filling: CancellationToken::new(),
            filler: None,
            keeper: None,
            retiring: Vec::new(),
        };
        world.adopt(started);
        world.apply()?;
        world.keep_memory();
        Ok(world)
    }

    /// The gateway.
    pub(crate) fn gateway(&self) -> Option<Gateway> {
        self.gateway.clone()
    }

    /// The stack that is served.
    pub(crate) fn loaded(&self) -> &Loaded {
        &self.current.loaded
    }

    /// What a new stack may keep of this one.
    pub(crate) fn kept(&self) -> Kept {
        let specs = self
            .engines
            .iter()
            .map(|(pool, engine)| (pool.clone(), engine.spec().clone()));
        let models = self.current.models.values();
        Kept {
            specs: specs.collect(),
            counters: models
                .map(|m| ((m.spec.file.clone(), m.spec.stamp), m.counter.clone()))
                .collect(),
            memory: self.current.memory.clone(),
        }
    }

    /// Serves another stack from now on. Whatever goes wrong, the old one is served as before.
    pub(crate) async fn commit(&mut self, staged: Staged) -> Result<(), StageError> {
        let (current, started) = Current::from_staged(staged);
        let before = std::mem::replace(&mut self.current, current);
        let replaced = self.adopt(started);
        if let Err(error) = self.apply() {
            self.current = before;
            for engine in self.adopt(replaced) {
                engine.stop().await;
            }
            self.drop_unwanted(false).await;
            self.show();
            return Err(error);
        }
        self.keep_memory();
        for engine in replaced {
            self.retire(engine);
        }
        self.drop_unwanted(true).await;
        Ok(())
    }

    /// An engine came or went.
    pub(crate) fn engine_changed(&mut self, pool: &str) {
        let Some(engine) = self.engines.get(pool) else {
            return;
        };
        let state = engine.state();
        match state.phase {
            Phase::Ready if state.restarts > 0 => {
                (self.events)(Event::EngineBack {
                    pool: pool.to_owned(),
                });
            }
            Phase::Waiting => {
                let reason = state
                    .last_error
                    .map(|error| error.to_string())
                    .unwrap_or_default();
                (self.events)(Event::EngineLost {
                    pool: pool.to_owned(),
                    reason,
                });
            }
            _ => {}
        }
        if let Err(error) = self.apply() {
            tracing::error!(pool, "the plan without this engine was refused: {error}");
        }
    }

    /// Ends every engine, also those of earlier stacks.
    pub(crate) async fn stop(mut self) {
        self.filling.cancel();
        for task in [self.filler.take(), self.keeper.take()]
            .into_iter()
            .flatten()
        {
            let _ = task.await;
        }
        for task in self.retiring.drain(..) {
            // Its engine is dropped with it, which ends the process.
            task.abort();
            let _ = task.await;
        }
        futures_util::future::join_all(self.engines.into_values().map(Engine::stop)).await;
    }

    /// Takes engines in; those that they replace come back.
    fn adopt(&mut self, started: Vec<Engine>) -> Vec<Engine> {
        let mut replaced = Vec::new();
        for engine in started {
            let pool = engine.spec().pool.clone();
            let (mut state, changed) = (engine.watch(), self.changed.clone());
            state.mark_unchanged();
            tokio::spawn({
                let pool = pool.clone();
                async move {
                    while state.changed().await.is_ok() && changed.send(pool.clone()).is_ok() {}
                }
            });
            replaced.extend(self.engines.insert(pool, engine));
        }
        replaced
    }

    /// Ends engines that the current stack does not ask for: after their requests, or at once.
    async fn drop_unwanted(&mut self, drain: bool) {
        let models = &self.current.models;
        let wanted =
            |pool: &str, spec: &EngineSpec| models.get(pool).is_some_and(|m| m.spec == *spec);
        let unwanted: Vec<String> = self
            .engines
            .iter()
            .filter(|(pool, engine)| !wanted(pool, engine.spec()))
            .map(|(pool, _)| pool.clone())
            .collect();
        for pool in unwanted {
            let Some(engine) = self.engines.remove(&pool) else {
                continue;
            };
            if drain {
                self.retire(engine);
            } else {
                engine.stop().await;
            }
        }
    }

    fn retire(&mut self, engine: Engine) {
        let limit = self
            .current
            .loaded
            .gateway
            .spec
            .limits
            .request_timeout
            .milliseconds();
        let limit = LATE_ARRIVALS + Duration::from_millis(limit);
        self.retiring.retain(|task| !task.is_finished());
        self.retiring.push(tokio::spawn(async move {
            if let Some(url) = engine.state().url {
                let idle = async {
                    tokio::time::sleep(LATE_ARRIVALS).await;
                    while probe::requests_in_engine(&url)
                        .await
                        .is_some_and(|count| count > 0)
                    {
                        tokio::time::sleep(IDLE_POLL).await;
                    }
                };
                let _ = tokio::time::timeout(limit, idle).await;
            }
            engine.stop().await;
        }));
    }

    /// Makes the plan of this moment and has the gateway serve it.
    fn apply(&mut self) -> Result<(), StageError> {
        self.revision.counter += 1;
        let plan = self.plan()?;
        let order: Vec<String> = plan.pools.iter().map(|pool| pool.name.clone()).collect();
        let assets = self.assets();
        let refused = |error: &dyn std::error::Error| StageError::Plan(error.to_string());
        match &self.gateway {
            Some(gateway) => gateway
                .apply(plan, assets)
                .map_err(|error| refused(&error))?,
            None => {
                let gateway = Gateway::new(plan, assets).map_err(|error| refused(&error))?;
                self.gateway = Some(gateway);
            }
        }
        self.show_in(&order);
        Ok(())
    }

    pub(crate) fn plan(&self) -> Result<GatewayPlan, StageError> {
        let pools = self.current.models.iter().map(|(name, model)| {
            let state = self
                .engines
                .get(name)
                .map(Engine::state)
                .unwrap_or_default();
            let url = state.url.filter(|_| state.phase == Phase::Ready);
            let observed = ObservedPool {
                endpoints: url.as_deref().map(Endpoint::keyless).into_iter().collect(),
                facts: Some(ModelFacts {
                    parameters: model.facts.parameters,
                    context_tokens: model.facts.context_tokens,
                }),
                performance: model.performance,
                tokenizer: Some(model.spec.file.display().to_string()),
                digest: None,
            };
            (name.clone(), observed)
        });
        let embedders = self.current.memory.iter().filter_map(|memory| {
            let (folder, _) = memory.embed.as_ref()?;
            Some((memory.name.clone(), folder.display().to_string()))
        });
        let observed = Observed {
            pools: pools.collect(),
            embedders: embedders.collect(),
            revision: self.revision,
            // One process serves the gateway, opens its store itself and starts one engine a pool.
            ..Observed::default()
        };
        let loaded = &self.current.loaded;
        weir_reconcile::plan(&loaded.stack, loaded.name(), &observed).map_err(|problems| {
            let lines = problems
                .iter()
                .map(|problem| loaded.stack.locate(problem).to_string());
            StageError::Plan(lines.collect::<Vec<_>>().join("\n"))
        })
    }

    pub(crate) fn assets(&self) -> Assets {
        let models = self.current.models.iter();
        let counters: HashMap<_, _> = models
            .map(|(name, model)| (name.clone(), model.counter.clone()))
            .collect();
        let memory = self.current.memory.as_ref();
        Assets {
            memory: memory.map(|open| MemoryAsset::Open {
                store: open.memory.clone(),
                embed: open.embed.as_ref().map(|(_, queue)| queue.clone()),
            }),
            router: self.current.router.clone(),
            candidate: None,
            counters,
            state_dir: Some(self.state_dir.clone()),
        }
    }

    /// Computes vectors for the memory of the current stack and keeps it up, and no longer another.
    fn keep_memory(&mut self) {
        self.filling.cancel();
        self.filling = CancellationToken::new();
        self.shared.given_up.store(0, Ordering::Relaxed);
        let upkept = self.shared.begin_upkeep();
        let Some(open) = &self.current.memory else {
            return;
        };
        self.keeper = Some(tokio::spawn(keep_up(
            open.memory.clone(),
            open.upkeep,
            upkept,
            self.filling.clone(),
        )));
        let Some(embedder) = self.embedder() else {
            return;
        };
        self.filler = Some(tokio::spawn(fill(
            open.memory.clone(),
            embedder,
            Arc::clone(&self.shared.new_passages),
            Arc::clone(&self.shared.given_up),
            self.filling.clone(),
        )));
    }

    /// What makes vectors for the memory of the current stack.
    fn embedder(&self) -> Option<Embedder> {
        match &self.current.memory.as_ref()?.embed {
            Some((_, queue)) => Some(Embedder::InProcess(queue.clone())),
            None => {
                let gateway = self.gateway.clone()?;
                let pool = move || gateway.serving().plan.embedder().cloned();
                Some(Embedder::pool(Engines::new(), pool))
            }
        }
    }

    fn show(&self) {
        let order: Vec<String> = self
            .shared
            .view()
            .pools
            .iter()
            .map(|pool| pool.fixed.name.clone())
            .collect();
        self.show_in(&order);
    }

    /// Publishes what is served, pools in the order of their capability.
    fn show_in(&self, order: &[String]) {
        let mut pools = Vec::new();
        let Loaded { stack, gateway, .. } = &self.current.loaded;
        let embeds = stack.embedder(gateway).map(name_of);
        for pool in stack.used(gateway) {
            let name = name_of(pool);
            let model = self.current.models.get(&name);
            let engine = self.engines.get(&name).map(Engine::watch);
            let mut fixed = fixed_status(pool, model);
            fixed.embeds = embeds.as_ref() == Some(&name);
            let reach = self.current.reaches.get(&name).cloned();
            pools.push(PoolView {
                fixed,
                engine,
                reach,
            });
        }
        // The pool that embeds has no rank and comes last.
        let last = order.len();
        let rank = |name: &str| order.iter().position(|known| known == name).unwrap_or(last);
        pools.sort_by_key(|pool| rank(&pool.fixed.name));
        let embedder = self.embedder();
        let keys_required = gateway.spec.auth.anonymous.is_none();
        let mut view = self.shared.view();
        view.plans = self.revision.counter;
        view.pools = pools;
        view.memory.clone_from(&self.current.memory);
        view.embedder = embedder;
        view.gateway.clone_from(&self.gateway);
        view.keys_required = keys_required;
        view.router.clone_from(&self.current.router_status);
    }
}

impl Current {
    fn from_staged(staged: Staged) -> (Self, Vec<Engine>) {
        let Staged {
            loaded,
            models,
            started,
            memory,
            router,
            router_status,
            reaches,
        } = staged;
        (
            Self {
                loaded,
                models,
                memory,
                router,
                router_status,
                reaches,
            },
            started,
        )
    }
}

fn fixed_status(pool: &weir_crds::ModelPool, model: Option<&LocalModel>) -> PoolStatus {
    let spec = &pool.spec;
    let (context_tokens, parameters) = match &spec.engine {
        weir_crds::Engine::LlamaCpp(engine) => (engine.context_tokens, None),
        weir_crds::Engine::Vllm(engine) => (engine.max_model_len, engine.parameters),
        weir_crds::Engine::External(engine) => (engine.context_tokens, engine.parameters),
    };
    PoolStatus {
        name: name_of(pool),
        model: spec.model.name.clone(),
        tier: match spec.tier {
            weir_crds::Tier::Device => weir_plan::Tier::Device,
            weir_crds::Tier::Edge => weir_plan::Tier::Edge,
            weir_crds::Tier::Server => weir_plan::Tier::Server,
        },
        privacy: match spec.privacy {
            weir_crds::Privacy::Local => weir_plan::Privacy::Local,
            weir_crds::Privacy::OnPrem => weir_plan::Privacy::OnPrem,
            weir_crds::Privacy::Cloud => weir_plan::Privacy::Cloud,
        },
        engine: spec.engine.as_str().to_owned(),
        embeds: false,
        ready: false,
        reason: "Stopped".into(),
        last_error: None,
        restarts: 0,
        pid: None,
        parameters: model
            .map(|m| m.facts.parameters)
            .or(parameters)
            .unwrap_or(0),
        quantization: model.map(|m| m.facts.quantization.clone()),
        context_tokens,
        license: spec.model.license.clone(),
        performance: model.and_then(|m| m.performance),
    }
}
