//! Nearest neighbours: the graph of weir-memory next to faiss, hnswlib and usearch, on the same vectors and queries.
//!
//! Every index has M 32 and efConstruction 200 and one thread; searches alternate between them, and the middle round of
//! each counts. `WEIR_ANN_SIZES=2000` measures other numbers of vectors, the feature `ruvector` adds its rows.

use anyhow::Context;
#[cfg(feature = "ruvector")]
use ruvector_core::types::HnswConfig;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use weir_bench::peers::{self, Peers};
use weir_bench::points::{self, DIMENSIONS, Points};
#[cfg(feature = "ruvector")]
use weir_bench::ruvector::RuVector;
use weir_lab::results::{Goal, Results, Row};
use weir_lab::stats::quantile;
use weir_memory::{
    Batch, Effort, Filter, HnswParameters, Memory, MemoryConfig, NewNode, NodeId, Query,
};

const SIZES: [usize; 2] = [15_000, 60_000];
const QUERIES: usize = 1_000;
/// Queries by words and vector.
const ASKED: usize = 100;
const EFS: [usize; 2] = [32, 64];
const K: usize = 10;
const ROUNDS: usize = 5;
/// Parts of the queries, from those whose nearest is far to those whose nearest is near.
const BUCKETS: usize = 10;
/// Share of the ten nearest that is found at the larger ef.
const RECALL_MIN: f64 = 0.987;
/// Set for a child of this program: the store that it opens to say how much memory that takes.
const RESIDENT: &str = "WEIR_ANN_RESIDENT";

/// Builds a graph over any of the sizes.
const PARAMETERS: HnswParameters = HnswParameters {
    links: 32,
    ef_construction: 200,
    ef_search: 64,
    exact_max: 1_000,
};

/// Builds none.
const EXACT: HnswParameters = HnswParameters {
    exact_max: usize::MAX,
    ..PARAMETERS
};

fn main() -> anyhow::Result<()> {
    if let Some(folder) = std::env::var_os(RESIDENT) {
        return say_resident(Path::new(&folder));
    }
    let sizes = match std::env::var("WEIR_ANN_SIZES") {
        Ok(sizes) => sizes.split(',').map(str::parse).collect::<Result<_, _>>()?,
        Err(_) => SIZES.to_vec(),
    };
    let mut results = Results::new("ann", "cargo bench -p weir-bench --bench ann");
    results.notes.push(format!(
        "{DIMENSIONS} dimensions, M {}, efConstruction {}, one thread each; recall of the {K} nearest over {QUERIES} queries, \
         and in the worst of {BUCKETS} buckets by the cosine of the nearest; queries/s are the middle of {ROUNDS} rounds that alternate between the indexes",
        PARAMETERS.links, PARAMETERS.ef_construction,
    ));
    results.notes.push(
        "ours is `Memory::nearest` on an open store: its memory holds the whole index (words, labels, ids) and open reads \
         every row; the peers hold vectors and links only and keep nothing on disk"
            .to_owned(),
    );
    for size in sizes {
        measure(size, &mut results)?;
    }
    weir_bench::publish(&results)
}

fn measure(size: usize, results: &mut Results) -> anyhow::Result<()> {
    let points = Points::new(size, QUERIES)?;
    results.notes.push(format!("{size}: {}", points.what));
    let folder = tempfile::tempdir()?;
    for (name, rows) in [("vectors", &points.vectors), ("queries", &points.queries)] {
        std::fs::write(
            folder.path().join(name).with_extension("f32"),
            points::to_bytes(rows),
        )?;
    }
    let store = folder.path().join("memory");
    write(&store, &points.vectors)?;
    let exact = Exact::of(&store, &points.queries)?;
    let ours = Ours::of(&store)?;
    let numbers = [DIMENSIONS, PARAMETERS.links, PARAMETERS.ef_construction];
    let mut peers = Peers::start(folder.path(), numbers)?;
    let mut built = Vec::new();
    for name in peers::NAMES {
        if let Some(peers) = &mut peers {
            built.push(Built::of(peers, name)?);
        }
    }
    #[cfg(feature = "ruvector")]
    let rust = ruvector(size, &points.vectors, folder.path(), results)?;
    for ef in EFS {
        let mut race = Race::default();
        for _ in 0..ROUNDS {
            let (found, seconds) = nearest(&ours.memory, &points.queries, Effort::Walk(ef))?;
            race.note("weir", seconds, exact.recall(&ids(found)));
            #[cfg(feature = "ruvector")]
            for (name, peer) in &rust {
                let started = Instant::now();
                let found = (points.queries.iter())
                    .map(|query| peer.nearest(query, K, ef))
                    .collect::<Result<Vec<_>, _>>()?;
                let seconds = started.elapsed().as_secs_f64();
                let ids = |places: &Vec<usize>| places.iter().map(|place| id(*place)).collect();
                let found: Vec<Vec<NodeId>> = found.iter().map(ids).collect();
                race.note(name, seconds, exact.recall(&found));
            }
            for peer in &built {
                let process = peers.as_mut().context("peers that were built")?;
                let answer = process.ask(&format!("search {} {ef} {K}", peer.name))?;
                let found = read_found(&folder.path().join("found.u32"))?;
                let seconds = answer["seconds"].as_f64().context("seconds")?;
                race.note(peer.name, seconds, exact.recall(&found));
            }
        }
        race.rows(&format!("{size}.ef{ef}"), ef == EFS[1], results);
    }
    let fused_ms = fused(&ours.memory, &points.queries[..ASKED])?;
    let fused = Row::new(format!("{size}.search.p50"), "ms", fused_ms);
    results
        .rows
        .push(fused.against("comparing all", exact.fused_ms));
    results
        .rows
        .push(Row::new(format!("{size}.exact"), "queries/s", exact.rate));
    costs(size, &ours, &built, results);
    Ok(())
}

/// What comparing all finds, and how long it takes.
struct Exact {
    truth: Vec<Vec<NodeId>>,
    /// The queries by the cosine of their nearest, in [`BUCKETS`] of about the same size.
    buckets: Vec<Vec<usize>>,
    rate: f64,
    fused_ms: f64,
}

impl Exact {
    fn of(store: &Path, queries: &[Vec<f32>]) -> anyhow::Result<Self> {
        let memory = timed_open(store, EXACT)?.0;
        let (truth, seconds) = nearest(&memory, queries, Effort::Exact)?;
        let mut order: Vec<usize> = (0..queries.len()).collect();
        order.sort_by(|a, b| truth[*a][0].1.total_cmp(&truth[*b][0].1));
        let buckets = order.chunks(queries.len().div_ceil(BUCKETS));
        Ok(Self {
            buckets: buckets.map(<[usize]>::to_vec).collect(),
            truth: ids(truth),
            rate: queries.len() as f64 / seconds,
            fused_ms: fused(&memory, &queries[..ASKED])?,
        })
    }

    /// What of the truth was found.
    fn recall(&self, found: &[Vec<NodeId>]) -> Recall {
        let of = |query: &usize| {
            let truth = self.truth[*query].iter();
            truth.filter(|id| found[*query].contains(id)).count() as f64 / K as f64
        };
        let mean = |queries: &[usize]| queries.iter().map(of).sum::<f64>() / queries.len() as f64;
        let all: Vec<usize> = (0..found.len()).collect();
        let buckets = self.buckets.iter().map(|queries| mean(queries));
        Recall {
            mean: mean(&all),
            worst: buckets.fold(1.0, f64::min),
        }
    }
}

/// Share of the nearest that was found.
#[derive(Clone, Copy)]
struct Recall {
    mean: f64,
    /// In the bucket of queries where it is least.
    worst: f64,
}

/// Our store with its graph, and what it cost.
struct Ours {
    memory: Memory,
    build_s: f64,
    open_s: f64,
    /// Without a snapshot, so that searches are exact at first.
    open_without_s: f64,
    resident: f64,
}

impl Ours {
    fn of(store: &Path) -> anyhow::Result<Self> {
        let (memory, open_without_s) = timed_open(store, PARAMETERS)?;
        let started = Instant::now();
        memory.settle();
        let build_s = started.elapsed().as_secs_f64();
        drop(memory);
        let resident = resident(store)?;
        let (memory, open_s) = timed_open(store, PARAMETERS)?;
        anyhow::ensure!(
            memory
                .graph_counts()
                .is_some_and(|counts| counts.waiting == 0),
            "the snapshot was not read: {:?}",
            memory.snapshot_problem()
        );
        Ok(Self {
            memory,
            build_s,
            open_s,
            open_without_s,
            resident,
        })
    }
}

/// A peer's index and what it cost.
struct Built {
    name: &'static str,
    version: String,
    seconds: f64,
    bytes: f64,
}

impl Built {
    fn of(peers: &mut Peers, name: &'static str) -> anyhow::Result<Self> {
        let answer = peers.ask(&format!("build {name}"))?;
        let number = |field: &str| answer[field].as_f64().context("a number");
        Ok(Self {
            name,
            version: answer["version"].as_str().unwrap_or_default().to_owned(),
            seconds: number("seconds")?,
            bytes: number("bytes")?,
        })
    }
}

/// ruvector's index and its database, built here one after the other.
#[cfg(feature = "ruvector")]
fn ruvector(
    size: usize,
    vectors: &[Vec<f32>],
    folder: &Path,
    results: &mut Results,
) -> anyhow::Result<Vec<(&'static str, RuVector)>> {
    let config = HnswConfig {
        m: PARAMETERS.links,
        ef_construction: PARAMETERS.ef_construction,
        ef_search: PARAMETERS.ef_search,
        max_elements: vectors.len(),
    };
    let file = folder.join("ruvector.db");
    let mut built = Vec::new();
    for name in ["ruvector", "ruvector-db"] {
        let (before, started) = (weir_bench::resident_kib()?, Instant::now());
        let index = match name {
            "ruvector" => RuVector::index(vectors, config.clone())?,
            _ => RuVector::database(&file, vectors, config.clone())?,
        };
        let seconds = started.elapsed().as_secs_f64();
        let mib = weir_bench::resident_kib()?.saturating_sub(before) as f64 / 1024.0;
        let metric = |what: &str| format!("{size}.{name}.{what}");
        results.rows.extend([
            Row::new(metric("build"), "s", seconds),
            Row::new(metric("resident"), "MiB", mib),
        ]);
        built.push((name, index));
    }
    results.notes.push(format!(
        "{size}: ruvector-core {}; its index answers with names and keeps a second copy of the vectors, its database reads \
         each answer from its file",
        weir_bench::ruvector::VERSION
    ));
    Ok(built)
}

/// Time to build and to open, and memory.
fn costs(size: usize, ours: &Ours, built: &[Built], results: &mut Results) {
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let name = |metric: &str| format!("{size}.{metric}");
    let mut build = Row::new(name("build"), "s", ours.build_s);
    let mut resident = Row::new(name("resident"), "MiB", mib(ours.resident));
    if let Some(faiss) = built.iter().find(|peer| peer.name == "faiss") {
        build = build.against("faiss", faiss.seconds);
        resident = resident.against("faiss", mib(faiss.bytes));
    }
    let open = Row::new(name("open"), "s", ours.open_s);
    let open = open.against("without a snapshot", ours.open_without_s);
    results.rows.extend([build, open, resident]);
    for peer in built.iter().filter(|peer| peer.name != "faiss") {
        let seconds = Row::new(name(&format!("{}.build", peer.name)), "s", peer.seconds);
        let bytes = Row::new(
            name(&format!("{}.resident", peer.name)),
            "MiB",
            mib(peer.bytes),
        );
        results.rows.extend([seconds, bytes]);
    }
    let versions: Vec<String> = (built.iter())
        .map(|peer| format!("{} {}", peer.name, peer.version))
        .collect();
    if !versions.is_empty() {
        results
            .notes
            .push(format!("{size}: {}", versions.join(", ")));
    }
}

/// Seconds and recall of each index by round.
#[derive(Default)]
struct Race {
    entries: Vec<(String, Vec<f64>, Recall)>,
}

impl Race {
    fn note(&mut self, name: &str, seconds: f64, recall: Recall) {
        match self.entries.iter_mut().find(|entry| entry.0 == name) {
            Some(entry) => entry.1.push(seconds),
            None => self.entries.push((name.to_owned(), vec![seconds], recall)),
        }
    }

    fn rows(&self, prefix: &str, judged: bool, results: &mut Results) {
        let rate = |seconds: &[f64]| QUERIES as f64 / quantile(seconds, 0.5);
        let faiss = self.entries.iter().find(|entry| entry.0 == "faiss");
        for (name, seconds, recall) in &self.entries {
            let mut found = Row::new(format!("{prefix}.{name}.recall"), "share", recall.mean);
            let mut worst = Row::new(
                format!("{prefix}.{name}.recall.worst"),
                "share",
                recall.worst,
            );
            let mut speed = Row::new(format!("{prefix}.{name}"), "queries/s", rate(seconds));
            if name == "weir" {
                if let Some((_, seconds, faiss_recall)) = faiss {
                    found = found.against("faiss", faiss_recall.mean);
                    worst = worst.against("faiss", faiss_recall.worst);
                    speed = speed.against("faiss", rate(seconds));
                    speed = speed.goal(Goal::AtLeast(rate(seconds).floor()));
                }
                if judged {
                    found = found.goal(Goal::AtLeast(RECALL_MIN));
                }
            }
            results.rows.extend([found, worst, speed]);
        }
    }
}

/// The node of the vector at a place.
fn id(place: usize) -> NodeId {
    NodeId::derived("bench", "point", place)
}

fn write(folder: &Path, vectors: &[Vec<f32>]) -> anyhow::Result<()> {
    let memory = timed_open(folder, EXACT)?.0;
    for first in (0..vectors.len()).step_by(1_000) {
        let places = first..vectors.len().min(first + 1_000);
        let nodes = places.map(|place| NewNode {
            id: id(place),
            vector: Some(vectors[place].clone()),
            ..NewNode::new("bench", weir_bench::passage(place as u64, 20))
        });
        memory.write(&Batch {
            nodes: nodes.collect(),
            ..Batch::default()
        })?;
    }
    Ok(())
}

fn timed_open(folder: &Path, parameters: HnswParameters) -> anyhow::Result<(Memory, f64)> {
    let config = MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: weir_bench::EMBEDDING_MODEL.to_owned(),
    };
    let started = Instant::now();
    let memory = Memory::open_with(folder, &config, parameters)?;
    Ok((memory, started.elapsed().as_secs_f64()))
}

/// The nearest nodes to one question, with their cosines.
type Nearest = Vec<(NodeId, f32)>;

/// The nearest of each query with their cosines, and the seconds of all.
fn nearest(
    memory: &Memory,
    queries: &[Vec<f32>],
    effort: Effort,
) -> anyhow::Result<(Vec<Nearest>, f64)> {
    let mut found = Vec::with_capacity(queries.len());
    let started = Instant::now();
    for query in queries {
        found.push(memory.nearest(query, None, K, effort)?);
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok((found, seconds))
}

fn ids(found: Vec<Vec<(NodeId, f32)>>) -> Vec<Vec<NodeId>> {
    let of = |hits: Vec<(NodeId, f32)>| hits.into_iter().map(|(id, _)| id).collect();
    found.into_iter().map(of).collect()
}

/// Middle time of the search that a request makes, by words and vector, in milliseconds.
fn fused(memory: &Memory, queries: &[Vec<f32>]) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for (number, vector) in (1_000_000..).zip(queries) {
        let query = Query {
            text: weir_bench::passage(number, 8),
            vector: Some(vector.clone()),
            filter: Filter {
                tenant: "bench".to_owned(),
                ..Filter::default()
            },
            k: 64,
            ..Query::default()
        };
        let started = Instant::now();
        memory.search(&query)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(quantile(&times, 0.5))
}

/// What the peers found.
fn read_found(file: &Path) -> anyhow::Result<Vec<Vec<NodeId>>> {
    let bytes = std::fs::read(file)?;
    let (places, _) = bytes.as_chunks::<4>();
    let ids: Vec<NodeId> = places
        .iter()
        .map(|place| id(u32::from_le_bytes(*place) as usize))
        .collect();
    Ok(ids.chunks(K).map(<[NodeId]>::to_vec).collect())
}

/// Bytes that a process of its own needs to hold the store open.
fn resident(store: &Path) -> anyhow::Result<f64> {
    let output = Command::new(std::env::current_exe()?)
        .env(RESIDENT, store)
        .output()?;
    anyhow::ensure!(
        output.status.success(),
        "the child that opens the store failed"
    );
    let said = String::from_utf8(output.stdout)?;
    said.trim()
        .parse()
        .with_context(|| format!("bytes, not {said:?}"))
}

fn say_resident(store: &Path) -> anyhow::Result<()> {
    let before = weir_bench::resident_kib()?;
    let memory = timed_open(store, PARAMETERS)?.0;
    let mut said = String::new();
    writeln!(said, "{}", (weir_bench::resident_kib()? - before) * 1024)?;
    drop(memory);
    print!("{said}");
    Ok(())
}
