//! The check-up finds what is wrong, repairs it when asked to, and leaves alone what is only worth a look.

use std::path::Path;

use redb::{Database, TableDefinition};
use weir_memory::upkeep::{Check, Diagnosis, damaged_rows, remove_damaged_rows};
use weir_memory::{Batch, Memory, NewEdge, NewNode, NodeType, OpenError};

use crate::{config, id, node, open};

const NODES: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("nodes");
const VECTORS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("vectors");
const PENDING: TableDefinition<'_, u128, u64> = TableDefinition::new("pending");
const EDGES: TableDefinition<'_, (u128, u128, &str), &[u8]> = TableDefinition::new("edges");

/// Changes the file of a memory behind its back.
fn break_rows(dir: &Path, work: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(dir.join("memory.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    work(&transaction);
    transaction.commit().unwrap();
}

fn check<'a>(diagnosis: &'a Diagnosis, name: &str) -> &'a Check {
    let mut checks = diagnosis.checks.iter();
    checks.find(|check| check.name == name).unwrap()
}

fn filled(memory: &Memory) {
    let with_vector = NewNode {
        vector: Some(vec![1.0, 0.0, 0.0, 0.0]),
        ..node(
            "a",
            "the heron fishes at dawn in the shallow water of the pond",
        )
    };
    let summary = NewNode {
        node_type: NodeType::Summary,
        ..node("summary", "birds fish")
    };
    let batch = Batch {
        nodes: vec![with_vector, node("b", "bees swarm in may"), summary],
        edges: vec![
            NewEdge::new(id("a"), id("b"), "near"),
            NewEdge::new(id("summary"), id("a"), "summarises"),
        ],
    };
    memory.write(&batch).unwrap();
}

#[test]
fn a_memory_as_it_should_be_is_called_good() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    filled(&memory);
    let diagnosis = memory.doctor(false).unwrap();
    assert!(!diagnosis.is_wrong(), "{diagnosis:?}");
    assert_eq!((diagnosis.nodes, diagnosis.edges), (3, 2));
    assert_eq!(check(&diagnosis, "vectors that are pending").found, 2);
    assert!(
        diagnosis
            .checks
            .iter()
            .all(|check| !check.wrong || check.found == 0)
    );
}

#[test]
fn what_a_store_should_never_hold_is_found_and_repaired_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    filled(&memory);
    drop(memory);
    break_rows(folder.path(), |transaction| {
        let edge = br#"{"weight":1.0,"metadata":{"timestamp":1}}"#;
        let mut edges = transaction.open_table(EDGES).unwrap();
        let (a, nobody) = (id("a").as_u128(), id("nobody").as_u128());
        edges.insert((a, nobody, "near"), edge.as_slice()).unwrap();
        let made_before = br#"{"weight":1.0,"metadata":{"timestamp":1,"source_digest":"another"}}"#;
        let summarises = (id("summary").as_u128(), a, "summarises");
        edges.insert(summarises, made_before.as_slice()).unwrap();
        let mut vectors = transaction.open_table(VECTORS).unwrap();
        vectors.insert(nobody, [0; 16].as_slice()).unwrap();
        let mut pending = transaction.open_table(PENDING).unwrap();
        pending.remove(id("b").as_u128()).unwrap();
    });
    let memory = open(folder.path());
    let names = [
        "dangling edges",
        "stale summaries",
        "vectors without a node",
        "nodes that no vector is made for",
    ];
    let before = memory.doctor(false).unwrap();
    for name in names {
        let check = check(&before, name);
        assert_eq!(
            (check.found, check.wrong, check.repaired),
            (1, true, 0),
            "{name}"
        );
        assert_eq!(check.examples.len(), 1);
    }
    assert!(before.is_wrong());
    let repaired = memory.doctor(true).unwrap();
    for name in names {
        assert_eq!(check(&repaired, name).repaired, 1, "{name}");
    }
    assert!(!repaired.is_wrong());
    let after = memory.doctor(false).unwrap();
    assert!(
        names.iter().all(|name| check(&after, name).found == 0),
        "{after:?}"
    );
    assert_eq!(memory.node(id("summary")).unwrap(), None);
    let waiting = memory.pending_vectors(10).unwrap();
    assert_eq!(
        waiting.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        [id("b")]
    );
}

#[test]
fn orphans_hubs_and_near_duplicates_are_named_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let text = "a weir is a low wall across a river that raises the water behind it and lets the rest run over";
    let elsewhere = NewNode {
        tenant: "globex".to_owned(),
        ..node("elsewhere", text)
    };
    let mut nodes = vec![
        node("one", text),
        node("two", &format!("{text} its crest")),
        node("not", &text.replace("is a low", "is not a low")),
        node("hub", "index"),
        elsewhere,
    ];
    let leaf = |at: usize| format!("leaf {at}");
    nodes.extend((0..70).map(|at| node(&leaf(at), &leaf(at))));
    let edges = (0..70).map(|at| NewEdge::new(id("hub"), id(&leaf(at)), "lists"));
    memory
        .write(&Batch {
            nodes,
            edges: edges.collect(),
        })
        .unwrap();
    let diagnosis = memory.doctor(true).unwrap();
    assert!(!diagnosis.is_wrong(), "{diagnosis:?}");
    let twins = check(&diagnosis, "near duplicates");
    let pair = [id("one"), id("two")].map(|id| id.to_string());
    assert_eq!(twins.found, 1, "{twins:?}");
    assert!(
        pair.iter().all(|id| twins.examples[0].contains(id)),
        "{twins:?}"
    );
    let hubs = check(&diagnosis, "hubs");
    assert_eq!(hubs.examples, [format!("{} with 70", id("hub"))]);
    assert_eq!(check(&diagnosis, "nodes without an edge").found, 4);
    assert_eq!(memory.counts().nodes, 75);
}

#[test]
fn rows_that_cannot_be_read_are_named_taken_out_and_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    filled(&memory);
    drop(memory);
    assert_eq!(damaged_rows(folder.path()).unwrap(), []);
    break_rows(folder.path(), |transaction| {
        let mut nodes = transaction.open_table(NODES).unwrap();
        nodes
            .insert(id("b").as_u128(), b"{\"tenant\":".as_slice())
            .unwrap();
        let mut vectors = transaction.open_table(VECTORS).unwrap();
        vectors
            .insert(id("a").as_u128(), [1, 2, 3].as_slice())
            .unwrap();
    });
    let refused = Memory::open(folder.path(), &config()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    let rows = damaged_rows(folder.path()).unwrap();
    let named: Vec<_> = rows
        .iter()
        .map(|row| (row.table.as_str(), row.key.clone()))
        .collect();
    let expected = [
        ("nodes", id("b").to_string()),
        ("vectors", id("a").to_string()),
    ];
    assert_eq!(named, expected);
    assert_eq!(rows[0].row, "{\"tenant\":");
    assert_eq!(remove_damaged_rows(folder.path()).unwrap(), rows);
    let memory = open(folder.path());
    let counts = memory.counts();
    assert_eq!(
        (counts.nodes, counts.edges, counts.vectors, counts.pending),
        (2, 1, 0, 2)
    );
    assert!(!memory.doctor(false).unwrap().is_wrong());
}
