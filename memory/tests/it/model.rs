//! Random operations against plain maps: the index and the rows never disagree with what was asked
//! for.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weir_memory::{Batch, Filter, Memory, NewEdge, NewNode, NodeId, NodeType, Query};

use crate::{id, open};

const WORDS: [&str; 6] = ["whale", "fox", "krill", "sea", "song", "night"];
const TENANTS: [&str; 3] = ["acme", "other", "shared"];
const TYPES: [NodeType; 3] = [NodeType::Doc, NodeType::Memory, NodeType::Trace];
const NAMES: usize = 12;

#[derive(Clone, Debug)]
enum Operation {
    Put {
        name: usize,
        words: Vec<usize>,
        tenant: usize,
        node_type: usize,
        vector: Option<[i8; 4]>,
    },
    SetVector {
        name: usize,
        vector: [i8; 4],
    },
    Link {
        src: usize,
        dst: usize,
        weight: u8,
    },
    Delete {
        name: usize,
    },
    Reopen,
    Search {
        words: Vec<usize>,
        vector: [i8; 4],
        tenant: usize,
        types: Vec<usize>,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let name = 0..NAMES;
    let words = || prop::collection::vec(0..WORDS.len(), 1..5);
    prop_oneof![
        4 => (name.clone(), words(), 0..3usize, 0..3usize, prop::option::of(any::<[i8; 4]>()))
            .prop_map(|(name, words, tenant, node_type, vector)| Operation::Put {
                name, words, tenant, node_type, vector
            }),
        2 => (name.clone(), any::<[i8; 4]>())
            .prop_map(|(name, vector)| Operation::SetVector { name, vector }),
        2 => (name.clone(), name.clone(), 1..9u8)
            .prop_map(|(src, dst, weight)| Operation::Link { src, dst, weight }),
        1 => name.prop_map(|name| Operation::Delete { name }),
        1 => Just(Operation::Reopen),
        3 => (words(), any::<[i8; 4]>(), 0..2usize, prop::collection::vec(0..3usize, 0..2))
            .prop_map(|(words, vector, tenant, types)| Operation::Search {
                words, vector, tenant, types
            }),
    ]
}

/// A vector with a direction.
fn vector(values: [i8; 4]) -> Vec<f32> {
    let mut vector: Vec<f32> = values.iter().map(|value| f32::from(*value)).collect();
    vector[0] += 0.5;
    vector
}

fn text(words: &[usize]) -> String {
    words
        .iter()
        .map(|word| WORDS[*word])
        .collect::<Vec<_>>()
        .join(" ")
}

#[derive(Clone, Debug)]
struct Held {
    words: Vec<usize>,
    tenant: usize,
    node_type: usize,
    vector: Option<Vec<f32>>,
}

#[derive(Default)]
struct Model {
    nodes: BTreeMap<usize, Held>,
    edges: BTreeMap<(usize, usize), u8>,
    /// Nodes whose text was handed out for embedding.
    handed_out: BTreeSet<usize>,
}

impl Model {
    fn sees(&self, held: &Held, tenant: usize, types: &[usize]) -> bool {
        let by_type = match types {
            [] => TYPES[held.node_type] != NodeType::Trace,
            types => types.contains(&held.node_type),
        };
        by_type && (held.tenant == tenant || TENANTS[held.tenant] == "shared")
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn name_id(name: usize) -> NodeId {
    id(&format!("n{name}"))
}

fn put(memory: &Memory, model: &mut Model, name: usize, mut held: Held) {
    let new = NewNode {
        id: name_id(name),
        node_type: TYPES[held.node_type],
        vector: held.vector.clone(),
        ..NewNode::new(TENANTS[held.tenant], text(&held.words))
    };
    memory
        .write(&Batch {
            nodes: vec![new],
            ..Batch::default()
        })
        .unwrap();
    if let Some(before) = model.nodes.get(&name)
        && held.vector.is_none()
        && before.words == held.words
    {
        held.vector.clone_from(&before.vector);
    }
    model.nodes.insert(name, held);
}

fn link(memory: &Memory, model: &mut Model, (src, dst, weight): (usize, usize, u8)) {
    let edge = NewEdge {
        weight: f32::from(weight),
        ..NewEdge::new(name_id(src), name_id(dst), "r")
    };
    let result = memory.write(&Batch {
        edges: vec![edge],
        ..Batch::default()
    });
    let both = model.nodes.contains_key(&src) && model.nodes.contains_key(&dst);
    assert_eq!(result.is_ok(), both);
    if both {
        model.edges.insert((src, dst), weight);
    }
}

fn search(
    memory: &Memory,
    model: &Model,
    words: &[usize],
    asked: &[f32],
    filter: (usize, &[usize]),
) {
    let (tenant, types) = filter;
    let query = Query {
        text: text(words),
        vector: Some(asked.to_vec()),
        filter: Filter {
            tenant: TENANTS[tenant].to_owned(),
            types: types.iter().map(|at| TYPES[*at]).collect(),
            ..Filter::default()
        },
        k: NAMES,
        ..Query::default()
    };
    let found = memory.search(&query).unwrap();
    let visible = model
        .nodes
        .iter()
        .filter(|(_, held)| model.sees(held, tenant, types));
    let visible: Vec<_> = visible
        .map(|(name, held)| {
            (
                *name,
                held,
                held.words.iter().any(|word| words.contains(word)),
            )
        })
        .collect();
    // Words alone, where they find any, while more than a quarter of all nodes have no vector.
    let all = model.nodes.len();
    let filled = model
        .nodes
        .values()
        .filter(|held| held.vector.is_some())
        .count();
    let by_vector = 4 * filled >= 3 * all || !visible.iter().any(|(.., known)| *known);
    let mut expected = BTreeMap::new();
    for (name, held, known) in visible {
        let own = held.vector.as_ref().filter(|_| by_vector);
        if known || own.is_some() {
            expected.insert(name_id(name), (own.map(|own| cosine(own, asked)), known));
        }
    }
    assert_eq!(found.hits.len(), expected.len());
    for hit in &found.hits {
        let (cosine, known) = expected[&hit.id];
        assert_eq!(hit.bm25.is_some(), known);
        assert_eq!(hit.cosine.is_some(), cosine.is_some());
        if let (Some(ours), Some(exact)) = (hit.cosine, cosine) {
            assert!((ours - exact).abs() < 1e-5, "{ours} is not {exact}");
        }
    }
    assert!(found.hits.is_sorted_by(|a, b| a.strength >= b.strength));
}

fn agree(memory: &Memory, model: &mut Model) {
    let counts = memory.counts();
    let vectors = model
        .nodes
        .values()
        .filter(|held| held.vector.is_some())
        .count();
    assert_eq!((counts.nodes, counts.vectors), (model.nodes.len(), vectors));
    assert_eq!(counts.edges, model.edges.len());
    assert_eq!(memory.pending_vectors(NAMES).unwrap().len(), counts.pending);
    let pending = model.nodes.iter().filter(|(_, held)| held.vector.is_none());
    model.handed_out.extend(pending.map(|(name, _)| *name));
    for name in 0..NAMES {
        let stored = memory.node(name_id(name)).unwrap();
        let held = model.nodes.get(&name);
        assert_eq!(
            stored.map(|node| node.text),
            held.map(|held| text(&held.words))
        );
        let touching = model
            .edges
            .keys()
            .filter(|(src, dst)| *src == name || *dst == name);
        assert_eq!(memory.edges(name_id(name)).unwrap().len(), touching.count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_store_agrees_with_plain_maps(operations in prop::collection::vec(operation(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = open(dir.path());
        let mut model = Model::default();
        for operation in operations {
            match operation {
                Operation::Put { name, words, tenant, node_type, vector: values } => {
                    let held = Held { words, tenant, node_type, vector: values.map(vector) };
                    put(&memory, &mut model, name, held);
                }
                Operation::SetVector { name, vector: values } => {
                    let stored = memory.set_vectors(&[(name_id(name), vector(values))]).unwrap();
                    let handed_out = model.handed_out.remove(&name);
                    let held = model.nodes.get_mut(&name);
                    let held = held.filter(|held| !handed_out || held.vector.is_none());
                    prop_assert_eq!(stored, usize::from(held.is_some()));
                    if let Some(held) = held {
                        held.vector = Some(vector(values));
                    }
                }
                Operation::Link { src, dst, weight } => {
                    link(&memory, &mut model, (src, dst, weight));
                }
                Operation::Delete { name } => {
                    let was_there = model.nodes.remove(&name).is_some();
                    prop_assert_eq!(memory.delete(name_id(name)).unwrap(), was_there);
                    model.edges.retain(|(src, dst), _| *src != name && *dst != name);
                }
                Operation::Reopen => {
                    drop(memory);
                    model.handed_out.clear();
                    memory = open(dir.path());
                }
                Operation::Search { words, vector: values, tenant, types } => {
                    search(&memory, &model, &words, &vector(values), (tenant, &types));
                }
            }
            agree(&memory, &mut model);
        }
    }
}
