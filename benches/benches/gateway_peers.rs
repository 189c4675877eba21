//! Weir's binary beside other gateways, each before the same scripted engine: what it adds to an answer at a low rate, answers a second
//! at 32 connections, what an event of a stream costs, and memory under 1,000 open streams.
//!
//! Rounds alternate between the engine itself and all gateways in one session. Client, engine and gateway share the machine's
//! processors. `WEIR_PEER_ROUNDS=2` measures fewer rounds.

use futures_util::future::try_join_all;
use std::sync::Arc;
use std::time::Duration;
use weir_bench::load::{self, Address};
use weir_bench::proxies::{self, OTHERS, Proxy};
use weir_bench::upstream::Upstream;
use weir_lab::results::{Goal, Results, Row};
use weir_lab::stats::{mean_interval, quantile, ratio_interval};

const ROUNDS: usize = 10;
/// Requests of one round at the low rate, and how far apart they are.
const STEADY: (usize, Duration) = (150, Duration::from_millis(20));
const CONNECTIONS: usize = 32;
/// Time of one round of the closed loop.
const CLOSED: Duration = Duration::from_secs(2);
/// Streams of one round, their events, and how far apart these are.
const STREAMS: (usize, u64, Duration) = (32, 200, Duration::from_millis(10));
const OPEN_STREAMS: usize = 1_000;
/// Whose numbers the goals are ratios of.
const RIVAL: &str = "vllm-router";
const SEED: u64 = 1;
/// What is measured, as failures name it.
const HOLDING: &str = "holding open streams";
const STEADILY: &str = "answering at a low rate";
const CLOSELY: &str = "answering 32 connections";
const STREAMING: &str = "streaming";

/// One entrant of the race and what was measured of it, a number for each round.
struct Entrant {
    name: &'static str,
    address: Arc<Address>,
    /// Its place among the processes; `None` for the engine itself.
    proxy: Option<usize>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    rate: Vec<f64>,
    /// Microseconds of its processors an event of a stream.
    event_us: Vec<f64>,
    /// 99th percentile of how long events were on their way, milliseconds.
    event_p99_ms: Vec<f64>,
    resident_mib: Option<f64>,
    /// What it could not do, and why; it is not asked to do it again.
    failed: Vec<(&'static str, String)>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let rounds = match std::env::var("WEIR_PEER_ROUNDS") {
        Ok(rounds) => rounds.parse()?,
        Err(_) => ROUNDS,
    };
    let folder = tempfile::tempdir()?;
    let engine = Upstream::start().await?;
    let mut results = Results::new("gateway-peers", "make bench-gateway");
    let proxies = started(&engine, folder.path(), &mut results).await?;
    let mut entrants = entrants(&engine, &proxies);
    // Memory first: a process is as its users start it.
    for entrant in &mut entrants {
        let opened = resident(&engine, entrant, &proxies).await;
        entrant.note(HOLDING, opened);
    }
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        // A router asks for a stream where its client asks for a whole answer.
        engine.streams(1, Duration::ZERO);
        for entrant in entrants.iter_mut().filter(|entrant| entrant.can(STEADILY)) {
            let steady = steady(entrant).await;
            entrant.note(STEADILY, steady);
        }
        for entrant in entrants.iter_mut().filter(|entrant| entrant.can(CLOSELY)) {
            let closed = load::closed(&entrant.address, CONNECTIONS, CLOSED).await;
            let rate = closed.map(|closed| entrant.rate.push(closed.rate));
            entrant.note(CLOSELY, rate);
        }
        for entrant in entrants.iter_mut().filter(|entrant| entrant.can(STREAMING)) {
            let streamed = streamed(&engine, entrant, &proxies).await;
            entrant.note(STREAMING, streamed);
        }
    }
    notes(rounds, &entrants, &mut results);
    rows(&entrants, &mut results);
    weir_bench::publish(&results)
}

/// Weir and everybody else who starts; the results say who did not.
async fn started(
    engine: &Upstream,
    folder: &std::path::Path,
    results: &mut Results,
) -> anyhow::Result<Vec<Proxy>> {
    let mut proxies = vec![Proxy::weir("weir", &engine.url, folder).await?];
    for name in OTHERS {
        match Proxy::other(name, &engine.url, folder).await {
            Ok(proxy) => proxies.push(proxy),
            Err(error) => {
                eprintln!("SKIPPED: {name} is not compared: {error:#}");
                results
                    .notes
                    .push(format!("MISSING: {name} is not compared: {error:#}"));
            }
        }
    }
    Ok(proxies)
}

/// The engine itself and every gateway.
fn entrants(engine: &Upstream, proxies: &[Proxy]) -> Vec<Entrant> {
    let direct = Address::plain(engine.url.trim_start_matches("http://"));
    let direct = Entrant::new("direct", Arc::new(direct), None);
    let gateways = proxies.iter().enumerate();
    let gateways = gateways
        .map(|(number, proxy)| Entrant::new(proxy.name, Arc::clone(&proxy.address), Some(number)));
    [direct].into_iter().chain(gateways).collect()
}

impl Entrant {
    fn new(name: &'static str, address: Arc<Address>, proxy: Option<usize>) -> Self {
        Self {
            name,
            address,
            proxy,
            p50_ms: Vec::new(),
            p99_ms: Vec::new(),
            rate: Vec::new(),
            event_us: Vec::new(),
            event_p99_ms: Vec::new(),
            resident_mib: None,
            failed: Vec::new(),
        }
    }

    fn can(&self, what: &str) -> bool {
        self.failed.iter().all(|(failed, _)| *failed != what)
    }

    /// Takes note of a measurement that failed.
    fn note(&mut self, what: &'static str, done: anyhow::Result<()>) {
        if let Err(error) = done {
            eprintln!("FAILED: {} {what}: {error:#}", self.name);
            self.failed.push((what, format!("{error:#}")));
        }
    }
}

/// Latencies at the low rate.
async fn steady(entrant: &mut Entrant) -> anyhow::Result<()> {
    let (count, gap) = STEADY;
    let latencies = load::steadily(&entrant.address, count, gap).await?;
    entrant.p50_ms.push(quantile(&latencies, 0.5));
    entrant.p99_ms.push(quantile(&latencies, 0.99));
    Ok(())
}

/// What events of streams cost, and how long they take.
async fn streamed(
    engine: &Upstream,
    entrant: &mut Entrant,
    proxies: &[Proxy],
) -> anyhow::Result<()> {
    let (streams, events, gap) = STREAMS;
    engine.streams(events, gap);
    let opened = load::open_streams(&entrant.address, streams).await?;
    let proxy = entrant.proxy.map(|number| &proxies[number]);
    let ran_ns = || proxy.map_or(Ok(0), Proxy::ran_ns);
    let before = ran_ns()?;
    let delays = try_join_all(opened.into_iter().map(load::Stream::finish))
        .await?
        .concat();
    let ran_ns = ran_ns()? - before;
    let missing = streams as u64 * events - delays.len() as u64;
    anyhow::ensure!(
        missing <= streams as u64 * 20,
        "{missing} events did not come"
    );
    entrant
        .event_us
        .push(ran_ns as f64 / 1e3 / delays.len() as f64);
    entrant.event_p99_ms.push(quantile(&delays, 0.99));
    Ok(())
}

/// Memory under open streams, which send an event now and then.
async fn resident(
    engine: &Upstream,
    entrant: &mut Entrant,
    proxies: &[Proxy],
) -> anyhow::Result<()> {
    let Some(number) = entrant.proxy else {
        return Ok(());
    };
    engine.streams(600, Duration::from_millis(500));
    let streams = load::open_streams(&entrant.address, OPEN_STREAMS).await?;
    let kib = proxies[number].resident_kib()?;
    entrant.resident_mib = Some(kib as f64 / 1024.0);
    drop(streams);
    Ok(())
}

fn notes(rounds: usize, entrants: &[Entrant], results: &mut Results) {
    let (count, gap) = STEADY;
    let (streams, events, event_gap) = STREAMS;
    results.notes.extend([
        "client, engine and gateway share the processors; the client and the engine are one process of two threads, each gateway is \
         a process with its own defaults, without authentication and with one replica"
            .to_owned(),
        format!(
            "{rounds} rounds that alternate between all; values are means over rounds with bootstrap intervals. added: {count} whole \
             answers, one every {} ms, quantile less that of the engine itself in the same round; rate: whole answers at {CONNECTIONS} \
             connections; event: processor time of the gateway over the events of {streams} streams of {events} events {} ms apart; \
             event.delay.p99: from the engine to the client; resident: after the first event of {OPEN_STREAMS} streams",
            gap.as_millis(),
            event_gap.as_millis(),
        ),
        "weir is a pinned model; weir-auto another process that has a memory, an empty one with its embedder in process, and a router: \
         every question is embedded and a model is chosen"
            .to_owned(),
        format!("pinned: {}", proxies::versions()),
    ]);
    for entrant in entrants {
        for (what, why) in &entrant.failed {
            let name = entrant.name;
            results.notes.push(format!("FAILED: {name} {what}: {why}"));
        }
    }
}

fn rows(entrants: &[Entrant], results: &mut Results) {
    let direct = &entrants[0];
    let added = |times: &[f64], direct: &[f64]| -> Vec<f64> {
        times
            .iter()
            .zip(direct)
            .map(|(time, direct)| time - direct)
            .collect()
    };
    let measures = |entrant: &Entrant| {
        [
            ("added.p50", "ms", added(&entrant.p50_ms, &direct.p50_ms)),
            ("added.p99", "ms", added(&entrant.p99_ms, &direct.p99_ms)),
            ("rate", "requests/s", entrant.rate.clone()),
            ("event", "us", entrant.event_us.clone()),
            ("event.delay.p99", "ms", entrant.event_p99_ms.clone()),
        ]
    };
    let weir = &entrants[1];
    if let Some(rival) = entrants.iter().find(|entrant| entrant.name == RIVAL) {
        let goals = [
            Goal::AtMost(0.6),
            Goal::AtMost(1.0),
            Goal::AtLeast(1.25),
            Goal::AtMost(1.0),
            Goal::AtMost(1.0),
        ];
        for (((metric, _, ours), (_, _, theirs)), goal) in
            measures(weir).into_iter().zip(measures(rival)).zip(goals)
        {
            let ratio = Row::interval(
                format!("{metric}.of_{RIVAL}"),
                "ratio",
                ratio_interval(&ours, &theirs, SEED),
            );
            let row = if metric == "event.delay.p99" {
                ratio
            } else {
                ratio.goal(goal)
            };
            results.rows.push(row);
        }
        if let (Some(ours), Some(theirs)) = (weir.resident_mib, rival.resident_mib) {
            let ratio = Row::new(format!("resident.of_{RIVAL}"), "ratio", ours / theirs);
            results.rows.push(ratio.goal(Goal::AtMost(0.5)));
        }
    }
    for entrant in entrants {
        for (metric, unit, values) in measures(entrant) {
            let is_base =
                entrant.name == "direct" && (metric.starts_with("added") || metric == "event");
            if values.is_empty() || is_base {
                continue;
            }
            let name = format!("{metric}.{}", entrant.name);
            results
                .rows
                .push(Row::interval(name, unit, mean_interval(&values, SEED)));
        }
        if let Some(mib) = entrant.resident_mib {
            results
                .rows
                .push(Row::new(format!("resident.{}", entrant.name), "MiB", mib));
        }
    }
    let base = Row::new("direct.p50", "ms", quantile(&direct.p50_ms, 0.5));
    results.rows.push(base);
}
