//! Weir's binary under two million requests: none fails, and its memory stays as it is.
//!
//! A pinned model before the scripted engine, whole answers over 32 connections, and after every round 64 streams that end and 64 whose
//! client leaves in the middle. `WEIR_SOAK_REQUESTS` asks for another number.

use std::time::Duration;
use weir_bench::load;
use weir_bench::proxies::Proxy;
use weir_bench::upstream::Upstream;
use weir_lab::results::{Goal, Results, Row};

const REQUESTS: u64 = 2_000_000;
const CONNECTIONS: usize = 32;
/// Time of one round, after which memory is looked at.
const ROUND: Duration = Duration::from_secs(5);
/// Streams after each round, their events, and how far apart these are.
const STREAMS: (usize, u64, Duration) = (64, 20, Duration::from_millis(5));
/// Share of the requests after which everything that is kept is as large as it becomes.
const WARM: f64 = 0.1;
/// Most that a million requests may add, in MiB.
const GROWTH_MAX: f64 = 1.0;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let wanted = match std::env::var("WEIR_SOAK_REQUESTS") {
        Ok(wanted) => wanted.parse()?,
        Err(_) => REQUESTS,
    };
    let folder = tempfile::tempdir()?;
    let engine = Upstream::start().await?;
    let weir = Proxy::weir("weir", &engine.url, folder.path()).await?;
    let (streams, events, gap) = STREAMS;
    let mut asked = 0;
    // Millions of requests and MiB.
    let mut samples: Vec<(f64, f64)> = Vec::new();
    while asked < wanted {
        engine.streams(1, Duration::ZERO);
        asked += load::closed(&weir.address, CONNECTIONS, ROUND)
            .await?
            .answers;
        engine.streams(events, gap);
        drop(load::open_streams(&weir.address, streams).await?);
        for stream in load::open_streams(&weir.address, streams).await? {
            stream.finish().await?;
        }
        asked += 2 * streams as u64;
        let mib = weir.resident_kib()? as f64 / 1024.0;
        eprintln!("{asked} of {wanted} requests, {mib:.1} MiB");
        samples.push((asked as f64 / 1e6, mib));
    }
    let warm = WARM * wanted as f64 / 1e6;
    samples.retain(|(asked, _)| *asked >= warm);
    let mut results = Results::new("soak", "make bench-soak");
    results.notes.push(format!(
        "a process of its own with a pinned model and its log of decisions; whole answers over {CONNECTIONS} connections, and every {} s \
         {streams} streams of {events} events that end and as many whose client leaves; a request that fails ends the run; memory is \
         resident memory, growth the slope of a line through it after the first tenth",
        ROUND.as_secs(),
    ));
    results.rows.extend([
        Row::new("requests", "requests", asked as f64).goal(Goal::AtLeast(2e6)),
        Row::new("growth", "MiB a million requests", slope(&samples))
            .goal(Goal::AtMost(GROWTH_MAX)),
    ]);
    if let (Some((_, first)), Some((_, last))) = (samples.first(), samples.last()) {
        results.rows.push(Row::new("resident.warm", "MiB", *first));
        results.rows.push(Row::new("resident.end", "MiB", *last));
    }
    weir_bench::publish(&results)
}

/// Slope of the line of least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| {
        (x + point.0 / count, y + point.1 / count)
    });
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        let away = point.0 - x;
        (above + away * (point.1 - y), below + away * away)
    });
    above / below
}
