//! What a memory holds is counted, and one node is shown with what it is joined to.

use weir_memory::{Batch, Metadata, NewEdge, NewNode, NodeSource, NodeType};

use crate::{id, node, open};

#[test]
fn everything_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let note = NewNode {
        tenant: "globex".to_owned(),
        node_type: NodeType::Memory,
        source: NodeSource::User,
        vector: Some(vec![1.0, 0.0, 0.0, 0.0]),
        ..node("note", "remember the heron")
    };
    let nodes = vec![node("a", "one"), node("b", "two"), note];
    let heavy = NewEdge {
        weight: 3.0,
        ..NewEdge::new(id("b"), id("a"), "cites")
    };
    let edges = vec![NewEdge::new(id("a"), id("b"), "cites"), heavy];
    memory.write(&Batch { nodes, edges }).unwrap();
    let stats = memory.stats().unwrap();
    assert_eq!((stats.nodes, stats.vectors, stats.pending), (3, 1, 2));
    assert_eq!((stats.edges, stats.documents, stats.generation), (2, 0, 1));
    let counts = |map: &std::collections::BTreeMap<String, u64>| {
        map.iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!(counts(&stats.types), "doc 2, memory 1");
    assert_eq!(counts(&stats.tenants), "acme 2, globex 1");
    assert_eq!(counts(&stats.sources), "kb 2, user 1");
    let cites = stats.relations["cites"];
    assert_eq!((cites.edges, cites.mean_weight), (2, 2.0));
    let degrees = stats.degrees;
    assert_eq!((degrees.none, degrees.median, degrees.max), (1, 2, 2));
}

#[test]
fn a_node_is_shown_with_its_edges_heaviest_first_and_their_ends() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let titled = NewNode {
        metadata: Metadata {
            title: Some("Herons".to_owned()),
            ..Metadata::default()
        },
        ..node("titled", "they fish")
    };
    let nodes = vec![node("a", "one"), titled, node("long", &"word ".repeat(50))];
    let light = NewEdge {
        weight: 0.1,
        ..NewEdge::new(id("a"), id("titled"), "near")
    };
    let edges = vec![light, NewEdge::new(id("long"), id("a"), "cites")];
    memory.write(&Batch { nodes, edges }).unwrap();
    let shown = memory.show(id("a")).unwrap().unwrap();
    assert_eq!((shown.node.text.as_str(), shown.has_vector), ("one", false));
    let rels: Vec<&str> = shown.edges.iter().map(|edge| edge.rel.as_str()).collect();
    assert_eq!(rels, ["cites", "near"]);
    assert_eq!(shown.ends[&id("titled")].title, "Herons");
    assert_eq!(shown.ends[&id("long")].title.chars().count(), 60);
    assert_eq!(memory.show(id("nobody")).unwrap(), None);
}
