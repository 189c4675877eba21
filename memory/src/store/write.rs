//! Writing: one transaction, then the index follows.
//!
//! A node's row is written with its vector pending, the vector next, the pending flag cleared last; all in one redb
//! transaction, so readers and crashes see none or all of it. What would change nothing is not written, and a transaction
//! without changes is dropped without touching the disk.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{ReadableTable, Table, WriteTransaction};

use super::row::{self, EdgeRow, NodeRow};
use super::{Batch, Memory, WriteError, Written};
use crate::index::{Change, Index, Labels, VectorChange};
use crate::node::{EdgeMetadata, Metadata, NewEdge, NewNode, Node, NodeId, NodeType};
use crate::{vectors, words};

/// Everything that one transaction does, in this order.
#[derive(Default)]
pub(crate) struct Edit<'a> {
    /// Nodes to remove, with their edges.
    pub(crate) remove_nodes: &'a [NodeId],
    /// Nodes to write.
    pub(crate) nodes: &'a [NewNode],
    /// Edges to remove.
    pub(crate) remove_edges: &'a [(NodeId, NodeId, String)],
    /// Edges to write.
    pub(crate) edges: &'a [NewEdge],
    /// The passages of documents: tenant, path, ids.
    pub(crate) documents: &'a [(String, String, Vec<NodeId>)],
}

impl Memory {
    /// Writes a batch; it is durable when this returns.
    pub fn write(&self, batch: &Batch) -> Result<Written, WriteError> {
        self.edit(&Edit {
            nodes: &batch.nodes,
            edges: &batch.edges,
            ..Edit::default()
        })
    }

    /// Removes a node with its vector and edges. False when it was not there.
    pub fn delete(&self, id: NodeId) -> Result<bool, WriteError> {
        let written = self.edit(&Edit {
            remove_nodes: &[id],
            ..Edit::default()
        })?;
        Ok(written.removed > 0)
    }

    /// Stores vectors (of any length above zero) and returns how many were stored. A vector is ignored when its node is
    /// gone, or when the text changed or another vector came since [`Memory::pending_vectors`] handed the text out.
    pub fn set_vectors(&self, vectors: &[(NodeId, Vec<f32>)]) -> Result<usize, WriteError> {
        let mut units = Vec::with_capacity(vectors.len());
        for (id, vector) in vectors {
            units.push((*id, unit_vector(*id, vector, self.config().dimensions)?));
        }
        self.transact(|transaction| {
            let mut stored = 0;
            for (id, unit) in &units {
                let embedded = self.handed_out().remove(id);
                stored += usize::from(transaction.put_vector(*id, unit, embedded)?);
            }
            Ok(stored)
        })
        .map(|(stored, _)| stored)
    }

    /// Performs an edit; it is durable when this returns.
    pub(crate) fn edit(&self, edit: &Edit<'_>) -> Result<Written, WriteError> {
        for node in edit.nodes {
            check_node(node, self.config().dimensions)?;
        }
        for edge in edit.edges {
            check_edge(edge)?;
        }
        let (mut written, generation) = self.transact(|transaction| transaction.perform(edit))?;
        written.generation = generation;
        Ok(written)
    }

    /// Runs `work` in a transaction, commits what it changed and lets the index follow. Returns the generation too.
    fn transact<T>(
        &self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, WriteError>,
    ) -> Result<(T, u64), WriteError> {
        let _one_at_a_time = self.lock_writer();
        let redb = self.inner.database.begin_write()?;
        let (result, changes, generation) = {
            let index = self.index();
            let mut transaction = Transaction::begin(&redb, &index)?;
            let result = work(&mut transaction)?;
            let (changes, generation) = transaction.finish(&redb)?;
            (result, changes, generation)
        };
        if generation == self.generation() {
            redb.abort()?;
            return Ok((result, generation));
        }
        redb.commit()?;
        self.index_mut().apply(changes, generation);
        Ok((result, generation))
    }
}

/// The tables of one write transaction, and what it has done so far.
struct Transaction<'t> {
    index: &'t Index,
    generation: u64,
    now_ms: u64,
    nodes: Table<'t, u128, &'static [u8]>,
    stamps: Table<'t, u128, u64>,
    vectors: Table<'t, u128, &'static [u8]>,
    pending: Table<'t, u128, u64>,
    edges: Table<'t, (u128, u128, &'static str), &'static [u8]>,
    documents: Table<'t, (&'static str, &'static str), &'static [u8]>,
    /// Types of the nodes in this transaction; those of others are in the index.
    types: HashMap<NodeId, Option<NodeType>>,
    stamped: BTreeSet<NodeId>,
    changes: Vec<Change>,
    dirty: bool,
}

impl<'t> Transaction<'t> {
    fn begin(redb: &'t WriteTransaction, index: &'t Index) -> Result<Self, WriteError> {
        let elapsed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            index,
            generation: index.generation + 1,
            now_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            nodes: redb.open_table(row::NODES)?,
            stamps: redb.open_table(row::STAMPS)?,
            vectors: redb.open_table(row::VECTORS)?,
            pending: redb.open_table(row::PENDING)?,
            edges: redb.open_table(row::EDGES)?,
            documents: redb.open_table(row::DOCUMENTS)?,
            types: HashMap::new(),
            stamped: BTreeSet::new(),
            changes: Vec::new(),
            dirty: false,
        })
    }

    /// Writes stamps and the generation. Returns the present generation when nothing changed.
    fn finish(mut self, redb: &WriteTransaction) -> Result<(Vec<Change>, u64), WriteError> {
        if !self.dirty {
            return Ok((Vec::new(), self.index.generation));
        }
        for id in std::mem::take(&mut self.stamped) {
            self.stamps.insert(id.as_u128(), self.generation)?;
        }
        redb.open_table(row::SEQUENCE)?
            .insert("generation", self.generation)?;
        Ok((self.changes, self.generation))
    }

    fn perform(&mut self, edit: &Edit<'_>) -> Result<Written, WriteError> {
        let mut written = Written::default();
        for id in edit.remove_nodes {
            written.removed += usize::from(self.remove_node(*id)?);
        }
        for node in edit.nodes {
            self.put_node(node, &mut written)?;
        }
        for (src, dst, rel) in edit.remove_edges {
            self.remove_edge(*src, *dst, rel)?;
        }
        for edge in edit.edges {
            written.edges += usize::from(self.put_edge(edge)?);
        }
        for (tenant, path, ids) in edit.documents {
            self.put_document(tenant, path, ids)?;
        }
        Ok(written)
    }

    fn stored_node(&self, id: NodeId) -> Result<Option<Node>, WriteError> {
        let Some(bytes) = self.nodes.get(id.as_u128())? else {
            return Ok(None);
        };
        row::decode_node(id, bytes.value(), 0)
            .map(Some)
            .map_err(WriteError::Stored)
    }

    fn put_node(&mut self, new: &NewNode, written: &mut Written) -> Result<(), WriteError> {
        let before = self.stored_node(new.id)?;
        let same_text = before
            .as_ref()
            .is_some_and(|old| old.indexed_text() == new.indexed_text());
        self.types.insert(new.id, Some(new.node_type));
        match &before {
            Some(old) if same_content(old, new) => {
                written.unchanged += 1;
                return self.refresh_vector(new);
            }
            Some(_) => written.updated += 1,
            None => written.inserted += 1,
        }
        let mut metadata = new.metadata.clone();
        metadata.timestamp = metadata.timestamp.or(Some(self.now_ms));
        let row = row::encode(&NodeRow {
            tenant: Cow::Borrowed(&new.tenant),
            text: Cow::Borrowed(&new.text),
            node_type: new.node_type,
            source: new.source,
            metadata: Cow::Borrowed(&metadata),
        });
        let key = new.id.as_u128();
        self.nodes.insert(key, row.as_slice())?;
        let vector = match new.vector.as_deref().and_then(vectors::normalised) {
            Some(unit) => {
                self.vectors
                    .insert(key, row::encode_vector(&unit).as_slice())?;
                self.pending.remove(key)?;
                VectorChange::Set(unit)
            }
            None if same_text => VectorChange::Keep,
            None => {
                self.vectors.remove(key)?;
                self.pending.insert(key, self.generation)?;
                VectorChange::Clear
            }
        };
        let words = (!same_text).then(|| {
            let before = before.as_ref().map(|old| words::count(&old.indexed_text()));
            (before, words::count(&new.indexed_text()))
        });
        let labels = Labels {
            tenant: new.tenant.clone(),
            domain: new.metadata.domain.clone(),
            node_type: new.node_type,
        };
        self.changes.push(Change::Node {
            id: new.id,
            labels,
            words,
            vector,
        });
        self.stamped.insert(new.id);
        self.dirty = true;
        Ok(())
    }

    /// A vector that came with unchanged content is still taken; it is no change of content.
    fn refresh_vector(&mut self, new: &NewNode) -> Result<(), WriteError> {
        if let Some(unit) = new.vector.as_deref().and_then(vectors::normalised) {
            let bytes = row::encode_vector(&unit);
            let same = self
                .vectors
                .get(new.id.as_u128())?
                .is_some_and(|old| old.value() == bytes);
            if !same {
                self.put_vector(new.id, &unit, None)?;
            }
        }
        Ok(())
    }

    /// Whether the vector was stored. `embedded` is the generation of the text it was made from, where that is known.
    fn put_vector(
        &mut self,
        id: NodeId,
        unit: &[f32],
        embedded: Option<u64>,
    ) -> Result<bool, WriteError> {
        let key = id.as_u128();
        if self.nodes.get(key)?.is_none() {
            return Ok(false);
        }
        let waiting = self.pending.get(key)?.map(|generation| generation.value());
        if embedded.is_some() && embedded != waiting {
            return Ok(false);
        }
        self.vectors
            .insert(key, row::encode_vector(unit).as_slice())?;
        self.pending.remove(key)?;
        self.changes.push(Change::Vector {
            id,
            unit: unit.to_vec(),
        });
        self.dirty = true;
        Ok(true)
    }

    fn remove_node(&mut self, id: NodeId) -> Result<bool, WriteError> {
        let Some(node) = self.stored_node(id)? else {
            return Ok(false);
        };
        if let Some(slot) = self.index.slot(id) {
            for link in self.index.graph.outgoing(slot) {
                let rel = self.index.graph.relation_name(link.rel);
                self.remove_edge(id, self.index.id(link.to), rel)?;
            }
            for link in self.index.graph.incoming(slot) {
                let rel = self.index.graph.relation_name(link.rel);
                self.remove_edge(self.index.id(link.to), id, rel)?;
            }
        }
        let key = id.as_u128();
        self.nodes.remove(key)?;
        self.stamps.remove(key)?;
        self.vectors.remove(key)?;
        self.pending.remove(key)?;
        self.stamped.remove(&id);
        self.types.insert(id, None);
        let words = words::count(&node.indexed_text());
        self.changes.push(Change::RemovedNode { id, words });
        self.dirty = true;
        Ok(true)
    }

    /// Whether the edge is new or changed.
    fn put_edge(&mut self, new: &NewEdge) -> Result<bool, WriteError> {
        for id in [new.src, new.dst] {
            if self.node_type(id).is_none() {
                return Err(WriteError::UnknownNode {
                    id,
                    rel: new.rel.clone(),
                });
            }
        }
        let key = (new.src.as_u128(), new.dst.as_u128(), new.rel.as_str());
        if let Some(bytes) = self.edges.get(key)? {
            let old = row::decode_edge(key, bytes.value()).map_err(WriteError::Stored)?;
            let mut metadata = new.metadata.clone();
            metadata.timestamp = metadata.timestamp.or(old.metadata.timestamp);
            if old.weight == new.weight && old.metadata == metadata {
                return Ok(false);
            }
        }
        let timestamp = new.metadata.timestamp.or(Some(self.now_ms));
        let metadata = EdgeMetadata {
            timestamp,
            ..new.metadata.clone()
        };
        let row = row::encode(&EdgeRow {
            weight: new.weight,
            metadata: Cow::Borrowed(&metadata),
        });
        self.edges.insert(key, row.as_slice())?;
        self.stamp_ends(new.src, new.dst);
        let (src, dst, rel, weight) = (new.src, new.dst, new.rel.clone(), new.weight);
        self.changes.push(Change::Edge {
            src,
            dst,
            rel,
            weight,
        });
        self.dirty = true;
        Ok(true)
    }

    fn remove_edge(&mut self, src: NodeId, dst: NodeId, rel: &str) -> Result<(), WriteError> {
        if self
            .edges
            .remove((src.as_u128(), dst.as_u128(), rel))?
            .is_some()
        {
            self.stamp_ends(src, dst);
            self.changes.push(Change::RemovedEdge {
                src,
                dst,
                rel: rel.to_owned(),
            });
            self.dirty = true;
        }
        Ok(())
    }

    /// A knowledge edge changed at both ends. Edges at traces are not knowledge: if they counted, each answer would
    /// invalidate its own cache entry.
    fn stamp_ends(&mut self, src: NodeId, dst: NodeId) {
        let ends = [src, dst];
        if ends
            .iter()
            .any(|id| self.node_type(*id) == Some(NodeType::Trace))
        {
            return;
        }
        let there = ends.into_iter().filter(|id| self.node_type(*id).is_some());
        self.stamped.extend(there.collect::<Vec<_>>());
    }

    fn node_type(&self, id: NodeId) -> Option<NodeType> {
        match self.types.get(&id) {
            Some(known) => *known,
            None => self.index.node_type(id),
        }
    }

    fn put_document(&mut self, tenant: &str, path: &str, ids: &[NodeId]) -> Result<(), WriteError> {
        let bytes = row::encode_ids(ids);
        let same = self
            .documents
            .get((tenant, path))?
            .is_some_and(|stored| stored.value() == bytes);
        if !same {
            self.documents.insert((tenant, path), bytes.as_slice())?;
            self.dirty = true;
        }
        Ok(())
    }
}

/// Equal in all but the time, unless the new node states one.
fn same_content(old: &Node, new: &NewNode) -> bool {
    let timestamp = new.metadata.timestamp.or(old.metadata.timestamp);
    old.tenant == new.tenant
        && old.text == new.text
        && old.node_type == new.node_type
        && old.source == new.source
        && old.metadata
            == Metadata {
                timestamp,
                ..new.metadata.clone()
            }
}

fn check_node(node: &NewNode, dimensions: usize) -> Result<(), WriteError> {
    if node.text.trim().is_empty() {
        return Err(WriteError::NoText { id: node.id });
    }
    if node.tenant.is_empty() {
        return Err(WriteError::NoTenant { id: node.id });
    }
    match &node.vector {
        Some(vector) => unit_vector(node.id, vector, dimensions).map(|_| ()),
        None => Ok(()),
    }
}

fn check_edge(edge: &NewEdge) -> Result<(), WriteError> {
    if edge.weight.is_finite() && edge.weight > 0.0 && !edge.rel.is_empty() {
        return Ok(());
    }
    let (src, dst, rel, weight) = (edge.src, edge.dst, edge.rel.clone(), edge.weight);
    Err(WriteError::BadEdge {
        src,
        dst,
        rel,
        weight,
    })
}

fn unit_vector(id: NodeId, vector: &[f32], dimensions: usize) -> Result<Vec<f32>, WriteError> {
    if vector.len() != dimensions {
        return Err(WriteError::Dimensions {
            id,
            expected: dimensions,
            found: vector.len(),
        });
    }
    vectors::normalised(vector).ok_or(WriteError::NotAVector { id })
}
