//! Steps 2 and 3: embed the question, search the memory, attend to the graph around the hits.
//!
//! Each step has a time budget, and one that fails or is late is skipped: the answer then has less context or none, and
//! the router sees the step as missing. Never sends a question to an embedding pool beyond the request's privacy. What
//! of the candidates enters a prompt is decided in `choose.rs` and printed by `prompt.rs`.

use crate::ask::{Ask, AskError};
use crate::extension::{Extension, MemoryFilter, MemoryUse};
use crate::gateway::Serving;
use crate::record::{LatencyRow, RetrievalRow};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_memory::context::Candidate;
use weir_memory::{Filter, Memory, NodeId, NodeType, Query, Recall, RecallLimits, SearchResult};
use weir_plan::{EmbedderPlan, MemoryPlan};
use weir_router::{RecallFacts, SearchFacts, StepFeatures};

/// Longest that embedding may take.
const EMBED_BUDGET: Duration = Duration::from_millis(1000);
/// Longest that searching, and then attention, may take.
const STORE_BUDGET: Duration = Duration::from_millis(1000);
/// Nodes whose text is read as candidates for the context.
const CANDIDATES: usize = 24;
/// Node ids in the log row.
const LOGGED_NODES: usize = 20;

/// What the memory gave to one question. Empty fields are skipped steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remembered {
    /// By strength in the search.
    pub(crate) vector: Vec<Candidate>,
    /// By attention.
    pub(crate) graph: Vec<Candidate>,
    /// Features of the search and of the recall, as far as they happened.
    pub(crate) features: Vec<StepFeatures>,
    /// The numbers for the log.
    pub(crate) row: Option<RetrievalRow>,
}

/// Embeds a question in time, or not at all.
pub(crate) async fn embed(
    serving: &Serving,
    weir: &Extension,
    text: &str,
    spent: &mut LatencyRow,
) -> Option<Arc<[f32]>> {
    let plan = serving.plan.memory.as_ref()?;
    let started = Instant::now();
    let vector = tokio::time::timeout(EMBED_BUDGET, vector_of(serving, plan, weir, text)).await;
    spent.embed = started.elapsed().as_secs_f64() * 1e3;
    let vector = vector.unwrap_or_else(|_| Err(format!("no vector within {EMBED_BUDGET:?}")));
    let fitting = vector.and_then(|vector| match vector.len() {
        length if length == plan.dimensions => Ok(vector),
        length => Err(format!(
            "{length} dimensions, the memory holds {}",
            plan.dimensions
        )),
    });
    fitting
        .inspect_err(|error| tracing::warn!(error, "the question was not embedded"))
        .ok()
}

async fn vector_of(
    serving: &Serving,
    plan: &MemoryPlan,
    weir: &Extension,
    text: &str,
) -> Result<Arc<[f32]>, String> {
    if let Some(embed) = &serving.embed {
        return embed.embed(text).await.map_err(|error| error.to_string());
    }
    let EmbedderPlan::Pool(pool) = &plan.embedder else {
        return Err("no embedder is loaded".to_owned());
    };
    if pool.privacy > serving.privacy(weir) {
        return Err("the embedder's pool is beyond the request's privacy".to_owned());
    }
    let deadline = Instant::now() + EMBED_BUDGET;
    let inputs = [text.to_owned()];
    let vectors = serving.engines.embeddings(pool, &inputs, deadline).await;
    let first = vectors
        .map_err(|error| error.to_string())?
        .into_iter()
        .next();
    first
        .map(Arc::from)
        .ok_or_else(|| "the embedder's pool sent no vector".to_owned())
}

/// Searches and attends. `None` where the memory is absent or switched off.
pub(crate) async fn remember(
    serving: &Serving,
    ask: &Ask,
    text: &str,
    vector: Option<Arc<[f32]>>,
    spent: &mut LatencyRow,
) -> Remembered {
    let (Some(memory), Some(plan)) = (&serving.memory, &serving.plan.memory) else {
        return Remembered::default();
    };
    let Some(query) = query(ask, text, vector, plan.seeds) else {
        return Remembered::default();
    };
    let query = Arc::new(query);
    let started = Instant::now();
    let (store, asked) = (memory.clone(), Arc::clone(&query));
    let searched = in_time("search", move || search(&store, &asked)).await;
    spent.retrieval = started.elapsed().as_secs_f64() * 1e3;
    let Some((found, vector)) = searched else {
        return Remembered::default();
    };
    let started = Instant::now();
    let limits = RecallLimits {
        seeds: plan.seeds,
        hops: u8::try_from(plan.hops).unwrap_or(u8::MAX),
        nodes_max: plan.nodes_max,
    };
    let (store, asked, seeds) = (memory.clone(), Arc::clone(&query), found.clone());
    let recalled = in_time("recall", move || attend(&store, &asked, &seeds, &limits)).await;
    spent.attention = started.elapsed().as_secs_f64() * 1e3;
    let mut features = vec![search_features(&found)];
    let row = retrieval_row(&found, recalled.as_ref().map(|(recall, _)| recall), memory);
    let graph = recalled.map_or_else(Vec::new, |(recall, graph)| {
        features.push(recall_features(&found, &recall));
        graph
    });
    Remembered {
        vector,
        graph,
        features,
        row: Some(row),
    }
}

/// The question for the memory, or `None` where the client switched it off.
fn query(ask: &Ask, text: &str, vector: Option<Arc<[f32]>>, k: usize) -> Option<Query> {
    let narrowed = match &ask.weir.memory {
        MemoryUse::Off => return None,
        MemoryUse::On => MemoryFilter::default(),
        MemoryUse::Filtered(filter) => filter.clone(),
    };
    let filter = Filter {
        tenant: ask.caller.tenant.clone(),
        domains: narrowed.domains,
        types: types(&narrowed.types),
    };
    let vector = vector.map(|vector| vector.to_vec());
    Some(Query {
        text: text.to_owned(),
        vector,
        filter,
        k,
        ..Query::default()
    })
}

fn types(names: &[String]) -> Vec<NodeType> {
    let named = |name: &String| NodeType::ALL.into_iter().find(|kind| kind.as_str() == name);
    names.iter().filter_map(named).collect()
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
    let known = |name: &&String| {
        NodeType::ALL
            .iter()
            .all(|kind| kind.as_str() != name.as_str())
    };
    match filter.types.iter().find(known) {
        Some(name) => {
            let all = NodeType::ALL.map(NodeType::as_str).join(", ");
            let message = format!("node type {name:?} does not exist: send some of {all}");
            Err(AskError::new("weir.memory.types", message))
        }
        None => Ok(()),
    }
}

async fn in_time<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Option<T> {
    let done = tokio::time::timeout(STORE_BUDGET, tokio::task::spawn_blocking(work)).await;
    let done = match done {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err("its thread died".to_owned()),
        Err(_) => Err(format!("nothing within {STORE_BUDGET:?}")),
    };
    done.inspect_err(|error| tracing::warn!(step, error, "a memory step was skipped"))
        .ok()
}

fn search(memory: &Memory, query: &Query) -> Result<(SearchResult, Vec<Candidate>), String> {
    let found = memory.search(query).map_err(|error| error.to_string())?;
    let least = found.hits.last().map_or(0.0, |hit| hit.strength);
    let range = found.hits.first().map_or(0.0, |hit| hit.strength) - least;
    let scored = found.hits.iter().map(|hit| {
        let relative = if range > 0.0 {
            (hit.strength - least) / range
        } else {
            1.0
        };
        (hit.id, hit.cosine.unwrap_or(relative))
    });
    let candidates = candidates(memory, &scored.take(CANDIDATES).collect::<Vec<_>>())?;
    Ok((found, candidates))
}

fn attend(
    memory: &Memory,
    query: &Query,
    found: &SearchResult,
    limits: &RecallLimits,
) -> Result<(Recall, Vec<Candidate>), String> {
    let recall = memory.recall(query, found, limits);
    let most = recall.nodes.first().map_or(1.0, |node| node.score);
    let scored = recall.nodes.iter().map(|node| (node.id, node.score / most));
    let candidates = candidates(memory, &scored.take(CANDIDATES).collect::<Vec<_>>())?;
    Ok((recall, candidates))
}

fn candidates(memory: &Memory, scored: &[(NodeId, f32)]) -> Result<Vec<Candidate>, String> {
    let ids: Vec<NodeId> = scored.iter().map(|(id, _)| *id).collect();
    let nodes = memory.nodes(&ids).map_err(|error| error.to_string())?;
    let score = |id: NodeId| {
        scored
            .iter()
            .find(|(of, _)| *of == id)
            .map_or(0.0, |(_, s)| *s)
    };
    Ok(nodes
        .into_iter()
        .map(|node| Candidate {
            score: score(node.id),
            node,
        })
        .collect())
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

fn retrieval_row(found: &SearchResult, recall: Option<&Recall>, memory: &Memory) -> RetrievalRow {
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
        index_version: memory.generation(),
    }
}
