//! What makes vectors for the memory of a running gateway: a model in this process, or a pool's `/v1/embeddings`.
//!
//! It knows who is asked and whether asking again can help; which passages are asked about is decided in `vectors.rs`.

use std::time::{Duration, Instant};
use weir_embed::{EmbedError, EmbedQueue};
use weir_engine::{EngineError, Engines};
use weir_gateway::Gateway;
use weir_plan::Pool;

/// Longest wait for the vectors of one batch: an engine without a graphics card reads a few hundred tokens a second.
const BATCH_TIMEOUT: Duration = Duration::from_secs(120);

/// Longest wait for the vector of a question; words alone find something too.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Passages that go into one request to a pool: few, so that a question does not wait long behind them.
const POOL_BATCH: usize = 8;

/// Passages that this process embeds at a time; its queue lets questions pass.
const IN_PROCESS_BATCH: usize = 32;

/// Who makes vectors.
#[derive(Clone)]
pub(crate) enum Embedder {
    /// A model in this process.
    InProcess(EmbedQueue),
    /// The pool that the served plan names.
    Pool {
        /// Says which pool and where its engine listens at the moment.
        gateway: Gateway,
        /// Not the gateway's own, so that a passage that the engine refuses does not open the breaker for questions.
        engines: Engines,
    },
}

/// Why there are no vectors.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoVectors {
    /// Nobody could be asked: the same texts may get vectors later.
    Away(String),
    /// These texts were refused, or the answer was of no use.
    Refused(String),
}

impl Embedder {
    /// The embedder that is a pool of `gateway`.
    pub(crate) fn pool_of(gateway: Gateway) -> Self {
        let engines = Engines::new();
        Self::Pool { gateway, engines }
    }

    /// Passages that are embedded together.
    pub(crate) fn batch(&self) -> usize {
        match self {
            Self::InProcess(_) => IN_PROCESS_BATCH,
            Self::Pool { .. } => POOL_BATCH,
        }
    }

    /// Vectors of passages, in their order.
    pub(crate) async fn passages(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, NoVectors> {
        match self {
            Self::InProcess(queue) => {
                let vectors = queue.embed_many(texts.to_vec()).await;
                vectors.map_err(|error| NoVectors::from(&error))
            }
            Self::Pool { gateway, engines } => {
                let deadline = Instant::now() + BATCH_TIMEOUT;
                let serving = gateway.serving();
                let pool = serving.plan.embedder().ok_or_else(no_pool)?;
                vectors_of(engines, pool, texts, deadline).await
            }
        }
    }

    /// The vector of a question; `None` when nobody makes one in time.
    pub(crate) async fn question(&self, text: &str) -> Option<Vec<f32>> {
        match self {
            Self::InProcess(queue) => Some(queue.embed(text).await.ok()?.to_vec()),
            Self::Pool { gateway, engines } => {
                let deadline = Instant::now() + QUESTION_TIMEOUT;
                let serving = gateway.serving();
                let pool = serving.plan.embedder()?;
                let texts = [text.to_owned()];
                let vectors = vectors_of(engines, pool, &texts, deadline).await;
                vectors.ok()?.pop()
            }
        }
    }
}

/// Asks a pool for vectors.
async fn vectors_of(
    engines: &Engines,
    pool: &Pool,
    texts: &[String],
    deadline: Instant,
) -> Result<Vec<Vec<f32>>, NoVectors> {
    let vectors = engines.embeddings(pool, texts, deadline).await;
    vectors.map_err(|error| NoVectors::from(&error))
}

fn no_pool() -> NoVectors {
    NoVectors::Away("no pool embeds for this memory".into())
}

impl From<&EmbedError> for NoVectors {
    fn from(error: &EmbedError) -> Self {
        let why = crate::chain(error);
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
            | EngineError::BadEndpoint { .. }
            | EngineError::Status {
                status: 401 | 403 | 404 | 405 | 429 | 503,
                ..
            } => Self::Away(why),
            _ => Self::Refused(why),
        }
    }
}

impl std::fmt::Display for NoVectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Away(why) | Self::Refused(why)) = self;
        f.write_str(why)
    }
}
