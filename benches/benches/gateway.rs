//! The gateway's own time: everything of a request but embedding and engine, with 10,000 nodes.
//!
//! Requests go one at a time through `Gateway::answer` to an engine that answers at once. Embedding and engine are subtracted
//! as the decision's own record measured them.

use std::collections::HashMap;
use std::time::Instant;
use weir_gateway::ask::{Ask, Caller};
use weir_gateway::gateway::{Assets, Gateway};
use weir_lab::echo::EchoEngine;
use weir_lab::questions;
use weir_lab::results::{Goal, Results, Row};
use weir_lab::stats::quantile;
use weir_memory::{Batch, Memory, MemoryConfig, NewNode};
use weir_plan::{EmbedderPlan, MemoryPlan};
use weir_router::Router;

const NODES: u64 = 10_000;
const DIMENSIONS: usize = 384;
const REQUESTS: usize = 1_000;
const WARM_UP: usize = 50;
/// Half of the requests take the gateway less than this, in milliseconds.
const P50_MS: f64 = 3.0;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let memory = filled(folder.path())?;
    let engine = EchoEngine::start("3.11").await?;
    let embed = weir_bench::embedder()?;
    let searched = if embed.is_some() {
        "vectors and words"
    } else {
        "words only"
    };
    let assets = Assets {
        memory: Some(memory),
        embed,
        router: Router::builtin(),
        counters: HashMap::new(),
        state_dir: None,
    };
    let gateway = Gateway::new(
        engine.plan(&["small", "mid", "big"], Some(memory_plan())),
        assets,
    )?;
    let questions = questions::read(None)?;
    let (mut own, mut whole) = (Vec::new(), Vec::new());
    for question in questions.iter().cycle().take(WARM_UP + REQUESTS) {
        let caller = Caller {
            tenant: "bench".to_owned(),
            request_id: "bench".to_owned(),
        };
        let started = Instant::now();
        let answer = gateway
            .answer(Ask::question(&question.question, caller))
            .await?;
        let total = started.elapsed().as_secs_f64() * 1e3;
        let record = serde_json::to_value(gateway.decision(&answer.decision.id))?;
        let part = |name: &str| record["latency_ms"][name].as_f64().unwrap_or(0.0);
        own.push(total - part("embed") - part("llm"));
        whole.push(total);
    }
    let (own, whole) = (&own[WARM_UP..], &whole[WARM_UP..]);
    let mut results = Results::new("gateway", "cargo bench -p weir-bench --bench gateway");
    results.notes.push(format!(
        "{REQUESTS} requests one at a time, {NODES} nodes of {DIMENSIONS} dimensions, {searched}; an engine that answers \
         at once; own time is the request without embedding and engine"
    ));
    let p50 = Row::new("own.p50", "ms", quantile(own, 0.5)).goal(Goal::AtMost(P50_MS));
    results.rows.push(p50);
    results
        .rows
        .push(Row::new("own.p99", "ms", quantile(own, 0.99)));
    results
        .rows
        .push(Row::new("request.p50", "ms", quantile(whole, 0.5)));
    results
        .rows
        .push(Row::new("request.p99", "ms", quantile(whole, 0.99)));
    weir_bench::publish(&results)
}

fn filled(folder: &std::path::Path) -> anyhow::Result<Memory> {
    let config = MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: weir_bench::EMBEDDING_MODEL.to_owned(),
    };
    let memory = Memory::open(&folder.join("memory"), &config)?;
    let numbers: Vec<u64> = (0..NODES).collect();
    for chunk in numbers.chunks(1000) {
        let nodes = chunk
            .iter()
            .map(|number| {
                let mut node = NewNode::new("shared", weir_bench::passage(*number, 60));
                node.vector = Some(weir_bench::direction(*number, DIMENSIONS));
                node
            })
            .collect();
        memory.write(&Batch {
            nodes,
            edges: Vec::new(),
        })?;
    }
    Ok(memory)
}

fn memory_plan() -> MemoryPlan {
    MemoryPlan {
        name: "bench".to_owned(),
        embedding_model: weir_bench::EMBEDDING_MODEL.to_owned(),
        dimensions: DIMENSIONS,
        embedder: EmbedderPlan::InProcess {
            source: weir_bench::EMBEDDING_MODEL.to_owned(),
        },
        seeds: 64,
        hops: 2,
        nodes_max: 256,
    }
}
