//! Text to vectors and text to token counts, in process.
//!
//! [`Embedder`] is the model, [`EmbedQueue`] the way the gateway uses it, [`TokenCounter`] counts as
//! the engine counts. Nothing here opens a connection. Read on in `embedder.rs`, `queue.rs` and
//! `counter.rs`.

mod bert;
mod counter;

mod embedder;
mod queue;
mod recent;

pub use counter::{CountQuestion, Roles, TokenCache, TokenCounter, TokenizerError, Turn};
pub use embedder::{EmbedError, Embedder, LoadError, TOKENS_MAX};
pub use queue::EmbedQueue;
pub use recent::{QUESTION_BYTES_MAX, QUESTIONS_MAX, Recent};
