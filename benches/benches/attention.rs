//! How long attention takes: on a subgraph of the largest size (256 nodes, 2,048 edges, 4 heads), and with the search
//! before it in a memory of 60,000 nodes.
//!
//! The subgraph is all of a store, so that every recall has it whole. Timed are the layers and the scorer alone, then all
//! of recall: the walk, the features with their cosines, layers and scorer. One thread, no embedding.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Instant;
use weir_bench::{direction, passage};
use weir_lab::results::{Goal, Results, Row};
use weir_lab::stats::quantile;
use weir_memory::{
    AttentionWeights, Batch, Filter, Memory, MemoryConfig, NewEdge, NewNode, NodeId, Query,
    RecallLimits, SHARED_TENANT,
};

const DIMENSIONS: usize = 384;
const NODES: u64 = 256;
/// Each is walked both ways, so 2,048 as attention counts them, in 2 relations, so 4 heads.
const EDGES: u64 = 1024;
const RELATIONS: [&str; 2] = ["mentions", "hyperlink"];
/// Nodes of the large memory, and edges that start at each.
const LARGE: u64 = 60_000;
const EDGES_OF_NODE: u64 = 4;
const WORDS_OF_NODE: usize = 60;
const RUNS: u64 = 2000;
/// Runs that are not counted: they fill the caches.
const WARM_UP: u64 = 100;
const KERNEL_MS: f64 = 0.15;
const RECALL_MS: f64 = 2.0;
const QUERY_MS: f64 = 5.0;

fn main() -> anyhow::Result<()> {
    let mut results = Results::new("attention", "cargo bench -p weir-bench --bench attention");
    results.notes.push(format!(
        "{RUNS} questions a row, one thread, {DIMENSIONS} dimensions, no embedding; PageRank looks at the edges' weights, \
         all features at everything that weights can look at"
    ));
    subgraph(&mut results)?;
    large(&mut results)?;
    weir_bench::publish(&results)
}

/// Weights that look at every feature: a small number for each.
fn looking_at_all() -> anyhow::Result<AttentionWeights> {
    let names =
        |names: &[&str]| -> serde_json::Value { names.iter().map(|name| (*name, 0.1)).collect() };
    let [seed, edge, score] = AttentionWeights::features().map(names);
    let head = serde_json::json!({"bias": 0.0, "temperature": 0.9, "edge": edge});
    let both = serde_json::json!({"forwards": head, "backwards": head});
    let file = serde_json::json!({
        "version": 1, "trained_on": "nothing", "layers": 6, "moves": 0.5,
        "seed": seed, "other": both, "score": score,
    });
    Ok(AttentionWeights::from_json(&file.to_string())?)
}

fn kinds() -> anyhow::Result<[(&'static str, AttentionWeights); 2]> {
    Ok([
        ("PageRank", AttentionWeights::default()),
        ("all features", looking_at_all()?),
    ])
}

/// The largest subgraph.
fn subgraph(results: &mut Results) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let memory = open(folder.path())?;
    let id = |node: u64| NodeId::derived("attention", "subgraph", node as usize);
    let nodes = (0..NODES).map(|node| self::node(id(node), node));
    // Steps of a node to those after it: no edge is drawn twice, and all are connected.
    let edges = (0..EDGES).map(|edge| {
        let (from, step) = (edge % NODES, 1 + edge / NODES);
        let relation = RELATIONS[(edge / NODES) as usize % RELATIONS.len()];
        NewEdge::new(id(from), id((from + step * step) % NODES), relation)
    });
    memory.write(&Batch {
        nodes: nodes.collect(),
        edges: edges.collect(),
    })?;
    let limits = RecallLimits::default();
    for (name, weights) in kinds()? {
        let (mut kernel, mut whole) = (Vec::new(), Vec::new());
        for run in 0..WARM_UP + RUNS {
            let query = question(run, &limits);
            let found = memory.search(&query)?;
            let (ids, graph) = memory.subgraph(&weights, &query, &found, &limits)?;
            let edges = graph.edges().count() as u64;
            anyhow::ensure!(
                (ids.len() as u64, edges) == (NODES, 2 * EDGES),
                "recalled in part"
            );
            let started = Instant::now();
            let scores = graph.scores(&weights);
            let took = started.elapsed().as_secs_f64() * 1e3;
            anyhow::ensure!(scores.len() == ids.len());
            let started = Instant::now();
            let recall = memory.recall_with(&weights, &query, &found, &limits)?;
            let all = started.elapsed().as_secs_f64() * 1e3;
            anyhow::ensure!(recall.nodes_used == ids.len());
            if run >= WARM_UP {
                kernel.push(took);
                whole.push(all);
            }
        }
        let of = format!("{NODES} nodes, {} edges, 4 heads, {name}", 2 * EDGES);
        times(
            results,
            &format!("layers and scorer, {of}"),
            &kernel,
            KERNEL_MS,
        );
        times(results, &format!("recall, {of}"), &whole, RECALL_MS);
    }
    Ok(())
}

/// Search and recall among many nodes.
fn large(results: &mut Results) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let memory = open(folder.path())?;
    let id = |node: u64| NodeId::derived("attention", "large", node as usize);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for from in (0..LARGE).step_by(1000) {
        let nodes = (from..from + 1000).map(|node| self::node(id(node), node));
        let nodes = nodes.collect();
        memory.write(&Batch {
            nodes,
            edges: Vec::new(),
        })?;
    }
    for from in (0..LARGE).step_by(1000) {
        let edges = (from..from + 1000).flat_map(|node| {
            (0..EDGES_OF_NODE).map(move |edge| (node, RELATIONS[edge as usize % RELATIONS.len()]))
        });
        let edges =
            edges.map(|(node, rel)| NewEdge::new(id(node), id(random.random_range(0..LARGE)), rel));
        let edges = edges.collect();
        memory.write(&Batch {
            nodes: Vec::new(),
            edges,
        })?;
    }
    memory.settle();
    let limits = RecallLimits::default();
    for (name, weights) in kinds()? {
        let mut whole = Vec::new();
        for run in 0..WARM_UP + RUNS {
            let query = question(LARGE + run, &limits);
            let started = Instant::now();
            let found = memory.search(&query)?;
            let recall = memory.recall_with(&weights, &query, &found, &limits)?;
            let took = started.elapsed().as_secs_f64() * 1e3;
            anyhow::ensure!(recall.nodes_used == limits.nodes_max, "recalled in part");
            if run >= WARM_UP {
                whole.push(took);
            }
        }
        let of = format!(
            "search and recall, {LARGE} nodes, {} edges, {name}",
            LARGE * EDGES_OF_NODE
        );
        times(results, &of, &whole, QUERY_MS);
    }
    Ok(())
}

fn times(results: &mut Results, of: &str, milliseconds: &[f64], goal_ms: f64) {
    let row = |share, name| Row::new(format!("{of}, {name}"), "ms", quantile(milliseconds, share));
    results.rows.push(row(0.5, "p50"));
    results
        .rows
        .push(row(0.99, "p99").goal(Goal::AtMost(goal_ms)));
}

fn open(folder: &std::path::Path) -> anyhow::Result<Memory> {
    let config = MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: "random".to_owned(),
    };
    Ok(Memory::open(folder, &config)?)
}

fn node(id: NodeId, number: u64) -> NewNode {
    NewNode {
        id,
        vector: Some(direction(number, DIMENSIONS)),
        ..NewNode::new(SHARED_TENANT, passage(number, WORDS_OF_NODE))
    }
}

fn question(number: u64, limits: &RecallLimits) -> Query {
    Query {
        text: passage(number, 10),
        vector: Some(direction(number, DIMENSIONS)),
        filter: Filter {
            tenant: SHARED_TENANT.to_owned(),
            ..Filter::default()
        },
        k: limits.seeds,
        ..Query::default()
    }
}
