//! What a GGUF header says about a model.

use std::path::Path;

/// What Weir needs to know about a model before an engine has loaded it.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufFacts {
    /// `general.architecture`, such as `llama`, `qwen2` or `lfm2`.
    pub architecture: String,
    /// `general.name`.
    pub name: Option<String>,
    /// Number of weights: the sum over all tensors.
    pub parameters: u64,
    /// The longest context that the model was trained for, in tokens.
    pub context_tokens: u32,
    /// The quantization of most of the weights, such as `Q4_K_M`.
    pub quantization: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// The chat template, a Jinja program.
    pub chat_template: Option<String>,
    /// The vocabulary.
    pub tokenizer: Option<GgufTokenizer>,
}

/// The vocabulary inside a GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufTokenizer {
    /// `tokenizer.ggml.model`: `gpt2`, `llama`, ...
    pub model: String,
    /// `tokenizer.ggml.pre`: the name of the pre-tokenizer; `default` when the file names none.
    pub pre: String,
    /// Token texts by id.
    pub tokens: Vec<String>,
    /// Token kinds by id: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// Merges by rank, each `left right`.
    pub merges: Vec<String>,
    /// Id of the token that begins a text.
    pub bos: Option<u32>,
    /// Id of the token that ends an answer.
    pub eos: Option<u32>,
    /// Whether the engine puts `bos` before every prompt.
    pub add_bos: bool,
}

/// Why a GGUF file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file could not be opened or read.
    #[error("read model file {path}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl GgufFacts {
    /// Reads the header of the file at `path`.
    ///
    /// # Errors
    /// The file is missing, is no GGUF file, or is cut short.
    pub fn read(path: &Path) -> Result<Self, GgufError> {
        Err(GgufError::Io { path: path.into(), source: std::io::ErrorKind::Unsupported.into() })
    }
}
