//! What a tenant, a domain and a type let through.

use weir_memory::{
    Batch, Filter, Memory, NewEdge, NewNode, NodeId, NodeType, Query, RecallLimits, SHARED_TENANT,
    SearchError,
};

use crate::{id, node, open, query};

/// 1,000 nodes of `bulk` that fit the query better than the 10 of `acme`.
fn crowded(memory: &Memory) {
    let mut nodes = Vec::new();
    for number in 0..1000 {
        let vector = Some(vec![1.0, 0.001 * number as f32, 0.0, 0.0]);
        let text = "whale whale whale";
        let bulk = NewNode::new("bulk", text);
        nodes.push(NewNode {
            id: id(&format!("bulk{number}")),
            vector,
            ..bulk
        });
    }
    for number in 0..10 {
        let vector = Some(vec![0.1, 1.0, 0.001 * number as f32, 0.0]);
        let text = "a whale among many other things that swim in the sea";
        nodes.push(NewNode {
            vector,
            ..node(&format!("own{number}"), text)
        });
    }
    memory
        .write(&Batch {
            nodes,
            ..Batch::default()
        })
        .unwrap();
}

#[test]
fn a_tenant_with_one_percent_of_the_nodes_gets_all_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    crowded(&memory);
    let mut wanted: Vec<_> = (0..10).map(|number| id(&format!("own{number}"))).collect();
    wanted.sort();
    for vector in [None, Some(vec![1.0, 0.0, 0.0, 0.0])] {
        let found = memory
            .search(&Query {
                vector,
                ..query("whale")
            })
            .unwrap();
        let mut ids: Vec<_> = found.hits.iter().map(|hit| hit.id).collect();
        ids.sort();
        assert_eq!(ids, wanted);
        assert!((found.filter_share - 10.0 / 1010.0).abs() < 1e-6);
    }
}

#[test]
fn what_was_prepared_serves_its_own_question_until_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    crowded(&memory);
    let own = query("whale");
    let others = Filter {
        tenant: "bulk".to_owned(),
        ..Filter::default()
    };
    let cases = [
        memory.prepare(own.text.clone(), own.filter.clone(), own.k),
        memory.prepare(own.text.clone(), others, own.k),
        memory.prepare("sea".to_owned(), own.filter.clone(), own.k),
        memory.prepare(own.text.clone(), own.filter.clone(), own.k + 200),
    ];
    let wanted = memory.search(&own).unwrap();
    let limits = RecallLimits::default();
    for prepared in cases {
        let found = memory.search_prepared(&own, Some(&prepared)).unwrap();
        assert_eq!(found, wanted);
        let recalled = memory.recall_prepared((&own, Some(&prepared)), &found, &limits, usize::MAX);
        assert_eq!(recalled, memory.recall(&own, &wanted, &limits));
        let first = memory.recall_prepared((&own, Some(&prepared)), &found, &limits, 3);
        assert_eq!(first.nodes, recalled.nodes[..3]);
    }
    let before = memory.prepare(own.text.clone(), own.filter.clone(), own.k);
    let nodes = vec![node("new", "whale whale")];
    let batch = Batch {
        nodes,
        ..Batch::default()
    };
    memory.write(&batch).unwrap();
    let found = memory.search_prepared(&own, Some(&before)).unwrap();
    assert_eq!(found, memory.search(&own).unwrap());
    assert!(found.hits.iter().any(|hit| hit.id == id("new")));
}

#[test]
fn what_was_prepared_for_fewer_hits_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let nodes =
        (1..=400).map(|number| node(&format!("n{number}"), &"whale ".repeat(number % 9 + 1)));
    let nodes = nodes.collect();
    memory
        .write(&Batch {
            nodes,
            ..Batch::default()
        })
        .unwrap();
    let many = Query {
        k: 300,
        ..query("whale")
    };
    let few = memory.prepare(many.text.clone(), many.filter.clone(), 10);
    let found = memory.search_prepared(&many, Some(&few)).unwrap();
    assert_eq!(found.hits.len(), 300);
    assert_eq!(found, memory.search(&many).unwrap());
}

#[test]
fn shared_nodes_are_seen_by_all_and_others_by_none() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let shared = NewNode {
        id: id("shared"),
        ..NewNode::new(SHARED_TENANT, "whale facts")
    };
    let other = NewNode {
        id: id("other"),
        ..NewNode::new("other", "whale secrets")
    };
    let nodes = vec![node("own", "whale notes"), shared, other];
    memory
        .write(&Batch {
            nodes,
            ..Batch::default()
        })
        .unwrap();
    let mut ids: Vec<_> = memory
        .search(&query("whale"))
        .unwrap()
        .hits
        .iter()
        .map(|hit| hit.id)
        .collect();
    ids.sort();
    let mut wanted = [id("own"), id("shared")];
    wanted.sort();
    assert_eq!(ids, wanted);
    assert_eq!(memory.ids(&query("").filter), wanted);
}

#[test]
fn domains_and_types_narrow_and_traces_come_only_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let mut marine = node("marine", "whale");
    marine.metadata.domain = Some("biology".to_owned());
    let trace = NewNode {
        node_type: NodeType::Trace,
        ..node("trace", "whale")
    };
    let summary = NewNode {
        node_type: NodeType::Summary,
        ..node("summary", "whale")
    };
    let nodes = vec![marine, trace, summary, node("plain", "whale")];
    memory
        .write(&Batch {
            nodes,
            ..Batch::default()
        })
        .unwrap();
    let found = |domains: &[&str], types: &[NodeType]| {
        let domains = domains.iter().map(ToString::to_string).collect();
        let filter = Filter {
            tenant: "acme".to_owned(),
            domains,
            types: types.to_vec(),
            hidden: Vec::new(),
        };
        let hits = memory
            .search(&Query {
                filter,
                ..query("whale")
            })
            .unwrap()
            .hits;
        let mut ids: Vec<_> = hits.into_iter().map(|hit| hit.id).collect();
        ids.sort();
        ids
    };
    let sorted = |names: &[&str]| {
        let mut ids: Vec<_> = names.iter().map(|name| id(name)).collect();
        ids.sort();
        ids
    };
    assert_eq!(found(&[], &[]), sorted(&["marine", "summary", "plain"]));
    assert_eq!(found(&["biology"], &[]), sorted(&["marine"]));
    assert_eq!(found(&["physics"], &[]), sorted(&[]));
    assert_eq!(found(&[], &[NodeType::Trace]), sorted(&["trace"]));
    assert_eq!(found(&["biology"], &[NodeType::Summary]), sorted(&[]));
}

#[test]
fn hidden_nodes_are_neither_found_nor_walked_through() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let nodes = vec![
        node("asked", "whale"),
        node("given-away", "whale whale"),
        node("behind", "krill"),
    ];
    let edges = vec![
        NewEdge::new(id("asked"), id("given-away"), "hyperlink"),
        NewEdge::new(id("given-away"), id("behind"), "hyperlink"),
    ];
    memory.write(&Batch { nodes, edges }).unwrap();
    let seen = |hidden: &[NodeId]| {
        let mut query = query("whale");
        query.filter.hidden = hidden.to_vec();
        let found = memory.search(&query).unwrap();
        let recall = memory.recall(&query, &found, &RecallLimits::default());
        let mut ids: Vec<_> = recall.nodes.iter().map(|node| node.id).collect();
        ids.sort();
        (found.hits.len(), ids, found.filter_share)
    };
    let mut all = vec![id("asked"), id("given-away"), id("behind")];
    all.sort();
    assert_eq!(seen(&[]), (2, all, 1.0));
    let hidden = [id("given-away"), id("never written")];
    assert_eq!(seen(&hidden), (1, vec![id("asked")], 2.0 / 3.0));
}

#[test]
fn words_alone_and_vectors_alone_are_enough() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let vector = |values: [f32; 4]| Some(values.to_vec());
    let nodes = vec![
        NewNode {
            vector: vector([1.0, 0.0, 0.0, 0.0]),
            ..node("a", "red fox")
        },
        NewNode {
            vector: vector([0.0, 1.0, 0.0, 0.0]),
            ..node("b", "blue whale")
        },
        node("c", "grey whale"),
        NewNode {
            vector: vector([0.0, 0.0, 0.0, 1.0]),
            ..node("d", "green frog")
        },
    ];
    memory
        .write(&Batch {
            nodes,
            ..Batch::default()
        })
        .unwrap();
    let by_words = memory.search(&query("whales")).unwrap().hits;
    assert_eq!(by_words.len(), 2);
    assert!(
        by_words
            .iter()
            .all(|hit| hit.cosine.is_none() && hit.bm25.is_some())
    );
    let by_vector = Query {
        vector: vector([0.9, 0.1, 0.0, 0.0]),
        ..query("zebra")
    };
    let by_vector = memory.search(&by_vector).unwrap().hits;
    assert_eq!(
        by_vector.iter().map(|hit| hit.id).collect::<Vec<_>>(),
        [id("a"), id("b"), id("d")]
    );
    assert!(
        by_vector
            .iter()
            .all(|hit| hit.cosine.is_some() && hit.bm25.is_none())
    );
    let both = Query {
        vector: vector([0.0, 1.0, 0.0, 0.0]),
        ..query("whale")
    };
    let both = memory.search(&both).unwrap().hits;
    assert_eq!(both[0].id, id("b"));
    assert_eq!(
        both.len(),
        4,
        "a node without vector is still found by its words"
    );
}

#[test]
fn while_most_nodes_wait_for_their_vectors_words_alone_find_them() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let vector = |first: f32| Some(vec![first, 1.0, 0.0, 0.0]);
    let waiting = (0..8).map(|number| node(&format!("waiting{number}"), "whale tail fin"));
    let mut nodes: Vec<NewNode> = waiting.collect();
    nodes.push(node("best", "whale song"));
    for number in 0..4 {
        nodes.push(NewNode {
            vector: vector(0.1 * number as f32),
            ..node(&format!("near{number}"), "song about rain")
        });
    }
    let write = |nodes: Vec<NewNode>| {
        let batch = Batch {
            nodes,
            ..Batch::default()
        };
        memory.write(&batch).unwrap();
    };
    write(nodes);
    let search = |text: &str| {
        let query = Query {
            vector: vector(0.5),
            ..query(text)
        };
        memory.search(&query).unwrap().hits
    };
    let found = search("whale song");
    assert_eq!(found[0].id, id("best"));
    assert!(found.iter().all(|hit| hit.cosine.is_none()));
    // What no word finds is found by the vectors that there are.
    assert_eq!(search("cetacean")[0].id, id("near3"));
    // Enough of them, and they count.
    let filled = (0..8).map(|number| NewNode {
        vector: vector(-1.0),
        ..node(&format!("waiting{number}"), "whale tail fin")
    });
    write(filled.collect());
    let found = search("whale song");
    assert!(found.iter().any(|hit| hit.cosine.is_some()));
}

#[test]
fn a_vector_that_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let asked = |vector: Vec<f32>| {
        memory.search(&Query {
            vector: Some(vector),
            ..query("x")
        })
    };
    let short = Err(SearchError::Dimensions {
        expected: 4,
        found: 3,
    });
    assert_eq!(asked(vec![1.0; 3]), short);
    assert_eq!(asked(vec![0.0; 4]), Err(SearchError::NotAVector));
    assert_eq!(asked(vec![f32::NAN; 4]), Err(SearchError::NotAVector));
}
