//! `weir model`: options and help.

use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    #[command(subcommand)]
    pub(crate) command: ModelCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Download a model or an embedder; goes on where an earlier download was cut
    Fetch(FetchArgs),
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    weir model fetch hf://LiquidAI/LFM2-700M-GGUF/LFM2-700M-Q4_0.gguf      # into the cache that `weir up` uses\n  \
    weir model fetch https://models.example.com/a.gguf --to /models/model.gguf --sha256 0e5f... --facts facts.json\n  \
    weir model fetch s3://models/minilm --file model.safetensors --file tokenizer.json --file config.json --to /embedder\n\n\
    Credentials come from the environment: HF_TOKEN and HF_ENDPOINT (hub), WEIR_SOURCE_TOKEN (bearer token for https),\n\
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL (s3). WEIR_CA_BUNDLE names further certificate\n\
    authorities (PEM), HTTPS_PROXY and NO_PROXY are honoured. Where the model is goes to standard output.")]
pub(crate) struct FetchArgs {
    /// hf://OWNER/REPO/FILE, https://HOST/FILE, s3://BUCKET/KEY or file://PATH
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// Where to put it; what is downloaded is kept beside it [default: the cache]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) to: Option<PathBuf>,
    /// SHA-256 that the file must have
    #[arg(long, value_name = "HEX", conflicts_with = "files")]
    pub(crate) sha256: Option<String>,
    /// The source is a folder: take this file of it (repeatable)
    #[arg(long = "file", value_name = "NAME")]
    pub(crate) files: Vec<String>,
    /// Write what the GGUF header says, as JSON
    #[arg(long, value_name = "FILE", conflicts_with = "files", value_hint = ValueHint::FilePath)]
    pub(crate) facts: Option<PathBuf>,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Whom to tell how far a download is.
#[cfg(feature = "cluster")]
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Tell the operator at this address how far the download is
    #[arg(
        long,
        value_name = "URL",
        requires_all = ["report_ca", "pool", "pod", "pod_namespace"],
        value_hint = ValueHint::Url
    )]
    pub(crate) report_to: Option<String>,
    /// Certificates of the operator's authority, PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) report_ca: Option<PathBuf>,
    /// The pool that the model is for
    #[arg(long, value_name = "NAME")]
    pub(crate) pool: Option<String>,
    /// The pod that downloads
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub(crate) pod: Option<String>,
    /// Its namespace
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub(crate) pod_namespace: Option<String>,
}
