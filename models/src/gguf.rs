//! What a GGUF header says about a model: its size, its context, its template, its vocabulary.
//!
//! The header is outside input. Every length is checked against what the file can still hold
//! before anything is allocated, and the tensors are checked against the file's size, so that a
//! download that was cut short is found here and not by an engine that dies an hour later. No
//! tensor data is read. `gguf/reader.rs` has the bounded reader, `gguf/tensor.rs` the sizes.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod reader;
mod tensor;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use reader::{Bounded, Fault, Value};
use tensor::Tensors;

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
    /// The quantization that the file was written with, such as `Q4_K_M`.
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
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{path} is not a GGUF model file: it starts with {found:?} instead of \"GGUF\"")]
    NotGguf {
        /// The file.
        path: PathBuf,
        /// Its first bytes, made printable.
        found: String,
    },
    /// A format version that nobody writes any more, or not yet.
    #[error("{path} has GGUF version {version}: versions 2 and 3 are read here")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it names.
        version: u32,
    },
    /// The file ends before its content does.
    #[error(
        "model file {path} is cut short: it has {actual} bytes, its header needs at least \
         {expected}; remove it and fetch it again"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that the header asks for.
        expected: u64,
        /// Bytes that are there.
        actual: u64,
    },
    /// The header contradicts itself or the format.
    #[error("model file {path} has a broken header at byte {at}: {what}; fetch it again")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        at: u64,
        /// What is wrong there.
        what: String,
    },
}

impl GgufFacts {
    /// Reads the header of the file at `path`; takes some 50 ms for 150,000 tokens.
    ///
    /// # Errors
    /// The file is missing, is no GGUF file, contradicts itself or is cut short.
    pub fn read(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io {
            path: path.into(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        Self::parse(BufReader::with_capacity(1 << 18, file), bytes)
            .map_err(|fault| fault.at_path(path))
    }

    /// Reads a header from `bytes` in memory, as a fuzzer does.
    ///
    /// # Errors
    /// As [`GgufFacts::read`], with an empty path.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GgufError> {
        Self::parse(bytes, bytes.len() as u64).map_err(|fault| fault.at_path(Path::new("")))
    }

    fn parse(source: impl Read, bytes: u64) -> Result<Self, Fault> {
        let mut input = Bounded::new(source, bytes);
        input.magic()?;
        let tensor_count = input.count(reader::TENSORS_MAX, 24, "tensors")?;
        let key_count = input.count(reader::KEYS_MAX, 13, "keys")?;
        let mut keys = HashMap::new();
        for _ in 0..key_count {
            let key = input.string(reader::KEY_BYTES_MAX)?;
            let value = input.value(wanted(&key))?;
            keys.insert(key, value);
        }
        let tensors = Tensors::read(&mut input, tensor_count)?;
        let alignment = integer(&keys, "general.alignment").unwrap_or(32);
        tensors.check_fit(&input, alignment, bytes)?;
        Ok(Self::from_keys(keys, &tensors, bytes))
    }

    fn from_keys(mut keys: HashMap<String, Value>, tensors: &Tensors, bytes: u64) -> Self {
        let architecture = text(&mut keys, "general.architecture").unwrap_or_default();
        let context = integer(&keys, &format!("{architecture}.context_length"));
        let quantization = integer(&keys, "general.file_type")
            .and_then(tensor::file_type)
            .unwrap_or_else(|| tensors.main_type());
        Self {
            name: text(&mut keys, "general.name"),
            parameters: tensors.parameters,
            context_tokens: context
                .and_then(|tokens| u32::try_from(tokens).ok())
                .unwrap_or(0),
            quantization: quantization.to_owned(),
            bytes,
            chat_template: text(&mut keys, "tokenizer.chat_template"),
            tokenizer: GgufTokenizer::from_keys(&mut keys),
            architecture,
        }
    }
}

impl GgufTokenizer {
    fn from_keys(keys: &mut HashMap<String, Value>) -> Option<Self> {
        let model = text(keys, "tokenizer.ggml.model")?;
        let Some(Value::Strings(tokens)) = keys.remove("tokenizer.ggml.tokens") else {
            return None;
        };
        let merges = match keys.remove("tokenizer.ggml.merges") {
            Some(Value::Strings(merges)) => merges,
            _ => Vec::new(),
        };
        let token_types = match keys.remove("tokenizer.ggml.token_type") {
            Some(Value::Integers(types)) => types,
            _ => Vec::new(),
        };
        let pre = text(keys, "tokenizer.ggml.pre").unwrap_or_else(|| "default".to_owned());
        let id = |key| integer(keys, key).and_then(|id| u32::try_from(id).ok());
        let add_bos = match keys.get("tokenizer.ggml.add_bos_token") {
            Some(Value::Bool(add)) => *add,
            _ => adds_bos(&model, &pre),
        };
        Some(Self {
            bos: id("tokenizer.ggml.bos_token_id"),
            eos: id("tokenizer.ggml.eos_token_id"),
            add_bos,
            model,
            pre,
            tokens,
            token_types,
            merges,
        })
    }
}

/// What llama.cpp does when the file does not say (`llama-vocab.cpp`, `llama_vocab::impl::load`).
fn adds_bos(model: &str, pre: &str) -> bool {
    const WITH_BOS: [&str; 8] = [
        "llama3",
        "llama-v3",
        "llama-bpe",
        "falcon3",
        "falcon-h1",
        "pixtral",
        "midm-2.0",
        "lfm2",
    ];
    model == "llama" || (model == "gpt2" && WITH_BOS.contains(&pre))
}

/// Only what is used is kept; the rest is read past.
fn wanted(key: &str) -> bool {
    const KEYS: [&str; 13] = [
        "general.architecture",
        "general.name",
        "general.file_type",
        "general.alignment",
        "tokenizer.chat_template",
        "tokenizer.ggml.model",
        "tokenizer.ggml.pre",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.token_type",
        "tokenizer.ggml.merges",
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.add_bos_token",
    ];
    KEYS.contains(&key) || key.ends_with(".context_length")
}

fn text(keys: &mut HashMap<String, Value>, key: &str) -> Option<String> {
    match keys.remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn integer(keys: &HashMap<String, Value>, key: &str) -> Option<u64> {
    match keys.get(key) {
        Some(Value::Integer(number)) => u64::try_from(*number).ok(),
        _ => None,
    }
}
