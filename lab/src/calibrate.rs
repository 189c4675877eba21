//! `weir router calibrate`: whether expected qualities mean what they say, and what share may go to the small model with a
//! certificate.
//!
//! From an outcome log: an artifact's expectation of the smallest model's answers against what the grader gave. From a
//! public table: a text classifier's, which says what a certificate is worth before any router exists; there the
//! certificate is repeated on many draws and held against all prompts it was not fitted on. The arithmetic is
//! `weir_router::calibrate`.

use crate::outcomes::{self, OutcomesError, Row};
use crate::results::{Goal, Results, Row as ResultRow};
use crate::stats::mean_interval;
use crate::tables::{Table, TableError};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::path::Path;
use weir_router::calibrate::{
    CalibrationError, Guard, Scored, at_temperature, calibration_error, guard, temperature,
    thresholds,
};
use weir_router::guard::Certificate;
use weir_router::train::{Episode, log_sha256};
use weir_router::words::Words;
use weir_router::words::linear::Linear;
use weir_router::{ChoiceInputs, ChooseError, Router};

/// Bins of equal size that the calibration error is taken over.
const BINS: usize = 15;

/// The first threshold lets this share of requests through.
const FIRST_SHARE: f64 = 0.2;

/// Thresholds of the sequence.
const THRESHOLDS: usize = 81;

/// Prompts that a certificate is made from, on a table.
const CERTIFIED_FROM: usize = 2_000;

/// A score from which an answer counts as right.
const RIGHT: f64 = 0.5;

/// Least answers on each side of the split.
const ANSWERS_MIN: usize = 30;

/// What is asked of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Promise {
    /// Largest rate of wrong answers among those of the small model.
    pub alpha: f64,
    /// Probability with which it may be exceeded.
    pub delta: f64,
    /// Seed of the split.
    pub seed: u64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Answers that the temperature was fitted on.
    pub fitted: usize,
    /// Answers that the numbers are from.
    pub answers: usize,
    /// Their rate of wrong ones.
    pub wrong: f64,
    /// The temperature.
    pub temperature: f64,
    /// The error as it was.
    pub before: CalibrationError,
    /// The error at the temperature.
    pub after: CalibrationError,
    /// What is promised.
    pub promise: Promise,
    /// The certificate; `None` where none can be given.
    pub guard: Option<Guard>,
    /// Models of the log's ladder.
    pub models: usize,
    /// SHA-256 of what the log says, lower-case hex.
    pub log_sha256: String,
}

/// Why nothing is calibrated.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] OutcomesError),
    /// The table cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The artifact cannot decide there.
    #[error("calibrate a router: question {question}: the artifact cannot choose")]
    Choose {
        /// The question.
        question: String,
        /// Why.
        source: ChooseError,
    },
    /// It is the log it was trained on.
    #[error(
        "calibrate a router: the artifact was trained on this log, so that its expectations there say nothing; collect \
         another one with `weir router collect --seed`"
    )]
    Trained,
    /// There is too little.
    #[error(
        "calibrate a router: the log has {answers} answers of the smallest model, {needed} are needed; collect for longer"
    )]
    TooFew {
        /// Answers.
        answers: usize,
        /// Needed.
        needed: usize,
    },
}

/// Calibrates an artifact on an outcome log: one half fits temperature and thresholds, the other gives the numbers.
pub fn on_log(log: &Path, router: &Router, promise: Promise) -> Result<Report, CalibrateError> {
    let rows = outcomes::read(log)?;
    let models = rows.iter().find_map(|row| match row {
        Row::Design(design) => Some(design.models.len()),
        _ => None,
    });
    let episodes = outcomes::to_episodes(&rows);
    let training = router.artifact().manifest().training.as_ref();
    let log_sha256 = log_sha256(&episodes);
    if training.is_some_and(|training| training.data_sha256 == log_sha256) {
        return Err(CalibrateError::Trained);
    }
    let router = router.bind(models.unwrap_or(router.arms().models));
    let mut scored = Vec::new();
    for episode in &episodes {
        scored.extend(of_small(episode, &router)?);
    }
    if scored.len() < 2 * ANSWERS_MIN {
        return Err(CalibrateError::TooFew {
            answers: scored.len(),
            needed: 2 * ANSWERS_MIN,
        });
    }
    scored.shuffle(&mut ChaCha8Rng::seed_from_u64(promise.seed));
    let (fit, rest) = scored.split_at(scored.len() / 2);
    let of = (router.arms().models, log_sha256);
    Ok(Report::new(fit, rest, promise, of))
}

/// A question's first answer of the smallest model, as it was expected: answers of one question are not independent.
fn of_small(episode: &Episode, router: &Router) -> Result<Option<Scored>, CalibrateError> {
    let arms = &router.arms().arms;
    let is_small = |arm: usize| arms.get(arm).is_some_and(|arm| arm.rank == 0);
    let Some(outcome) = episode
        .outcomes
        .iter()
        .find(|outcome| is_small(outcome.arm))
    else {
        return Ok(None);
    };
    let mut state = router.start();
    let steps = [
        Some(&episode.query),
        episode.search.as_ref(),
        episode.recall.as_ref(),
    ];
    for features in steps.into_iter().flatten() {
        router.observe(&mut state, features);
    }
    // Without prices and chance: only the expected qualities are read.
    let inputs = ChoiceInputs {
        permitted: vec![true; arms.len()],
        latency_s: vec![0.0; arms.len()],
        cost: vec![0.0; arms.len()],
        per_second: 0.0,
        per_cost_unit: 0.0,
        floor: 0.0,
        near_tie_margin: 0.0,
        draw: 0.0,
    };
    let choice = router.choose(&state, &inputs);
    let choice = choice.map_err(|source| CalibrateError::Choose {
        question: episode.question.clone(),
        source,
    })?;
    let share = |quality: f64| (quality - 1.0) / 4.0;
    Ok(Some(Scored {
        confidence: share(choice.qualities[outcome.arm]),
        right: share(outcome.quality) >= RIGHT,
    }))
}

impl Report {
    fn new(
        fit: &[Scored],
        rest: &[Scored],
        promise: Promise,
        (models, log_sha256): (usize, String),
    ) -> Self {
        let temperature = temperature(fit);
        let cooled = |sample: &[Scored]| -> Vec<Scored> {
            let of = |one: &Scored| Scored {
                confidence: at_temperature(one.confidence, temperature),
                ..*one
            };
            sample.iter().map(of).collect()
        };
        let (fit, after) = (cooled(fit), cooled(rest));
        let wrong = rest.iter().filter(|one| !one.right).count();
        Self {
            fitted: fit.len(),
            answers: rest.len(),
            wrong: wrong as f64 / rest.len().max(1) as f64,
            temperature,
            before: calibration_error(rest, BINS),
            after: calibration_error(&after, BINS),
            promise,
            guard: guard(&after, &sequence(&fit), promise.alpha, promise.delta),
            models,
            log_sha256,
        }
    }

    /// The certificate as an artifact carries it, where one can be given.
    pub fn certificate(&self) -> Option<Certificate> {
        let guard = self.guard?;
        Some(Certificate {
            temperature: self.temperature,
            threshold: guard.threshold,
            alpha: self.promise.alpha,
            delta: self.promise.delta,
            share: guard.share,
            answers: self.answers,
            models: self.models,
            data_sha256: self.log_sha256.clone(),
        })
    }
}

/// Thresholds that are fixed before the answers they certify are seen.
fn sequence(fit: &[Scored]) -> Vec<f64> {
    let confidences: Vec<f64> = fit.iter().map(|one| one.confidence).collect();
    thresholds(&confidences, FIRST_SHARE, THRESHOLDS)
}

/// The small model's certificate on a table, `splits` times: each split fits a classifier on a fixed half of the prompts, a
/// temperature on a part of the other half and certifies from [`CERTIFIED_FROM`] prompts of it; a certificate is violated
/// when more than alpha of all of the other half's answers at or above its threshold are wrong.
pub fn on_table(
    table: &Table,
    small: &str,
    promise: Promise,
    (splits, done): (usize, &dyn Fn()),
) -> Result<Results, CalibrateError> {
    let model = table.model(small)?;
    if table.rows.len() < 4 * CERTIFIED_FROM {
        return Err(TableError::TooFew {
            path: table.name.clone(),
            rows: table.rows.len(),
            needed: 4 * CERTIFIED_FROM,
        }
        .into());
    }
    let mut rng = ChaCha8Rng::seed_from_u64(promise.seed);
    let mut rows: Vec<usize> = (0..table.rows.len()).collect();
    rows.shuffle(&mut rng);
    let (training, rest) = rows.split_at(rows.len() / 2);
    let words: Vec<Words> = table
        .rows
        .iter()
        .map(|row| Words::of(&row.prompt))
        .collect();
    let of_small = |row: usize| &table.rows[row].scores[model..=model];
    let texts: Vec<(&Words, &[f64])> = training
        .iter()
        .map(|row| (&words[*row], of_small(*row)))
        .collect();
    let classifier = Linear::fit(&texts, promise.seed);
    let scored = |row: usize| Scored {
        confidence: classifier.scores(&words[row])[0],
        right: of_small(row)[0] >= RIGHT,
    };
    // The temperature is fitted once, on a quarter of the other half that certificates never see.
    let (fit, rest) = rest.split_at(table.rows.len() / 8);
    let fit: Vec<Scored> = fit.iter().map(|row| scored(*row)).collect();
    let temperature = temperature(&fit);
    let cooled = |one: Scored| Scored {
        confidence: at_temperature(one.confidence, temperature),
        ..one
    };
    let fit: Vec<Scored> = fit.into_iter().map(cooled).collect();
    let raw: Vec<Scored> = rest.iter().map(|row| scored(*row)).collect();
    let mut population: Vec<Scored> = raw.iter().copied().map(cooled).collect();
    let sequence = sequence(&fit);
    let (mut violations, mut shares) = (Vec::new(), Vec::new());
    let all = population.clone();
    for _ in 0..splits {
        let (drawn, _) = population.partial_shuffle(&mut rng, CERTIFIED_FROM);
        let found = guard(drawn, &sequence, promise.alpha, promise.delta);
        let violated =
            found.is_some_and(|guard| wrong_above(&all, guard.threshold).1 > promise.alpha);
        violations.push(f64::from(u8::from(violated)));
        shares.push(found.map_or(0.0, |guard| wrong_above(&all, guard.threshold).0));
        done();
    }
    let errors = (calibration_error(&raw, BINS), calibration_error(&all, BINS));
    Ok(results(
        table,
        small,
        promise,
        (&violations, &shares),
        (temperature, errors),
    ))
}

/// Share of answers at or above a confidence, and how many of these are wrong.
fn wrong_above(sample: &[Scored], threshold: f64) -> (f64, f64) {
    let above = sample.iter().filter(|one| one.confidence >= threshold);
    let (n, wrong) = above.fold((0.0, 0.0), |(n, wrong), one| {
        (n + 1.0, wrong + f64::from(u8::from(!one.right)))
    });
    (
        n / sample.len().max(1) as f64,
        if n > 0.0 { wrong / n } else { 0.0 },
    )
}

fn results(
    table: &Table,
    small: &str,
    promise: Promise,
    (violations, shares): (&[f64], &[f64]),
    (temperature, (before, after)): (f64, (CalibrationError, CalibrationError)),
) -> Results {
    let Promise { alpha, delta, seed } = promise;
    let (name, splits) = (&table.name, violations.len());
    let command = format!(
        "weir router calibrate --table {name}.jsonl --small {small} --alpha {alpha} --delta {delta} --splits {splits} --seed {seed}"
    );
    let mut results = Results::new("calibration", &command);
    results.notes.push(format!(
        "{name}: {} prompts, half of them for a classifier of words, an eighth for the temperature; each of {splits} \
         certificates from {CERTIFIED_FROM} of the rest, held against all of the rest",
        table.rows.len()
    ));
    let violated = ResultRow::interval(
        format!("certificates violated at alpha {alpha}"),
        "share",
        mean_interval(violations, seed),
    );
    results.rows.push(violated.goal(Goal::AtMost(delta)));
    let sent = ResultRow::interval(
        format!("sent to {small} at alpha {alpha}"),
        "share",
        mean_interval(shares, seed),
    );
    results.rows.push(sent.goal(Goal::AtLeast(0.68)));
    let error = ResultRow::new("debiased ECE", "share", after.debiased);
    results.rows.push(error.goal(Goal::AtMost(0.03)));
    results.rows.push(ResultRow::new(
        "debiased ECE before the temperature",
        "share",
        before.debiased,
    ));
    results
        .rows
        .push(ResultRow::new("plain ECE", "share", after.plain));
    results
        .rows
        .push(ResultRow::new("temperature", "", temperature));
    results
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::TableRow;

    const PROMISE: Promise = Promise {
        alpha: 0.25,
        delta: 0.1,
        seed: 1,
    };

    #[test]
    fn an_artifact_is_not_calibrated_on_the_log_it_was_trained_on() {
        let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../router/artifacts/outcomes.jsonl");
        let error = on_log(&log, &Router::builtin(), PROMISE).unwrap_err();
        assert!(matches!(error, CalibrateError::Trained), "{error}");
    }

    #[test]
    fn a_router_that_expects_the_same_of_every_question_is_calibrated_on_the_whole() {
        let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../router/artifacts/outcomes.jsonl");
        let table = weir_router::ArmTable::standard(3);
        let artifact = weir_router::Artifact::constant(&table, &vec![2.0; table.arms.len()]);
        let router = Router::new(artifact).unwrap();
        let report = on_log(&log, &router, PROMISE).unwrap();
        assert!(report.answers >= ANSWERS_MIN && report.fitted >= ANSWERS_MIN);
        assert!(
            report.wrong > 0.25,
            "the smallest model of that ladder is mostly wrong"
        );
        assert_eq!(report.guard, None);
        assert!(
            report.after.debiased < report.before.debiased + 0.1,
            "{report:?}"
        );
    }

    #[test]
    fn a_table_whose_words_tell_is_certified() {
        // The small model answers `name` nearly always and `prove` hardly ever.
        let row = |index: usize| {
            let hard = index.is_multiple_of(2);
            let right = (index / 2).is_multiple_of(20) == hard;
            TableRow {
                prompt: format!("{} {index:x}", if hard { "prove" } else { "name" }),
                scores: vec![1.0, f64::from(u8::from(right))],
            }
        };
        let table = Table {
            name: "demo".to_owned(),
            models: vec!["big".to_owned(), "small".to_owned()],
            rows: (0..8_000).map(row).collect(),
        };
        let results = on_table(&table, "small", PROMISE, (20, &|| ())).unwrap();
        let value = |index: usize| results.rows[index].value.unwrap();
        assert!(value(0) <= 0.2, "{results:?}");
        assert!((0.45..0.75).contains(&value(1)), "{results:?}");
        let error = on_table(&table, "tiny", PROMISE, (1, &|| ()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("big, small"), "{error}");
    }
}
