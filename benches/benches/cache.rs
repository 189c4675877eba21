//! How long recall takes when the same question was asked before, and when it was not: search, attention, nodes with their
//! text, from a memory whose rows lie on a disk.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use weir_lab::results::{Goal, Results, Row};
use weir_lab::stats::quantile;
use weir_memory::context::Candidate;
use weir_memory::{
    Batch, Filter, Memory, MemoryConfig, NewEdge, NewNode, NodeId, Query, RecallKey, RecallLimits,
    Recollected,
};

const PASSAGES: u64 = 20_000;
const QUESTIONS: u64 = 1_000;
const ROUNDS: usize = 20;
const DIMENSIONS: usize = 384;
/// Nodes of the search and of attention that come with their text, as a gateway asks for.
const CANDIDATES: usize = 24;
/// Slowest percentile of a hit allowed, in microseconds.
const HIT_P99_US: f64 = 50.0;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let config = MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: "synthetic".to_owned(),
    };
    let memory = Memory::open(folder.path(), &config)?;
    fill(&memory)?;
    let questions: Vec<Query> = (0..QUESTIONS).map(question).collect();
    let mut misses = Vec::new();
    for query in &questions {
        let started = Instant::now();
        black_box(miss(&memory, query)?);
        misses.push(started.elapsed().as_secs_f64() * 1e6);
    }
    let mut hits = Vec::new();
    for _ in 0..ROUNDS {
        for query in &questions {
            let started = Instant::now();
            let key = key(query)?;
            let kept = memory.recollected(&key);
            let kept = kept.ok_or_else(|| anyhow::anyhow!("an answer was not kept"))?;
            // A caller gets them as its own.
            black_box(Recollected::clone(&kept));
            hits.push(started.elapsed().as_secs_f64() * 1e6);
        }
    }
    let counts = memory.cache_counts();
    let mut results = Results::new("cache", "cargo bench -p weir-bench --bench cache");
    results.notes.push(format!(
        "{PASSAGES} passages of 60 words with vectors of {DIMENSIONS} values, {QUESTIONS} questions asked {} times; the \
         question's vector is at hand; a hit looks it up, checks that nothing changed and copies nodes with their text",
        ROUNDS + 1
    ));
    let p99 = quantile(&hits, 0.99);
    results
        .rows
        .push(Row::new("hit.p99", "us", p99).goal(Goal::AtMost(HIT_P99_US)));
    let all = [
        ("hit.p50", "us", quantile(&hits, 0.5)),
        ("miss.p50", "us", quantile(&misses, 0.5)),
        ("miss.p99", "us", quantile(&misses, 0.99)),
        ("entries", "answers", counts.entries as f64),
        ("bytes", "MiB", counts.bytes as f64 / (1 << 20) as f64),
    ];
    let rows = all.into_iter();
    results
        .rows
        .extend(rows.map(|(metric, unit, value)| Row::new(metric, unit, value)));
    weir_bench::publish(&results)
}

fn fill(memory: &Memory) -> anyhow::Result<()> {
    let id = |number: u64| NodeId::derived("bench", "passage", number as usize);
    for first in (0..PASSAGES).step_by(2_000) {
        let numbers = first..first + 2_000;
        let nodes = numbers.clone().map(|number| NewNode {
            id: id(number),
            vector: Some(weir_bench::direction(number, DIMENSIONS)),
            ..NewNode::new("acme", weir_bench::passage(number, 60))
        });
        let edges = numbers.filter(|number| *number > 10).flat_map(|number| {
            [1, 7].map(|back| NewEdge::new(id(number), id(number - back), "follows"))
        });
        memory.write(&Batch {
            nodes: nodes.collect(),
            edges: edges.collect(),
        })?;
    }
    memory.settle();
    Ok(())
}

fn question(number: u64) -> Query {
    Query {
        text: format!("What about {}", weir_bench::passage(number, 8)),
        vector: Some(weir_bench::direction(PASSAGES + number, DIMENSIONS)),
        filter: Filter {
            tenant: "acme".to_owned(),
            ..Filter::default()
        },
        k: RecallLimits::default().seeds,
        exclude_edges: Vec::new(),
    }
}

fn key(query: &Query) -> anyhow::Result<RecallKey> {
    let limits = (RecallLimits::default(), CANDIDATES);
    let key = RecallKey::new(&query.text, query.vector.as_deref(), &query.filter, limits);
    key.ok_or_else(|| anyhow::anyhow!("the filter hides nodes"))
}

/// Recalls and keeps the answer.
fn miss(memory: &Memory, query: &Query) -> anyhow::Result<Arc<Recollected>> {
    let key = key(query)?;
    anyhow::ensure!(
        memory.recollected(&key).is_none(),
        "asked for the first time"
    );
    let freshness = memory.freshness(&query.filter);
    let found = memory.search(query)?;
    let recall = memory.recall(query, &found, &RecallLimits::default());
    let candidates = |scored: Vec<(NodeId, f32)>| -> anyhow::Result<Vec<Candidate>> {
        let scored: Vec<_> = scored.into_iter().take(CANDIDATES).collect();
        let ids: Vec<NodeId> = scored.iter().map(|(id, _)| *id).collect();
        let nodes = memory.nodes(&ids)?.into_iter().zip(scored);
        let of = |(node, (_, score))| Candidate::new(node, score);
        Ok(nodes.map(of).collect())
    };
    let hits = found.hits.iter().map(|hit| (hit.id, hit.strength));
    let nodes = recall.nodes.iter().map(|node| (node.id, node.score));
    let answer = Arc::new(Recollected {
        hits: candidates(hits.collect())?,
        nodes: candidates(nodes.collect())?,
        found,
        recall,
    });
    memory.keep_recollected(key, freshness, &answer);
    Ok(answer)
}
