//! Fills in vectors in the background while words already find the passages, and joins those of one topic.
//!
//! One task a memory, one batch a round. A batch that is refused is tried passage by passage, so that a bad one does not
//! keep the others waiting; a passage that was refused [`TRIES_MAX`] times is left to its words until its text changes or
//! the process starts again. The task ends with its token and loses at most one batch: what has no vector is found again by
//! `pending_vectors`. Who makes the vectors is in `embedder.rs`.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use weir_memory::{Memory, NodeId};
use weir_plan::chain;

use crate::calls::{MemoryError, Reply};
use crate::embedder::{Embedder, NoVectors};

/// How often new passages are looked for when nobody announces them (nodes also arrive through the HTTP API).
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pause after a failure.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(10);

/// How often a passage is tried alone before it is left without a vector.
const TRIES_MAX: u32 = 3;

/// Id and text.
pub type Passage = (NodeId, String);

/// A store whose passages may wait for vectors.
pub trait Unembedded: Send + Sync {
    /// How many wait, as last seen.
    fn waiting(&self) -> usize;

    /// Up to `limit` of them.
    fn passages(&self, limit: usize) -> Reply<'_, Vec<Passage>>;

    /// Stores vectors; how many. One is ignored when its passage is gone, or changed since it was handed out.
    fn set(&self, vectors: Vec<(NodeId, Vec<f32>)>) -> Reply<'_, usize>;

    /// Joins up to `limit` passages with new vectors to others of the same topic; how many were looked at.
    fn join(&self, limit: usize) -> Reply<'_, usize>;

    /// What is wrong and worth a warning; said once.
    fn problem(&self) -> Option<String>;
}

impl Unembedded for Memory {
    fn waiting(&self) -> usize {
        self.counts().pending
    }

    fn passages(&self, limit: usize) -> Reply<'_, Vec<Passage>> {
        let store = self.clone();
        beside(move || Ok(store.pending_vectors(limit)?))
    }

    fn set(&self, vectors: Vec<(NodeId, Vec<f32>)>) -> Reply<'_, usize> {
        let store = self.clone();
        beside(move || Ok(store.set_vectors(&vectors)?))
    }

    fn join(&self, limit: usize) -> Reply<'_, usize> {
        let store = self.clone();
        beside(move || {
            store
                .join_topics(limit)
                .map_err(|error| MemoryError::Failed {
                    what: "joining topics",
                    why: chain(&error),
                })
        })
    }

    fn problem(&self) -> Option<String> {
        self.snapshot_problem().map(|problem| chain(&problem))
    }
}

fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MemoryError> + Send + 'static,
) -> Reply<'static, T> {
    Box::pin(async move {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(MemoryError::Away(error.to_string())))
    })
}

/// Runs until `stop`. `wake` announces new passages, `given_up` counts those that get no vector.
pub async fn fill(
    memory: impl Unembedded,
    embedder: Embedder,
    wake: Arc<Notify>,
    given_up: Arc<AtomicUsize>,
    stop: CancellationToken,
) {
    let mut filler = Filler {
        memory,
        embedder,
        refused: HashMap::new(),
    };
    loop {
        if let Some(problem) = filler.memory.problem() {
            tracing::warn!("searches by vector are slower for a while: {problem}");
        }
        let Some(round) = stop.run_until_cancelled(filler.round()).await else {
            return;
        };
        given_up.store(filler.given_up(), Ordering::Relaxed);
        let pause = match round {
            Ok(0) => LOOK_EVERY,
            Ok(_) => Duration::ZERO,
            Err(error) => {
                tracing::warn!("vectors are late: {error}");
                PAUSE_AFTER_ERROR
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = wake.notified() => {}
        }
    }
}

/// Passages without a vector, and those among them that were refused.
struct Filler<M> {
    memory: M,
    embedder: Embedder,
    refused: HashMap<NodeId, Refusal>,
}

/// A passage that got no vector.
struct Refusal {
    /// Digest of the text: another text deserves another try.
    text: u64,
    times: u32,
}

impl<M: Unembedded> Filler<M> {
    /// Embeds new passages in one batch or, when there are none, those that were refused before. How many passages got a
    /// vector.
    async fn round(&mut self) -> Result<usize, String> {
        if self.memory.waiting() == 0 {
            self.refused.clear();
            return Ok(self.join().await);
        }
        let (fresh, again) = self.pending().await?;
        if fresh.is_empty() {
            return self.one_by_one(again).await;
        }
        match self.store(&fresh).await {
            Ok(stored) => {
                self.join().await;
                Ok(stored)
            }
            Err(NoVectors::Away(why)) => Err(why),
            Err(NoVectors::Refused(_)) => self.one_by_one(fresh).await,
        }
    }

    /// A batch of passages that were never refused, and those that were and may be tried again.
    async fn pending(&mut self) -> Result<(Vec<Passage>, Vec<Passage>), String> {
        let batch = self.embedder.batch();
        let limit = batch + self.refused.len();
        let pending = self.memory.passages(limit).await;
        let pending = pending.map_err(|error| error.to_string())?;
        if pending.len() < limit {
            // These are all there are: what was refused and is not among them has been removed.
            let waiting: HashSet<NodeId> = pending.iter().map(|(id, _)| *id).collect();
            self.refused.retain(|id, _| waiting.contains(id));
        }
        let (mut fresh, mut again) = (Vec::new(), Vec::new());
        for (id, text) in pending {
            let refusal = self.refused.get(&id);
            let refusal = refusal.filter(|old| old.text == digest(&text));
            match refusal {
                Some(refusal) if refusal.times < TRIES_MAX => again.push((id, text)),
                None if fresh.len() < batch => fresh.push((id, text)),
                _ => {}
            }
        }
        Ok((fresh, again))
    }

    /// Passages that are not tried again.
    fn given_up(&self) -> usize {
        let refusals = self.refused.values();
        refusals
            .filter(|refusal| refusal.times >= TRIES_MAX)
            .count()
    }

    /// Embeds each passage alone and notes which are refused.
    async fn one_by_one(&mut self, passages: Vec<Passage>) -> Result<usize, String> {
        let (mut stored, mut last) = (0, None);
        for passage in passages {
            match self.store(std::slice::from_ref(&passage)).await {
                Ok(count) => stored += count,
                Err(NoVectors::Away(why)) => return Err(why),
                Err(NoVectors::Refused(why)) => {
                    self.note_refusal(&passage, &why);
                    last = Some(why);
                }
            }
        }
        match last {
            Some(why) if stored == 0 => Err(why),
            _ => Ok(stored),
        }
    }

    fn note_refusal(&mut self, (id, text): &Passage, why: &str) {
        let text = digest(text);
        let new = || Refusal { text, times: 0 };
        let refusal = self.refused.entry(*id).or_insert_with(new);
        if refusal.text != text {
            *refusal = new();
        }
        refusal.times += 1;
        if refusal.times == TRIES_MAX {
            tracing::warn!(passage = %id, "it gets no vector, its words still find it: {why}");
        }
    }

    /// Joins passages of one topic, which their vectors tell; how many were looked at. Those that wait for it are kept in the
    /// store, so that none is forgotten.
    async fn join(&self) -> usize {
        let joined = self.memory.join(2 * self.embedder.batch()).await;
        let late = |why: &MemoryError| {
            tracing::warn!("passages of one topic are not joined yet: {why}");
        };
        joined.inspect_err(late).unwrap_or(0)
    }

    /// Embeds passages and writes their vectors, all or none.
    async fn store(&self, passages: &[Passage]) -> Result<usize, NoVectors> {
        let texts: Vec<String> = passages.iter().map(|(_, text)| text.clone()).collect();
        let vectors = self.embedder.passages(texts).await?;
        let ids = passages.iter().map(|(id, _)| *id);
        let rows: Vec<_> = ids.zip(vectors).collect();
        self.memory.set(rows).await.map_err(|error| match error {
            MemoryError::Refused(why) => NoVectors::Refused(why),
            other => NoVectors::Away(other.to_string()),
        })
    }
}

/// Only compared within this process.
fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
