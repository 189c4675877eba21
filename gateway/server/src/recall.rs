//! Steps 2 and 3: the question goes to the memory, which embeds it, searches, and attends to the graph around the hits.
//!
//! One call, whoever owns the memory; a step that fails or is late is missing in its answer, and a memory that is away
//! gives nothing: the answer then has less context or none, and the router sees the step as missing. Never lets a question
//! travel to an embedding pool beyond the request's privacy. What of the candidates enters a prompt is decided in
//! `choose.rs` and printed by `prompt.rs`.

use crate::ask::{Ask, AskError};
use crate::extension::{Extension, MemoryFilter, MemoryUse};
use crate::gateway::Serving;
use crate::record::{LatencyRow, RetrievalRow};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;
use weir_memory::context::Candidate;
use weir_memory::{Filter, NodeId, NodeType, Recall, RecallLimits, SearchResult};
use weir_memory_live::{Asked, MemoryError, Recollection, Wanted};
use weir_plan::MemoryPlan;
use weir_router::{RecallFacts, SearchFacts, StepFeatures};

/// Nodes whose text is read as candidates for the context. Not fewer than [`LOGGED_NODES`], since of the attention only
/// the candidates are listed.
const CANDIDATES: usize = 24;
/// Node ids in the log row.
const LOGGED_NODES: usize = 20;

/// What the memory gave to one question. Empty fields are skipped steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remembered {
    /// The question's vector.
    pub(crate) embedding: Option<Arc<[f32]>>,
    /// By strength in the search.
    pub(crate) vector: Vec<Candidate>,
    /// By attention.
    pub(crate) graph: Vec<Candidate>,
    /// Features of the search and of the recall, as far as they happened.
    pub(crate) features: Vec<StepFeatures>,
    /// The numbers for the log.
    pub(crate) row: Option<RetrievalRow>,
}

/// Asks the memory. Nothing where there is none; the question's vector alone where the client switched it off.
pub(crate) async fn remember(
    serving: &Serving,
    ask: &Ask,
    text: &str,
    spent: &mut LatencyRow,
) -> Remembered {
    let (Some(memory), Some(plan)) = (&serving.memory, &serving.plan.memory) else {
        return Remembered::default();
    };
    let asked = Asked {
        text: text.to_owned(),
        vector: None,
        embed: may_embed(serving, &ask.caller.tenant, &ask.weir),
        wanted: wanted(ask, plan),
    };
    if asked.embed {
        want_vectors(serving);
    }
    let started = Instant::now();
    match memory.recall(asked).await {
        Ok(recollection) => {
            spent.embed = recollection.spent.embed;
            spent.retrieval = recollection.spent.search;
            spent.attention = recollection.spent.attend;
            remembered(recollection)
        }
        Err(error) => {
            spent.retrieval = started.elapsed().as_secs_f64() * 1e3;
            match error {
                // The memory says once that it is away; the gateway's metrics and `/readyz` say it all the while.
                MemoryError::Away(_) => tracing::debug!(%error, "nothing was recalled"),
                _ => tracing::warn!(%error, "nothing was recalled"),
            }
            Remembered::default()
        }
    }
}

/// Whether a text may travel to the pool that makes the memory's vectors, asked by this process or by the memory's own.
pub(crate) fn may_embed(serving: &Serving, tenant: &str, weir: &Extension) -> bool {
    let privacy = serving.plan.privacy_of(tenant, weir.privacy);
    let beyond = |pool: &weir_plan::Pool| pool.privacy > privacy;
    if serving.plan.vectors_from().is_some_and(beyond) {
        tracing::debug!("not embedded: the embedder's pool is beyond the request's privacy");
        return false;
    }
    true
}

/// Counts that the pool which makes the memory's vectors is wanted, where nothing else shows it: while it is at zero, so that
/// it is brought up, and while the memory's own process asks it, so that it is not taken for idle.
pub(crate) fn want_vectors(serving: &Serving) {
    let plan = &serving.plan;
    let unseen = |pool: &&weir_plan::Pool| {
        let asked_here = plan.embedder().is_some() && !pool.endpoints.is_empty();
        pool.when_cold.is_some() && !asked_here
    };
    if let Some(pool) = plan.vectors_from().filter(unseen) {
        serving.engines.wanted(pool);
    }
}

/// What to recall, or `None` where the client switched it off.
fn wanted(ask: &Ask, plan: &MemoryPlan) -> Option<Wanted> {
    let narrowed = match &ask.weir.memory {
        MemoryUse::Off => return None,
        MemoryUse::On => MemoryFilter::default(),
        MemoryUse::Filtered(filter) => filter.clone(),
    };
    let filter = Filter {
        tenant: ask.caller.tenant.clone(),
        domains: narrowed.domains,
        types: types(&narrowed.types),
        hidden: ask.hidden.clone(),
    };
    let limits = RecallLimits {
        seeds: plan.seeds,
        hops: u8::try_from(plan.hops).unwrap_or(u8::MAX),
        nodes_max: plan.nodes_max,
    };
    Some(Wanted {
        filter,
        limits,
        candidates: CANDIDATES,
    })
}

fn types(names: &[String]) -> Vec<NodeType> {
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

fn remembered(recollection: Recollection) -> Remembered {
    let Recollection {
        vector: embedding,
        found,
        attended,
        generation,
        ..
    } = recollection;
    let Some((found, vector)) = found else {
        return Remembered {
            embedding,
            ..Remembered::default()
        };
    };
    let recall = attended.as_ref().map(|(recall, _)| recall);
    let mut features = vec![search_features(&found)];
    features.extend(recall.map(|recall| recall_features(&found, recall)));
    let row = retrieval_row(&found, recall, generation);
    Remembered {
        embedding,
        vector,
        graph: attended.map_or_else(Vec::new, |(_, graph)| graph),
        features,
        row: Some(row),
    }
}

/// Checks the parts of a memory filter that the parser cannot: the store's name and the node types.
pub(crate) fn check_filter(serving: &Serving, ask: &Ask) -> Result<(), AskError> {
    let MemoryUse::Filtered(filter) = &ask.weir.memory else {
        return Ok(());
    };
    let here = serving
        .plan
        .memory
        .as_ref()
        .map_or("no memory", |memory| memory.name.as_str());
    if let Some(store) = &filter.store
        && store != here
    {
        let message = format!("memory store {store:?} is not served here: this gateway has {here}");
        return Err(AskError::new("weir.memory.store", message));
    }
    let unknown = |name: &&String| name.parse::<NodeType>().is_err();
    match filter.types.iter().find(unknown) {
        Some(name) => {
            let all = NodeType::ALL.map(NodeType::as_str).join(", ");
            let message = format!("node type {name:?} does not exist: send some of {all}");
            Err(AskError::new("weir.memory.types", message))
        }
        None => Ok(()),
    }
}

fn search_features(found: &SearchResult) -> StepFeatures {
    let descending = |mut values: Vec<f32>| {
        values.sort_by(|a, b| b.total_cmp(a));
        values
    };
    let cosines = descending(found.hits.iter().filter_map(|hit| hit.cosine).collect());
    let bm25 = descending(found.hits.iter().filter_map(|hit| hit.bm25).collect());
    SearchFacts {
        cosines: &cosines,
        bm25: &bm25,
        filter_share: found.filter_share,
    }
    .features()
}

fn recall_features(found: &SearchResult, recall: &Recall) -> StepFeatures {
    let vector: HashSet<NodeId> = found.hits.iter().take(10).map(|hit| hit.id).collect();
    let graph: HashSet<NodeId> = recall.nodes.iter().take(10).map(|node| node.id).collect();
    let both = vector.intersection(&graph).count();
    let either = vector.union(&graph).count().max(1);
    #[expect(clippy::cast_precision_loss, reason = "at most 20 nodes")]
    let agreement = both as f32 / either as f32;
    RecallFacts {
        entropy: recall.entropy,
        depth: u32::from(recall.depth),
        nodes_used: u32::try_from(recall.nodes_used).unwrap_or(u32::MAX),
        top_mass: recall.nodes.iter().take(5).map(|node| node.score).sum(),
        agreement,
    }
    .features()
}

fn retrieval_row(found: &SearchResult, recall: Option<&Recall>, generation: u64) -> RetrievalRow {
    let distances: Vec<f32> = found
        .hits
        .iter()
        .filter_map(|hit| hit.cosine)
        .map(|cosine| 1.0 - cosine)
        .collect();
    #[expect(
        clippy::cast_precision_loss,
        reason = "a search has at most thousands of hits"
    )]
    let mean = |values: &[f32]| {
        (!values.is_empty()).then(|| values.iter().sum::<f32>() / values.len() as f32)
    };
    let middle = mean(&distances);
    let squares = |middle: f32| {
        distances
            .iter()
            .map(|d| (d - middle).powi(2))
            .collect::<Vec<_>>()
    };
    let ids: Vec<NodeId> = match recall {
        Some(recall) => recall.nodes.iter().map(|node| node.id).collect(),
        None => found.hits.iter().map(|hit| hit.id).collect(),
    };
    RetrievalRow {
        k: found.hits.len(),
        mean_distance: middle,
        std_distance: middle
            .and_then(|middle| mean(&squares(middle)))
            .map(f32::sqrt),
        min_distance: distances.iter().copied().min_by(f32::total_cmp),
        max_distance: distances.iter().copied().max_by(f32::total_cmp),
        entropy_attention: recall.map(|recall| recall.entropy),
        depth_touched: recall.map(|recall| recall.depth),
        nodes_used: recall.map(|recall| recall.nodes_used),
        node_ids: ids
            .iter()
            .take(LOGGED_NODES)
            .map(ToString::to_string)
            .collect(),
        index_version: generation,
    }
}
