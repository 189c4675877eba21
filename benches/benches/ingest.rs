//! How many passages a second become durable nodes, without embedding, and how the time grows with the edges.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;
use weir_lab::results::{Goal, Results, Row};
use weir_memory::ingest::{IngestOptions, IngestReport, ingest};
use weir_memory::{Memory, MemoryConfig};

const FILES: u64 = 200;
const SECTIONS: u64 = 20;
const WORDS: usize = 120;
/// Passages a second to reach.
const RATE_MIN: f64 = 2000.0;
/// Edges to make, each ten times as many as the ones before.
const EDGES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Edges that a record of [`records`] gets, about.
const EDGES_OF_RECORD: u64 = 10;
/// Records in one file.
const RECORDS_OF_FILE: u64 = 10_000;
/// Least share of the edges a second at the fewest edges that is left at the most: all of it would be linear.
const LINEAR_MIN: f64 = 0.5;

fn main() -> anyhow::Result<()> {
    let mut results = Results::new("ingest", "cargo bench -p weir-bench --bench ingest");
    pages(&mut results)?;
    manual(&mut results)?;
    edges(&mut results)?;
    weir_bench::publish(&results)
}

/// A memory that is empty, and the folder of both it and its documents.
struct World {
    folder: tempfile::TempDir,
    memory: Memory,
}

impl World {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("docs"))?;
        let config = MemoryConfig {
            dimensions: 384,
            embedding_model: "none".to_owned(),
        };
        let memory = Memory::open(&folder.path().join("memory"), &config)?;
        Ok(Self { folder, memory })
    }

    fn docs(&self) -> PathBuf {
        self.folder.path().join("docs")
    }

    /// Reads `path` in and says how many seconds it took.
    fn ingest(&self, path: PathBuf) -> anyhow::Result<(IngestReport, f64)> {
        let started = Instant::now();
        let report = ingest(
            &self.memory,
            &[path],
            &IngestOptions::default(),
            &mut |_| (),
        )?;
        anyhow::ensure!(report.bad.is_empty(), "not everything was read: {report:?}");
        Ok((report, started.elapsed().as_secs_f64()))
    }
}

/// Synthetic pages, and the same again.
fn pages(results: &mut Results) -> anyhow::Result<()> {
    let world = World::new()?;
    for file in 0..FILES {
        let path = world.docs().join(format!("page-{file:03}.md"));
        std::fs::write(path, page(file))?;
    }
    let (first, first_s) = world.ingest(world.docs())?;
    let (again, again_s) = world.ingest(world.docs())?;
    anyhow::ensure!(
        again.unchanged == first.inserted,
        "re-ingest changed something: {again:?}"
    );
    results.notes.push(format!(
        "{FILES} Markdown files, {} passages, {} edges, durable when counted; no embedding",
        first.inserted, first.edges
    ));
    let rate = Row::new("ingest", "passages/s", first.inserted as f64 / first_s);
    results.rows.push(rate.goal(Goal::AtLeast(RATE_MIN)));
    let again = Row::new(
        "ingest_unchanged",
        "passages/s",
        first.inserted as f64 / again_s,
    );
    results.rows.push(again);
    Ok(())
}

/// The manual of Python, where it is installed.
fn manual(results: &mut Results) -> anyhow::Result<()> {
    let Some(docs) = weir_testenv::corpus() else {
        return Ok(());
    };
    let world = World::new()?;
    let (report, seconds) = world.ingest(docs)?;
    results.notes.push(format!(
        "Python manual: {} HTML files, {} passages, {} edges",
        report.files, report.inserted, report.edges
    ));
    let rate = report.inserted as f64 / seconds;
    let row = Row::new("ingest_python_docs", "passages/s", rate);
    results.rows.push(row.goal(Goal::AtLeast(RATE_MIN)));
    Ok(())
}

/// Records that link, mention and share names, up to a million edges.
fn edges(results: &mut Results) -> anyhow::Result<()> {
    let mut fewest = None;
    for wanted in EDGES {
        let world = World::new()?;
        let count = wanted / EDGES_OF_RECORD;
        for file in 0..count.div_ceil(RECORDS_OF_FILE) {
            let path = world.docs().join(records_file(file));
            std::fs::write(path, records(file, count))?;
        }
        let (report, seconds) = world.ingest(world.docs())?;
        let rate = report.edges as f64 / seconds;
        results.notes.push(format!(
            "{wanted} edges wanted: {} passages, {} edges in {seconds:.1} s",
            report.inserted, report.edges
        ));
        let mut row = Row::new(format!("ingest_edges_{wanted}"), "edges/s", rate);
        match fewest {
            None => fewest = Some(rate),
            Some(fewest) => row = row.goal(Goal::AtLeast(LINEAR_MIN * fewest)),
        }
        results.rows.push(row);
    }
    Ok(())
}

/// A page of sections that link to the next page and mention it.
fn page(file: u64) -> String {
    let next = (file + 1) % FILES;
    let mut text = format!("# Page {file}\n\n");
    for section in 0..SECTIONS {
        let body = weir_bench::passage(file * SECTIONS + section, WORDS);
        let _ = write!(text, "## Section {file}.{section}\n\n{body}\n\n");
    }
    let _ = writeln!(text, "See [page {next}](page-{next:03}.md).");
    text
}

/// The records of a file, of `count` in all: four links, four mentions and two names that four of them share.
fn records(file: u64, count: u64) -> String {
    let mut lines = String::new();
    for record in (file * RECORDS_OF_FILE..count).take(RECORDS_OF_FILE as usize) {
        let other = |step: u64| (record * 7919 + step * 104_729 + 1) % count;
        let mentioned: Vec<String> = (0..4).map(|step| name(other(step))).collect();
        let link = |to: u64| format!("{}#{to}", records_file(to / RECORDS_OF_FILE));
        let links: Vec<String> = (4..8).map(|step| link(other(step))).collect();
        let text = format!(
            "{} He met {}. They saw Mount A{} and the B{} River.",
            weir_bench::passage(record, 60),
            mentioned.join(". She met "),
            record / 4,
            (record + 2) / 4,
        );
        let line = serde_json::json!({
            "id": record.to_string(), "title": name(record), "text": text, "links": links,
        });
        let _ = writeln!(lines, "{line}");
    }
    lines
}

fn records_file(file: u64) -> String {
    format!("records-{file}.jsonl")
}

/// A name of two words that no other record has.
fn name(record: u64) -> String {
    format!("Person{} Family{}", record % 1000, record / 1000)
}
