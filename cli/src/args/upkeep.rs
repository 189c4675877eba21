//! Upkeep of a memory: options and help of `weir memory export` and its neighbours.

use super::MemoryWhere;
use clap::{Args, ValueHint};
use std::path::PathBuf;
use std::time::Duration;
use weir_memory::NodeId;

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  weir memory export --out kb.jsonl\n  \
    weir memory export -f stack.yaml | gzip > kb.jsonl.gz\n\n\
    JSON Lines: a header, then nodes with their vectors, edges, and which passages each document has. The file is the\n\
    memory as it was at one moment, and holds the text of every tenant: it is made readable by its owner alone, and is\n\
    there when it is whole. How much it holds is told at the end, on standard error when the lines go to standard output.")]
pub(crate) struct ExportArgs {
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    pub(crate) external: super::ExternalStoreArgs,
    #[command(flatten)]
    pub(crate) place: MemoryWhere,
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  weir memory import kb.jsonl\n  \
    weir memory import kb.jsonl -f stack.yaml --without-vectors\n\n\
    What is there with the same content stays as it is: a file that broke off is read in again. A line that cannot be\n\
    taken is named, and the lines before it are kept. Vectors of another model are refused; --without-vectors leaves\n\
    them out, and the memory's own embedder makes them while a gateway serves.")]
pub(crate) struct ImportArgs {
    /// A file of `weir memory export`
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Leave the vectors out
    #[arg(long)]
    pub(crate) without_vectors: bool,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    pub(crate) external: super::ExternalStoreArgs,
    #[command(flatten)]
    pub(crate) place: MemoryWhere,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir memory erase --subject jane.doe\n  \
    weir memory erase --subject 4711 --tenant acme --output json > receipt.json\n\n\
    Removes the nodes whose metadata names the subject, the summaries and traces that were made from them, and the\n\
    vectors, words and edges of all these, in one write. It cannot be undone. The receipt holds ids and counts, neither\n\
    text nor the subject, and says what a memory cannot reach. In a cluster: DELETE /v1/memory/subjects/SUBJECT with an\n\
    admin key."
)]
pub(crate) struct EraseArgs {
    /// Whom or what the nodes are about, exactly as metadata.subject has it
    #[arg(long)]
    pub(crate) subject: String,
    /// Only nodes of this tenant [default: every tenant's]
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    #[command(flatten)]
    pub(crate) place: MemoryWhere,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir memory stats\n  weir memory stats -f stack.yaml --output json"
)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) place: MemoryWhere,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir memory show 0f8fad5b-d9cb-569f-a165-70867728950e\n\n\
    `weir memory search --output json` tells ids."
)]
pub(crate) struct ShowArgs {
    /// Id of the node
    pub(crate) id: NodeId,
    #[command(flatten)]
    pub(crate) place: MemoryWhere,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir memory doctor\n  weir memory doctor --repair -f stack.yaml\n\n\
    Looks for rows that cannot be read, edges without an end, summaries of what has changed, vectors without a node,\n\
    nodes that no vector is made for, nodes without edges, hubs and near duplicates. The exit code is 1 when something\n\
    is wrong and was not repaired; what is only worth a look does not count. Rows that cannot be read keep a memory from\n\
    opening: --repair takes them out and writes them to a file beside the memory."
)]
pub(crate) struct DoctorArgs {
    /// Repair what can be repaired without a choice
    #[arg(long)]
    pub(crate) repair: bool,
    #[command(flatten)]
    pub(crate) place: MemoryWhere,
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  weir memory prune\n  \
    weir memory prune --degree-max 32 --min-weight 0.05 --max-age 180d --trace-age 30d\n\n\
    A node keeps its best edges by weight x freshness x confidence. Without the other options only edges beyond that\n\
    budget go. The work is done in short writes between requests; links that documents state age like others, so\n\
    --max-age is for graphs whose edges are made anew.")]
pub(crate) struct PruneArgs {
    /// Most edges of one node, both directions together
    #[arg(long, value_name = "EDGES", default_value_t = 64)]
    pub(crate) degree_max: usize,
    /// Remove edges of a smaller weight
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.0)]
    pub(crate) min_weight: f32,
    /// Remove older edges, for example 180d or 12h
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) max_age: Option<Duration>,
    /// Remove older traces
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) trace_age: Option<Duration>,
    #[command(flatten)]
    pub(crate) place: MemoryWhere,
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  weir memory tune\n  \
    weir memory tune --target-recall 0.99 --questions 500 -f stack.yaml --output json\n\n\
    Asks with vectors of the memory itself, compares all of them for the truth, and lets searches look harder and harder.\n\
    The least effort (efSearch) that reaches the target is kept with the memory and used from then on. A memory of few\n\
    vectors compares all anyway. By itself: index.tune of a MemoryStore.")]
pub(crate) struct TuneArgs {
    /// Share of the truly nearest that searches are to find
    #[arg(long, value_name = "SHARE", default_value_t = 0.98)]
    pub(crate) target_recall: f64,
    /// Questions to ask
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    pub(crate) questions: usize,
    /// Nearest passages that count; a search hands 64 to attention
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    pub(crate) nearest: usize,
    #[command(flatten)]
    pub(crate) place: MemoryWhere,
}

/// Days or hours.
pub(crate) fn age(text: &str) -> Result<Duration, String> {
    let split = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(split).unwrap_or((text, ""));
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3_600,
        _ => return Err("write days or hours, for example 180d or 12h".into()),
    };
    let number: u32 = number
        .parse()
        .map_err(|_| format!("{number:?} is no whole number"))?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}
