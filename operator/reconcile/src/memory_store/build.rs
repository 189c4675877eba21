//! The objects of a memory: claim, StatefulSet, Service, disruption budget, network policy.
//!
//! The claim is an object of its own and not a template of the StatefulSet: so it can grow, and stay when the memory goes.
//! An external store has none: what its service keeps on the disk is the embedder.

use crate::names::{
    self, FETCH_CONTAINER, MEMORY_HEALTH_PORT, MEMORY_LABEL, MEMORY_PORT, STATE_FOLDER, TLS_FOLDER,
};
use crate::network;
use crate::object::{self, Object, Owner};
use crate::platform::Platform;
use crate::pod;
use crate::stack::Stack;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, KeyToPath, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSpec,
    PodTemplateSpec, Volume, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use std::collections::BTreeMap;
use weir_crds::{
    CaSecretRef, DeletionPolicy, EmbeddedStore, Engine, ExternalStore, MemoryStore,
    MemoryStoreSpec, ModelPool, Store,
};

/// Name of the container that serves the memory.
const CONTAINER: &str = "memory";
/// Where the embedder's files lie.
const EMBEDDER_FOLDER: &str = "/var/lib/weir/embedder";
/// What an embedder is made of.
const EMBEDDER_FILES: [&str; 3] = ["model.safetensors", "tokenizer.json", "config.json"];
/// Where the claim of a `pvc://` source is mounted.
const SOURCE_FOLDER: &str = "/var/lib/weir-source";
/// Where the authorities of an external pool that embeds are mounted.
const EMBEDDINGS_CA_FOLDER: &str = "/etc/weir/embeddings-ca";
/// Where the authorities of Qdrant are mounted.
const QDRANT_CA_FOLDER: &str = "/etc/weir/qdrant-ca";
/// Where the authorities of Neo4j are mounted.
const NEO4J_CA_FOLDER: &str = "/etc/weir/neo4j-ca";
/// The file of authorities.
const CA_FILE: &str = "ca.crt";

/// The objects of a memory. Where a pool embeds for it, `stack` says how that is reached.
pub fn build(store: &MemoryStore, stack: &Stack, platform: &Platform) -> Vec<Object> {
    let owner = Owner {
        kind: "MemoryStore",
        label: MEMORY_LABEL,
        metadata: &store.metadata,
    };
    let name = names::memory(owner.name());
    let namespace = &platform.operator_namespace;
    let ports = (MEMORY_PORT, Some(MEMORY_HEALTH_PORT));
    let mut objects: Vec<Object> = object::authorities(&owner, &name, (platform, false))
        .into_iter()
        .collect();
    if let Store::Embedded(embedded) = &store.spec.store {
        objects.push(claim(&owner, store.spec.deletion_policy, embedded));
    }
    objects.extend([
        network::service(&owner, name.clone(), (MEMORY_PORT, None), "ClusterIP"),
        network::policy_for_weir(&owner, name.clone(), ports, namespace),
        network::budget(&owner, name.clone()),
        Object::StatefulSet(Box::new(StatefulSet {
            metadata: owner.owned(name.clone()),
            spec: Some(StatefulSetSpec {
                // One writer: two processes on one store would each believe their own.
                replicas: Some(1),
                service_name: Some(name),
                selector: LabelSelector {
                    match_labels: Some(names::selector(MEMORY_LABEL, owner.name())),
                    ..LabelSelector::default()
                },
                template: template(store, (stack, platform)),
                ..StatefulSetSpec::default()
            }),
            status: None,
        })),
    ]);
    objects
}

fn claim(owner: &Owner<'_>, policy: DeletionPolicy, embedded: &EmbeddedStore) -> Object {
    let name = names::memory(owner.name());
    let storage = Quantity(embedded.storage.as_str().to_owned());
    Object::PersistentVolumeClaim(Box::new(PersistentVolumeClaim {
        metadata: match policy {
            DeletionPolicy::Delete => owner.owned(name),
            DeletionPolicy::Retain => owner.kept(name),
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: embedded.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), storage)])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }))
}

fn template(store: &MemoryStore, (stack, platform): (&Stack, &Platform)) -> PodTemplateSpec {
    let name = store.metadata.name.as_deref().unwrap_or_default();
    let labels = names::selector(MEMORY_LABEL, name);
    let state = match &store.spec.store {
        Store::Embedded(_) => pod::claim("state", &names::memory(name), false),
        Store::External(_) => pod::scratch("state", false),
    };
    let mut volumes = vec![
        state,
        pod::secret("tls", &names::memory_tls(name), false),
        pod::scratch("tmp", false),
    ];
    volumes.extend(in_place(store).map(|(claim, _)| pod::claim("source", claim, true)));
    let embeds = store.spec.embedding.pool.as_deref();
    let embeds = embeds.and_then(|pool| stack.pool(pool));
    let embeddings_ca = embeds.and_then(external_ca);
    volumes.extend(embeddings_ca.map(|ca| ca_volume("embeddings-ca", ca)));
    if let Store::External(external) = &store.spec.store {
        volumes.extend(server_cas(external).map(|(name, _, _, ca)| ca_volume(name, ca)));
    }
    let mut fetch = fetch(store, platform);
    if let Some(fetch) = fetch.as_mut().filter(|_| platform.ca_bundle.is_some()) {
        let config_map = names::authorities(&names::memory(name));
        volumes.push(pod::authorities(fetch, &config_map, platform));
    }
    let pod = PodSpec {
        containers: vec![container(store, (stack, platform))],
        init_containers: fetch.map(|fetch| vec![fetch]),
        volumes: Some(volumes),
        termination_grace_period_seconds: Some(30),
        ..pod::spec(store.spec.pod.as_ref(), &labels)
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        }),
        spec: Some(pod),
    }
}

/// Claim and folder of a source that is read where it is.
fn in_place(store: &MemoryStore) -> Option<(&str, &str)> {
    let source = store.spec.embedding.source.as_deref()?;
    source.strip_prefix("pvc://")?.split_once('/')
}

fn container(store: &MemoryStore, (stack, platform): (&Stack, &Platform)) -> Container {
    let embedding = &store.spec.embedding;
    let mut args: Vec<String> = ["memory", "serve"].map(str::to_owned).into();
    let pairs = [
        ("--tls", TLS_FOLDER.to_owned()),
        ("--listen", format!("0.0.0.0:{MEMORY_PORT}")),
        ("--listen-health", format!("0.0.0.0:{MEMORY_HEALTH_PORT}")),
        ("--model", embedding.model.clone()),
        ("--dimensions", embedding.dimensions.to_string()),
    ];
    for (flag, value) in pairs {
        args.extend([flag.to_owned(), value]);
    }
    args.extend(upkeep_args(&store.spec));
    let mut env = pod::variables(&platform.environment);
    let mut mounts = vec![
        pod::mount("state", STATE_FOLDER, false),
        pod::mount("tls", TLS_FOLDER, true),
        pod::mount("tmp", "/tmp", false),
    ];
    match &store.spec.store {
        Store::Embedded(_) => args.extend(["--path".into(), format!("{STATE_FOLDER}/memory")]),
        Store::External(external) => {
            args.extend(external_args(external));
            env.extend(external_secrets(external));
            let cas = server_cas(external);
            mounts.extend(cas.map(|(name, folder, _, _)| pod::mount(name, folder, true)));
        }
    }
    match (&embedding.pool, in_place(store)) {
        (Some(pool), _) => {
            args.extend(pool_args(store, stack.pool(pool)));
            env.extend(stack.pool(pool).and_then(pool_key));
            if stack.pool(pool).and_then(external_ca).is_some() {
                mounts.push(pod::mount("embeddings-ca", EMBEDDINGS_CA_FOLDER, true));
                let file = format!("{EMBEDDINGS_CA_FOLDER}/{CA_FILE}");
                args.extend(["--embeddings-ca".into(), file]);
            }
        }
        (None, Some((_, folder))) => {
            args.extend(["--embedder".into(), format!("{SOURCE_FOLDER}/{folder}")]);
            mounts.push(pod::mount("source", SOURCE_FOLDER, true));
        }
        (None, None) => args.extend(["--embedder".into(), EMBEDDER_FOLDER.into()]),
    }
    let resources = store.spec.store.resources();
    Container {
        command: Some(vec!["/weir".into()]),
        args: Some(args),
        env: Some(env),
        ports: Some(vec![
            pod::port("main", MEMORY_PORT),
            pod::port("health", MEMORY_HEALTH_PORT),
        ]),
        startup_probe: Some(pod::probe("/readyz", MEMORY_HEALTH_PORT, 2, 900)),
        readiness_probe: Some(pod::probe("/readyz", MEMORY_HEALTH_PORT, 2, 2)),
        liveness_probe: Some(pod::probe("/healthz", MEMORY_HEALTH_PORT, 10, 6)),
        resources: Some(pod::requirements(
            resources,
            &[("cpu", "500m"), ("memory", "512Mi")],
        )),
        volume_mounts: Some(mounts),
        // Why it ends, such as an embedder of other dimensions, is in its last line.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..pod::container(CONTAINER, &platform.image)
    }
}

/// What is done to the memory by itself.
fn upkeep_args(spec: &MemoryStoreSpec) -> Vec<String> {
    let mut pairs = Vec::new();
    if let Some(graph) = &spec.graph_policy {
        pairs.push(("--degree-max", graph.degree_max.to_string()));
        if graph.min_weight > 0.0 {
            pairs.push(("--min-weight", graph.min_weight.to_string()));
        }
        pairs.extend(graph.max_age.map(|age| ("--max-age", age.to_string())));
    }
    let traces = spec.retention.traces;
    pairs.extend(traces.map(|age| ("--trace-age", age.to_string())));
    if let Some(tune) = &spec.index.tune {
        pairs.push(("--target-recall", tune.target_recall.to_string()));
        pairs.push(("--tune-every-writes", tune.every_writes.to_string()));
    }
    let pairs = pairs.into_iter();
    pairs
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
}

/// Where the two servers of an external store are, and whom they believe.
fn external_args(external: &ExternalStore) -> Vec<String> {
    let (qdrant, neo4j) = (&external.qdrant, &external.neo4j);
    let mut pairs = vec![
        ("--collection", external.collection.clone()),
        ("--qdrant-url", qdrant.url.clone()),
        ("--neo4j-url", neo4j.url.clone()),
    ];
    pairs.extend((neo4j.database.clone()).map(|database| ("--neo4j-database", database)));
    let cas = server_cas(external);
    pairs.extend(cas.map(|(_, folder, flag, _)| (flag, format!("{folder}/{CA_FILE}"))));
    let pairs = pairs.into_iter();
    pairs
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
}

/// The credentials of the two servers, which stand in no argument.
fn external_secrets(external: &ExternalStore) -> Vec<EnvVar> {
    let credentials = &external.neo4j.credentials_secret_ref.name;
    let mut env = vec![
        pod::secret_variable("WEIR_NEO4J_USERNAME", credentials, "username"),
        pod::secret_variable("WEIR_NEO4J_PASSWORD", credentials, "password"),
    ];
    let key = external.qdrant.api_key_secret_ref.as_ref();
    env.extend(key.map(|key| pod::secret_variable("WEIR_QDRANT_API_KEY", &key.name, &key.key)));
    env
}

/// The authorities of the servers that have their own: volume, folder, flag and Secret.
fn server_cas(
    external: &ExternalStore,
) -> impl Iterator<Item = (&'static str, &'static str, &'static str, &CaSecretRef)> {
    let qdrant = external.qdrant.ca_secret_ref.as_ref();
    let qdrant = qdrant.map(|ca| ("qdrant-ca", QDRANT_CA_FOLDER, "--qdrant-ca", ca));
    let neo4j = external.neo4j.ca_secret_ref.as_ref();
    let neo4j = neo4j.map(|ca| ("neo4j-ca", NEO4J_CA_FOLDER, "--neo4j-ca", ca));
    qdrant.into_iter().chain(neo4j)
}

/// Where a pool that embeds is asked, and for which model.
fn pool_args(store: &MemoryStore, pool: Option<&ModelPool>) -> Vec<String> {
    let namespace = store.metadata.namespace.as_deref().unwrap_or_default();
    let Some(pool) = pool else {
        return Vec::new();
    };
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let model = &pool.spec.model.name;
    let (url, model) = match &pool.spec.engine {
        Engine::External(engine) => (
            engine.url.trim_end_matches('/').to_owned(),
            engine.model_name.as_ref().unwrap_or(model),
        ),
        Engine::LlamaCpp(_) | Engine::Vllm(_) => (names::pool_url(name, namespace), model),
    };
    let model = model.clone();
    vec![
        "--embeddings-url".into(),
        url,
        "--embeddings-model".into(),
        model,
    ]
}

/// The certificate authorities of an external pool. As a mounted Secret they may change without a restart.
fn external_ca(pool: &ModelPool) -> Option<&CaSecretRef> {
    match &pool.spec.engine {
        Engine::External(engine) => engine.ca_secret_ref.as_ref(),
        Engine::LlamaCpp(_) | Engine::Vllm(_) => None,
    }
}

/// That one entry and no other, which might be a key.
fn ca_volume(name: &str, ca: &CaSecretRef) -> Volume {
    let mut volume = pod::secret(name, &ca.name, false);
    if let Some(secret) = &mut volume.secret {
        secret.items = Some(vec![KeyToPath {
            key: ca.key.clone(),
            path: CA_FILE.into(),
            mode: None,
        }]);
    }
    volume
}

/// The key of an external pool that embeds.
fn pool_key(pool: &ModelPool) -> Option<EnvVar> {
    let Engine::External(engine) = &pool.spec.engine else {
        return None;
    };
    let key = engine.api_key_secret_ref.as_ref()?;
    Some(pod::secret_variable(
        "WEIR_EMBEDDINGS_API_KEY",
        &key.name,
        &key.key,
    ))
}

/// Brings the embedder's files onto the volume; `None` when there is nothing to bring.
fn fetch(store: &MemoryStore, platform: &Platform) -> Option<Container> {
    let source = store.spec.embedding.source.as_ref()?;
    if in_place(store).is_some() {
        return None;
    }
    let mut args = vec!["model", "fetch", source, "--to", EMBEDDER_FOLDER];
    for file in EMBEDDER_FILES {
        args.extend(["--file", file]);
    }
    let mut env = pod::variables(&platform.environment);
    env.push(pod::variable("HOME", "/tmp"));
    Some(Container {
        command: Some(vec!["/weir".into()]),
        args: Some(args.into_iter().map(str::to_owned).collect()),
        env: Some(env),
        resources: Some(pod::requirements(
            None,
            &[("cpu", "100m"), ("memory", "64Mi")],
        )),
        volume_mounts: Some(vec![
            pod::mount("state", STATE_FOLDER, false),
            pod::mount("tmp", "/tmp", false),
        ]),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..pod::container(FETCH_CONTAINER, &platform.image)
    })
}
