//! Tuning: how much of what is truly nearest searches find in this store, and how hard they must look to find enough.
//!
//! Asks with vectors of the store itself, each passage left out of its own answer, compares all vectors for the truth, and
//! lets searches look harder and harder. The least effort that reaches the target is kept with the store. One question a
//! step, so that others come between two; no row is read.

use std::collections::HashSet;
use std::io;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Progress;
use crate::node::NodeId;
use crate::search::{POOL_MIN, SearchError};
use crate::store::{Memory, Tuning};
use crate::vectors::Effort;

/// How hard is tried, least first. Searches never look less hard than the first.
const EFFORTS: [usize; 9] = [POOL_MIN, 384, 512, 768, 1024, 1536, 2048, 3072, 4096];

/// Cosines that differ by less are equal: which of two such passages is found is the same.
const EQUAL: f32 = 1e-6;

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TuneOptions {
    /// Share of the truly nearest that searches are to find, 0 to 1.
    pub target: f64,
    /// Questions to ask.
    pub questions: usize,
    /// Nearest passages that count.
    pub nearest: usize,
}

impl Default for TuneOptions {
    fn default() -> Self {
        Self {
            target: 0.98,
            questions: 200,
            // As many as a search hands to attention.
            nearest: 64,
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tuned {
    /// `efSearch` before.
    pub before: usize,
    /// `efSearch` from now on.
    pub ef_search: usize,
    /// Share of the truly nearest that is found with it.
    pub recall: f64,
    /// The share that was to be reached.
    pub target: f64,
    /// Whether it is.
    pub reached: bool,
    /// Whether every vector is compared, so that nothing can be missed: there are too few for a graph.
    pub exact: bool,
    /// Questions that were asked.
    pub questions: usize,
    /// Nearest passages that counted.
    pub nearest: usize,
    /// Vectors there were.
    pub vectors: usize,
    /// Every effort that was tried.
    pub efforts: Vec<Measured>,
}

/// One effort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// Nearest vectors that the search kept while it walked.
    pub ef_search: usize,
    /// Share of the truly nearest that it found, over all questions.
    pub recall: f64,
    /// The least share of one question.
    pub worst: f64,
    /// Mean time of a search for vectors, microseconds.
    pub microseconds: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// The target is no share, or there are no questions.
    #[error("{0}")]
    Options(&'static str),
    /// No passage has a vector.
    #[error(
        "no passage of the memory has a vector yet: a gateway that serves the memory makes them"
    )]
    NoVectors,
    /// A question could not be asked.
    #[error("ask the index")]
    Search(#[from] SearchError),
    /// The result cannot be kept.
    #[error("write tuning.json to the memory's folder")]
    Keep(#[from] io::Error),
}

/// A measurement, question by question.
#[derive(Debug)]
pub struct Measuring {
    memory: Memory,
    options: TuneOptions,
    questions: Vec<NodeId>,
    asked: usize,
    efforts: Vec<Measured>,
}

impl Memory {
    /// Begins to measure what searches find.
    pub fn tune(&self, options: TuneOptions) -> Result<Measuring, TuneError> {
        if !(options.target > 0.0 && options.target <= 1.0) {
            return Err(TuneError::Options(
                "the target is a share: write a number above 0 and at most 1, for example 0.98",
            ));
        }
        if options.questions == 0 || options.nearest == 0 {
            return Err(TuneError::Options(
                "nothing would be measured: write at least 1 question and 1 nearest passage",
            ));
        }
        let with_vector = self.with_vector();
        // Evenly spread over the store.
        let step = with_vector.len().div_ceil(options.questions).max(1);
        let questions: Vec<NodeId> = with_vector.into_iter().step_by(step).collect();
        if questions.is_empty() {
            return Err(TuneError::NoVectors);
        }
        let effort = |ef_search: &usize| Measured {
            ef_search: *ef_search,
            worst: 1.0,
            ..Measured::default()
        };
        Ok(Measuring {
            memory: self.clone(),
            options,
            questions,
            asked: 0,
            efforts: EFFORTS.iter().map(effort).collect(),
        })
    }

    /// The nodes that have a vector, in the order of their ids.
    fn with_vector(&self) -> Vec<NodeId> {
        let index = self.index();
        let slots = (0..index.slots() as u32).filter(|slot| index.vectors.get(*slot).is_some());
        let mut ids: Vec<NodeId> = slots.map(|slot| index.id(slot)).collect();
        ids.sort_unstable();
        ids
    }

    fn vector_of(&self, id: NodeId) -> Option<Vec<f32>> {
        let index = self.index();
        let vector = index.slot(id).and_then(|slot| index.vectors.get(slot));
        vector.map(<[f32]>::to_vec)
    }
}

impl Measuring {
    /// Asks one question with every effort. True when all are asked.
    pub fn step(&mut self) -> Result<bool, TuneError> {
        let Some(id) = self.questions.get(self.asked).copied() else {
            return Ok(true);
        };
        // A passage that went meanwhile asks nothing.
        let Some(vector) = self.memory.vector_of(id) else {
            self.questions.remove(self.asked);
            return Ok(self.asked == self.questions.len());
        };
        let truth = self.nearest(id, &vector, Effort::Exact)?;
        let ids: HashSet<NodeId> = truth.iter().map(|(id, _)| *id).collect();
        let least = truth.last().map_or(f32::MAX, |(_, cosine)| *cosine);
        for at in 0..self.efforts.len() {
            let started = Instant::now();
            let effort = Effort::Walk(self.efforts[at].ef_search);
            let found = self.nearest(id, &vector, effort)?;
            let took = started.elapsed().as_secs_f64() * 1e6;
            let right = |(id, cosine): &&(NodeId, f32)| ids.contains(id) || cosine + EQUAL >= least;
            let right = found.iter().filter(right).count();
            let share = match truth.len() {
                0 => 1.0,
                all => right as f64 / all as f64,
            };
            // Sums first; they become means at the end.
            let measured = &mut self.efforts[at];
            measured.recall += share;
            measured.worst = measured.worst.min(share);
            measured.microseconds += took;
        }
        self.asked += 1;
        Ok(self.asked == self.questions.len())
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            done: self.asked as u64,
            total: self.questions.len() as u64,
        }
    }

    /// Keeps the least effort that reaches the target, or the greatest where none does.
    pub fn finish(mut self) -> Result<Tuned, TuneError> {
        let asked = self.asked as f64;
        if self.asked == 0 {
            return Err(TuneError::NoVectors);
        }
        for measured in &mut self.efforts {
            measured.recall /= asked;
            measured.microseconds /= asked;
        }
        let target = self.options.target;
        let enough = |measured: &&Measured| measured.recall >= target;
        let reached = self.efforts.iter().find(enough).copied();
        let chosen = reached.or(self.efforts.last().copied()).unwrap_or_default();
        let vectors = self.memory.counts().vectors;
        let tuned = Tuned {
            before: self.memory.ef_search(),
            ef_search: chosen.ef_search,
            recall: chosen.recall,
            target,
            reached: reached.is_some(),
            exact: self.memory.graph_counts().is_none(),
            questions: self.asked,
            nearest: self.options.nearest,
            vectors,
            efforts: self.efforts,
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.memory.keep_tuning(Tuning {
            ef_search: tuned.ef_search,
            recall: tuned.recall,
            target,
            vectors,
            generation: self.memory.generation(),
            measured_at: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        })?;
        Ok(tuned)
    }

    /// The nearest passages to that of a question, without it.
    fn nearest(
        &self,
        id: NodeId,
        vector: &[f32],
        effort: Effort,
    ) -> Result<Vec<(NodeId, f32)>, SearchError> {
        let count = self.options.nearest;
        let mut found = self.memory.nearest(vector, None, count + 1, effort)?;
        found.retain(|(other, _)| *other != id);
        found.truncate(count);
        Ok(found)
    }
}
