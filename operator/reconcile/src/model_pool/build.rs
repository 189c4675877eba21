//! The objects of a pool: Deployment, Service, disruption budget, network policy. None for an external pool.
//!
//! A pod template is built once for what the pool says and then kept, word for word, in an annotation of its Deployment:
//! another operator version, with another image or another way of building, restarts no engine until the pool changes.

use crate::engine_args::{EngineArgs, llama_cpp_args};
use crate::names::{self, ENGINE_CONTAINER, ENGINE_PORT, FETCH_CONTAINER, POOL_LABEL};
use crate::object::{self, Object, Owner};
use crate::platform::Platform;
use crate::pod;
use crate::stack::Stack;
use crate::{model_pool, network};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, PodSpec, PodTemplateSpec, Probe, SecretEnvSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use weir_crds::{Cache, Duration, Engine, LlamaCpp, ModelPool, ModelPoolSpec, Vllm};

/// Annotation with the hash of what a pod template was built from.
pub const TEMPLATE_HASH_ANNOTATION: &str = "weir.dev/template-hash";
/// Annotation of a Deployment with the pod template as it was built.
pub const TEMPLATE_ANNOTATION: &str = "weir.dev/pod-template";

/// Where downloads lie.
const CACHE_FOLDER: &str = "/var/lib/weir/models";
/// Where the claim of a `pvc://` source is mounted.
const SOURCE_FOLDER: &str = "/var/lib/weir/source";
/// How long an engine may take to load: an hour, in steps of two seconds.
const LOAD_PROBES: i32 = 1800;
/// How long a new pod may take, download and load together, before the Deployment says that it does not progress.
const PROGRESS_SECONDS: i32 = 2 * 3600;

/// Drain of a pool that says none: the longest default request takes 60 s.
const DRAIN_SECONDS: i64 = 65;
/// How long an engine may take to stop once it has drained.
const STOP_SECONDS: i64 = 15;

/// The objects of a pool. `existing` is its Deployment, whose pod template is kept while the pool says the same.
pub fn build(
    pool: &ModelPool,
    stack: &Stack,
    platform: &Platform,
    existing: Option<&Deployment>,
) -> Vec<Object> {
    if matches!(pool.spec.engine, Engine::External(_)) {
        return Vec::new();
    }
    let owner = Owner {
        kind: "ModelPool",
        label: POOL_LABEL,
        metadata: &pool.metadata,
    };
    let name = names::pool(owner.name());
    let namespace = &platform.operator_namespace;
    // vLLM downloads for itself, and tells nobody how far that is.
    let reports = matches!(pool.spec.engine, Engine::LlamaCpp(_));
    let mut objects: Vec<Object> = object::authorities(&owner, &name, (platform, reports))
        .into_iter()
        .collect();
    objects.extend([
        network::service(&owner, name.clone(), (ENGINE_PORT, None), "ClusterIP"),
        network::policy_for_weir(&owner, name.clone(), (ENGINE_PORT, None), namespace),
        network::budget(&owner, name),
        deployment(pool, stack, platform, existing),
    ]);
    objects
}

/// Hash of everything of a pool that its pods depend on.
///
/// A field that is added to the API later must be skipped here while it has its default, or every pool restarts.
pub fn template_hash(pool: &ModelPool, stack: &Stack) -> String {
    let spec = &pool.spec;
    let mut basis = json!({
        "name": spec.model.name,
        "source": spec.model.source,
        "sha256": spec.model.sha256,
        "credentials": spec.model.credentials_secret_ref,
        "engine": spec.engine,
        "resources": spec.resources,
        "pod": spec.pod,
        "cache": spec.cache,
        "embeds": model_pool::embeds(pool, stack),
    });
    if let Some(drain) = spec.drain {
        basis["drain"] = json!(drain);
    }
    // A map of serde_json is sorted or not by a feature of some other crate; this text is sorted in any case.
    let text = weir_crds::yaml::to_string(&basis);
    let digest = hex::encode(Sha256::digest(text.as_bytes()));
    digest[..16].to_owned()
}

fn deployment(
    pool: &ModelPool,
    stack: &Stack,
    platform: &Platform,
    existing: Option<&Deployment>,
) -> Object {
    let owner = Owner {
        kind: "ModelPool",
        label: POOL_LABEL,
        metadata: &pool.metadata,
    };
    let hash = template_hash(pool, stack);
    let template =
        kept_template(existing, &hash).unwrap_or_else(|| template(pool, stack, platform, &hash));
    let text = serde_json::to_string(&template).expect("types of Kubernetes are plain data");
    let update = &pool.spec.update;
    let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let mut metadata = owner.owned(names::pool(owner.name()));
    metadata.annotations = Some(BTreeMap::from([
        (TEMPLATE_HASH_ANNOTATION.into(), hash),
        (TEMPLATE_ANNOTATION.into(), text),
    ]));
    Object::Deployment(Box::new(Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(number(pool.spec.replicas)),
            progress_deadline_seconds: Some(PROGRESS_SECONDS),
            revision_history_limit: Some(2),
            selector: LabelSelector {
                match_labels: Some(names::selector(POOL_LABEL, owner.name())),
                ..LabelSelector::default()
            },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(number(update.max_surge))),
                    max_unavailable: Some(IntOrString::Int(number(update.max_unavailable))),
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    }))
}

/// The template that an operator built for a pool that said the same.
fn kept_template(existing: Option<&Deployment>, hash: &str) -> Option<PodTemplateSpec> {
    let annotations = existing?.metadata.annotations.as_ref()?;
    if annotations.get(TEMPLATE_HASH_ANNOTATION)? != hash {
        return None;
    }
    serde_json::from_str(annotations.get(TEMPLATE_ANNOTATION)?).ok()
}

fn template(pool: &ModelPool, stack: &Stack, platform: &Platform, hash: &str) -> PodTemplateSpec {
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let labels = names::selector(POOL_LABEL, name);
    let spec = &pool.spec;
    let mut pod = pod::spec(spec.pod.as_ref(), &labels);
    pod.termination_grace_period_seconds = Some(drain_seconds(spec) + STOP_SECONDS);
    match &spec.engine {
        Engine::LlamaCpp(engine) => llama_cpp(&mut pod, pool, stack, (engine, platform)),
        Engine::Vllm(engine) => vllm(&mut pod, spec, (engine, platform)),
        Engine::External(_) => {}
    }
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(BTreeMap::from([(
                TEMPLATE_HASH_ANNOTATION.to_owned(),
                hash.to_owned(),
            )])),
            ..ObjectMeta::default()
        }),
        spec: Some(pod),
    }
}

/// Threads of llama.cpp: what the pool says, else the whole processors that it requests or is limited to, else one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits"
)]
fn threads(engine: &LlamaCpp, spec: &ModelPoolSpec) -> u32 {
    let resources = spec.resources.as_ref();
    let cpu = resources.and_then(|all| all.requests.get("cpu").or_else(|| all.limits.get("cpu")));
    let cores = cpu.and_then(weir_crds::Quantity::amount).unwrap_or(1.0);
    engine
        .threads
        .unwrap_or_else(|| cores.floor().clamp(1.0, 512.0) as u32)
}

fn llama_cpp(
    pod: &mut PodSpec,
    pool: &ModelPool,
    stack: &Stack,
    (engine, platform): (&LlamaCpp, &Platform),
) {
    let spec = &pool.spec;
    let place = Place::of(spec);
    let threads = threads(engine, spec);
    let mut args = vec!["-m".to_owned(), place.file.clone()];
    args.extend(llama_cpp_args(&EngineArgs {
        model: &spec.model.name,
        host: "0.0.0.0",
        port: ENGINE_PORT,
        threads,
        embeds: model_pool::embeds(pool, stack),
        context_tokens: engine.context_tokens,
        slots: engine.slots,
        extra_args: &engine.extra_args,
    }));
    let image = engine.image.as_ref().unwrap_or(&platform.llama_cpp_image);
    let cpu = threads.to_string();
    let container = pod::container(ENGINE_CONTAINER, image);
    let mut container = served(container, LOAD_PROBES, drain_seconds(spec));
    container.liveness_probe = Some(llama_cpp_generates());
    container.args = Some(args);
    container.resources = Some(pod::requirements(
        spec.resources.as_ref(),
        &[("cpu", &cpu), ("memory", "512Mi")],
    ));
    container.volume_mounts = Some(vec![place.mount(true), pod::mount("tmp", "/tmp", false)]);
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let config_map = names::authorities(&names::pool(name));
    let mut fetch = fetch((name, spec), &place, platform);
    let authorities = pod::authorities(&mut fetch, &config_map, platform);
    pod.init_containers = Some(vec![fetch]);
    pod.containers = vec![container];
    pod.volumes = Some(vec![place.volume, pod::scratch("tmp", false), authorities]);
}

/// How long a pod that is going away still answers: what is in flight ends, and those who know its address forget it.
pub(crate) fn drain_seconds(spec: &ModelPoolSpec) -> i64 {
    let seconds = |drain: Duration| i64::try_from(drain.milliseconds().div_ceil(1000));
    let asked = spec.drain.map(|drain| seconds(drain).unwrap_or(i64::MAX));
    asked.unwrap_or(DRAIN_SECONDS)
}

/// Whether llama.cpp's loop still turns. `/health` is answered beside it even when it hangs; `/metrics` is answered by it, between two
/// batches, so a slow processor may take its time: the engine begins anew when nothing came for five minutes.
fn llama_cpp_generates() -> Probe {
    Probe {
        timeout_seconds: Some(60),
        ..pod::probe("/metrics", ENGINE_PORT, 30, 5)
    }
}

/// Port, probes and drain of a container that serves a model at `/health` and is loaded when that says so.
fn served(container: Container, load_probes: i32, drain_seconds: i64) -> Container {
    Container {
        ports: Some(vec![pod::port("main", ENGINE_PORT)]),
        startup_probe: Some(pod::probe("/health", ENGINE_PORT, 2, load_probes)),
        readiness_probe: Some(pod::probe("/health", ENGINE_PORT, 2, 2)),
        liveness_probe: Some(pod::probe("/health", ENGINE_PORT, 10, 6)),
        lifecycle: Some(pod::sleep_before_stop(drain_seconds)),
        ..container
    }
}

/// Where a model lies in the pod, and the volume it lies on.
struct Place {
    /// What the fetching container is told.
    source: String,
    /// The file or folder.
    file: String,
    folder: &'static str,
    volume: Volume,
    /// Whether the source is read where it is.
    in_place: bool,
}

impl Place {
    fn of(spec: &ModelPoolSpec) -> Self {
        let source = spec.model.source.clone().unwrap_or_default();
        if let Some((claim, path)) = source
            .strip_prefix("pvc://")
            .and_then(|rest| rest.split_once('/'))
        {
            let file = format!("{SOURCE_FOLDER}/{path}");
            return Self {
                source: format!("file://{file}"),
                file,
                folder: SOURCE_FOLDER,
                volume: pod::claim("model", claim, true),
                in_place: true,
            };
        }
        // Pools may share a volume: the folder is named after the source, so that two never write one file.
        let digest = hex::encode(Sha256::digest(source.as_bytes()));
        let last = source.trim_end_matches('/').rsplit('/').next();
        let last = last.unwrap_or_default().split(['?', '#']).next();
        let base = last.unwrap_or_default();
        let volume = match &spec.cache {
            Cache::Ephemeral {} => pod::scratch("model", false),
            Cache::Pvc(claim) => pod::claim("model", &claim.name, false),
            Cache::HostPath(folder) => pod::host_path("model", &folder.path),
        };
        Self {
            file: format!("{CACHE_FOLDER}/{}/{base}", &digest[..12]),
            source,
            folder: CACHE_FOLDER,
            volume,
            in_place: false,
        }
    }

    fn mount(&self, read_only: bool) -> VolumeMount {
        pod::mount("model", self.folder, read_only || self.in_place)
    }
}

/// Brings the model's file into the pod, tells the operator how far that is, checks the file and says what it is, as JSON
/// in its termination message.
fn fetch((name, spec): (&str, &ModelPoolSpec), place: &Place, platform: &Platform) -> Container {
    let mut args: Vec<String> = vec!["model".into(), "fetch".into(), place.source.clone()];
    if !place.in_place {
        args.extend(["--to".into(), place.file.clone()]);
    }
    if let Some(sha256) = &spec.model.sha256 {
        args.extend(["--sha256".into(), sha256.clone()]);
    }
    args.extend(["--facts".into(), "/dev/termination-log".into()]);
    args.extend(["--pool".into(), name.to_owned()]);
    args.extend(["--report-to".into(), platform.operator_address.clone()]);
    let operator_ca = format!("{}/{}", names::CA_FOLDER, names::OPERATOR_CA_KEY);
    args.extend(["--report-ca".into(), operator_ca]);
    let mut env = pod::variables(&platform.environment);
    env.push(pod::own("POD_NAME", "metadata.name"));
    env.push(pod::own("POD_NAMESPACE", "metadata.namespace"));
    // Where checksums of a file that is read in place are remembered.
    env.push(pod::variable("HOME", "/tmp"));
    let credentials = spec.model.credentials_secret_ref.as_ref();
    Container {
        command: Some(vec!["/weir".into()]),
        args: Some(args),
        env: Some(env),
        env_from: credentials.map(|secret| {
            vec![EnvFromSource {
                secret_ref: Some(SecretEnvSource {
                    name: secret.name.clone(),
                    optional: None,
                }),
                ..EnvFromSource::default()
            }]
        }),
        resources: Some(pod::requirements(
            None,
            &[("cpu", "100m"), ("memory", "64Mi")],
        )),
        volume_mounts: Some(vec![place.mount(false), pod::mount("tmp", "/tmp", false)]),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..pod::container(FETCH_CONTAINER, &platform.image)
    }
}

/// vLLM downloads for itself, which is what it resumes, shards and caches best.
fn vllm(pod: &mut PodSpec, spec: &ModelPoolSpec, (engine, platform): (&Vllm, &Platform)) {
    let place = Place::of(spec);
    let (model, revision) = repository(&place);
    let mut args = vec!["serve".to_owned(), model];
    let pairs = [
        ("--served-model-name", spec.model.name.clone()),
        ("--host", "0.0.0.0".to_owned()),
        ("--port", ENGINE_PORT.to_string()),
        ("--max-model-len", engine.max_model_len.to_string()),
        ("--max-num-seqs", engine.max_num_seqs.to_string()),
        ("--dtype", engine.dtype.as_str().to_owned()),
    ];
    for (flag, value) in pairs {
        args.extend([flag.to_owned(), value]);
    }
    if let Some(revision) = revision {
        args.extend(["--revision".to_owned(), revision]);
    }
    args.extend(engine.extra_args.iter().cloned());
    let mut env = pod::variables(&platform.environment);
    // The image's user has no home that it may write, and no name.
    let own = [
        ("HOME", "/tmp"),
        ("USER", "weir"),
        ("VLLM_CACHE_ROOT", "/tmp/vllm"),
    ];
    env.extend(own.map(|(name, value)| pod::variable(name, value)));
    if !place.in_place {
        env.push(pod::variable("HF_HOME", CACHE_FOLDER));
    }
    if let Some(secret) = &spec.model.credentials_secret_ref {
        env.push(pod::secret_variable("HF_TOKEN", &secret.name, "HF_TOKEN"));
    }
    let image = engine.image.as_ref().unwrap_or(&platform.vllm_image);
    let container = pod::container(ENGINE_CONTAINER, image);
    let mut container = served(container, LOAD_PROBES * 2, drain_seconds(spec));
    container.command = Some(vec!["vllm".into()]);
    container.args = Some(args);
    container.env = Some(env);
    container.resources = Some(pod::requirements(
        spec.resources.as_ref(),
        &[("cpu", "1"), ("memory", "2Gi")],
    ));
    container.volume_mounts = Some(vec![
        place.mount(false),
        pod::mount("tmp", "/tmp", false),
        pod::mount("shm", "/dev/shm", false),
    ]);
    pod.containers = vec![container];
    // Workers of one engine share memory through /dev/shm, of which a container has 64 MiB by default.
    pod.volumes = Some(vec![
        place.volume,
        pod::scratch("tmp", false),
        pod::scratch("shm", true),
    ]);
}

/// What vLLM calls a model: `OWNER/REPO` and its revision, or a folder.
fn repository(place: &Place) -> (String, Option<String>) {
    let Some(repository) = place.source.strip_prefix("hf://") else {
        return (place.file.clone(), None);
    };
    match repository.split_once('@') {
        Some((name, revision)) => (name.to_owned(), Some(revision.to_owned())),
        None => (repository.to_owned(), None),
    }
}
