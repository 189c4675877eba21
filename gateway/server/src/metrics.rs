//! What a gateway counts, in Prometheus' words, and never a prompt, a tenant or an address.
//!
//! Labels are bounded: routes, statuses, models of the plan, recall modes and error kinds. Each gateway has a recorder
//! of its own, so that two in one process do not mix. Reading on: `http/health.rs`, which renders it.

mod help;

use crate::answer::Decided;
use crate::answer_cache::AnswerCounts;
use crate::evidence::Role;
use crate::familiarity::Counts;
use crate::gateway::Serving;
use crate::http::recall_name;
use crate::jwt::{self, TokenError};
use crate::lifecycle::Standing;
use crate::quota::Kind;
use crate::record::LatencyRow;
use crate::write_back::Outcome;
use help::{STEP, describe};
use http::StatusCode;
use metrics::{Counter, Histogram, Label, with_local_recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use weir_engine::Usage;
use weir_memory_live::Presence;
use weir_plan::GatewayPlan;
use weir_router::drift::{Drift, Of};
use weir_router::gate::evidence::RolloutEvidence;

/// Seconds; from a cached answer to a long one on a slow CPU.
const SECONDS: [f64; 12] = [
    0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// The same for a step of a request, the shortest of which are decisions.
const STEP_SECONDS: [f64; 13] = [
    0.000_02, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0,
];

/// Counters and histograms of one gateway.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// By route; what every request counts is looked up once.
    routes: Known<OfRoute>,
    /// By model.
    models: Known<OfModel>,
}

/// Metrics by the value of a label that has few.
type Known<T> = RwLock<HashMap<String, Arc<T>>>;

/// Metrics of one route.
struct OfRoute {
    head: Histogram,
    by_status: RwLock<Vec<(StatusCode, Counter)>>,
}

/// How long the steps of requests take. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Steps(Arc<[(Step, Histogram)]>);

/// A step of a request and what its row says of it, milliseconds.
type Step = fn(&LatencyRow) -> f64;

/// Steps by their names. A step that a request did not take is not counted.
const STEPS: [(&str, Step); 7] = [
    ("queue", |row| row.queue),
    ("embed", |row| row.embed),
    ("retrieval", |row| row.retrieval),
    ("attention", |row| row.attention),
    ("router", |row| row.router),
    ("prompt", |row| row.prompt),
    ("llm", |row| row.llm),
];

/// Metrics of one model.
struct OfModel {
    pinned: Counter,
    prompt: Counter,
    cached: Counter,
    completion: Counter,
}

/// What is read at the moment of a scrape.
pub(crate) struct Gauges<'a> {
    pub(crate) in_flight: usize,
    pub(crate) queued: u32,
    pub(crate) rows_lost: u64,
    pub(crate) serving: &'a Serving,
    pub(crate) standing: Standing,
    /// Totals over all rollouts.
    pub(crate) rollouts: RolloutEvidence,
    /// What became of summaries.
    pub(crate) summaries: [(Outcome, u64); Outcome::ALL.len()],
    /// Labelled disagreements of all rollouts.
    pub(crate) labelled: u64,
    /// What was compared with training, and what the certificate changed.
    pub(crate) familiarity: Counts,
    /// How the last requests differ from those of training.
    pub(crate) drift: Option<Drift>,
    /// How the cache of answers does.
    pub(crate) answers: AnswerCounts,
    /// Batches of traces that no collector took.
    pub(crate) traces_refused: u64,
    /// The keys of the plan's issuer.
    pub(crate) issuer: Option<jwt::Counts>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let suffix = Matcher::Suffix("_seconds".to_owned());
        let step = Matcher::Full(STEP.to_owned());
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(suffix, &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(step, &STEP_SECONDS));
        let recorder = builder
            .expect("no list of buckets is empty")
            .build_recorder();
        let handle = recorder.handle();
        with_local_recorder(&recorder, describe);
        Self {
            recorder,
            handle,
            routes: RwLock::default(),
            models: RwLock::default(),
        }
    }

    /// What takes the times of requests that have ended.
    pub(crate) fn steps(&self) -> Steps {
        let made = STEPS.map(|(name, step)| {
            let labels = vec![Label::new("step", name)];
            (step, self.histogram(STEP, labels))
        });
        Steps(made.into())
    }

    /// A request got the head of its answer.
    pub(crate) fn responded(&self, route: &str, status: StatusCode, took: Duration) {
        let of = known(&self.routes, route, || {
            let labels = vec![Label::new("route", route.to_owned())];
            OfRoute {
                head: self.histogram("weir_response_head_seconds", labels),
                by_status: RwLock::default(),
            }
        });
        of.head.record(took);
        let counted = of.by_status.read().unwrap_or_else(PoisonError::into_inner);
        let same = counted.iter().find(|(known, _)| *known == status);
        if let Some((_, counter)) = same {
            counter.increment(1);
            return;
        }
        drop(counted);
        let labels = vec![
            Label::new("route", route.to_owned()),
            Label::new("status", status.as_str().to_owned()),
        ];
        let counter = self.counter("weir_requests_total", labels);
        counter.increment(1);
        let mut counted = of.by_status.write().unwrap_or_else(PoisonError::into_inner);
        counted.push((status, counter));
    }

    /// A routed answer ended well.
    pub(crate) fn answered(&self, decision: &Decided, plan: &GatewayPlan, usage: Usage) {
        let pool = plan.pool_for_model(&decision.model);
        let tier = pool.map_or("", |(_, pool)| pool.tier.as_str());
        let labels = vec![
            Label::new("model", decision.model.clone()),
            Label::new("tier", tier),
            Label::new("recall", recall_name(decision)),
            Label::new(
                "escalated",
                if decision.escalated { "true" } else { "false" },
            ),
        ];
        with_local_recorder(&self.recorder, || {
            metrics::counter!("weir_answers_total", labels).increment(1);
        });
        // What was kept is spent once.
        if decision.cached != Some(true) {
            self.model(&decision.model).tokens(usage);
        }
    }

    /// A pinned answer ended well.
    pub(crate) fn pinned(&self, model: &str, usage: Usage) {
        let of = self.model(model);
        of.pinned.increment(1);
        of.tokens(usage);
    }

    /// An answer failed, for one of the fixed reasons.
    pub(crate) fn failed(&self, kind: &'static str) {
        with_local_recorder(&self.recorder, || {
            metrics::counter!("weir_failures_total", "kind" => kind).increment(1);
        });
    }

    /// A request was refused because its tenant has used up a budget.
    pub(crate) fn over_budget(&self, kind: Kind) {
        with_local_recorder(&self.recorder, || {
            metrics::counter!("weir_over_budget_total", "kind" => kind.as_str()).increment(1);
        });
    }

    /// A token opened nothing.
    pub(crate) fn token_refused(&self, error: TokenError) {
        with_local_recorder(&self.recorder, || {
            metrics::counter!("weir_jwt_refused_total", "reason" => error.as_str()).increment(1);
        });
    }

    fn model(&self, model: &str) -> Arc<OfModel> {
        known(&self.models, model, || {
            let label = || Label::new("model", model.to_owned());
            let tokens = |kind| {
                let labels = vec![label(), Label::new("kind", kind)];
                self.counter("weir_tokens_total", labels)
            };
            OfModel {
                pinned: self.counter("weir_pinned_answers_total", vec![label()]),
                prompt: tokens("prompt"),
                cached: tokens("cached"),
                completion: tokens("completion"),
            }
        })
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        with_local_recorder(&self.recorder, || metrics::counter!(name, labels))
    }

    fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        with_local_recorder(&self.recorder, || metrics::histogram!(name, labels))
    }

    /// Folds what was recorded since, so that memory stays bounded when nobody scrapes.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The text of a scrape.
    pub(crate) fn render(&self, gauges: &Gauges<'_>) -> String {
        with_local_recorder(&self.recorder, || gauges.set());
        self.handle.render()
    }
}

impl Steps {
    /// A request has ended.
    pub(crate) fn record(&self, row: &LatencyRow) {
        for (step, histogram) in self.0.iter() {
            let milliseconds = step(row);
            if milliseconds > 0.0 {
                histogram.record(milliseconds / 1e3);
            }
        }
    }
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steps").finish_non_exhaustive()
    }
}

impl OfModel {
    fn tokens(&self, usage: Usage) {
        for (counter, tokens) in [
            (&self.prompt, usage.prompt_tokens),
            (&self.cached, usage.cached_tokens),
            (&self.completion, usage.completion_tokens),
        ] {
            counter.increment(u64::from(tokens));
        }
    }
}

/// What is known by a name, made where it is not yet known.
fn known<T>(all: &Known<T>, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
    let found = all.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = found.get(name) {
        return Arc::clone(found);
    }
    drop(found);
    let made = Arc::new(make());
    let mut all = all.write().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(all.entry(name.to_owned()).or_insert(made))
}

impl Gauges<'_> {
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    fn set(&self) {
        metrics::gauge!("weir_in_flight").set(self.in_flight as f64);
        metrics::gauge!("weir_queued").set(f64::from(self.queued));
        metrics::counter!("weir_log_rows_lost_total").absolute(self.rows_lost);
        metrics::gauge!("weir_plan_age_seconds").set(self.serving.since.elapsed().as_secs_f64());
        let flag = |is: bool| f64::from(u8::from(is));
        metrics::gauge!("weir_plan_stale").set(flag(self.standing.is_stale()));
        metrics::gauge!("weir_router_missing").set(flag(self.standing.router_missing.is_some()));
        for (reason, count) in &self.standing.refusals {
            metrics::counter!("weir_plans_refused_total", "reason" => *reason).absolute(*count);
        }
        for load in self.serving.engines.loads() {
            let label = || vec![Label::new("pool", load.pool.clone())];
            metrics::gauge!("weir_pool_in_flight", label()).set(f64::from(load.in_flight));
            metrics::gauge!("weir_pool_waiting", label()).set(f64::from(load.waiting));
            metrics::counter!("weir_pool_requests_total", label()).absolute(load.requests);
            metrics::counter!("weir_pool_errors_total", label()).absolute(load.errors);
            metrics::counter!("weir_pool_wanted_total", label()).absolute(load.wanted);
            metrics::counter!("weir_pool_hedged_total", label()).absolute(load.hedged);
        }
        for pool in self.serving.plan.served() {
            let label = || vec![Label::new("pool", pool.name.clone())];
            metrics::gauge!("weir_pool_replicas", label()).set(pool.endpoints.len() as f64);
            let available = f64::from(u8::from(self.serving.engines.available(pool)));
            metrics::gauge!("weir_pool_available", label()).set(available);
        }
        self.set_rollout();
        self.set_familiarity();
        metrics::counter!("weir_traces_refused_total").absolute(self.traces_refused);
        self.set_issuer();
        metrics::counter!("weir_answer_cache_hits_total").absolute(self.answers.hits);
        metrics::counter!("weir_answer_cache_near_hits_total").absolute(self.answers.near_hits);
        metrics::counter!("weir_answer_cache_misses_total").absolute(self.answers.misses);
        metrics::gauge!("weir_answer_cache_entries").set(self.answers.entries as f64);
        for (outcome, count) in self.summaries {
            metrics::counter!("weir_summaries_total", "outcome" => outcome.as_str())
                .absolute(count);
        }
        if let Some(memory) = &self.serving.memory {
            let presence = memory.presence();
            let away = matches!(presence, Presence::Away(_));
            metrics::gauge!("weir_memory_away").set(f64::from(u8::from(away)));
            if let Presence::Here(counts) = presence {
                metrics::gauge!("weir_memory_nodes").set(counts.nodes as f64);
                metrics::gauge!("weir_memory_edges").set(counts.edges as f64);
                metrics::gauge!("weir_memory_vectors_pending").set(counts.pending as f64);
            }
            if let Some(cache) = memory.cache_counts() {
                metrics::counter!("weir_memory_recall_cache_hits_total").absolute(cache.hits);
                metrics::counter!("weir_memory_recall_cache_misses_total").absolute(cache.misses);
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a document has few keys")]
    fn set_issuer(&self) {
        let Some(issuer) = self.issuer else {
            return;
        };
        metrics::gauge!("weir_jwks_keys").set(issuer.keys as f64);
        if let Some(age) = issuer.age {
            metrics::gauge!("weir_jwks_age_seconds").set(age.as_secs_f64());
        }
        for (outcome, count) in [("ok", issuer.refreshed), ("failed", issuer.failed)] {
            metrics::counter!("weir_jwks_fetches_total", "outcome" => outcome).absolute(count);
        }
    }

    fn set_familiarity(&self) {
        let of = self.familiarity;
        metrics::counter!("weir_router_compared_total").absolute(of.compared);
        metrics::counter!("weir_router_unusual_total").absolute(of.unusual);
        metrics::counter!("weir_router_held_back_total").absolute(of.held_back);
        for of in Of::ALL {
            let drift = self.drift.iter().flat_map(|drift| &drift.findings);
            let found = drift.filter(|finding| finding.of == of).count();
            let label = vec![Label::new("of", of.as_str())];
            metrics::gauge!("weir_router_drift", label).set(f64::from(u8::from(found > 0)));
        }
    }

    fn set_rollout(&self) {
        let planned = self.serving.plan.candidate.as_ref();
        let loaded = self.serving.candidate.is_some();
        let weight = planned.map_or(0, |candidate| candidate.phase.weight());
        let flag = |set: bool| f64::from(u8::from(set));
        metrics::gauge!("weir_rollout_weight").set(f64::from(weight));
        metrics::gauge!("weir_rollout_candidate_missing").set(flag(planned.is_some() && !loaded));
        let of = &self.rollouts;
        for (role, version) in [(Role::Active, &of.active), (Role::Candidate, &of.candidate)] {
            let label = || vec![Label::new("version", role.as_str())];
            metrics::counter!("weir_rollout_requests_total", label()).absolute(version.requests);
            metrics::counter!("weir_rollout_errors_total", label()).absolute(version.errors);
        }
        metrics::counter!("weir_rollout_shadowed_total").absolute(of.shadowed);
        metrics::counter!("weir_rollout_disagreements_total").absolute(of.disagreements);
        metrics::counter!("weir_rollout_labels_total").absolute(self.labelled);
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
