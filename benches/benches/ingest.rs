//! How many passages a second become durable nodes, without embedding.

use std::fmt::Write as _;
use std::time::Instant;
use weir_lab::results::{Goal, Results, Row};
use weir_memory::ingest::{IngestOptions, ingest};
use weir_memory::{Memory, MemoryConfig};

const FILES: u64 = 200;
const SECTIONS: u64 = 20;
const WORDS: usize = 120;
/// Passages a second to reach.
const RATE_MIN: f64 = 500.0;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let docs = folder.path().join("docs");
    std::fs::create_dir(&docs)?;
    for file in 0..FILES {
        std::fs::write(docs.join(format!("page-{file:03}.md")), page(file))?;
    }
    let config = MemoryConfig {
        dimensions: 384,
        embedding_model: "none".to_owned(),
    };
    let memory = Memory::open(&folder.path().join("memory"), &config)?;
    let options = IngestOptions::default();
    let paths = [docs];
    let started = Instant::now();
    let first = ingest(&memory, &paths, &options, &mut |_| ())?;
    let first_s = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let again = ingest(&memory, &paths, &options, &mut |_| ())?;
    let again_s = started.elapsed().as_secs_f64();
    anyhow::ensure!(
        again.unchanged == first.inserted,
        "re-ingest changed something: {again:?}"
    );

    let mut results = Results::new("ingest", "cargo bench -p weir-bench --bench ingest");
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
    weir_bench::publish(&results)
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
