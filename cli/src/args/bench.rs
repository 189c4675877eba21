//! `weir bench`: options and help.

use super::Output;
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure models by threads and context: speed, memory, time to the first token, quality
    Matrix(MatrixArgs),
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    weir bench matrix ~/.cache/weir/models/*.gguf\n  \
    weir bench matrix model-q4.gguf model-q8.gguf --threads 1,4 --context 512,4096 --results results/\n  \
    systemd-run --scope -p MemoryMax=2G -p AllowedCPUs=0 weir bench matrix model.gguf --threads 1   # as a small device\n\n\
    Each point has an engine of its own. Random weights (a model whose name says `random`) are not graded. Ctrl-C ends the\n\
    measurement and shows what there is.")]
pub(crate) struct MatrixArgs {
    /// Models, as GGUF files
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) models: Vec<PathBuf>,
    /// Threads of the engine, several with commas [default: 1 and all processors]
    #[arg(long, value_name = "COUNT", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: Vec<u32>,
    /// Tokens of a prompt and its answer, several with commas
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "256,1024", value_parser = clap::value_parser!(u32).range(128..=1_048_576))]
    pub(crate) context: Vec<u32>,
    /// Requests for each point
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeats: u32,
    /// Folder of the Python documentation's pages: prompts with recalled passages are measured too, packed and whole
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) docs: Option<PathBuf>,
    /// Graded questions of each kind for each model, at most; 0 leaves out quality, templates and packing
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 40,
        overrides_with = "questions"
    )]
    pub(crate) questions: usize,
    /// Seconds that an engine may take to start, and for one request
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) patience: u64,
    /// Path of llama.cpp's server [default: found in PATH, then the cache]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::ExecutablePath)]
    pub(crate) llama_server: Option<PathBuf>,
    /// Folder of the results: NAME.json, NAME.md and NAME.svg
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) results: Option<PathBuf>,
    /// Name of the results
    #[arg(long, value_name = "NAME", default_value = "matrix")]
    pub(crate) name: String,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}
