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
use weir_memory::{Memory, NodeId, WriteError};
use weir_plan::chain;

use crate::embedder::{Embedder, NoVectors};

/// How often new passages are looked for when nobody announces them (nodes also arrive through the HTTP API).
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pause after a failure.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(10);

/// How often a passage is tried alone before it is left without a vector.
const TRIES_MAX: u32 = 3;

/// Runs until `stop`. `wake` announces new passages, `given_up` counts those that get no vector.
pub async fn fill(
    memory: Memory,
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
        if let Some(problem) = filler.memory.snapshot_problem() {
            tracing::warn!(
                "searches by vector are slower for a while: {}",
                chain(&problem)
            );
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
struct Filler {
    memory: Memory,
    embedder: Embedder,
    refused: HashMap<NodeId, Refusal>,
}

/// A passage that got no vector.
struct Refusal {
    /// Digest of the text: another text deserves another try.
    text: u64,
    times: u32,
}

impl Filler {
    /// Embeds new passages in one batch or, when there are none, those that were refused before. How many passages got a
    /// vector.
    async fn round(&mut self) -> Result<usize, String> {
        if self.memory.counts().pending == 0 {
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
        let (reader, batch) = (self.memory.clone(), self.embedder.batch());
        let limit = batch + self.refused.len();
        let pending = tokio::task::spawn_blocking(move || reader.pending_vectors(limit))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| chain(&error))?;
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
        let (memory, limit) = (self.memory.clone(), 2 * self.embedder.batch());
        let joined = tokio::task::spawn_blocking(move || memory.join_topics(limit)).await;
        let why = match joined {
            Ok(Ok(looked_at)) => return looked_at,
            Ok(Err(error)) => chain(&error),
            Err(error) => error.to_string(),
        };
        tracing::warn!("passages of one topic are not joined yet: {why}");
        0
    }

    /// Embeds passages and writes their vectors, all or none.
    async fn store(&self, passages: &[Passage]) -> Result<usize, NoVectors> {
        let texts: Vec<String> = passages.iter().map(|(_, text)| text.clone()).collect();
        let vectors = self.embedder.passages(texts).await?;
        let ids = passages.iter().map(|(id, _)| *id);
        let rows: Vec<_> = ids.zip(vectors).collect();
        let writer = self.memory.clone();
        tokio::task::spawn_blocking(move || writer.set_vectors(&rows))
            .await
            .map_err(|error| NoVectors::Away(error.to_string()))?
            .map_err(|error| {
                let why = chain(&error);
                match error {
                    WriteError::Dimensions { .. } | WriteError::NotAVector { .. } => {
                        NoVectors::Refused(why)
                    }
                    _ => NoVectors::Away(why),
                }
            })
    }
}

/// Id and text.
type Passage = (NodeId, String);

/// Only compared within this process.
fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
