//! Everything a new stack needs before it can be served: models on the disk, facts read, memory open, engines that
//! generate and are measured. Nothing of what is being served changes here, so a stack that fails is simply dropped.
//!
//! Starting for the first time and reloading are the same step. What comes out is applied in `world.rs`.

use crate::artifact::load_router;
use crate::engine::bench::{self, Benchmarks};
use crate::engine::launch;
use crate::engine::supervisor::Launcher;
use crate::engine::{Engine, EngineSpec, StartError};
use crate::event::{Event, Events};
use crate::external::{self, Reach};
use crate::files::{self, Stamp};
use crate::home::{Home, StateDir};
use crate::memory;
use crate::probe::Probe;
use crate::stack::Loaded;
use crate::stage_error::StageError;
use crate::status::RouterStatus;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use weir_crds::{Engine as EngineKind, LlamaCpp, ModelPool};
use weir_embed::{EmbedQueue, Embedder, TokenCounter};
use weir_engine::Engines;
use weir_memory::{Memory, MemoryConfig, RecallLimits};
use weir_memory_live::UpkeepPolicy;
use weir_models::gguf::GgufFacts;
use weir_models::{Access, FetchError, Fetcher, Progress, Source};
use weir_plan::Performance;
use weir_router::Router;

/// Files of an embedder in process.
pub(crate) const EMBEDDER_FILES: [&str; 3] = ["model.safetensors", "tokenizer.json", "config.json"];

/// What staging works with; the same for every stack of one `weir up`.
#[derive(Clone)]
pub(crate) struct Stager {
    pub(crate) home: Home,
    pub(crate) state: StateDir,
    pub(crate) llama_server: Option<PathBuf>,
    pub(crate) launcher: Launcher,
    pub(crate) engines: Engines,
    pub(crate) events: Events,
}

/// What is running already and may be kept.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    /// Engines, by pool.
    pub(crate) specs: BTreeMap<String, EngineSpec>,
    /// Token counters, by model file and its state.
    pub(crate) counters: BTreeMap<(PathBuf, Stamp), TokenCounter>,
    /// The open memory.
    pub(crate) memory: Option<OpenMemory>,
}

/// A stack that can be served.
pub(crate) struct Staged {
    pub(crate) loaded: Loaded,
    /// Pools with an engine of ours, by name.
    pub(crate) models: BTreeMap<String, LocalModel>,
    /// Engines that were started for this stack.
    pub(crate) started: Vec<Engine>,
    pub(crate) memory: Option<OpenMemory>,
    pub(crate) router: Router,
    pub(crate) router_status: RouterStatus,
    /// Whether external pools can be reached, by name.
    pub(crate) reaches: BTreeMap<String, Reach>,
}

/// A pool's model on this machine.
#[derive(Clone)]
pub(crate) struct LocalModel {
    pub(crate) spec: EngineSpec,
    pub(crate) facts: Arc<GgufFacts>,
    pub(crate) counter: TokenCounter,
    pub(crate) performance: Option<Performance>,
}

/// An open memory and its embedder.
#[derive(Clone)]
pub(crate) struct OpenMemory {
    pub(crate) name: String,
    pub(crate) config: MemoryConfig,
    pub(crate) limits: RecallLimits,
    /// What is done to it by itself.
    pub(crate) upkeep: UpkeepPolicy,
    pub(crate) memory: Memory,
    /// Where its files are.
    pub(crate) folder: PathBuf,
    /// Folder and queue of the embedder in process; `None` when a pool embeds.
    pub(crate) embed: Option<(PathBuf, EmbedQueue)>,
}

impl Stager {
    /// Gets a stack ready. Engines that `kept` has with the same spec are not started again.
    pub(crate) async fn stage(&self, loaded: Loaded, kept: Kept) -> Result<Staged, StageError> {
        let refused = weir_reconcile::cluster_only(&loaded.stack, &loaded.gateway);
        if let Some(problem) = refused.into_iter().next() {
            return Err(StageError::ClusterOnly(Box::new(problem)));
        }
        for line in weir_reconcile::without_effect(&loaded.stack, &loaded.gateway) {
            (self.events)(Event::Warning(line));
        }
        let memory = self.open_memory(&loaded, &kept).await?;
        let (router, router_status) = load_router(&loaded, self).await?;
        let mut models = self.load_models(&loaded, &kept).await?;
        external::try_embedder(&loaded, &self.engines, &self.events).await?;
        let started = self.start_engines(&models, &kept).await?;
        self.measure(&mut models, &started).await;
        let reaches = external::follow_all(&loaded).await;
        Ok(Staged {
            loaded,
            models,
            started,
            memory,
            router,
            router_status,
            reaches,
        })
    }

    async fn load_models(
        &self,
        loaded: &Loaded,
        kept: &Kept,
    ) -> Result<BTreeMap<String, LocalModel>, StageError> {
        let mut pools = Vec::new();
        let store = loaded.gateway.spec.memory.as_deref();
        let embedding = store.and_then(|name| Some(&loaded.stack.memory(name)?.spec.embedding));
        for pool in loaded.stack.used(&loaded.gateway) {
            if let EngineKind::LlamaCpp(engine) = &pool.spec.engine {
                pools.push((name_of(pool), pool, engine));
            }
        }
        if pools.is_empty() {
            return Ok(BTreeMap::new());
        }
        let program = launch::locate_engine(self.llama_server.as_deref(), &self.home)?;
        let one = |(name, pool, engine): (String, &ModelPool, &LlamaCpp)| {
            let (program, pool, engine) = (program.clone(), pool.clone(), engine.clone());
            async move {
                let file = self.fetch_model(loaded, &name, &pool).await?;
                let object = format!("ModelPool/{name}");
                let stamp = files::stamp(&file).map_err(|error| source_error(&object, error))?;
                let known = kept.counters.get(&(file.clone(), stamp)).cloned();
                let (facts, counter) = read_model(object, file.clone(), known).await?;
                let embeds = embedding.filter(|e| e.pool.as_ref() == Some(&name));
                let spec = EngineSpec {
                    pool: name.clone(),
                    model: pool.spec.model.name.clone(),
                    program,
                    file,
                    stamp,
                    context_tokens: engine.context_tokens,
                    slots: engine.slots,
                    threads: launch::threads(engine.threads),
                    embeds: embeds.map(|embedding| embedding.dimensions as usize),
                    extra_args: engine.extra_args.clone(),
                };
                let facts = Arc::new(facts);
                let model = LocalModel {
                    spec,
                    facts,
                    counter,
                    performance: None,
                };
                Ok::<_, StageError>((name, model))
            }
        };
        let all = futures_util::future::try_join_all(pools.into_iter().map(one)).await?;
        Ok(all.into_iter().collect())
    }

    async fn fetch_model(
        &self,
        loaded: &Loaded,
        name: &str,
        pool: &ModelPool,
    ) -> Result<PathBuf, StageError> {
        let object = format!("ModelPool/{name}");
        let base = loaded.stack.base_dir("ModelPool", name);
        let text = pool.spec.model.source.as_deref().unwrap_or_default();
        let source = Source::parse(text, base).map_err(|error| source_error(&object, error))?;
        let sha256 = pool.spec.model.sha256.as_deref();
        let file = self.fetch(name, &source, sha256).await;
        file.map_err(|error| source_error(&object, error))
    }

    /// Brings what a stack names onto the disk, and shows how far it is.
    pub(crate) async fn fetch(
        &self,
        name: &str,
        source: &Source,
        sha256: Option<&str>,
    ) -> Result<PathBuf, FetchError> {
        let (fetcher, progress) = (self.fetcher()?, self.progress(name));
        let file = fetcher.fetch(source, sha256, &progress).await?;
        (self.events)(Event::Fetched {
            name: name.to_owned(),
        });
        Ok(file)
    }

    fn fetcher(&self) -> Result<Fetcher, FetchError> {
        Fetcher::new(self.home.models(), Access::from_env())
    }

    fn progress(&self, name: &str) -> impl Fn(Progress) + Send + Sync + use<> {
        let (events, name) = (Arc::clone(&self.events), name.to_owned());
        move |at: Progress| {
            events(Event::Fetching {
                name: name.clone(),
                downloaded: at.downloaded,
                total: at.total,
            });
        }
    }

    async fn open_memory(
        &self,
        loaded: &Loaded,
        kept: &Kept,
    ) -> Result<Option<OpenMemory>, StageError> {
        let Some(name) = loaded.gateway.spec.memory.clone() else {
            return Ok(None);
        };
        let stores = &loaded.stack.memories;
        let Some(store) = stores
            .iter()
            .find(|s| s.metadata.name.as_deref() == Some(&name))
        else {
            return Err(StageError::Plan(format!(
                "MemoryStore/{name} is not in the stack"
            )));
        };
        let config = MemoryConfig {
            dimensions: store.spec.embedding.dimensions as usize,
            embedding_model: store.spec.embedding.model.clone(),
        };
        let embed = match &store.spec.embedding.source {
            Some(source) => Some(self.load_embedder(loaded, &name, source, kept).await?),
            None => None,
        };
        if let Some((_, queue)) = &embed
            && queue.dimensions() != config.dimensions
        {
            let (wanted, found) = (config.dimensions, queue.dimensions());
            return Err(StageError::EmbedderDimensions {
                name,
                wanted,
                found,
            });
        }
        let memory = match &kept.memory {
            Some(open) if open.name == name && open.config == config => open.memory.clone(),
            Some(open) if open.name == name => return Err(StageError::EmbeddingChanged(name)),
            _ => open(self.state.memory(&name), config.clone(), &name).await?,
        };
        if let Some((_, queue)) = &embed {
            let (memory, revision) = (memory.clone(), queue.revision().to_owned());
            let checked = blocking(move || memory.embedded_by(&revision)).await?;
            checked.map_err(|source| StageError::Memory {
                name: name.clone(),
                source: Box::new(source),
            })?;
        }
        Ok(Some(OpenMemory {
            folder: self.state.memory(&name),
            name,
            config,
            limits: memory::limits(&store.spec.attention),
            upkeep: memory::upkeep(&store.spec),
            memory,
            embed,
        }))
    }

    async fn load_embedder(
        &self,
        loaded: &Loaded,
        store: &str,
        source: &str,
        kept: &Kept,
    ) -> Result<(PathBuf, EmbedQueue), StageError> {
        let object = format!("MemoryStore/{store}");
        let base = loaded.stack.base_dir("MemoryStore", store);
        let source = Source::parse(source, base).map_err(|error| source_error(&object, error))?;
        let progress = self.progress(store);
        let folder = self
            .fetcher()
            .map_err(|error| source_error(&object, error))?
            .fetch_dir(&source, &EMBEDDER_FILES, &progress)
            .await
            .map_err(|error| source_error(&object, error))?;
        (self.events)(Event::Fetched {
            name: store.to_owned(),
        });
        let kept = kept
            .memory
            .as_ref()
            .and_then(|memory| memory.embed.as_ref());
        if let Some((_, queue)) = kept.filter(|(path, _)| *path == folder) {
            return Ok((folder, queue.clone()));
        }
        let path = folder.clone();
        let embedder = blocking(move || Embedder::load(&path)).await?;
        let embedder = embedder.map_err(|error| source_error(&object, error))?;
        Ok((folder, EmbedQueue::new(embedder)))
    }

    /// Starts what does not run yet; when one of them fails, those started here end again.
    async fn start_engines(
        &self,
        models: &BTreeMap<String, LocalModel>,
        kept: &Kept,
    ) -> Result<Vec<Engine>, StageError> {
        let wanted = models
            .values()
            .filter(|m| kept.specs.get(&m.spec.pool) != Some(&m.spec));
        let started: Vec<Engine> = wanted
            .map(|model| {
                let spec = model.spec.clone();
                let log = self.state.log(&spec.pool);
                let probe = self.probe(&spec);
                (self.events)(Event::EngineLoading {
                    pool: spec.pool.clone(),
                });
                Engine::start(spec, self.launcher.clone(), log, probe)
            })
            .collect();
        let since = Instant::now();
        let ready = started.iter().map(|engine| async move {
            engine.first_start().await?;
            let pool = engine.spec().pool.clone();
            (self.events)(Event::EngineReady {
                pool,
                took: since.elapsed(),
            });
            Ok::<_, StartError>(())
        });
        if let Err(error) = futures_util::future::try_join_all(ready).await {
            futures_util::future::join_all(started.into_iter().map(Engine::stop)).await;
            return Err(error.into());
        }
        Ok(started)
    }

    /// Fills in measured speed: remembered, or measured now, one engine after another so that they do not share processors.
    async fn measure(&self, models: &mut BTreeMap<String, LocalModel>, started: &[Engine]) {
        let path = self.home.benchmarks();
        let specs: Vec<EngineSpec> = models.values().map(|model| model.spec.clone()).collect();
        let keyed = blocking(move || {
            let mut known = Benchmarks::load(&path);
            let keys: Vec<_> = specs
                .iter()
                .map(|spec| known.key(&spec.file, spec.threads).ok())
                .collect();
            (known, keys)
        });
        let Ok((mut known, keys)) = keyed.await else {
            return;
        };
        for (model, key) in models.values_mut().zip(keys) {
            let Some(key) = key else { continue };
            model.performance = known.get(&key);
            let engine = started.iter().find(|engine| *engine.spec() == model.spec);
            let url = engine.and_then(|engine| engine.state().url);
            let (None, Some(url), None) = (model.performance, url, model.spec.embeds) else {
                continue;
            };
            let pool = model.spec.pool.clone();
            (self.events)(Event::EngineMeasuring { pool: pool.clone() });
            let Some(performance) = bench::measure(&self.probe(&model.spec), &url).await else {
                let what = format!("pool {pool}: its speed could not be measured; a guess is used");
                (self.events)(Event::Warning(what));
                continue;
            };
            model.performance = Some(performance);
            if bench::quiet() {
                known.put(key, performance);
            }
            (self.events)(Event::EngineMeasured { pool, performance });
        }
        if let Err(error) = known.save(&self.home.benchmarks()) {
            tracing::warn!("measured speeds are not remembered: {error}");
        }
    }

    fn probe(&self, spec: &EngineSpec) -> Probe {
        let (engines, pool) = (self.engines.clone(), &spec.pool);
        Probe::new(engines, pool, spec.context_tokens, spec.embeds)
    }
}

/// What the file's header says, but for the vocabulary, and the counter that was made of it. The texts of a vocabulary are
/// tens of megabytes that nobody reads again.
async fn read_model(
    object: String,
    file: PathBuf,
    known: Option<TokenCounter>,
) -> Result<(GgufFacts, TokenCounter), StageError> {
    blocking(move || {
        let mut facts = GgufFacts::read(&file).map_err(|error| source_error(&object, error))?;
        let counter = match known {
            Some(counter) => counter,
            None => TokenCounter::from_facts(&file, &facts).unwrap_or_else(|error| {
                tracing::warn!(
                    "{object}: tokens are estimated: {}",
                    weir_plan::chain(&error)
                );
                TokenCounter::estimate()
            }),
        };
        (facts.tokenizer, facts.chat_template) = (None, None);
        Ok((facts, counter))
    })
    .await?
}

async fn open(path: PathBuf, config: MemoryConfig, name: &str) -> Result<Memory, StageError> {
    let name = name.to_owned();
    blocking(move || Memory::open(&path, &config))
        .await?
        .map_err(|source| StageError::Memory {
            name,
            source: Box::new(source),
        })
}

fn source_error(
    object: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StageError {
    StageError::Source {
        object: object.to_owned(),
        source: Box::new(source),
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StageError::Internal(error.to_string()))
}

pub(crate) fn name_of(pool: &ModelPool) -> String {
    pool.metadata.name.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_model_is_kept_without_its_vocabulary_which_its_counter_has() {
        let Some(file) = weir_testenv::component(weir_testenv::SMOLLM2) else {
            return;
        };
        let (facts, counter) = read_model("ModelPool/small".to_owned(), file, None)
            .await
            .unwrap();
        assert!(counter.exact() && facts.parameters > 100_000_000);
        assert!(facts.tokenizer.is_none() && facts.chat_template.is_none());
    }
}
