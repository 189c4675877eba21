//! How a memory's attention is trained, kept and refused.

use weir_memory::{
    AttentionWeights, Batch, EdgeMetadata, LabelledQuestion, Memory, NewEdge, NewNode, NodeId,
    OpenError, Query, TrainError, TrainOptions, train,
};

use crate::{config, id, node, open, query};

/// Works with a maker and a rumour each: a question about the maker of a work has the maker as its answer, which only the
/// relation tells from the rumour.
fn works(memory: &Memory, count: usize) -> Vec<LabelledQuestion> {
    let mut batch = Batch::default();
    let mut questions = Vec::new();
    for number in 0..count {
        let name = |kind: &str| format!("{kind}{number}");
        let vector = |own: f32| Some(vec![1.0, own, 0.0, number as f32 / count as f32]);
        for (kind, text) in [
            ("work", format!("opus{number} is a work")),
            ("maker", "born somewhere".to_owned()),
            ("rumour", "said somewhere".to_owned()),
        ] {
            batch.nodes.push(NewNode {
                vector: vector(0.5),
                ..node(&name(kind), &text)
            });
        }
        let work = id(&name("work"));
        batch
            .edges
            .push(NewEdge::new(work, id(&name("maker")), "made_by"));
        batch
            .edges
            .push(NewEdge::new(work, id(&name("rumour")), "told_of"));
        questions.push(LabelledQuestion {
            query: Query {
                k: 4,
                ..query(&format!("who made opus{number}"))
            },
            gold: vec![id(&name("maker"))],
        });
    }
    memory.write(&batch).unwrap();
    questions
}

fn place(memory: &Memory, question: &LabelledQuestion) -> usize {
    let found = memory.search(&question.query).unwrap();
    let recall = memory.recall(
        &question.query,
        &found,
        &weir_memory::RecallLimits::default(),
    );
    let gold = recall
        .nodes
        .iter()
        .position(|node| node.id == question.gold[0]);
    gold.unwrap()
}

#[test]
fn training_finds_the_relation_that_answers_and_the_store_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let questions = works(&memory, 40);
    let (asked, learned) = questions.split_at(8);
    let mut runs = Vec::new();
    let told = |seed| TrainOptions {
        seed,
        ..TrainOptions::default()
    };
    let sets = [(&memory, learned)];
    let (weights, report) = train(&sets, &told(1), &mut |at| runs.push(at)).unwrap();
    assert_eq!((report.questions, report.unreachable), (32, 0));
    assert!(report.loss < 0.5 * report.loss_before, "{report:?}");
    assert!(runs.is_sorted_by_key(|at| at.done));
    assert_eq!(
        runs.last().map(|at| at.done),
        runs.last().map(|at| at.total)
    );
    assert_eq!(train(&sets, &told(1), &mut |_| {}).unwrap().0, weights);

    memory.keep_attention(weights.clone()).unwrap();
    let places: Vec<usize> = asked
        .iter()
        .map(|question| place(&memory, question))
        .collect();
    assert!(places.iter().all(|place| *place < 2), "{places:?}");
    drop(memory);
    let again = open(dir.path());
    assert_eq!(*again.attention(), weights);
    let after: Vec<usize> = asked
        .iter()
        .map(|question| place(&again, question))
        .collect();
    assert_eq!(after, places);
}

#[test]
fn weights_are_used_until_others_are_set() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    assert_eq!(*memory.attention(), AttentionWeights::default());
    memory.set_attention(AttentionWeights::pagerank()).unwrap();
    assert_eq!(*memory.clone().attention(), AttentionWeights::pagerank());
    drop(memory);
    assert_eq!(*open(dir.path()).attention(), AttentionWeights::default());
}

#[test]
fn a_store_with_damaged_weights_says_which_file_and_opens_without_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let file = dir.path().join("attention.json");
    std::fs::write(&file, "{\"version\": 7}").unwrap();
    let error = Memory::open(dir.path(), &config()).unwrap_err();
    assert!(matches!(error, OpenError::Attention { .. }), "{error}");
    assert!(error.to_string().contains("attention.json"), "{error}");
    std::fs::remove_file(&file).unwrap();
    drop(open(dir.path()));
}

#[test]
fn too_few_questions_train_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let mut questions = works(&memory, 12);
    for question in &mut questions[..4] {
        question.gold = vec![NodeId::random()];
    }
    let sets = [(&memory, questions.as_slice())];
    let error = train(&sets, &TrainOptions::default(), &mut |_| {}).unwrap_err();
    let too_few = matches!(
        error,
        TrainError::TooFew {
            questions: 12,
            usable: 8
        }
    );
    assert!(too_few, "{error}");
}

#[test]
fn a_masked_link_hides_who_asks_and_has_what_it_links_to_as_gold() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    works(&memory, 15);
    let questions = memory.masked_links("acme", 10, 3).unwrap();
    assert_eq!(questions.len(), 10);
    assert_eq!(questions, memory.masked_links("acme", 10, 3).unwrap());
    for question in &questions {
        let [hidden] = question.query.filter.hidden[..] else {
            panic!("one node asks: {question:?}");
        };
        let linked = memory.edges(hidden).unwrap();
        let to = |edge: &weir_memory::Edge| edge.src == hidden && edge.dst == question.gold[0];
        assert!(linked.iter().any(to));
        assert!(question.query.vector.is_some());
        let found = memory.search(&question.query).unwrap();
        assert!(found.hits.iter().all(|hit| hit.id != hidden));
    }
    assert!(memory.masked_links("nobody", 10, 3).unwrap().is_empty());
}

/// Weights that look at one feature of an edge and at what came along edges.
fn looking_at(feature: &str) -> AttentionWeights {
    let head = serde_json::json!({"bias": 0.0, "temperature": 1.0, "edge": {feature: 2.0}});
    let both = serde_json::json!({"forwards": head, "backwards": head});
    let file = serde_json::json!({
        "version": 1, "trained_on": "a test", "layers": 2, "moves": 0.5, "seed": {"strength": 1.0},
        "other": both, "score": {"log_attention": 1.0},
    });
    AttentionWeights::from_json(&file.to_string()).unwrap()
}

#[test]
fn an_edge_draws_by_its_sentence_age_confidence_and_weight() {
    const DAY: u64 = 86_400_000;
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let metadata = EdgeMetadata {
        timestamp: Some(1000 * DAY),
        confidence: Some(0.5),
        ..EdgeMetadata::default()
    };
    let said = |evidence: &str| EdgeMetadata {
        evidence: Some(evidence.to_owned()),
        ..metadata.clone()
    };
    let edge = |name: &str| NewEdge {
        metadata: metadata.clone(),
        ..NewEdge::new(id("seed"), id(name), "cites")
    };
    let edges = vec![
        NewEdge {
            metadata: said("The whale was sung about by Ishmael."),
            ..edge("evidence")
        },
        NewEdge {
            metadata: said("Nothing of the kind."),
            ..edge("plain")
        },
        NewEdge {
            metadata: EdgeMetadata {
                confidence: Some(1.0),
                ..metadata.clone()
            },
            ..edge("confidence")
        },
        NewEdge {
            metadata: EdgeMetadata {
                timestamp: Some(1100 * DAY),
                ..metadata.clone()
            },
            ..edge("recency")
        },
        NewEdge {
            weight: 3.0,
            ..edge("log_weight")
        },
    ];
    let mut nodes = vec![node("seed", "whale")];
    nodes.extend(edges.iter().map(|edge| NewNode {
        id: edge.dst,
        ..node("any", "something in the sea")
    }));
    memory.write(&Batch { nodes, edges }).unwrap();
    let first = |memory: &Memory, feature: &str| {
        let asked = query("who sung about a whale");
        let found = memory.search(&asked).unwrap();
        let limits = weir_memory::RecallLimits::default();
        let recall = memory
            .recall_with(&looking_at(feature), &asked, &found, &limits)
            .unwrap();
        let others = recall.nodes.iter().filter(|node| node.depth == 1);
        let best = others.max_by(|a, b| a.score.total_cmp(&b.score));
        best.unwrap().id
    };
    let features = ["evidence", "confidence", "recency", "log_weight"];
    for feature in features {
        assert_eq!(first(&memory, feature), id(feature), "{feature}");
    }
    drop(memory);
    let again = open(dir.path());
    for feature in features {
        assert_eq!(first(&again, feature), id(feature), "{feature}, reopened");
    }
}

#[test]
fn sentences_that_change_while_weights_look_at_them_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let said = |to: &str, sentence: &str| NewEdge {
        metadata: EdgeMetadata {
            evidence: Some(sentence.to_owned()),
            ..EdgeMetadata::default()
        },
        ..NewEdge::new(id("seed"), id(to), "cites")
    };
    let nodes = ["a", "b"].map(|name| node(name, "something in the sea"));
    let mut batch = Batch {
        // A word that no text has says nothing of a sentence.
        nodes: vec![node("seed", "whale"), node("song", "a song is sung")],
        edges: vec![
            said("a", "It was sung about."),
            said("b", "Nothing of the kind."),
        ],
    };
    batch.nodes.extend(nodes);
    memory.write(&batch).unwrap();
    let first = |memory: &Memory| {
        let asked = query("who sung about a whale");
        let found = memory.search(&asked).unwrap();
        let recall = memory.recall(&asked, &found, &weir_memory::RecallLimits::default());
        let others = recall.nodes.iter().filter(|node| node.depth == 1);
        let best = others.max_by(|a, b| a.score.total_cmp(&b.score));
        best.unwrap().id
    };
    memory.keep_attention(looking_at("evidence")).unwrap();
    assert_eq!(first(&memory), id("a"));
    let edges = vec![said("a", "Nothing."), said("b", "It was sung about.")];
    let changed = Batch {
        edges,
        ..Batch::default()
    };
    memory.write(&changed).unwrap();
    assert_eq!(first(&memory), id("b"));
    drop(memory);
    assert_eq!(first(&open(dir.path())), id("b"), "reopened");
}

#[test]
fn a_sentence_counts_for_what_it_says_beyond_the_names_of_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let titled = |name: &str, title: &str, text: &str| {
        let mut node = node(name, text);
        node.metadata.title = Some(title.to_owned());
        node
    };
    let said = |to: &str, sentence: &str| NewEdge {
        metadata: EdgeMetadata {
            evidence: Some(sentence.to_owned()),
            ..EdgeMetadata::default()
        },
        ..NewEdge::new(id("seed"), id(to), "mentions")
    };
    let nodes = vec![
        titled("seed", "Moby Dick", "The whale and its captain."),
        titled("plain", "Queequeg", "A harpooner of the ship."),
        titled("answer", "Herman Melville", "A writer at sea."),
    ];
    let edges = vec![
        said("plain", "Moby Dick and Queequeg."),
        said("answer", "It was written by Herman Melville."),
    ];
    memory.write(&Batch { nodes, edges }).unwrap();
    let asked = query("by whom was Moby Dick written");
    let found = memory.search(&asked).unwrap();
    let limits = weir_memory::RecallLimits::default();
    let first = |feature: &str| {
        let weights = looking_at(feature);
        let recall = memory.recall_with(&weights, &asked, &found, &limits);
        let recall = recall.unwrap();
        let best = recall.nodes.iter().find(|node| node.depth == 1);
        best.unwrap().id
    };
    assert_eq!(first("evidence"), id("plain"), "two words of the question");
    assert_eq!(first("evidence_beyond_names"), id("answer"));
}

#[test]
fn a_node_whose_title_the_question_names_is_a_stronger_seed() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let titled = |name: &str, title: &str| {
        let mut node = node(name, "something about a whale at sea");
        node.metadata.title = Some(title.to_owned());
        node
    };
    let nodes = vec![titled("named", "Moby (film)"), titled("half", "Moby Dick")];
    let edges = Vec::new();
    memory.write(&Batch { nodes, edges }).unwrap();
    let json = looking_at("log_weight").to_json();
    let mut file: serde_json::Value = serde_json::from_str(&json).unwrap();
    file["seed"] = serde_json::json!({"named": 3.0});
    let weights = AttentionWeights::from_json(&file.to_string()).unwrap();
    let asked = query("the whale of Moby");
    let found = memory.search(&asked).unwrap();
    let limits = weir_memory::RecallLimits::default();
    let recall = memory.recall_with(&weights, &asked, &found, &limits);
    let nodes = recall.unwrap().nodes;
    assert_eq!(nodes[0].id, id("named"));
    assert!(nodes[0].score > 5.0 * nodes[1].score, "{nodes:?}");
}
