//! The traps of approximate search, each against the comparison of all.

mod snapshots;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const DIMENSIONS: usize = 24;
const CLUSTERS: usize = 30;

/// Small enough for a graph over a few vectors.
const PARAMETERS: HnswParameters = HnswParameters {
    links: 16,
    ef_construction: 100,
    ef_search: 64,
    exact_max: 100,
};

/// Numbers that look random and depend on the seed alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    fn unit(&mut self, around: Option<&[f32]>) -> Vec<f32> {
        let mut value =
            |centre: f32| centre + 0.3 * ((self.next() as f32 / (1_u64 << 30) as f32) - 1.0);
        let vector: Vec<f32> = match around {
            Some(centre) => centre.iter().map(|centre| value(*centre)).collect(),
            None => (0..DIMENSIONS).map(|_| value(0.0)).collect(),
        };
        normalised(&vector).unwrap()
    }
}

proptest! {
    #[test]
    fn the_nth_largest_is_that_of_a_sorted_list(
        // Few different ones, so that many are equal.
        values in prop::collection::vec((-20_i8..20).prop_map(f32::from), 0..300),
        count in 0_usize..40,
    ) {
        let mut sorted = values.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let wanted = count.checked_sub(1).and_then(|last| sorted.get(last).copied());
        prop_assert_eq!(nth_largest(values.into_iter(), count), wanted);
    }
}

/// `count` vectors around a few centres, and a query near each.
fn clustered(count: usize, seed: u64) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let mut random = Random(seed);
    let centres: Vec<Vec<f32>> = (0..CLUSTERS).map(|_| random.unit(None)).collect();
    let around = |random: &mut Random, at: usize| random.unit(Some(&centres[at % CLUSTERS]));
    let vectors = (0..count).map(|at| around(&mut random, at)).collect();
    let queries = (0..10 * CLUSTERS)
        .map(|at| around(&mut random, at))
        .collect();
    (vectors, queries)
}

fn filled(vectors: &[Vec<f32>]) -> Vectors {
    let mut filled = Vectors::new(vectors[0].len(), PARAMETERS);
    for (slot, vector) in (0..).zip(vectors) {
        filled.set(slot, vector);
    }
    settle(&mut filled);
    filled
}

/// Links all that waits.
fn settle(vectors: &mut Vectors) {
    while let Some(planned) = vectors.plan(u64::from) {
        vectors.commit(planned);
    }
    assert_eq!(vectors.waiting(), 0);
}

/// The `count` best by comparing all.
fn exact(vectors: &Vectors, query: &[f32], allowed: Option<&[bool]>, count: usize) -> Vec<u32> {
    let mut all = vectors.cosines(query, allowed);
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.iter().take(count).map(|(slot, _)| *slot).collect()
}

/// What a walk without a budget finds, nearest first.
fn walk(
    vectors: &Vectors,
    query: &[f32],
    allowed: Option<&[bool]>,
    ef: usize,
) -> Option<Vec<(u32, f32)>> {
    let question = vectors.codes.question(query);
    let looks = vectors.walk(&question, allowed, (ef, usize::MAX))?;
    let mut found = vectors.compared(query, &question, looks, ef);
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    Some(found)
}

fn walked(vectors: &Vectors, query: &[f32], allowed: Option<&[bool]>, ef: usize) -> Vec<u32> {
    let found = walk(vectors, query, allowed, ef).unwrap();
    found.iter().map(|(slot, _)| *slot).collect()
}

/// The share of the ten nearest that a walk finds.
fn recall(vectors: &Vectors, query: &[f32], allowed: Option<&[bool]>) -> f64 {
    let truth = exact(vectors, query, allowed, 10);
    let found = walked(vectors, query, allowed, PARAMETERS.ef_search);
    let hits = truth.iter().filter(|slot| found.contains(slot)).count();
    hits as f64 / truth.len().max(1) as f64
}

/// What holds between any two changes.
fn check(vectors: &Vectors) {
    let Some(graph) = &vectors.graph else {
        return;
    };
    let nodes: BTreeSet<u32> = graph.nodes().collect();
    let mut placed = BTreeSet::new();
    for node in &nodes {
        for layer in 0..=graph.level(*node) {
            let links = graph.links(layer, *node);
            assert!(links.len() <= graph.width(layer));
            assert_eq!(links.iter().collect::<BTreeSet<_>>().len(), links.len());
            for to in links {
                assert!(nodes.contains(to) && to != node && graph.level(*to) >= layer);
                assert!(graph.incoming(layer, *to).contains(node));
            }
            for from in graph.incoming(layer, *node) {
                assert!(graph.links(layer, *from).contains(node));
            }
        }
        for member in graph.group(*node).skip(1) {
            assert_eq!(vectors.get(member), vectors.get(*node));
            assert!(!vectors.waiting.contains_key(&member) && !nodes.contains(&member));
        }
        placed.extend(graph.group(*node));
    }
    assert_eq!(placed.len(), graph.len());
    let alone = nodes
        .iter()
        .copied()
        .filter(|node| graph.incoming(0, *node).is_empty());
    assert!(graph.unreachable().eq(alone));
    let top = graph.entry().map(|entry| graph.level(entry));
    assert_eq!(top, nodes.iter().map(|node| graph.level(*node)).max());
    assert_eq!(top.unwrap_or(0), graph.top());
    for (slot, present) in vectors.present.iter().enumerate() {
        let slot = slot as u32;
        assert!(*present == placed.contains(&slot) || vectors.waiting.contains_key(&slot));
    }
}

#[test]
fn the_worst_cluster_is_found_too_and_not_only_the_mean() {
    let (points, queries) = clustered(3_000, 1);
    let vectors = filled(&points);
    check(&vectors);
    let mut buckets = [0.0; CLUSTERS];
    for (at, query) in queries.iter().enumerate() {
        buckets[at % CLUSTERS] += recall(&vectors, query, None) / 10.0;
    }
    let mean = buckets.iter().sum::<f64>() / CLUSTERS as f64;
    let worst = buckets.iter().copied().fold(1.0, f64::min);
    assert!(mean >= 0.987 && worst >= 0.95, "mean {mean}, worst {worst}");
}

#[test]
fn a_filter_is_applied_inside_the_walk() {
    let (points, queries) = clustered(3_000, 2);
    let vectors = filled(&points);
    let mut random = Random(7);
    for per_thousand in [1, 10, 100, 500] {
        let allowed: Vec<bool> = (0..points.len())
            .map(|_| random.below(1_000) < per_thousand)
            .collect();
        let passed = allowed.iter().filter(|passes| **passes).count();
        let mut sum = 0.0;
        for query in &queries {
            let found = walked(&vectors, query, Some(&allowed), PARAMETERS.ef_search);
            assert!(found.iter().all(|slot| allowed[*slot as usize]));
            assert_eq!(
                found.len(),
                passed.min(PARAMETERS.ef_search),
                "{per_thousand} in 1,000"
            );
            sum += recall(&vectors, query, Some(&allowed));
        }
        let mean = sum / queries.len() as f64;
        assert!(mean >= 0.987, "{per_thousand} in 1,000: {mean}");
    }
}

#[test]
fn a_filter_opposed_to_the_query_costs_no_more_than_twice_the_comparison_and_finds_the_same() {
    let (points, queries) = clustered(3_000, 3);
    let vectors = filled(&points);
    for query in queries.iter().take(CLUSTERS) {
        let nearest = exact(&vectors, query, None, 1_000);
        let mut allowed = vec![true; points.len()];
        nearest
            .iter()
            .for_each(|slot| allowed[*slot as usize] = false);
        let passed = 2_000;
        // The rule sends it into the graph, and the walk gives up or is right.
        assert!(walk_pays(passed, 10, points.len()));
        let found = vectors.nearest(query, (Some(&allowed), passed), (10, 10));
        let truth = exact(&vectors, query, Some(&allowed), 10);
        let hits = truth
            .iter()
            .filter(|slot| found.iter().any(|(found, _)| found == *slot));
        assert!(hits.count() >= 9);
        let question = vectors.codes.question(query);
        assert_eq!(vectors.walk(&question, Some(&allowed), (10, 100)), None);
    }
}

#[test]
fn few_allowed_vectors_are_compared_and_so_are_all_while_there_are_few() {
    let (points, queries) = clustered(3_000, 4);
    let vectors = filled(&points);
    let mut allowed = vec![false; points.len()];
    allowed[..PARAMETERS.exact_max].fill(true);
    let by_slot = (Some(allowed.as_slice()), PARAMETERS.exact_max);
    let question = vectors.codes.question(&queries[0]);
    assert_eq!(vectors.walked(&question, by_slot, 10), None);
    let found = vectors.nearest(&queries[0], by_slot, (10, 10));
    let found: Vec<u32> = found.iter().map(|(slot, _)| *slot).collect();
    let truth = exact(&vectors, &queries[0], Some(&allowed), 10);
    assert!(truth.iter().all(|slot| found.contains(slot)));
    assert!(vectors.walked(&question, (None, 3_000), 10).is_some());
    // 16 measured for each of 64 kept, three in ten of which pass: more than the 900 that pass.
    assert!(!walk_pays(900, 64, 3_000) && walk_pays(3_000, 64, 3_000));

    let small = filled(&points[..PARAMETERS.exact_max]);
    assert_eq!(
        (small.linked(), small.plan(u64::from).is_none()),
        (None, true)
    );
    let shrunk = &mut filled(&points);
    (50..3_000).for_each(|slot| shrunk.clear(slot));
    assert_eq!(shrunk.nearest(&queries[0], (None, 50), (64, 64)).len(), 50);
}

#[test]
fn a_first_look_at_all_finds_exactly_what_the_comparison_of_all_finds() {
    let (points, queries) = clustered(3_000, 12);
    let mut vectors = Vectors::new(DIMENSIONS, HnswParameters::default());
    for (slot, vector) in (0..).zip(&points) {
        vectors.set(slot, vector);
    }
    let allowed: Vec<bool> = (0..points.len()).map(|slot| slot % 3 != 0).collect();
    for query in &queries {
        for (mask, passed) in [(None, 3_000), (Some(allowed.as_slice()), 2_000)] {
            let all: BTreeMap<u32, f32> = vectors.cosines(query, mask).into_iter().collect();
            let found = vectors.nearest(query, (mask, passed), (64, 64));
            assert!(
                found.len() >= 64 && found.len() < passed / 2,
                "{}",
                found.len()
            );
            assert!(found.is_sorted_by(|a, b| a.0 < b.0));
            for (slot, cosine) in &found {
                assert_eq!(all[slot].to_bits(), cosine.to_bits());
            }
            for slot in exact(&vectors, query, mask, 64) {
                assert!(found.iter().any(|(found, _)| *found == slot), "{slot}");
            }
        }
    }
}

#[test]
fn duplicates_are_all_found_and_hide_nobody() {
    let (mut points, queries) = clustered(2_000, 5);
    let copied: Vec<Vec<f32>> = queries[..5].to_vec();
    for copy in &copied {
        points.extend(std::iter::repeat_n(copy.clone(), 200));
    }
    let mut vectors = filled(&points);
    check(&vectors);
    let graph = vectors.graph.as_ref().unwrap();
    assert_eq!(graph.nodes().count(), 2_005);
    for copy in &copied {
        let found = walk(&vectors, copy, None, 250).unwrap();
        assert!(
            found[..200]
                .iter()
                .all(|(slot, cosine)| *slot >= 2_000 && *cosine > 0.9999)
        );
        let beyond = exact(&vectors, copy, None, 250);
        let hits = beyond
            .iter()
            .filter(|slot| found.iter().any(|(found, _)| found == *slot));
        assert!(hits.count() >= 245);
        let mut originals = vec![true; 2_000];
        originals.resize(points.len(), false);
        assert!(recall(&vectors, copy, Some(&originals)) >= 0.9);
    }
    // Copies go one by one, always the leader of the rest.
    let copies = 2_000..2_200;
    for _ in 0..199 {
        let graph = vectors.graph.as_ref().unwrap();
        let leader = copies.clone().find(|slot| graph.is_node(*slot));
        vectors.clear(leader.unwrap());
    }
    settle(&mut vectors);
    check(&vectors);
    let last = walked(&vectors, &copied[0], None, 64)[0];
    assert!(copies.contains(&last) && vectors.get(last).is_some());
}

#[test]
fn deleting_the_entry_point_leaves_the_rest_reachable() {
    let (points, queries) = clustered(2_000, 6);
    let mut vectors = filled(&points);
    for _ in 0..300 {
        let entry = vectors.graph.as_ref().and_then(Hnsw::entry).unwrap();
        vectors.clear(entry);
        settle(&mut vectors);
    }
    check(&vectors);
    let sum: f64 = queries
        .iter()
        .map(|query| recall(&vectors, query, None))
        .sum();
    assert!(sum / queries.len() as f64 >= 0.987, "{sum}");
    for slot in 0..2_000 {
        vectors.clear(slot);
    }
    settle(&mut vectors);
    assert_eq!(vectors.graph.as_ref().and_then(Hnsw::entry), None);
    vectors.set(3, &points[3]);
    settle(&mut vectors);
    assert_eq!(walked(&vectors, &points[3], None, 10), [3]);
}

#[test]
fn after_churn_every_live_vector_is_found_by_itself() {
    let (points, queries) = clustered(6_000, 8);
    let mut vectors = filled(&points[..3_000]);
    let mut random = Random(9);
    let mut next = 3_000;
    for _ in 0..5 {
        for _ in 0..600 {
            let slot = random.below(3_000) as u32;
            // Half are replaced where they are, half go; slots are used again.
            if vectors.get(slot).is_none() || random.below(2) == 0 {
                vectors.set(slot, &points[next]);
                next += 1;
            } else {
                vectors.clear(slot);
            }
            if random.below(50) == 0 {
                settle(&mut vectors);
            }
        }
        settle(&mut vectors);
    }
    check(&vectors);
    let live = (0..3_000).filter(|slot| vectors.get(*slot).is_some());
    let lost: Vec<u32> = live
        .filter(|slot| walked(&vectors, vectors.get(*slot).unwrap(), None, 64)[0] != *slot)
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    let sum: f64 = queries
        .iter()
        .map(|query| recall(&vectors, query, None))
        .sum();
    assert!(sum / queries.len() as f64 >= 0.987, "{sum}");
}

#[test]
fn a_vector_is_found_before_it_has_its_place_and_not_after_it_went() {
    let (points, _) = clustered(3_000, 10);
    let mut vectors = filled(&points[..2_900]);
    for slot in 2_900..2_950 {
        vectors.set(slot, &points[slot as usize]);
    }
    vectors.set(5, &points[2_999]);
    vectors.clear(6);
    assert_eq!(vectors.waiting(), 52);
    assert_eq!(walked(&vectors, &points[2_949], None, 64)[0], 2_949);
    assert_eq!(walked(&vectors, &points[2_999], None, 64)[0], 5);
    assert_ne!(walked(&vectors, &points[5], None, 64)[0], 5);
    assert!(!walked(&vectors, &points[6], None, 64).contains(&6));
}

#[test]
fn a_plan_that_was_overtaken_is_not_made() {
    let (points, _) = clustered(500, 11);
    let mut vectors = filled(&points[..499]);
    vectors.set(499, &points[499]);
    let planned = vectors.plan(u64::from).unwrap();
    vectors.set(499, &points[0]);
    vectors.commit(planned);
    assert_eq!((vectors.waiting(), vectors.linked()), (1, Some(499)));
    let planned = vectors.plan(u64::from).unwrap();
    // It would have joined the group of this one, whose vector is about to be another.
    vectors.set(0, &points[1]);
    vectors.commit(planned);
    check(&vectors);
    settle(&mut vectors);
    check(&vectors);
    assert_eq!(walked(&vectors, &points[0], None, 64)[0], 499);
}

#[derive(Clone, Debug)]
enum Operation {
    Set(u32, [i8; 3]),
    Clear(u32),
    Link(usize),
    Overtaken(u32, [i8; 3]),
    Search([i8; 3], u8),
}

fn operation() -> impl Strategy<Value = Operation> {
    // Few values, so that many vectors are equal.
    let values = || prop::array::uniform3(-2..3_i8);
    prop_oneof![
        6 => (0..60_u32, values()).prop_map(|(slot, values)| Operation::Set(slot, values)),
        3 => (0..60_u32).prop_map(Operation::Clear),
        3 => (1..20_usize).prop_map(Operation::Link),
        1 => (0..60_u32, values()).prop_map(|(slot, values)| Operation::Overtaken(slot, values)),
        2 => (values(), any::<u8>()).prop_map(|(values, share)| Operation::Search(values, share)),
    ]
}

fn small(values: [i8; 3]) -> Vec<f32> {
    normalised(&values.map(|value| f32::from(value) + 0.25)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn random_changes_keep_the_graph_whole(operations in prop::collection::vec(operation(), 1..120)) {
        let parameters = HnswParameters { links: 3, ef_construction: 12, ef_search: 8, exact_max: 8 };
        let mut vectors = Vectors::new(3, parameters);
        let mut model: BTreeMap<u32, Vec<f32>> = BTreeMap::new();
        for operation in operations {
            match operation {
                Operation::Set(slot, values) => {
                    vectors.set(slot, &small(values));
                    model.insert(slot, small(values));
                }
                Operation::Clear(slot) => {
                    vectors.clear(slot);
                    model.remove(&slot);
                }
                Operation::Link(times) => {
                    for _ in 0..times {
                        if let Some(planned) = vectors.plan(u64::from) {
                            vectors.commit(planned);
                        }
                    }
                }
                Operation::Overtaken(slot, values) => {
                    let planned = vectors.plan(u64::from);
                    vectors.set(slot, &small(values));
                    model.insert(slot, small(values));
                    if let Some(planned) = planned {
                        vectors.commit(planned);
                    }
                }
                Operation::Search(values, share) => {
                    let query = small(values);
                    let allowed: Vec<bool> = (0..60).map(|slot| slot * 4 <= u32::from(share)).collect();
                    let passed = model.keys().filter(|slot| allowed[**slot as usize]).count();
                    let nearest = vectors.nearest(&query, (Some(&allowed), passed), (4, 4));
                    prop_assert!(nearest.len() >= passed.min(4));
                    prop_assert!(nearest.is_sorted_by(|a, b| a.0 < b.0));
                    let walked = walk(&vectors, &query, Some(&allowed), 4);
                    for (slot, cosine) in nearest.into_iter().chain(walked.unwrap_or_default()) {
                        prop_assert!(allowed[slot as usize]);
                        let exact = vectors.cosine(&model[&slot], &query);
                        prop_assert!((cosine - exact).abs() < 1e-6);
                    }
                }
            }
            prop_assert_eq!(vectors.len(), model.len());
            check(&vectors);
        }
        settle(&mut vectors);
        check(&vectors);
    }
}
