//! A log as numbers: normalised inputs, prices of arms, and estimates for what nobody observed.
//!
//! Nothing here has weights to learn by gradient. The estimate for an unobserved (question, arm)
//! is the arm's mean plus what the other arms tried on the question say about it
//! ([`super::effects`]); for an observed arm its own outcome is left out. That makes
//! it usable as the outcome model of a doubly robust value, whose bias vanishes either when the
//! model is right or when the collection probabilities are.

use super::effects::Effects;
use super::{Episode, Outcome, TrainOptions};
use crate::arms::ArmTable;
use crate::network::{Layout, Normaliser, raw_columns};
use crate::schema::{FeatureSchema, StepFeatures};

/// Inverse probabilities beyond this are cut off; bounds the variance of one outcome.
pub(super) const WEIGHT_MAX: f64 = 6.0;

/// Pseudo-observations that pull an arm's mean towards that of all arms.
const ARM_SHRINKAGE: f64 = 2.0;

/// Smallest deviation of a column that is not frozen.
const DEVIATION_MIN: f64 = 1e-4;

/// The non-zero columns of one step, its one-hot among them.
pub(super) type Input = Vec<(usize, f64)>;

/// One observed outcome.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) arm: usize,
    pub(super) sampling: usize,
    pub(super) quality: f64,
    /// Inverse collection probability, cut off.
    pub(super) weight: f64,
    pub(super) answer: Input,
    pub(super) prefix: Option<Input>,
    /// What a second attempt at each bigger rank would give: (arm, quality, price).
    pub(super) again: Vec<Again>,
}

/// A second attempt that was open after an outcome.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    pub(super) arm: usize,
    pub(super) quality: f64,
    pub(super) price: f64,
}

/// One question.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Query, search and recall; `None` where the log has none.
    pub(super) steps: [Option<Input>; 3],
    pub(super) observed: Vec<Observed>,
    /// Estimated quality of every arm.
    pub(super) estimate: Vec<f64>,
}

/// A log ready for training or evaluation.
#[derive(Debug, Clone)]
pub(super) struct Dataset {
    pub(super) samples: Vec<Sample>,
    pub(super) normaliser: Normaliser,
    pub(super) table: ArmTable,
    pub(super) arms: ArmStatistics,
    pub(super) columns: usize,
    pub(super) effects: Effects,
}

/// What a log says about each arm whatever the question.
#[derive(Debug, Clone)]
pub(super) struct ArmStatistics {
    pub(super) quality: Vec<f64>,
    pub(super) latency_s: Vec<f64>,
    pub(super) cost: Vec<f64>,
    /// Seconds and cost at the objective's prices, in quality points.
    pub(super) price: Vec<f64>,
}

impl Dataset {
    /// A log with statistics and normaliser of its own.
    pub(super) fn new(episodes: &[&Episode], table: &ArmTable, options: &TrainOptions) -> Self {
        let arms = ArmStatistics::of(episodes, table, options);
        let effects = Effects::of(episodes, table, &arms.quality);
        Self::with(episodes, table, (arms, effects), fit_normaliser(episodes))
    }

    /// Held-out questions, seen through what `self` learned from its own.
    pub(super) fn held_out(&self, episodes: &[&Episode]) -> Self {
        Self::with(
            episodes,
            &self.table,
            (self.arms.clone(), self.effects),
            self.normaliser.clone(),
        )
    }

    /// The log without the columns of some features, as if nobody had measured them.
    pub(super) fn without(mut self, left_out: &[bool]) -> Self {
        let keep = |&(column, _): &(usize, f64)| !left_out.get(column).is_some_and(|out| *out);
        for sample in &mut self.samples {
            sample
                .steps
                .iter_mut()
                .flatten()
                .for_each(|input| input.retain(keep));
            for observed in &mut sample.observed {
                observed.answer.retain(keep);
                observed
                    .prefix
                    .iter_mut()
                    .for_each(|input| input.retain(keep));
            }
        }
        self
    }

    fn with(
        episodes: &[&Episode],
        table: &ArmTable,
        (arms, effects): (ArmStatistics, Effects),
        normaliser: Normaliser,
    ) -> Self {
        let layout = Layout::of(FeatureSchema::current());
        let reader = Reader {
            layout,
            normaliser: &normaliser,
        };
        let samples = episodes
            .iter()
            .map(|episode| sample(episode, &reader, (&arms, &effects), table));
        let samples = samples.collect();
        let columns = reader.layout.width();
        Self {
            samples,
            normaliser,
            table: table.clone(),
            arms,
            columns,
            effects,
        }
    }
}

impl ArmStatistics {
    fn of(episodes: &[&Episode], table: &ArmTable, options: &TrainOptions) -> Self {
        let outcomes = || episodes.iter().flat_map(|episode| &episode.outcomes);
        let mean = |value: &dyn Fn(&Outcome) -> f64| -> Vec<f64> {
            let of_rank = |rank: Option<usize>| {
                let in_rank = outcomes()
                    .filter(|outcome| rank.is_none_or(|rank| table.arms[outcome.arm].rank == rank));
                weighted_mean(in_rank, value, None)
            };
            let overall = of_rank(None).unwrap_or(0.0);
            let arm_mean = |(index, arm): (usize, &crate::Arm)| {
                let fallback = of_rank(Some(arm.rank)).unwrap_or(overall);
                let own = outcomes().filter(|outcome| outcome.arm == index);
                weighted_mean(own, value, Some(fallback)).unwrap_or(fallback)
            };
            table.arms.iter().enumerate().map(arm_mean).collect()
        };
        let quality = mean(&|outcome| outcome.quality);
        let latency_s = mean(&|outcome| outcome.latency_s);
        let cost = mean(&|outcome| outcome.cost);
        let prices = latency_s.iter().zip(&cost);
        let price = prices
            .map(|(seconds, cost)| options.per_second * seconds + options.per_cost_unit * cost);
        Self {
            price: price.collect(),
            quality,
            latency_s,
            cost,
        }
    }
}

impl Sample {
    /// What an arm gave where it was tried, else what is expected of it.
    pub(super) fn known(&self, arm: usize) -> f64 {
        let tried = self.observed.iter().filter(|observed| observed.arm == arm);
        let (sum, count) = tried.fold((0.0, 0.0), |(s, n), o| (s + o.quality, n + 1.0));
        if count > 0.0 {
            sum / count
        } else {
            self.estimate[arm]
        }
    }
}

/// Mean with inverse collection probability, pulled towards `prior` where there is one.
fn weighted_mean<'a>(
    outcomes: impl Iterator<Item = &'a Outcome>,
    value: &dyn Fn(&Outcome) -> f64,
    prior: Option<f64>,
) -> Option<f64> {
    let pull = if prior.is_some() { ARM_SHRINKAGE } else { 0.0 };
    let start = (pull * prior.unwrap_or(0.0), pull);
    let (sum, weight) = outcomes.fold(start, |(sum, weight), outcome| {
        let own = inverse_probability(outcome);
        (sum + own * value(outcome), weight + own)
    });
    (weight > 0.0).then(|| sum / weight)
}

pub(super) fn inverse_probability(outcome: &Outcome) -> f64 {
    (1.0 / outcome.probability).min(WEIGHT_MAX)
}

struct Reader<'a> {
    layout: Layout,
    normaliser: &'a Normaliser,
}

impl Reader<'_> {
    fn input(&self, features: &StepFeatures) -> Input {
        let one_hot = (self.layout.width() + features.step.index(), 1.0);
        raw_columns(FeatureSchema::current(), &self.layout, features)
            .map(|(column, raw)| (column, f64::from(self.normaliser.apply(column, raw))))
            .filter(|(_, value)| *value != 0.0)
            .chain([one_hot])
            .collect()
    }
}

fn sample(
    episode: &Episode,
    reader: &Reader<'_>,
    (arms, effects): (&ArmStatistics, &Effects),
    table: &ArmTable,
) -> Sample {
    let steps = [
        Some(&episode.query),
        episode.search.as_ref(),
        episode.recall.as_ref(),
    ];
    let steps = steps.map(|features| features.map(|features| reader.input(features)));
    let estimate: Vec<f64> = (0..table.arms.len())
        .map(|arm| {
            let effect = effects.on(episode, arm, table, &arms.quality);
            (arms.quality[arm] + effect).clamp(1.0, 5.0)
        })
        .collect();
    let seen = |arm: usize| {
        let qualities = episode.outcomes.iter().filter(|outcome| outcome.arm == arm);
        let (sum, count) = qualities.fold((0.0, 0.0), |(s, n), o| (s + o.quality, n + 1.0));
        (count > 0.0).then(|| sum / count)
    };
    let again = |arm: usize| -> Vec<Again> {
        let bigger = table.arms[arm].rank + 1..table.models;
        bigger
            .filter_map(|rank| table.with_rank(arm, rank))
            .map(|arm| Again {
                arm,
                quality: seen(arm).unwrap_or(estimate[arm]),
                price: arms.price[arm],
            })
            .collect()
    };
    let observed = episode.outcomes.iter().map(|outcome| Observed {
        arm: outcome.arm,
        sampling: outcome.sampling,
        quality: outcome.quality,
        weight: inverse_probability(outcome),
        answer: reader.input(&outcome.answer),
        prefix: outcome.prefix.as_ref().map(|prefix| reader.input(prefix)),
        again: again(outcome.arm),
    });
    Sample {
        steps,
        observed: observed.collect(),
        estimate,
    }
}

/// Mean and deviation of every column over the log; columns without variance get scale 0.
pub(super) fn fit_normaliser(episodes: &[&Episode]) -> Normaliser {
    let schema = FeatureSchema::current();
    let layout = Layout::of(schema);
    let mut sums = vec![(0.0_f64, 0.0_f64, 0.0_f64); layout.width()];
    for episode in episodes {
        let before = [
            Some(&episode.query),
            episode.search.as_ref(),
            episode.recall.as_ref(),
        ];
        let answers = episode.outcomes.iter();
        let answers = answers.flat_map(|outcome| [Some(&outcome.answer), outcome.prefix.as_ref()]);
        for features in before.into_iter().chain(answers).flatten() {
            for (column, raw) in raw_columns(schema, &layout, features) {
                let raw = f64::from(raw);
                let (count, sum, squares) = &mut sums[column];
                (*count, *sum, *squares) = (*count + 1.0, *sum + raw, *squares + raw * raw);
            }
        }
    }
    let column = |&(count, sum, squares): &(f64, f64, f64)| {
        let count = count.max(1.0);
        let mean = sum / count;
        let deviation = (squares / count - mean * mean).max(0.0).sqrt();
        let scale = if deviation < DEVIATION_MIN {
            0.0
        } else {
            1.0 / deviation
        };
        (mean as f32, scale as f32)
    };
    let (offset, scale) = sums.iter().map(column).unzip();
    Normaliser { offset, scale }
}
