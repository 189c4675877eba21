//! Writing what was split: passages first, file by file, then the edges between them.
//!
//! A file's passages and the list of them are one transaction, so a crash leaves whole files; the
//! next run finds them unchanged and goes on. Edges come last, because a link may lead to a file
//! that was read later.

use std::collections::{HashMap, HashSet};

use super::document::{Document, Passage};
use super::files::SourceFile;
use super::{IngestError, IngestOptions, IngestReport, links};
use crate::node::{EdgeMetadata, Metadata, NewEdge, NewNode, NodeId, NodeSource, NodeType};
use crate::store::{Edit, Memory};

/// Passages in one transaction: enough that the disk's flush costs little, few enough that little
/// is repeated.
const BATCH_PASSAGES: usize = 512;

/// Edges in one transaction.
const BATCH_EDGES: usize = 8192;

/// Who made these edges; only such edges are removed again.
const CREATED_BY: &str = "ingest";

/// A document as far as edges need it.
struct Outline {
    /// What the store knows it by.
    key: String,
    /// The folder that addresses with a leading `/` start from.
    root: String,
    /// Whether the store held it before this run, so that edges may have to go.
    known: bool,
    ordered: bool,
    passages: Vec<(NodeId, Passage)>,
}

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
        let (tenant, key) = (&self.options.tenant, file.key());
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

    /// Writes what is left and then all edges.
    pub(super) fn finish(mut self, report: &mut IngestReport) -> Result<(), IngestError> {
        self.flush(report)?;
        let edges = self.edges();
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
                for edge in self.memory.edges(*id)? {
                    let ours = edge.metadata.created_by.as_deref() == Some(CREATED_BY);
                    let here = edge.src == *id && in_run.contains(&edge.dst);
                    if ours && here && !present.contains(&(edge.src, edge.dst, edge.rel.as_str())) {
                        stale.push((edge.src, edge.dst, edge.rel));
                    }
                }
            }
        }
        Ok(stale)
    }

    /// All edges of the run, each once: `hyperlink`, `follows`, `mentions`.
    fn edges(&self) -> Vec<NewEdge> {
        let places = Places::of(self.memory, &self.options.tenant, &self.outlines);
        let mut titles = links::Titles::default();
        for (id, passage) in self.outlines.iter().flat_map(|outline| &outline.passages) {
            if let Some(heading) = &passage.heading {
                titles.add(heading, *id);
            }
        }
        let mut seen = HashSet::new();
        let mut edges = Vec::new();
        let mut add = |src: NodeId, dst: NodeId, rel: &'static str| {
            if src != dst && seen.insert((src, dst, rel)) {
                let created_by = Some(CREATED_BY.to_owned());
                let metadata = EdgeMetadata {
                    created_by,
                    ..EdgeMetadata::default()
                };
                edges.push(NewEdge {
                    metadata,
                    ..NewEdge::new(src, dst, rel)
                });
            }
        };
        let mut mentions = Vec::new();
        for outline in &self.outlines {
            for (id, passage) in &outline.passages {
                for target in passage
                    .links
                    .iter()
                    .filter_map(|link| places.find(outline, link))
                {
                    add(*id, target, "hyperlink");
                }
                mentions.extend(
                    titles
                        .mentioned_in(&passage.text)
                        .into_iter()
                        .map(|to| (*id, to)),
                );
            }
            for pair in outline.passages.windows(2).filter(|_| outline.ordered) {
                add(pair[1].0, pair[0].0, "follows");
            }
        }
        links::without_common(&mut mentions);
        for (src, dst) in mentions {
            add(src, dst, "mentions");
        }
        edges
    }
}

/// Where addresses lead.
struct Places<'a> {
    memory: &'a Memory,
    tenant: &'a str,
    by_anchor: HashMap<(&'a str, &'a str), NodeId>,
    by_document: HashMap<&'a str, NodeId>,
}

impl<'a> Places<'a> {
    fn of(memory: &'a Memory, tenant: &'a str, outlines: &'a [Outline]) -> Self {
        let mut by_anchor = HashMap::new();
        let mut by_document = HashMap::new();
        for outline in outlines {
            let key = outline.key.as_str();
            for (id, passage) in &outline.passages {
                by_document.entry(key).or_insert(*id);
                for anchor in &passage.anchors {
                    by_anchor.entry((key, anchor.as_str())).or_insert(*id);
                }
            }
        }
        Self {
            memory,
            tenant,
            by_anchor,
            by_document,
        }
    }

    /// The section an address means, else its document; both may be of an earlier run. Records name
    /// each other by id.
    fn find(&self, from: &Outline, address: &str) -> Option<NodeId> {
        if !from.ordered
            && let Some(record) = self.by_anchor.get(&(from.key.as_str(), address))
        {
            return Some(*record);
        }
        let (path, anchor) = links::resolve(&from.root, &from.key, address)?;
        let anchor = anchor.as_deref().unwrap_or_default();
        let here = self.by_anchor.get(&(path.as_str(), anchor));
        here.or_else(|| self.by_document.get(path.as_str()))
            .copied()
            .or_else(|| self.find_stored(&format!("{path}#{anchor}")))
            .or_else(|| self.find_stored(&path))
    }

    fn find_stored(&self, place: &str) -> Option<NodeId> {
        let id = NodeId::derived(self.tenant, place, 0);
        self.memory.index().slot(id).map(|_| id)
    }
}
