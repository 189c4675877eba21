//! `weir memory`: options and help.

use super::{
    DoctorArgs, EraseArgs, ExportArgs, ImportArgs, Output, PruneArgs, ShowArgs, StatsArgs,
    TuneArgs, Which,
};
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;
use weir_local::NodeType;

#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    #[command(subcommand)]
    pub(crate) command: MemoryCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemoryCommand {
    /// Read Markdown, HTML, text, PDF and JSON Lines into the memory
    Ingest(IngestArgs),
    /// Find passages as a request would
    Search(SearchArgs),
    /// Write the memory out as JSON Lines
    Export(ExportArgs),
    /// Read an export in
    Import(ImportArgs),
    /// Remove everything about a subject, with a receipt
    Erase(EraseArgs),
    /// Count what the memory holds
    Stats(StatsArgs),
    /// Show a node with its edges
    Show(ShowArgs),
    /// Look for what is wrong with the memory, and repair it
    Doctor(DoctorArgs),
    /// Let go of edges and traces that are not worth their place
    Prune(PruneArgs),
    /// Measure what searches find, and let them look as hard as that needs
    Tune(TuneArgs),
    /// Move to another embedding, and back
    Migrate(MemoryMigrateArgs),
    /// Learn what attention should look at, from questions with known answers or from links
    Train(MemoryTrainArgs),
    /// Own a memory and answer the gateways of a cluster
    #[cfg(feature = "cluster")]
    Serve(Box<MemoryServeArgs>),
}

/// Where a memory is and how the answer is told: what all commands on a memory take.
#[derive(Debug, Args)]
pub(crate) struct MemoryWhere {
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Stack files; needed when the gateway is not running
    #[arg(short, long = "file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir memory ingest docs/ --domain python\n  \
    weir memory ingest handbook.md faq.jsonl -f stack.yaml --output json\n  \
    weir memory ingest docs/ --mirror\n  \
    weir memory ingest docs/ --gateway https://weir.example.org --api-key $KEY\n\n\
    Reading the same files again changes nothing; a file that cannot be read is reported and the rest goes on. With\n\
    --mirror the passages of files that are gone are removed; of a folder or file that cannot be read nothing is. With\n\
    --gateway the files are read here and sent in batches; a run that broke off is continued by running it again.\n\
    Passages are joined by links, titles they mention, documents they cite, rare names they share and their order, each\n\
    with the sentence that says it."
)]
pub(crate) struct IngestArgs {
    /// Files and folders
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    /// Whose passages these are [default: everybody's]
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Domain of the passages
    #[arg(long)]
    pub(crate) domain: Option<String>,
    /// Remove what was read from these folders before and whose files are gone
    #[arg(long)]
    pub(crate) mirror: bool,
    /// Address of a gateway to send the passages to, as one of a cluster
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, conflicts_with_all = ["name", "files"])]
    pub(crate) gateway: Option<String>,
    /// API key for --gateway; everybody's passages need an admin key
    #[arg(long, value_name = "KEY", env = "WEIR_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    #[command(flatten)]
    pub(crate) place: MemoryWhere,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir memory search \"how do I cache a function\"\n  \
    weir memory search \"refund\" --domain support --type doc -n 5 --output json\n  \
    weir memory search \"how do I cache a function\" --why\n  \
    weir memory search \"how do I cache a function\" --svg attention.svg\n\n\
    BY VECTOR is a passage's place when vectors alone are compared, - where it is not among as many as a search looks at.\n\
    Search and recall go as far as the MemoryStore's attention lets a request go."
)]
pub(crate) struct SearchArgs {
    /// The question
    #[arg(value_name = "QUESTION")]
    pub(crate) text: String,
    /// Who asks
    #[arg(long, default_value = "anonymous")]
    pub(crate) tenant: String,
    /// Domains to look in
    #[arg(long = "domain")]
    pub(crate) domains: Vec<String>,
    /// Kinds of passages: doc, memory, trace, tool_result or summary [default: all but trace]
    #[arg(long = "type", value_name = "TYPE", value_parser = node_type)]
    pub(crate) types: Vec<NodeType>,
    /// Passages wanted
    #[arg(short = 'n', long, default_value_t = 10)]
    pub(crate) count: usize,
    /// Also say how attention came to each passage: the edges that led there, and the sentences that say them
    #[arg(long)]
    pub(crate) why: bool,
    /// Also draw what was found, what led there and the edges between them
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) svg: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: MemoryWhere,
}

#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("labels").required(true).args(["questions", "masked_links"]),
    after_long_help = "Examples:\n  weir memory train -f stack.yaml --questions questions.jsonl --apply\n  \
    weir memory train -f stack.yaml --masked-links 300 --out weights.json --output json\n\n\
    A line of the questions is {\"question\": \"...\", \"gold\": [\"...\"]}, gold being ids, uris or titles of the passages that\n\
    answer it. --masked-links needs none: it hides passages, asks with their words and takes what they link to for the answer.\n\
    A quarter of the questions is held out to choose what cannot be learned. The gateway must not be running."
)]
pub(crate) struct MemoryTrainArgs {
    /// Questions with their answers as JSON Lines
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) questions: Option<PathBuf>,
    /// Make this many questions from links
    #[arg(long, value_name = "COUNT")]
    pub(crate) masked_links: Option<usize>,
    /// Write the weights to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
    /// Make the memory use the weights, now and whenever it is opened
    #[arg(long)]
    pub(crate) apply: bool,
    /// Whose passages answer [default: everybody's]
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Seed of the order and of what is held out
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) place: MemoryWhere,
}

#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("step").args(["now", "undo", "forget", "status"]),
    after_long_help = "Examples:\n  weir memory migrate -f stack.yaml\n  \
    weir memory migrate -f stack.yaml --status --output json\n  \
    weir memory migrate -f stack.yaml --undo\n\n\
    Write the new model, source and dimensions into the MemoryStore's embedding first. Vectors are made beside those in use,\n\
    which are exchanged when all are there. A run that broke off goes on where it was, also when the gateway served in\n\
    between with the former embedding: what was written meanwhile is embedded again. The gateway must not be running. In a\n\
    cluster an embedding is immutable: export the memory and import it --without-vectors into another MemoryStore."
)]
pub(crate) struct MemoryMigrateArgs {
    /// Stack files, with the embedding to move to
    #[arg(short, long = "file", value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// Move at once; words find passages until a gateway has made their vectors
    #[arg(long)]
    pub(crate) now: bool,
    /// Use the former vectors again
    #[arg(long)]
    pub(crate) undo: bool,
    /// Let go of the vectors that are not in use: the former ones, or those of a move that is not wanted any more
    #[arg(long)]
    pub(crate) forget: bool,
    /// Show which vectors there are, and change nothing
    #[arg(long)]
    pub(crate) status: bool,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) which: Which,
}

#[cfg(feature = "cluster")]
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("source").required(true).args(["embedder", "embeddings_url"]),
    group = clap::ArgGroup::new("store").required(true).args(["path", "collection"]),
    after_long_help = "Examples:\n  weir memory serve --path /var/lib/weir/memory --tls /etc/weir/tls \
    --model all-minilm-l6-v2 --dimensions 384 --embedder /var/lib/weir/embedder\n  \
    weir memory serve --collection kb --qdrant-url http://qdrant:6334 --neo4j-url bolt://neo4j:7687 \
    --tls /etc/weir/tls --model all-minilm-l6-v2 --dimensions 384 --embedder /var/lib/weir/embedder\n\n\
    A store in Qdrant and Neo4j is written by one such service at a time. It takes the password of Neo4j from\n\
    WEIR_NEO4J_PASSWORD and the key of Qdrant from WEIR_QDRANT_API_KEY.\n\n\
    Gateways of the namespace in the service's own certificate may call, by their certificates. The health port answers\n\
    /healthz, /readyz and /metrics without one. SIGTERM lets calls in flight finish; a second one ends at once."
)]
pub(crate) struct MemoryServeArgs {
    /// Folder of the store; it is made when it is missing
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) path: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) external: ExternalStoreArgs,
    /// Name of the embedding model; a store keeps the one it was made with
    #[arg(long)]
    pub(crate) model: String,
    /// Length of a vector; a store keeps the one it was made with
    #[arg(long)]
    pub(crate) dimensions: std::num::NonZeroUsize,
    /// Folder with model.safetensors, tokenizer.json and config.json
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) embedder: Option<PathBuf>,
    /// Address of a pool that embeds instead, without /v1
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) embeddings_url: Option<String>,
    /// The embedding model's name at that pool [default: --model]
    #[arg(long, value_name = "NAME", requires = "embeddings_url")]
    pub(crate) embeddings_model: Option<String>,
    /// Key for that pool
    #[arg(
        long,
        value_name = "KEY",
        env = "WEIR_EMBEDDINGS_API_KEY",
        hide_env_values = true
    )]
    pub(crate) embeddings_api_key: Option<String>,
    /// File of the authorities that signed that pool's certificate, read again when it changes [default: the public ones]
    #[arg(long, value_name = "FILE", requires = "embeddings_url", value_hint = ValueHint::FilePath)]
    pub(crate) embeddings_ca: Option<PathBuf>,
    /// Most edges of one node, both directions together; upkeep lets go of the others [default: all stay]
    #[arg(long, value_name = "EDGES")]
    pub(crate) degree_max: Option<usize>,
    /// Upkeep lets go of edges of a smaller weight
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) min_weight: Option<f32>,
    /// Upkeep lets go of older edges, for example 180d or 12h
    #[arg(long, value_name = "AGE", value_parser = super::upkeep::age)]
    pub(crate) max_age: Option<std::time::Duration>,
    /// Upkeep lets go of older traces
    #[arg(long, value_name = "AGE", value_parser = super::upkeep::age)]
    pub(crate) trace_age: Option<std::time::Duration>,
    /// Share of the truly nearest that searches are to find, by which upkeep measures the index [default: it does not]
    #[arg(long, value_name = "SHARE")]
    pub(crate) target_recall: Option<f64>,
    /// Writes after which the index is measured again
    #[arg(
        long,
        value_name = "WRITES",
        default_value_t = 10_000,
        requires = "target_recall"
    )]
    pub(crate) tune_every_writes: u64,
    /// Folder with ca.crt, tls.crt and tls.key; they are read again when they change
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) tls: PathBuf,
    /// Where gateways call
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7444")]
    pub(crate) listen: std::net::SocketAddr,
    /// Where probes and metrics are answered
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    pub(crate) listen_health: std::net::SocketAddr,
}

/// A memory in Qdrant and Neo4j.
#[cfg(feature = "cluster")]
#[derive(Clone, Debug, Args)]
pub(crate) struct ExternalStoreArgs {
    /// Keep the store in Qdrant and Neo4j, under this name: lower-case letters, digits and _
    #[arg(long, value_name = "NAME", requires_all = ["qdrant_url", "neo4j_url"])]
    pub(crate) collection: Option<String>,
    /// Address of Qdrant's gRPC, such as http://qdrant:6334
    #[arg(long, value_name = "URL", requires = "collection", value_hint = ValueHint::Url)]
    pub(crate) qdrant_url: Option<String>,
    /// Key for Qdrant
    #[arg(
        long,
        value_name = "KEY",
        env = "WEIR_QDRANT_API_KEY",
        hide_env_values = true
    )]
    pub(crate) qdrant_api_key: Option<String>,
    /// File of the authorities that signed Qdrant's certificate [default: those of the system]
    #[arg(long, value_name = "FILE", requires = "qdrant_url", value_hint = ValueHint::FilePath)]
    pub(crate) qdrant_ca: Option<PathBuf>,
    /// Address of Neo4j, such as bolt://neo4j:7687, or bolt+s:// with TLS
    #[arg(long, value_name = "URL", requires = "collection", value_hint = ValueHint::Url)]
    pub(crate) neo4j_url: Option<String>,
    /// Name of the database [default: the server's]
    #[arg(long, value_name = "NAME", requires = "neo4j_url")]
    pub(crate) neo4j_database: Option<String>,
    /// User of Neo4j
    #[arg(
        long,
        value_name = "NAME",
        env = "WEIR_NEO4J_USERNAME",
        default_value = "neo4j"
    )]
    pub(crate) neo4j_username: String,
    /// Password of that user
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "WEIR_NEO4J_PASSWORD",
        default_value = "",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub(crate) neo4j_password: String,
    /// File of the authorities that signed Neo4j's certificate [default: those of the system]
    #[arg(long, value_name = "FILE", requires = "neo4j_url", value_hint = ValueHint::FilePath)]
    pub(crate) neo4j_ca: Option<PathBuf>,
}

fn node_type(word: &str) -> Result<NodeType, String> {
    let mut all = NodeType::ALL.into_iter();
    all.find(|kind| kind.as_str() == word)
        .ok_or_else(|| "write doc, memory, trace, tool_result or summary".into())
}
