//! What does not fit together about the pool that writes summaries into a memory.
//!
//! It is asked on behalf of requests, so it is one of the pools that the gateway may ask: selected, answering, and within
//! `privacy.max`. A request that stays nearer than the pool is never summarised, which is no problem of the stack.

use super::{On, Problem, labels, name};
use crate::stack::Stack;
use weir_crds::{InferenceGateway, MemoryStore, Summaries};

/// Where a memory names the pool.
const PART: &str = "spec.writeBack.summaries";

fn wanted(memory: &MemoryStore) -> Option<&Summaries> {
    memory.spec.write_back.summaries.as_ref()
}

/// The pool is not there, or makes vectors.
pub(super) fn of_memory(stack: &Stack, memory: &MemoryStore) -> Vec<Problem> {
    let Some(Summaries { pool, .. }) = wanted(memory) else {
        return Vec::new();
    };
    let on = On::new("MemoryStore", &memory.metadata.name, PART);
    match stack.pool(pool) {
        None => vec![on.missing("pool", "ModelPool", pool, &stack.pool_names())],
        Some(found) if stack.embeds(found) => {
            let message =
                format!("pool {pool} embeds for a MemoryStore, and such a pool writes nothing");
            let instead = "name a ModelPool that generates".into();
            vec![on.problem("pool", "SummariserEmbeds", message, instead)]
        }
        Some(_) => Vec::new(),
    }
}

/// The gateway may not ask the pool.
pub(super) fn of_gateway(stack: &Stack, gateway: &InferenceGateway) -> Vec<Problem> {
    let spec = &gateway.spec;
    let memory = spec.memory.as_deref().and_then(|name| stack.memory(name));
    let Some(summaries) = memory.and_then(wanted) else {
        return Vec::new();
    };
    let Some(pool) = stack.pool(&summaries.pool) else {
        return Vec::new();
    };
    let on = On::new("InferenceGateway", &gateway.metadata.name, "spec");
    let (memory, pool_name) = (spec.memory.as_deref().unwrap_or_default(), &summaries.pool);
    let mut selected = stack.selected(gateway).into_iter();
    if !selected.any(|one| name(&one.metadata.name) == pool_name) {
        let message = format!(
            "MemoryStore {memory} summarises with pool {pool_name}, which this gateway does not select"
        );
        let instead = format!("put {} on the pool", labels(&spec.pools.match_labels));
        return vec![on.problem("memory", "SummariserNotSelected", message, instead)];
    }
    if pool.spec.privacy > spec.privacy.max {
        let message = format!(
            "MemoryStore {memory} summarises with pool {pool_name}, whose privacy {} goes further than privacy.max {}",
            pool.spec.privacy, spec.privacy.max
        );
        let instead = "summarise with a nearer pool".into();
        return vec![on.problem("memory", "SummariserTooFar", message, instead)];
    }
    Vec::new()
}
