//! The recall of one question: embed it, search, attend to the graph around the hits.
//!
//! Each step has a time budget, and one that fails or is late is skipped: the recollection then has no such part. What
//! the router makes of it is gateway/server's `recall.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_memory::context::Candidate;
use weir_memory::{Memory, Node, NodeId, Query, ReadError, Recall, RecallLimits, SearchResult};

use crate::calls::{Asked, Recollection, Spent, Wanted};
use crate::live::LiveMemory;

/// Longest that embedding may take.
pub const EMBED_BUDGET: Duration = Duration::from_millis(1000);
/// Longest that searching, and then attention, may take.
pub const STORE_BUDGET: Duration = Duration::from_millis(1000);

/// Does the steps in order.
pub(crate) async fn recollect(memory: &LiveMemory, asked: Asked) -> Recollection {
    let mut spent = Spent::default();
    let started = Instant::now();
    let vector = match asked.vector {
        Some(vector) => Some(Arc::from(vector)),
        None if asked.embed => memory.vector_of(&asked.text).await,
        None => None,
    };
    spent.embed = milliseconds(started);
    let Some(wanted) = asked.wanted else {
        return Recollection {
            vector,
            generation: memory.store.generation(),
            spent,
            ..Recollection::default()
        };
    };
    let Wanted {
        filter,
        limits,
        candidates,
    } = wanted;
    let query = Arc::new(Query {
        text: asked.text,
        vector: vector.as_deref().map(<[f32]>::to_vec),
        filter,
        k: limits.seeds,
        exclude_edges: Vec::new(),
    });
    let started = Instant::now();
    let asking = Arc::clone(&query);
    let work = move |store: &Memory| search(store, &asking, candidates);
    let found = in_time("search", memory, work).await;
    spent.search = milliseconds(started);
    let attended = match found.clone() {
        Some((seeds, _)) => {
            let started = Instant::now();
            let work = move |store: &Memory| attend(store, &query, &seeds, &limits, candidates);
            let attended = in_time("recall", memory, work).await;
            spent.attend = milliseconds(started);
            attended
        }
        None => None,
    };
    Recollection {
        vector,
        found,
        attended,
        generation: memory.store.generation(),
        spent,
    }
}

async fn in_time<T: Send + 'static>(
    step: &'static str,
    memory: &LiveMemory,
    work: impl FnOnce(&Memory) -> Result<T, String> + Send + 'static,
) -> Option<T> {
    let done = tokio::time::timeout(STORE_BUDGET, memory.read(work)).await;
    let done = match done {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err("its thread died".to_owned()),
        Err(_) => Err(format!("nothing within {STORE_BUDGET:?}")),
    };
    done.inspect_err(|error| tracing::warn!(step, error, "a memory step was skipped"))
        .ok()
}

fn search(
    memory: &Memory,
    query: &Query,
    most: usize,
) -> Result<(SearchResult, Vec<Candidate>), String> {
    let found = memory.search(query).map_err(|error| error.to_string())?;
    let candidates = read(memory, &scored_hits(&found, most)).map_err(|error| error.to_string())?;
    Ok((found, candidates))
}

/// The best hits, each with what it says to a request: its cosine, or how strong it is among the others.
pub fn scored_hits(found: &SearchResult, most: usize) -> Vec<(NodeId, f32)> {
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
    scored.take(most).collect()
}

/// The nodes of a recall, each with its share of the attention relative to the first.
pub fn scored_nodes(recall: &Recall) -> Vec<(NodeId, f32)> {
    let highest = recall.nodes.first().map_or(1.0, |node| node.score);
    let nodes = recall.nodes.iter();
    nodes.map(|node| (node.id, node.score / highest)).collect()
}

fn attend(
    memory: &Memory,
    query: &Query,
    found: &SearchResult,
    limits: &RecallLimits,
    most: usize,
) -> Result<(Recall, Vec<Candidate>), String> {
    let mut recall = memory.recall(query, found, limits);
    recall.nodes.truncate(most);
    let candidates = read(memory, &scored_nodes(&recall)).map_err(|error| error.to_string())?;
    Ok((recall, candidates))
}

fn read(memory: &Memory, scored: &[(NodeId, f32)]) -> Result<Vec<Candidate>, ReadError> {
    let ids: Vec<NodeId> = scored.iter().map(|(id, _)| *id).collect();
    Ok(candidates(memory.nodes(&ids)?, scored))
}

/// Nodes with their scores.
pub fn candidates(nodes: Vec<Node>, scored: &[(NodeId, f32)]) -> Vec<Candidate> {
    let score = |id: NodeId| {
        let of = scored.iter().find(|(of, _)| *of == id);
        of.map_or(0.0, |(_, score)| *score)
    };
    let with_score = |node: Node| Candidate {
        score: score(node.id),
        node,
    };
    nodes.into_iter().map(with_score).collect()
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_memory::{Filter, MemoryConfig};

    #[tokio::test]
    async fn a_step_whose_turn_does_not_come_in_time_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let config = MemoryConfig {
            dimensions: 2,
            embedding_model: "m".to_owned(),
        };
        let store = Memory::open(folder.path(), &config).unwrap();
        let memory = LiveMemory::new(store, None);
        let asked = Asked {
            text: "words".to_owned(),
            vector: None,
            embed: false,
            wanted: Some(Wanted {
                filter: Filter {
                    tenant: "t".to_owned(),
                    domains: Vec::new(),
                    types: Vec::new(),
                    hidden: Vec::new(),
                },
                limits: RecallLimits::default(),
                candidates: 4,
            }),
        };
        let places = u32::try_from(memory.reads.available_permits()).unwrap();
        let others = memory.reads.acquire_many(places).await.unwrap();
        assert_eq!(recollect(&memory, asked.clone()).await.found, None);
        drop(others);
        assert!(recollect(&memory, asked).await.found.is_some());
    }
}
