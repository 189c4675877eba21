//! What people see of a memory, from what was observed of it.

use crate::condition::{Seen, Verdict};
use crate::pods;
use crate::stack::Stack;
use crate::validate::Problem;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_crds::{IndexStatus, MemoryStore, MemoryStoreStatus, PrunedStatus, Store};

/// What was observed of a memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// Its StatefulSet, as applied.
    pub stateful_set: Option<StatefulSet>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Its claim.
    pub claim: Option<PersistentVolumeClaim>,
    /// What the service itself says; `None` when it was not asked or did not answer.
    pub counts: Option<Counts>,
    /// Why the service did not answer.
    pub silent: Option<String>,
    /// What the API server said when it refused an object.
    pub refused: Option<String>,
}

/// What a memory service says of its store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Passages and what links them.
    pub nodes: u64,
    /// Links.
    pub edges: u64,
    /// Passages with a vector.
    pub vectors: u64,
    /// Passages without one yet.
    pub pending: u64,
    /// What was measured of the index; absent while nothing was.
    #[serde(default)]
    pub tuning: Option<Tuning>,
    /// Summaries among the nodes.
    #[serde(default)]
    pub summaries: u64,
    /// What upkeep let go since the service started.
    #[serde(default)]
    pub pruned: PrunedStatus,
    /// Why the servers of an external store cannot be asked.
    #[serde(default)]
    pub away: Option<String>,
    /// Of an external store, seconds since the oldest write that Qdrant does not know of yet.
    #[serde(default)]
    pub lag_seconds: u64,
}

/// What a memory service measured of its index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tuning {
    /// Share of the truly nearest that searches found.
    pub recall: f64,
    /// The share that was declared.
    pub target: f64,
    /// Fewest nearest vectors that a search keeps while it looks.
    pub ef_search: u32,
    /// Unix time in milliseconds.
    pub measured_at_ms: u64,
}

/// The status of a memory.
pub fn status(
    store: &MemoryStore,
    stack: &Stack,
    observed: &Observed,
    (problems, now): (&[Problem], Timestamp),
) -> MemoryStoreStatus {
    let before = store.status.clone().unwrap_or_default();
    let seen = Seen {
        before: &before.conditions,
        generation: store.metadata.generation,
        now,
    };
    let graph = graph_ready(observed);
    let vectors = vectors_ready(store, stack, (observed, &graph));
    let ready = ready(store, problems, observed, (&graph, &vectors));
    // What a store holds whose servers are away is not known now.
    let counts = observed
        .counts
        .as_ref()
        .filter(|counts| counts.away.is_none());
    let lag = match &store.spec.store {
        Store::Embedded(_) => None,
        Store::External(_) => {
            let lag = observed.counts.as_ref().map(|counts| counts.lag_seconds);
            lag.or(before.write_back_lag_seconds)
        }
    };
    let prunes = store.spec.graph_policy.is_some() || store.spec.retention.traces.is_some();
    let pruned = counts
        .filter(|_| prunes)
        .map(|counts| counts.pruned.clone());
    let mut conditions = vec![
        ("Ready", ready),
        ("VectorsReady", vectors),
        ("GraphReady", graph),
    ];
    let tuned = index_tuned(store, observed);
    conditions.extend(tuned.map(|tuned| ("IndexTuned", tuned)));
    MemoryStoreStatus {
        kind: Some(store.spec.store.as_str().into()),
        nodes: counts.map(|counts| counts.nodes).or(before.nodes),
        edges: counts.map(|counts| counts.edges).or(before.edges),
        vectors: counts.map(|counts| counts.vectors).or(before.vectors),
        write_back_lag_seconds: lag,
        index: match counts {
            Some(counts) => counts.tuning.as_ref().map(index),
            None => before.index,
        },
        summaries: (counts.map(|counts| counts.summaries).or(before.summaries))
            .filter(|_| store.spec.write_back.summaries.is_some()),
        pruned: pruned.or(before.pruned.filter(|_| prunes)),
        conditions: seen.conditions(conditions),
    }
}

fn index(tuning: &Tuning) -> IndexStatus {
    IndexStatus::measured(tuning.recall, tuning.ef_search, tuning.measured_at_ms)
}

/// Whether searches find as much as is declared; `None` where nothing is.
fn index_tuned(store: &MemoryStore, observed: &Observed) -> Option<Verdict> {
    let tune = store.spec.index.tune.as_ref()?;
    let tuning = observed
        .counts
        .as_ref()
        .and_then(|counts| counts.tuning.as_ref());
    let Some(tuning) = tuning.filter(|tuning| tuning.target == tune.target_recall) else {
        let text = "the index was not measured for index.tune.targetRecall yet: that waits for vectors, and for moments in \
                    which nobody asks";
        return Some(Verdict::unknown("NotMeasured", text));
    };
    let text = format!(
        "efSearch {} finds {:.4} of the truly nearest, declared are {}",
        tuning.ef_search, tuning.recall, tuning.target
    );
    Some(match tuning.recall >= tuning.target {
        true => Verdict::yes("Tuned", text),
        false => Verdict::no(
            "TargetMissed",
            format!("{text}: lower index.tune.targetRecall"),
        ),
    })
}

/// Whether the store is open and answers.
fn graph_ready(observed: &Observed) -> Verdict {
    let staying = pods::staying(&observed.pods, "");
    if let Some(trouble) = pods::trouble(&staying) {
        return Verdict::no(trouble.reason, trouble.message);
    }
    let claim = observed
        .claim
        .as_ref()
        .and_then(|claim| claim.status.as_ref());
    let phase = claim.and_then(|status| status.phase.as_deref());
    if phase == Some("Lost") {
        let text =
            "the volume behind the claim is gone: restore it, or delete the claim to start empty";
        return Verdict::no("VolumeLost", text);
    }
    if !staying.iter().any(|pod| pods::is_ready(pod)) {
        if phase == Some("Pending") {
            let text = "the claim is not bound yet: it waits for a volume of store.embedded.storageClassName, or of the \
                        cluster's default StorageClass";
            return Verdict::no("VolumePending", text);
        }
        return Verdict::no("Starting", "the memory service is not ready yet");
    }
    match (&observed.counts, &observed.silent) {
        (_, Some(why)) => Verdict::no(
            "Silent",
            format!("the memory service does not answer: {why}"),
        ),
        (
            Some(Counts {
                away: Some(why), ..
            }),
            None,
        ) => {
            let text = format!(
                "the memory service runs, its store cannot be asked: {why}; see store.external and its Secrets"
            );
            Verdict::no("StoreAway", text)
        }
        (Some(counts), None) => {
            let text = format!("{} nodes, {} edges", counts.nodes, counts.edges);
            Verdict::yes("Serving", text)
        }
        (None, None) => Verdict::unknown("NotAsked", "the memory service was not asked yet"),
    }
}

/// Whether passages get vectors. Passages that still wait for theirs are found by their words meanwhile.
fn vectors_ready(
    store: &MemoryStore,
    stack: &Stack,
    (observed, graph): (&Observed, &Verdict),
) -> Verdict {
    if !graph.is_true() {
        return graph.clone();
    }
    if let Some(pool) = store.spec.embedding.pool.as_deref() {
        let status = stack.pool(pool).and_then(|pool| pool.status.as_ref());
        let ready = status.map_or(0, |status| status.ready_replicas);
        if ready == 0 {
            let text = format!("ModelPool {pool} has no replica that embeds: see its conditions");
            return Verdict::no("EmbedderNotReady", text);
        }
    }
    let pending = observed.counts.as_ref().map_or(0, |counts| counts.pending);
    match pending {
        0 => Verdict::yes("Complete", "every passage has a vector"),
        _ => Verdict::yes("Filling", "some passages wait for their vectors"),
    }
}

fn ready(
    store: &MemoryStore,
    problems: &[Problem],
    observed: &Observed,
    (graph, vectors): (&Verdict, &Verdict),
) -> Verdict {
    if let Some(problem) = problems.first() {
        return Verdict::of_problems(problem, problems);
    }
    if let Some(why) = &observed.refused {
        let remedy = larger_claim(store, observed.claim.as_ref(), why).unwrap_or_default();
        return Verdict::no("Refused", format!("{why}{remedy}"));
    }
    if !graph.is_true() {
        return Verdict::no(&graph.reason, graph.message.clone());
    }
    if !vectors.is_true() {
        return vectors.clone();
    }
    let set = observed.stateful_set.as_ref();
    let is_current = set.is_some_and(|set| {
        let status = set.status.as_ref();
        let looked_at = status.and_then(|status| status.observed_generation);
        let updated = status
            .and_then(|status| status.updated_replicas)
            .unwrap_or(0);
        looked_at >= set.metadata.generation && updated >= 1
    });
    match is_current {
        true => Verdict::yes("Serving", graph.message.clone()),
        false => Verdict::no("Updating", "the memory service is being replaced"),
    }
}

/// What to do when the claim of a memory of the same name, kept when that was deleted, is larger than what is declared now.
fn larger_claim(
    store: &MemoryStore,
    claim: Option<&PersistentVolumeClaim>,
    refused: &str,
) -> Option<String> {
    let Store::Embedded(embedded) = &store.spec.store else {
        return None;
    };
    let claim = claim?;
    let name = claim.metadata.name.as_deref()?;
    let capacity = claim.status.as_ref()?.capacity.as_ref()?;
    let has = &capacity.get("storage")?.0;
    let is_it = refused.contains(name) && refused.contains("resources.requests.storage");
    (is_it && has != embedded.storage.as_str()).then(|| {
        format!(
            ": the claim was there already, with {has}, and a volume does not shrink: write {has} or more to \
             store.embedded.storage, or delete the claim with the memory on it"
        )
    })
}
