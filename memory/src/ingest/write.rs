//! Writing what was split: passages first, file by file, then the edges between them.
//!
//! A file's passages and the list of them are one transaction, so a crash leaves whole files; the
//! next run finds them unchanged and goes on. Edges come last, because a link may lead to a file
//! that was read later.

use std::collections::{HashMap, HashSet};

use super::document::{Document, Passage};
use super::edges::{self, CREATED_BY, Outline};
use super::files::{Listed, SourceFile};
use super::{IngestError, IngestOptions, IngestReport};
use crate::node::{Metadata, NewEdge, NewNode, NodeId, NodeSource, NodeType};
use crate::store::{Edit, Memory};

/// Passages in one transaction: enough that the disk's flush costs little, few enough that little
/// is repeated.
const BATCH_PASSAGES: usize = 512;

/// Documents removed in one transaction.
const BATCH_DOCUMENTS: usize = 64;

/// Edges in one transaction.
const BATCH_EDGES: usize = 8192;

/// One run's writing.
pub(super) struct Writer<'a> {
    memory: &'a Memory,
    options: &'a IngestOptions,
    outlines: Vec<Outline>,
    nodes: Vec<NewNode>,
    removed: Vec<NodeId>,
    lists: Vec<(String, String, Vec<NodeId>)>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(memory: &'a Memory, options: &'a IngestOptions) -> Self {
        let (nodes, removed) = (Vec::new(), Vec::new());
        Self {
            memory,
            options,
            outlines: Vec::new(),
            nodes,
            removed,
            lists: Vec::new(),
        }
    }

    /// Takes a document's passages; writes when a batch is full.
    pub(super) fn add(
        &mut self,
        file: &SourceFile,
        document: &Document,
        passages: Vec<Passage>,
        report: &mut IngestReport,
    ) -> Result<(), IngestError> {
        let (tenant, key) = (&self.options.tenant, file.key.clone());
        let mut parts: HashMap<String, usize> = HashMap::new();
        let mut placed = Vec::with_capacity(passages.len());
        for passage in passages {
            let at = |document: &str| match &passage.anchor {
                Some(anchor) => format!("{document}#{anchor}"),
                None => document.to_owned(),
            };
            let place = at(&key);
            let part = parts.entry(place.clone()).or_default();
            let id = NodeId::derived(tenant, &place, *part);
            *part += 1;
            self.nodes.push(self.node(id, at(&file.name), &passage));
            placed.push((id, passage));
        }
        let ids: Vec<NodeId> = placed.iter().map(|(id, _)| *id).collect();
        let before = self.memory.document(tenant, &key)?;
        let kept: HashSet<NodeId> = ids.iter().copied().collect();
        self.removed
            .extend(before.iter().filter(|id| !kept.contains(id)));
        self.lists.push((tenant.clone(), key.clone(), ids));
        self.outlines.push(Outline {
            key,
            root: file.root.clone(),
            known: !before.is_empty(),
            ordered: document.ordered,
            passages: placed,
        });
        if self.nodes.len() >= BATCH_PASSAGES {
            self.flush(report)
        } else {
            Ok(())
        }
    }

    fn node(&self, id: NodeId, uri: String, passage: &Passage) -> NewNode {
        NewNode {
            id,
            tenant: self.options.tenant.clone(),
            text: passage.text.clone(),
            node_type: NodeType::Doc,
            source: NodeSource::Kb,
            metadata: Metadata {
                domain: passage
                    .domain
                    .clone()
                    .or_else(|| self.options.domain.clone()),
                title: Some(passage.title.clone()).filter(|title| !title.is_empty()),
                uri: Some(uri),
                ..Metadata::default()
            },
            vector: None,
        }
    }

    /// Writes the passages taken so far.
    pub(super) fn flush(&mut self, report: &mut IngestReport) -> Result<(), IngestError> {
        let written = self.memory.edit(&Edit {
            remove_nodes: &self.removed,
            nodes: &self.nodes,
            documents: &self.lists,
            ..Edit::default()
        })?;
        report.inserted += written.inserted;
        report.updated += written.updated;
        report.unchanged += written.unchanged;
        report.removed += written.removed;
        self.nodes.clear();
        self.removed.clear();
        self.lists.clear();
        Ok(())
    }

    /// Removes the documents of earlier runs whose files are gone.
    pub(super) fn remove_gone(
        &mut self,
        listed: &Listed,
        report: &mut IngestReport,
    ) -> Result<(), IngestError> {
        self.flush(report)?;
        let tenant = &self.options.tenant;
        let mut gone = self.memory.documents(tenant)?;
        gone.retain(|(key, _)| listed.is_gone(key));
        report.gone = gone.len();
        // A document goes with its passages, so that a run that ends early leaves whole ones.
        for batch in gone.chunks(BATCH_DOCUMENTS) {
            let ids: Vec<NodeId> = batch.iter().flat_map(|(_, ids)| ids).copied().collect();
            let keys = batch.iter().map(|(key, _)| (tenant.clone(), key.clone()));
            let written = self.memory.edit(&Edit {
                remove_nodes: &ids,
                remove_documents: &keys.collect::<Vec<_>>(),
                ..Edit::default()
            })?;
            report.removed += written.removed;
        }
        Ok(())
    }

    /// Writes what is left and then all edges.
    pub(super) fn finish(mut self, report: &mut IngestReport) -> Result<(), IngestError> {
        self.flush(report)?;
        let edges = edges::of(self.memory, &self.options.tenant, &self.outlines);
        report.edges = edges.len();
        let stale = self.stale(&edges)?;
        self.memory.edit(&Edit {
            remove_edges: &stale,
            ..Edit::default()
        })?;
        for batch in edges.chunks(BATCH_EDGES) {
            self.memory.edit(&Edit {
                edges: batch,
                ..Edit::default()
            })?;
        }
        Ok(())
    }

    /// Edges of an earlier run between passages of this run that are no longer there.
    fn stale(&self, edges: &[NewEdge]) -> Result<Vec<(NodeId, NodeId, String)>, IngestError> {
        let present: HashSet<(NodeId, NodeId, &str)> = edges
            .iter()
            .map(|edge| (edge.src, edge.dst, edge.rel.as_str()))
            .collect();
        let all = self.outlines.iter().flat_map(|outline| &outline.passages);
        let in_run: HashSet<NodeId> = all.map(|(id, _)| *id).collect();
        let mut stale = Vec::new();
        for outline in self.outlines.iter().filter(|outline| outline.known) {
            for (id, _) in &outline.passages {
                let mut keys = self.memory.edge_keys(*id).into_iter();
                let unsaid = |(src, dst, rel): (NodeId, NodeId, String)| {
                    let here = src == *id && in_run.contains(&dst);
                    here && !present.contains(&(src, dst, rel.as_str()))
                };
                // Rows are only read where an edge may have to go.
                if !keys.any(unsaid) {
                    continue;
                }
                for edge in self.memory.edges(*id)? {
                    let ours = edge.metadata.created_by.as_deref() == Some(CREATED_BY);
                    if ours && unsaid((edge.src, edge.dst, edge.rel.clone())) {
                        stale.push((edge.src, edge.dst, edge.rel));
                    }
                }
            }
        }
        Ok(stale)
    }
}
