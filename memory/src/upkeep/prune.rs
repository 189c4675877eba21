//! Letting go of edges and traces that are not worth their place, in slices that end soon.
//!
//! Every node keeps its best edges by weight x freshness x confidence; edges below a weight or beyond an age go, and so do
//! old traces. A slice reads and removes a bounded number of rows in one write, so that questions and other writes come between
//! two slices; what it weighs of a hub it has in memory. Decides nothing about when: whoever owns the store does.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::graph::Link;
use crate::node::{Edge, NodeId};
use crate::recall::DEGREE_MAX;
use crate::store::{EdgeKey, Edit, Memory, ReadError, WriteError};
use crate::summaries::SUMMARISES;

/// Rows that one slice reads at most, and rows that it removes at most.
pub const SLICE_ROWS: usize = 2000;

/// Nodes of which one slice counts the edges, in memory.
const SLICE_DEGREES: u32 = 50_000;

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
    slice: Slice,
}

/// What one slice did to the rows of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Rows that it read.
    pub read: usize,
    /// Rows that it removed.
    pub removed: usize,
}

#[derive(Debug)]
enum Stage {
    /// Old traces, from this node on.
    Traces(NodeId),
    /// Light and old edges, from this one on.
    Edges(Option<EdgeKey>),
    /// Nodes with too many edges are looked for, from this slot on.
    Degrees(u32, Vec<(usize, NodeId)>),
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
            slice: Slice::default(),
        }
    }
}

impl Pruning {
    /// One slice. True when the pass is over.
    pub fn step(&mut self) -> Result<bool, WriteError> {
        self.slice = Slice::default();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Traces(from) => self.traces(from)?,
            Stage::Edges(from) => self.edges(from.as_ref())?,
            Stage::Degrees(from, over) => self.degrees(from, over),
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

    /// What the last slice did.
    pub fn slice(&self) -> Slice {
        self.slice
    }

    fn traces(&mut self, from: NodeId) -> Result<Stage, WriteError> {
        let Some(age) = self.policy.trace_age else {
            return Ok(Stage::Edges(None));
        };
        let read = self.memory.traces_from(from, SLICE_ROWS);
        let (traces, read, mut next) = read.map_err(WriteError::Stored)?;
        self.slice.read = read;
        let old = |made: u64| self.age_ms(Some(made)) > age.as_millis();
        let (mut ids, mut room) = (Vec::new(), SLICE_ROWS);
        for (id, _) in traces.into_iter().filter(|(_, made)| old(*made)) {
            let rows = 1 + self.memory.degree(id);
            if rows > room {
                if ids.is_empty() {
                    // It has more edges than one slice removes: these go first.
                    let mut edges = self.memory.edge_keys(id);
                    edges.truncate(SLICE_ROWS);
                    self.remove(&edges)?;
                }
                next = Some(id);
                break;
            }
            room -= rows;
            ids.push(id);
        }
        if !ids.is_empty() {
            let edit = Edit {
                remove_nodes: &ids,
                ..Edit::default()
            };
            self.pruned.traces += self.memory.edit(&edit)?.removed;
            self.slice.removed += SLICE_ROWS - room;
        }
        Ok(next.map_or(Stage::Edges(None), Stage::Traces))
    }

    fn edges(&mut self, from: Option<&EdgeKey>) -> Result<Stage, WriteError> {
        if self.policy.min_weight <= 0.0 && self.policy.max_age.is_none() {
            return Ok(Stage::Degrees(0, Vec::new()));
        }
        let read = self.memory.edges_from(from, SLICE_ROWS);
        let (edges, next) = read.map_err(WriteError::Stored)?;
        self.slice.read = edges.len();
        let mut gone = Vec::new();
        for edge in edges {
            if edge.rel == SUMMARISES {
                continue;
            }
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
            None => Stage::Degrees(0, Vec::new()),
        })
    }

    /// Looks for nodes beyond the budget. The greatest hub comes last, where the next stage begins: what it lets go relieves
    /// the others.
    fn degrees(&self, from: u32, mut over: Vec<(usize, NodeId)>) -> Stage {
        let (degrees, next) = self.memory.degrees_from(from, SLICE_DEGREES);
        let beyond = |(degree, _): &(usize, NodeId)| *degree > self.policy.degree_max;
        over.extend(degrees.into_iter().filter(beyond));
        match next {
            Some(next) => Stage::Degrees(next, over),
            None => {
                over.sort_unstable();
                Stage::Hubs(over.into_iter().map(|(_, id)| id).collect())
            }
        }
    }

    fn hubs(&mut self, mut ids: Vec<NodeId>) -> Result<Stage, WriteError> {
        let mut gone = BTreeSet::new();
        let mut looks = SLICE_ROWS;
        while gone.len() < SLICE_ROWS && looks > 0 {
            let Some(id) = ids.pop() else {
                break;
            };
            looks -= 1;
            let room = SLICE_ROWS - gone.len();
            let (worst, all) = self.worst(id, room, &gone);
            gone.extend(worst);
            if !all {
                ids.push(id);
            }
        }
        self.pruned.beyond_budget += gone.len();
        self.remove(&Vec::from_iter(gone))?;
        Ok(match ids.as_slice() {
            [] => Stage::Done,
            _ => Stage::Hubs(ids),
        })
    }

    /// The worst edges of a node beyond its budget, at most `room` of them, when those in `gone` are not there any more; and
    /// whether these are all.
    fn worst(&self, id: NodeId, room: usize, gone: &BTreeSet<EdgeKey>) -> (Vec<EdgeKey>, bool) {
        if self.memory.degree(id) <= self.policy.degree_max {
            return (Vec::new(), true);
        }
        let mut edges = self.memory.weighed(id, |link| self.worth(link));
        edges.retain(|(_, edge)| !gone.contains(edge));
        let beyond = edges.len().saturating_sub(self.policy.degree_max);
        let taken = beyond.min(room);
        let order = |a: &(f64, EdgeKey), b: &(f64, EdgeKey)| {
            a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1))
        };
        if taken > 0 && taken < edges.len() {
            edges.select_nth_unstable_by(taken, order);
        }
        edges.truncate(taken);
        let worst = edges.into_iter().map(|(_, edge)| edge).collect();
        (worst, taken == beyond)
    }

    fn remove(&mut self, edges: &[EdgeKey]) -> Result<(), WriteError> {
        if !edges.is_empty() {
            let edit = Edit {
                remove_edges: edges,
                ..Edit::default()
            };
            self.memory.edit(&edit)?;
            self.slice.removed += edges.len();
        }
        Ok(())
    }

    /// Weight x freshness x confidence. Freshness is 1 for a new edge and a half at the age limit.
    fn worth(&self, link: &Link) -> f64 {
        let half = self.policy.max_age.unwrap_or(HALF_LIFE).as_millis().max(1) as f64;
        let made = Some(u64::from(link.seconds) * 1000).filter(|made| *made > 0);
        let freshness = half / (half + self.age_ms(made) as f64);
        f64::from(link.weight) * freshness * f64::from(link.confidence)
    }

    /// What has no time is new.
    fn age_ms(&self, made: Option<u64>) -> u128 {
        made.map_or(0, |made| u128::from(self.now_ms.saturating_sub(made)))
    }
}

/// Rows from a place on, and where the next ones begin.
type After<T, K> = Result<(Vec<T>, Option<K>), ReadError>;

/// Traces with their times, how many nodes were read, and where the next ones begin.
type Traces = Result<(Vec<(NodeId, u64)>, usize, Option<NodeId>), ReadError>;

impl Memory {
    /// Traces with their times among the next `rows` nodes.
    fn traces_from(&self, from: NodeId, rows: usize) -> Traces {
        let snapshot = self.snapshot()?;
        let (mut traces, mut seen) = (Vec::new(), 0);
        for node in snapshot.nodes_from(from)? {
            let node = node?;
            if seen == rows {
                return Ok((traces, seen, Some(node.id)));
            }
            seen += 1;
            if node.node_type == crate::NodeType::Trace
                && let Some(made) = node.metadata.timestamp
            {
                traces.push((node.id, made));
            }
        }
        Ok((traces, seen, None))
    }

    /// The next `rows` edges.
    fn edges_from(&self, from: Option<&EdgeKey>, rows: usize) -> After<Edge, EdgeKey> {
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

    /// Edges of a node, in both directions.
    fn degree(&self, id: NodeId) -> usize {
        let index = self.index();
        index.slot(id).map_or(0, |slot| index.graph.degree(slot))
    }

    /// Degrees of the nodes in `count` slots from one on, and where the next ones begin.
    fn degrees_from(&self, from: u32, count: u32) -> (Vec<(usize, NodeId)>, Option<u32>) {
        let index = self.index();
        let end = from.saturating_add(count).min(index.slots() as u32);
        // An empty slot has no edges, whatever node it held last.
        let degrees = (from..end).map(|slot| (index.graph.degree(slot), index.id(slot)));
        (
            degrees.collect(),
            Some(end).filter(|end| (*end as usize) < index.slots()),
        )
    }

    /// Every edge at a node that may go once, with what it is worth. Reads no rows.
    fn weighed(&self, id: NodeId, worth: impl Fn(&Link) -> f64) -> Vec<(f64, EdgeKey)> {
        let index = self.index();
        let Some(slot) = index.slot(id) else {
            return Vec::new();
        };
        let name = |link: &Link| index.graph.relation_name(link.rel).to_owned();
        let may_go = |link: &&Link| index.graph.relation_name(link.rel) != SUMMARISES;
        let outgoing = index.graph.outgoing(slot).iter().filter(may_go);
        let outgoing = outgoing.map(|link| (worth(link), (id, index.id(link.to), name(link))));
        // An edge from the node to itself was in the other list.
        let incoming = index
            .graph
            .incoming(slot)
            .iter()
            .filter(may_go)
            .filter(|link| link.to != slot);
        let incoming = incoming.map(|link| (worth(link), (index.id(link.to), id, name(link))));
        outgoing.chain(incoming).collect()
    }
}
