//! The plan: everything one gateway serves, made from resources and what was observed of them.

use crate::stack::Stack;
use crate::validate::{Problem, validate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use weir_plan::{Endpoint, GatewayPlan, Performance, Revision};

/// What was observed of the world that a plan speaks about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// Pools by name. A pool that is missing has no endpoints and no facts.
    pub pools: BTreeMap<String, ObservedPool>,
    /// Folder of the embedder's files, by MemoryStore; without it the store's `embedding.source` is passed on.
    pub embedders: BTreeMap<String, String>,
    /// Order among plans.
    pub revision: Revision,
}

/// What was observed of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservedPool {
    /// Replicas that can generate now.
    pub endpoints: Vec<Endpoint>,
    /// What the model's file says.
    pub facts: Option<ModelFacts>,
    /// Measured speed; without it a cautious guess.
    pub performance: Option<Performance>,
    /// File whose vocabulary and chat template count tokens exactly.
    pub tokenizer: Option<String>,
}

/// What a model's file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelFacts {
    /// Weights.
    pub parameters: u64,
    /// Longest context the model was trained for.
    pub context_tokens: u32,
}

/// The plan of one gateway.
///
/// # Errors
/// Every problem that keeps the gateway from working.
pub fn plan(
    stack: &Stack,
    _gateway: &str,
    _observed: &Observed,
) -> Result<GatewayPlan, Vec<Problem>> {
    Err(validate(stack))
}
