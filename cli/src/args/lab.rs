//! `weir lab`: options and help, and of the stack that every measurement starts.

use super::{Output, StartedArgs};
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    #[command(subcommand)]
    pub(crate) command: LabCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Compare always biggest, plain retrieval, always small and routed on the same questions
    Systems(SystemsArgs),
    /// Compare attention, trained on other corpora, with PageRank and plain searches
    Retrieval(RetrievalArgs),
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
    after_long_help = "Example:\n  weir lab retrieval --multihop data/multihop --docs /usr/share/doc/python3.11/html \
    --embedder ~/.cache/weir/models/all-minilm-l6-v2 --cache ~/.cache/weir/retrieval --results results/\n\n\
    Attention is trained on all corpora but the one that a row is about. The first run embeds all passages, which takes\n\
    a while; they stay in the cache."
)]
pub(crate) struct RetrievalArgs {
    /// Folder with 2wiki_corpus.json, 2wiki_questions.json, musique_corpus.json and musique_questions.json
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) multihop: Option<PathBuf>,
    /// Folder of the Python documentation's pages
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) docs: Option<PathBuf>,
    /// The Free On-line Dictionary of Computing (foldoc.dict.dz), of which 1,500 entries are taken
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) foldoc: Option<PathBuf>,
    /// set.mm of Metamath, of which the first 1,500 statements are taken
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) metamath: Option<PathBuf>,
    /// Folder with model.safetensors, tokenizer.json and config.json
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) embedder: PathBuf,
    /// Folder that keeps the passages and their vectors
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) cache: PathBuf,
    /// Folder of the results
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, required_unless_present = "weights")]
    pub(crate) results: Option<PathBuf>,
    /// Write weights that are trained on all corpora to this file; alone, nothing is measured
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) weights: Option<PathBuf>,
    /// Seed of training and of the intervals
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
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

/// The stack whose pools and memory are measured, and how.
#[derive(Debug, Args)]
pub(crate) struct StackArgs {
    #[command(flatten)]
    pub(crate) started: StartedArgs,
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
