//! InferenceGateway: what has to exist for one gateway to answer, what its processes are told, and what is known of it.
//!
//! The plan itself is made in `plan.rs`; this file says which part of it lies on the gateway's disk, so that a gateway
//! starts with the operator away, and which part travels apart.

mod build;
mod familiar;
mod status;

pub use build::{Material, build};
pub use familiar::drift;
pub(crate) use status::ready_condition;
pub use status::{Observed, status};

use crate::stack::Stack;
use crate::validate::{Problem, validate as validate_stack};
use crate::{model_pool, names, plan};
use std::collections::BTreeMap;
use weir_crds::{Engine, InferenceGateway};
use weir_plan::{Endpoint, GatewayPlan, Pool, Revision};

/// Every problem that keeps a gateway from working, as [`fn@crate::plan`] finds them.
pub fn validate(gateway: &InferenceGateway, stack: &Stack) -> Vec<Problem> {
    let problems = validate_stack(stack).into_iter();
    problems
        .filter(|problem| crate::plan::concerns(stack, gateway, problem))
        .collect()
}

/// What a plan is made of in a cluster: what the status of pools says, the endpoints of each pool by its name, and where
/// memory services listen.
pub fn observed(
    gateway: &InferenceGateway,
    stack: &Stack,
    endpoints: &BTreeMap<String, Vec<Endpoint>>,
    revision: Revision,
) -> plan::Observed {
    let pools = stack.pools.iter().map(|pool| {
        let name = pool.metadata.name.clone().unwrap_or_default();
        let endpoints = endpoints.get(&name).cloned().unwrap_or_default();
        (name, model_pool::observed(pool, endpoints))
    });
    let namespace = gateway.metadata.namespace.as_deref().unwrap_or_default();
    let services = stack.memories.iter().map(|memory| {
        let name = memory.metadata.name.clone().unwrap_or_default();
        let url = names::memory_url(&name, namespace);
        (name, url)
    });
    plan::Observed {
        pools: pools.collect(),
        embedders: BTreeMap::new(),
        services: services.collect(),
        is_scaled: true,
        replicas: gateway.spec.replicas,
        revision,
        // The caller knows what its rollouts come to.
        routers: None,
    }
}

/// The part of a plan that lies on the disk: Services where the plan names no pods of a pool, since those travel apart, and no
/// candidate, which nobody gets while the operator is away. So it changes only when a resource does. It keeps the revision
/// of the plan it is a part of, by which a gateway that hears nothing more tells that it is newer than what it serves.
#[must_use]
pub fn slow_plan(plan: &GatewayPlan, namespace: &str) -> GatewayPlan {
    let mut slow = GatewayPlan {
        candidate: None,
        ..plan.clone()
    };
    for pool in plan.served().filter(|pool| pool.endpoints.is_empty()) {
        if let Some(pool) = slow.served_mut(&pool.name) {
            pool.endpoints = vec![Endpoint::keyless(&names::pool_url(&pool.name, namespace))];
        }
    }
    slow
}

/// The pools of a [`slow_plan`] that run in the cluster, by name.
pub fn pools_of_slow_plan<'a>(
    plan: &'a GatewayPlan,
    namespace: &'a str,
) -> impl Iterator<Item = &'a str> {
    let in_cluster = plan.served().filter(move |pool| {
        let service = names::pool_url(&pool.name, namespace);
        pool.endpoints
            .iter()
            .any(|endpoint| endpoint.url == service)
    });
    in_cluster.map(|pool| pool.name.as_str())
}

/// The pools of a plan that run in the cluster, whose endpoints travel by themselves.
pub fn pools_in_cluster<'a>(plan: &'a GatewayPlan, stack: &Stack) -> Vec<&'a Pool> {
    let pools = plan.served();
    pools
        .filter(|pool| is_in_cluster(stack, &pool.name))
        .collect()
}

fn is_in_cluster(stack: &Stack, pool: &str) -> bool {
    let engine = stack.pool(pool).map(|pool| &pool.spec.engine);
    engine.is_some_and(|engine| !matches!(engine, Engine::External(_)))
}
