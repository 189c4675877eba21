//! `weir router`: options and help.

use super::Output;
use super::lab::StackArgs;
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

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
