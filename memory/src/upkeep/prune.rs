//! Letting go of edges and traces that are not worth their place, in slices that end soon.
//!
//! Every node keeps its best edges by weight x freshness x confidence; edges below a weight or beyond an age go, and so do
//! old traces. A slice looks at a bounded number of edges and writes once, so that questions and other writes come between
//! two slices. Decides nothing about when: whoever owns the store does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::node::{Edge, NodeId};
use crate::recall::DEGREE_MAX;
use crate::store::{EdgeKey, Edit, Memory, ReadError, WriteError};

/// Rows that one slice looks at.
const SLICE_ROWS: usize = 2000;

/// After this time an edge without an age limit counts half of what it did when it was new.
const HALF_LIFE: Duration = Duration::from_secs(180 * 86_400);

/// What may stay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrunePolicy {
    /// Most edges of one node, both directions together; as many as recall follows when nothing else is said.
    pub degree_max: usize,
    /// Edges of a smaller weight go.
    pub min_weight: f32,
    /// Edges that are older go.
    pub max_age: Option<Duration>,
    /// Traces that are older go, with their edges.
    pub trace_age: Option<Duration>,
}

impl Default for PrunePolicy {
    fn default() -> Self {
        Self {
            degree_max: DEGREE_MAX,
            min_weight: 0.0,
            max_age: None,
            trace_age: None,
        }
    }
}

/// What went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// Traces beyond their age.
    pub traces: usize,
    /// Edges below the least weight.
    pub light: usize,
    /// Edges beyond their age.
    pub old: usize,
    /// Edges beyond the degree budget of a node.
    pub beyond_budget: usize,
    /// Number of the last write.
    pub generation: u64,
}

/// A pass over the whole memory, slice by slice.
#[derive(Debug)]
pub struct Pruning {
    memory: Memory,
    policy: PrunePolicy,
    now_ms: u64,
    stage: Stage,
    pruned: Pruned,
}

#[derive(Debug)]
enum Stage {
    /// Old traces, from this node on.
    Traces(NodeId),
    /// Light and old edges, from this one on.
    Edges(Option<EdgeKey>),
    /// Nodes with too many edges that are still to be looked at.
    Hubs(Vec<NodeId>),
    Done,
}

impl Memory {
    /// Begins a pass at a time, Unix milliseconds.
    pub fn prune(&self, policy: PrunePolicy, now_ms: u64) -> Pruning {
        Pruning {
            memory: self.clone(),
            policy,
            now_ms,
            stage: Stage::Traces(NodeId::from_u128(0)),
            pruned: Pruned::default(),
        }
    }
}

impl Pruning {
    /// One slice. True when the pass is over.
    pub fn step(&mut self) -> Result<bool, WriteError> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Traces(from) => self.traces(from)?,
            Stage::Edges(from) => self.edges(from.as_ref())?,
            Stage::Hubs(ids) => self.hubs(ids)?,
            Stage::Done => Stage::Done,
        };
        Ok(matches!(self.stage, Stage::Done))
    }

    /// What went so far.
    pub fn pruned(&self) -> Pruned {
        Pruned {
            generation: self.memory.generation(),
            ..self.pruned
        }
    }

    fn traces(&mut self, from: NodeId) -> Result<Stage, WriteError> {
        let Some(age) = self.policy.trace_age else {
            return Ok(Stage::Edges(None));
        };
        let (traces, next) = self
            .memory
            .traces_from(from, SLICE_ROWS)
            .map_err(WriteError::Stored)?;
        let old = |made: u64| self.age_ms(Some(made)) > age.as_millis();
        let old = traces.into_iter().filter(|(_, made)| old(*made));
        let ids: Vec<NodeId> = old.map(|(id, _)| id).collect();
        if !ids.is_empty() {
            let edit = Edit {
                remove_nodes: &ids,
                ..Edit::default()
            };
            self.pruned.traces += self.memory.edit(&edit)?.removed;
        }
        Ok(next.map_or(Stage::Edges(None), Stage::Traces))
    }

    fn edges(&mut self, from: Option<&EdgeKey>) -> Result<Stage, WriteError> {
        if self.policy.min_weight <= 0.0 && self.policy.max_age.is_none() {
            return Ok(Stage::Hubs(self.too_many()));
        }
        let read = self.memory.edges_from(from, SLICE_ROWS);
        let (edges, next) = read.map_err(WriteError::Stored)?;
        let mut gone = Vec::new();
        for edge in edges {
            let old = |age: Duration| self.age_ms(edge.metadata.timestamp) > age.as_millis();
            if edge.weight < self.policy.min_weight {
                self.pruned.light += 1;
            } else if self.policy.max_age.is_some_and(old) {
                self.pruned.old += 1;
            } else {
                continue;
            }
            gone.push((edge.src, edge.dst, edge.rel));
        }
        self.remove(&gone)?;
        Ok(match next {
            Some(next) => Stage::Edges(Some(next)),
            None => Stage::Hubs(self.too_many()),
        })
    }

    fn hubs(&mut self, mut ids: Vec<NodeId>) -> Result<Stage, WriteError> {
        let mut rows = 0;
        while rows < SLICE_ROWS {
            let Some(id) = ids.pop() else {
                return Ok(Stage::Done);
            };
            let mut edges = self.memory.edges(id).map_err(WriteError::Stored)?;
            rows += edges.len();
            // One list a node: an edge that the budget of its other end took is not there any more.
            edges.sort_by(|a, b| {
                self.worth(b)
                    .total_cmp(&self.worth(a))
                    .then(a.id.cmp(&b.id))
            });
            let beyond = edges.drain(self.policy.degree_max.min(edges.len())..);
            let gone: Vec<EdgeKey> = beyond.map(|edge| (edge.src, edge.dst, edge.rel)).collect();
            self.pruned.beyond_budget += gone.len();
            self.remove(&gone)?;
        }
        Ok(Stage::Hubs(ids))
    }

    /// Nodes beyond the budget, the greatest hub last: it is looked at first, so that what it lets go relieves the others.
    fn too_many(&self) -> Vec<NodeId> {
        let degrees = self.memory.degrees().into_iter();
        let mut over: Vec<_> = degrees
            .filter(|(_, degree)| *degree > self.policy.degree_max)
            .collect();
        over.sort_unstable_by_key(|(id, degree)| (*degree, *id));
        over.into_iter().map(|(id, _)| id).collect()
    }

    fn remove(&self, edges: &[EdgeKey]) -> Result<(), WriteError> {
        if !edges.is_empty() {
            let edit = Edit {
                remove_edges: edges,
                ..Edit::default()
            };
            self.memory.edit(&edit)?;
        }
        Ok(())
    }

    /// Weight x freshness x confidence. Freshness is 1 for a new edge and a half at the age limit.
    fn worth(&self, edge: &Edge) -> f64 {
        let half = self.policy.max_age.unwrap_or(HALF_LIFE).as_millis().max(1) as f64;
        let freshness = half / (half + self.age_ms(edge.metadata.timestamp) as f64);
        f64::from(edge.weight) * freshness * f64::from(edge.metadata.confidence.unwrap_or(1.0))
    }

    /// What has no time is new.
    fn age_ms(&self, made: Option<u64>) -> u128 {
        made.map_or(0, |made| u128::from(self.now_ms.saturating_sub(made)))
    }
}

/// Rows from a place on, and where the next ones begin.
type Slice<T, K> = Result<(Vec<T>, Option<K>), ReadError>;

impl Memory {
    /// Traces with their times among the next `rows` nodes.
    fn traces_from(&self, from: NodeId, rows: usize) -> Slice<(NodeId, u64), NodeId> {
        let snapshot = self.snapshot()?;
        let (mut traces, mut seen) = (Vec::new(), 0);
        for node in snapshot.nodes_from(from)? {
            let node = node?;
            if seen == rows {
                return Ok((traces, Some(node.id)));
            }
            seen += 1;
            if node.node_type == crate::NodeType::Trace
                && let Some(made) = node.metadata.timestamp
            {
                traces.push((node.id, made));
            }
        }
        Ok((traces, None))
    }

    /// The next `rows` edges.
    fn edges_from(&self, from: Option<&EdgeKey>, rows: usize) -> Slice<Edge, EdgeKey> {
        let snapshot = self.snapshot()?;
        let mut edges = Vec::new();
        for edge in snapshot.edges_from(from)? {
            let edge = edge?;
            if edges.len() == rows {
                return Ok((edges, Some((edge.src, edge.dst, edge.rel))));
            }
            edges.push(edge);
        }
        Ok((edges, None))
    }
}
