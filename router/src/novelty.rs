//! Whether a request is like those that a router was trained on.
//!
//! A [`Profile`] is fitted in training (`train/profile.rs`) and travels in the artifact. It knows the normalised columns of
//! the steps before the choice, as far as they varied in training: their covariance, and the centre of each kind of
//! question. A request's distance is Mahalanobis', per column, so it is about 1 in training; beyond the threshold it is
//! unusual, which at most [`FALSE_ALARMS`] of the requests of training are when held out. A step that was skipped says
//! nothing and counts as average. What becomes of many requests is [`crate::drift`].

use serde::{Deserialize, Serialize};

use crate::network::{Layout, Normaliser, raw_columns};
use crate::schema::{FeatureSchema, Step, StepFeatures};

/// Share of requests like those of training that are called unusual.
pub const FALSE_ALARMS: f64 = 0.05;

/// Kinds that are told apart; those with fewest questions in training are left out.
pub(crate) const KINDS_MAX: usize = 16;

/// Values further from the mean than this many deviations are cut off there, so that one column cannot drown the others.
const VALUE_MAX: f32 = 10.0;

/// The steps that are known before the choice.
const STEPS: [Step; 3] = [Step::Query, Step::Search, Step::Recall];

/// What requests were like in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Lower triangle, row by row, of the matrix that makes the columns uncorrelated and of variance 1.
    pub(crate) whitening: Vec<f32>,
    /// Distance beyond which a request is unusual.
    pub(crate) threshold: f64,
    /// Kinds of questions in training, by name.
    pub(crate) kinds: Vec<Kind>,
}

/// A kind of question: what a source begins with in the training log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// Its name.
    pub name: String,
    /// Share of the held-out questions of training that were nearest to its centre.
    pub share: f64,
    /// Mean of its questions, whitened.
    pub(crate) centre: Vec<f32>,
}

/// A request beside those of training.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Mahalanobis' distance per column; about 1 in training.
    pub distance: f64,
    /// Whether that is beyond the threshold.
    pub unusual: bool,
    /// Index of the kind of question it is nearest to; `None` where training knew no kinds.
    pub kind: Option<usize>,
    /// The columns, in deviations from their mean in training.
    pub(crate) values: Vec<f32>,
}

impl Profile {
    /// Distance beyond which a request is unusual.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The kinds of questions it knows.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Reads what is known of a request before the choice.
    pub(crate) fn read(&self, normaliser: &Normaliser, steps: &[StepFeatures]) -> Reading {
        let values = values(normaliser, |step| {
            steps.iter().find(|features| features.step == step)
        });
        let white = whitened(&self.whitening, &values);
        let distance = distance(&white);
        Reading {
            distance,
            unusual: distance > self.threshold,
            kind: nearest(&self.kinds, &white),
            values,
        }
    }

    /// What does not hold of a profile that came from outside.
    pub(crate) fn fault(&self, normaliser: &Normaliser) -> Option<String> {
        let width = columns(normaliser).len();
        let centres = || self.kinds.iter().flat_map(|kind| &kind.centre);
        let finite = self
            .whitening
            .iter()
            .chain(centres())
            .all(|v| v.is_finite());
        let fits = self.whitening.len() == width * (width + 1) / 2
            && self.kinds.iter().all(|kind| kind.centre.len() == width);
        let shares = self
            .kinds
            .iter()
            .all(|kind| (0.0..=1.0).contains(&kind.share));
        let threshold = self.threshold.is_finite() && self.threshold > 0.0;
        let few = self.kinds.len() <= KINDS_MAX;
        let holds = finite && fits && shares && threshold && few;
        (!holds).then(|| format!("its profile of training does not describe {width} columns"))
    }
}

/// The columns that are read: those of the steps before the choice that varied in training.
pub(crate) fn columns(normaliser: &Normaliser) -> Vec<usize> {
    let layout = Layout::of(FeatureSchema::current());
    let known = STEPS.into_iter().flat_map(|step| layout.block(step));
    known
        .filter(|column| normaliser.scale.get(*column).is_some_and(|s| *s != 0.0))
        .collect()
}

/// Their values, in deviations from the mean; 0 for those of a step that was skipped.
pub(crate) fn values<'a>(
    normaliser: &Normaliser,
    of: impl Fn(Step) -> Option<&'a StepFeatures>,
) -> Vec<f32> {
    let schema = FeatureSchema::current();
    let layout = Layout::of(schema);
    let mut values = Vec::with_capacity(layout.width());
    for step in STEPS {
        let varied = |column: &usize| normaliser.scale[*column] != 0.0;
        match of(step) {
            Some(features) => {
                let read = raw_columns(schema, &layout, features);
                let read = read.filter(|(column, _)| varied(column));
                values.extend(read.map(|(column, raw)| {
                    let (offset, scale) = (normaliser.offset[column], normaliser.scale[column]);
                    ((raw - offset) * scale).clamp(-VALUE_MAX, VALUE_MAX)
                }));
            }
            None => values.extend(layout.block(step).filter(varied).map(|_| 0.0)),
        }
    }
    values
}

/// A lower triangular matrix times a vector.
pub(crate) fn whitened(triangle: &[f32], values: &[f32]) -> Vec<f64> {
    let mut row_start = 0;
    let row = |row: usize| {
        let entries = &triangle[row_start..][..=row];
        row_start += row + 1;
        let products = entries.iter().zip(values);
        products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    (0..values.len()).map(row).collect()
}

/// Root of the mean square.
pub(crate) fn distance(white: &[f64]) -> f64 {
    let squares: f64 = white.iter().map(|value| value * value).sum();
    (squares / white.len().max(1) as f64).sqrt()
}

/// The kind whose centre is nearest; the first of equals.
pub(crate) fn nearest(kinds: &[Kind], white: &[f64]) -> Option<usize> {
    let from = |kind: &Kind| -> f64 {
        let pairs = kind.centre.iter().zip(white);
        pairs.map(|(a, b)| (f64::from(*a) - b).powi(2)).sum()
    };
    let distances = kinds.iter().map(from).enumerate();
    let nearest = distances.reduce(|best, one| if one.1 < best.1 { one } else { best });
    nearest.map(|(kind, _)| kind)
}
