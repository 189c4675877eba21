//! Counting tokens as the engine counts them.
//!
//! The vocabulary, the pre-tokenizer and the chat template come from the model's own GGUF file, so
//! a prompt's length is known before it is sent, in the engine's unit. Text is cut at special tokens
//! (`counter/special.rs`), then into words (`counter/split.rs`), then merged byte by byte
//! (`counter/bpe.rs`) unless `counter/words.rs` knows it, or `counter/lines.rs` the line; a conversation goes through the template first (`counter/template.rs`).
//! Tests compare each step with a running llama.cpp server. Where the file is elsewhere, the engine itself is asked
//! (`counter/asked.rs`).

mod asked;
mod bpe;
mod lines;
mod special;
mod split;
mod template;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_models::gguf::{GgufError, GgufFacts, GgufTokenizer};

pub use asked::{CountQuestion, TokenCache};

use asked::Asked;
use bpe::Bpe;
use lines::Lines;
use special::{Piece, SpecialTokens};
use split::Splitter;
use template::ChatTemplate;
use words::Words;

/// One message of a conversation.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// The text.
    pub content: &'a str,
}

/// Why a model's own token count is not available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The model file could not be read.
    #[error("read the vocabulary of {0}")]
    Unreadable(PathBuf, #[source] GgufError),
    /// The file holds no vocabulary.
    #[error("model file {0} holds no vocabulary: token counts of this model are estimates")]
    NoVocabulary(PathBuf),
    /// Another kind of tokenizer.
    #[error(
        "model file {path} has tokenizer `{model}`, only gpt2 (byte-level BPE) is counted here: \
         token counts of this model are estimates"
    )]
    Kind {
        /// The file.
        path: PathBuf,
        /// `tokenizer.ggml.model`.
        model: String,
    },
    /// A pre-tokenizer that is not known.
    #[error(
        "model file {path} has pre-tokenizer `{pre}`, which is not known here: token counts of \
         this model are estimates"
    )]
    Pre {
        /// The file.
        path: PathBuf,
        /// `tokenizer.ggml.pre`.
        pre: String,
    },
    /// Merges and tokens do not belong together.
    #[error("model file {path}: {reason}; fetch it again")]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The chat template is no template.
    #[error("model file {path}: its chat template cannot be read")]
    Template {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: minijinja::Error,
    },
}

/// Counts tokens: exactly as the engine does where the model file is at hand, by what the engine said where it was asked,
/// else by an estimate.
#[derive(Debug, Clone)]
pub struct TokenCounter {
    by: By,
}

#[derive(Debug, Clone)]
enum By {
    File(Arc<Exact>),
    Engine(Arc<Asked>),
    Estimate,
}

#[derive(Debug)]
struct Exact {
    special: SpecialTokens,
    splitter: Splitter,
    bpe: Bpe,
    words: Words,
    lines: Lines,
    template: ChatTemplate,
    roles: Roles,
    /// Whether the engine puts a token before every prompt.
    add_bos: bool,
}

/// What a chat template takes; some families refuse what most allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// System messages.
    pub system: bool,
    /// Two user messages in a row.
    pub user_twice: bool,
}

impl TokenCounter {
    /// The counter of the model at `path`.
    ///
    /// # Errors
    /// The file cannot be read or its tokenizer is not known here.
    pub fn from_gguf(path: &Path) -> Result<Self, TokenizerError> {
        let facts = GgufFacts::read(path)
            .map_err(|error| TokenizerError::Unreadable(path.into(), error))?;
        Self::from_facts(path, &facts)
    }

    /// The counter of the model at `path`, whose header has been read.
    ///
    /// # Errors
    /// The file's tokenizer is not known here.
    pub fn from_facts(path: &Path, facts: &GgufFacts) -> Result<Self, TokenizerError> {
        let tokenizer = facts
            .tokenizer
            .as_ref()
            .ok_or_else(|| TokenizerError::NoVocabulary(path.into()))?;
        let exact = Exact::new(path, tokenizer, facts.chat_template.clone())?;
        Ok(Self {
            by: By::File(Arc::new(exact)),
        })
    }

    /// A counter for one prompt of a model whose file is elsewhere: it knows what the model's engine said, estimates the
    /// rest and notes it, see [`TokenCounter::missed`].
    #[must_use]
    pub fn asking(cache: &TokenCache, model: &str) -> Self {
        Self {
            by: By::Engine(Arc::new(Asked::new(cache, model))),
        }
    }

    /// A counter for an engine that cannot be asked: an estimate by script, rather above than below.
    #[must_use]
    pub fn estimate() -> Self {
        Self { by: By::Estimate }
    }

    /// Whether the counts so far equal the engine's own.
    #[must_use]
    pub fn exact(&self) -> bool {
        match &self.by {
            By::File(_) => true,
            By::Engine(asked) => asked.missed().is_empty(),
            By::Estimate => false,
        }
    }

    /// What was estimated only because the engine has not been asked yet.
    #[must_use]
    pub fn missed(&self) -> Vec<CountQuestion> {
        match &self.by {
            By::Engine(asked) => asked.missed(),
            By::File(_) | By::Estimate => Vec::new(),
        }
    }

    /// Forgets what was estimated, to count again.
    pub fn begin_again(&self) {
        if let By::Engine(asked) = &self.by {
            asked.forget_missed();
        }
    }

    /// Takes over what the engine answers: `None` when the template refuses the roles.
    pub fn learn(&self, question: &CountQuestion, tokens: Option<u32>) {
        if let By::Engine(asked) = &self.by {
            asked.learn(question, tokens);
        }
    }

    /// What the model's chat template takes; everything where that is not known.
    #[must_use]
    pub fn roles(&self) -> Roles {
        match &self.by {
            By::File(exact) => exact.roles,
            By::Engine(asked) => asked.roles(),
            By::Estimate => Roles::ALL,
        }
    }

    /// Tokens of `text` alone, as it stands inside a prompt.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        match &self.by {
            By::File(exact) => exact.count(text),
            By::Engine(asked) => asked.count(text),
            By::Estimate => estimate(text),
        }
    }

    /// The same for a page of context blocks, of which most were counted before: a counter that asks its engine adds up
    /// the blocks, which gives a token a block more at most.
    #[must_use]
    pub fn count_page(&self, page: &str) -> usize {
        match &self.by {
            By::Engine(asked) => asked.count_page(page),
            By::File(_) | By::Estimate => self.count(page),
        }
    }

    /// Tokens of a whole prompt: the conversation in the model's chat template, ready for an answer.
    /// Equal to the engine's `usage.prompt_tokens`. A conversation that the template refuses is
    /// counted turn by turn, rather above than below.
    #[must_use]
    pub fn count_chat(&self, turns: &[Turn<'_>]) -> usize {
        let rendered = match &self.by {
            By::File(exact) => exact.count_chat(turns),
            By::Engine(asked) => asked.count_chat(turns),
            By::Estimate => None,
        };
        rendered.unwrap_or_else(|| {
            let turn = |turn: &Turn<'_>| self.count(turn.content) + TURN_TOKENS;
            turns.iter().map(turn).sum::<usize>() + TURN_TOKENS
        })
    }
}

/// What a template adds around one message, at most.
const TURN_TOKENS: usize = 8;

impl Roles {
    /// What most templates take.
    pub const ALL: Self = Self {
        system: true,
        user_twice: true,
    };

    fn of(template: &ChatTemplate) -> Self {
        Self {
            system: template.takes(&["system", "user"]),
            user_twice: template.takes(&["user", "user"]),
        }
    }
}

impl Exact {
    fn new(
        path: &Path,
        tokenizer: &GgufTokenizer,
        template: Option<String>,
    ) -> Result<Self, TokenizerError> {
        if tokenizer.model != "gpt2" {
            let (path, model) = (path.into(), tokenizer.model.clone());
            return Err(TokenizerError::Kind { path, model });
        }
        let splitter = Splitter::named(&tokenizer.pre).ok_or_else(|| TokenizerError::Pre {
            path: path.into(),
            pre: tokenizer.pre.clone(),
        })?;
        let bpe = Bpe::new(tokenizer, splitter.whole_words()).map_err(|reason| {
            TokenizerError::Vocabulary {
                path: path.into(),
                reason,
            }
        })?;
        let template =
            ChatTemplate::new(tokenizer, template).map_err(|source| TokenizerError::Template {
                path: path.into(),
                source,
            })?;
        Ok(Self {
            special: SpecialTokens::new(tokenizer),
            splitter,
            bpe,
            words: Words::default(),
            lines: Lines::default(),
            roles: Roles::of(&template),
            template,
            add_bos: tokenizer.add_bos && tokenizer.bos.is_some(),
        })
    }

    fn count(&self, text: &str) -> usize {
        if self.special.span_lines() {
            return self.count_anew(text);
        }
        self.lines.count(text, |text| self.count_anew(text))
    }

    fn count_anew(&self, text: &str) -> usize {
        let pieces = self.special.cut(text);
        let mut known = self.words.lend();
        let tokens = pieces.into_iter().map(|piece| match piece {
            Piece::Token => 1,
            Piece::Text(text) => {
                let mut tokens = 0;
                self.splitter
                    .split(text, &mut |word| tokens += known.count(word, &self.bpe));
                tokens
            }
        });
        tokens.sum()
    }

    fn count_chat(&self, turns: &[Turn<'_>]) -> Option<usize> {
        let prompt = self.template.render(turns).ok()?;
        // The engine adds the token itself and takes a second one out of the template's text.
        let prompt = match self.template.bos() {
            Some(bos) if self.add_bos => prompt.strip_prefix(bos).unwrap_or(&prompt),
            _ => &prompt,
        };
        Some(self.count(prompt) + usize::from(self.add_bos))
    }
}

/// Words of Latin letters take a token for three characters, other scripts and signs one for each
/// two bytes; runs of blanks are nearly free.
fn estimate(text: &str) -> usize {
    let mut halves = 0;
    let mut thirds = 0;
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' => thirds += 1,
            ' ' => {}
            _ => halves += c.len_utf8().max(2),
        }
    }
    usize::div_ceil(halves, 2) + usize::div_ceil(thirds, 3)
}
