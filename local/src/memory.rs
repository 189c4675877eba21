//! Reading files into a memory, the same for a running instance and for files that nobody has open, and what a MemoryStore says
//! of its memory.
//!
//! Storage and reading files are `weir-memory`; this file turns them into messages that cross the control socket. Read on in
//! weir-memory-live's `fill.rs` for what happens to passages after they were read, in `search.rs` for how they are found.

use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;
use weir_crds::Age;
use weir_memory::ingest::{self, IngestProgress};
use weir_memory::upkeep::PrunePolicy;
use weir_memory::{Memory, RecallLimits};
use weir_memory_live::{TunePolicy, UpkeepPolicy};

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
