//! The outcome log: what the collector appends, one JSON line at a time, and how episodes are made from it.
//!
//! The first line says what was collected with; then a `question` line before the first `outcome` of a question. Rows
//! are only ever appended. A line that a crash cut short is dropped when the log is opened again.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use weir_router::train::{Episode, Outcome};
use weir_router::{ArmTable, StepFeatures};

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "row", rename_all = "camelCase")]
pub enum Row {
    /// What was collected with; the first line.
    Design(Design),
    /// What was known about a question before any answer.
    Question(QuestionRow),
    /// What one arm gave.
    Outcome(Box<OutcomeRow>),
}

/// What a log was collected with; a log continues only under the same design.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Design {
    /// The arms and sampling classes that indices refer to.
    pub arms: ArmTable,
    /// Model of each rank.
    pub models: Vec<String>,
    /// Trials per question.
    pub arms_per_question: usize,
    /// Seed of the design.
    pub seed: u64,
    /// Longest answer in tokens.
    pub max_tokens: u32,
    /// Hash of the features' schema.
    pub schema: String,
}

/// What was known about a question before any answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuestionRow {
    /// Id of the question.
    pub question: String,
    /// Its source.
    pub source: String,
    /// Features of the steps before the choice, in order.
    pub features: Vec<StepFeatures>,
}

/// What one arm gave on one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeRow {
    /// Id of the question.
    pub question: String,
    /// The answer as text, for grading again and for reading.
    pub text: String,
    /// Score of the grader, 0 to 1.
    pub score: f64,
    /// What the router learns from.
    pub outcome: Outcome,
}

/// Why a log cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum OutcomesError {
    /// The file cannot be read or written.
    #[error("cannot use the outcome log {path}: {source}")]
    File {
        /// The log.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A complete line is not a row.
    #[error("{path}:{line}: not a row of an outcome log: {source}")]
    Parse {
        /// The log.
        path: String,
        /// Line number, from 1.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The log was collected with something else.
    #[error("{path} was collected with another {what}; name a new file to start another log")]
    Design {
        /// The log.
        path: String,
        /// What differs.
        what: &'static str,
    },
}

/// A log opened for appending.
#[derive(Debug)]
pub struct OutcomeLog {
    path: PathBuf,
    file: File,
    rows: Vec<Row>,
}

impl OutcomeLog {
    /// Opens or creates the log; an existing one must have been collected with the same design.
    pub fn open(path: &Path, design: &Design) -> Result<Self, OutcomesError> {
        let failed = |source| OutcomesError::File {
            path: path.display().to_string(),
            source,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let rows = parse(&text[..whole], path)?;
        let mut log = Self {
            path: path.to_owned(),
            file,
            rows,
        };
        match log.rows.first() {
            None => log.append(Row::Design(design.clone()))?,
            Some(Row::Design(old)) => same(old, design).map_err(|what| OutcomesError::Design {
                path: path.display().to_string(),
                what,
            })?,
            Some(_) => {
                let path = path.display().to_string();
                return Err(OutcomesError::Design {
                    path,
                    what: "version of Weir",
                });
            }
        }
        Ok(log)
    }

    /// Appends one row; it is in the file when this returns.
    pub fn append(&mut self, row: Row) -> Result<(), OutcomesError> {
        let line = serde_json::to_string(&row).expect("rows are plain data") + "\n";
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|source| OutcomesError::File {
                path: self.path.display().to_string(),
                source,
            })?;
        self.rows.push(row);
        Ok(())
    }

    /// Question and arm of every outcome so far.
    pub fn done(&self) -> HashSet<(String, usize)> {
        self.rows
            .iter()
            .filter_map(|row| match row {
                Row::Outcome(row) => Some((row.question.clone(), row.outcome.arm)),
                _ => None,
            })
            .collect()
    }

    /// Whether the question's own row is there.
    pub fn has_question(&self, id: &str) -> bool {
        self.rows
            .iter()
            .any(|row| matches!(row, Row::Question(row) if row.question == id))
    }
}

/// Every row of a log.
pub fn read(path: &Path) -> Result<Vec<Row>, OutcomesError> {
    let text = std::fs::read_to_string(path).map_err(|source| OutcomesError::File {
        path: path.display().to_string(),
        source,
    })?;
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    parse(&text[..whole], path)
}

/// Episodes for training: one per question that has an outcome, in order of the questions' ids.
pub fn to_episodes(rows: &[Row]) -> Vec<Episode> {
    use weir_router::Step;
    let mut episodes: BTreeMap<&str, Episode> = BTreeMap::new();
    for row in rows {
        let Row::Question(row) = row else { continue };
        let step = |step: Step| row.features.iter().find(|f| f.step == step).cloned();
        let Some(query) = step(Step::Query) else {
            continue;
        };
        episodes.insert(
            &row.question,
            Episode {
                question: row.question.clone(),
                source: row.source.clone(),
                query,
                search: step(Step::Search),
                recall: step(Step::Recall),
                outcomes: Vec::new(),
            },
        );
    }
    for row in rows {
        if let Row::Outcome(row) = row
            && let Some(episode) = episodes.get_mut(row.question.as_str())
        {
            episode.outcomes.push(row.outcome.clone());
        }
    }
    episodes
        .into_values()
        .filter(|episode| !episode.outcomes.is_empty())
        .collect()
}

fn parse(text: &str, path: &Path) -> Result<Vec<Row>, OutcomesError> {
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|source| OutcomesError::Parse {
                path: path.display().to_string(),
                line: index + 1,
                source,
            })
        })
        .collect()
}

fn same(old: &Design, new: &Design) -> Result<(), &'static str> {
    if old.schema != new.schema {
        Err("feature schema")
    } else if old.arms != new.arms || old.models != new.models {
        Err("ladder of models or table of arms")
    } else if (old.seed, old.arms_per_question) != (new.seed, new.arms_per_question) {
        Err("seed or number of arms per question")
    } else if old.max_tokens != new.max_tokens {
        Err("limit of answer tokens")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_router::Step;

    fn design() -> Design {
        Design {
            arms: ArmTable::standard(2),
            models: vec!["small".into(), "big".into()],
            arms_per_question: 3,
            seed: 1,
            max_tokens: 48,
            schema: "s".into(),
        }
    }

    fn features(step: Step) -> StepFeatures {
        StepFeatures {
            step,
            values: vec![Some(0.5), None],
        }
    }

    fn question(id: &str) -> Row {
        let features = vec![features(Step::Query), features(Step::Search)];
        Row::Question(QuestionRow {
            question: id.into(),
            source: "page".into(),
            features,
        })
    }

    fn outcome(question: &str, arm: usize) -> Row {
        let outcome = Outcome {
            arm,
            sampling: 0,
            seed: 9,
            quality: 5.0,
            latency_s: 1.25,
            prompt_tokens: 10,
            completion_tokens: 2,
            cost: 0.0,
            answer: features(Step::Answer),
            prefix: None,
            probability: 0.4,
        };
        let (question, text) = (question.to_owned(), "3.11".to_owned());
        Row::Outcome(Box::new(OutcomeRow {
            question,
            text,
            score: 1.0,
            outcome,
        }))
    }

    #[test]
    fn a_log_continues_after_a_crash_cut_its_last_line_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not/there/yet/log.jsonl");
        let mut log = OutcomeLog::open(&path, &design()).unwrap();
        log.append(question("a")).unwrap();
        log.append(outcome("a", 2)).unwrap();
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"row\":\"outcome\",\"ques");
        std::fs::write(&path, text).unwrap();
        let mut log = OutcomeLog::open(&path, &design()).unwrap();
        assert_eq!(log.done(), HashSet::from([("a".to_owned(), 2)]));
        assert!(log.has_question("a") && !log.has_question("b"));
        log.append(outcome("a", 3)).unwrap();
        let episodes = to_episodes(&read(&path).unwrap());
        assert_eq!(episodes.len(), 1);
        assert_eq!(
            episodes[0]
                .outcomes
                .iter()
                .map(|o| o.arm)
                .collect::<Vec<_>>(),
            [2, 3]
        );
        assert!(episodes[0].search.is_some() && episodes[0].recall.is_none());
    }

    #[test]
    fn a_log_of_another_design_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        OutcomeLog::open(&path, &design())
            .unwrap()
            .append(question("a"))
            .unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        let other = Design {
            models: vec!["small".into(), "huge".into()],
            ..design()
        };
        let error = OutcomeLog::open(&path, &other).unwrap_err().to_string();
        assert!(error.contains("another ladder of models"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    }

    #[test]
    fn a_question_without_outcomes_is_no_episode() {
        assert!(to_episodes(&[question("a")]).is_empty());
    }
}
