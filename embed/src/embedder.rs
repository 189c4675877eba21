//! The sentence embedder: tokenizer, encoder, mean over the tokens, unit length.
//!
//! Loading and its errors are here; the network itself is in `bert.rs`. One call uses one thread:
//! the machine's other cores belong to the engines.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokenizers::{Tokenizer, TruncationParams};

use crate::bert::{Bert, BertConfig};

/// The longest input in tokens, as `sentence_bert_config.json` of the MiniLM family says.
pub const TOKENS_MAX: usize = 256;
/// Longer texts cannot change the first [`TOKENS_MAX`] tokens of any real language.
const TEXT_BYTES_MAX: usize = 32 << 10;
/// Tokens that are evaluated together: more save nothing, but hold up whoever waits.
const BATCH_TOKENS: usize = 1024;

/// A sentence embedder: text to a vector of unit length.
pub struct Embedder {
    bert: Bert,
    tokenizer: Tokenizer,
    /// candle spreads its loops over the pool it runs in; this one has a single thread.
    thread: rayon::ThreadPool,
    revision: String,
}

/// Why an embedder could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file is missing.
    #[error(
        "embedder file {0} is missing: the folder needs model.safetensors, tokenizer.json and \
         config.json"
    )]
    Missing(PathBuf),
    /// A file could not be read.
    #[error("read embedder file {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The weights end too early.
    #[error(
        "embedder weights {path} are cut short: {actual} bytes, the header needs {expected}; \
         remove the file and fetch it again"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that the header asks for.
        expected: u64,
        /// Bytes that are there.
        actual: u64,
    },
    /// A file is damaged.
    #[error("embedder file {path} is damaged ({reason}); remove it and fetch it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What its parser said.
        reason: String,
    },
    /// The model is no BERT encoder as Weir evaluates it.
    #[error("embedder {path}: {what} is {found}, only {supported} is evaluated here")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        what: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        supported: &'static str,
    },
    /// A weight is absent.
    #[error("embedder weights {path} have no tensor {tensor}: is this a BERT encoder?")]
    NoTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A weight has another shape than `config.json` says.
    #[error(
        "embedder weights {path}: tensor {tensor} has shape {found:?}, config.json asks for \
         {expected:?}"
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that follows from the configuration.
        expected: Vec<usize>,
    },
    /// No thread could be started.
    #[error("start the embedder's thread")]
    Thread(#[source] rayon::ThreadPoolBuildError),
}

/// Why a text could not be embedded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The tokenizer refused the text.
    #[error("cut a text of {bytes} bytes into tokens: {reason}")]
    Tokenize {
        /// Length of the text.
        bytes: usize,
        /// What the tokenizer said.
        reason: String,
    },
    /// The network could not be evaluated.
    #[error("evaluate the embedder: {0}")]
    Evaluate(String),
    /// The worker thread has ended.
    #[error("the embedder has stopped")]
    Stopped,
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Embedder")
            .field("dimensions", &self.dimensions())
            .finish_non_exhaustive()
    }
}

impl Embedder {
    /// Loads `model.safetensors`, `tokenizer.json` and `config.json` from `dir`.
    ///
    /// # Errors
    /// A file is missing, cut short, damaged, or of a shape that is not evaluated here.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        let file = |name: &str| {
            let path = dir.join(name);
            if path.is_file() {
                Ok(path)
            } else {
                Err(LoadError::Missing(path))
            }
        };
        let (weights, tokenizer) = (file("model.safetensors")?, file("tokenizer.json")?);
        let config = file("config.json")?;
        let revision = revision(&[&weights, &tokenizer, &config])?;
        let config = BertConfig::read(&config)?;
        Ok(Self {
            revision,
            tokenizer: load_tokenizer(&tokenizer, &config)?,
            bert: Bert::load(&weights, &config)?,
            thread: rayon::ThreadPoolBuilder::new()
                .num_threads(1)
                .thread_name(|_| "weir-embed".to_owned())
                .build()
                .map_err(LoadError::Thread)?,
        })
    }

    /// Length of every vector.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.bert.dimensions()
    }

    /// Digest of the model's files: vectors of two revisions cannot be compared.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Embeds each text, cut at [`TOKENS_MAX`] tokens; the vectors have unit length.
    ///
    /// # Errors
    /// The tokenizer refused a text or the network could not be evaluated.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let inputs = texts
            .iter()
            .map(|text| self.tokens(text))
            .collect::<Result<Vec<_>, _>>()?;
        let mut vectors = Vec::with_capacity(texts.len());
        let mut rest = inputs.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_len(rest));
            let evaluated = self.thread.install(|| self.bert.embed(batch));
            vectors.extend(evaluated.map_err(|error| EmbedError::Evaluate(error.to_string()))?);
            rest = later;
        }
        Ok(vectors)
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>, EmbedError> {
        let refused = |error: tokenizers::Error| EmbedError::Tokenize {
            bytes: text.len(),
            reason: error.to_string(),
        };
        let head = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
        let encoding = self.tokenizer.encode_fast(head, true).map_err(refused)?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// SHA-256 of the files' contents, one after the other, in hexadecimal.
fn revision(files: &[&Path]) -> Result<String, LoadError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for path in files {
        let failed = |source| LoadError::Io {
            path: path.to_path_buf(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        hasher.update(file.metadata().map_err(failed)?.len().to_le_bytes());
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// How many of the first inputs make one batch: at least one, at most [`BATCH_TOKENS`].
fn batch_len(inputs: &[Vec<u32>]) -> usize {
    let mut tokens = 0;
    let fits = inputs.iter().take_while(|input| {
        tokens += input.len();
        tokens <= BATCH_TOKENS
    });
    fits.count().max(1)
}

fn load_tokenizer(path: &Path, config: &BertConfig) -> Result<Tokenizer, LoadError> {
    let damaged = |error: tokenizers::Error| LoadError::Damaged {
        path: path.into(),
        reason: error.to_string(),
    };
    let mut tokenizer = Tokenizer::from_file(path).map_err(damaged)?;
    let max_length = TOKENS_MAX.min(config.max_position_embeddings);
    let cut = TruncationParams {
        max_length,
        ..TruncationParams::default()
    };
    tokenizer
        .with_padding(None)
        .with_truncation(Some(cut))
        .map_err(damaged)?;
    let known = tokenizer.get_vocab_size(true);
    if known > config.vocab_size {
        return Err(LoadError::Damaged {
            path: path.into(),
            reason: format!(
                "it has {known} tokens, config.json says {}",
                config.vocab_size
            ),
        });
    }
    Ok(tokenizer)
}
