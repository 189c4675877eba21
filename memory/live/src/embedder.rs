//! What makes vectors for a memory: a model in this process, or a pool's `/v1/embeddings`.
//!
//! It knows who is asked and whether asking again can help; which passages are asked about is decided in `fill.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_embed::{EmbedError, EmbedQueue};
use weir_engine::{EngineError, Engines};
use weir_plan::{Pool, chain};

use crate::calls::MemoryError;
use crate::recall::EMBED_BUDGET;

/// Longest wait for the vectors of one batch: an engine without a graphics card reads a few hundred tokens a second.
const BATCH_TIMEOUT: Duration = Duration::from_secs(120);

/// Passages that go into one request to a pool: few, so that a question does not wait long behind them.
const POOL_BATCH: usize = 8;

/// Passages that this process embeds at a time; its queue lets questions pass.
const IN_PROCESS_BATCH: usize = 32;

/// Who makes vectors.
#[derive(Clone)]
pub enum Embedder {
    /// A model in this process.
    InProcess(EmbedQueue),
    /// A pool.
    Pool {
        /// The engines by which it is asked. Those of the filler are its own, so that a passage that the engine refuses
        /// does not open the breaker for questions.
        engines: Engines,
        /// Says which pool and where its engine listens at the moment.
        pool: Arc<dyn Fn() -> Option<Pool> + Send + Sync>,
    },
}

/// Why there are no vectors.
#[derive(Debug, PartialEq, Eq)]
pub enum NoVectors {
    /// Nobody could be asked: the same texts may get vectors later.
    Away(String),
    /// These texts were refused, or the answer was of no use.
    Refused(String),
}

impl Embedder {
    /// The pool that `pool` names whenever vectors are wanted.
    pub fn pool(engines: Engines, pool: impl Fn() -> Option<Pool> + Send + Sync + 'static) -> Self {
        let pool = Arc::new(pool);
        Self::Pool { engines, pool }
    }

    /// Passages that are embedded together.
    pub fn batch(&self) -> usize {
        match self {
            Self::InProcess(_) => IN_PROCESS_BATCH,
            Self::Pool { .. } => POOL_BATCH,
        }
    }

    /// Forgets the questions whose vectors are kept in this process: one may name somebody whose nodes were erased.
    pub fn forget_questions(&self) {
        match self {
            Self::InProcess(queue) => queue.forget(),
            // A pool's vectors are asked for again each time.
            Self::Pool { .. } => {}
        }
    }

    /// Vectors of passages, in their order, without holding up questions.
    ///
    /// # Errors
    /// Nobody could be asked, or the texts were refused.
    pub async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, NoVectors> {
        match self {
            Self::InProcess(queue) => {
                let vectors = queue.embed_many(texts).await;
                vectors.map_err(|error| NoVectors::from(&error))
            }
            Self::Pool { engines, pool } => {
                let deadline = Instant::now() + BATCH_TIMEOUT;
                let pool = pool().ok_or_else(no_pool)?;
                let vectors = engines.embeddings(&pool, &texts, deadline).await;
                vectors.map_err(|error| NoVectors::from(&error))
            }
        }
    }

    /// The vector of a question, within `budget`.
    ///
    /// # Errors
    /// As [`Embedder::passages`]; also when there is no vector in time.
    pub async fn question(&self, text: &str, budget: Duration) -> Result<Arc<[f32]>, NoVectors> {
        let vector = async {
            match self {
                Self::InProcess(queue) => {
                    let vector = queue.embed(text).await;
                    vector.map_err(|error| NoVectors::from(&error))
                }
                Self::Pool { engines, pool } => {
                    let pool = pool().ok_or_else(no_pool)?;
                    let (deadline, texts) = (Instant::now() + budget, [text.to_owned()]);
                    let vectors = engines.embeddings(&pool, &texts, deadline).await;
                    let vectors = vectors.map_err(|error| NoVectors::from(&error))?;
                    let first = vectors.into_iter().next();
                    first.map(Arc::from).ok_or_else(|| {
                        NoVectors::Refused("the embedder's pool sent no vector".to_owned())
                    })
                }
            }
        };
        let late = |_| Err(NoVectors::Away(format!("no vector within {budget:?}")));
        tokio::time::timeout(budget, vector)
            .await
            .unwrap_or_else(late)
    }
}

impl Embedder {
    /// The vector of a question when it can be had in time and fits a memory of vectors of `dimensions` values.
    pub async fn fitting(&self, text: &str, dimensions: usize) -> Option<Arc<[f32]>> {
        let vector = self.question(text, EMBED_BUDGET).await;
        let vector = vector.map_err(|error| error.to_string());
        let fitting = vector.and_then(|vector| match vector.len() {
            length if length == dimensions => Ok(vector),
            length => Err(format!(
                "{length} dimensions, the memory holds {dimensions}"
            )),
        });
        fitting
            .inspect_err(|error| tracing::warn!(error, "the question was not embedded"))
            .ok()
    }

    /// Vectors of texts by a model in this process, in their order.
    ///
    /// # Errors
    /// There is no such model, or it refuses a text.
    pub async fn texts(
        embedder: Option<&Self>,
        texts: Vec<String>,
    ) -> Result<Vec<Vec<f32>>, MemoryError> {
        let Some(Self::InProcess(queue)) = embedder else {
            return Err(MemoryError::Away("the embedder is not loaded".to_owned()));
        };
        let failed = |error: EmbedError| MemoryError::Failed {
            what: "embedding",
            why: chain(&error),
        };
        match texts.as_slice() {
            // A single text is a question: it goes before passages, and is cached.
            [text] => Ok(vec![queue.embed(text).await.map_err(failed)?.to_vec()]),
            _ => queue.embed_many(texts).await.map_err(failed),
        }
    }
}

fn no_pool() -> NoVectors {
    NoVectors::Away("no pool embeds for this memory".into())
}

impl From<&EmbedError> for NoVectors {
    fn from(error: &EmbedError) -> Self {
        let why = chain(error);
        match error {
            EmbedError::Stopped => Self::Away(why),
            _ => Self::Refused(why),
        }
    }
}

impl From<&EngineError> for NoVectors {
    /// A connection that broke and an answer that did not come count as refusals too: a text may be what ends the engine
    /// or what it chokes on, and only a refusal makes the filler leave it alone in the end.
    fn from(error: &EngineError) -> Self {
        let why = error.to_string();
        match error {
            EngineError::NoEndpoint { .. }
            | EngineError::BreakerOpen { .. }
            | EngineError::Refused { .. }
            | EngineError::Untrusted { .. }
            | EngineError::BadEndpoint { .. }
            | EngineError::Status {
                status: 401 | 403 | 404 | 405 | 429 | 503,
                ..
            } => Self::Away(why),
            _ => Self::Refused(why),
        }
    }
}

impl fmt::Display for NoVectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Away(why) | Self::Refused(why)) = self;
        f.write_str(why)
    }
}

impl fmt::Debug for Embedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InProcess(_) => "Embedder::InProcess",
            Self::Pool { .. } => "Embedder::Pool",
        })
    }
}
