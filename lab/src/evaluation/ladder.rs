//! The comparison on an outcome log: both decisions, every policy on the same features and folds.

mod figures;
mod sections;

use super::report::Evaluated;
use super::{EvalCommand, EvalError, Groups, finding};
use crate::outcomes::{Design, Row};
use crate::results::{Goal, Row as ResultRow};
use crate::stats::{Interval, mean};
use sections::leave_one_out;
use std::collections::HashSet;
use weir_router::artifact::Compression;
use weir_router::train::compare::{Compared, FeatureGroup, NEAR, Plan, Policy, compare};
use weir_router::train::{Episode, TrainOptions, Worth};

/// Folds inside each training run, which say how many passes are made, and the most of these.
const INNER_FOLDS: usize = 2;
const EPOCHS_MAX: usize = 60;

/// Weights made small, as the router offers it.
const SMALL: Compression = Compression {
    rank_input: Some(8),
    rank_state: Some(8),
    sparsity: 0.5,
    int8: true,
};

/// What is listed first: other ways to decide.
const OTHERS: [Policy; 11] = [
    Policy::FastGrnn,
    Policy::Random,
    Policy::BestSingle,
    Policy::BestSingleAtLatency,
    Policy::AlwaysBiggest,
    Policy::FixedMid,
    Policy::AlwaysSmallest,
    Policy::Neighbours,
    Policy::Ridge,
    Policy::Perceptron,
    Policy::Oracle,
];

/// What is held against the router as the best baseline.
const BASELINES: [Policy; 5] = [
    Policy::BestSingle,
    Policy::BestSingleAtLatency,
    Policy::Neighbours,
    Policy::Ridge,
    Policy::Perceptron,
];

/// An outcome log that can be held out by source.
pub(super) struct Log<'a> {
    name: String,
    design: &'a Design,
    episodes: Vec<Episode>,
}

impl<'a> Log<'a> {
    pub(super) fn new(
        name: String,
        design: &'a Design,
        episodes: Vec<Episode>,
        rows: &[Row],
    ) -> Result<Self, EvalError> {
        let mut seen = HashSet::new();
        for row in rows {
            if let Row::Question(row) = row
                && !seen.insert(row.question.as_str())
            {
                return Err(EvalError::Twice {
                    log: name,
                    question: row.question.clone(),
                });
            }
        }
        Ok(Self {
            name,
            design,
            episodes,
        })
    }

    fn sources(&self) -> Vec<String> {
        let sources = self.episodes.iter().map(|episode| episode.source.clone());
        sources.collect()
    }

    /// The kind of question, which is what a source begins with.
    fn families(&self) -> Vec<String> {
        let family = |source: String| source.split('/').next().unwrap_or_default().to_owned();
        self.sources().into_iter().map(family).collect()
    }
}

fn ablations() -> Vec<Policy> {
    let mut list = vec![Policy::Reset, Policy::NoVerdict, Policy::Mission];
    list.extend(FeatureGroup::ALL.map(Policy::Without));
    list.push(Policy::Compressed(SMALL));
    list
}

/// What was found, and how to say it.
struct Found<'a> {
    compared: &'a [Compared],
    groups: Groups,
    options: TrainOptions,
}

pub(super) fn evaluate(
    log: &Log<'_>,
    command: &EvalCommand,
    into: &mut Evaluated,
    progress: &mut dyn FnMut(usize, usize, &str),
) -> Result<(), EvalError> {
    let options = TrainOptions {
        folds: INNER_FOLDS,
        epochs_max: EPOCHS_MAX,
        ..TrainOptions::default()
    };
    let (sources, families) = (log.sources(), log.families());
    let different = |names: &[String]| names.iter().collect::<HashSet<_>>().len();
    if different(&sources) < command.folds {
        return Err(EvalError::Sources {
            log: log.name.clone(),
            sources: different(&sources),
            folds: command.folds,
        });
    }
    let plan = Plan {
        groups: &sources,
        folds: command.folds,
        seeds: command.seeds,
        options: options.clone(),
        policies: OTHERS.into_iter().chain(ablations()).collect(),
    };
    let mut run = |plan: &Plan<'_>, what: &str| {
        let (mut done, rounds) = (0, plan.rounds());
        let mut step = || {
            done += 1;
            progress(done, rounds, what);
        };
        compare(&log.episodes, &log.design.arms, plan, &mut step)
    };
    let compared = run(&plan, "policies on the log")?;
    let found = Found {
        compared: &compared,
        groups: Groups::new(&sources),
        options: options.clone(),
    };
    into.results.notes.push(format!(
        "{}: {} questions of {} sources, {} outcomes; {} folds by source, {} seeds, intervals of 95 % by resampling sources",
        log.name,
        log.episodes.len(),
        different(&sources),
        log.episodes.iter().map(|e| e.outcomes.len()).sum::<usize>(),
        command.folds,
        command.seeds
    ));
    found.rows(into);
    into.sections.push(found.policies());
    into.sections.push(found.where_models_differ(&log.episodes));
    into.sections.push(found.ablations());
    if different(&families) > 1 {
        let plan = Plan {
            groups: &families,
            folds: different(&families),
            policies: [Policy::FastGrnn].into_iter().chain(BASELINES).collect(),
            ..plan.clone()
        };
        let left_out = run(&plan, "one kind of question left out")?;
        into.sections
            .push(leave_one_out(&families, &left_out, &options));
    }
    into.sections.push(found.routes(log));
    into.sections.push(found.speed_up());
    let (section, figure) = found.reliability();
    into.sections.push(section);
    into.figures.push(figure);
    into.figures.push(found.frontier());
    Ok(())
}

impl Found<'_> {
    fn of(&self, policy: Policy) -> &Compared {
        let found = self.compared.iter().find(|one| one.policy == policy);
        found.expect("every policy asked for was compared")
    }

    fn worth(&self, policy: Policy) -> &[Worth] {
        &self.of(policy).worth[0]
    }

    fn utility(&self, policy: Policy, question: usize) -> f64 {
        self.worth(policy)[question].utility(&self.options)
    }

    /// The router's utility less another policy's.
    fn gain_over(&self, other: Policy) -> Interval {
        let router = |question| self.utility(Policy::FastGrnn, question);
        self.groups
            .mean(|question| router(question) - self.utility(other, question))
    }

    fn regret(&self, policy: Policy) -> Interval {
        let (biggest, own) = (self.worth(Policy::AlwaysBiggest), self.worth(policy));
        self.groups
            .mean(|question| biggest[question].quality - own[question].quality)
    }

    fn speed_up_of(&self, policy: Policy) -> Interval {
        let (mid, own) = (self.worth(Policy::FixedMid), self.worth(policy));
        self.groups
            .ratio(|q| mid[q].latency_s, |q| own[q].latency_s)
    }

    /// The baseline of highest utility.
    fn best_baseline(&self) -> Policy {
        let utility = |policy: Policy| {
            let questions = 0..self.groups.of.len();
            mean(
                &questions
                    .map(|q| self.utility(policy, q))
                    .collect::<Vec<_>>(),
            )
        };
        let better = |a: &Policy, b: &Policy| utility(*a).total_cmp(&utility(*b));
        BASELINES
            .into_iter()
            .max_by(better)
            .unwrap_or(Policy::BestSingle)
    }

    fn rows(&self, into: &mut Evaluated) {
        let router = Policy::FastGrnn;
        let regret = self.regret(router);
        let row = ResultRow::interval(
            "ladder: quality_regret against always biggest",
            "points",
            regret,
        );
        let row = row.goal(Goal::UpperAtMost(0.1));
        if row.met == Some(false) {
            into.results.notes.push(self.cause_of_regret(&regret));
        }
        into.results.rows.push(row);
        let speed_up = self.speed_up_of(router);
        let row = ResultRow::interval("ladder: speed-up against fixed mid", "x", speed_up);
        let row = row.goal(Goal::LowerAtLeast(2.0));
        if row.met == Some(false) {
            into.results.notes.push(self.cause_of_speed());
        }
        into.results.rows.push(row);
        let best = self.best_baseline();
        for (name, other) in [("the best baseline", best), ("random", Policy::Random)] {
            let said = if other == best {
                format!("{name}, {other}")
            } else {
                name.to_owned()
            };
            let gain = self.gain_over(other);
            let metric = format!("ladder: utility gained over {said}: {}", finding(&gain));
            into.results
                .rows
                .push(ResultRow::interval(metric, "points", gain));
        }
        let gap = self.groups.mean(|question| {
            self.utility(Policy::Oracle, question) - self.utility(router, question)
        });
        let metric = "ladder: utility_regret against the oracle over the arms tried";
        into.results
            .rows
            .push(ResultRow::interval(metric, "points", gap));
        if let Some(share) = self.of(router).near_oracle {
            let metric = format!("ladder: choices within {NEAR} of the best arm tried");
            into.results
                .rows
                .push(ResultRow::new(metric, "share", share));
        }
    }

    /// Why the regret's bound is where it is: chance, or the router.
    fn cause_of_regret(&self, regret: &Interval) -> String {
        let (biggest, own) = (
            self.worth(Policy::AlwaysBiggest),
            self.worth(Policy::FastGrnn),
        );
        let questions = biggest.len();
        let differences: Vec<f64> = (0..questions)
            .map(|q| biggest[q].quality - own[q].quality)
            .collect();
        let average = mean(&differences);
        let squares = differences.iter().map(|d| (d - average) * (d - average));
        let deviation = (squares.sum::<f64>() / questions.max(1) as f64).sqrt();
        let needed = (1.96 * deviation / 0.1).powi(2).ceil();
        format!(
            "missed, ladder: quality_regret: with a paired deviation of {deviation:.2} even a router without regret would need \
             {needed} questions to show a bound of 0.1, and the log has {questions}; the estimate itself is {:.3}, at the price \
             of {} a second that both are trained for",
            regret.value, self.options.per_second
        )
    }

    fn cause_of_speed(&self) -> String {
        let seconds = |policy| {
            let worth = self.worth(policy).iter();
            mean(&worth.map(|worth| worth.latency_s).collect::<Vec<_>>())
        };
        format!(
            "missed, ladder: speed-up: no arm of this log has more context than 400 tokens, so that the fixed middle model takes \
             {:.1} s, which the goal's ten passages would not let it; the router takes {:.1} s because the biggest model ({:.1} s) \
             is worth its seconds on most questions",
            seconds(Policy::FixedMid),
            seconds(Policy::FastGrnn),
            seconds(Policy::AlwaysBiggest)
        )
    }
}

fn mean_of(worth: &[Worth], value: fn(&Worth) -> f64) -> f64 {
    mean(&worth.iter().map(value).collect::<Vec<_>>())
}
