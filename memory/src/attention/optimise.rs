//! Optimise: Adam on the questions' losses, the same every time.
//!
//! Small batches in an order drawn from a seed, a pull towards the prior, and the loss on held-out questions after each
//! epoch.

use super::backward::{gradient, loss};
use super::forward::Forward;
use super::parameters::Layout;
use super::subgraph::Subgraph;

/// Questions whose gradients make one step.
pub(super) const BATCH: usize = 16;

/// Length of a step (Kingma and Ba, "Adam", 2015, whose other constants are used too).
const STEP: f64 = 0.03;

/// A question's subgraph with the nodes that answer it.
#[derive(Clone, Debug)]
pub(crate) struct Example {
    /// The subgraph.
    pub(crate) graph: Subgraph,
    /// Local indexes of the gold nodes in it, each once; never empty.
    pub(crate) gold: Vec<usize>,
}

/// What one run is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub(super) layout: &'a Layout,
    /// Where it starts and what it is pulled towards.
    pub(super) prior: &'a [f64],
    /// Strength of the pull.
    pub(super) pull: f64,
    pub(super) epochs: usize,
    pub(super) seed: u64,
}

/// Parameters after the last epoch, and the loss on what was held out before the first epoch and after each.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) parameters: Vec<f64>,
    pub(super) losses: Vec<f64>,
}

impl Run<'_> {
    /// Trains on `examples` for all epochs.
    pub(super) fn train(&self, examples: &[&Example], held_out: &[&Example]) -> Found {
        let mut adam = Adam::new(self.prior.len());
        let mut parameters = self.prior.to_vec();
        let mut losses = vec![self.loss(&parameters, held_out)];
        let mut order: Vec<usize> = (0..examples.len()).collect();
        let mut random = SplitMix(self.seed);
        for _ in 0..self.epochs {
            random.shuffle(&mut order);
            for batch in order.chunks(BATCH) {
                let batch: Vec<&Example> = batch.iter().map(|at| examples[*at]).collect();
                let gradient = self.gradient(&parameters, &batch);
                adam.step(&mut parameters, &gradient);
            }
            losses.push(self.loss(&parameters, held_out));
        }
        Found { parameters, losses }
    }

    /// Mean loss of the questions, without the pull.
    pub(super) fn loss(&self, parameters: &[f64], examples: &[&Example]) -> f64 {
        let weights = self.layout.weights(parameters);
        let sum: f64 = (examples.iter())
            .map(|example| loss(&Forward::run(&example.graph, &weights), &example.gold))
            .sum();
        sum / examples.len().max(1) as f64
    }

    /// Derivatives of the mean loss with the pull; 0 where a parameter is not moved.
    pub(super) fn gradient(&self, parameters: &[f64], examples: &[&Example]) -> Vec<f64> {
        let weights = self.layout.weights(parameters);
        let mut sum = vec![0.0; parameters.len()];
        for example in examples {
            let forward = Forward::run(&example.graph, &weights);
            let by = gradient(&example.graph, &weights, &forward, &example.gold);
            self.layout.add(&example.graph, &weights, &by, &mut sum);
        }
        for (at, slot) in sum.iter_mut().enumerate() {
            *slot /= examples.len().max(1) as f64;
            let pull = self.pull * self.layout.pull(at);
            *slot += 2.0 * pull * (parameters[at] - self.prior[at]);
            if !self.layout.free[at] {
                *slot = 0.0;
            }
        }
        sum
    }
}

/// Adam's moments.
struct Adam {
    first: Vec<f64>,
    second: Vec<f64>,
    steps: i32,
}

impl Adam {
    fn new(len: usize) -> Self {
        Self {
            first: vec![0.0; len],
            second: vec![0.0; len],
            steps: 0,
        }
    }

    fn step(&mut self, parameters: &mut [f64], gradient: &[f64]) {
        const FIRST: f64 = 0.9;
        const SECOND: f64 = 0.999;
        self.steps += 1;
        let (of_first, of_second) = (1.0 - FIRST.powi(self.steps), 1.0 - SECOND.powi(self.steps));
        for (at, by) in gradient.iter().enumerate() {
            self.first[at] = FIRST * self.first[at] + (1.0 - FIRST) * by;
            self.second[at] = SECOND * self.second[at] + (1.0 - SECOND) * by * by;
            let root = (self.second[at] / of_second).sqrt();
            parameters[at] -= STEP * (self.first[at] / of_first) / (root + 1e-8);
        }
    }
}

/// Random numbers from a seed (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014).
pub(super) struct SplitMix(pub(super) u64);

impl SplitMix {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Puts `list` in random order.
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            let other = self.next() % (at as u64 + 1);
            list.swap(at, other as usize);
        }
    }
}
