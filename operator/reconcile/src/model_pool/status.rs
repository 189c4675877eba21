//! What people see of a pool, from what was observed of it. Numbers are rounded; the same input gives the same status.

use super::build::template_hash;
use crate::condition::{Seen, Verdict, rounded};
use crate::names::{POOL_LABEL, selector_text};
use crate::pods::{self, Trouble};
use crate::stack::Stack;
use crate::validate::Problem;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_crds::{Engine, ModelPool, ModelPoolStatus, ModelStatus, PerformanceStatus, Time};

/// What was observed of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// Its Deployment, as applied.
    pub deployment: Option<Deployment>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// How far a download is, when one said so.
    pub fetch: Option<FetchProgress>,
    /// A benchmark that ended since the status before.
    pub benchmark: Option<Benchmark>,
    /// Whether an external engine answers.
    pub reach: Reach,
    /// Who else sets the replicas, by [`super::other_scale_manager`].
    pub scale_manager: Option<String>,
    /// What the API server said when it refused an object.
    pub refused: Option<String>,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchProgress {
    /// Bytes on the disk.
    pub downloaded_bytes: u64,
    /// Bytes in all, 0 while unknown.
    pub total_bytes: u64,
    /// Seconds until the end, 0 while unknown.
    pub remaining_seconds: u64,
}

/// Speed of one replica with one request in flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Benchmark {
    /// Prompt tokens a second.
    pub prefill_tokens_per_second: f64,
    /// Completion tokens a second.
    pub decode_tokens_per_second: f64,
    /// When it ended.
    pub measured_at: Timestamp,
}

/// Whether an external engine answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reach {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// It answers when it is asked for its models.
    Reachable,
    /// It answers, and the pool's model is not among those that it lists, of which these are the first.
    NotListed(Vec<String>),
    /// It answers that the key is not right, with this status.
    KeyRefused(u16),
    /// It answers that it fails, with this status.
    Failing(u16),
    /// There is no connection or no answer, and why.
    Unreachable(String),
}

/// The status of a pool.
pub fn status(
    pool: &ModelPool,
    stack: &Stack,
    observed: &Observed,
    (problems, now): (&[Problem], Timestamp),
) -> ModelPoolStatus {
    let before = pool.status.clone().unwrap_or_default();
    let seen = Seen {
        before: &before.conditions,
        generation: pool.metadata.generation,
        now,
    };
    let view = View::of(pool, stack, observed);
    let model_available = view.model_available(&before);
    let endpoints_ready = view.endpoints_ready();
    let scaling = view.scaling();
    let ready = view.ready(problems, (&model_available, &endpoints_ready));
    let mut verdicts = vec![
        ("Ready", ready),
        ("ModelAvailable", model_available),
        ("EndpointsReady", endpoints_ready),
    ];
    verdicts.extend(scaling.map(|verdict| ("Scaling", verdict)));
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let is_external = matches!(pool.spec.engine, Engine::External(_));
    ModelPoolStatus {
        engine: Some(pool.spec.engine.as_str().to_owned()),
        replicas: view.replicas,
        ready_replicas: view.ready,
        desired_replicas: view.desired,
        selector: (!is_external).then(|| selector_text(POOL_LABEL, name)),
        model: view.model(before.model),
        performance: observed
            .benchmark
            .as_ref()
            .map(performance)
            .or(before.performance),
        conditions: seen.conditions(verdicts),
    }
}

fn performance(benchmark: &Benchmark) -> PerformanceStatus {
    PerformanceStatus {
        prefill_tokens_per_second: rounded(benchmark.prefill_tokens_per_second),
        decode_tokens_per_second: rounded(benchmark.decode_tokens_per_second),
        measured_at: Time(benchmark.measured_at),
    }
}

/// A pool with what its pods tell, looked at once.
struct View<'a> {
    pool: &'a ModelPool,
    observed: &'a Observed,
    hash: String,
    pods: Vec<&'a Pod>,
    trouble: Option<Trouble>,
    desired: i32,
    replicas: i32,
    ready: i32,
    /// Whether the Deployment has nothing left to replace.
    is_settled: bool,
}

impl<'a> View<'a> {
    fn of(pool: &'a ModelPool, stack: &Stack, observed: &'a Observed) -> Self {
        let hash = template_hash(pool, stack);
        let pods = pods::staying(&observed.pods, &hash);
        let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let is_external = matches!(pool.spec.engine, Engine::External(_));
        let (desired, replicas, ready) = if is_external {
            let reach = &observed.reach;
            let answers = matches!(reach, Reach::Reachable | Reach::NotListed(_));
            (1, 1, i32::from(answers))
        } else {
            let desired = i32::try_from(pool.spec.replicas).unwrap_or(i32::MAX);
            let ready = pods::endpoints(&observed.pods).len();
            let living = pods.iter().filter(|pod| !pods::is_over(pod)).count();
            (desired, count(living), count(ready))
        };
        let is_settled = is_external || pods::is_settled(observed.deployment.as_ref(), desired);
        Self {
            trouble: pods::trouble(&pods),
            pool,
            observed,
            hash,
            pods,
            desired,
            replicas,
            ready,
            is_settled,
        }
    }

    fn is_external(&self) -> bool {
        matches!(self.pool.spec.engine, Engine::External(_))
    }

    fn is_fetching(&self) -> bool {
        self.pods.iter().any(|pod| pods::is_fetching(pod))
    }

    /// What the model's file says: by the newest pod, else as before.
    fn model(&self, before: Option<ModelStatus>) -> Option<ModelStatus> {
        let facts = pods::facts(&self.pods, &self.hash);
        let mut model = match facts {
            None => before.unwrap_or_default(),
            Some(facts) => ModelStatus {
                architecture: Some(facts.architecture),
                parameters: Some(facts.parameters),
                context_tokens: Some(facts.context_tokens),
                quantization: Some(facts.quantization),
                digest: Some(format!("sha256:{}", facts.sha256)),
                bytes: Some(facts.bytes),
                ..ModelStatus::default()
            },
        };
        let progress = self.observed.fetch.filter(|_| self.is_fetching());
        model.downloaded_bytes = progress.map(|progress| progress.downloaded_bytes >> 20 << 20);
        let remaining = progress.map(|progress| progress.remaining_seconds);
        model.remaining_seconds = remaining.filter(|seconds| *seconds > 0);
        (model != ModelStatus::default()).then_some(model)
    }

    fn model_available(&self, before: &ModelPoolStatus) -> Verdict {
        if self.is_external() {
            return Verdict::yes("External", "the engine brings its own model");
        }
        if pods::facts(&self.pods, &self.hash).is_some() {
            return Verdict::yes("Fetched", "the model's file is there and checked");
        }
        if let Some(trouble) = self.trouble.as_ref().filter(|trouble| trouble.in_fetch) {
            return Verdict::no(trouble.reason, trouble.message.clone());
        }
        if self.is_fetching() {
            return Verdict::no("Downloading", self.progress());
        }
        if self.ready > 0 {
            return Verdict::yes("Loaded", "an engine has loaded the model");
        }
        let known = before
            .model
            .as_ref()
            .is_some_and(|model| model.digest.is_some());
        if known {
            return Verdict::yes("Fetched", "the model's file was there and checked");
        }
        Verdict::unknown("NotFetched", "no replica has fetched the model yet")
    }

    fn progress(&self) -> String {
        let mebibytes = |bytes: u64| bytes >> 20;
        match self.observed.fetch {
            Some(fetch) if fetch.total_bytes > 0 => format!(
                "{} of {} MiB of the model are here",
                mebibytes(fetch.downloaded_bytes),
                mebibytes(fetch.total_bytes)
            ),
            _ => "the model is being downloaded".into(),
        }
    }

    fn endpoints_ready(&self) -> Verdict {
        if self.is_external() {
            return self.reached();
        }
        let (ready, desired) = (self.ready, self.desired);
        if let Some(refusal) = self.refusal() {
            return Verdict::no("PodsRefused", refusal);
        }
        if desired == 0 {
            return Verdict::yes("ScaledToZero", "no replica is wanted");
        }
        if ready >= desired {
            let text = format!("{desired} of {desired} replicas can generate");
            return Verdict::yes("Serving", text);
        }
        let text = format!("{ready} of {desired} replicas can generate");
        match &self.trouble {
            Some(trouble) => Verdict::no(trouble.reason, format!("{text}: {}", trouble.message)),
            None => Verdict::no("Loading", text),
        }
    }

    /// What came of asking an external engine for its models.
    fn reached(&self) -> Verdict {
        match &self.observed.reach {
            Reach::Unknown => Verdict::unknown("NotTried", "the server was not asked yet"),
            Reach::Reachable => Verdict::yes("Reachable", "the server answers"),
            Reach::NotListed(others) => Verdict::yes(
                "ModelNotListed",
                format!(
                    "the server answers, and lists {} and not the model of this pool: should requests fail, write the \
                     server's name of it into engine.external.modelName",
                    others.join(", ")
                ),
            ),
            Reach::KeyRefused(status) => Verdict::no(
                "KeyRefused",
                format!(
                    "the server answers {status}: write a key that it takes into the Secret of \
                     engine.external.apiKeySecretRef"
                ),
            ),
            Reach::Failing(status) => Verdict::no(
                "ServerFails",
                format!(
                    "the server answers {status} when it is asked for its models: look at its log"
                ),
            ),
            Reach::Unreachable(why) => Verdict::no(
                "Unreachable",
                format!(
                    "the server cannot be reached: {why}: check engine.external.url, and caSecretRef where it is https"
                ),
            ),
        }
    }

    /// Whether replicas follow the requests; `None` for a pool that does not ask for it.
    fn scaling(&self) -> Option<Verdict> {
        let scaling = self.pool.spec.autoscaling.as_ref()?;
        let Some(other) = &self.observed.scale_manager else {
            let text = format!(
                "between {} and {} replicas by the requests in flight",
                scaling.min, scaling.max
            );
            return Some(Verdict::yes("Active", text));
        };
        let name = self.pool.metadata.name.as_deref().unwrap_or_default();
        let text = format!(
            "{other} sets spec.replicas too, so Weir does not: remove spec.autoscaling, or remove the other autoscaler and \
             take replicas back with `kubectl patch mp {name} --subresource=scale --field-manager={} --type=merge -p \
             '{{\"spec\":{{\"replicas\":N}}}}'`, where N is another number than now",
            crate::names::FIELD_MANAGER
        );
        Some(Verdict::no("Conflict", text))
    }

    fn ready(&self, problems: &[Problem], (model, endpoints): (&Verdict, &Verdict)) -> Verdict {
        if let Some(problem) = problems.first() {
            return Verdict::of_problems(problem, problems);
        }
        if let Some(why) = &self.observed.refused {
            return Verdict::no("Refused", why.clone());
        }
        if self.is_external() {
            return match endpoints.is_true() {
                true => Verdict::yes("External", endpoints.message.clone()),
                false => endpoints.clone(),
            };
        }
        if endpoints.reason == "PodsRefused" {
            return endpoints.clone();
        }
        if self.desired == 0 {
            let text = match &self.pool.spec.autoscaling {
                Some(_) => "no replica is needed now; a request brings one up",
                None => "spec.replicas is 0",
            };
            return Verdict::yes("ScaledToZero", text);
        }
        if self.ready < self.desired || (!self.is_settled && self.trouble.is_some()) {
            let is_waiting = self.trouble.is_none() && model.reason == "Downloading";
            let cause = if is_waiting { model } else { endpoints };
            return match (&self.trouble, cause.is_true()) {
                (Some(trouble), true) => Verdict::no(
                    trouble.reason,
                    format!("the update does not progress: {}", trouble.message),
                ),
                _ => Verdict::no(&cause.reason, cause.message.clone()),
            };
        }
        if !self.is_settled {
            return Verdict::no(
                "Updating",
                "replicas of the pool as it was are being replaced",
            );
        }
        Verdict::yes("Serving", endpoints.message.clone())
    }

    /// What the API server said when a pod was to be made, such as that hostPath is not permitted here.
    fn refusal(&self) -> Option<String> {
        let status = self.observed.deployment.as_ref()?.status.as_ref()?;
        let mut conditions = status.conditions.iter().flatten();
        let failure = conditions.find(|c| c.type_ == "ReplicaFailure" && c.status == "True")?;
        let why = failure.message.as_deref().unwrap_or_default();
        let hint = match why.contains("PodSecurity") && why.contains("hostPath") {
            true => ": use cache.pvc or cache.ephemeral, or a namespace that permits hostPath",
            false => "",
        };
        Some(format!("pods cannot be made: {why}{hint}"))
    }
}
