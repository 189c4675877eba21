//! Every command, its options and its help. What was typed becomes data here; what it means is in the command's file.

mod model;
#[cfg(feature = "cluster")]
mod rollout;

#[cfg(feature = "cluster")]
pub(crate) use model::ReportArgs;
pub(crate) use model::{FetchArgs, ModelArgs, ModelCommand};
#[cfg(feature = "cluster")]
pub(crate) use rollout::{RolloutArgs, RolloutCommand, RolloutOf};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use weir_local::NodeType;
use weir_plan::Privacy;

/// Small language models behind one endpoint, with a memory and a learned router.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 it did not work, 2 the command line was wrong.\n\
                  Environment: WEIR_HOME (state, default ~/.local/state/weir), WEIR_CACHE (models, default ~/.cache/weir),\n\
                  WEIR_API_KEY (for `weir ask`), WEIR_LOG (log filter, for example weir=debug), NO_COLOR.",
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a stack on this machine: start its engines, open its memory, answer at one address
    Up(UpArgs),
    /// Drain and end a running gateway
    Down(DownArgs),
    /// Show a running gateway: pools, memory, router
    Status(StatusArgs),
    /// Ask a running gateway and see how the answer came about
    Ask(AskArgs),
    /// Show the log of an engine, of the gateway, or its decisions
    Logs(LogsArgs),
    /// Check stack files without a cluster
    Validate(ValidateArgs),
    /// Print the JSON Schema of stack files, for editors
    Schema(SchemaArgs),
    /// Fill and search the memory
    Memory(MemoryArgs),
    /// Bring a model onto the disk
    Model(ModelArgs),
    /// Look into the router, replay its decisions, train another
    Router(RouterArgs),
    /// Watch and steer the takeover of a router version in a cluster
    #[cfg(feature = "cluster")]
    Rollout(RolloutArgs),
    /// Measure systems against each other
    Lab(LabArgs),
    /// Answer requests in a cluster, as the operator's plan says
    #[cfg(feature = "cluster")]
    Gateway(Box<crate::gateway::GatewayArgs>),
    /// Keep a cluster as its resources say
    #[cfg(feature = "cluster")]
    Operator(Box<crate::operator::OperatorArgs>),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Run an engine until it or its owner ends (used by `weir up`)
    #[command(hide = true)]
    EngineShim(EngineShimArgs),
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    weir up -f examples/stacks/offline.yaml\n  \
    weir up -f pools.yaml -f gateway.yaml --port 0\n\n\
    The files are followed: a change is served without dropping requests, a broken file is reported and the last good\n\
    stack stays. Ctrl-C drains; a second Ctrl-C ends at once.")]
pub(crate) struct UpArgs {
    /// A stack file; several make one stack
    #[arg(short, long = "file", required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// The gateway to serve, when the files have several
    #[arg(long, value_name = "GATEWAY")]
    pub(crate) name: Option<String>,
    /// llama.cpp's server [default: llama-server in PATH, then ~/.cache/weir/bin/llama-server]
    #[arg(long, value_name = "PATH", env = "WEIR_LLAMA_SERVER", value_hint = ValueHint::FilePath)]
    pub(crate) llama_server: Option<PathBuf>,
    /// Port instead of spec.listen.port; 0 lets the system choose
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Seconds an engine may take until it can generate
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) start_timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The gateway, when several run
    #[arg(long, value_name = "GATEWAY")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir down                  # requests in flight finish first\n  \
    weir down --name support --now"
)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Cut off requests in flight
    #[arg(long)]
    pub(crate) now: bool,
    /// Seconds to wait for requests in flight
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) timeout: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  weir status\n  weir status --output json")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    weir ask \"What does functools.lru_cache do?\"\n  \
    weir ask \"Write a haiku about rivers\" --no-memory --model smollm2-135m\n  \
    weir ask \"Is this covered?\" --domain insurance --output json\n\n\
    The answer goes to standard output, the route to standard error.")]
pub(crate) struct AskArgs {
    /// The question
    #[arg(required = true, value_name = "QUESTION")]
    pub(crate) question: String,
    #[command(flatten)]
    pub(crate) which: Which,
    /// A model instead of the router's choice
    #[arg(long, default_value = "auto")]
    pub(crate) model: String,
    /// How far the question may travel: local, onPrem or cloud
    #[arg(long, value_parser = privacy)]
    pub(crate) privacy: Option<Privacy>,
    /// The subject the question belongs to
    #[arg(long)]
    pub(crate) domain: Option<String>,
    /// Answer without recall
    #[arg(long)]
    pub(crate) no_memory: bool,
    /// Ask the model to cite what was recalled
    #[arg(long)]
    pub(crate) citations: bool,
    /// Longest answer, in tokens
    #[arg(long, value_name = "TOKENS")]
    pub(crate) max_tokens: Option<u32>,
    /// A gateway's address instead of the one running here
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) url: Option<String>,
    /// API key
    #[arg(long, value_name = "KEY", env = "WEIR_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// text (streamed) or json (the whole response and the decision)
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

fn privacy(word: &str) -> Result<Privacy, String> {
    match word {
        "local" => Ok(Privacy::Local),
        "onPrem" | "onprem" => Ok(Privacy::OnPrem),
        "cloud" => Ok(Privacy::Cloud),
        _ => Err("write local, onPrem or cloud".into()),
    }
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir logs                 # the gateway\n  \
    weir logs small -n 100    # the engine of pool small\n  weir logs decisions -f    # rows as they are written"
)]
pub(crate) struct LogsArgs {
    /// A pool, `gateway` or `decisions`
    #[arg(default_value = "gateway", value_name = "POOL|gateway|decisions")]
    pub(crate) what: String,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Go on as lines are written
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Lines from the end
    #[arg(short = 'n', long, default_value_t = 40)]
    pub(crate) lines: usize,
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  weir validate -f stack.yaml\n  \
    weir validate -f pools.yaml -f gateway.yaml --output json\n\n\
    The rules are the API server's (schema and CEL) and the operator's (references). Each finding is printed as\n\
    file:line: object: field: what is wrong: what to write. The exit code is 1 when there is one. Files without an\n\
    InferenceGateway are valid, as a part of a stack, with a warning that `weir up` needs one.")]
pub(crate) struct ValidateArgs {
    /// A stack file; several make one stack
    #[arg(short, long = "file", required = true, num_args = 1.., value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  weir schema > weir.schema.json\n  weir schema ModelPool")]
pub(crate) struct SchemaArgs {
    /// ModelPool, MemoryStore, RouterVersion or InferenceGateway; without it, all of them
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    #[command(subcommand)]
    pub(crate) command: MemoryCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemoryCommand {
    /// Read Markdown, HTML, text and JSON Lines into the memory
    Ingest(IngestArgs),
    /// Find passages as a request would
    Search(SearchArgs),
    /// Own a memory and answer the gateways of a cluster
    #[cfg(feature = "cluster")]
    Serve(MemoryServeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MemoryWhere {
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
    weir memory ingest docs/ --gateway https://weir.example.org --api-key $KEY\n\n\
    Reading the same files again changes nothing; a file that cannot be read is reported and the rest goes on. With\n\
    --gateway the files are read here and sent in batches; a run that broke off is continued by running it again."
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
    /// Address of a gateway to send the passages to, as one of a cluster
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, conflicts_with_all = ["name", "files"])]
    pub(crate) gateway: Option<String>,
    /// API key for --gateway; everybody's passages need an admin key
    #[arg(long, value_name = "KEY", env = "WEIR_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) place: MemoryWhere,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir memory search \"how do I cache a function\"\n  \
    weir memory search \"refund\" --domain support --type doc -n 5 --output json\n\n\
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
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) place: MemoryWhere,
}

#[cfg(feature = "cluster")]
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("source").required(true).args(["embedder", "embeddings_url"]),
    after_long_help = "Example:\n  weir memory serve --path /var/lib/weir/memory --tls /etc/weir/tls \
    --model all-minilm-l6-v2 --dimensions 384 --embedder /var/lib/weir/embedder\n\n\
    Gateways of the namespace in the service's own certificate may call, by their certificates. The health port answers\n\
    /healthz, /readyz and /metrics without one."
)]
pub(crate) struct MemoryServeArgs {
    /// Folder of the store; it is made when it is missing
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) path: PathBuf,
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

fn node_type(word: &str) -> Result<NodeType, String> {
    let mut all = NodeType::ALL.into_iter();
    all.find(|kind| kind.as_str() == word)
        .ok_or_else(|| "write doc, memory, trace, tool_result or summary".into())
}

#[derive(Debug, Args)]
pub(crate) struct RouterArgs {
    #[command(subcommand)]
    pub(crate) command: RouterCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RouterCommand {
    /// Show what an artifact was trained on and how good it is
    Inspect(InspectArgs),
    /// Repeat every decision of a log and compare
    Replay(ReplayArgs),
    /// Answer questions with randomised arms and write down what came out
    Collect(CollectArgs),
    /// Train an artifact from collected outcomes
    Train(TrainArgs),
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir router inspect            # the default artifact of this build\n  \
    weir router inspect router-v7.onnx --output json"
)]
pub(crate) struct InspectArgs {
    /// An ONNX artifact [default: the one built in]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir router replay decisions.jsonl    # of the default artifact\n  \
    weir router replay decisions.jsonl --artifact router-v7.onnx --output json\n\n\
    The exit code is 1 when a decision comes out otherwise than the log says."
)]
pub(crate) struct ReplayArgs {
    /// A log of decisions
    #[arg(value_name = "LOG", value_hint = ValueHint::FilePath)]
    pub(crate) log: PathBuf,
    /// The artifact that decided [default: the one built in]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) artifact: Option<PathBuf>,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

/// The stack whose pools and memory are measured.
#[derive(Debug, Args)]
pub(crate) struct StackArgs {
    /// A stack file; several make one stack. Its gateway must not be running
    #[arg(short, long = "file", required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// The gateway, when the files have several
    #[arg(long, value_name = "GATEWAY")]
    pub(crate) name: Option<String>,
    /// llama.cpp's server [default: llama-server in PATH, then ~/.cache/weir/bin/llama-server]
    #[arg(long, value_name = "PATH", env = "WEIR_LLAMA_SERVER", value_hint = ValueHint::FilePath)]
    pub(crate) llama_server: Option<PathBuf>,
    /// Questions as JSON Lines [default: the committed ones]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) questions: Option<PathBuf>,
    /// Seed of the order
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Longest answer, in tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 48)]
    pub(crate) max_tokens: u32,
    /// Stop after this many minutes
    #[arg(long, value_name = "MINUTES")]
    pub(crate) minutes: Option<u64>,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  weir router collect -f stack.yaml --out outcomes.jsonl --minutes 60\n\n\
    A second run with the same log goes on where the first ended."
)]
pub(crate) struct CollectArgs {
    #[command(flatten)]
    pub(crate) stack: StackArgs,
    /// The log of outcomes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// Arms tried for each question
    #[arg(long, default_value_t = 5)]
    pub(crate) arms: usize,
    /// Stop after this many new outcomes
    #[arg(long)]
    pub(crate) outcomes: Option<usize>,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  weir router train --log outcomes.jsonl --out router.onnx --report report"
)]
pub(crate) struct TrainArgs {
    /// The log of outcomes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) log: PathBuf,
    /// The artifact to write
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// The report to write, as PATH.md and PATH.json
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) report: PathBuf,
    /// Seed of the training
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    #[command(subcommand)]
    pub(crate) command: LabCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Compare always biggest, plain retrieval, always small and routed on the same questions
    Systems(SystemsArgs),
    /// Print the committed questions
    Questions(QuestionsArgs),
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  weir lab systems -f stack.yaml --rows rows.jsonl --results results/"
)]
pub(crate) struct SystemsArgs {
    #[command(flatten)]
    pub(crate) stack: StackArgs,
    /// Answers as JSON Lines; continued when the file exists
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) rows: PathBuf,
    /// Folder of the results
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) results: PathBuf,
    /// Ask this many questions, drawn at random
    #[arg(long, value_name = "COUNT")]
    pub(crate) sample: Option<usize>,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir lab questions         # how many there are of each split\n  \
    weir lab questions --output json > questions.jsonl"
)]
pub(crate) struct QuestionsArgs {
    /// Questions as JSON Lines [default: the committed ones]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) questions: Option<PathBuf>,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir completions bash > ~/.local/share/bash-completion/completions/weir\n  \
    weir completions zsh > ~/.zfunc/_weir\n  weir completions fish > ~/.config/fish/completions/weir.fish"
)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct EngineShimArgs {
    /// Become the engine instead of watching it
    #[arg(long)]
    pub(crate) exec: bool,
    /// The engine and its arguments
    #[arg(last = true, required = true)]
    pub(crate) engine: Vec<OsString>,
}

#[cfg(test)]
mod tests;
