//! The two memory commands, the same for a running instance and for files that nobody has open.
//!
//! Storage, search and reading files are `weir-memory`; this file turns them into messages that cross the control socket.
//! Read on in weir-memory-live's `fill.rs` for what happens to passages after they were read.

use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;
use weir_crds::Age;
use weir_memory::ingest::{self, IngestProgress};
use weir_memory::upkeep::PrunePolicy;
use weir_memory::{
    EdgeId, Filter, Memory, NodeId, NodeType, Query, Recall, RecallLimits, Recalled,
};
use weir_memory_live::{TunePolicy, UpkeepPolicy};

/// Longest text of a passage in a search result, in characters.
const SNIPPET_CHARS: usize = 240;

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngestOptions {
    /// Files and folders, absolute.
    pub paths: Vec<PathBuf>,
    /// Whose passages these are; `None` means everybody's.
    pub tenant: Option<String>,
    /// Domain of the passages.
    pub domain: Option<String>,
    /// Whether documents go whose files below these folders are gone.
    #[serde(default)]
    pub mirror: bool,
}

/// What to find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchOptions {
    /// The question.
    pub text: String,
    /// Who asks; sees its own passages and everybody's.
    pub tenant: String,
    /// Domains to look in; empty means all.
    pub domains: Vec<String>,
    /// Kinds of passages; empty means all but traces.
    pub types: Vec<NodeType>,
    /// Passages wanted.
    pub count: usize,
}

/// How far reading is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngestLine {
    /// Files found.
    pub files: usize,
    /// Files read.
    pub files_done: usize,
    /// Passages so far.
    pub passages: usize,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngestSummary {
    /// Files read.
    pub files: usize,
    /// Passages in them.
    pub passages: usize,
    /// New passages.
    pub inserted: usize,
    /// Passages whose text changed.
    pub updated: usize,
    /// Passages that were there already.
    pub unchanged: usize,
    /// Passages that their file no longer has, and those of files that are gone.
    pub removed: usize,
    /// Documents that were removed because their files are gone.
    #[serde(default)]
    pub gone: usize,
    /// Edges written.
    pub edges: usize,
    /// Files that were not reached because the reading was told to end.
    pub left: usize,
    /// Files that could not be read, and why.
    pub bad: Vec<(PathBuf, String)>,
    /// Passages whose vector is still to be computed.
    pub vectors_pending: usize,
}

/// A passage that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Id of the node.
    pub id: String,
    /// Title of its document.
    pub title: Option<String>,
    /// Where it came from.
    pub uri: Option<String>,
    /// Its beginning.
    pub text: String,
    /// Share of attention, all passages together 1.
    pub score: f32,
    /// Cosine similarity; absent while its vector is not there.
    pub cosine: Option<f32>,
    /// Hops from a passage that the search found itself.
    pub depth: u8,
}

/// What a search found and how it came there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Picture {
    /// What was found, most attention first, then nodes that only led there.
    pub nodes: Vec<Found>,
    /// How many of the nodes were found.
    pub listed: usize,
    /// The edges between them.
    pub edges: Vec<Joined>,
}

/// An edge of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// Id of the node where it starts.
    pub src: String,
    /// Id of the node where it ends.
    pub dst: String,
    /// Its relation.
    pub rel: String,
    /// Its weight.
    pub weight: f32,
    /// Whether a node of the picture was reached by it.
    pub led: bool,
}

/// How much of the graph a request's attention looks at, as its MemoryStore says.
pub(crate) fn limits(spec: &weir_crds::Attention) -> RecallLimits {
    RecallLimits {
        seeds: spec.seeds as usize,
        hops: u8::try_from(spec.hops).unwrap_or(u8::MAX),
        nodes_max: spec.nodes_max as usize,
    }
}

/// What is done to a memory by itself, as its MemoryStore says.
pub(crate) fn upkeep(spec: &weir_crds::MemoryStoreSpec) -> UpkeepPolicy {
    let graph = spec.graph_policy.as_ref();
    let age = |age: Age| Duration::from_secs(age.hours() * 3600);
    let traces = spec.retention.traces;
    let prune = PrunePolicy {
        degree_max: graph.map_or(usize::MAX, |graph| graph.degree_max as usize),
        min_weight: graph.map_or(0.0, |graph| graph.min_weight as f32),
        max_age: graph.and_then(|graph| graph.max_age).map(age),
        trace_age: traces.map(age),
    };
    let tune = spec.index.tune.as_ref();
    UpkeepPolicy {
        prune: (graph.is_some() || traces.is_some()).then_some(prune),
        tune: tune.map(|tune| TunePolicy {
            target_recall: tune.target_recall,
            every_writes: tune.every_writes.into(),
        }),
    }
}

/// Why a memory command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryCommandError {
    /// Files could not be read in.
    #[error("ingest: {}", weir_plan::chain(.0))]
    Ingest(#[from] ingest::IngestError),
    /// The search failed.
    #[error("search: {}", weir_plan::chain(.0))]
    Search(#[from] weir_memory::SearchError),
    /// A passage could not be read.
    #[error("read passages: {}", weir_plan::chain(.0))]
    Read(#[from] weir_memory::ReadError),
}

/// Reads files into the memory. Blocks; `progress` is called from this thread, before each file, and may end the reading.
///
/// # Errors
/// A path does not exist or the memory cannot be written. Single bad files are part of the summary.
pub fn ingest(
    memory: &Memory,
    options: &IngestOptions,
    progress: &mut dyn FnMut(IngestLine) -> ControlFlow<()>,
) -> Result<IngestSummary, MemoryCommandError> {
    let mut how = ingest::IngestOptions {
        domain: options.domain.clone(),
        mirror: options.mirror,
        ..Default::default()
    };
    if let Some(tenant) = &options.tenant {
        how.tenant.clone_from(tenant);
    }
    let mut tell = |at: &IngestProgress| {
        let IngestProgress {
            files,
            files_done,
            passages,
            ..
        } = *at;
        progress(IngestLine {
            files,
            files_done,
            passages,
        })
    };
    let report = ingest::ingest_until(memory, &options.paths, &how, &mut tell)?;
    Ok(IngestSummary {
        files: report.files,
        passages: report.passages,
        inserted: report.inserted,
        updated: report.updated,
        unchanged: report.unchanged,
        removed: report.removed,
        gone: report.gone,
        edges: report.edges,
        left: report.left,
        bad: report
            .bad
            .into_iter()
            .map(|bad| (bad.path, bad.reason))
            .collect(),
        vectors_pending: memory.counts().pending,
    })
}

/// Finds passages as a request would: search, then recall through the graph. Without the question's vector, by words
/// alone.
pub(crate) fn search(
    memory: &Memory,
    vector: Option<Vec<f32>>,
    limits: RecallLimits,
    options: &SearchOptions,
) -> Result<Vec<Found>, MemoryCommandError> {
    let recall = recall(memory, vector, limits, options)?;
    let mut all = Vec::new();
    for recalled in recall.nodes.iter().take(options.count) {
        all.extend(found(memory, recalled)?);
    }
    Ok(all)
}

/// As [`search`], with the nodes that led to those found and the edges between them all.
pub(crate) fn picture(
    memory: &Memory,
    vector: Option<Vec<f32>>,
    limits: RecallLimits,
    options: &SearchOptions,
) -> Result<Picture, MemoryCommandError> {
    let recall = recall(memory, vector, limits, options)?;
    let known: HashMap<NodeId, &Recalled> =
        recall.nodes.iter().map(|node| (node.id, node)).collect();
    let best = recall.nodes.iter().take(options.count);
    let mut shown: Vec<NodeId> = best.map(|node| node.id).collect();
    let listed = shown.len();
    let mut led = HashSet::new();
    let mut at = 0;
    while let Some(id) = shown.get(at).copied() {
        at += 1;
        if let Some((edge, from)) = way_to(memory, id, &known)? {
            led.insert(edge);
            if !shown.contains(&from) {
                shown.push(from);
            }
        }
    }
    let mut picture = Picture {
        listed,
        ..Picture::default()
    };
    for id in &shown {
        picture.nodes.extend(found(memory, known[id])?);
        let edges = memory.edges(*id)?.into_iter();
        for edge in edges.filter(|edge| edge.src == *id && shown.contains(&edge.dst)) {
            picture.edges.push(Joined {
                led: led.contains(&edge.id),
                src: edge.src.to_string(),
                dst: edge.dst.to_string(),
                rel: edge.rel,
                weight: edge.weight,
            });
        }
    }
    Ok(picture)
}

/// The edge by which most attention came to a node from one that is a hop nearer to the question, and that node.
fn way_to(
    memory: &Memory,
    id: NodeId,
    known: &HashMap<NodeId, &Recalled>,
) -> Result<Option<(EdgeId, NodeId)>, MemoryCommandError> {
    let depth = known[&id].depth;
    let edges = memory.edges(id)?;
    let ways = edges.iter().filter_map(|edge| {
        let other = if edge.src == id { edge.dst } else { edge.src };
        let nearer = known.get(&other).filter(|node| node.depth + 1 == depth)?;
        Some((edge.id, other, nearer.score * edge.weight))
    });
    let strongest = ways.max_by(|a, b| a.2.total_cmp(&b.2).then(b.0.cmp(&a.0)));
    Ok(strongest.map(|(edge, other, _)| (edge, other)))
}

fn recall(
    memory: &Memory,
    vector: Option<Vec<f32>>,
    limits: RecallLimits,
    options: &SearchOptions,
) -> Result<Recall, MemoryCommandError> {
    let filter = Filter {
        tenant: options.tenant.clone(),
        domains: options.domains.clone(),
        types: options.types.clone(),
        hidden: Vec::new(),
    };
    let query = Query {
        text: options.text.clone(),
        vector,
        filter,
        k: options.count.max(limits.seeds),
        exclude_edges: Vec::new(),
    };
    let hits = memory.search(&query)?;
    Ok(memory.recall(&query, &hits, &limits))
}

/// The passage of a node; `None` when it was removed meanwhile.
fn found(memory: &Memory, recalled: &Recalled) -> Result<Option<Found>, MemoryCommandError> {
    Ok(memory.node(recalled.id)?.map(|node| Found {
        id: recalled.id.to_string(),
        title: node.metadata.title,
        uri: node.metadata.uri,
        text: node.text.chars().take(SNIPPET_CHARS).collect(),
        score: recalled.score,
        cosine: recalled.cosine,
        depth: recalled.depth,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_crds::MemoryStoreSpec;

    fn policy(more: &str) -> UpkeepPolicy {
        let spec = format!(
            "{{\"embedding\": {{\"model\": \"m\", \"source\": \"file://m\", \"dimensions\": 8}}{more}}}"
        );
        let spec: MemoryStoreSpec = serde_json::from_str(&spec).unwrap();
        upkeep(&spec)
    }

    #[test]
    fn a_memory_is_kept_up_as_its_store_says_and_only_so() {
        assert_eq!(policy(""), UpkeepPolicy::default());
        let day = |days: u64| Some(Duration::from_secs(days * 86_400));
        let prune = |more: &str| policy(more).prune.unwrap();
        let all = PrunePolicy {
            degree_max: 64,
            ..PrunePolicy::default()
        };
        assert_eq!(prune(", \"graphPolicy\": {}"), all);
        let graph =
            ", \"graphPolicy\": {\"degreeMax\": 8, \"minWeight\": 0.5, \"maxAge\": \"180d\"}";
        let wanted = PrunePolicy {
            degree_max: 8,
            min_weight: 0.5,
            max_age: day(180),
            trace_age: None,
        };
        assert_eq!(prune(graph), wanted);
        let traces = prune(", \"retention\": {\"traces\": \"30d\"}");
        let wanted = PrunePolicy {
            degree_max: usize::MAX,
            trace_age: day(30),
            ..PrunePolicy::default()
        };
        assert_eq!(traces, wanted, "retention alone lets every edge stay");
        let tune = policy(", \"index\": {\"tune\": {}}").tune.unwrap();
        assert_eq!((tune.target_recall, tune.every_writes), (0.98, 10_000));
    }
}
