//! Questions whose answers can be checked: the type, its file, and the split into train and test.
//!
//! A question belongs to a source (a page of the documentation, or a kind of task) and sources decide the split, so
//! that nothing learned from a page in training helps on the pages that are tested. This module owns the type and the
//! file; `page` reads HTML into facts, `templates` and `pairs` turn facts into questions, `tasks` makes small
//! instructions, `generate` draws a balanced set. Grading lives in [`crate::grade`].

mod faq;
mod generate;
mod page;
mod pairs;
mod tasks;
mod templates;

pub use generate::{GenerateError, GenerateOptions, GenerateReport, generate};

use crate::grade::Grader;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The committed set, made by `generate` from python3.11-doc.
const COMMITTED: &str = include_str!("../../questions/python-docs.jsonl");

/// One question with everything needed to ask and to grade it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Unique and stable, for example `default/library/bisect/03`.
    pub id: String,
    /// Where the fact stands: a page such as `library/bisect.html`, or a kind of task such as `task/upper`.
    pub source: String,
    /// How much is needed to answer.
    pub scenario: Scenario,
    /// Whether the router may learn from it.
    pub split: Split,
    /// What is asked, with the form of the answer.
    pub question: String,
    /// Accepted answers; any one of them is right.
    pub answers: Vec<String>,
    /// How an answer is judged.
    pub grader: Grader,
    /// A page that answers the question word by word; its passages are hidden from whoever answers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<String>,
    /// Passages that hold the fact; empty when no recall is needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gold: Vec<Gold>,
}

/// A place in the corpus that holds the fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gold {
    /// Page and anchor, relative to the root of the documentation: `library/bisect.html#bisect.insort`.
    pub uri: String,
    /// A passage of that page counts as gold when it contains each of these, white space and case aside.
    pub evidence: Vec<String>,
}

/// How much is needed to answer a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// General knowledge or a small instruction; nothing has to be recalled.
    Simple,
    /// One fact of one section.
    Moderate,
    /// Two sections, or a fact and a small computation.
    Heavy,
}

/// Whether a question may be learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Collected and learned from.
    Train,
    /// Only ever asked by benchmarks.
    Test,
}

/// Why a question file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum QuestionsError {
    /// The file cannot be opened or read.
    #[error("cannot read the questions at {path}: {source}")]
    Read {
        /// What was to be read.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not a question.
    #[error(
        "{path}:{line}: not a question: {source}; regenerate the committed set with `UPDATE=1 cargo test -p weir-lab questions`"
    )]
    Parse {
        /// What was read.
        path: String,
        /// Line number, from 1.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Two questions have the same identity.
    #[error("{path}: the id `{id}` stands twice; every question needs its own")]
    Duplicate {
        /// What was read.
        path: String,
        /// The id.
        id: String,
    },
}

/// The questions of a JSON Lines file, or the committed set when no file is named.
pub fn read(path: Option<&Path>) -> Result<Vec<Question>, QuestionsError> {
    let Some(path) = path else {
        return parse(COMMITTED, "the committed questions");
    };
    let shown = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &shown),
        Err(source) => Err(QuestionsError::Read {
            path: shown,
            source,
        }),
    }
}

fn parse(text: &str, path: &str) -> Result<Vec<Question>, QuestionsError> {
    let mut seen = std::collections::HashSet::new();
    let mut questions = Vec::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let question: Question =
            serde_json::from_str(line).map_err(|source| QuestionsError::Parse {
                path: path.to_owned(),
                line: index + 1,
                source,
            })?;
        if !seen.insert(question.id.clone()) {
            return Err(QuestionsError::Duplicate {
                path: path.to_owned(),
                id: question.id,
            });
        }
        questions.push(question);
    }
    Ok(questions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grade::grade;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn committed_set_is_large_enough_and_balanced() {
        let questions = read(None).unwrap();
        let count = |split| questions.iter().filter(|q| q.split == split).count();
        assert!(count(Split::Test) >= 100, "{}", count(Split::Test));
        assert!(count(Split::Train) >= 170, "{}", count(Split::Train));
        for split in [Split::Train, Split::Test] {
            let mut shares: HashMap<Scenario, f64> = HashMap::new();
            for question in questions.iter().filter(|q| q.split == split) {
                *shares.entry(question.scenario).or_default() += 1.0 / count(split) as f64;
            }
            assert!(
                (0.25..0.42).contains(&shares[&Scenario::Simple]),
                "{shares:?}"
            );
            assert!(
                (0.42..0.60).contains(&shares[&Scenario::Moderate]),
                "{shares:?}"
            );
            assert!(
                (0.10..0.25).contains(&shares[&Scenario::Heavy]),
                "{shares:?}"
            );
        }
    }

    #[test]
    fn no_page_and_no_text_is_in_both_splits() {
        let questions = read(None).unwrap();
        let mut pages: HashMap<String, Split> = HashMap::new();
        let mut texts = HashSet::new();
        for question in &questions {
            assert!(
                texts.insert(&question.question),
                "asked twice: {}",
                question.question
            );
            for gold in &question.gold {
                let page = gold.uri.split('#').next().unwrap().to_owned();
                let split = *pages.entry(page).or_insert(question.split);
                assert_eq!(split, question.split, "{} crosses the split", question.id);
            }
        }
    }

    #[test]
    fn every_committed_answer_is_graded_right_and_silence_is_graded_wrong() {
        for question in read(None).unwrap() {
            for answer in &question.answers {
                assert_eq!(grade(&question, answer), 1.0, "{}: {answer}", question.id);
            }
            assert_eq!(grade(&question, ""), 0.0, "{}", question.id);
            assert!(grade(&question, "I do not know.") < 0.3, "{}", question.id);
        }
    }

    #[test]
    fn repeating_the_question_is_no_answer() {
        for question in read(None).unwrap() {
            let score = grade(&question, &question.question);
            assert!(
                score < 0.5,
                "{}: {score} for `{}`",
                question.id,
                question.question
            );
        }
    }

    #[test]
    fn broken_line_is_named_with_its_number() {
        let error = parse("\n{\"id\": 3}\n", "q.jsonl").unwrap_err().to_string();
        assert!(error.starts_with("q.jsonl:2: not a question"), "{error}");
    }
}
