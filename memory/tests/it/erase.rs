//! Erasing a subject leaves nothing of it behind, and everything else where it was.

use weir_memory::ingest::{IngestOptions, ingest};
use weir_memory::upkeep::Erased;
use weir_memory::{
    Access, Batch, Filter, Memory, Metadata, NewEdge, NewNode, NodeId, NodeType, Query,
    RecallLimits, WriteError,
};

use crate::{id, node, open, query};

fn about(subject: &str, name: &str, text: &str) -> NewNode {
    NewNode {
        vector: Some(vec![1.0, 0.5, 0.0, 0.0]),
        metadata: Metadata {
            subject: Some(subject.to_owned()),
            ..Metadata::default()
        },
        ..node(name, text)
    }
}

fn of_type(node_type: NodeType, node: NewNode) -> NewNode {
    NewNode { node_type, ..node }
}

/// Two people, summaries of them and of each other, a trace, and a passage that is about nobody.
fn people(memory: &Memory) {
    let summary = |name, text| of_type(NodeType::Summary, node(name, text));
    let other_tenant = NewNode {
        tenant: "globex".to_owned(),
        ..about("jane", "elsewhere", "jane works at globex")
    };
    let nodes = vec![
        about("jane", "jane", "jane lives by the heron pond"),
        about("jane", "jane2", "jane was born in spring"),
        about("bob", "bob", "bob keeps bees"),
        node("pond", "the pond is deep"),
        summary("about-jane", "a person at a pond"),
        summary("about-summaries", "people and ponds"),
        summary("about-bob", "a person with bees"),
        of_type(NodeType::Trace, node("trace", "who lives there? jane")),
        of_type(NodeType::Trace, node("other-trace", "how deep is it?")),
        other_tenant,
    ];
    let edges = vec![
        NewEdge::new(id("jane"), id("pond"), "mentions"),
        NewEdge::new(id("jane"), id("jane2"), "same_topic"),
        NewEdge::new(id("about-jane"), id("jane"), "summarises"),
        NewEdge::new(id("about-jane"), id("pond"), "summarises"),
        NewEdge::new(id("about-summaries"), id("about-jane"), "summarises"),
        NewEdge::new(id("about-bob"), id("bob"), "summarises"),
        NewEdge::new(id("about-bob"), id("jane"), "mentions"),
        NewEdge::new(id("trace"), id("jane"), "used"),
        NewEdge::new(id("other-trace"), id("pond"), "used"),
    ];
    memory.write(&Batch { nodes, edges }).unwrap();
}

/// Every node that a search by words, by a vector or through the graph can find.
fn found(memory: &Memory, words: &str) -> Vec<NodeId> {
    let query = Query {
        vector: Some(vec![1.0, 0.5, 0.0, 0.0]),
        filter: Filter {
            types: NodeType::ALL.to_vec(),
            ..query("").filter
        },
        k: 100,
        ..query(words)
    };
    let result = memory.search(&query).unwrap();
    let recall = memory.recall(&query, &result, &RecallLimits::default());
    let mut ids: Vec<NodeId> = result.hits.iter().map(|hit| hit.id).collect();
    ids.extend(recall.nodes.iter().map(|node| node.id));
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn sorted(names: &[&str]) -> Vec<NodeId> {
    let mut ids: Vec<NodeId> = names.iter().map(|name| id(name)).collect();
    ids.sort_unstable();
    ids
}

const JANES: [&str; 5] = ["jane", "jane2", "about-jane", "about-summaries", "trace"];

#[test]
fn a_search_after_an_erasure_finds_nothing_and_the_rest_is_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    people(&memory);
    assert!(found(&memory, "jane").contains(&id("jane")));
    let erased = memory.erase("jane", Some("acme")).unwrap();
    let expected = Erased {
        nodes: 2,
        summaries: 2,
        traces: 1,
        vectors: 2,
        edges: 7,
        documents: 0,
        ids: sorted(&JANES),
        generation: 2,
        erased_at: erased.erased_at,
        recollections: 0,
    };
    assert_eq!(erased, expected);
    assert!(erased.erased_at > 1_700_000_000_000);
    let check = |memory: &Memory| {
        for words in [
            "jane",
            "jane lives by the heron pond",
            "people",
            "who lives there",
        ] {
            let found = found(memory, words);
            assert!(
                JANES.iter().all(|name| !found.contains(&id(name))),
                "{words}"
            );
        }
        for name in JANES {
            assert_eq!(memory.node(id(name)).unwrap(), None);
        }
        let counts = memory.counts();
        assert_eq!((counts.nodes, counts.edges, counts.vectors), (5, 2, 2));
        let others = memory.node(id("elsewhere")).unwrap();
        assert!(others.is_some(), "another tenant's jane was not asked for");
        let bobs = memory.edges(id("about-bob")).unwrap();
        assert_eq!(bobs.len(), 1, "a summary of somebody else stays");
    };
    check(&memory);
    drop(memory);
    check(&open(folder.path()));
}

#[test]
fn without_a_tenant_every_tenants_nodes_go_and_a_second_time_nothing_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    people(&memory);
    let erased = memory.erase("jane", None).unwrap();
    assert_eq!((erased.nodes, erased.generation), (3, 2));
    let again = memory.erase("jane", None).unwrap();
    assert_eq!((again.nodes, again.ids.len(), again.generation), (0, 0, 2));
    let prefix = memory.erase("bo", None).unwrap();
    assert_eq!(prefix.nodes, 0, "a subject is compared whole");
}

#[test]
fn a_subject_is_erased_for_admins_only() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    people(&memory);
    let access = |admin| Access {
        tenant: "acme".to_owned(),
        admin,
    };
    let refused = memory.erase_as(&access(false), "jane", Some("acme"));
    assert!(matches!(refused, Err(WriteError::EraseNeedsAdmin)));
    assert!(memory.node(id("jane")).unwrap().is_some());
    assert_eq!(
        memory.erase_as(&access(true), "jane", None).unwrap().nodes,
        3
    );
}

#[test]
fn a_vector_that_was_under_way_does_not_come_back_and_documents_forget_their_passages() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let docs = folder.path().join("docs");
    std::fs::create_dir_all(&docs).unwrap();
    let lines = "{\"text\": \"jane keeps geese\"}\n{\"text\": \"a pond\"}\n";
    std::fs::write(docs.join("people.jsonl"), lines).unwrap();
    ingest(&memory, &[docs], &IngestOptions::default(), &mut |_| {}).unwrap();
    let with_subject = memory.ids(&query("").filter).into_iter().find(|id| {
        let node = memory.node(*id).unwrap().unwrap();
        node.text.contains("geese")
    });
    let jane = with_subject.unwrap();
    let stored = memory.node(jane).unwrap().unwrap();
    let subject = Metadata {
        subject: Some("jane".to_owned()),
        ..stored.metadata
    };
    let owned = NewNode {
        id: jane,
        metadata: subject,
        ..NewNode::new(stored.tenant.clone(), stored.text)
    };
    memory
        .write(&Batch {
            nodes: vec![owned],
            edges: Vec::new(),
        })
        .unwrap();
    assert!(
        memory
            .pending_vectors(10)
            .unwrap()
            .iter()
            .any(|(id, _)| *id == jane)
    );
    let erased = memory.erase("jane", None).unwrap();
    assert_eq!((erased.nodes, erased.documents), (1, 1));
    assert_eq!(
        memory
            .set_vectors(&[(jane, vec![1.0, 0.0, 0.0, 0.0])])
            .unwrap(),
        0
    );
    let documents = memory.documents(&stored.tenant).unwrap();
    assert!(
        documents.iter().all(|(_, ids)| !ids.contains(&jane)),
        "{documents:?}"
    );
}
