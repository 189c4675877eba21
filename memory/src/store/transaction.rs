//! One write transaction: what it changes in the tables, and what the index must follow.
//!
//! A node's row is written with its vector pending, the vector next, the pending flag cleared last.
//! What would change nothing is not written. What a caller may do is checked here, on the rows as this transaction sees
//! them; checks of the values that come from outside stand in `write.rs`.

mod erase;
mod repair;
mod summaries;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{ReadableTable, Table, WriteTransaction};

use super::row::{self, EdgeRow, NodeRow};
use super::write::Edit;
use super::{WriteError, Written};
use crate::access::Access;
use crate::graph::EdgeFacts;
use crate::index::{Change, Index, Labels, VectorChange};
use crate::node::{EdgeMetadata, NewEdge, NewNode, Node, NodeId, NodeType};
use crate::{vectors, words};

pub use erase::Erased;
pub(crate) use repair::Repairs;

/// Source, target and relation of an edge.
pub(crate) type EdgeKey = (NodeId, NodeId, String);

/// The tables of one write transaction, and what it has done so far.
pub(super) struct Transaction<'t> {
    index: &'t Index,
    generation: u64,
    now_ms: u64,
    nodes: Table<'t, u128, &'static [u8]>,
    stamps: Table<'t, u128, u64>,
    vectors: Table<'t, u128, &'static [u8]>,
    pending: Table<'t, u128, u64>,
    unjoined: Table<'t, u128, ()>,
    edges: Table<'t, (u128, u128, &'static str), &'static [u8]>,
    documents: Table<'t, (&'static str, &'static str), &'static [u8]>,
    shadow: Option<ShadowTables<'t>>,
    /// Types of the nodes in this transaction; those of others are in the index.
    types: HashMap<NodeId, Option<NodeType>>,
    stamped: BTreeSet<NodeId>,
    /// Nodes whose content changed or that went: their summaries go too.
    outdated: BTreeSet<NodeId>,
    changes: Vec<Change>,
    dirty: bool,
}

/// The second set of vectors, while there is one: what it waits for follows every write of a text.
struct ShadowTables<'t> {
    vectors: Table<'t, u128, &'static [u8]>,
    pending: Table<'t, u128, u64>,
}

impl<'t> Transaction<'t> {
    pub(super) fn begin(
        redb: &'t WriteTransaction,
        index: &'t Index,
        shadowed: bool,
    ) -> Result<Self, WriteError> {
        let shadow = match shadowed {
            true => Some(ShadowTables {
                vectors: redb.open_table(row::SHADOW_VECTORS)?,
                pending: redb.open_table(row::SHADOW_PENDING)?,
            }),
            false => None,
        };
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
            unjoined: redb.open_table(row::UNJOINED)?,
            edges: redb.open_table(row::EDGES)?,
            documents: redb.open_table(row::DOCUMENTS)?,
            shadow,
            types: HashMap::new(),
            stamped: BTreeSet::new(),
            outdated: BTreeSet::new(),
            changes: Vec::new(),
            dirty: false,
        })
    }

    /// Lets go of outdated summaries, writes stamps and the generation. Returns the present generation when nothing changed.
    pub(super) fn finish(
        mut self,
        redb: &WriteTransaction,
    ) -> Result<(Vec<Change>, u64), WriteError> {
        if !self.dirty {
            return Ok((Vec::new(), self.index.generation));
        }
        self.drop_outdated()?;
        for id in std::mem::take(&mut self.stamped) {
            self.stamps.insert(id.as_u128(), self.generation)?;
        }
        redb.open_table(row::SEQUENCE)?
            .insert("generation", self.generation)?;
        Ok((self.changes, self.generation))
    }

    pub(super) fn perform(&mut self, edit: &Edit<'_>) -> Result<Written, WriteError> {
        let mut written = Written::default();
        for id in edit.remove_nodes {
            if self.may_remove(edit.access, *id)? {
                written.removed += usize::from(self.remove_node(*id)?);
            }
        }
        for node in edit.nodes {
            self.check_put(edit.access, node)?;
            self.put_node(node, &mut written)?;
        }
        for (src, dst, rel) in edit.remove_edges {
            self.remove_edge(*src, *dst, rel)?;
        }
        for (place, edge) in edit.edges.iter().enumerate() {
            self.check_join(edit.access, place, edge)?;
            written.edges += usize::from(self.put_edge(edge)?);
        }
        for id in edit.joined {
            self.dirty |= self.unjoined.remove(id.as_u128())?.is_some();
        }
        for (tenant, key) in edit.remove_documents {
            let there = self.documents.remove((tenant.as_str(), key.as_str()))?;
            self.dirty |= there.is_some();
        }
        for (tenant, key, ids) in edit.documents {
            self.put_document(tenant, key, ids)?;
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

    fn may_remove(&self, access: Option<&Access>, id: NodeId) -> Result<bool, WriteError> {
        match access {
            Some(access) => access.may_remove(id, self.stored_node(id)?.as_ref()),
            None => Ok(true),
        }
    }

    fn check_put(&self, access: Option<&Access>, new: &NewNode) -> Result<(), WriteError> {
        match access {
            Some(access) => access.check_put(new, self.stored_node(new.id)?.as_ref()),
            None => Ok(()),
        }
    }

    fn check_join(
        &self,
        access: Option<&Access>,
        place: usize,
        new: &NewEdge,
    ) -> Result<(), WriteError> {
        let Some(access) = access else {
            return Ok(());
        };
        let (src, dst) = (self.stored_node(new.src)?, self.stored_node(new.dst)?);
        access.check_join((place, new), [src.as_ref(), dst.as_ref()])
    }

    fn put_node(&mut self, new: &NewNode, written: &mut Written) -> Result<(), WriteError> {
        let before = self.stored_node(new.id)?;
        let same_text = before
            .as_ref()
            .is_some_and(|old| old.indexed_text() == new.indexed_text());
        self.types.insert(new.id, Some(new.node_type));
        match &before {
            Some(old) if new.is_stored_as(old) => {
                written.unchanged += 1;
                return self.refresh_vector(new);
            }
            Some(_) => {
                written.updated += 1;
                self.outdated.insert(new.id);
            }
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
                self.mark_unjoined(new.id)?;
                VectorChange::Set(unit)
            }
            None if same_text => VectorChange::Keep,
            None => {
                self.vectors.remove(key)?;
                self.unjoined.remove(key)?;
                self.pending.insert(key, self.generation)?;
                VectorChange::Clear
            }
        };
        if !same_text && let Some(shadow) = &mut self.shadow {
            shadow.vectors.remove(key)?;
            shadow.pending.insert(key, self.generation)?;
        }
        let words = (!same_text).then(|| {
            let before = before.as_ref().map(|old| words::count(&old.indexed_text()));
            (before, words::count(&new.indexed_text()))
        });
        let labels = Labels::of(new.tenant.clone(), new.node_type, &metadata);
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

    /// Whether the vector was stored. `embedded` is the generation of the text it was made from,
    /// where that is known.
    pub(super) fn put_vector(
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
        self.mark_unjoined(id)?;
        self.changes.push(Change::Vector {
            id,
            unit: unit.to_vec(),
        });
        self.dirty = true;
        Ok(true)
    }

    /// A passage's topic follows from its vector.
    fn mark_unjoined(&mut self, id: NodeId) -> Result<(), WriteError> {
        if self.node_type(id) == Some(NodeType::Doc) {
            self.unjoined.insert(id.as_u128(), ())?;
        }
        Ok(())
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
        self.unjoined.remove(key)?;
        if let Some(shadow) = &mut self.shadow {
            shadow.vectors.remove(key)?;
            shadow.pending.remove(key)?;
        }
        self.stamped.remove(&id);
        self.outdated.insert(id);
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
            if new.is_stored_as(&old) {
                return Ok(false);
            }
        }
        if self.says_source(new.src, &new.rel) {
            self.check_source(new)?;
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
        self.stamp_ends(new.src, new.dst, &new.rel);
        self.changes.push(Change::Edge {
            src: new.src,
            dst: new.dst,
            rel: new.rel.clone(),
            facts: EdgeFacts::of(new.weight, metadata),
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
            self.stamp_ends(src, dst, rel);
            self.changes.push(Change::RemovedEdge {
                src,
                dst,
                rel: rel.to_owned(),
            });
            self.dirty = true;
        }
        Ok(())
    }

    /// A knowledge edge changed at both ends. Edges at traces are not knowledge: if they counted,
    /// each answer would invalidate its own cache entry. Nor does a source change when it is summarised.
    fn stamp_ends(&mut self, src: NodeId, dst: NodeId, rel: &str) {
        if self.says_source(src, rel) {
            self.stamped.insert(src);
            return;
        }
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

    fn put_document(&mut self, tenant: &str, key: &str, ids: &[NodeId]) -> Result<(), WriteError> {
        let bytes = row::encode_ids(ids);
        let same = self
            .documents
            .get((tenant, key))?
            .is_some_and(|stored| stored.value() == bytes);
        if !same {
            self.documents.insert((tenant, key), bytes.as_slice())?;
            self.dirty = true;
        }
        Ok(())
    }
}
