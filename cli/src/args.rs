//! Every command, its options and its help. What was typed becomes data here; what it means is in the command's file.
//!
//! Commands of one word stand here; a command that has commands of its own has a file below `args/`.

mod bench;
#[cfg(feature = "cluster")]
mod keys;
mod lab;
mod memory;
mod model;
#[cfg(feature = "cluster")]
mod rollout;
mod router;
mod upkeep;

pub(crate) use bench::{BenchArgs, BenchCommand, MatrixArgs};
#[cfg(feature = "cluster")]
pub(crate) use keys::{CreateKeyArgs, KeysArgs, KeysCommand, RevokeKeyArgs, ScopeWord};
pub(crate) use lab::{LabArgs, LabCommand, QuestionsArgs, RetrievalArgs, StackArgs, SystemsArgs};
#[cfg(feature = "cluster")]
pub(crate) use memory::{ExternalStoreArgs, MemoryServeArgs};
pub(crate) use memory::{
    IngestArgs, MemoryArgs, MemoryCommand, MemoryMigrateArgs, MemoryTrainArgs, MemoryWhere,
    SearchArgs,
};
#[cfg(feature = "cluster")]
pub(crate) use model::ReportArgs;
pub(crate) use model::{FetchArgs, ModelArgs, ModelCommand};
#[cfg(feature = "cluster")]
pub(crate) use rollout::{RolloutArgs, RolloutCommand};
pub(crate) use router::{
    CalibrateArgs, CollectArgs, EvalArgs, GateArgs, InspectArgs, LabelArgs, OpeArgs, ReplayArgs,
    RewardWord, RouterArgs, RouterCommand, RouterReportArgs, TrainArgs,
};
pub(crate) use upkeep::{
    DoctorArgs, EraseArgs, ExportArgs, ImportArgs, PruneArgs, ShowArgs, StatsArgs, TuneArgs,
};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use weir_plan::Privacy;

/// Small language models behind one endpoint, with a memory and a learned router.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 it did not work, 2 the command line was wrong.\n\
                  Environment: WEIR_HOME (state, default ~/.local/state/weir), WEIR_CACHE (models, default ~/.cache/weir),\n\
                  WEIR_API_KEY (for `weir ask`), WEIR_CA_BUNDLE (authorities to believe), WEIR_LOG (log filter, for example weir=debug), NO_COLOR.",
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
    /// Print the OpenAPI document of the gateway's HTTP surface
    #[command(after_long_help = "Examples:\n  weir openapi > openapi.json")]
    Openapi,
    /// Fill, search and keep up the memory
    Memory(MemoryArgs),
    /// Bring a model onto the disk
    Model(ModelArgs),
    /// Look into the router, replay its decisions, train another
    Router(RouterArgs),
    /// Watch and steer the takeover of a router version in a cluster
    #[cfg(feature = "cluster")]
    Rollout(RolloutArgs),
    /// Make, list and revoke the API keys of a gateway in a cluster
    #[cfg(feature = "cluster")]
    Keys(KeysArgs),
    /// Measure what models cost on this machine
    Bench(BenchArgs),
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

/// A gateway in a cluster, for commands that show or change something of it.
#[cfg(feature = "cluster")]
#[derive(Debug, Args)]
pub(crate) struct OfGateway {
    /// The InferenceGateway
    #[arg(value_name = "GATEWAY")]
    pub(crate) gateway: String,
    /// Namespace of the gateway [default: that of the kubeconfig]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    weir up -f examples/stacks/offline.yaml\n  \
    weir up -f pools.yaml -f gateway.yaml --port 0\n\n\
    The files are followed: a change is served without dropping requests, a broken file is reported and the last good\n\
    stack stays. Ctrl-C drains; a second Ctrl-C ends at once.")]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) started: StartedArgs,
    /// Port instead of spec.listen.port; 0 lets the system choose
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Seconds an engine may take until it can generate
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) start_timeout: u64,
}

/// The stack that is started here, to be served or to be measured.
#[derive(Debug, Args)]
pub(crate) struct StartedArgs {
    /// A stack file; several make one stack. Its gateway must not be running
    #[arg(short, long = "file", required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// The gateway to start, when the files have several
    #[arg(long, value_name = "GATEWAY")]
    pub(crate) name: Option<String>,
    /// llama.cpp's server [default: llama-server in PATH, then ~/.cache/weir/bin/llama-server]
    #[arg(long, value_name = "PATH", env = "WEIR_LLAMA_SERVER", value_hint = ValueHint::FilePath)]
    pub(crate) llama_server: Option<PathBuf>,
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
