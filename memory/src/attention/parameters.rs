//! Parameters: the weights as one vector that an optimiser can move.
//!
//! A relation's head is the default head plus a difference, so that what holds for all relations is
//! learned once and a relation that training never saw walks with it. Temperatures and `g` are moved
//! on scales without bounds, and every weight in standard deviations of its feature.

use std::collections::{BTreeMap, BTreeSet};

use super::backward::Gradient;
use super::subgraph::Subgraph;
use super::weights::{AttentionWeights, Directions, Head};
use super::{EDGE, NODE, SEED};

/// Parameters of a head: bias, logarithm of the temperature, edge features.
const HEAD: usize = 2 + EDGE;

/// Place of `g`.
const MOVES: usize = SEED;

/// Place of the scorer.
const SCORE: usize = MOVES + 1;

/// Place of the default heads, forwards and backwards.
const HEADS: usize = SCORE + NODE;

/// How much harder what sets a relation apart is pulled to its prior than what holds for all: each relation has few of
/// the edges, and another memory uses it otherwise.
const DIFFERENCE_PULL: f64 = 10.0;

/// A feature that varies less than this in training is left at its prior.
const VARIES: f64 = 1e-6;

/// What is kept as it is, for a comparison of what the parts are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frozen {
    /// Nothing: all is trained.
    #[default]
    Nothing,
    /// Edges, which all take the same share, so that only seeds and scorer are trained.
    Edges,
    /// The scorer's weights of what attention found, which are zero.
    Attention,
}

/// Where each weight lies.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    relations: Vec<String>,
    layers: usize,
    seed_scale: [f64; SEED],
    edge_scale: [f64; EDGE],
    node_scale: [f64; NODE],
    /// Whether each parameter is moved.
    pub(super) free: Vec<bool>,
}

impl Layout {
    /// The layout for training on these subgraphs.
    pub(super) fn of(graphs: &[&Subgraph], layers: usize, frozen: Frozen) -> Self {
        let heads = graphs.iter().flat_map(|graph| &graph.edges.heads);
        let relations: BTreeSet<&String> = heads.map(|(relation, _)| relation).collect();
        let seeds = graphs.iter().flat_map(|graph| &graph.seeds);
        let edges = graphs.iter().flat_map(|graph| &graph.edges.features);
        let nodes = graphs.iter().flat_map(|graph| &graph.nodes);
        let (seed_scale, edge_scale) = (deviations(seeds), deviations(edges));
        let mut node_scale = deviations(nodes);
        // Those two are logarithms that the layers find; a factor of e counts as 1.
        (node_scale[0], node_scale[1]) = (1.0, 1.0);
        let mut layout = Self {
            relations: relations.into_iter().cloned().collect(),
            layers,
            seed_scale,
            edge_scale,
            node_scale,
            free: Vec::new(),
        };
        layout.free = vec![true; layout.len()];
        layout.freeze(frozen);
        layout
    }

    fn freeze(&mut self, frozen: Frozen) {
        for (at, scale) in self.seed_scale.iter().enumerate() {
            self.free[at] = *scale > VARIES;
        }
        for (at, scale) in self.node_scale.iter().enumerate() {
            self.free[SCORE + at] = *scale > VARIES;
        }
        if frozen == Frozen::Attention {
            self.free[SCORE] = false;
            self.free[SCORE + 1] = false;
        }
        for start in (HEADS..self.free.len()).step_by(HEAD) {
            let varies = self.edge_scale.iter().map(|scale| *scale > VARIES);
            self.free[start + 2..start + HEAD]
                .iter_mut()
                .zip(varies)
                .for_each(|(free, varies)| *free = varies);
            if frozen == Frozen::Edges {
                self.free[start..start + HEAD].fill(false);
            }
        }
    }

    /// Number of parameters.
    pub(super) fn len(&self) -> usize {
        HEADS + 2 * HEAD * (1 + self.relations.len())
    }

    /// How hard a parameter is pulled to its prior, next to the others.
    pub(super) fn pull(&self, at: usize) -> f64 {
        if at < HEADS + 2 * HEAD {
            1.0
        } else {
            DIFFERENCE_PULL
        }
    }

    /// Where the difference of a relation's head starts.
    fn difference(&self, relation: &str, forwards: bool) -> Option<usize> {
        let place = self
            .relations
            .binary_search_by(|known| known.as_str().cmp(relation));
        let place = place.ok()?;
        Some(HEADS + HEAD * (2 * (1 + place) + usize::from(!forwards)))
    }

    /// The parameters that give these weights.
    pub(super) fn parameters(&self, weights: &AttentionWeights) -> Vec<f64> {
        let mut all = vec![0.0; self.len()];
        scaled(&weights.seed, &self.seed_scale, &mut all[..SEED]);
        all[MOVES] = (weights.moves / (1.0 - weights.moves)).ln();
        scaled(&weights.score, &self.node_scale, &mut all[SCORE..HEADS]);
        self.put_head(&weights.other.forwards, &mut all[HEADS..]);
        self.put_head(&weights.other.backwards, &mut all[HEADS + HEAD..]);
        for (relation, both) in &weights.relations {
            for (forwards, head) in [(true, &both.forwards), (false, &both.backwards)] {
                if let Some(start) = self.difference(relation, forwards) {
                    self.put_head(head, &mut all[start..]);
                    let base = HEADS + HEAD * usize::from(!forwards);
                    for at in 0..HEAD {
                        all[start + at] -= all[base + at];
                    }
                }
            }
        }
        all
    }

    fn put_head(&self, head: &Head, slots: &mut [f64]) {
        slots[0] = head.bias;
        slots[1] = head.temperature.ln();
        scaled(&head.edge, &self.edge_scale, &mut slots[2..HEAD]);
    }

    /// The weights that these parameters give.
    pub(super) fn weights(&self, all: &[f64]) -> AttentionWeights {
        let both = |relation: Option<&str>| Directions {
            forwards: self.head(all, relation, true),
            backwards: self.head(all, relation, false),
        };
        let relations = self.relations.iter();
        AttentionWeights {
            trained_on: String::new(),
            layers: self.layers,
            moves: 1.0 / (1.0 + (-all[MOVES]).exp()),
            seed: unscaled(&all[..SEED], &self.seed_scale),
            other: both(None),
            relations: relations
                .map(|name| (name.clone(), both(Some(name))))
                .collect::<BTreeMap<_, _>>(),
            score: unscaled(&all[SCORE..HEADS], &self.node_scale),
        }
    }

    fn head(&self, all: &[f64], relation: Option<&str>, forwards: bool) -> Head {
        let base = HEADS + HEAD * usize::from(!forwards);
        let mut slots = all[base..base + HEAD].to_vec();
        if let Some(start) = relation.and_then(|name| self.difference(name, forwards)) {
            for (slot, difference) in slots.iter_mut().zip(&all[start..]) {
                *slot += difference;
            }
        }
        Head {
            bias: slots[0],
            temperature: slots[1].exp(),
            edge: unscaled(&slots[2..], &self.edge_scale),
        }
    }

    /// Adds a question's gradient, by parameters.
    pub(super) fn add(
        &self,
        graph: &Subgraph,
        weights: &AttentionWeights,
        gradient: &Gradient,
        sum: &mut [f64],
    ) {
        let seed = gradient.seed.iter().zip(&self.seed_scale);
        for (slot, (by, scale)) in sum[..SEED].iter_mut().zip(seed) {
            *slot += by / scale.max(VARIES);
        }
        sum[MOVES] += gradient.moves * weights.moves * (1.0 - weights.moves);
        let score = gradient.score.iter().zip(&self.node_scale);
        for (slot, (by, scale)) in sum[SCORE..HEADS].iter_mut().zip(score) {
            *slot += by / scale.max(VARIES);
        }
        let heads = weights.heads_of(&graph.edges.heads);
        for (((relation, forwards), head), by) in
            graph.edges.heads.iter().zip(&heads).zip(&gradient.heads)
        {
            let base = HEADS + HEAD * usize::from(!forwards);
            let difference = self.difference(relation, *forwards);
            for start in std::iter::once(base).chain(difference) {
                sum[start] += by.bias;
                sum[start + 1] += by.temperature * head.temperature;
                let edge = by.edge.iter().zip(&self.edge_scale);
                for (slot, (by, scale)) in sum[start + 2..start + HEAD].iter_mut().zip(edge) {
                    *slot += by / scale.max(VARIES);
                }
            }
        }
    }
}

fn scaled(values: &[f64], scales: &[f64], slots: &mut [f64]) {
    for ((slot, value), scale) in slots.iter_mut().zip(values).zip(scales) {
        *slot = value * scale.max(VARIES);
    }
}

fn unscaled<const N: usize>(slots: &[f64], scales: &[f64; N]) -> [f64; N] {
    let mut values = [0.0; N];
    for ((value, slot), scale) in values.iter_mut().zip(slots).zip(scales) {
        *value = slot / scale.max(VARIES);
    }
    values
}

/// Standard deviation of each feature.
fn deviations<'a, const N: usize>(rows: impl Iterator<Item = &'a [f64; N]> + Clone) -> [f64; N] {
    let count = rows.clone().count().max(1) as f64;
    let mut means = [0.0; N];
    for row in rows.clone() {
        for (mean, value) in means.iter_mut().zip(row) {
            *mean += value / count;
        }
    }
    let mut variances = [0.0; N];
    for row in rows {
        for ((variance, mean), value) in variances.iter_mut().zip(&means).zip(row) {
            *variance += (value - mean).powi(2) / count;
        }
    }
    variances.map(f64::sqrt)
}
