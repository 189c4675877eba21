//! A pool for unit tests.

use weir_plan::{Cost, EngineKind, Performance, Pool, Privacy, SamplingDefaults, Tier};

/// A local pool with 512 tokens of context and no replica.
pub(crate) fn pool(name: &str) -> Pool {
    Pool {
        name: name.to_owned(),
        model: name.to_owned(),
        upstream_model: name.to_owned(),
        tier: Tier::Device,
        privacy: Privacy::Local,
        engine: EngineKind::LlamaCpp,
        context_tokens: 512,
        slots: 1,
        parameters: 1,
        sampling: SamplingDefaults::default(),
        cost: Cost::default(),
        performance: Performance::default(),
        tokenizer: None,
        endpoints: Vec::new(),
        authorities: None,
        when_cold: None,
    }
}
