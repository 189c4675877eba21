//! `weir router eval`: the router beside every other way to decide, on an outcome log and on public tables.
//!
//! `ladder` compares on a log of our own, with both decisions; `tables` on tables of outcomes, which exercise the first
//! step only. Both return rows with goals, sections to read and figures; [`report`] turns them into Markdown and HTML.
//! The learning is weir-router's; this is the counting afterwards.

mod ladder;
pub mod report;
mod tables;

use crate::outcomes::{self, OutcomesError, Row};
use crate::results::Results;
use crate::stats::{Interval, ratio_interval};
use crate::tables::{Table, TableError};
use crate::vectors::{VectorSource, VectorsError};
use report::Evaluated;
use std::path::PathBuf;
use weir_router::train::TrainError;

/// What to evaluate on.
#[derive(Clone, Debug)]
pub struct EvalCommand {
    /// An outcome log.
    pub log: Option<PathBuf>,
    /// Public tables of outcomes.
    pub tables: Vec<PathBuf>,
    /// Training runs of everything that learns.
    pub seeds: u64,
    /// Folds of each run.
    pub folds: usize,
    /// Where the vectors of the tables' prompts come from; without it tables have features of their words only.
    pub vectors: Option<VectorSource>,
}

/// Why nothing was evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] OutcomesError),
    /// The log does not begin with its design.
    #[error(
        "{0} is no outcome log: it does not begin with its design; make one with `weir router collect`"
    )]
    NoDesign(String),
    /// A question comes twice.
    #[error(
        "{log} has the question `{question}` twice: one of them would be trained on while the other is held out"
    )]
    Twice {
        /// The log.
        log: String,
        /// The question.
        question: String,
    },
    /// Too few sources to hold some out.
    #[error(
        "{log} has questions of {sources} sources, {folds} folds by source need at least {folds}"
    )]
    Sources {
        /// The log.
        log: String,
        /// Sources.
        sources: usize,
        /// Folds.
        folds: usize,
    },
    /// The log is too small or contradicts itself.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A table cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// There are no vectors of a table's prompts.
    #[error(transparent)]
    Vectors(#[from] VectorsError),
}

/// Evaluates; `progress` gets what is done, of how much, and what it is.
pub fn eval(
    command: &EvalCommand,
    progress: &mut dyn FnMut(usize, usize, &str),
) -> Result<Evaluated, EvalError> {
    let tables = command.tables.iter().map(|path| crate::tables::read(path));
    let tables: Vec<Table> = tables.collect::<Result<_, _>>()?;
    let mut evaluated = Evaluated {
        results: Results::new("router-eval", &said(command)),
        sections: Vec::new(),
        figures: Vec::new(),
    };
    if let Some(log) = &command.log {
        let rows = outcomes::read(log)?;
        let shown = log.display().to_string();
        let Some(Row::Design(design)) = rows.first() else {
            return Err(EvalError::NoDesign(shown));
        };
        let log = ladder::Log::new(shown, design, outcomes::to_episodes(&rows), &rows)?;
        ladder::evaluate(&log, command, &mut evaluated, progress)?;
    }
    for table in &tables {
        tables::evaluate(table, command, &mut evaluated, progress)?;
    }
    Ok(evaluated)
}

/// The command as results show it: files by name.
fn said(command: &EvalCommand) -> String {
    let name = |path: &PathBuf| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let mut said = "weir router eval".to_owned();
    if let Some(log) = &command.log {
        said += &format!(" {}", name(log));
    }
    for table in &command.tables {
        said += &format!(" --table {}", name(table));
    }
    if command.vectors.is_some() {
        said += " --embedder all-minilm-l6-v2";
    }
    format!("{said} --seeds {} --folds {}", command.seeds, command.folds)
}

/// More groups than this are resampled in blocks: that changes no interval, and takes no time.
const BLOCKS: usize = 1_000;

/// Questions by group: what is resampled together, since questions of one source are not independent.
struct Groups {
    /// Group of each question.
    of: Vec<usize>,
    count: usize,
    seed: u64,
}

impl Groups {
    fn new(names: &[String]) -> Self {
        let mut known: Vec<&String> = names.iter().collect();
        known.sort_unstable();
        known.dedup();
        let of = names.iter().map(|name| known.binary_search(&name));
        Self {
            of: of
                .map(|place| place.unwrap_or_else(|place| place))
                .collect(),
            count: known.len(),
            seed: 1,
        }
    }

    /// Mean over questions with its paired bootstrap interval, groups resampled.
    fn mean(&self, of: impl Fn(usize) -> f64) -> Interval {
        self.ratio(of, |_| 1.0)
    }

    /// Ratio of two sums over questions.
    fn ratio(&self, above: impl Fn(usize) -> f64, below: impl Fn(usize) -> f64) -> Interval {
        let sums = |value: &dyn Fn(usize) -> f64| {
            let blocks = self.count.min(BLOCKS);
            let mut sums = vec![0.0; blocks];
            for (question, group) in self.of.iter().enumerate() {
                sums[*group % blocks] += value(question);
            }
            sums
        };
        ratio_interval(&sums(&above), &sums(&below), self.seed)
    }
}

/// `0.123 (0.1 to 0.2)`.
fn shown(of: &Interval) -> String {
    format!("{:.3} ({:.3} to {:.3})", of.value, of.lower, of.upper)
}

/// What an interval of a difference says, in a word.
fn finding(of: &Interval) -> &'static str {
    if of.lower > 0.0 {
        "better"
    } else if of.upper < 0.0 {
        "worse"
    } else {
        "tie"
    }
}

/// The two cells of a gain; empty where there is nothing to compare.
fn gained(gain: Option<Interval>) -> [String; 2] {
    gain.map_or_else(Default::default, |gain| {
        [shown(&gain), finding(&gain).to_owned()]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_one_group_are_resampled_together() {
        let names = |groups: usize| -> Vec<String> {
            (0..200)
                .map(|index| format!("g{}", index % groups))
                .collect()
        };
        // The same within a group: ten groups say as much as ten questions.
        let value = |index: usize| (index % 10) as f64;
        let (few, many) = (Groups::new(&names(10)), Groups::new(&names(200)));
        let (few, many) = (few.mean(value), many.mean(value));
        assert_eq!((few.value, many.value), (4.5, 4.5));
        let width = |interval: &Interval| interval.upper - interval.lower;
        assert!(width(&few) > 3.0 * width(&many), "{few:?} {many:?}");
    }

    #[test]
    fn an_interval_around_nothing_is_a_tie() {
        let interval = |lower, upper| Interval {
            value: 0.1,
            lower,
            upper,
        };
        assert_eq!(finding(&interval(-0.1, 0.3)), "tie");
        assert_eq!(finding(&interval(0.05, 0.3)), "better");
        assert_eq!(finding(&interval(-0.3, -0.05)), "worse");
    }
}
