//! The mission's own recipe, as the comparison needs it: labels of the best arm instead of expected utility.
//!
//! Of the arms that were tried on a question the one of highest utility is the label: its model (cross entropy), its
//! context, temperature and `top_p` (squared errors). Questions whose best arm stands out are taught first and the
//! ambiguous ones join later. There is no verdict, and no price can be set after training.

use super::objective::softmax;
use super::parameters::{Gradient, Parameters};
use super::sample::{Dataset, Observed, Sample};

/// Weight of the context's squared error beside the cross entropy (the mission's alpha).
const ALPHA: f64 = 0.5;

/// Weight of the squared errors of temperature and `top_p` (the mission's beta).
const BETA: f64 = 0.5;

/// Share of the questions that the first pass teaches, and the share of all passes after which it is all of them.
const FIRST_SHARE: f64 = 0.3;
const RAMP: f64 = 0.5;

/// The recipe on one log.
pub(super) struct Mission<'a> {
    data: &'a Dataset,
    context_max: f64,
}

/// What a question teaches.
struct Labels {
    model: usize,
    /// Context, temperature and `top_p`.
    numbers: [f64; 3],
}

impl<'a> Mission<'a> {
    pub(super) fn of(data: &'a Dataset) -> Self {
        let contexts = data.table.arms.iter().map(|arm| arm.context_tokens);
        let context_max = f64::from(contexts.max().unwrap_or(0).max(1));
        Self { data, context_max }
    }

    fn worth(&self, observed: &Observed) -> f64 {
        observed.quality - self.data.arms.price[observed.arm]
    }

    fn labels(&self, sample: &Sample) -> Option<Labels> {
        let better = |a: &&Observed, b: &&Observed| self.worth(a).total_cmp(&self.worth(b));
        let best = sample.observed.iter().max_by(better)?;
        let (table, arm) = (&self.data.table, self.data.table.arms[best.arm]);
        let class = &table.sampling[best.sampling];
        Some(Labels {
            model: arm.rank,
            numbers: [
                f64::from(arm.context_tokens) / self.context_max,
                f64::from(class.temperature),
                f64::from(class.top_p),
            ],
        })
    }

    /// How much better the best arm that was tried is than the next.
    fn margin(&self, sample: &Sample) -> f64 {
        let mut worths: Vec<f64> = sample.observed.iter().map(|o| self.worth(o)).collect();
        worths.sort_by(|a, b| b.total_cmp(a));
        match worths.as_slice() {
            [best, next, ..] => best - next,
            _ => 0.0,
        }
    }

    /// The questions a pass teaches, of a shuffled `order`: those of the greatest margins first.
    pub(super) fn curriculum(
        &self,
        order: &[usize],
        samples: &[Sample],
        (epoch, epochs): (usize, usize),
    ) -> Vec<usize> {
        let ramp = epoch as f64 / (RAMP * epochs as f64).max(1.0);
        let share = (FIRST_SHARE + (1.0 - FIRST_SHARE) * ramp).min(1.0);
        let count = (share * order.len() as f64).ceil() as usize;
        let mut margins: Vec<f64> = samples.iter().map(|sample| self.margin(sample)).collect();
        let of = margins.clone();
        margins.sort_by(|a, b| b.total_cmp(a));
        let least = margins.get(count.max(1) - 1).copied().unwrap_or(0.0);
        let taught = order.iter().filter(|index| of[**index] >= least);
        taught.copied().collect()
    }

    /// Adds the gradient of one question and returns its loss. `kept` hides steps.
    pub(super) fn add(
        &self,
        parameters: &Parameters,
        sample: &Sample,
        kept: [bool; 3],
        gradient: &mut Gradient,
    ) -> f64 {
        let Some(labels) = self.labels(sample) else {
            return 0.0;
        };
        let (traces, state) = parameters.before_choice(sample, kept);
        let mut slope = parameters.empty();
        let models = self.data.table.models;
        let logits = (0..models).map(|row| parameters.head(row, &state));
        let probabilities = softmax(logits.collect(), 1.0);
        let mut loss = -probabilities[labels.model].max(1e-12).ln();
        for (row, probability) in probabilities.iter().enumerate() {
            let right = f64::from(u8::from(row == labels.model));
            parameters.head_back(row, probability - right, (&state, &mut slope), gradient);
        }
        for (index, number) in labels.numbers.iter().enumerate() {
            let weight = if index == 0 { ALPHA } else { BETA };
            let error = parameters.head(models + index, &state) - number;
            loss += weight * error * error;
            let row_slope = 2.0 * weight * error;
            parameters.head_back(models + index, row_slope, (&state, &mut slope), gradient);
        }
        parameters.steps_back(&traces, slope, gradient);
        loss
    }

    /// The arm that the heads come to: the model of the highest logit, the nearest context, and of arms that differ in
    /// recall only the one worth most on the whole.
    pub(super) fn choice(&self, parameters: &Parameters, sample: &Sample) -> usize {
        let state = parameters.read(sample.steps.iter().filter_map(Option::as_deref));
        let table = &self.data.table;
        let logit = |row: &usize| parameters.head(*row, &state);
        let model = (0..table.models).max_by(|a, b| logit(a).total_cmp(&logit(b)));
        let model = model.unwrap_or(0);
        let context = parameters.head(table.models, &state) * self.context_max;
        let statistics = &self.data.arms;
        let rank = |arm: usize| {
            let distance = (f64::from(table.arms[arm].context_tokens) - context).abs();
            (distance, statistics.price[arm] - statistics.quality[arm])
        };
        let of_model = (0..table.arms.len()).filter(|arm| table.arms[*arm].rank == model);
        let nearer = |a: &usize, b: &usize| {
            let (one, other) = (rank(*a), rank(*b));
            one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1))
        };
        of_model.min_by(nearer).unwrap_or(0)
    }

    /// Doubly robust utility of the choice.
    pub(super) fn utility(&self, parameters: &Parameters, sample: &Sample) -> f64 {
        let arm = self.choice(parameters, sample);
        let tried = sample
            .observed
            .iter()
            .filter(|observed| observed.arm == arm);
        let count = tried.clone().count() as f64;
        let estimate = sample.estimate[arm];
        let corrections = tried.map(|o| o.weight / count * (o.quality - estimate));
        estimate + corrections.sum::<f64>() - self.data.arms.price[arm]
    }
}
