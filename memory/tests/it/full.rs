//! A file that could not be written is opened again: what was acknowledged is there, nothing is there by half, and the memory
//! goes on without a restart.
//!
//! The disk is one on which this file may not grow: a limit of the process, so the test binary runs itself as a child
//! (`a_child_whose_file_may_not_grow`), in which the signal that comes with the limit is ignored.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use weir_memory::{Batch, Memory, NewNode, NodeId, WriteError};

use crate::{node, open, query};

const CHILD_STORE: &str = "WEIR_FULL_CHILD_STORE";

#[test]
fn a_write_that_finds_no_room_takes_nothing_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            "full::a_child_whose_file_may_not_grow",
            "--nocapture",
        ])
        .env(CHILD_STORE, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("went on"), "the child did nothing: {said}");
}

#[test]
fn a_child_whose_file_may_not_grow() {
    let Ok(store) = env::var(CHILD_STORE) else {
        return;
    };
    let store = Path::new(&store);
    let memory = open(store);
    let (mut number, mut acknowledged) = (0, BTreeSet::new());
    for _ in 0..20 {
        acknowledged.extend(written(&memory, &mut number).unwrap());
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let length = std::fs::metadata(store.join("memory.redb")).unwrap().len();
    setrlimit(Resource::RLIMIT_FSIZE, length, hard).unwrap();
    let refused = loop {
        match written(&memory, &mut number) {
            Ok(ids) => acknowledged.extend(ids),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, WriteError::Storage(_)), "{refused:?}");
    check(&memory, &acknowledged);
    assert!(
        written(&memory, &mut number).is_err(),
        "it may not grow yet"
    );
    check(&memory, &acknowledged);

    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    for _ in 0..20 {
        acknowledged.extend(written(&memory, &mut number).unwrap());
    }
    check(&memory, &acknowledged);
    drop(memory);
    check(&open(store), &acknowledged);
    println!("went on");
}

/// Writes a few long nodes.
fn written(memory: &Memory, number: &mut u64) -> Result<Vec<NodeId>, WriteError> {
    let one = |number: u64| NewNode {
        text: format!("number{number} {}", "and so on ".repeat(2_000)),
        ..node(&format!("n{number}"), "")
    };
    let nodes: Vec<NewNode> = (*number..*number + 4).map(one).collect();
    *number += 4;
    let ids = nodes.iter().map(|node| node.id).collect();
    let edges = Vec::new();
    memory.write(&Batch { nodes, edges }).map(|_| ids)
}

/// What was acknowledged is there, whole, and found; nothing else is.
fn check(memory: &Memory, acknowledged: &BTreeSet<NodeId>) {
    let ids: Vec<NodeId> = acknowledged.iter().copied().collect();
    let nodes = memory.nodes(&ids).unwrap();
    assert_eq!(nodes.len(), ids.len());
    assert!(nodes.iter().all(|node| node.text.ends_with("so on ")));
    assert_eq!(memory.counts().nodes, ids.len());
    let last = nodes.last().unwrap();
    let word = last.text.split(' ').next().unwrap();
    let found = memory.search(&query(word)).unwrap();
    assert_eq!(found.hits.first().map(|hit| hit.id), Some(last.id));
}
