//! What was recalled is given out again only while a fresh answer would be made of the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use weir_memory::context::Candidate;
use weir_memory::{
    AttentionWeights, Batch, Filter, Memory, NewEdge, NewNode, NodeId, NodeType, Query, RecallKey,
    RecallLimits, Recollected, SHARED_TENANT,
};

use crate::{id, open};

/// Reads and writes of the model test: this many, or as many as the variable says.
const OPERATIONS: usize = 40_000;
const VARIABLE: &str = "WEIR_CACHE_OPERATIONS";

const LIMITS: RecallLimits = RecallLimits {
    seeds: 8,
    hops: 1,
    nodes_max: 16,
};
const CANDIDATES: usize = 6;
const TENANTS: [&str; 3] = ["acme", "globex", SHARED_TENANT];
const WORDS: [&str; 6] = ["heron", "pond", "bees", "spring", "stone", "rain"];

fn asked(tenant: &str, text: &str, types: &[NodeType]) -> Query {
    Query {
        text: text.to_owned(),
        filter: Filter {
            tenant: tenant.to_owned(),
            types: types.to_vec(),
            ..Filter::default()
        },
        k: LIMITS.seeds,
        ..Query::default()
    }
}

fn key(query: &Query) -> RecallKey {
    let limits = (LIMITS, CANDIDATES);
    RecallKey::new(&query.text, query.vector.as_deref(), &query.filter, limits).unwrap()
}

/// An answer made now, of the rows as they are now.
fn fresh(memory: &Memory, query: &Query) -> Recollected {
    let found = memory.search(query).unwrap();
    let recall = memory.recall(query, &found, &LIMITS);
    let candidates = |scored: Vec<(NodeId, f32)>| -> Vec<Candidate> {
        let of = |(id, score)| Some(Candidate::new(memory.node(id).unwrap()?, score));
        scored.into_iter().take(CANDIDATES).filter_map(of).collect()
    };
    Recollected {
        hits: candidates(
            found
                .hits
                .iter()
                .map(|hit| (hit.id, hit.strength))
                .collect(),
        ),
        nodes: candidates(
            recall
                .nodes
                .iter()
                .map(|node| (node.id, node.score))
                .collect(),
        ),
        found,
        recall,
    }
}

/// From the cache, or made and kept. Whether it came from the cache.
fn recollect(memory: &Memory, query: &Query) -> (Arc<Recollected>, bool) {
    let key = key(query);
    if let Some(kept) = memory.recollected(&key) {
        return (kept, true);
    }
    let freshness = memory.freshness(&query.filter);
    let answer = Arc::new(fresh(memory, query));
    memory.keep_recollected(key, freshness, &answer);
    (answer, false)
}

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// What the model remembers of a node that is there: whose it is, and whether it is a trace.
type Known = HashMap<NodeId, (&'static str, bool)>;

/// One random write; whose nodes it changed, and whether only traces.
fn write(memory: &Memory, random: &mut Random, known: &mut Known) -> Vec<(&'static str, bool)> {
    let number = random.below(40);
    let node = id(&format!("n{number}"));
    let before = known.get(&node).copied();
    match random.below(10) {
        0 => {
            memory.delete(node).unwrap();
            known.remove(&node);
            before.into_iter().collect()
        }
        1..=3 => {
            let other = id(&format!("n{}", random.below(40)));
            let ends = [node, other].map(|end| known.get(&end).copied());
            let [Some(one), Some(two)] = ends else {
                return Vec::new();
            };
            let edge = NewEdge {
                weight: 0.1 + random.below(9) as f32 / 10.0,
                ..NewEdge::new(node, other, random.of(&["cites", "follows"]))
            };
            let batch = Batch {
                nodes: Vec::new(),
                edges: vec![edge],
            };
            memory.write(&batch).unwrap();
            let trace = one.1 || two.1;
            vec![(one.0, trace), (two.0, trace)]
        }
        _ => {
            let (tenant, trace) = (random.of(&TENANTS), random.below(3) == 0);
            let text = format!(
                "{} {} {}",
                random.of(&WORDS),
                random.of(&WORDS),
                random.below(1000)
            );
            let new = NewNode {
                id: node,
                node_type: if trace {
                    NodeType::Trace
                } else {
                    NodeType::Doc
                },
                ..NewNode::new(tenant, text)
            };
            let batch = Batch {
                nodes: vec![new],
                edges: Vec::new(),
            };
            memory.write(&batch).unwrap();
            known.insert(node, (tenant, trace));
            before.into_iter().chain([(tenant, trace)]).collect()
        }
    }
}

#[test]
fn no_answer_is_staler_than_the_last_write_that_its_question_sees() {
    let operations = std::env::var(VARIABLE)
        .ok()
        .and_then(|count| count.parse().ok());
    let operations = operations.unwrap_or(OPERATIONS);
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let mut random = Random(42);
    let (mut known, mut hits, mut writes) = (Known::new(), 0_u64, 0_u64);
    // The model: for each question, the writes that it sees so far, and the answers made since the last of them.
    let mut questions: Vec<(Query, u64)> = Vec::new();
    for tenant in ["acme", "globex"] {
        for word in WORDS {
            for types in [&[][..], &[NodeType::Trace, NodeType::Doc]] {
                questions.push((asked(tenant, word, types), 0));
            }
        }
    }
    let mut made: Vec<(u64, Vec<Arc<Recollected>>)> = vec![(0, Vec::new()); questions.len()];
    for _ in 0..operations {
        if random.below(25) == 0 {
            writes += 1;
            let before = memory.generation();
            let changed = write(&memory, &mut random, &mut known);
            if memory.generation() == before {
                continue;
            }
            for (question, seen) in &mut questions {
                let sees = |(tenant, trace): &(&str, bool)| {
                    let is_his = *tenant == question.filter.tenant || *tenant == SHARED_TENANT;
                    is_his && (!trace || question.filter.types.contains(&NodeType::Trace))
                };
                *seen += u64::from(changed.iter().any(sees));
            }
            continue;
        }
        let at = random.below(questions.len());
        let (question, seen) = &questions[at];
        let (answer, kept) = recollect(&memory, question);
        let (since, answers) = &mut made[at];
        if since != seen {
            (*since, *answers) = (*seen, Vec::new());
        }
        if kept {
            hits += 1;
            assert!(
                answers.iter().any(|made| Arc::ptr_eq(made, &answer)),
                "an answer to {question:?} that was made before a write it should have seen"
            );
            for candidate in answer.hits.iter().chain(&answer.nodes) {
                let now = memory.node(candidate.node.id).unwrap();
                assert_eq!(
                    now.as_ref(),
                    Some(&candidate.node),
                    "a row that has changed since"
                );
            }
        } else {
            assert_eq!(*answer, fresh(&memory, question));
            answers.push(answer);
        }
    }
    let counts = memory.cache_counts();
    assert_eq!(counts.hits, hits);
    assert!(
        hits as usize > operations / 4,
        "{counts:?} after {writes} writes"
    );
    eprintln!(
        "{operations} operations, {writes} of them writes, {hits} answers from the cache, none stale"
    );
}

#[test]
fn readers_beside_a_writer_never_see_what_was_replaced_before_they_asked() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let put = |version: u64| {
        let node = NewNode {
            id: id("counter"),
            ..NewNode::new("acme", format!("heron {version}"))
        };
        let batch = Batch {
            nodes: vec![node],
            edges: Vec::new(),
        };
        memory.write(&batch).unwrap();
    };
    put(0);
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let asking = || {
        let question = asked("acme", "heron", &[]);
        let mut hits = 0;
        while !stop.load(Ordering::Acquire) {
            let least = written.load(Ordering::Acquire);
            let (answer, kept) = recollect(&memory, &question);
            let text = &answer.hits.first().unwrap().node.text;
            let version: u64 = text.strip_prefix("heron ").unwrap().parse().unwrap();
            assert!(version >= least, "{version} was replaced by {least} before");
            hits += u64::from(kept);
        }
        hits
    };
    let hits: u64 = thread::scope(|scope| {
        let readers = [
            scope.spawn(asking),
            scope.spawn(asking),
            scope.spawn(asking),
        ];
        for version in 1..=400 {
            put(version);
            written.store(version, Ordering::Release);
        }
        stop.store(true, Ordering::Release);
        readers
            .map(|reader| reader.join().unwrap())
            .into_iter()
            .sum()
    });
    assert!(hits > 0, "nothing came from the cache");
}

#[test]
fn another_way_to_recall_another_question_and_an_erasure_are_not_answered_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let about = NewNode {
        metadata: weir_memory::Metadata {
            subject: Some("jane".to_owned()),
            ..weir_memory::Metadata::default()
        },
        ..crate::node("jane", "jane lives by the heron pond")
    };
    let nodes = vec![about, crate::node("pond", "the pond is deep")];
    memory
        .write(&Batch {
            nodes,
            edges: Vec::new(),
        })
        .unwrap();
    let question = asked("acme", "pond", &[]);
    let kept = |query: &Query| recollect(&memory, query).1;
    assert!(!kept(&question) && kept(&question));
    for other in [
        asked("acme", "ponds", &[]),
        asked("globex", "pond", &[]),
        asked("acme", "pond", &[NodeType::Doc]),
        Query {
            vector: Some(vec![1.0, 0.0, 0.0, 0.0]),
            ..question.clone()
        },
    ] {
        assert!(!kept(&other), "{other:?}");
    }
    assert!(kept(&question));
    memory.set_attention(AttentionWeights::default()).unwrap();
    assert!(!kept(&question) && kept(&question), "other weights");
    let hiding = Filter {
        hidden: vec![id("pond")],
        ..question.filter.clone()
    };
    assert!(RecallKey::new("pond", None, &hiding, (LIMITS, CANDIDATES)).is_none());
    // An answer that was begun before the erasure is not kept after it.
    let (begun, late) = (
        memory.freshness(&question.filter),
        Arc::new(fresh(&memory, &question)),
    );
    let held = memory.cache_counts();
    assert!(held.entries > 1 && held.bytes > 0);
    let erased = memory.erase("jane", None).unwrap();
    assert_eq!((erased.nodes, erased.recollections), (1, held.entries));
    memory.keep_recollected(key(&question), begun, &late);
    let left = memory.cache_counts();
    assert_eq!((left.entries, left.bytes), (0, 0));
    let (answer, _) = recollect(&memory, &question);
    assert!(answer.hits.iter().all(|hit| hit.node.id != id("jane")));
}
