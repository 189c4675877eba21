//! `weir router`: options and help.

use super::Output;
use super::lab::StackArgs;
use clap::{Args, Subcommand, ValueEnum, ValueHint};
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
    /// Set the router beside every other way to decide, on held-out outcomes
    Eval(EvalArgs),
    /// Write an evaluation again as Markdown, drawings and a page
    Report(RouterReportArgs),
    /// Estimate what another artifact would have been worth on logged decisions
    Ope(OpeArgs),
    /// Say whether a candidate may take over, from a rollout's judged answers
    Gate(GateArgs),
    /// Make expected qualities honest, and certify a share for the smallest model
    Calibrate(CalibrateArgs),
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
    after_long_help = "Examples:\n  weir router train --log outcomes.jsonl --out router.onnx --report report\n  \
    weir router train --log outcomes.jsonl --out small.onnx --report small --rank-input 8 --rank-state 8 --sparsity 0.5 --int8"
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
    /// Make the input matrix a product of two of this rank (1 to 32)
    #[arg(long, value_name = "RANK")]
    pub(crate) rank_input: Option<usize>,
    /// Make the recurrent matrix a product of two of this rank (1 to 32)
    #[arg(long, value_name = "RANK")]
    pub(crate) rank_state: Option<usize>,
    /// Set this share of the entries of both matrices (or of their factors) to zero
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(crate) sparsity: f64,
    /// Store the matrices in 8 bits, and train for it
    #[arg(long)]
    pub(crate) int8: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  weir router eval outcomes.jsonl\n  \
    weir router eval outcomes.jsonl --table mmlu.jsonl --table gsm8k.jsonl --results benches/results\n\n\
    Everything that learns is trained on some sources of questions and judged on the others. A table has a prompt and the\n\
    scores (0 to 1) of several models a line; it exercises the first step only.")]
pub(crate) struct EvalArgs {
    /// A log of outcomes, from `weir router collect`
    #[arg(value_name = "LOG", value_hint = ValueHint::FilePath, required_unless_present = "table")]
    pub(crate) log: Option<PathBuf>,
    /// A public table of outcomes; may be given several times
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) table: Vec<PathBuf>,
    /// Training runs of everything that learns, each with folds of its own
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seeds: u64,
    /// Folds of the log, by source; tables are cut in three
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..))]
    pub(crate) folds: u16,
    /// Folder with model.safetensors, tokenizer.json and config.json: what the prompts of tables mean becomes features
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, requires = "cache")]
    pub(crate) embedder: Option<PathBuf>,
    /// Folder that keeps the prompts' vectors
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, requires = "embedder")]
    pub(crate) cache: Option<PathBuf>,
    /// Write the results into this folder, as router-eval.json, router-eval.md and drawings
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) results: Option<PathBuf>,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir router report benches/results/router-eval.json\n  \
    weir router report router-eval.json --html router-eval.html"
)]
pub(crate) struct RouterReportArgs {
    /// An evaluation, from `weir router eval --results`; Markdown and drawings are written beside it
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Write one page with everything, drawings included
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) html: Option<PathBuf>,
}

/// Where the labels of logged decisions come from.
#[derive(Debug, Args)]
pub(crate) struct LabelArgs {
    /// JSON Lines of decision_id, score (1 to 5) and propensity, the probability with which the decision was picked
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "label_propensity")]
    pub(crate) labels: Option<PathBuf>,
    /// Take the scores in the log: each decision was picked for one with this probability
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) label_propensity: Option<f64>,
}

/// A probability that something has that happened.
fn share(word: &str) -> Result<f64, String> {
    let said = "write a number above 0 and at most 1";
    let share: f64 = word.parse().map_err(|_| said.to_owned())?;
    (share > 0.0 && share <= 1.0)
        .then_some(share)
        .ok_or_else(|| said.to_owned())
}

/// A probability strictly between none and all.
fn confidence(word: &str) -> Result<f64, String> {
    let said = "write a number between 0.5 and 1, as 0.95";
    let share: f64 = word.parse().map_err(|_| said.to_owned())?;
    (share > 0.5 && share < 1.0)
        .then_some(share)
        .ok_or_else(|| said.to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RewardWord {
    /// The score alone
    Quality,
    /// The score less measured seconds and cost, at the prices of each decision
    Utility,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir router ope decisions.jsonl --candidate router-v8.onnx --labels judged.jsonl\n  \
    weir router ope decisions.jsonl --candidate router-v8.onnx --label-propensity 0.02 --output json\n  \
    weir router ope --simulate --replicates 2000    # how often the intervals hold a known truth\n\n\
    The log must come from a gateway whose exploration.floor is above 0. Overrides (pinned models, guardrails) are left\n\
    out. The exit code is 1 when the log cannot say, with the reason."
)]
pub(crate) struct OpeArgs {
    /// A log of decisions
    #[arg(value_name = "LOG", value_hint = ValueHint::FilePath, required_unless_present = "simulate")]
    pub(crate) log: Option<PathBuf>,
    /// The artifact to evaluate
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, required_unless_present = "simulate")]
    pub(crate) candidate: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) labels: LabelArgs,
    /// What is estimated
    #[arg(long, value_enum, default_value = "quality")]
    pub(crate) reward: RewardWord,
    /// Probability that an interval holds the truth
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = confidence)]
    pub(crate) confidence: f64,
    /// Instead of a log: count on logs of known truth how often intervals hold it
    #[arg(long, conflicts_with_all = ["log", "candidate"])]
    pub(crate) simulate: bool,
    /// Simulated logs of each scenario
    #[arg(
        long,
        value_name = "LOGS",
        default_value_t = 2_000,
        requires = "simulate"
    )]
    pub(crate) replicates: usize,
    /// Write the simulation's results into this folder, as ope.json and ope.md
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, requires = "simulate")]
    pub(crate) results: Option<PathBuf>,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir router gate decisions.jsonl --labels judged.jsonl\n  \
    weir router gate decisions.jsonl --rollout support-v8-2 --labels judged.jsonl --reference router-v3.onnx\n  \
    weir router gate --simulate --plot gate.svg    # how often the gate errs, and how soon it decides\n\n\
    The log holds both versions' decisions of a rollout; every request that they decided differently must have been judged\n\
    (or picked for a judge with known probability)."
)]
pub(crate) struct GateArgs {
    /// A log of decisions
    #[arg(value_name = "LOG", value_hint = ValueHint::FilePath, required_unless_present = "simulate")]
    pub(crate) log: Option<PathBuf>,
    /// The rollout, when the log has several
    #[arg(long, value_name = "NAME")]
    pub(crate) rollout: Option<String>,
    #[command(flatten)]
    pub(crate) labels: LabelArgs,
    /// An artifact that the candidate must not fall behind either
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) reference: Option<PathBuf>,
    /// Percent of users of each step, as the gateway's spec has them
    #[arg(
        long,
        value_name = "PERCENT",
        value_delimiter = ',',
        default_value = "5,25,50"
    )]
    pub(crate) steps: Vec<u32>,
    /// Points (on 1 to 5, over all requests) that the candidate may lose
    #[arg(long, value_name = "POINTS", default_value_t = 0.1)]
    pub(crate) regret_max: f64,
    /// Labelled disagreements that each step has to add
    #[arg(long, value_name = "LABELS", default_value_t = 100)]
    pub(crate) disagreements: u64,
    /// Labelled disagreements after which a rollout that is not decided is inconclusive
    #[arg(long, value_name = "LABELS", default_value_t = 3_000)]
    pub(crate) disagreements_max: u64,
    /// Requests of each version that end in each step
    #[arg(long, value_name = "REQUESTS", default_value_t = 200)]
    pub(crate) requests: u64,
    /// Probability that a good candidate is not rolled back, and that a bad one is not promoted
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = confidence)]
    pub(crate) confidence: f64,
    /// Instead of a log: rollouts of known truth
    #[arg(long, conflicts_with_all = ["log", "rollout", "reference"])]
    pub(crate) simulate: bool,
    /// Simulated rollouts at each true regret
    #[arg(
        long,
        value_name = "ROLLOUTS",
        default_value_t = 2_000,
        requires = "simulate"
    )]
    pub(crate) runs: usize,
    /// Draw the simulation's power curve into this SVG file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "simulate")]
    pub(crate) plot: Option<PathBuf>,
    /// Write the simulation's results into this folder, as gate.json and gate.md
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, requires = "simulate")]
    pub(crate) results: Option<PathBuf>,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  weir router calibrate outcomes-2.jsonl --artifact router.onnx --alpha 0.25\n  \
    weir router calibrate --table mmlu.jsonl --small mixtral-8x7b --splits 200\n\n\
    A log must be another one than the artifact was trained on. A table has a prompt and the scores (0 to 1) of several\n\
    models a line; what is calibrated there is a classifier of words."
)]
pub(crate) struct CalibrateArgs {
    /// A log of outcomes, from `weir router collect`
    #[arg(value_name = "LOG", value_hint = ValueHint::FilePath, required_unless_present = "table")]
    pub(crate) log: Option<PathBuf>,
    /// The artifact [default: the one built in]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) artifact: Option<PathBuf>,
    /// Write the artifact with the certificate to this file: gateways keep to it when they decide
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "table")]
    pub(crate) out: Option<PathBuf>,
    /// Instead of a log: a public table of outcomes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["log", "artifact"], requires = "small")]
    pub(crate) table: Option<PathBuf>,
    /// The table's model that is cheap
    #[arg(long, value_name = "MODEL", requires = "table")]
    pub(crate) small: Option<String>,
    /// Largest rate of wrong answers among those of the smallest model
    #[arg(long, value_name = "SHARE", default_value_t = 0.25, value_parser = share)]
    pub(crate) alpha: f64,
    /// Probability with which that may be exceeded
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    pub(crate) delta: f64,
    /// Certificates that are made and checked on a table
    #[arg(long, default_value_t = 200, requires = "table")]
    pub(crate) splits: usize,
    /// Seed of the split
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write a table's results into this folder, as calibration.json and calibration.md
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, requires = "table")]
    pub(crate) results: Option<PathBuf>,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}
