//! Public tables of outcomes: prompts with the score that each of several models got.
//!
//! JSON Lines of `prompt` and `scores` (a number from 0 to 1 by model); other fields are not read, and a prompt that comes
//! again is dropped. A table has no features: `weir_router::words` reads the text itself.

use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// One table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Name of the file without its end.
    pub name: String,
    /// The models, by name.
    pub models: Vec<String>,
    /// One prompt each.
    pub rows: Vec<TableRow>,
}

/// A prompt with its scores.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRow {
    /// The text.
    pub prompt: String,
    /// Score of each model.
    pub scores: Vec<f64>,
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It cannot be read.
    #[error("cannot read the table {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is something else.
    #[error("{path}:{line}: this line has no prompt with scores: {what}")]
    Line {
        /// The file.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What does not fit.
        what: String,
    },
    /// It has too little.
    #[error("the table {path} has {rows} prompts, at least {needed} are needed")]
    TooFew {
        /// The file.
        path: String,
        /// Prompts.
        rows: usize,
        /// Needed.
        needed: usize,
    },
    /// It lacks a model.
    #[error("the table has no model `{model}`; it has {known}")]
    Model {
        /// The name asked for.
        model: String,
        /// Those there are.
        known: String,
    },
}

#[derive(Deserialize)]
struct Line {
    prompt: String,
    scores: BTreeMap<String, f64>,
}

/// Reads a table.
pub fn read(path: &Path) -> Result<Table, TableError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| TableError::File {
        path: shown.clone(),
        source,
    })?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut table = Table {
        name: name.into_owned(),
        models: Vec::new(),
        rows: Vec::new(),
    };
    let mut seen = HashSet::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |what: String| TableError::Line {
            path: shown.clone(),
            line: index + 1,
            what,
        };
        let line: Line = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let models: Vec<String> = line.scores.keys().cloned().collect();
        if table.rows.is_empty() {
            table.models.clone_from(&models);
        }
        if models != table.models || models.is_empty() {
            return Err(wrong(format!("it has scores of {}", models.join(", "))));
        }
        let scores: Vec<f64> = line.scores.into_values().collect();
        if let Some(score) = scores.iter().find(|score| !(0.0..=1.0).contains(*score)) {
            return Err(wrong(format!("a score is {score}, it goes from 0 to 1")));
        }
        if seen.insert(line.prompt.clone()) {
            table.rows.push(TableRow {
                prompt: line.prompt,
                scores,
            });
        }
    }
    Ok(table)
}

impl Table {
    /// Index of a model.
    pub fn model(&self, name: &str) -> Result<usize, TableError> {
        let found = self.models.iter().position(|model| model == name);
        found.ok_or_else(|| TableError::Model {
            model: name.to_owned(),
            known: self.models.join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<Table, TableError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn prompts_are_read_once_and_models_stand_by_name() {
        let one = "{\"prompt\":\"a\",\"task\":\"t\",\"scores\":{\"small\":0,\"big\":1}}\n";
        let table = written(&[one, one, "\n", &one.replace("\"a\"", "\"b\"")].concat()).unwrap();
        assert_eq!((table.name.as_str(), table.rows.len()), ("demo", 2));
        assert_eq!(table.models, ["big", "small"]);
        assert_eq!(table.rows[0].scores, [1.0, 0.0]);
        assert_eq!(table.model("small").unwrap(), 1);
        let error = table.model("huge").unwrap_err().to_string();
        assert!(error.contains("big, small"), "{error}");
    }

    #[test]
    fn a_line_that_does_not_fit_is_named() {
        for (line, said) in [
            ("{\"prompt\":\"a\"}", "demo.jsonl:1"),
            ("{\"prompt\":\"a\",\"scores\":{}}", "it has scores of"),
            ("{\"prompt\":\"a\",\"scores\":{\"m\":2}}", "a score is 2"),
        ] {
            let error = written(line).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
