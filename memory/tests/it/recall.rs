//! How attention spreads.

use weir_memory::{AttentionWeights, Batch, Memory, NewEdge, NewNode, Query, Recall, RecallLimits};

use crate::{id, node, open, query};

/// `seed -cites-> near -cites-> far -cites-> beyond`, and `alone`.
fn chain(memory: &Memory) {
    let names = ["seed", "near", "far", "beyond", "alone"];
    let texts = ["whale", "krill", "plankton", "sunlight", "whale song"];
    let nodes = names
        .iter()
        .zip(texts)
        .map(|(name, text)| node(name, text))
        .collect();
    let edges = names[..4]
        .windows(2)
        .map(|pair| NewEdge::new(id(pair[0]), id(pair[1]), "cites"));
    memory
        .write(&Batch {
            nodes,
            edges: edges.collect(),
        })
        .unwrap();
}

fn recalled(memory: &Memory, query: &Query, limits: RecallLimits) -> Recall {
    let found = memory.search(query).unwrap();
    memory.recall(query, &found, &limits)
}

fn depth_of(recall: &Recall, name: &str) -> Option<u8> {
    recall
        .nodes
        .iter()
        .find(|node| node.id == id(name))
        .map(|node| node.depth)
}

#[test]
fn two_hops_are_reached_and_scores_sum_to_one() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    chain(&memory);
    let recall = recalled(&memory, &query("whale"), RecallLimits::default());
    assert_eq!(depth_of(&recall, "near"), Some(1));
    assert_eq!(depth_of(&recall, "far"), Some(2));
    assert_eq!(depth_of(&recall, "beyond"), None);
    assert_eq!((recall.depth, recall.nodes_used), (2, 4));
    let sum: f32 = recall.nodes.iter().map(|node| node.score).sum();
    assert!((sum - 1.0).abs() < 1e-5);
    assert!(recall.nodes.is_sorted_by(|a, b| a.score >= b.score));
    assert!(recall.entropy > 0.0 && recall.entropy < 1.0);
}

#[test]
fn an_excluded_edge_is_not_walked() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    chain(&memory);
    let exclude_edges = vec![(id("near"), id("seed"))];
    let recall = recalled(
        &memory,
        &Query {
            exclude_edges,
            ..query("whale")
        },
        RecallLimits::default(),
    );
    assert_eq!(depth_of(&recall, "near"), None);
    assert_eq!(recall.depth, 0);
}

#[test]
fn another_tenants_node_is_neither_shown_nor_walked_through() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let foreign = NewNode {
        id: id("foreign"),
        ..NewNode::new("other", "secret")
    };
    let nodes = vec![node("seed", "whale"), foreign, node("behind", "krill")];
    let edges = vec![
        NewEdge::new(id("seed"), id("foreign"), "cites"),
        NewEdge::new(id("foreign"), id("behind"), "cites"),
    ];
    memory.write(&Batch { nodes, edges }).unwrap();
    let recall = recalled(&memory, &query("whale"), RecallLimits::default());
    assert_eq!(recall.nodes_used, 1);
    assert_eq!(recall.nodes[0].id, id("seed"));
}

#[test]
fn the_subgraph_is_bounded_and_the_same_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let mut nodes = vec![node("seed", "whale")];
    let mut edges = Vec::new();
    for number in 0..400 {
        let (name, next) = (format!("n{number}"), format!("n{}", (number * 7 + 1) % 400));
        nodes.push(node(&name, "something in the sea"));
        let weight = 1.0 + (number % 13) as f32;
        edges.push(NewEdge {
            weight,
            ..NewEdge::new(id("seed"), id(&name), "mentions")
        });
        edges.push(NewEdge::new(id(&name), id(&next), "follows"));
    }
    memory.write(&Batch { nodes, edges }).unwrap();
    let limits = RecallLimits {
        nodes_max: 100,
        ..RecallLimits::default()
    };
    let recall = recalled(&memory, &query("whale"), limits);
    assert_eq!(recall.nodes_used, 100);
    assert_eq!(recall, recalled(&memory, &query("whale"), limits));
    drop(memory);
    assert_eq!(recall, recalled(&open(dir.path()), &query("whale"), limits));
}

#[test]
fn as_many_hits_become_seeds_as_the_limits_say_and_the_subgraph_holds() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let nodes = (0..150).map(|number| node(&format!("n{number}"), "whale"));
    memory
        .write(&Batch {
            nodes: nodes.collect(),
            edges: Vec::new(),
        })
        .unwrap();
    let query = Query {
        k: 150,
        ..query("whale")
    };
    for (seeds, nodes_max, expected) in [(100, 256, 100), (3, 256, 3), (100, 80, 80)] {
        let limits = RecallLimits {
            seeds,
            nodes_max,
            ..RecallLimits::default()
        };
        assert_eq!(recalled(&memory, &query, limits).nodes_used, expected);
    }
}

#[test]
fn nothing_found_recalls_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    chain(&memory);
    let recall = recalled(&memory, &query("zebra"), RecallLimits::default());
    assert_eq!(recall, Recall::default());
}

/// The features of a node in the light of a question, by name.
fn seen(memory: &Memory, asked: &str, name: &str) -> impl Fn(&str) -> f64 {
    let query = query(asked);
    let found = memory.search(&query).unwrap();
    let limits = RecallLimits::default();
    let graph = memory.subgraph(&AttentionWeights::pagerank(), &query, &found, &limits);
    let (ids, graph) = graph.unwrap();
    let place = ids.iter().position(|found| *found == id(name)).unwrap();
    let features = graph.nodes().nth(place).unwrap().to_vec();
    move |feature: &str| {
        let [_, _, names] = AttentionWeights::features();
        let place = names.iter().position(|name| *name == feature).unwrap();
        features[place]
    }
}

#[test]
fn what_a_named_passage_leads_to_is_told_from_what_shares_a_name_and_asking_from_telling() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let mut work = node("work", "a film that was directed by its maker");
    work.metadata.title = Some("Blue Street (film)".to_owned());
    let mut made = NewEdge::new(id("work"), id("maker"), "mentions");
    made.metadata.evidence = Some("Blue Street was directed by Leo".to_owned());
    memory
        .write(&Batch {
            nodes: vec![
                work,
                node("maker", "born in a town"),
                node("sharing", "seen in a town"),
            ],
            edges: vec![made, NewEdge::new(id("work"), id("sharing"), "entity")],
        })
        .unwrap();
    let asked = "Who directed Blue Street";
    let told = "He directed the film Blue Street";
    let named = |asked: &str, name: &str| {
        let of = seen(&memory, asked, name);
        (of("named"), of("named_in_question"))
    };
    assert_eq!(named(asked, "work"), (1.0, 1.0));
    assert_eq!(named(told, "work"), (1.0, 0.0));
    assert_eq!(named("Who directed Street", "work"), (0.0, 0.0));
    let led = |asked: &str, name: &str| {
        let of = seen(&memory, asked, name);
        (of("from_named"), of("from_named_in_question"))
    };
    assert_eq!(led(asked, "maker"), (1.0, 1.0));
    assert_eq!(led(told, "maker"), (1.0, 0.0));
    assert_eq!(led("Who directed Street", "maker"), (0.0, 0.0));
    assert_eq!(led(asked, "sharing"), (0.0, 0.0));
    let said = |asked: &str| seen(&memory, asked, "maker")("evidence_of_named");
    assert!(said(asked) > said("Who paid for Blue Street"));
}
