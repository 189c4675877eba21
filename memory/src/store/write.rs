//! Writing: one transaction, then the index follows.
//!
//! Checks what comes from outside, runs a transaction (`transaction.rs`), and lets the index follow
//! what was committed. A transaction without changes is dropped without touching the disk.

use std::sync::atomic::Ordering;

use redb::WriteTransaction;

use super::storage::{self, Room};
use super::transaction::{Erased, Transaction};
use super::{Batch, Memory, WriteError, Written};
use crate::access::Access;
use crate::node::{EVIDENCE_CHARS_MAX, NewEdge, NewNode, NodeId};
use crate::vectors;

/// Everything that one transaction does, in this order.
#[derive(Default)]
pub(crate) struct Edit<'a> {
    /// On whose behalf; `None` for this process itself, which may do everything.
    pub(crate) access: Option<&'a Access>,
    /// Nodes to remove, with their edges.
    pub(crate) remove_nodes: &'a [NodeId],
    /// Nodes to write.
    pub(crate) nodes: &'a [NewNode],
    /// Edges to remove.
    pub(crate) remove_edges: &'a [(NodeId, NodeId, String)],
    /// Edges to write.
    pub(crate) edges: &'a [NewEdge],
    /// Passages whose `same_topic` edges are made.
    pub(crate) joined: &'a [NodeId],
    /// Documents to forget: tenant and key.
    pub(crate) remove_documents: &'a [(String, String)],
    /// The passages of documents: tenant, key, ids.
    pub(crate) documents: &'a [(String, String, Vec<NodeId>)],
}

impl Edit<'_> {
    fn room(&self) -> Room {
        let adds = !(self.nodes.is_empty() && self.edges.is_empty() && self.joined.is_empty());
        if adds { Room::More } else { Room::Less }
    }
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

    /// Writes a batch for a caller, who may change its own tenant's nodes and join them to those that it may read. The
    /// check and the write are one transaction. An edge needs two nodes that the caller may read and one that it may
    /// change: what everybody recalls from shared nodes is not one tenant's to write.
    pub fn write_as(&self, access: &Access, batch: &Batch) -> Result<Written, WriteError> {
        self.edit(&Edit {
            access: Some(access),
            nodes: &batch.nodes,
            edges: &batch.edges,
            ..Edit::default()
        })
    }

    /// As [`Memory::delete`], for a caller. False also where the caller may not know of the node.
    pub fn delete_as(&self, access: &Access, id: NodeId) -> Result<bool, WriteError> {
        let written = self.edit(&Edit {
            access: Some(access),
            remove_nodes: &[id],
            ..Edit::default()
        })?;
        Ok(written.removed > 0)
    }

    /// Removes a node with its vector and edges. False when it was not there.
    pub fn delete(&self, id: NodeId) -> Result<bool, WriteError> {
        let written = self.edit(&Edit {
            remove_nodes: &[id],
            ..Edit::default()
        })?;
        Ok(written.removed > 0)
    }

    /// Removes everything about a subject: its nodes in one tenant or, without one, in all; the summaries and traces that
    /// were made from them; their vectors, words, edges and places in documents. All of it in one transaction, or nothing.
    pub fn erase_as(
        &self,
        access: &Access,
        subject: &str,
        tenant: Option<&str>,
    ) -> Result<Erased, WriteError> {
        if !access.admin {
            return Err(WriteError::EraseNeedsAdmin);
        }
        self.erase(subject, tenant)
    }

    /// As [`Memory::erase_as`], for this process itself.
    pub fn erase(&self, subject: &str, tenant: Option<&str>) -> Result<Erased, WriteError> {
        let erase = |transaction: &mut Transaction<'_>| transaction.erase(subject, tenant);
        let (mut erased, generation) = self.transact(Room::Less, erase)?;
        let mut handed_out = self.handed_out();
        for id in &erased.ids {
            handed_out.remove(id);
        }
        erased.generation = generation;
        // Answers to other questions may repeat what is gone too. An answer that is being made is not kept any more.
        erased.recollections = self.recall_cache().forget();
        Ok(erased)
    }

    /// Stores vectors (of any length above zero) and returns how many were stored. A vector is
    /// ignored when its node is gone, or when the text changed or another vector came since
    /// [`Memory::pending_vectors`] handed the text out.
    pub fn set_vectors(&self, vectors: &[(NodeId, Vec<f32>)]) -> Result<usize, WriteError> {
        let mut units = Vec::with_capacity(vectors.len());
        for (id, vector) in vectors {
            units.push((*id, unit_vector(*id, vector, self.config().dimensions)?));
        }
        self.transact(Room::More, |transaction| {
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
        let (mut written, generation) =
            self.transact(edit.room(), |transaction| transaction.perform(edit))?;
        written.generation = generation;
        Ok(written)
    }

    /// Runs `work` in a transaction, commits what it changed and lets the index follow. Returns the
    /// generation too.
    pub(super) fn transact<T>(
        &self,
        room: Room,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, WriteError>,
    ) -> Result<(T, u64), WriteError> {
        self.in_transaction(room, |redb| {
            let (result, changes, generation) = {
                let index = self.index();
                let shadowed = self.inner.shadowed.load(Ordering::Acquire);
                let mut transaction = Transaction::begin(&redb, &index, shadowed)?;
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
            self.inner.linker.wake();
            Ok((result, generation))
        })
    }

    /// Hands a transaction of the file to `work`, which commits it; one at a time. A file that fails under it is opened again.
    pub(super) fn in_transaction<T>(
        &self,
        room: Room,
        work: impl FnOnce(WriteTransaction) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let _one_at_a_time = self.lock_writer();
        let storage = &self.inner.storage;
        if storage.is_closed() {
            self.recover().map_err(WriteError::Stored)?;
        }
        let done = storage.begin_write(room).and_then(work);
        let Err(error) = done else {
            return done;
        };
        if storage::is_broken(&error) {
            // Where it cannot be opened now, the next call tries again.
            let _ = self.recover();
        }
        Err(if storage::is_full(&error) {
            storage.full(room)
        } else {
            error
        })
    }
}

/// Whether a node fits a memory of vectors of `dimensions` values.
pub(crate) fn check_node(node: &NewNode, dimensions: usize) -> Result<(), WriteError> {
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

/// Whether an edge can be weighed and named, and its evidence kept.
pub(crate) fn check_edge(edge: &NewEdge) -> Result<(), WriteError> {
    if edge.rel.is_empty() || !edge.weight.is_finite() || edge.weight <= 0.0 {
        return Err(WriteError::BadEdge {
            src: edge.src,
            dst: edge.dst,
            rel: edge.rel.clone(),
            weight: edge.weight,
        });
    }
    let evidence = edge.metadata.evidence.as_deref().unwrap_or_default();
    // No text has more characters than bytes, so that most need no counting.
    if evidence.len() <= EVIDENCE_CHARS_MAX {
        return Ok(());
    }
    match evidence.chars().count() {
        0..=EVIDENCE_CHARS_MAX => Ok(()),
        chars => Err(WriteError::LongEvidence {
            src: edge.src,
            dst: edge.dst,
            rel: edge.rel.clone(),
            chars,
        }),
    }
}

/// The vector of a node at length 1.
pub(crate) fn unit_vector(
    id: NodeId,
    vector: &[f32],
    dimensions: usize,
) -> Result<Vec<f32>, WriteError> {
    if vector.len() != dimensions {
        return Err(WriteError::Dimensions {
            id,
            expected: dimensions,
            found: vector.len(),
        });
    }
    vectors::normalised(vector).ok_or(WriteError::NotAVector { id })
}
