//! Killed at random points, a store keeps what it acknowledged and holds nothing twice.
//!
//! The test binary runs itself as the child (`a_child_that_writes_until_it_is_killed` with an
//! environment variable), which prints the ids of each write after it returned; the parent kills it
//! with SIGKILL and reopens the store.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use weir_memory::ingest::{IngestOptions, ingest};
use weir_memory::{Batch, Memory, NewEdge, NewNode, NodeId};

use crate::{id, node, open, query};

const CHILD_STORE: &str = "WEIR_CRASH_CHILD_STORE";
const CHILD_START: &str = "WEIR_CRASH_CHILD_START";

/// Rounds of kill and reopen; `WEIR_KILL_ROUNDS` asks for more.
const ROUNDS: usize = 20;

/// Nodes in one write of the child.
const BATCH: usize = 5;

#[test]
fn a_child_that_writes_until_it_is_killed() {
    let (Ok(dir), Ok(start)) = (env::var(CHILD_STORE), env::var(CHILD_START)) else {
        return;
    };
    let memory = open(Path::new(&dir));
    for batch in start.parse::<usize>().unwrap().. {
        write_batch(&memory, batch);
        println!("acknowledged {batch}");
        std::io::stdout().flush().unwrap();
    }
}

/// Nodes, edges between them, the vectors of half of them, and a changed and a removed node.
fn write_batch(memory: &Memory, batch: usize) {
    let name = |number: usize| format!("{batch}-{number}");
    let nodes: Vec<NewNode> = (0..BATCH)
        .map(|number| node(&name(number), &format!("text of {}", name(number))))
        .collect();
    let edges = (1..BATCH).map(|number| NewEdge::new(id(&name(0)), id(&name(number)), "cites"));
    memory
        .write(&Batch {
            nodes,
            edges: edges.collect(),
        })
        .unwrap();
    let vectors: Vec<(NodeId, Vec<f32>)> = memory
        .pending_vectors(BATCH / 2)
        .unwrap()
        .into_iter()
        .map(|(id, _)| (id, vec![1.0; 4]))
        .collect();
    memory.set_vectors(&vectors).unwrap();
    let doomed = node(&format!("doomed-{batch}"), "to be removed");
    memory
        .write(&Batch {
            nodes: vec![doomed.clone()],
            ..Batch::default()
        })
        .unwrap();
    memory.delete(doomed.id).unwrap();
}

/// Runs the child until it acknowledged `enough` batches, kills it, and returns all that it
/// acknowledged.
fn run_and_kill(dir: &Path, start: usize, enough: usize) -> Vec<usize> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::a_child_that_writes_until_it_is_killed",
            "--nocapture",
        ])
        .env(CHILD_STORE, dir)
        .env(CHILD_START, start.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((_, batch)) = line.split_once("acknowledged ") {
            acknowledged.push(batch.parse().unwrap());
        }
        if acknowledged.len() == enough {
            // The child is somewhere in its next writes now.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    acknowledged
}

#[test]
fn every_acknowledged_write_survives_sigkill_and_nothing_is_there_twice() {
    let rounds = env::var("WEIR_KILL_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<usize> = Vec::new();
    let mut next = 0;
    for round in 0..rounds.unwrap_or(ROUNDS) {
        let batches = run_and_kill(dir.path(), next, 1 + (round * 7) % 5);
        assert!(
            !batches.is_empty(),
            "round {round}: the child never came to write"
        );
        acknowledged.extend(&batches);
        // The batch in hand when the child died may be there or not; it is written again under the
        // same ids.
        next = acknowledged.last().unwrap() + 1;
        check(&open(dir.path()), &acknowledged, round);
    }
}

fn check(memory: &Memory, acknowledged: &[usize], round: usize) {
    let all = memory.ids(&query("").filter);
    let distinct: HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "round {round}");
    let counts = memory.counts();
    assert_eq!(counts.nodes, all.len());
    assert_eq!(counts.vectors + counts.pending, counts.nodes);
    assert_eq!(
        memory.pending_vectors(usize::MAX).unwrap().len(),
        counts.pending
    );
    for batch in acknowledged {
        for number in 0..BATCH {
            let name = format!("{batch}-{number}");
            let found = memory.node(id(&name)).unwrap();
            let found = found.unwrap_or_else(|| panic!("round {round}: {name} is lost"));
            assert_eq!(found.text, format!("text of {name}"));
        }
        assert_eq!(
            memory.edges(id(&format!("{batch}-0"))).unwrap().len(),
            BATCH - 1
        );
        assert!(
            memory
                .node(id(&format!("doomed-{batch}")))
                .unwrap()
                .is_none()
        );
    }
    // Besides what was acknowledged there can be one batch: the one in hand.
    assert!(
        counts.nodes <= (acknowledged.len() + 1) * BATCH + 1,
        "round {round}: {counts:?}"
    );
}

#[test]
fn an_ingest_that_was_cut_short_goes_on_where_it_stopped() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for number in 0..20 {
        let text = format!(
            "# Page {number}\n\nText {number}, see [next](p{}.md).",
            (number + 1) % 20
        );
        fs::write(docs.path().join(format!("p{number}.md")), text).unwrap();
    }
    let (memory, options) = (open(dir.path()), IngestOptions::default());
    // A first run that saw only some files stands for one that was killed before the rest and the
    // edges.
    let some: Vec<_> = (0..7)
        .map(|number| docs.path().join(format!("p{number}.md")))
        .collect();
    ingest(&memory, &some, &options, &mut |_| {}).unwrap();
    let report = ingest(&memory, &[docs.path().to_owned()], &options, &mut |_| {}).unwrap();
    assert_eq!((report.unchanged, report.inserted), (7, 13));
    assert_eq!(memory.counts().nodes, 20);
    assert_eq!(memory.counts().edges, 20);
}
