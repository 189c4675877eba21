//! The error rates of off-policy evaluation and of the gate, in logs and rollouts whose truth is known.
//!
//! What is simulated is weir-router's; here it is spread over the machine's cores and becomes rows with goals. The same
//! seeds give the same numbers on every machine.

use crate::results::{Goal, Results, Row};
use crate::stats::mean_interval;
use serde::Serialize;
use weir_router::gate::simulate::{End, Outcome, Rates, World as Rollouts};
use weir_router::ope::Options;
use weir_router::ope::simulate::{SCENARIOS, World as Logs, coverage, replicates};

/// Seed of the worlds that logs are drawn from.
const WORLD_SEED: u64 = 11;

/// Labelled disagreements within which a bad candidate shall be rolled back.
const ROLLBACK_WITHIN: u64 = 1_500;

/// True regrets that the gate's power is shown for; its limit is .1.
const REGRETS: [f64; 6] = [0.0, 0.05, 0.1, 0.15, 0.2, 0.3];

/// The gate's rates at one true regret.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Power {
    /// Points that the candidate's answers are worth less.
    pub regret: f64,
    /// What became of it.
    #[serde(flatten)]
    pub rates: Rates,
}

/// Worlds that [`gate`] simulates, `runs` rollouts each.
pub const GATE_WORLDS: usize = REGRETS.len() + 5;

/// Worlds that [`ope`] simulates, `logs` logs each.
pub const OPE_WORLDS: usize = SCENARIOS.len();

/// Coverage of the intervals of off-policy evaluation, over `logs` logs of each scenario. `done` is called after each.
pub fn ope(logs: usize, done: &(dyn Fn() + Sync)) -> Results {
    let command = format!("weir router ope --simulate --replicates {logs}");
    let mut results = Results::new("ope", &command);
    results.notes.push(format!(
        "{logs} logs of each scenario from a world of 40 contexts, 6 arms, 3 signals and 2 verdicts, whose true values are sums; intervals of 95 %"
    ));
    for scenario in SCENARIOS {
        let world = Logs::new(scenario, WORLD_SEED);
        let options = Options::default();
        let evaluations = in_parallel(logs, |seed| {
            let mut one = replicates(&world, (seed, seed + 1), &options);
            done();
            one.pop()
        });
        let evaluations: Vec<_> = evaluations.into_iter().flatten().collect();
        let refused = evaluations.iter().filter(|one| one.is_err()).count();
        let all = coverage(&world, &evaluations);
        let name = scenario.name;
        for of in &all {
            let estimator = of.estimator;
            let held = Row::new(format!("coverage.{estimator} ({name})"), "share", of.held);
            // Each estimator but the last claims 95 %; `switch` claims at least as much.
            let held = if estimator == "doubly robust" {
                held.goal(Goal::Within(0.93, 0.97))
            } else {
                held
            };
            results.rows.push(held);
            let error = Row::new(format!("rmse.{estimator} ({name})"), "points", of.error);
            results
                .rows
                .push(error.against("inverse propensity", all[0].error));
            results.rows.push(Row::new(
                format!("bias.{estimator} ({name})"),
                "points",
                of.bias,
            ));
        }
        let share = refused as f64 / logs.max(1) as f64;
        results
            .rows
            .push(Row::new(format!("refused ({name})"), "share", share));
    }
    results
}

/// The gate's rates over `runs` rollouts at each regret, and the rows that have goals. `done` is called after each.
pub fn gate(runs: usize, done: &(dyn Fn() + Sync)) -> (Vec<Power>, Results) {
    let command = format!("weir router gate --simulate --runs {runs}");
    let mut results = Results::new("gate", &command);
    results.notes.push(format!(
        "{runs} rollouts each, looked at after every 50 requests; regretMax 0.1, confidence .95, versions differ on .2 of requests, 2,000 users with an effect of .5 points that come back; at most 3,000 labelled disagreements"
    ));
    let ends = |world: &Rollouts| {
        in_parallel(runs, |seed| {
            let end = world.run(seed);
            done();
            end
        })
    };
    let mut power = Vec::new();
    for regret in REGRETS {
        let of = ends(&Rollouts::new(regret));
        power.push(Power {
            regret,
            rates: Rates::of(&of),
        });
        let named = format!("regret {regret}, steps 5, 25, 50 %");
        push_rates(&mut results, &of, &named, regret);
    }
    let mut few = Rollouts::new(0.0);
    (few.users, few.user_effect) = (100, 1.0);
    push_rates(&mut results, &ends(&few), "regret 0, 100 users", 0.0);
    few.regret = 0.1;
    push_rates(&mut results, &ends(&few), "regret 0.1, 100 users", 0.1);
    for regret in [0.0, 0.1, 0.3] {
        let mut half = Rollouts::new(regret);
        half.policy.steps = vec![50];
        let of = ends(&half);
        let named = format!("regret {regret}, half dispatched");
        push_rates(&mut results, &of, &named, regret);
        if regret == 0.3 {
            let in_time =
                |end: &End| end.outcome == Outcome::RolledBack && end.labelled <= ROLLBACK_WITHIN;
            let name = format!("rollback within {ROLLBACK_WITHIN} labelled ({named})");
            results
                .rows
                .push(share(name, &of, in_time).goal(Goal::AtLeast(0.9)));
        }
    }
    (power, results)
}

/// What the gate did at a true regret, with the goals of the limits: at its limit it must not promote, at 0 it must not
/// roll back.
fn push_rates(results: &mut Results, ends: &[End], named: &str, regret: f64) {
    let promoted = share(format!("promoted ({named})"), ends, |end| {
        end.outcome == Outcome::Promoted
    });
    let back = share(format!("rolled back ({named})"), ends, |end| {
        end.outcome == Outcome::RolledBack
    });
    let (promoted, back) = if regret == 0.0 {
        (promoted, back.goal(Goal::AtMost(0.05)))
    } else if regret == 0.1 {
        (promoted.goal(Goal::AtMost(0.05)), back)
    } else {
        (promoted, back)
    };
    results.rows.extend([promoted, back]);
    let median = Rates::of(ends).labelled_median;
    results.rows.push(Row::new(
        format!("labelled disagreements at the decision, median ({named})"),
        "labels",
        median as f64,
    ));
}

fn share(name: String, ends: &[End], of: impl Fn(&End) -> bool) -> Row {
    let values: Vec<f64> = ends
        .iter()
        .map(|end| f64::from(u8::from(of(end))))
        .collect();
    Row::interval(name, "share", mean_interval(&values, 1))
}

/// Seeds 0 to `count` over the machine's cores, results in order.
fn in_parallel<T: Send>(count: usize, one: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = count.div_ceil(threads).max(1);
    let one = &one;
    std::thread::scope(|scope| {
        let starts = (0..count).step_by(part);
        let parts: Vec<_> = starts
            .map(|start| {
                let seeds = start..(start + part).min(count);
                scope.spawn(move || seeds.map(|seed| one(seed as u64)).collect::<Vec<T>>())
            })
            .collect();
        let joined = parts
            .into_iter()
            .map(|part| part.join().unwrap_or_default());
        joined.flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_shared_out_and_keep_their_order() {
        for count in [0, 1, 2, 7, 100] {
            let seeds = in_parallel(count, |seed| seed);
            assert_eq!(seeds, (0..count as u64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_same_seeds_give_the_same_rates() {
        let rates = || {
            gate(2, &|| ())
                .1
                .rows
                .iter()
                .map(|row| row.value)
                .collect::<Vec<_>>()
        };
        assert_eq!(rates(), rates());
    }
}
