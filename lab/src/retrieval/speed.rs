//! How long attention takes on a subgraph of the largest size: 256 nodes, 2,048 edges, 4 heads.
//!
//! A store of exactly such a graph, so that every recall has it whole. What is timed is all of recall after the search:
//! the walk, the features with their cosines, the layers and the scorer.

use super::RetrievalError;
use crate::results::{Goal, Row};
use crate::stats::quantile;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use std::time::Instant;
use weir_memory::{
    Batch, Filter, Memory, MemoryConfig, NewEdge, NewNode, NodeId, Query, RecallLimits,
    SHARED_TENANT,
};

const NODES: usize = 256;
/// Each is walked both ways, so 2,048 as attention counts them, in 2 relations, so 4 heads.
const EDGES: usize = 1024;
const RELATIONS: [&str; 2] = ["mentions", "hyperlink"];
const DIMENSIONS: usize = 384;
const WORDS: [&str; 8] = [
    "river", "wall", "water", "level", "gate", "flood", "mill", "stone",
];
const RUNS: usize = 2000;
/// Runs that are not counted: they fill the caches.
const WARM_UP: usize = 100;
const GOAL_MS: f64 = 2.0;

/// Times recall; the store is made in `cache`.
pub(super) fn rows(cache: &Path, seed: u64) -> Result<Vec<Row>, RetrievalError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let config = MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: "random".to_owned(),
    };
    let folder = cache.join(format!("speed-{seed}"));
    let memory = Memory::open(&folder, &config).map_err(RetrievalError::Open)?;
    let batch = graph(&mut random);
    memory.write(&batch).map_err(RetrievalError::Write)?;
    let limits = RecallLimits {
        nodes_max: NODES,
        ..RecallLimits::default()
    };
    let mut milliseconds = Vec::with_capacity(RUNS);
    for run in 0..WARM_UP + RUNS {
        let query = Query {
            text: WORDS[run % WORDS.len()].to_owned(),
            vector: Some(direction(&mut random)),
            filter: Filter {
                tenant: SHARED_TENANT.to_owned(),
                ..Filter::default()
            },
            k: limits.seeds,
            ..Query::default()
        };
        let found = memory.search(&query)?;
        let started = Instant::now();
        let recall = memory.recall(&query, &found, &limits);
        let took = started.elapsed().as_secs_f64() * 1e3;
        assert_eq!(recall.nodes_used, NODES, "the graph is recalled whole");
        if run >= WARM_UP {
            milliseconds.push(took);
        }
    }
    let row = |name: &str, share: f64| {
        let metric = format!(
            "recall of {NODES} nodes, {} edges, 4 heads, {name}",
            2 * EDGES
        );
        Row::new(metric, "ms", quantile(&milliseconds, share))
    };
    Ok(vec![
        row("p50", 0.5),
        row("p99", 0.99).goal(Goal::AtMost(GOAL_MS)),
    ])
}

/// The nodes and edges, the same for the same seed.
fn graph(random: &mut ChaCha8Rng) -> Batch {
    let id = |node: usize| NodeId::derived("speed", "graph", node);
    let mut batch = Batch::default();
    for node in 0..NODES {
        let words: Vec<&str> = (0..40)
            .map(|_| WORDS[random.random_range(0..WORDS.len())])
            .collect();
        batch.nodes.push(NewNode {
            id: id(node),
            vector: Some(direction(random)),
            ..NewNode::new(SHARED_TENANT, words.join(" "))
        });
    }
    // Steps of a node to those after it: no edge is drawn twice, and all are connected.
    for edge in 0..EDGES {
        let (from, step) = (edge % NODES, 1 + edge / NODES);
        let relation = RELATIONS[(edge / NODES) % RELATIONS.len()];
        let to = (from + step * step) % NODES;
        batch.edges.push(NewEdge::new(id(from), id(to), relation));
    }
    batch
}

fn direction(random: &mut ChaCha8Rng) -> Vec<f32> {
    (0..DIMENSIONS)
        .map(|_| random.random_range(-1.0..1.0))
        .collect()
}
