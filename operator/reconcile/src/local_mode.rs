//! What a stack says that one machine cannot do, or has no use for.
//!
//! The same YAML is for a laptop and a cluster. What would make an answer impossible or different is refused by `weir up`
//! with what to write instead; what only says how a cluster should run things is named once and passed over.

use crate::keys::tenants_without_keys;
use crate::stack::Stack;
use crate::validate::{On, Problem, name};
use std::net::IpAddr;
use weir_crds::{
    Cache, DeletionPolicy, EmbeddedStore, Engine, Expose, InferenceGateway, MemoryStore, ModelPool,
    RolloutPolicy, Store, Update,
};

/// The reason of every problem here.
const CLUSTER_ONLY: &str = "ClusterOnly";
/// What is wrong with a claim.
const CLAIM: &str = "pvc:// is a volume of a cluster";

/// What a gateway uses that needs a cluster.
pub fn cluster_only(stack: &Stack, gateway: &InferenceGateway) -> Vec<Problem> {
    let mut problems = Vec::new();
    for pool in stack.used(gateway) {
        let on = On::new("ModelPool", &pool.metadata.name, "spec");
        if matches!(pool.spec.engine, Engine::Vllm(_)) {
            let message = "vLLM is started in a cluster only".into();
            let instead =
                "use engine.llamaCpp, or engine.external with the address of a vLLM that runs";
            problems.push(on.problem("engine.vllm", CLUSTER_ONLY, message, instead.into()));
        }
        if is_claim(pool.spec.model.source.as_ref()) {
            let instead = "write hf://OWNER/REPO/FILE.gguf, https://HOST/FILE.gguf or file://PATH";
            problems.push(on.problem("model.source", CLUSTER_ONLY, CLAIM.into(), instead.into()));
        }
    }
    let memory = gateway.spec.memory.as_deref();
    let memory = memory.and_then(|wanted| stack.memory(wanted));
    problems.extend(
        memory
            .filter(|memory| is_claim(memory.spec.embedding.source.as_ref()))
            .map(|memory| {
                let on = On::new("MemoryStore", &memory.metadata.name, "spec.embedding");
                let instead = "write hf://OWNER/REPO, https://HOST/FOLDER or file://PATH";
                on.problem("source", CLUSTER_ONLY, CLAIM.into(), instead.into())
            }),
    );
    problems.extend(memory.and_then(external_store));
    problems.extend(plaintext(gateway));
    problems
}

/// A store that only a memory service asks.
fn external_store(memory: &MemoryStore) -> Option<Problem> {
    let Store::External(_) = &memory.spec.store else {
        return None;
    };
    let on = On::new("MemoryStore", &memory.metadata.name, "spec.store");
    let message = "Qdrant and Neo4j are asked by a memory service, which runs in a cluster only";
    let instead =
        "write store: {embedded: {}}, and move the passages with weir memory export and import";
    Some(on.problem("external", CLUSTER_ONLY, message.into(), instead.into()))
}

/// A gateway that is to speak HTTPS, and would not on this machine, to others than this machine.
fn plaintext(gateway: &InferenceGateway) -> Option<Problem> {
    let address = &gateway.spec.listen.address;
    let is_own = address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if is_own || gateway.spec.expose.tls_secret_ref.is_none() {
        return None;
    }
    let on = On::new("InferenceGateway", &gateway.metadata.name, "spec.expose");
    let message = format!("HTTPS is served in a cluster only, and others reach {address}");
    let instead = "write listen: {address: 127.0.0.1}, or remove expose.tlsSecretRef";
    Some(on.problem("tlsSecretRef", CLUSTER_ONLY, message, instead.into()))
}

fn is_claim(source: Option<&String>) -> bool {
    source.is_some_and(|source| source.starts_with("pvc://"))
}

/// What a gateway's stack says that has no effect on one machine, one line an object; and tenants that nobody can ask as.
pub fn without_effect(stack: &Stack, gateway: &InferenceGateway) -> Vec<String> {
    let mut lines = Vec::new();
    let mut tell = |kind: &str, own: &Option<String>, fields: Vec<&str>| {
        if !fields.is_empty() {
            let fields = fields.join(", ");
            lines.push(format!(
                "{kind}/{}: no effect in local mode: {fields}",
                name(own)
            ));
        }
    };
    for pool in stack.used(gateway) {
        tell("ModelPool", &pool.metadata.name, of_pool(pool));
    }
    let memory = gateway.spec.memory.as_deref();
    if let Some(memory) = memory.and_then(|wanted| stack.memory(wanted)) {
        tell("MemoryStore", &memory.metadata.name, of_memory(memory));
    }
    tell(
        "InferenceGateway",
        &gateway.metadata.name,
        of_gateway(gateway),
    );
    let strangers = tenants_without_keys(stack, gateway);
    if !strangers.is_empty() {
        lines.push(format!(
            "InferenceGateway/{}: no key of a tenant: {}",
            name(&gateway.metadata.name),
            strangers.join(", ")
        ));
    }
    lines
}

/// The fields among `all` that are set.
fn set(all: &[(&'static str, bool)]) -> Vec<&'static str> {
    let set = all.iter().filter(|(_, is_set)| *is_set);
    set.map(|(field, _)| *field).collect()
}

fn of_pool(pool: &ModelPool) -> Vec<&'static str> {
    let spec = &pool.spec;
    let image = match &spec.engine {
        Engine::LlamaCpp(engine) => engine.image.is_some(),
        Engine::Vllm(_) | Engine::External(_) => false,
    };
    set(&[
        ("engine.llamaCpp.image", image),
        (
            "model.credentialsSecretRef",
            spec.model.credentials_secret_ref.is_some(),
        ),
        ("resources", spec.resources.is_some()),
        ("pod", spec.pod.is_some()),
        ("cache", spec.cache != Cache::default()),
        ("replicas", spec.replicas != 1),
        ("autoscaling", spec.autoscaling.is_some()),
        ("update", spec.update != Update::default()),
        ("drain", spec.drain.is_some()),
    ])
}

fn of_memory(memory: &MemoryStore) -> Vec<&'static str> {
    let embedded = match &memory.spec.store {
        Store::Embedded(embedded) => *embedded != EmbeddedStore::default(),
        Store::External(_) => false,
    };
    set(&[
        ("store.embedded", embedded),
        ("pod", memory.spec.pod.is_some()),
        (
            "deletionPolicy",
            memory.spec.deletion_policy != DeletionPolicy::default(),
        ),
    ])
}

fn of_gateway(gateway: &InferenceGateway) -> Vec<&'static str> {
    let spec = &gateway.spec;
    set(&[
        ("replicas", spec.replicas != 1),
        ("expose", spec.expose != Expose::default()),
        ("resources", spec.resources.is_some()),
        ("pod", spec.pod.is_some()),
        (
            "router.rollout",
            spec.router.rollout != RolloutPolicy::default(),
        ),
    ])
}
