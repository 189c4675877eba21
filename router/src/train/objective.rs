//! What training minimises on one question: prediction error less expected utility.
//!
//! Prediction error teaches the heads what they claim to say: the quality of each observed arm
//! before it answers, of the answer once it is there (whole or its first tokens), and of the
//! other arms given that answer. Expected utility is exact over the tree choice -> verdict:
//!
//! ```text
//! J = sum_a pi_a V_a ,  pi = softmax((q - price) / tau)
//! V_a = m_a + w_a (V_obs - m_a)                       doubly robust; m_a where nobody looked
//! V_obs = p_accept y + sum_m p_m (y_m - price_m) - price_a
//! ```

use super::forward::Trace;
use super::parameters::{Gradient, Parameters};
use super::sample::{ArmStatistics, Observed, Sample};

/// Weight of the answer's first tokens beside the whole answer.
const PREFIX_WEIGHT: f64 = 0.5;

/// Weight of predicting other arms from an answer.
const OTHERS_WEIGHT: f64 = 0.5;

/// What the objective of every question shares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Objective<'a> {
    pub(super) arms: &'a ArmStatistics,
    pub(super) tau: f64,
    /// Weight of expected utility.
    pub(super) utility_weight: f64,
    /// Whether answers are read and judged; without, every first answer is accepted.
    pub(super) verdict: bool,
}

/// One question on its way: the state before the choice and the slope collected there.
struct Pass<'a> {
    parameters: &'a Parameters,
    sample: &'a Sample,
    before_choice: Vec<f64>,
    slope: Vec<f64>,
}

impl Objective<'_> {
    /// Adds the gradient of one question and returns its loss. `kept` hides steps.
    pub(super) fn add(
        &self,
        parameters: &Parameters,
        sample: &Sample,
        kept: [bool; 3],
        gradient: &mut Gradient,
    ) -> f64 {
        let (traces, before_choice) = parameters.before_choice(sample, kept);
        let slope = parameters.empty();
        let mut pass = Pass {
            parameters,
            sample,
            before_choice,
            slope,
        };
        let mut loss = pass.predict_arms(gradient);
        let policy = self.policy(&pass);
        let mut leaves = self.fill(sample);
        for observed in &sample.observed {
            if !self.verdict {
                leaves[observed.arm] += self.correction(sample, observed, self.accepted(observed));
                continue;
            }
            let answered = parameters.step(&observed.answer, pass.before_choice.clone());
            let mut slope = parameters.empty();
            loss += pass.predict_after(observed, (&answered, &mut slope), 1.0, gradient);
            let weight = observed.weight / sample.times_observed(observed.arm);
            let leaf = self.leaf(parameters, observed, &answered);
            leaves[observed.arm] += self.correction(sample, observed, leaf.value);
            let pull = -self.utility_weight * policy[observed.arm] * weight;
            leaf.back(parameters, (&answered, &mut slope), pull, gradient);
            let back = parameters.step_back(&answered, &slope, gradient);
            pass.add_slope(&back);
            loss += pass.prefix(observed, gradient);
        }
        let value: f64 = policy.iter().zip(&leaves).map(|(p, v)| p * v).sum();
        for (arm, probability) in policy.iter().enumerate() {
            let slope = probability * (leaves[arm] - value) / self.tau;
            pass.head_back(arm, -self.utility_weight * slope, gradient);
        }
        parameters.steps_back(&traces, pass.slope, gradient);
        loss - self.utility_weight * value
    }

    /// Expected utility of one question under the policy, without gradient.
    pub(super) fn utility(&self, parameters: &Parameters, sample: &Sample) -> f64 {
        let before_choice = parameters.read(sample.steps.iter().filter_map(Option::as_deref));
        let policy = self.policy(&Pass {
            parameters,
            sample,
            before_choice: before_choice.clone(),
            slope: Vec::new(),
        });
        let mut leaves = self.fill(sample);
        for observed in &sample.observed {
            let worth = if self.verdict {
                let answered = parameters.step(&observed.answer, before_choice.clone());
                self.leaf(parameters, observed, &answered).value
            } else {
                self.accepted(observed)
            };
            leaves[observed.arm] += self.correction(sample, observed, worth);
        }
        policy.iter().zip(&leaves).map(|(p, v)| p * v).sum()
    }

    /// What an outcome is worth when its answer is accepted.
    fn accepted(&self, observed: &Observed) -> f64 {
        observed.quality - self.arms.price[observed.arm]
    }

    /// What an outcome that is worth `value` adds to the estimate of its arm.
    fn correction(&self, sample: &Sample, observed: &Observed, value: f64) -> f64 {
        let weight = observed.weight / sample.times_observed(observed.arm);
        weight * (value - self.fill_one(sample, observed.arm))
    }

    fn policy(&self, pass: &Pass<'_>) -> Vec<f64> {
        let utility =
            |(arm, price): (usize, &f64)| pass.parameters.head(arm, &pass.before_choice) - price;
        softmax(
            self.arms.price.iter().enumerate().map(utility).collect(),
            self.tau,
        )
    }

    /// Estimated utility of every arm.
    fn fill(&self, sample: &Sample) -> Vec<f64> {
        (0..sample.estimate.len())
            .map(|arm| self.fill_one(sample, arm))
            .collect()
    }

    fn fill_one(&self, sample: &Sample, arm: usize) -> f64 {
        sample.estimate[arm] - self.arms.price[arm]
    }

    /// What an observed arm is worth when the verdict follows it.
    fn leaf(&self, parameters: &Parameters, observed: &Observed, answered: &Trace<'_>) -> Leaf {
        let state = &answered.after;
        let mut rows = vec![parameters.shape.answer()];
        let mut worth = vec![observed.quality];
        let mut expected = vec![parameters.head(parameters.shape.answer(), state)];
        for again in &observed.again {
            rows.push(again.arm);
            worth.push(again.quality - again.price);
            expected.push(parameters.head(again.arm, state) - again.price);
        }
        let verdict = softmax(expected, self.tau);
        let value: f64 = verdict.iter().zip(&worth).map(|(p, w)| p * w).sum();
        let slopes = verdict
            .iter()
            .zip(&worth)
            .map(|(p, w)| p * (w - value) / self.tau);
        let slopes = rows.into_iter().zip(slopes).collect();
        Leaf {
            value: value - self.arms.price[observed.arm],
            slopes,
        }
    }
}

/// The value of a leaf and its slope in each head the verdict compares.
struct Leaf {
    value: f64,
    slopes: Vec<(usize, f64)>,
}

impl Leaf {
    fn back(
        &self,
        parameters: &Parameters,
        at: (&Trace<'_>, &mut [f64]),
        pull: f64,
        gradient: &mut Gradient,
    ) {
        let (answered, slope) = at;
        for &(row, row_slope) in &self.slopes {
            parameters.head_back(row, pull * row_slope, (&answered.after, slope), gradient);
        }
    }
}

impl Pass<'_> {
    fn add_slope(&mut self, slope: &[f64]) {
        self.slope
            .iter_mut()
            .zip(slope)
            .for_each(|(sum, slope)| *sum += slope);
    }

    fn head_back(&mut self, row: usize, slope: f64, gradient: &mut Gradient) {
        let at = (self.before_choice.as_slice(), self.slope.as_mut_slice());
        self.parameters.head_back(row, slope, at, gradient);
    }

    /// Mean squared error of the observed arms before they answer.
    fn predict_arms(&mut self, gradient: &mut Gradient) -> f64 {
        let shape = &self.parameters.shape;
        let mut loss = 0.0;
        for observed in &self.sample.observed {
            let weight = self.sample.share();
            let sampling = shape.sampling_row(observed.sampling);
            let head = |row| self.parameters.head(row, &self.before_choice);
            let error = head(observed.arm) + head(sampling) - observed.quality;
            loss += weight * error * error;
            self.head_back(observed.arm, 2.0 * weight * error, gradient);
            self.head_back(sampling, 2.0 * weight * error, gradient);
        }
        loss
    }

    /// Squared error after an answer: of the answer itself, and of the other arms.
    fn predict_after(
        &self,
        observed: &Observed,
        at: (&Trace<'_>, &mut [f64]),
        scale: f64,
        gradient: &mut Gradient,
    ) -> f64 {
        let (answered, slope) = at;
        let mut loss = 0.0;
        let mut fit = |row: usize, quality: f64, weight: f64| {
            let error = self.parameters.head(row, &answered.after) - quality;
            loss += weight * error * error;
            let row_slope = 2.0 * weight * error;
            self.parameters
                .head_back(row, row_slope, (&answered.after, &mut *slope), gradient);
        };
        let weight = scale * self.sample.share();
        fit(self.parameters.shape.answer(), observed.quality, weight);
        let others = self
            .sample
            .observed
            .iter()
            .filter(|other| other.arm != observed.arm);
        let count = others.clone().count() as f64;
        for other in others {
            fit(other.arm, other.quality, OTHERS_WEIGHT * weight / count);
        }
        loss
    }

    fn prefix(&mut self, observed: &Observed, gradient: &mut Gradient) -> f64 {
        let Some(prefix) = &observed.prefix else {
            return 0.0;
        };
        let answered = self.parameters.step(prefix, self.before_choice.clone());
        let mut slope = self.parameters.empty();
        let at = (&answered, slope.as_mut_slice());
        let loss = self.predict_after(observed, at, PREFIX_WEIGHT, gradient);
        let back = self.parameters.step_back(&answered, &slope, gradient);
        self.add_slope(&back);
        loss
    }
}

impl Sample {
    /// An outcome's share of the question's prediction error: the same for each. Inverse
    /// probabilities would only add variance here, since every arm has a head of its own.
    fn share(&self) -> f64 {
        1.0 / self.observed.len() as f64
    }

    fn times_observed(&self, arm: usize) -> f64 {
        self.observed
            .iter()
            .filter(|observed| observed.arm == arm)
            .count() as f64
    }
}

pub(super) fn softmax(mut values: Vec<f64>, tau: f64) -> Vec<f64> {
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values
        .iter_mut()
        .for_each(|value| *value = ((*value - highest) / tau).exp());
    let total: f64 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= total);
    values
}
