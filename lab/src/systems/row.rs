//! What one system gave on one question, and the file these rows are kept in.

use super::{System, SystemsError};
use crate::questions::{Question, Scenario};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use weir_router::RecallMode;

/// What one system gave on one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemRow {
    /// Id of the question.
    pub question: String,
    /// Which system.
    pub system: System,
    /// The question's scenario.
    pub scenario: Scenario,
    /// What came back; `None` when it failed.
    pub answered: Option<Answered>,
    /// Why it failed.
    pub error: Option<String>,
    /// Score of the grader, 0 to 1.
    pub score: f64,
    /// 1 when the whole answer equals an accepted one.
    pub exact: f64,
    /// Word overlap with the best accepted answer.
    pub f1: f64,
    /// Share of gold places among the first five passages; absent without gold.
    pub recall_at_5: Option<f64>,
    /// The same among the first ten.
    pub recall_at_10: Option<f64>,
}

/// An answer with what it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answered {
    /// The answer.
    pub text: String,
    /// The model that gave it.
    pub model: String,
    /// What of the recall entered the prompt.
    pub recall: RecallMode,
    /// Seconds from question to answer.
    pub latency_s: f64,
    /// Seconds of these in the language model, first tries included.
    pub llm_s: f64,
    /// Seconds of these in embedding, search and attention.
    pub retrieval_s: f64,
    /// Prompt tokens, first tries included where the record has them.
    pub prompt_tokens: u32,
    /// Completion tokens, likewise.
    pub completion_tokens: u32,
    /// Cost units.
    pub cost: f64,
    /// Whether a second model was asked.
    pub second_attempt: bool,
}

impl SystemRow {
    /// A row without an answer yet.
    pub(super) fn new(system: System, question: &Question) -> Self {
        Self {
            question: question.id.clone(),
            system,
            scenario: question.scenario,
            answered: None,
            error: None,
            score: 0.0,
            exact: 0.0,
            f1: 0.0,
            recall_at_5: None,
            recall_at_10: None,
        }
    }

    /// Seconds from question to answer; infinite when there was none.
    pub fn latency_s(&self) -> f64 {
        self.answered
            .as_ref()
            .map_or(f64::INFINITY, |answered| answered.latency_s)
    }
}

/// Rows in a file, appended one by one. A last line that a crash cut short is dropped.
pub(super) struct RowFile {
    path: PathBuf,
    file: File,
    rows: Vec<SystemRow>,
}

impl RowFile {
    pub(super) fn open(path: &Path) -> Result<Self, SystemsError> {
        let failed = |source| SystemsError::File {
            path: path.display().to_string(),
            source,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(failed)?;
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(failed)?;
        let rows: Result<_, serde_json::Error> =
            text[..whole].lines().map(serde_json::from_str).collect();
        let rows = rows.map_err(|error| failed(std::io::Error::other(error)))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            rows,
        })
    }

    pub(super) fn append(&mut self, row: SystemRow) -> Result<(), SystemsError> {
        let line = serde_json::to_string(&row).expect("rows are plain data") + "\n";
        self.file
            .write_all(line.as_bytes())
            .map_err(|source| SystemsError::File {
                path: self.path.display().to_string(),
                source,
            })?;
        self.rows.push(row);
        Ok(())
    }

    pub(super) fn has(&self, question: &str, system: System) -> bool {
        self.rows
            .iter()
            .any(|row| row.question == question && row.system == system)
    }

    /// How many of the questions all four systems have answered.
    pub(super) fn complete(&self, questions: &[&Question]) -> usize {
        let rows: HashSet<(&str, System)> = self
            .rows
            .iter()
            .map(|row| (row.question.as_str(), row.system))
            .collect();
        let all = |q: &&&Question| {
            System::ALL
                .iter()
                .all(|s| rows.contains(&(q.id.as_str(), *s)))
        };
        questions.iter().filter(all).count()
    }

    pub(super) fn rows(&self) -> &[SystemRow] {
        &self.rows
    }
}
