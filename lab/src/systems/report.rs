//! From rows to results: every number of the comparison with its interval, its peer and its goal.
//!
//! Only questions that all four systems were asked count. A failure is an answer of score 0 and infinite latency.

use super::row::Answered;
use super::{System, SystemRow};
use crate::grade::quality;
use crate::questions::Scenario;
use crate::results::{Goal, Results, Row};
use crate::stats::{mean, mean_interval, quantile, ratio_interval};
use std::collections::BTreeMap;

/// Seed of every bootstrap, so that the same rows give the same report.
const SEED: u64 = 20;
/// An answer counts as a success from this score on.
const SUCCESS: f64 = 0.5;
/// Largest quality that may be lost against the biggest model.
const REGRET_MAX: f64 = 0.1;
/// Smallest speed-up against the naive baseline.
const SPEEDUP_MIN: f64 = 2.0;

/// The results of a comparison.
pub fn report(rows: &[SystemRow], command: &str) -> Results {
    let mut results = Results::new("systems", command);
    let complete = complete(rows);
    results.notes.push(format!(
        "{} questions, asked of all four systems",
        complete.len()
    ));
    let of = |system: System| -> Vec<&SystemRow> {
        complete.values().map(|row| row[system as usize]).collect()
    };
    if complete.is_empty() {
        return results;
    }
    headline(&mut results, &of);
    for system in System::ALL {
        one_system(&mut results, system, &of(system));
    }
    for scenario in [Scenario::Simple, Scenario::Moderate, Scenario::Heavy] {
        for system in System::ALL {
            let mut rows = of(system);
            rows.retain(|row| row.scenario == scenario);
            let scenario = format!("{scenario:?}").to_lowercase();
            let name = format!("{}.{scenario}.quality", system.name());
            results.rows.push(Row::interval(
                name,
                "of 5",
                mean_interval(&qualities(&rows), SEED),
            ));
            let name = format!("{}.{scenario}.mean_latency", system.name());
            results
                .rows
                .push(Row::new(name, "s", mean(&latencies(&rows))));
        }
    }
    results
}

/// The rows of each question in the order of [`System::ALL`].
fn complete(rows: &[SystemRow]) -> BTreeMap<&str, [&SystemRow; 4]> {
    let mut by_question: BTreeMap<&str, [Option<&SystemRow>; 4]> = BTreeMap::new();
    for row in rows {
        by_question.entry(&row.question).or_default()[row.system as usize] = Some(row);
    }
    by_question
        .into_iter()
        .filter_map(|(question, [a, b, c, d])| Some((question, [a?, b?, c?, d?])))
        .collect()
}

fn qualities(rows: &[&SystemRow]) -> Vec<f64> {
    rows.iter().map(|row| quality(row.score)).collect()
}

fn latencies(rows: &[&SystemRow]) -> Vec<f64> {
    rows.iter().map(|row| row.latency_s()).collect()
}

/// The two numbers of the mission, with their goals.
fn headline<'a>(results: &mut Results, of: &dyn Fn(System) -> Vec<&'a SystemRow>) {
    let biggest = qualities(&of(System::Biggest));
    for system in [System::Routed, System::Naive, System::Small] {
        let lost: Vec<f64> = biggest
            .iter()
            .zip(qualities(&of(system)))
            .map(|(big, own)| big - own)
            .collect();
        let name = format!("{}.quality_regret", system.name());
        let row = Row::interval(name, "of 5", mean_interval(&lost, SEED))
            .against("biggest, mean quality", mean(&biggest));
        let row = if system == System::Routed {
            row.goal(Goal::UpperAtMost(REGRET_MAX))
        } else {
            row
        };
        results.rows.push(row);
    }
    let routed = latencies(&of(System::Routed));
    let naive = latencies(&of(System::Naive));
    results.rows.push(
        Row::interval("routed.speedup", "x", ratio_interval(&naive, &routed, SEED))
            .against("naive, mean seconds", mean(&naive))
            .goal(Goal::AtLeast(SPEEDUP_MIN)),
    );
    let big = latencies(&of(System::Biggest));
    results.rows.push(
        Row::interval(
            "routed.speedup_against_biggest",
            "x",
            ratio_interval(&big, &routed, SEED),
        )
        .against("biggest, mean seconds", mean(&big)),
    );
}

fn one_system(results: &mut Results, system: System, rows: &[&SystemRow]) {
    let name = |metric: &str| format!("{}.{metric}", system.name());
    speed(results, &name, rows);
    correctness(results, &name, rows);
    spending(results, &name, rows);
    if system == System::Routed {
        routes(results, &name, rows);
    }
}

fn speed(results: &mut Results, name: &dyn Fn(&str) -> String, rows: &[&SystemRow]) {
    let latencies = latencies(rows);
    for (label, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        results
            .rows
            .push(Row::new(name(label), "s", quantile(&latencies, share)));
    }
    let mean_latency = mean_interval(&latencies, SEED);
    results
        .rows
        .push(Row::interval(name("mean_latency"), "s", mean_latency));
    let answers = answers(rows);
    let total: f64 = answers.iter().map(|a| a.latency_s).sum();
    let llm: f64 = answers.iter().map(|a| a.llm_s).sum();
    let retrieval: f64 = answers.iter().map(|a| a.retrieval_s).sum();
    results
        .rows
        .push(Row::new(name("llm_share"), "of latency", llm / total));
    results.rows.push(Row::new(
        name("retrieval_share"),
        "of latency",
        retrieval / total,
    ));
}

fn correctness(results: &mut Results, name: &dyn Fn(&str) -> String, rows: &[&SystemRow]) {
    let of = |value: &dyn Fn(&SystemRow) -> f64| -> Vec<f64> {
        rows.iter().map(|row| value(row)).collect()
    };
    let shares = [
        (
            "success",
            of(&|row| f64::from(u8::from(row.score >= SUCCESS))),
        ),
        ("exact_match", of(&|row| row.exact)),
        ("f1", of(&|row| row.f1)),
        (
            "recall_at_5",
            rows.iter().filter_map(|row| row.recall_at_5).collect(),
        ),
        (
            "recall_at_10",
            rows.iter().filter_map(|row| row.recall_at_10).collect(),
        ),
    ];
    let quality = mean_interval(&qualities(rows), SEED);
    results
        .rows
        .push(Row::interval(name("quality"), "of 5", quality));
    for (label, values) in shares {
        results.rows.push(Row::interval(
            name(label),
            "share",
            mean_interval(&values, SEED),
        ));
    }
    let failed = rows.iter().filter(|row| row.error.is_some()).count();
    results
        .rows
        .push(Row::new(name("failed"), "answers", failed as f64));
}

fn spending(results: &mut Results, name: &dyn Fn(&str) -> String, rows: &[&SystemRow]) {
    let answers = answers(rows);
    let means = [
        (
            "prompt_tokens",
            answers
                .iter()
                .map(|a| f64::from(a.prompt_tokens))
                .collect::<Vec<_>>(),
        ),
        (
            "completion_tokens",
            answers
                .iter()
                .map(|a| f64::from(a.completion_tokens))
                .collect(),
        ),
        ("cost", answers.iter().map(|a| a.cost).collect()),
    ];
    for (label, values) in means {
        results
            .rows
            .push(Row::new(name(label), "mean", mean(&values)));
    }
}

/// Where the routed system's answers came from.
fn routes(results: &mut Results, name: &dyn Fn(&str) -> String, rows: &[&SystemRow]) {
    let answers = answers(rows);
    let count = answers.len().max(1) as f64;
    let second = answers.iter().filter(|a| a.second_attempt).count();
    results.rows.push(Row::new(
        name("second_attempts"),
        "share",
        second as f64 / count,
    ));
    let mut models: BTreeMap<String, usize> = BTreeMap::new();
    for answer in &answers {
        *models
            .entry(format!("{}+{}", answer.model, answer.recall))
            .or_default() += 1;
    }
    for (model, times) in models {
        let metric = name(&format!("answered_by.{model}"));
        results
            .rows
            .push(Row::new(metric, "share", times as f64 / count));
    }
}

fn answers<'a>(rows: &[&'a SystemRow]) -> Vec<&'a Answered> {
    rows.iter()
        .filter_map(|row| row.answered.as_ref())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_router::RecallMode;

    fn row(question: usize, system: System, score: f64, latency_s: f64) -> SystemRow {
        let answered = latency_s.is_finite().then(|| Answered {
            text: "x".into(),
            model: "m".into(),
            recall: RecallMode::Vector,
            latency_s,
            llm_s: latency_s * 0.9,
            retrieval_s: latency_s * 0.1,
            prompt_tokens: 100,
            completion_tokens: 4,
            cost: 0.0,
            second_attempt: false,
        });
        SystemRow {
            question: format!("q{question:03}"),
            system,
            scenario: Scenario::Moderate,
            error: answered.is_none().then(|| "gone".to_owned()),
            answered,
            score,
            exact: score,
            f1: score,
            recall_at_5: Some(1.0),
            recall_at_10: Some(1.0),
        }
    }

    fn rows(routed_score: f64, routed_s: f64) -> Vec<SystemRow> {
        (0..60)
            .flat_map(|question| {
                [
                    row(question, System::Biggest, 1.0, 4.0),
                    row(question, System::Naive, 1.0, 6.0),
                    row(question, System::Small, 0.0, 1.0),
                    row(question, System::Routed, routed_score, routed_s),
                ]
            })
            .collect()
    }

    fn find<'a>(results: &'a Results, metric: &str) -> &'a Row {
        results
            .rows
            .iter()
            .find(|row| row.metric == metric)
            .unwrap()
    }

    #[test]
    fn goals_are_met_by_an_equal_and_faster_router_and_missed_by_a_worse_one() {
        let good = report(&rows(1.0, 2.0), "test");
        assert_eq!(find(&good, "routed.quality_regret").met, Some(true));
        assert_eq!(find(&good, "routed.speedup").value, Some(3.0));
        assert_eq!(find(&good, "routed.speedup").met, Some(true));
        let bad = report(&rows(0.5, 4.0), "test");
        assert_eq!(find(&bad, "routed.quality_regret").value, Some(2.0));
        assert_eq!(find(&bad, "routed.quality_regret").met, Some(false));
        assert_eq!(find(&bad, "routed.speedup").met, Some(false));
    }

    #[test]
    fn a_failure_is_infinite_latency_and_a_question_asked_of_three_does_not_count() {
        let mut rows = rows(1.0, 2.0);
        rows.push(row(900, System::Naive, 1.0, 1.0));
        rows[3] = row(0, System::Routed, 0.0, f64::INFINITY);
        let results = report(&rows, "test");
        assert!(results.notes[0].starts_with("60 questions"));
        assert_eq!(find(&results, "routed.p99").value, None);
        assert_eq!(find(&results, "routed.failed").value, Some(1.0));
        assert_ne!(find(&results, "routed.speedup").met, Some(true));
    }

    #[test]
    fn no_rows_give_results_without_numbers() {
        assert!(report(&[], "test").rows.is_empty());
    }
}
