//! Killed at random points of an ingest, a store keeps what it acknowledged and holds nothing twice.
//!
//! The test binary runs itself as the child (`a_child_that_ingests_until_it_is_killed` with an
//! environment variable), which ingests version after version of the same files and prints what was
//! written once it is durable; the parent kills it with SIGKILL after a random time and reopens the
//! store. The times are drawn from a seed, in parts of what an ingest takes on this machine.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use weir_memory::ingest::{IngestOptions, ingest};
use weir_memory::{Batch, Counts, Memory, Node, NodeId};

use crate::{node, open, query};

const CHILD_STORE: &str = "WEIR_CRASH_CHILD_STORE";
const CHILD_DOCS: &str = "WEIR_CRASH_CHILD_DOCS";
const CHILD_VERSION: &str = "WEIR_CRASH_CHILD_VERSION";

/// Rounds of kill and reopen; `WEIR_KILL_ROUNDS` asks for more.
const ROUNDS: usize = 20;

/// Rounds that one store lives through: the first kill hits new passages, later ones hit changes in
/// a store that recovered before.
const ROUNDS_OF_STORE: usize = 5;

/// Longest time a child lives, in ingests as the last one took: some die in the first, others while
/// they change what they wrote.
const LIFE_MAX: f64 = 2.0;

/// Files and the passages of each: more in all than one transaction takes.
const FILES: usize = 80;
const PARTS: usize = 8;

/// One link from a file to the next, and the order of its parts.
const EDGES: usize = FILES * PARTS;

/// Words of a node that the child writes and deletes again between two ingests.
const DOOMED: &str = "to be removed";

#[test]
fn a_child_that_ingests_until_it_is_killed() {
    let (Ok(store), Ok(docs)) = (env::var(CHILD_STORE), env::var(CHILD_DOCS)) else {
        return;
    };
    let version: usize = env::var(CHILD_VERSION).unwrap().parse().unwrap();
    println!("\nversion {version}");
    let memory = open(Path::new(&store));
    for version in version.. {
        println!("\nversion {version}");
        write_files(Path::new(&docs), version);
        // A change of the generation between two files says that all files before were written.
        let mut generation = memory.generation();
        let mut tell = |files: usize| {
            if memory.generation() != generation {
                generation = memory.generation();
                println!("acknowledged {files}");
            }
        };
        let docs = [Path::new(&docs).to_owned()];
        let options = IngestOptions::default();
        ingest(&memory, &docs, &options, &mut |at| tell(at.files_done)).unwrap();
        println!("acknowledged {FILES}\nlinked");
        write_between(&memory);
    }
}

/// `FILES` files of `PARTS` sections each, the first of which links to the next file.
fn write_files(docs: &Path, version: usize) {
    for file in 0..FILES {
        let mut link = format!("[next](p{:03}.md) ", (file + 1) % FILES);
        let mut text = String::new();
        for part in 0..PARTS {
            text +=
                &format!("# Part {part}\n\n{link}file {file} part {part} version {version}\n\n");
            link.clear();
        }
        fs::write(docs.join(format!("p{file:03}.md")), text).unwrap();
    }
}

/// Vectors for some passages, and a node that goes again.
fn write_between(memory: &Memory) {
    let pending = memory.pending_vectors(32).unwrap();
    let vectors: Vec<(NodeId, Vec<f32>)> = pending
        .into_iter()
        .map(|(id, _)| (id, vec![1.0; 4]))
        .collect();
    memory.set_vectors(&vectors).unwrap();
    let doomed = node("doomed", DOOMED);
    let nodes = vec![doomed.clone()];
    memory
        .write(&Batch {
            nodes,
            edges: Vec::new(),
        })
        .unwrap();
    memory.delete(doomed.id).unwrap();
}

/// What a child said before it was killed.
#[derive(Debug, Default)]
struct Said {
    /// The last version that it began.
    begun: usize,
    /// For each file the newest version that it acknowledged.
    files: BTreeMap<usize, usize>,
    /// Whether all edges were there once.
    linked: bool,
}

impl Said {
    fn take(&mut self, line: &str) {
        if let Some(version) = line.strip_prefix("version ") {
            self.begun = version.parse().unwrap();
        } else if let Some(files) = line.strip_prefix("acknowledged ") {
            let files: usize = files.parse().unwrap();
            self.files.extend((0..files).map(|file| (file, self.begun)));
        } else if line == "linked" {
            self.linked = true;
        }
    }
}

/// Starts a child, lets it live for `life` from its first word on, and adds what it said.
fn run_and_kill(store: &Path, docs: &Path, life: Duration, said: &mut Said) {
    let test = "crash::a_child_that_ingests_until_it_is_killed";
    let mut child: Child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD_STORE, store)
        .env(CHILD_DOCS, docs)
        .env(CHILD_VERSION, (said.begun + 1).to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("version ") {
        assert!(output.read_line(&mut text).unwrap() > 0, "{text}");
    }
    // Where the kill hits is what is tested, so nothing is waited for but time.
    thread::sleep(life);
    child.kill().unwrap();
    output.read_to_string(&mut text).unwrap();
    let died = child.wait().unwrap();
    assert!(!died.success() && died.code().is_none(), "{died}: {text}");
    // The last line may have been cut.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().for_each(|line| said.take(line));
}

#[test]
fn every_acknowledged_passage_survives_sigkill_and_nothing_is_there_twice() {
    let rounds = env::var("WEIR_KILL_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let docs = tempfile::tempdir().unwrap();
    let mut seed = 1_u64;
    let mut acknowledging = 0;
    let mut store = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    let mut took = Duration::from_millis(100);
    for round in 0..rounds {
        if round % ROUNDS_OF_STORE == 0 {
            store = tempfile::tempdir().unwrap();
            said = Said::default();
        }
        let life = took.mul_f64(LIFE_MAX * random(&mut seed));
        let before = said.files.values().sum::<usize>();
        run_and_kill(store.path(), docs.path(), life, &mut said);
        acknowledging += usize::from(said.files.values().sum::<usize>() > before);
        let memory = open(store.path());
        let round = format!("round {round}, killed after {life:?}");
        check(&memory, &said, &round);
        let started = Instant::now();
        check_that_the_next_ingest_completes(&memory, docs.path(), &mut said, &round);
        took = started.elapsed();
    }
    let acknowledged = format!("{acknowledging} of {rounds} children acknowledged something");
    eprintln!("{acknowledged} before they died");
    assert!(acknowledging * 10 >= rounds, "only {acknowledged}");
}

/// A number from 0 to 1 that looks random and depends on `seed` alone (Knuth's MMIX generator).
fn random(seed: &mut u64) -> f64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 11) as f64 / (1_u64 << 53) as f64
}

/// The version of each part of each file.
fn versions(memory: &Memory, round: &str) -> BTreeMap<(usize, usize), usize> {
    let nodes = memory.nodes(&memory.ids(&query("").filter)).unwrap();
    assert_eq!(nodes.len(), memory.counts().nodes, "{round}");
    let mut versions = BTreeMap::new();
    for Node { text, .. } in nodes.iter().filter(|node| node.text != DOOMED) {
        let numbers: Vec<usize> = (text.split_whitespace())
            .filter_map(|word| word.parse().ok())
            .collect();
        let [file, part, version] = numbers[..] else {
            panic!("{round}: {text:?}");
        };
        let twice = versions.insert((file, part), version);
        assert_eq!(
            twice, None,
            "{round}: file {file} part {part} is there twice"
        );
    }
    versions
}

fn check(memory: &Memory, said: &Said, round: &str) {
    let found = versions(memory, round);
    for ((file, part), version) in &found {
        assert!(*version <= said.begun, "{round}: file {file}");
        let first = found.get(&(*file, 0));
        assert_eq!(first, Some(version), "{round}: half of file {file}, {part}");
        assert!(found.contains_key(&(*file, PARTS - 1)), "{round}: {file}");
    }
    for (file, acknowledged) in &said.files {
        let version = found.get(&(*file, 0)).copied().unwrap_or(0);
        assert!(
            version >= *acknowledged,
            "{round}: version {acknowledged} of file {file} was acknowledged, {version} is there"
        );
    }
    let Counts {
        nodes,
        edges,
        vectors,
        pending,
    } = memory.counts();
    assert_eq!(vectors + pending, nodes, "{round}");
    assert_eq!(memory.pending_vectors(usize::MAX).unwrap().len(), pending);
    assert!(nodes <= found.len() + 1, "{round}: {nodes} nodes");
    assert!(edges <= EDGES, "{round}: {edges} edges");
    assert!(!said.linked || edges == EDGES, "{round}: {edges} edges");
}

/// What was cut short is made whole by an ingest of the next version, which counts as acknowledged.
fn check_that_the_next_ingest_completes(
    memory: &Memory,
    docs: &Path,
    said: &mut Said,
    round: &str,
) {
    let version = said.begun + 1;
    write_files(docs, version);
    let before = versions(memory, round).len();
    let (paths, options) = ([docs.to_owned()], IngestOptions::default());
    let report = ingest(memory, &paths, &options, &mut |_| {}).unwrap();
    let did = (report.updated, report.inserted, report.unchanged);
    assert_eq!(did, (before, FILES * PARTS - before, 0), "{round}");
    let found = versions(memory, round);
    assert_eq!(found.len(), FILES * PARTS, "{round}");
    assert!(found.values().all(|found| *found == version), "{round}");
    assert_eq!(memory.counts().edges, EDGES, "{round}");
    said.begun = version;
    said.files = (0..FILES).map(|file| (file, version)).collect();
    said.linked = true;
}
