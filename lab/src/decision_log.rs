//! The gateway's decision log as it is read again: its lines, and the labels that belong to its decisions.
//!
//! Scores that came later and a line that a crash cut short are no decisions. What a label is worth depends on how its
//! decision was picked: a judge's score in the log says with which probability, one that a client sent of its own accord has
//! none. Such a one is a label only by a promise of the caller; or labels come from a file that says it. Evaluated in [`crate::ope`] and [`crate::gate`].

use serde::Deserialize;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use weir_gateway::record::{FeedbackRow, Record, is_fault};
use weir_router::ope::Label;

/// The lowest score: what a failed request is worth.
pub(crate) use weir_gateway::comparison::WORST;

/// One line of a log.
#[derive(Debug)]
pub enum Line {
    /// A decision.
    Decision(Box<Record>),
    /// A score that came later.
    Feedback(FeedbackRow),
    /// What a crash left of a line.
    Cut,
}

/// A whole log.
#[derive(Debug, Default)]
pub struct DecisionLog {
    /// The decisions, in order.
    pub decisions: Vec<Record>,
    /// The scores.
    pub scores: Vec<FeedbackRow>,
    /// Lines that a crash cut short.
    pub cut: usize,
}

/// Where labels come from.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelSource {
    /// JSON Lines of `decision_id`, `score` (1 to 5) and `propensity`.
    File(PathBuf),
    /// The scores in the log, each decision having been picked for one with this probability.
    Scores {
        /// That probability.
        propensity: f64,
    },
}

/// A line of a file of labels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelRow {
    decision_id: String,
    score: f64,
    propensity: f64,
    /// Who judged; for people.
    #[serde(rename = "judge")]
    _judge: Option<String>,
}

/// Why a log or its labels cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DecisionLogError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is something else.
    #[error("{path}:{line}: this line is no {expected}: {source}")]
    Line {
        /// The file.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What it should be.
        expected: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Scores without a known probability.
    #[error(
        "the log has {scores} scores and nobody knows with which probability a decision got one; name --labels FILE, or \
         give --label-propensity when every decision was picked with that probability"
    )]
    Voluntary {
        /// Scores in the log.
        scores: usize,
    },
    /// A label that cannot be used.
    #[error("the label of decision {id}: {what}")]
    Label {
        /// The decision.
        id: String,
        /// What does not fit.
        what: String,
    },
}

impl Line {
    /// Reads a line.
    pub fn read(line: &[u8]) -> Result<Self, serde_json::Error> {
        let text = line.trim_ascii_end();
        match serde_json::from_slice(text) {
            Ok(record) => Ok(Self::Decision(Box::new(record))),
            Err(cause) => match serde_json::from_slice(text) {
                Ok(feedback) => Ok(Self::Feedback(feedback)),
                Err(_) if cause.is_eof() || ends_in_a_letter(text) => Ok(Self::Cut),
                Err(_) => Err(cause),
            },
        }
    }
}

/// Whether the bytes end in the middle of a UTF-8 letter.
fn ends_in_a_letter(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_err_and(|error| error.error_len().is_none())
}

/// Reads a log.
pub fn read(path: &Path) -> Result<DecisionLog, DecisionLogError> {
    let mut log = DecisionLog::default();
    for_each_line(path, |number, line| {
        match Line::read(line) {
            Ok(Line::Decision(record)) => log.decisions.push(*record),
            Ok(Line::Feedback(score)) => log.scores.push(score),
            Ok(Line::Cut) => log.cut += 1,
            Err(source) => return Err(no(path, number, "decision", source)),
        }
        Ok(())
    })?;
    Ok(log)
}

impl DecisionLog {
    /// The label of each decision that has one.
    pub fn labels(
        &self,
        source: Option<&LabelSource>,
    ) -> Result<HashMap<String, Label>, DecisionLogError> {
        let mut labels = HashMap::new();
        match source {
            None => {
                // Of two labels of one decision the gateway counts the first.
                for score in &self.scores {
                    if let Some(propensity) = score.propensity {
                        let label = label(&score.feedback_for, score.score, propensity)?;
                        labels.entry(score.feedback_for.clone()).or_insert(label);
                    }
                }
                if labels.is_empty() && !self.scores.is_empty() {
                    return Err(DecisionLogError::Voluntary {
                        scores: self.scores.len(),
                    });
                }
            }
            // A later score of the same decision replaces the earlier one, as in the gateway.
            Some(LabelSource::Scores { propensity }) => {
                for score in &self.scores {
                    let label = label(&score.feedback_for, score.score, *propensity)?;
                    labels.insert(score.feedback_for.clone(), label);
                }
            }
            Some(LabelSource::File(path)) => for_each_line(path, |number, line| {
                let row: LabelRow = serde_json::from_slice(line)
                    .map_err(|source| no(path, number, "label", source))?;
                let label = label(&row.decision_id, row.score, row.propensity)?;
                if labels.insert(row.decision_id.clone(), label).is_some() {
                    return Err(DecisionLogError::Label {
                        id: row.decision_id,
                        what: format!("{} has two, line {number} is one", path.display()),
                    });
                }
                Ok(())
            })?,
        }
        Ok(labels)
    }
}

/// Whether the client gave up or asked for what cannot be, which says nothing of a version.
pub(crate) fn ended_by_client(row: &Record) -> bool {
    let error = row.outcome.error.as_deref();
    error.is_some_and(|kind| !is_fault(kind))
}

/// What the answer of a row is worth: its label, the lowest score where it failed behind the gateway, which needs no judge,
/// and nothing that is known where the client ended it.
pub(crate) fn worth(row: &Record, label: Option<Label>) -> Option<Label> {
    match row.outcome.error.as_deref() {
        None => label,
        Some(kind) => is_fault(kind).then_some(Label {
            reward: WORST,
            propensity: 1.0,
        }),
    }
}

fn label(id: &str, score: f64, propensity: f64) -> Result<Label, DecisionLogError> {
    let wrong = |what: String| DecisionLogError::Label {
        id: id.to_owned(),
        what,
    };
    if !(1.0..=5.0).contains(&score) {
        return Err(wrong(format!("score is {score}, it goes from 1 to 5")));
    }
    if !(propensity > 0.0 && propensity <= 1.0) {
        return Err(wrong(format!(
            "propensity is {propensity}, it is above 0 and at most 1"
        )));
    }
    Ok(Label {
        reward: score,
        propensity,
    })
}

fn for_each_line(
    path: &Path,
    mut each: impl FnMut(usize, &[u8]) -> Result<(), DecisionLogError>,
) -> Result<(), DecisionLogError> {
    let failed = |source| DecisionLogError::File {
        path: path.display().to_string(),
        source,
    };
    let mut reader = BufReader::new(std::fs::File::open(path).map_err(failed)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        if !line.trim_ascii().is_empty() {
            each(number, &line)?;
        }
    }
    Ok(())
}

fn no(
    path: &Path,
    line: usize,
    expected: &'static str,
    source: serde_json::Error,
) -> DecisionLogError {
    DecisionLogError::Line {
        path: path.display().to_string(),
        line,
        expected,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(score: f64) -> FeedbackRow {
        FeedbackRow {
            feedback_for: "d-1".to_owned(),
            score,
            label: None,
            propensity: None,
        }
    }

    #[test]
    fn scores_count_only_with_a_known_probability() {
        let log = DecisionLog {
            scores: vec![scored(2.0), scored(4.0)],
            ..DecisionLog::default()
        };
        let error = log.labels(None).unwrap_err().to_string();
        assert!(error.starts_with("the log has 2 scores"), "{error}");
        let labels = log
            .labels(Some(&LabelSource::Scores { propensity: 0.5 }))
            .unwrap();
        let expected = Label {
            reward: 4.0,
            propensity: 0.5,
        };
        assert_eq!(labels["d-1"], expected, "the later score counts");
        assert!(DecisionLog::default().labels(None).unwrap().is_empty());
        let judged = |score| FeedbackRow {
            propensity: Some(0.25),
            ..scored(score)
        };
        let log = DecisionLog {
            scores: vec![scored(2.0), judged(5.0), judged(1.0)],
            ..DecisionLog::default()
        };
        let labels = log.labels(None).unwrap();
        let first = Label {
            reward: 5.0,
            propensity: 0.25,
        };
        assert_eq!(labels["d-1"], first, "a judge's first word counts");
    }

    #[test]
    fn a_file_of_labels_is_read_and_what_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.jsonl");
        let source = LabelSource::File(path.clone());
        let good = "{\"decision_id\":\"a\",\"score\":5,\"propensity\":0.1,\"judge\":\"gold\"}\n";
        for (text, said) in [
            ([good, good].concat(), "decision a:"),
            (good.replace("0.1", "0"), "propensity is 0"),
            (good.replace(":5", ":6"), "score is 6"),
            (
                good.replace("score", "mark"),
                "labels.jsonl:1: this line is no label",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = DecisionLog::default()
                .labels(Some(&source))
                .unwrap_err()
                .to_string();
            assert!(error.contains(said), "{error} does not say {said}");
        }
        std::fs::write(&path, good).unwrap();
        let labels = DecisionLog::default().labels(Some(&source)).unwrap();
        assert_eq!(labels["a"].propensity, 0.1);
    }
}
