//! What is reported of the measured rankings, and which goals they have.

use super::{Corpus, RetrievalOptions};
use crate::results::{Goal, Results, Row};
use crate::stats::{mean, mean_interval, quantile};

/// Goals of R@5 by corpus.
const GOALS: [(&str, f64); 2] = [("2wiki-101", 0.96), ("musique-100", 0.78)];
/// Corpora on which attention has to be better than PageRank, of how many.
const BETTER_ON: usize = 3;

/// What a ranking found, by question.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Share of the gold passages among the first five.
    pub(super) at_5: Vec<f64>,
    /// Among the first ten.
    pub(super) at_10: Vec<f64>,
    /// Among all that were ranked.
    pub(super) at_all: Vec<f64>,
    /// Time of search and recall.
    pub(super) seconds: Vec<f64>,
}

/// A corpus with its rows; the last is attention.
pub(super) type CorpusRows<'a> = (&'a Corpus, Vec<(&'static str, Measured)>);

pub(super) fn report(measured: &[CorpusRows<'_>], options: &RetrievalOptions) -> Results {
    let mut results = Results::new("retrieval", &options.command);
    let mut better = 0;
    for (corpus, rows) in measured {
        let counts = corpus.memory.counts();
        results.notes.push(format!(
            "{}: {} questions, {} passages, {} edges",
            corpus.name,
            corpus.questions.len(),
            counts.nodes,
            counts.edges
        ));
        for (name, row) in rows {
            accuracy(corpus.name, name, row, options.seed, &mut results);
        }
        let Some((_, attention)) = rows.last() else {
            continue;
        };
        let best = rows.iter().filter(|(name, _)| name.starts_with("PageRank"));
        let best = best.max_by(|a, b| mean(&a.1.at_5).total_cmp(&mean(&b.1.at_5)));
        if let Some((name, pagerank)) = best {
            let of = format!("{} R@5 attention minus {name}", corpus.name);
            let row = difference(of, &attention.at_5, &pagerank.at_5, options.seed);
            better += usize::from(row.lower.is_some_and(|lower| lower > 0.0));
            results.rows.push(row.goal(Goal::LowerAtLeast(-0.01)));
        }
        for (name, row) in &rows[..rows.len() - 1] {
            let of = format!("{} R@5 attention minus {name}, each", corpus.name);
            let row = difference(of, &attention.at_5, &row.at_5, options.seed);
            results.rows.push(row);
        }
    }
    let count = Row::new(
        format!(
            "corpora of {} with attention minus PageRank above 0",
            measured.len()
        ),
        "",
        better as f64,
    );
    results
        .rows
        .push(count.goal(Goal::AtLeast(BETTER_ON as f64)));
    results
}

fn accuracy(corpus: &str, name: &str, row: &Measured, seed: u64, results: &mut Results) {
    let at_5 = mean_interval(&row.at_5, seed);
    let at_5 = Row::interval(format!("{corpus} R@5 {name}"), "", at_5);
    let goal = GOALS
        .iter()
        .find(|(of, _)| *of == corpus && name == "attention");
    results.rows.push(match goal {
        Some((_, bound)) => at_5.goal(Goal::AtLeast(*bound)),
        None => at_5,
    });
    let at_10 = mean_interval(&row.at_10, seed);
    let at_10 = Row::interval(format!("{corpus} R@10 {name}"), "", at_10);
    results.rows.push(at_10);
    if name == "attention" {
        let ceiling = mean(&row.at_all);
        let of = format!("{corpus} gold passages in the subgraph");
        results.rows.push(Row::new(of, "", ceiling));
        for (share, of) in [(0.5, "p50"), (0.99, "p99")] {
            let metric = format!("{corpus} search and recall {of}");
            let time = quantile(&row.seconds, share) * 1e3;
            results.rows.push(Row::new(metric, "ms", time));
        }
    }
}

/// Mean difference over the same questions.
fn difference(metric: String, ours: &[f64], theirs: &[f64], seed: u64) -> Row {
    let each: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    Row::interval(metric, "", mean_interval(&each, seed))
}
