//! What does not fit together in a stack. Single documents are checked before, in `weir_crds::validate`.
//!
//! Every problem says what is wrong, what exists, and what to write instead.

pub(crate) mod secrets;
mod summaries;

use crate::jwt;
use crate::keys::{api_keys, are_withdrawn};
use crate::names::WATCHED;
use crate::stack::Stack;
use secrets::{authority_problems, key_problems};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use weir_crds::{
    Engine, ExternalStore, InferenceGateway, MemoryStore, ModelPool, NameRef, Privacy, Secret,
    Store,
};

/// Names that stand for other logs than an engine's, in `weir logs` and on the disk.
const RESERVED: [&str; 2] = ["gateway", "decisions"];
/// What to do about a Secret of keys that has none.
pub(crate) const ADD_KEY: &str = "add an entry TENANT.KEYID: KEY, or write auth: {anonymous: {}}";

/// Something that keeps an object from working, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Path of the field.
    pub field: String,
    /// CamelCase reason for a condition.
    pub reason: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub instead: String,
    /// Whether only what it is about is left out and the rest is served: no other problem may be passed over.
    #[serde(default)]
    pub left_out: bool,
}

/// Every problem of a stack, in the order of its objects; none means that every reference resolves.
pub fn validate(stack: &Stack) -> Vec<Problem> {
    let pools = stack
        .pools
        .iter()
        .flat_map(|pool| pool_problems(stack, pool));
    let memories = stack
        .memories
        .iter()
        .flat_map(|memory| memory_problems(stack, memory));
    let gateways = stack
        .gateways
        .iter()
        .flat_map(|gateway| gateway_problems(stack, gateway));
    pools.chain(memories).chain(gateways).collect()
}

/// Every problem that a stack has on one machine only, where gateways share its ports.
pub fn validate_local(stack: &Stack) -> Vec<Problem> {
    shared_ports(stack)
}

fn pool_problems(stack: &Stack, pool: &ModelPool) -> Vec<Problem> {
    let own = name(&pool.metadata.name);
    let mut problems = secret_problems(stack, pool);
    problems.extend(ca_problems(stack, pool));
    if RESERVED.contains(&own) {
        let on = On::new("ModelPool", &pool.metadata.name, "metadata");
        let message =
            format!("{own:?} is what `weir logs {own}` shows, so no pool can be called that");
        let instead = "give the pool another name".into();
        problems.push(on.problem("name", "ReservedName", message, instead));
    }
    problems
}

/// What is wrong with the key of an external pool.
fn secret_problems(stack: &Stack, pool: &ModelPool) -> Vec<Problem> {
    let Engine::External(external) = &pool.spec.engine else {
        return Vec::new();
    };
    let part = "spec.engine.external.apiKeySecretRef";
    let on = On::new("ModelPool", &pool.metadata.name, part);
    let reference = external.api_key_secret_ref.as_ref();
    reference.map_or_else(Vec::new, |it| {
        key_problems(stack, &on, (&it.name, &it.key), "key")
    })
}

/// What is wrong with the certificate authorities of an external pool.
fn ca_problems(stack: &Stack, pool: &ModelPool) -> Vec<Problem> {
    let Engine::External(external) = &pool.spec.engine else {
        return Vec::new();
    };
    let part = "spec.engine.external.caSecretRef";
    let on = On::new("ModelPool", &pool.metadata.name, part);
    let reference = external.ca_secret_ref.as_ref();
    reference.map_or_else(Vec::new, |it| authority_problems(stack, &on, it))
}

fn memory_problems(stack: &Stack, memory: &MemoryStore) -> Vec<Problem> {
    let mut problems = summaries::of_memory(stack, memory);
    if let Store::External(external) = &memory.spec.store {
        problems.extend(server_problems(stack, memory, external));
    }
    if let Some(pool) = &memory.spec.embedding.pool
        && stack.pool(pool).is_none()
    {
        let on = On::new("MemoryStore", &memory.metadata.name, "spec.embedding");
        problems.push(on.missing("pool", "ModelPool", pool, &stack.pool_names()));
    }
    problems
}

/// What is wrong with the Secrets of an external store, and a second memory that writes to it.
fn server_problems(stack: &Stack, memory: &MemoryStore, external: &ExternalStore) -> Vec<Problem> {
    let on = |part| On::new("MemoryStore", &memory.metadata.name, part);
    let mut problems = Vec::new();
    if let Some(it) = &external.qdrant.api_key_secret_ref {
        let on = on("spec.store.external.qdrant.apiKeySecretRef");
        problems.extend(key_problems(stack, &on, (&it.name, &it.key), "key"));
    }
    if let Some(it) = &external.qdrant.ca_secret_ref {
        let on = on("spec.store.external.qdrant.caSecretRef");
        problems.extend(authority_problems(stack, &on, it));
    }
    let credentials = &external.neo4j.credentials_secret_ref.name;
    for entry in ["username", "password"] {
        let on = on("spec.store.external.neo4j.credentialsSecretRef");
        let found = key_problems(stack, &on, (credentials, entry), "name");
        problems.extend(
            found
                .into_iter()
                .filter(|found| !problems.contains(found))
                .collect::<Vec<_>>(),
        );
    }
    if let Some(it) = &external.neo4j.ca_secret_ref {
        let on = on("spec.store.external.neo4j.caSecretRef");
        problems.extend(authority_problems(stack, &on, it));
    }
    let own = name(&memory.metadata.name);
    let place = |external: &ExternalStore| {
        let (qdrant, neo4j) = (&external.qdrant.url, &external.neo4j.url);
        (external.collection.clone(), qdrant.clone(), neo4j.clone())
    };
    let before = stack.memories.iter();
    let mut before = before.take_while(|other| name(&other.metadata.name) != own);
    let shared = before.find(|other| match &other.spec.store {
        Store::External(other) => place(other) == place(external),
        Store::Embedded(_) => false,
    });
    problems.extend(shared.map(|other| {
        let other = name(&other.metadata.name);
        let message = format!(
            "MemoryStore {other} writes to {:?} too",
            external.collection
        );
        let instead = "give each its own collection, or let gateways share one MemoryStore".into();
        on("spec.store.external").problem("collection", "CollectionShared", message, instead)
    }));
    problems
}

fn gateway_problems(stack: &Stack, gateway: &InferenceGateway) -> Vec<Problem> {
    let mut problems = selection_problems(stack, gateway);
    problems.extend(recall_problems(stack, gateway));
    problems.extend(summaries::of_gateway(stack, gateway));
    let on = On::new("InferenceGateway", &gateway.metadata.name, "spec");
    if let Some(version) = &gateway.spec.router.version
        && stack.router(version).is_none()
    {
        let exist: Vec<&str> = stack
            .routers
            .iter()
            .map(|router| name(&router.metadata.name))
            .collect();
        problems.push(on.missing("router.version", "RouterVersion", version, &exist));
    }
    if let Some(reference) = &gateway.spec.auth.api_keys_secret_ref {
        problems.extend(auth_problems(stack, gateway, reference));
    }
    problems.extend(jwt::problems(gateway));
    problems
}

fn selection_problems(stack: &Stack, gateway: &InferenceGateway) -> Vec<Problem> {
    let on = On::new("InferenceGateway", &gateway.metadata.name, "spec");
    let selected = stack.selected(gateway);
    if selected.is_empty() {
        let message = format!(
            "no ModelPool carries {}",
            labels(&gateway.spec.pools.match_labels)
        );
        let instead = match stack
            .pools
            .iter()
            .find_map(|pool| pool.metadata.labels.as_ref())
        {
            Some(found) => format!(
                "put these labels on the pools, or select what they carry: {}",
                labels(found)
            ),
            None => "put these labels under metadata.labels of the pools".into(),
        };
        return vec![on.problem("pools.matchLabels", "NoPools", message, instead)];
    }
    let answering = stack.answering(gateway);
    if answering.is_empty() {
        let message = "every selected ModelPool embeds for a MemoryStore, and such a pool answers no questions";
        let instead = "select a ModelPool that generates too".into();
        return vec![on.problem("pools.matchLabels", "NoPools", message.into(), instead)];
    }
    let mut problems = Vec::new();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for pool in &stack.used(gateway) {
        let (model, pool) = (pool.spec.model.name.as_str(), name(&pool.metadata.name));
        if let Some(first) = owners.insert(model, pool) {
            let message = format!("pools {first} and {pool} both serve a model called {model}");
            let instead = "give each pool its own spec.model.name, or select one of them".into();
            problems.push(on.problem("pools.matchLabels", "DuplicateModel", message, instead));
        }
    }
    let nearest = answering
        .iter()
        .map(|pool| pool.spec.privacy)
        .min()
        .unwrap_or(Privacy::Local);
    let limits = &gateway.spec.privacy;
    let (field, limit) = match (nearest > limits.max, nearest > limits.default) {
        (true, _) => ("privacy.max", limits.max),
        (false, true) => ("privacy.default", limits.default),
        (false, false) => return problems,
    };
    let message = format!("{limit} excludes every selected pool, the nearest being {nearest}");
    let instead = format!("write {nearest}, or select a pool with privacy {limit}");
    problems.push(on.problem(field, "NoPermittedPools", message, instead));
    problems
}

fn recall_problems(stack: &Stack, gateway: &InferenceGateway) -> Vec<Problem> {
    let Some(wanted) = &gateway.spec.memory else {
        return Vec::new();
    };
    let on = On::new("InferenceGateway", &gateway.metadata.name, "spec");
    let Some(memory) = stack.memory(wanted) else {
        let exist: Vec<&str> = stack
            .memories
            .iter()
            .map(|memory| name(&memory.metadata.name))
            .collect();
        return vec![on.missing("memory", "MemoryStore", wanted, &exist)];
    };
    let embedder = memory
        .spec
        .embedding
        .pool
        .as_deref()
        .and_then(|pool| stack.pool(pool));
    let Some(pool) = embedder else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    let pool_name = name(&pool.metadata.name);
    if pool.spec.privacy > gateway.spec.privacy.default {
        // Every question is embedded before anything is known about it, so the embedder may not lie further away
        // than the questions that do not say how far they may go.
        let message = format!(
            "MemoryStore {wanted} embeds with pool {pool_name}, whose privacy {} goes further than \
             privacy.default {}",
            pool.spec.privacy, gateway.spec.privacy.default
        );
        let instead = "embed in process with embedding.source, or with a nearer pool".into();
        problems.push(on.problem("memory", "EmbedderTooFar", message, instead));
    }
    if !stack
        .selected(gateway)
        .iter()
        .any(|selected| selected.metadata.name == pool.metadata.name)
    {
        let message = format!(
            "MemoryStore {wanted} embeds with pool {pool_name}, which this gateway does not select"
        );
        let wanted = labels(&gateway.spec.pools.match_labels);
        let instead = format!("put {wanted} on the pool");
        problems.push(on.problem("memory", "EmbedderNotSelected", message, instead));
    }
    problems
}

fn auth_problems(stack: &Stack, gateway: &InferenceGateway, reference: &NameRef) -> Vec<Problem> {
    let on = On::new(
        "InferenceGateway",
        &gateway.metadata.name,
        "spec.auth.apiKeysSecretRef",
    );
    let Some(secret) = stack.secret(&reference.name) else {
        let missing = on.missing("name", "Secret", &reference.name, &stack.secret_names());
        return match are_withdrawn(gateway) {
            true => vec![missing.leaving_out()],
            false => vec![missing],
        };
    };
    let (keys, errors) = api_keys(secret);
    let malformed = |error: &crate::keys::KeyError| {
        let on = On::new("Secret", &secret.metadata.name, "");
        let (message, instead) = (error.to_string(), error.instead());
        on.problem("stringData", "SecretMalformed", message, instead)
            .leaving_out()
    };
    let mut problems: Vec<Problem> = errors.iter().map(malformed).collect();
    if keys.is_empty() && errors.is_empty() {
        let message = nobody_may_ask(&reference.name);
        let empty = on.problem("name", "SecretEmpty", message, ADD_KEY.into());
        problems.push(empty.leaving_out());
    }
    problems
}

/// What is wrong with a Secret of keys that has none.
pub(crate) fn nobody_may_ask(secret: &str) -> String {
    format!("Secret {secret} has no entries, so nobody may ask")
}

/// Gateways of one stack that want the same port.
fn shared_ports(stack: &Stack) -> Vec<Problem> {
    let mut owners: BTreeMap<u16, &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for gateway in &stack.gateways {
        let port = gateway.spec.listen.port;
        let own = name(&gateway.metadata.name);
        if port == 0 {
            continue;
        }
        if let Some(first) = owners.insert(port, own) {
            let on = On::new("InferenceGateway", &gateway.metadata.name, "spec.listen");
            let message = format!("gateway {first} listens at port {port} too");
            let instead = "write another port, or 0 to let the system choose".into();
            problems.push(on.problem("port", "PortShared", message, instead));
        }
    }
    problems
}

/// The object and the part of it that problems are about: every problem is made here.
pub(crate) struct On<'a> {
    kind: &'a str,
    name: &'a str,
    part: &'a str,
}

impl<'a> On<'a> {
    pub(crate) fn new(kind: &'a str, name: &'a Option<String>, part: &'a str) -> Self {
        Self {
            kind,
            name: self::name(name),
            part,
        }
    }

    /// A problem that may not be passed over.
    pub(crate) fn problem(
        &self,
        field: &str,
        reason: &str,
        message: String,
        instead: String,
    ) -> Problem {
        let dot = if self.part.is_empty() { "" } else { "." };
        Problem {
            kind: self.kind.to_owned(),
            name: self.name.to_owned(),
            field: format!("{}{dot}{field}", self.part),
            reason: reason.to_owned(),
            message,
            instead,
            left_out: false,
        }
    }

    /// A problem about something that a field names and that is not there.
    fn missing(&self, field: &str, what: &str, wanted: &str, exist: &[&str]) -> Problem {
        let instead = match exist {
            [] if what == "Secret" => {
                format!("add a Secret called {wanted}, labelled {WATCHED}")
            }
            [] => format!("add a {what} called {wanted}"),
            exist => format!("write {}, or add {wanted}", exist.join(" or ")),
        };
        let message = format!("no {what} is called {wanted:?}");
        let is_entry = what == "entry";
        let reason = if is_entry {
            "SecretMalformed".into()
        } else {
            format!("{what}NotFound")
        };
        self.problem(field, &reason, message, instead)
    }
}

impl Problem {
    /// The same, where only what it is about is left out.
    fn leaving_out(self) -> Self {
        Self {
            left_out: true,
            ..self
        }
    }
}

pub(crate) fn name(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or_default()
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}: {value}"))
        .collect();
    pairs.join(", ")
}

impl Stack {
    /// The pool called `wanted`.
    pub fn pool(&self, wanted: &str) -> Option<&ModelPool> {
        self.pools
            .iter()
            .find(|pool| name(&pool.metadata.name) == wanted)
    }

    /// The memory called `wanted`.
    pub fn memory(&self, wanted: &str) -> Option<&MemoryStore> {
        self.memories
            .iter()
            .find(|memory| name(&memory.metadata.name) == wanted)
    }

    /// The router version called `wanted`.
    pub fn router(&self, wanted: &str) -> Option<&weir_crds::RouterVersion> {
        self.routers
            .iter()
            .find(|router| name(&router.metadata.name) == wanted)
    }

    /// The gateway called `wanted`.
    pub fn gateway(&self, wanted: &str) -> Option<&InferenceGateway> {
        self.gateways
            .iter()
            .find(|gateway| name(&gateway.metadata.name) == wanted)
    }

    /// The secret called `wanted`.
    pub fn secret(&self, wanted: &str) -> Option<&Secret> {
        self.secrets
            .iter()
            .find(|secret| name(&secret.metadata.name) == wanted)
    }

    fn pool_names(&self) -> Vec<&str> {
        self.pools
            .iter()
            .map(|pool| name(&pool.metadata.name))
            .collect()
    }

    fn secret_names(&self) -> Vec<&str> {
        self.secrets
            .iter()
            .map(|secret| name(&secret.metadata.name))
            .collect()
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind,
            name,
            field,
            message,
            instead,
            ..
        } = self;
        write!(f, "{kind}/{name}: {field}: {message}: {instead}")
    }
}
