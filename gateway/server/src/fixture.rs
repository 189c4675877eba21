//! A pool for unit tests.

use weir_plan::{EngineKind, Pool};

/// A local pool with 512 tokens of context and no replica.
pub(crate) fn pool(name: &str) -> Pool {
    Pool {
        engine: EngineKind::LlamaCpp,
        context_tokens: 512,
        parameters: 1,
        ..Pool::local(name)
    }
}
