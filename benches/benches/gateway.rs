//! The gateway's own time, everything of a request over HTTP but embedding and engine, with 10,000 linked passages; and its
//! memory at rest with the demo's corpus.
//!
//! Requests go one at a time from a client over loopback to a listening gateway, which asks an engine that answers at once.
//! Embedding and engine are subtracted as the decision's own record measured them; the client's side of HTTP is not. What a
//! gateway holds is measured in a process of its own, which reads the corpus in, answers the questions and then rests.

use anyhow::Context;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use weir_embed::{EmbedQueue, TokenCounter};
use weir_gateway::gateway::{Assets, Gateway, MemoryAsset};
use weir_lab::echo::EchoEngine;
use weir_lab::questions::{self, Question};
use weir_lab::results::{Goal, Results, Row};
use weir_lab::stats::quantile;
use weir_memory::ingest::{IngestOptions, ingest};
use weir_memory::{Memory, MemoryConfig};
use weir_plan::{CachePlan, EmbedderPlan, GatewayPlan, MemoryPlan};
use weir_router::Router;

/// As in the weir binary.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PAGES: u64 = 1_000;
const SECTIONS: u64 = 10;
const LINKS_OF_SECTION: u64 = 2;
const SECTION_WORDS: usize = 60;
const DIMENSIONS: usize = 384;
const REQUESTS: usize = 1_000;
const WARM_UP: usize = 50;
/// Questions that are asked again and again where answers are kept.
const REPEATED: usize = 100;
const VECTORS_AT_A_TIME: usize = 512;
/// Half of the requests take the gateway less than this, in milliseconds.
const P50_MS: f64 = 3.0;
/// Resident memory at rest with the demo's corpus.
const RESIDENT_MIB: f64 = 250.0;
/// Set for a child of this program, which says how much memory it holds.
const RESIDENT: &str = "WEIR_GATEWAY_RESIDENT";
/// Rest before memory counts: the allocator gives back what was freed within ten seconds.
const REST: Duration = Duration::from_secs(12);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    if std::env::var_os(RESIDENT).is_some() {
        return say_resident().await;
    }
    let folder = tempfile::tempdir()?;
    let memory = filled(folder.path())?;
    let counts = memory.counts();
    let engine = EchoEngine::start("3.11").await?;
    let embed = weir_bench::embedder()?;
    let counters = weir_bench::counters()?;
    let mut results = Results::new("gateway", "cargo bench -p weir-bench --bench gateway");
    results.notes.push(format!(
        "{REQUESTS} requests, no question twice, one at a time over HTTP on loopback; {} nodes of {DIMENSIONS} dimensions, {} edges; {}; {}; an \
         engine that answers at once; own time is the client's wall clock without embedding and engine",
        counts.nodes,
        counts.edges,
        if embed.is_some() { "vectors and words" } else { "words only" },
        if counters.is_empty() { "estimated token counts" } else { "exact token counts" },
    ));
    let (plan, assets) = served(&engine, (memory.clone(), embed.clone()), counters.clone());
    let gateway = Gateway::new(plan, assets)?;
    let asked = questions::read(None)?;
    // What was recalled for a question is remembered: a number makes each one new.
    let fresh = (asked.iter().cycle().zip(0..))
        .map(|(question, number)| format!("{} ({number})", question.question));
    let Measured {
        own, whole, steps, ..
    } = measured(&gateway, fresh.take(WARM_UP + REQUESTS)).await?;
    let p50 = Row::new("own.p50", "ms", quantile(&own, 0.5)).goal(Goal::AtMost(P50_MS));
    results.rows.push(p50);
    for (metric, times, share) in [
        ("own.p99", &own, 0.99),
        ("request.p50", &whole, 0.5),
        ("request.p99", &whole, 0.99),
    ] {
        results
            .rows
            .push(Row::new(metric, "ms", quantile(times, share)));
    }
    for (step, times) in &steps {
        let metric = format!("{step}.p50");
        results
            .rows
            .push(Row::new(metric, "ms", quantile(times, 0.5)));
    }
    let again = asked.iter().cycle().take(WARM_UP + REQUESTS);
    let repeated = measured(&gateway, again.map(|it| it.question.clone())).await?;
    for (metric, share) in [("repeated.own.p50", 0.5), ("repeated.own.p99", 0.99)] {
        let time = quantile(&repeated.own, share);
        results.rows.push(Row::new(metric, "ms", time));
    }
    let (plan, assets) = served(&engine, (memory, embed), counters);
    keeping(&gateway, (plan, assets), &asked, &mut results).await?;
    match resident()? {
        Some(mib) => {
            let resident = Row::new("resident", "MiB", mib).goal(Goal::AtMost(RESIDENT_MIB));
            results.rows.push(resident);
            results.notes.push(
                "resident: a process that has read the demo's corpus in, with vectors and their graph, has the embedder \
                 and the three models' token counters, has answered every question once, and rests"
                    .to_owned(),
            );
        }
        None => eprintln!("SKIPPED: resident memory, for want of the corpus or a model"),
    }
    weir_bench::publish(&results)
}

/// The same questions again and again, whose answers the gateway keeps.
async fn keeping(
    gateway: &Gateway,
    (mut plan, assets): (GatewayPlan, Assets),
    asked: &[Question],
    results: &mut Results,
) -> anyhow::Result<()> {
    plan.cache = Some(CachePlan {
        entries_max: 10_000,
        ttl_ms: 3_600_000,
        near_duplicates: false,
    });
    gateway.apply(plan, assets)?;
    let once = asked.iter().take(REPEATED);
    measured(gateway, once.map(|it| it.question.clone())).await?;
    let again = asked.iter().take(REPEATED).cycle().take(WARM_UP + REQUESTS);
    let kept = measured(gateway, again.map(|it| it.question.clone())).await?;
    // What a router explores is asked anew now and then.
    let asked_again = kept.asked as f64 / kept.own.len() as f64;
    anyhow::ensure!(
        asked_again < 0.5,
        "{} requests asked the engine",
        kept.asked
    );
    results
        .rows
        .push(Row::new("kept.asked_again", "share", asked_again));
    for (metric, times, share) in [
        ("kept.own.p50", &kept.own, 0.5),
        ("kept.own.p99", &kept.own, 0.99),
        ("kept.request.p50", &kept.whole, 0.5),
    ] {
        results
            .rows
            .push(Row::new(metric, "ms", quantile(times, share)));
    }
    results.notes.push(format!(
        "kept: {REPEATED} questions again and again, whose answers are kept; kept.request.p50 beside request.p50 is what that saves with \
         an engine that answers at once"
    ));
    Ok(())
}

/// Resident memory of a process with the demo's corpus; `None` without corpus, embedder or models.
fn resident() -> anyhow::Result<Option<f64>> {
    let output = Command::new(std::env::current_exe()?)
        .env(RESIDENT, "1")
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(
        output.status.success(),
        "the child that holds the demo's corpus failed"
    );
    let said = String::from_utf8(output.stdout)?;
    match said.trim() {
        "" => Ok(None),
        mib => Ok(Some(mib.parse()?)),
    }
}

async fn say_resident() -> anyhow::Result<()> {
    let (docs, embed) = (weir_testenv::corpus(), weir_bench::embedder()?);
    let counters = weir_bench::counters()?;
    let (Some(docs), Some(embed), false) = (docs, embed, counters.is_empty()) else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let memory = opened(folder.path())?;
    ingest(&memory, &[docs], &IngestOptions::default(), &mut |_| ())?;
    set_vectors(&memory)?;
    memory.settle();
    let engine = EchoEngine::start("3.11").await?;
    let (plan, assets) = served(&engine, (memory, Some(embed)), counters);
    let gateway = Gateway::new(plan, assets)?;
    let questions = questions::read(None)?;
    measured(&gateway, questions.into_iter().map(|it| it.question)).await?;
    tokio::time::sleep(REST).await;
    println!("{}", weir_bench::resident_kib()? as f64 / 1024.0);
    Ok(())
}

/// What a gateway with this memory before an engine serves.
fn served(
    engine: &EchoEngine,
    (store, embed): (Memory, Option<EmbedQueue>),
    counters: HashMap<String, TokenCounter>,
) -> (GatewayPlan, Assets) {
    let assets = Assets {
        memory: Some(MemoryAsset::Open { store, embed }),
        router: Router::builtin(),
        candidate: None,
        counters,
        state_dir: None,
    };
    let plan = engine.plan(&weir_bench::POOLS, Some(memory_plan()));
    (plan, assets)
}

/// Times of all requests, in milliseconds.
#[derive(Default)]
struct Measured {
    /// The gateway's own.
    own: Vec<f64>,
    /// The client's.
    whole: Vec<f64>,
    /// Those of the steps that are the gateway's own, by name.
    steps: BTreeMap<&'static str, Vec<f64>>,
    /// Requests for which the engine was asked.
    asked: usize,
}

async fn measured(
    gateway: &Gateway,
    questions: impl Iterator<Item = String>,
) -> anyhow::Result<Measured> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/v1/chat/completions", listener.local_addr()?);
    let stop = CancellationToken::new();
    let server = tokio::spawn(weir_gateway::serve(gateway.clone(), listener, stop.clone()));
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut measured = Measured::default();
    for (number, question) in questions.enumerate() {
        let messages = json!([{"role": "user", "content": question}]);
        let body = json!({"model": "auto", "messages": messages});
        let started = Instant::now();
        let answer = client
            .post(&url)
            .json(&body)
            .send()
            .await?
            .error_for_status()?;
        let id = answer.headers().get("x-weir-decision").cloned();
        answer.bytes().await?;
        let total = started.elapsed().as_secs_f64() * 1e3;
        let id = id.context("an answer without a decision")?;
        let record = gateway
            .decision(id.to_str()?)
            .context("a decision without a record")?;
        if number < WARM_UP {
            continue;
        }
        let took = record.latency_ms;
        measured.own.push(total - took.embed - took.llm);
        measured.whole.push(total);
        measured.asked += usize::from(!record.is_cached());
        let steps = [
            ("queue", took.queue),
            ("search", took.retrieval),
            ("attend", took.attention),
            ("router", took.router),
            ("prompt", took.prompt),
        ];
        for (step, time) in steps {
            measured.steps.entry(step).or_default().push(time);
        }
    }
    stop.cancel();
    server.await?;
    Ok(measured)
}

/// A memory of pages whose sections follow each other and link to other pages.
fn filled(folder: &Path) -> anyhow::Result<Memory> {
    let pages = folder.join("pages");
    std::fs::create_dir(&pages)?;
    for page in 0..PAGES {
        std::fs::write(pages.join(format!("{page}.md")), page_text(page)?)?;
    }
    let memory = opened(folder)?;
    let report = ingest(&memory, &[pages], &IngestOptions::default(), &mut |_| ())?;
    anyhow::ensure!(
        report.inserted as u64 == PAGES * SECTIONS && report.edges as u64 > PAGES * SECTIONS,
        "the pages became something else: {report:?}"
    );
    set_vectors(&memory)?;
    Ok(memory)
}

fn opened(folder: &Path) -> anyhow::Result<Memory> {
    let config = MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: weir_bench::EMBEDDING_MODEL.to_owned(),
    };
    Ok(Memory::open(&folder.join("memory"), &config)?)
}

/// Directions at random for all nodes, as many at a time as the gateway's own filling sets.
fn set_vectors(memory: &Memory) -> anyhow::Result<()> {
    let mut numbers = 0..;
    loop {
        let pending = memory.pending_vectors(VECTORS_AT_A_TIME)?;
        if pending.is_empty() {
            return Ok(());
        }
        let vectors: Vec<_> = (pending.iter().zip(&mut numbers))
            .map(|((id, _), number)| (*id, weir_bench::direction(number, DIMENSIONS)))
            .collect();
        memory.set_vectors(&vectors)?;
    }
}

fn page_text(page: u64) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for section in 0..SECTIONS {
        let number = page * SECTIONS + section;
        let words = weir_bench::passage(number, SECTION_WORDS);
        write!(text, "# Section {section}\n\n{words}")?;
        for link in 0..LINKS_OF_SECTION {
            // Two primes spread the links over all pages.
            let target = (number * 7919 + link * 104_729 + 1) % PAGES;
            let anchor = (number + link) % SECTIONS;
            write!(text, " See [this]({target}.md#section-{anchor}).")?;
        }
        text.push_str("\n\n");
    }
    Ok(text)
}

fn memory_plan() -> MemoryPlan {
    MemoryPlan {
        name: "bench".to_owned(),
        embedding_model: weir_bench::EMBEDDING_MODEL.to_owned(),
        dimensions: DIMENSIONS,
        service: None,
        embedder: EmbedderPlan::InProcess {
            source: weir_bench::EMBEDDING_MODEL.to_owned(),
        },
        seeds: 64,
        hops: 2,
        nodes_max: 256,
        summaries: None,
    }
}
