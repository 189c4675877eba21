//! The index: everything that answers a search, in memory, rebuilt from the rows at open.
//!
//! Maps node ids to slots (dense numbers, reused after a removal) and keeps vectors, words, edges
//! and filter labels by slot. It is changed only by [`Change`]s that the store has already made
//! durable.

use std::collections::HashMap;

use crate::bm25::Bm25;
use crate::graph::{self, EdgeFacts, Graph};
use crate::node::{Metadata, NodeId, NodeType, SHARED_TENANT};
use crate::recall;
use crate::search::Filter;
use crate::slots::SlotSet;
use crate::vectors::snapshot::{GraphIdentity, Snapshot, SnapshotError};
use crate::vectors::{HnswParameters, Planned, Vectors};
use crate::words::{self, WordCounts};

/// What filters and attention look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Labels {
    /// Owner.
    pub(crate) tenant: String,
    /// Field of knowledge.
    pub(crate) domain: Option<String>,
    /// Kind of node.
    pub(crate) node_type: NodeType,
    /// Unix time in seconds.
    pub(crate) seconds: u32,
    /// Terms of the title by [`words::term_key`], ascending.
    pub(crate) title: Box<[u32]>,
}

impl Labels {
    /// The labels of a node.
    pub(crate) fn of(tenant: String, node_type: NodeType, metadata: &Metadata) -> Self {
        Self {
            tenant,
            domain: metadata.domain.clone(),
            node_type,
            seconds: graph::seconds(metadata.timestamp),
            title: words::keys(own_title(metadata.title.as_deref().unwrap_or_default())),
        }
    }
}

/// A title without the words in brackets at its end, which no question repeats: `Dune (film)`.
fn own_title(title: &str) -> &str {
    let end = title.strip_suffix(')').and_then(|_| title.rfind(" ("));
    end.map_or(title, |end| &title[..end])
}

/// What happens to a node's vector when the node is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum VectorChange {
    /// The text is the same, so the vector still fits.
    Keep,
    /// The text changed and its vector is not known yet.
    Clear,
    /// A unit vector.
    Set(Vec<f32>),
}

/// One durable change.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A node was written.
    Node {
        id: NodeId,
        labels: Labels,
        /// Words before and after; `None` when the text is the same.
        words: Option<(Option<WordCounts>, WordCounts)>,
        vector: VectorChange,
    },
    /// A node was removed; its edges are gone with it.
    RemovedNode { id: NodeId, words: WordCounts },
    /// An edge was written.
    Edge {
        src: NodeId,
        dst: NodeId,
        rel: String,
        facts: EdgeFacts,
    },
    /// An edge was removed.
    RemovedEdge {
        src: NodeId,
        dst: NodeId,
        rel: String,
    },
    /// A vector arrived.
    Vector { id: NodeId, unit: Vec<f32> },
}

impl Change {
    /// The node, or the two ends of the edge.
    fn ends(&self) -> [NodeId; 2] {
        match self {
            Self::Node { id, .. } | Self::RemovedNode { id, .. } | Self::Vector { id, .. } => {
                [*id; 2]
            }
            Self::Edge { src, dst, .. } | Self::RemovedEdge { src, dst, .. } => [*src, *dst],
        }
    }
}

/// A slot's labels in numbers.
#[derive(Clone, Copy, Debug)]
struct Row {
    tenant: u32,
    domain: Option<u32>,
    node_type: NodeType,
    seconds: u32,
    live: bool,
}

/// The whole index.
#[derive(Debug)]
pub(crate) struct Index {
    slots: HashMap<NodeId, u32>,
    /// Apart from the rows, since recall orders what it meets by id and looks at little else.
    ids: Vec<NodeId>,
    rows: Vec<Row>,
    titles: Vec<Box<[u32]>>,
    free: Vec<u32>,
    names: HashMap<String, u32>,
    /// Vectors by slot.
    pub(crate) vectors: Vectors,
    /// Words by slot.
    pub(crate) words: Bm25,
    /// Edges by slot.
    pub(crate) graph: Graph,
    /// Number of the last durable write that this index has seen.
    pub(crate) generation: u64,
    /// Number of the last write at a tenant's nodes since the store was opened, apart for traces.
    changed: HashMap<(u32, bool), u64>,
    /// Time of the newest node beyond those that are held, where they are a part of a larger memory.
    pub(crate) newest_beyond: u32,
}

/// What a filter lets through, slot by slot.
pub(crate) struct Passing<'a> {
    rows: &'a [Row],
    tenants: [Option<u32>; 2],
    /// `None` where all pass.
    domains: Option<Vec<u32>>,
    types: [bool; NodeType::ALL.len()],
    hidden: SlotSet,
}

impl Passing<'_> {
    /// Whether the node in `slot` passes.
    pub(crate) fn passes(&self, slot: u32) -> bool {
        self.labels(&self.rows[slot as usize]) && !self.hidden.contains(&slot)
    }

    fn labels(&self, row: &Row) -> bool {
        let domain = |domains: &Vec<u32>| row.domain.is_some_and(|own| domains.contains(&own));
        row.live
            && self.types[row.node_type as usize]
            && self.tenants.contains(&Some(row.tenant))
            && self.domains.as_ref().is_none_or(domain)
    }
}

/// Which slots a filter lets through.
#[derive(Debug)]
pub(crate) struct Allowed {
    /// One entry a slot.
    pub(crate) mask: Vec<bool>,
    /// Number of slots that passed.
    pub(crate) passed: usize,
    /// Share of the live slots that passed.
    pub(crate) share: f32,
}

impl Allowed {
    /// The mask, and how many slots pass it.
    pub(crate) fn by_slot(&self) -> (Option<&[bool]>, usize) {
        (Some(&self.mask), self.passed)
    }
}

impl Index {
    /// Empty, for vectors of `dimensions` values.
    pub(crate) fn new(dimensions: usize, parameters: HnswParameters) -> Self {
        Self {
            slots: HashMap::new(),
            ids: Vec::new(),
            rows: Vec::new(),
            titles: Vec::new(),
            free: Vec::new(),
            names: HashMap::new(),
            vectors: Vectors::new(dimensions, parameters),
            words: Bm25::default(),
            graph: Graph::default(),
            generation: 0,
            changed: HashMap::new(),
            newest_beyond: 0,
        }
    }

    /// Number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The slot of a node.
    pub(crate) fn slot(&self, id: NodeId) -> Option<u32> {
        self.slots.get(&id).copied()
    }

    /// The node in a live slot.
    pub(crate) fn id(&self, slot: u32) -> NodeId {
        self.ids[slot as usize]
    }

    /// The type of a node that is there.
    pub(crate) fn node_type(&self, id: NodeId) -> Option<NodeType> {
        self.slot(id).map(|slot| self.rows[slot as usize].node_type)
    }

    /// Number of nodes of a type.
    pub(crate) fn count(&self, node_type: NodeType) -> usize {
        let is_one = |row: &&Row| row.live && row.node_type == node_type;
        self.rows.iter().filter(is_one).count()
    }

    /// Every node with the number of its edges.
    pub(crate) fn degrees(&self) -> Vec<(NodeId, usize)> {
        let slots = self.slots.iter();
        slots
            .map(|(id, slot)| (*id, self.graph.degree(*slot)))
            .collect()
    }

    /// Number of slots, live or free.
    pub(crate) fn slots(&self) -> usize {
        self.rows.len()
    }

    /// Time of the newest node in seconds; 0 when there is none.
    pub(crate) fn newest(&self) -> u32 {
        let live = self.rows.iter().filter(|row| row.live);
        live.map(|row| row.seconds)
            .max()
            .unwrap_or(0)
            .max(self.newest_beyond)
    }

    /// The type of the node in a live slot, and its time in seconds.
    pub(crate) fn kind(&self, slot: u32) -> (NodeType, u32) {
        let row = &self.rows[slot as usize];
        (row.node_type, row.seconds)
    }

    /// Terms of the title of the node in a live slot, by [`words::term_key`], ascending.
    pub(crate) fn title(&self, slot: u32) -> &[u32] {
        &self.titles[slot as usize]
    }

    /// Every node the filter lets through, by id.
    pub(crate) fn ids(&self, filter: &Filter) -> Vec<NodeId> {
        let allowed = self.allowed(filter);
        let mut ids: Vec<NodeId> = (self.ids.iter().zip(&allowed.mask))
            .filter(|(_, passes)| **passes)
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        ids
    }

    /// A filter in the numbers of this index.
    pub(crate) fn passing(&self, filter: &Filter) -> Passing<'_> {
        let number = |name: &str| self.names.get(name).copied();
        let tenants = [number(&filter.tenant), number(SHARED_TENANT)];
        let domains = filter.domains.iter().filter_map(|name| number(name));
        let mut types = [false; NodeType::ALL.len()];
        for node_type in NodeType::ALL {
            types[node_type as usize] = filter.sees(node_type);
        }
        Passing {
            rows: &self.rows,
            tenants,
            domains: (!filter.domains.is_empty()).then(|| domains.collect()),
            types,
            hidden: self.hidden(filter),
        }
    }

    /// The slots of what a filter hides, and of summaries of that.
    fn hidden(&self, filter: &Filter) -> SlotSet {
        let slots = filter.hidden.iter().filter_map(|id| self.slot(*id));
        slots
            .flat_map(|slot| self.summaries_of(slot).chain([slot]))
            .collect()
    }

    /// Evaluates `filter` for every slot.
    pub(crate) fn allowed(&self, filter: &Filter) -> Allowed {
        let passing = self.passing(filter);
        let mut mask: Vec<bool> = self.rows.iter().map(|row| passing.labels(row)).collect();
        for slot in &passing.hidden {
            mask[*slot as usize] = false;
        }
        let passed = mask.iter().filter(|passed| **passed).count();
        Allowed {
            mask,
            passed,
            share: passed as f32 / self.len().max(1) as f32,
        }
    }

    /// Plans the next change of the vectors' graph; `None` when every vector has its place.
    pub(crate) fn plan(&self) -> Option<Planned> {
        let number = |slot: u32| {
            let id = self.id(slot).as_u128();
            id as u64 ^ (id >> 64) as u64
        };
        self.vectors.plan(number)
    }

    /// The vectors' graph as bytes; `None` when there is none.
    pub(crate) fn snapshot(&self, identity: &GraphIdentity) -> Option<Vec<u8>> {
        let id = |slot: u32| {
            let id = self.ids.get(slot as usize)?;
            (self.slot(*id) == Some(slot)).then(|| id.as_u128())
        };
        self.vectors.snapshot(identity, self.generation, id)
    }

    /// Takes the vectors' graph from a snapshot.
    pub(crate) fn adopt(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let slots = &self.slots;
        let slot = |id: u128| slots.get(&NodeId::from_u128(id)).copied();
        let known = (self.generation, self.rows.len());
        self.vectors.adopt(snapshot, known, slot)
    }

    /// Follows a write that is durable.
    pub(crate) fn apply(&mut self, changes: Vec<Change>, generation: u64) {
        for change in changes {
            let (ends, is_node) = (change.ends(), matches!(change, Change::Node { .. }));
            self.note(ends, generation);
            self.follow(change);
            if is_node {
                // One that came is noted now, and one that was given to another tenant changed for both.
                self.note(ends, generation);
            }
        }
        self.generation = generation;
    }

    /// Number of the last write since the store was opened that changed what a filter lets through, or an edge at it.
    pub(crate) fn last_change(&self, filter: &Filter) -> u64 {
        let (tenants, traces) = recall::sees(filter);
        let tenants = tenants.into_iter().filter_map(|name| self.names.get(name));
        let kinds: &[bool] = if traces { &[false, true] } else { &[false] };
        let keys = tenants.flat_map(|tenant| kinds.iter().map(|kind| (*tenant, *kind)));
        let changes = keys.filter_map(|key| self.changed.get(&key));
        changes.max().copied().unwrap_or(0)
    }

    /// Notes a write at nodes. An edge at a trace is the trace's: it says nothing about what is known.
    fn note(&mut self, ends: [NodeId; 2], generation: u64) {
        let rows = ends.map(|id| self.slot(id).map(|slot| self.rows[slot as usize]));
        let is_trace = |row: &Row| row.node_type == NodeType::Trace;
        let trace = rows.iter().flatten().any(is_trace);
        for row in rows.iter().flatten() {
            self.changed.insert((row.tenant, trace), generation);
        }
    }

    /// Makes a change that is not news: of what was stored before.
    pub(crate) fn follow(&mut self, change: Change) {
        match change {
            Change::Node {
                id,
                labels,
                words,
                vector,
            } => self.put_node(id, labels, words, vector),
            Change::RemovedNode { id, words } => self.remove_node(id, &words),
            Change::Edge {
                src,
                dst,
                rel,
                facts,
            } => {
                let ends = self.slot(src).zip(self.slot(dst));
                if let Some(((src, dst), rel)) = ends.zip(self.graph.number(&rel)) {
                    self.graph.insert(src, dst, rel, facts);
                }
            }
            Change::RemovedEdge { src, dst, rel } => {
                let ends = self.slot(src).zip(self.slot(dst));
                if let Some(((src, dst), rel)) = ends.zip(self.graph.number(&rel)) {
                    self.graph.remove(src, dst, rel);
                }
            }
            Change::Vector { id, unit } => {
                if let Some(slot) = self.slot(id) {
                    self.vectors.set(slot, &unit);
                }
            }
        }
    }

    fn put_node(
        &mut self,
        id: NodeId,
        labels: Labels,
        words: Option<(Option<WordCounts>, WordCounts)>,
        vector: VectorChange,
    ) {
        let row = Row {
            tenant: self.name(&labels.tenant),
            domain: labels.domain.as_deref().map(|domain| self.name(domain)),
            node_type: labels.node_type,
            seconds: labels.seconds,
            live: true,
        };
        let slot = self.slot(id).unwrap_or_else(|| self.take_slot(id, row));
        self.ids[slot as usize] = id;
        self.rows[slot as usize] = row;
        self.titles[slot as usize] = labels.title;
        if let Some((before, after)) = words {
            if let Some(before) = before {
                self.words.remove(slot, &before);
            }
            self.words.insert(slot, after);
        }
        match vector {
            VectorChange::Keep => {}
            VectorChange::Clear => self.vectors.clear(slot),
            VectorChange::Set(unit) => self.vectors.set(slot, &unit),
        }
    }

    fn take_slot(&mut self, id: NodeId, row: Row) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.ids.push(id);
            self.rows.push(row);
            self.titles.push(Box::default());
            u32::try_from(self.rows.len() - 1).expect("fewer than four billion nodes in memory")
        });
        self.slots.insert(id, slot);
        slot
    }

    fn remove_node(&mut self, id: NodeId, words: &WordCounts) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        self.rows[slot as usize].live = false;
        self.words.remove(slot, words);
        self.vectors.clear(slot);
        self.graph.clear(slot);
        self.free.push(slot);
    }

    fn name(&mut self, name: &str) -> u32 {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).expect("fewer names than nodes");
        self.names.insert(name.to_owned(), number);
        number
    }
}
