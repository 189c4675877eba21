//! What a log must be before anything is estimated from it, and how much it says about the candidate.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use thiserror::Error;

use super::{Options, Step, Trajectory};

/// How far a sum of probabilities may be from 1.
const SUM_ERROR: f64 = 1e-6;

/// Standard errors by which labels may stand for another number of rows than there are.
const LABELS_ERRORS: f64 = 4.0;

/// How much a log says about a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostics {
    /// Rows.
    pub rows: usize,
    /// Rows that somebody judged.
    pub labelled: usize,
    /// Different askers; a row without one counts for itself.
    pub askers: usize,
    /// Rows of equal weight that would say as much: (sum of weights)^2 / sum of squares.
    pub effective: f64,
    /// Share of the largest weight in their sum.
    pub largest_weight: f64,
    /// Share of the candidate's decisions that the log never takes.
    pub unsupported: f64,
    /// Mean ratio of candidate to logged probability: 1 but for chance when the log's probabilities are true.
    pub mean_ratio: f64,
}

/// Why nothing is estimated from a log.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Refusal {
    /// There is nothing.
    #[error("evaluate off-policy: the log holds no decision that can be used")]
    Empty,
    /// A number that is none.
    #[error("evaluate off-policy: decision {id}: {what} is not finite")]
    NotFinite {
        /// The decision.
        id: String,
        /// Which number.
        what: &'static str,
    },
    /// A row that contradicts itself.
    #[error("evaluate off-policy: decision {id}: {what}")]
    Inconsistent {
        /// The decision.
        id: String,
        /// What does not fit.
        what: String,
    },
    /// A probability with which nothing can have been taken.
    #[error(
        "evaluate off-policy: decision {id}: the propensity of {what} is {value}; what was taken has a probability in \
         (0, 1]"
    )]
    Propensity {
        /// The decision.
        id: String,
        /// Of what.
        what: &'static str,
        /// The value.
        value: f64,
    },
    /// The same decision twice.
    #[error(
        "evaluate off-policy: decision {id} is in the log more than once, as {rows} rows are; remove the copies, each \
         would count as evidence of its own"
    )]
    Duplicate {
        /// The first of them.
        id: String,
        /// Rows that repeat another.
        rows: usize,
    },
    /// Decisions made from different features.
    #[error(
        "evaluate off-policy: the log mixes feature schemas ({found}); split it and evaluate the rows of one schema"
    )]
    Schemas {
        /// Each with its rows.
        found: String,
    },
    /// Labels that stand for another number of decisions than the log has.
    #[error(
        "evaluate off-policy: by their propensities the {labelled} labels stand for {stand_for:.0} decisions, the log \
         has {rows}; give the propensity with which each decision was picked for a label, and the whole log it was \
         picked from"
    )]
    Labels {
        /// Labelled rows.
        labelled: usize,
        /// Sum of inverse propensities.
        stand_for: f64,
        /// Rows.
        rows: usize,
    },
    /// Too little overlap.
    #[error(
        "evaluate off-policy: the log says as much about the candidate as {effective:.0} rows would, at least \
         {needed:.0} are needed; log more decisions, or raise exploration.floor"
    )]
    Effective {
        /// Effective rows.
        effective: f64,
        /// Needed.
        needed: f64,
    },
    /// One row would decide.
    #[error(
        "evaluate off-policy: decision {id} alone has {:.1} % of all weight, at most {:.1} % may be one row's; log \
         more decisions, or raise exploration.floor",
        .share * 100.0,
        .most * 100.0
    )]
    OneWeight {
        /// The decision.
        id: String,
        /// Its share.
        share: f64,
        /// The largest allowed.
        most: f64,
    },
    /// The candidate does what was never tried.
    #[error(
        "evaluate off-policy: {:.1} % of the candidate's decisions are ones that the log takes with probability 0, at \
         most {:.1} % may be; nothing is known of them: log with exploration.floor above 0",
        .share * 100.0,
        .most * 100.0
    )]
    Unsupported {
        /// Their share.
        share: f64,
        /// The largest allowed.
        most: f64,
    },
}

pub(super) fn check(log: &[Trajectory], options: &Options) -> Result<Diagnostics, Refusal> {
    if log.is_empty() {
        return Err(Refusal::Empty);
    }
    let widths = widths(log);
    log.iter().try_for_each(|row| check_row(row, &widths))?;
    check_ids(log)?;
    check_schemas(log)?;
    check_labels(log)?;
    let diagnostics = diagnostics(log);
    // What nothing is known of comes first: it is why there may be little weight.
    if diagnostics.unsupported > options.unsupported_max {
        return Err(Refusal::Unsupported {
            share: diagnostics.unsupported,
            most: options.unsupported_max,
        });
    }
    if diagnostics.effective < options.effective_min {
        return Err(Refusal::Effective {
            effective: diagnostics.effective,
            needed: options.effective_min,
        });
    }
    if diagnostics.largest_weight > options.weight_share_max {
        let heaviest = log.iter().max_by(|a, b| a.weight().total_cmp(&b.weight()));
        return Err(Refusal::OneWeight {
            id: heaviest.map(|row| row.id.clone()).unwrap_or_default(),
            share: diagnostics.largest_weight,
            most: options.weight_share_max,
        });
    }
    Ok(diagnostics)
}

/// Width of the features at each step.
fn widths(log: &[Trajectory]) -> Vec<usize> {
    let mut widths = Vec::new();
    for row in log {
        for step in row.steps.iter().skip(widths.len()) {
            widths.push(step.features.first().map_or(0, Vec::len));
        }
    }
    widths
}

fn check_row(row: &Trajectory, widths: &[usize]) -> Result<(), Refusal> {
    let inconsistent = |what: String| Refusal::Inconsistent {
        id: row.id.clone(),
        what,
    };
    if row.steps.is_empty() {
        return Err(inconsistent("it holds no decision".to_owned()));
    }
    for (step, width) in row.steps.iter().zip(widths) {
        let actions = step.logged.len();
        let lengths = [step.candidate.len(), step.features.len()];
        if step.taken >= actions || lengths.iter().any(|length| *length != actions) {
            return Err(inconsistent(format!(
                "action {} of {actions}, {} probabilities of the candidate, {} rows of features",
                step.taken, lengths[0], lengths[1]
            )));
        }
        if step
            .features
            .iter()
            .any(|features| features.len() != *width)
        {
            return Err(inconsistent(format!(
                "its features are not {width} numbers an action as other rows' are"
            )));
        }
        check_step(&row.id, step)?;
    }
    let Some(label) = row.label else {
        return Ok(());
    };
    if !label.reward.is_finite() {
        return Err(Refusal::NotFinite {
            id: row.id.clone(),
            what: "the reward",
        });
    }
    propensity(&row.id, "its label", label.propensity)
}

fn check_step(id: &str, step: &Step) -> Result<(), Refusal> {
    let finite = |what, values: &[f64]| match values.iter().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(Refusal::NotFinite {
            id: id.to_owned(),
            what,
        }),
    };
    finite("a logged probability", &step.logged)?;
    finite("a probability of the candidate", &step.candidate)?;
    let mut features = step.features.iter();
    features.try_for_each(|row| finite("a feature", row))?;
    propensity(id, "what was taken", step.logged[step.taken])?;
    for (whose, values) in [("logged", &step.logged), ("candidate", &step.candidate)] {
        let sum: f64 = values.iter().sum();
        if (sum - 1.0).abs() > SUM_ERROR || values.iter().any(|value| *value < 0.0) {
            return Err(Refusal::Inconsistent {
                id: id.to_owned(),
                what: format!("the {whose} probabilities are no distribution, their sum is {sum}"),
            });
        }
    }
    Ok(())
}

fn propensity(id: &str, what: &'static str, value: f64) -> Result<(), Refusal> {
    if value > 0.0 && value <= 1.0 {
        return Ok(());
    }
    Err(Refusal::Propensity {
        id: id.to_owned(),
        what,
        value,
    })
}

fn check_ids(log: &[Trajectory]) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    let copies: Vec<&Trajectory> = log.iter().filter(|row| !seen.insert(&row.id)).collect();
    match copies.first() {
        None => Ok(()),
        Some(first) => Err(Refusal::Duplicate {
            id: first.id.clone(),
            rows: copies.len(),
        }),
    }
}

fn check_schemas(log: &[Trajectory]) -> Result<(), Refusal> {
    let mut schemas: BTreeMap<&str, usize> = BTreeMap::new();
    for row in log {
        *schemas.entry(&row.schema).or_default() += 1;
    }
    if schemas.len() == 1 {
        return Ok(());
    }
    let found = schemas.iter().map(|(schema, rows)| {
        let short: String = schema.chars().take(12).collect();
        format!("{short}: {rows} rows")
    });
    Err(Refusal::Schemas {
        found: found.collect::<Vec<_>>().join(", "),
    })
}

/// The inverse propensities of labels add up to the number of rows, but for chance.
fn check_labels(log: &[Trajectory]) -> Result<(), Refusal> {
    let labels = || log.iter().filter_map(|row| row.label);
    // A sum of nothing would be -0, and be shown so.
    let inverse = labels().map(|label| 1.0 / label.propensity);
    let stand_for: f64 = inverse.fold(0.0, |sum, one| sum + one);
    let variance: f64 = labels()
        .map(|label| (1.0 - label.propensity) / label.propensity.powi(2))
        .sum();
    let rows = log.len() as f64;
    // A label of a rare row may weigh many rows: one such more or less is chance, too.
    let heaviest = labels()
        .map(|label| 1.0 / label.propensity - 1.0)
        .fold(0.0, f64::max);
    let allowed = LABELS_ERRORS * variance.sqrt() + heaviest + 1e-9 * rows;
    if (stand_for - rows).abs() <= allowed && labels().next().is_some() {
        return Ok(());
    }
    Err(Refusal::Labels {
        labelled: labels().count(),
        stand_for,
        rows: log.len(),
    })
}

fn diagnostics(log: &[Trajectory]) -> Diagnostics {
    let weights: Vec<f64> = log.iter().map(Trajectory::weight).collect();
    let sum: f64 = weights.iter().sum();
    let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let rows = log.len() as f64;
    let over_sum = |value: f64| if sum > 0.0 { value / sum } else { 1.0 };
    Diagnostics {
        rows: log.len(),
        labelled: log.iter().filter(|row| row.label.is_some()).count(),
        askers: super::estimators::Askers::of(log).count(),
        effective: if squares > 0.0 {
            sum * sum / squares
        } else {
            0.0
        },
        largest_weight: over_sum(largest),
        unsupported: log.iter().map(unsupported).sum::<f64>() / rows,
        mean_ratio: log.iter().map(Trajectory::ratio).sum::<f64>() / rows,
    }
}

/// Probability with which the candidate does something that the log never does, given what came before.
fn unsupported(row: &Trajectory) -> f64 {
    let mut reached = 1.0;
    let mut sum = 0.0;
    for step in &row.steps {
        let pairs = step.candidate.iter().zip(&step.logged);
        let never = pairs.filter(|(_, logged)| **logged == 0.0);
        sum += reached * never.map(|(candidate, _)| candidate).sum::<f64>();
        reached *= step.ratio();
    }
    sum
}
