//! The limit case, the gradients, and that training finds what the questions have in common.

use super::backward::loss;
use super::forward::{Forward, Shares};
use super::optimise::{Example, Run, SplitMix};
use super::parameters::{Frozen, Layout};
use super::subgraph::{Edges, Subgraph};
use super::weights::Head;
use super::{AttentionWeights, EDGE, EdgeFeature, NODE, NodeFeature, SEED, relative_entropy};

/// Between -1 and 1.
fn value(random: &mut SplitMix) -> f64 {
    (random.next() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

fn values<const N: usize>(random: &mut SplitMix) -> [f64; N] {
    std::array::from_fn(|_| value(random))
}

/// A graph with random features, three relations, and nodes without edges.
fn graph(nodes: usize, degree: u64, seed: u64) -> Subgraph {
    let mut random = SplitMix(seed);
    let mut edges = Edges::new();
    for relation in ["cites", "follows", "mentions"] {
        edges.heads.push((relation.to_owned(), true));
        edges.heads.push((relation.to_owned(), false));
    }
    for node in 0..nodes {
        for head in 0..edges.heads.len() {
            let count = if node % 7 == 3 {
                0
            } else {
                random.next() % degree
            };
            for _ in 0..count {
                let target = random.next() % nodes as u64;
                edges.push(head, target as u32, values(&mut random));
            }
        }
        edges.end_source();
    }
    Subgraph {
        seeds: (0..nodes / 4).map(|_| values(&mut random)).collect(),
        nodes: (0..nodes).map(|_| values(&mut random)).collect(),
        edges,
    }
}

/// A store that is opened again has its edges in another order.
#[test]
fn edges_under_a_head_share_the_same_bit_for_bit_in_any_order() {
    let graph = graph(60, 40, 9);
    let mut turned = graph.edges.clone();
    for group in &graph.edges.groups {
        turned.targets[group.edges.clone()].reverse();
        turned.features[group.edges.clone()].reverse();
    }
    let weights = AttentionWeights::default();
    let heads = weights.heads_of(&graph.edges.heads);
    let mut shares = Shares::of(&turned, &heads).edges;
    for group in &graph.edges.groups {
        shares[group.edges.clone()].reverse();
    }
    assert_eq!(shares, Shares::of(&graph.edges, &heads).edges);
}

/// The textbook: a dense matrix, rows normalised by the sum of all weights, as many steps.
fn pagerank(graph: &Subgraph, start: &[f64], steps: usize) -> Vec<f64> {
    let nodes = graph.nodes.len();
    let mut matrix = vec![vec![0.0; nodes]; nodes];
    for (source, row) in matrix.iter_mut().enumerate() {
        for edge in graph.edges.edges_of(source) {
            let log_weight = graph.edges.features[edge][EdgeFeature::LogWeight as usize];
            row[graph.edges.targets[edge] as usize] += log_weight.exp();
        }
    }
    let mut ranks = start.to_vec();
    for _ in 0..steps {
        let mut next: Vec<f64> = start.iter().map(|seed| 0.5 * seed).collect();
        for (row, rank) in matrix.iter().zip(&ranks) {
            let total: f64 = row.iter().sum();
            for (to, slot) in next.iter_mut().enumerate() {
                let share = if total > 0.0 {
                    row[to] / total
                } else {
                    start[to]
                };
                *slot += 0.5 * rank * share;
            }
        }
        ranks = next;
    }
    ranks
}

#[test]
fn without_biases_attention_is_weighted_personalised_pagerank() {
    let weights = AttentionWeights::pagerank();
    for seed in 0..20 {
        let graph = graph(30, 4, seed);
        let forward = Forward::run(&graph, &weights);
        let theirs = pagerank(&graph, &forward.start, weights.layers);
        for (ours, theirs) in forward.spread().iter().zip(&theirs) {
            assert!((ours - theirs).abs() < 1e-12, "{ours} is not {theirs}");
        }
        assert!((forward.spread().iter().sum::<f64>() - 1.0).abs() < 1e-9);
        // The order of the shares is PageRank's too.
        for (a, b) in [(0, 1), (2, 9), (11, 12)] {
            let (before, after) = (theirs[a].total_cmp(&theirs[b]), forward.scores[a]);
            assert_eq!(after.total_cmp(&forward.scores[b]), before);
        }
    }
}

#[test]
fn a_stronger_head_draws_more_weight() {
    let mut edges = Edges::new();
    edges.heads = vec![("cites".to_owned(), true), ("follows".to_owned(), true)];
    edges.push(0, 1, [0.0; EDGE]);
    edges.push(1, 2, [0.0; EDGE]);
    (0..3).for_each(|_| edges.end_source());
    let graph = Subgraph {
        seeds: vec![[1.0; SEED]],
        nodes: vec![[0.0; NODE]; 3],
        edges,
    };
    let mut weights = AttentionWeights::pagerank();
    let even = Forward::run(&graph, &weights);
    assert!((even.spread()[1] - even.spread()[2]).abs() < 1e-12);
    let mut cites = weights.other.clone();
    cites.forwards.bias = 1.0;
    weights.relations.insert("cites".to_owned(), cites);
    let tilted = Forward::run(&graph, &weights);
    let ratio = tilted.spread()[1] / tilted.spread()[2];
    assert!((ratio - 1_f64.exp()).abs() < 1e-9, "{ratio}");
}

/// Weights away from every special value.
fn some_weights(seed: u64) -> AttentionWeights {
    let mut random = SplitMix(seed);
    let mut head = || Head {
        bias: value(&mut random),
        temperature: 1.0 + 0.5 * value(&mut random),
        edge: values(&mut random),
    };
    let mut weights = AttentionWeights::pagerank();
    weights.other.forwards = head();
    weights.other.backwards = head();
    for relation in ["cites", "mentions"] {
        let mut both = weights.other.clone();
        both.forwards = head();
        both.backwards = head();
        weights.relations.insert(relation.to_owned(), both);
    }
    weights.moves = 0.7;
    weights.seed = values(&mut random);
    weights.score = values(&mut random);
    weights
}

#[test]
fn every_derivative_agrees_with_finite_differences() {
    for (seed, layers) in [(1, 1), (2, 2), (3, 5)] {
        let examples = [
            Example {
                graph: graph(24, 4, seed),
                gold: vec![2, 17],
            },
            Example {
                graph: graph(13, 3, seed + 50),
                gold: vec![3],
            },
        ];
        let graphs: Vec<&Subgraph> = examples.iter().map(|example| &example.graph).collect();
        let layout = Layout::of(&graphs, layers, Frozen::Nothing);
        let prior = layout.parameters(&AttentionWeights::pagerank());
        let run = Run {
            layout: &layout,
            prior: &prior,
            pull: 0.0,
            epochs: 0,
            seed,
        };
        let examples: Vec<&Example> = examples.iter().collect();
        let at = layout.parameters(&some_weights(seed));
        let gradient = run.gradient(&at, &examples);
        for (place, derivative) in gradient.iter().enumerate() {
            let moved = |by: f64| {
                let mut parameters = at.clone();
                parameters[place] += by;
                run.loss(&parameters, &examples)
            };
            let step = 1e-4;
            // Fourth order, so that the difference is exact to about 1e-12.
            let near = moved(step) - moved(-step);
            let far = moved(2.0 * step) - moved(-2.0 * step);
            let finite = (8.0 * near - far) / (12.0 * step);
            let error = (finite - derivative).abs();
            assert!(
                error < 1e-6 * (1.0 + derivative.abs()),
                "parameter {place}, {layers} layers: {derivative} is not {finite}"
            );
        }
        let moved = gradient.iter().filter(|by| by.abs() > 1e-6).count();
        assert!(moved > gradient.len() / 2, "most derivatives are not zero");
    }
}

#[test]
fn what_sets_a_relation_apart_is_pulled_harder_than_what_holds_for_all() {
    let example = Example {
        graph: graph(24, 4, 7),
        gold: vec![2],
    };
    let layout = Layout::of(&[&example.graph], 2, Frozen::Nothing);
    let prior = layout.parameters(&AttentionWeights::pagerank());
    let at: Vec<f64> = prior.iter().map(|value| value + 1.0).collect();
    let gradient = |pull: f64| {
        let run = Run {
            layout: &layout,
            prior: &prior,
            pull,
            epochs: 0,
            seed: 1,
        };
        run.gradient(&at, &[&example])
    };
    let (without, with) = (gradient(0.0), gradient(0.5));
    let pulled: Vec<f64> = with.iter().zip(&without).map(|(a, b)| a - b).collect();
    let strength = |place: usize| pulled[place].round() as i32;
    // The first is what makes a seed strong, the last belongs to the last relation.
    assert_eq!((strength(0), strength(pulled.len() - 1)), (1, 10));
}

#[test]
fn weights_and_parameters_are_the_same_thing() {
    let graph = graph(24, 4, 9);
    let layout = Layout::of(&[&graph], 3, Frozen::Nothing);
    let weights = some_weights(4);
    let parameters = layout.parameters(&weights);
    let again = layout.parameters(&layout.weights(&parameters));
    for (before, after) in parameters.iter().zip(&again) {
        assert!((before - after).abs() < 1e-9);
    }
}

/// Questions whose gold node is the one that `cites` leads to with the highest target cosine, and that
/// no feature of the node itself tells from the others.
fn solvable(count: u64) -> Vec<Example> {
    let example = |seed: u64| {
        let mut graph = graph(24, 4, 1000 + seed);
        graph.nodes.iter_mut().for_each(|node| *node = [0.0; NODE]);
        graph.seeds.truncate(1);
        let mut best = (0, f64::MIN);
        for group in graph.edges.groups_of(0) {
            for edge in group.edges.clone().filter(|_| group.head == 0) {
                let cosine = graph.edges.features[edge][EdgeFeature::TargetCosine as usize];
                if cosine > best.1 && graph.edges.targets[edge] != 0 {
                    best = (graph.edges.targets[edge] as usize, cosine);
                }
            }
        }
        let gold = vec![best.0];
        Example { graph, gold }
    };
    let all = (0..count).map(example);
    all.filter(|example| example.gold[0] != 0).collect()
}

#[test]
fn training_finds_the_head_that_answers_and_is_the_same_every_time() {
    let examples = solvable(80);
    let examples: Vec<&Example> = examples.iter().collect();
    let (learned, held_out) = examples.split_at(examples.len() * 3 / 4);
    let graphs: Vec<&Subgraph> = learned.iter().map(|example| &example.graph).collect();
    let layout = Layout::of(&graphs, 2, Frozen::Nothing);
    let prior = layout.parameters(&AttentionWeights::pagerank());
    let run = Run {
        layout: &layout,
        prior: &prior,
        pull: 1e-4,
        epochs: 60,
        seed: 5,
    };
    let found = run.train(learned, held_out);
    let before = run.loss(&prior, held_out);
    let after = run.loss(&found.parameters, held_out);
    assert_eq!((found.losses[0], found.losses[60]), (before, after));
    // Later ones have learned the few questions by heart, which is why the number of epochs is chosen.
    let best = found.losses.iter().copied().fold(f64::MAX, f64::min);
    assert!(best < 0.6 * before, "{best} of {before}");
    let weights = layout.weights(&found.parameters);
    let (cites, follows) = (&weights.relations["cites"], &weights.relations["follows"]);
    assert!(cites.forwards.bias > follows.forwards.bias);
    assert!(cites.forwards.edge[EdgeFeature::TargetCosine as usize] > 0.5);
    assert_eq!(run.train(learned, held_out).parameters, found.parameters);
}

#[test]
fn what_is_frozen_keeps_its_prior() {
    let examples = solvable(40);
    let examples: Vec<&Example> = examples.iter().collect();
    let graphs: Vec<&Subgraph> = examples.iter().map(|example| &example.graph).collect();
    for frozen in [Frozen::Edges, Frozen::Attention] {
        let mut start = AttentionWeights::pagerank();
        if frozen == Frozen::Attention {
            start.score[NodeFeature::LogAttention as usize] = 0.0;
        }
        let layout = Layout::of(&graphs, 2, frozen);
        let prior = layout.parameters(&start);
        let run = Run {
            layout: &layout,
            prior: &prior,
            pull: 0.0,
            epochs: 3,
            seed: 5,
        };
        let weights = layout.weights(&run.train(&examples, &[]).parameters);
        match frozen {
            Frozen::Edges => {
                for both in weights.relations.values().chain([&weights.other]) {
                    let bias = both.forwards.bias.abs() + both.backwards.bias.abs();
                    assert!(bias < 1e-9);
                }
                assert_ne!(weights.score, start.score);
            }
            _ => assert_eq!(weights.score[NodeFeature::LogAttention as usize], 0.0),
        }
    }
}

#[test]
fn gold_nodes_do_not_compete() {
    let graph = graph(24, 4, 3);
    let forward = Forward::run(&graph, &AttentionWeights::pagerank());
    let alone = [loss(&forward, &[2]), loss(&forward, &[5])];
    let together = loss(&forward, &[2, 5]);
    assert!(together < (alone[0] + alone[1]) / 2.0);
}

#[test]
fn entropy_goes_from_certain_to_even() {
    assert!(relative_entropy(&[1.0, 0.0, 0.0]) < 1e-9);
    assert!((relative_entropy(&[0.25; 4]) - 1.0).abs() < 1e-9);
    assert!(relative_entropy(&[1.0]) < 1e-9);
}
