//! What the service counts, in Prometheus' words, and never a text, a tenant or an address.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::with_local_recorder;
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tonic::Code;
use weir_memory::Memory;
use weir_memory_live::{UpkeepCounts, Upkept};

use crate::served::Served;

/// Seconds; from a search in a small memory to a batch of passages.
const SECONDS: [f64; 11] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
];

/// Counters and histograms of one service.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Default for Metrics {
    fn default() -> Self {
        let suffix = Matcher::Suffix("_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(suffix, &SECONDS);
        let recorder = builder
            .expect("the list of buckets is not empty")
            .build_recorder();
        let handle = recorder.handle();
        with_local_recorder(&recorder, describe);
        Self { recorder, handle }
    }
}

impl Metrics {
    /// A call ended.
    pub(crate) fn called(&self, call: &'static str, code: Code, took: Duration) {
        with_local_recorder(&self.recorder, || {
            let code = format!("{code:?}");
            metrics::counter!("weir_memory_calls_total", "call" => call, "code" => code)
                .increment(1);
            metrics::histogram!("weir_memory_call_seconds", "call" => call).record(took);
        });
    }

    /// Folds what was recorded since, so that memory stays bounded when nobody scrapes.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The text of a scrape; of a store that is open, how much it holds.
    pub(crate) fn render(&self, open: Option<(&Served, &AtomicUsize, &Upkept)>) -> String {
        if let Some((store, refused, upkept)) = open {
            with_local_recorder(&self.recorder, || {
                gauges(store, refused);
                if let Served::Embedded(store) = store {
                    recalled(store);
                    kept_up(&upkept.counts());
                }
            });
        }
        self.handle.render()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn gauges(store: &Served, refused: &AtomicUsize) {
    let counts = store.counts();
    let refused = refused.load(Ordering::Relaxed).min(counts.pending);
    metrics::gauge!("weir_memory_nodes").set(counts.nodes as f64);
    metrics::gauge!("weir_memory_edges").set(counts.edges as f64);
    metrics::gauge!("weir_memory_vectors").set(counts.vectors as f64);
    metrics::gauge!("weir_memory_vectors_pending").set((counts.pending - refused) as f64);
    metrics::gauge!("weir_memory_vectors_refused").set(refused as f64);
    metrics::gauge!("weir_memory_generation").set(store.generation() as f64);
    if let Some((behind, lag)) = store.behind() {
        metrics::gauge!("weir_memory_behind").set(behind as f64);
        metrics::gauge!("weir_memory_lag_seconds").set(lag.as_secs_f64());
        metrics::gauge!("weir_memory_away").set(f64::from(u8::from(store.away().is_some())));
    }
}

/// How recall does: summaries, its cache, and what searches find.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn recalled(store: &Memory) {
    metrics::gauge!("weir_memory_summaries").set(store.summaries() as f64);
    let cache = store.cache_counts();
    metrics::counter!("weir_memory_recall_cache_hits_total").absolute(cache.hits);
    metrics::counter!("weir_memory_recall_cache_misses_total").absolute(cache.misses);
    metrics::gauge!("weir_memory_recall_cache_entries").set(cache.entries as f64);
    metrics::gauge!("weir_memory_recall_cache_bytes").set(cache.bytes as f64);
    metrics::gauge!("weir_memory_ef_search").set(store.ef_search() as f64);
    if let Some(tuning) = store.tuning() {
        metrics::gauge!("weir_memory_index_recall").set(tuning.recall);
    }
}

/// What upkeep did.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn kept_up(counts: &UpkeepCounts) {
    metrics::counter!("weir_memory_upkeep_passes_total").absolute(counts.passes);
    metrics::counter!("weir_memory_upkeep_measurements_total").absolute(counts.measurements);
    metrics::counter!("weir_memory_upkeep_slices_total").absolute(counts.slices);
    metrics::counter!("weir_memory_upkeep_waits_total").absolute(counts.waits);
    metrics::counter!("weir_memory_upkeep_failures_total").absolute(counts.failures);
    metrics::counter!("weir_memory_upkeep_rows_read_total").absolute(counts.rows_read);
    metrics::counter!("weir_memory_upkeep_rows_removed_total").absolute(counts.rows_removed);
    metrics::gauge!("weir_memory_upkeep_slice_rows_max").set(counts.slice_rows_max as f64);
    for (why, count) in [
        ("traceAge", counts.traces),
        ("minWeight", counts.light),
        ("maxAge", counts.old),
        ("degreeMax", counts.beyond_budget),
    ] {
        metrics::counter!("weir_memory_pruned_total", "why" => why).absolute(count);
    }
}

fn describe() {
    for (name, help) in COUNTERS {
        metrics::describe_counter!(name, help);
    }
    metrics::describe_counter!("weir_memory_calls_total", "Calls by name and gRPC code");
    metrics::describe_histogram!("weir_memory_call_seconds", "Time of a call in the service");
    for (name, help) in [
        ("weir_memory_nodes", "Nodes of the memory"),
        ("weir_memory_edges", "Edges of the memory"),
        ("weir_memory_summaries", "Summaries among its nodes"),
        ("weir_memory_vectors", "Nodes with a vector"),
        (
            "weir_memory_vectors_pending",
            "Nodes that wait for a vector",
        ),
        (
            "weir_memory_vectors_refused",
            "Nodes that the embedder refused; their words find them",
        ),
        ("weir_memory_generation", "Number of the last write"),
        (
            "weir_memory_recall_cache_entries",
            "Answers of recall that are kept",
        ),
        (
            "weir_memory_recall_cache_bytes",
            "Bytes that they take, about",
        ),
        (
            "weir_memory_ef_search",
            "Fewest nearest vectors that a search keeps while it looks",
        ),
        (
            "weir_memory_index_recall",
            "Share of the truly nearest that searches found when it was measured",
        ),
        (
            "weir_memory_upkeep_slice_rows_max",
            "The most rows that one slice of upkeep read or removed",
        ),
        (
            "weir_memory_behind",
            "Nodes of an external store whose vectors and words are still to follow",
        ),
        (
            "weir_memory_lag_seconds",
            "Time since the oldest of these was written",
        ),
        (
            "weir_memory_away",
            "1 while a server of an external store cannot be asked",
        ),
    ] {
        metrics::describe_gauge!(name, help);
    }
}

const COUNTERS: [(&str, &str); 10] = [
    (
        "weir_memory_recall_cache_hits_total",
        "Questions answered from what was recalled for them before",
    ),
    (
        "weir_memory_recall_cache_misses_total",
        "Questions that were recalled for",
    ),
    (
        "weir_memory_pruned_total",
        "Edges and traces that upkeep let go, by the part of the policy",
    ),
    (
        "weir_memory_upkeep_passes_total",
        "Passes of upkeep over the whole memory",
    ),
    (
        "weir_memory_upkeep_measurements_total",
        "Measurements of the index",
    ),
    ("weir_memory_upkeep_slices_total", "Slices of upkeep"),
    (
        "weir_memory_upkeep_waits_total",
        "Slices of upkeep that let calls go first",
    ),
    (
        "weir_memory_upkeep_failures_total",
        "Passes and measurements that failed",
    ),
    (
        "weir_memory_upkeep_rows_read_total",
        "Rows that upkeep read",
    ),
    (
        "weir_memory_upkeep_rows_removed_total",
        "Rows that upkeep removed",
    ),
];
