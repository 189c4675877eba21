//! An open external memory: its two clients, what was last seen of it, and the task that tends it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use neo4rs::{Row, query};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use weir_memory::{AttentionWeights, Counts, NodeId};
use weir_memory_live::{Embedder, MemoryError};

use crate::config::{ConfigError, ExternalConfig, Neo4jConfig};
use crate::error::{Server, StoreError};
use crate::neo4j::Neo4j;
use crate::qdrant::Qdrant;
use crate::schema;

/// How often the memory is looked at when nobody writes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Pause after a failure.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// A memory in Qdrant and Neo4j. Cheap to clone; all clones are the same memory. It answers while [`ExternalMemory::run`]
/// runs.
#[derive(Clone)]
pub struct ExternalMemory {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: ExternalConfig,
    /// Label of nodes and type of relationships.
    pub(crate) label: String,
    pub(crate) neo4j: Neo4j,
    pub(crate) qdrant: Qdrant,
    pub(crate) embedder: Option<Embedder>,
    pub(crate) weights: AttentionWeights,
    /// Held while points follow rows: two that follow at a time could let an older one win.
    pub(crate) following: tokio::sync::Mutex<()>,
    /// Rows whose text was handed out for embedding, by their version then.
    pub(crate) handed_out: Mutex<HashMap<NodeId, i64>>,
    wake: Notify,
    state: Mutex<State>,
}

/// What was last seen of an external memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// How much it holds.
    pub counts: Counts,
    /// Number of the last write.
    pub generation: u64,
    /// Nodes, written or removed, that Qdrant does not know of yet.
    pub behind: usize,
    /// Time since the oldest of these was written; zero when there is none.
    pub lag: Duration,
    /// Why it cannot be asked; `None` when it can.
    pub away: Option<StoreError>,
    /// Whether both servers were found to hold this memory.
    pub is_open: bool,
}

impl ExternalMemory {
    /// Asks nobody yet. Needs a running tokio.
    ///
    /// # Errors
    /// The configuration cannot work.
    pub fn new(config: ExternalConfig, embedder: Option<Embedder>) -> Result<Self, ConfigError> {
        config.check()?;
        let inner = Inner {
            label: schema::label(&config.collection),
            neo4j: Neo4j::new(&config.neo4j)?,
            qdrant: Qdrant::new(&config.qdrant, &config.collection)?,
            config,
            embedder,
            weights: AttentionWeights::default(),
            following: tokio::sync::Mutex::new(()),
            handed_out: Mutex::default(),
            wake: Notify::new(),
            state: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Dimensions and embedding model of the memory that is there under a name; `None` when there is none.
    ///
    /// # Errors
    /// The configuration cannot work, or Neo4j does not answer.
    pub async fn identity(
        neo4j: &Neo4jConfig,
        collection: &str,
    ) -> Result<Option<(usize, String)>, StoreError> {
        let client = Neo4j::new(neo4j);
        let client = client.map_err(|error| StoreError::Identity(error.to_string()))?;
        schema::stored_identity(&client, collection).await
    }

    /// Makes what is missing in the servers, then keeps the points behind the rows and an eye on both servers, until
    /// `stop`. Goes on by itself when a server comes back.
    pub async fn run(&self, stop: CancellationToken) {
        let mut complained = None;
        loop {
            let Some(tended) = stop.run_until_cancelled(self.tend()).await else {
                return;
            };
            let pause = match &tended {
                Ok(()) => LOOK_EVERY,
                Err(_) => PAUSE_AFTER_ERROR,
            };
            let problem = tended.err();
            if problem != complained {
                match &problem {
                    Some(problem) => tracing::warn!("the external memory is away: {problem}"),
                    None => tracing::info!("the external memory answers"),
                }
            }
            self.state().away.clone_from(&problem);
            complained = problem;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.inner.wake.notified() => {}
            }
        }
    }

    /// Looks after the memory once: what is missing is made, every point follows its row, and what there is is counted.
    ///
    /// # Errors
    /// A server is away or holds another memory.
    pub async fn tend(&self) -> Result<(), StoreError> {
        let inner = &*self.inner;
        if !self.state().is_open {
            schema::ensure(&inner.config, &inner.neo4j, &inner.qdrant).await?;
            self.state().is_open = true;
        }
        let followed = self.follow_all().await;
        let looked = self.look().await;
        followed?;
        looked?;
        // A collection that somebody dropped is missing without an error; this finds it.
        match inner.qdrant.describe().await? {
            Some(_) => Ok(()),
            None => {
                self.state().is_open = false;
                Err(StoreError::Away(Server::Qdrant))
            }
        }
    }

    /// What was last seen.
    pub fn last_seen(&self) -> State {
        self.state().clone()
    }

    /// Where it is kept.
    pub fn config(&self) -> &ExternalConfig {
        &self.inner.config
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        (self.inner.state)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn handed_out(&self) -> MutexGuard<'_, HashMap<NodeId, i64>> {
        (self.inner.handed_out)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the task look at once.
    pub(crate) fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// Why it cannot be asked; `None` when it can.
    pub fn why_away(&self) -> Option<String> {
        let state = self.state();
        match &state.away {
            Some(why) => Some(why.to_string()),
            None if state.is_open => None,
            None => Some("the external memory is being opened".to_owned()),
        }
    }

    /// Refuses a call before both servers were seen to hold this memory.
    pub(crate) fn check_open(&self) -> Result<(), MemoryError> {
        if self.state().is_open {
            return Ok(());
        }
        Err(MemoryError::Away(self.why_away().unwrap_or_default()))
    }

    /// Counts what is there and how far the points are behind.
    async fn look(&self) -> Result<(), StoreError> {
        let label = &self.inner.label;
        let statement = format!(
            "MATCH (s:WeirStore {{name: $name}}) \
             OPTIONAL MATCH (p:{label}_pending) WITH s, count(p) AS pending, min(p.since) AS oldest \
             OPTIONAL MATCH (g:{label}_gone) \
             WITH s, pending, oldest, count(g) AS gone, min(g.since) AS oldest_gone \
             RETURN s.generation AS generation, pending, gone, timestamp() AS now, \
               coalesce(oldest, timestamp()) AS oldest, coalesce(oldest_gone, timestamp()) AS oldest_gone, \
               COUNT {{ (n:{label}) }} AS nodes, COUNT {{ ()-[:{label}]->() }} AS edges, \
               COUNT {{ (n:{label}_bare) }} AS bare"
        );
        let what = "count nodes";
        let statement = query(&statement).param("name", self.inner.config.collection.as_str());
        let rows = self.inner.neo4j.rows(what, statement).await?;
        let server = Server::Neo4j;
        let Some(row) = rows.first() else {
            // Somebody emptied the database: it is made again.
            self.state().is_open = false;
            return Err(StoreError::Away(server));
        };
        let strange = |error: neo4rs::DeError| StoreError::Strange {
            server,
            what,
            why: error.to_string(),
        };
        let number = |column: &str| number(row, column).map_err(strange);
        let (nodes, bare) = (number("nodes")?, number("bare")?);
        let oldest = number("oldest")?.min(number("oldest_gone")?);
        let lag = number("now")?.saturating_sub(oldest);
        let mut state = self.state();
        state.counts = Counts {
            nodes,
            edges: number("edges")?,
            vectors: nodes.saturating_sub(bare),
            pending: bare,
        };
        state.generation = number("generation")? as u64;
        state.behind = number("pending")? + number("gone")?;
        state.lag = Duration::from_millis(lag as u64);
        Ok(())
    }
}

fn number(row: &Row, column: &str) -> Result<usize, neo4rs::DeError> {
    let value: i64 = row.get(column)?;
    Ok(usize::try_from(value).unwrap_or(0))
}

impl fmt::Debug for ExternalMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalMemory")
            .field("collection", &self.inner.config.collection)
            .field("state", &*self.state())
            .finish_non_exhaustive()
    }
}
