//! `weir router gate`: whether a candidate may take over, from a rollout's judged answers; or how often the gate errs.

use crate::args::{GateArgs, Output};
use crate::fail::Failure;
use crate::output::{bold, columns, write_file};
use crate::router_ope::{labels, show, write};
use crate::router_svg::draw;
use crate::{lab, router};
use serde_json::json;
use weir_lab::decision_log;
use weir_lab::evaluation::report::Curve;
use weir_lab::gate::{Question, Report, gate};
use weir_lab::simulations::{self, Power};
use weir_router::Router;
use weir_router::gate::{Policy, Quality};

/// Latency and errors as a gateway's spec demands them where it says nothing.
const P99_LATENCY_RATIO_MAX: f64 = 1.1;
const ERROR_RATE_MAX: f64 = 0.01;

pub(crate) fn run(args: &GateArgs) -> Result<(), Failure> {
    let Some(log) = &args.log else {
        return simulate(args);
    };
    let policy = policy(args)?;
    let log = decision_log::read(log)?;
    let reference = args.reference.as_deref();
    let reference = reference
        .map(|file| router::artifact(Some(file)).map(Router::new))
        .transpose()?
        .transpose()?;
    let labels = labels(&args.labels);
    let question = Question {
        rollout: args.rollout.as_deref(),
        labels: labels.as_ref(),
        reference: reference.as_ref(),
        policy: &policy,
    };
    let report = gate(&log, &question)?;
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&report)?),
        Output::Text => anstream::println!("{}", text(&report)),
    }
    Ok(())
}

fn policy(args: &GateArgs) -> Result<Policy, Failure> {
    let rising = args.steps.windows(2).all(|pair| pair[0] < pair[1]);
    let within = args.steps.iter().all(|step| (1..100).contains(step));
    if args.steps.is_empty() || !rising || !within {
        let steps = &args.steps;
        return Err(Failure::new(format!(
            "--steps {steps:?}: write rising percents between 1 and 99, as 5,25,50"
        )));
    }
    if !(args.regret_max > 0.0 && args.regret_max <= 4.0) {
        let most = args.regret_max;
        return Err(Failure::new(format!(
            "--regret-max {most}: write points above 0 and at most 4, as 0.1"
        )));
    }
    Ok(Policy {
        shadow_requests: 0,
        steps: args.steps.clone(),
        requests_per_step: args.requests,
        p99_latency_ratio_max: P99_LATENCY_RATIO_MAX,
        error_rate_max: ERROR_RATE_MAX,
        confidence: args.confidence,
        deadline: None,
        quality: Some(Quality {
            regret_max: args.regret_max,
            disagreements_per_step: args.disagreements,
            disagreements_max: args.disagreements_max,
        }),
    })
}

fn text(report: &Report) -> String {
    let bounds = [
        ("the active version", report.regret),
        ("the reference", report.reference_regret),
    ];
    let rows = bounds.into_iter().filter_map(|(baseline, bounds)| {
        let bounds = bounds?;
        Some(vec![
            baseline.to_owned(),
            format!("{:.3}", bounds.value),
            format!("{:.3} to {:.3}", bounds.low, bounds.high),
        ])
    });
    let table = columns(
        &["REGRET AGAINST", "VALUE", "AT EVERY LOOK"],
        rows.collect(),
    );
    format!(
        "{} {}: {} ({})\n\n{table}\n\n{} requests decided by both versions, {} of them differently, {} of these judged",
        bold(&report.rollout),
        report.phase,
        report.message,
        report.reason,
        report.decided,
        report.disagreements,
        report.labelled
    )
}

fn simulate(args: &GateArgs) -> Result<(), Failure> {
    let bar = lab::bar("rollouts");
    bar.set_length((args.runs * simulations::GATE_WORLDS) as u64);
    let (power, results) = simulations::gate(args.runs, &|| bar.inc(1));
    bar.finish_and_clear();
    if let Some(file) = &args.plot {
        write_file(file, &plot(&power))?;
    }
    write(&results, args.results.as_deref())?;
    match args.output {
        Output::Json => {
            let said = json!({"power": power, "results": results});
            anstream::println!("{}", serde_json::to_string_pretty(&said)?);
            Ok(())
        }
        Output::Text => {
            anstream::println!("{}\n", table(&power));
            show(&results, Output::Text)
        }
    }
}

fn table(power: &[Power]) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let rows = power.iter().map(|at| {
        vec![
            format!("{}", at.regret),
            percent(at.rates.promoted),
            percent(at.rates.rolled_back),
            percent(at.rates.inconclusive),
            at.rates.labelled_median.to_string(),
        ]
    });
    let head = [
        "TRUE REGRET",
        "PROMOTED",
        "ROLLED BACK",
        "INCONCLUSIVE",
        "LABELLED, MEDIAN",
    ];
    columns(&head, rows.collect())
}

fn plot(power: &[Power]) -> String {
    let curve = |name: &str, of: fn(&Power) -> f64| Curve {
        name: name.to_owned(),
        points: power.iter().map(|at| (at.regret, of(at))).collect(),
    };
    let curves = [
        curve("promoted", |at| at.rates.promoted),
        curve("rolled back", |at| at.rates.rolled_back),
        curve("inconclusive", |at| at.rates.inconclusive),
    ];
    draw(
        "What the gate does",
        ("true regret, points", "share of rollouts"),
        &curves,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command, RouterCommand};
    use clap::Parser;

    fn args(words: &[&str]) -> GateArgs {
        let words = ["weir", "router", "gate"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Router(router) => match router.command {
                RouterCommand::Gate(args) => args,
                _ => unreachable!("the words say gate"),
            },
            _ => unreachable!("the words say router"),
        }
    }

    #[test]
    fn steps_and_regret_are_checked() {
        for (words, said) in [
            (["log", "--steps", "25,5"], "--steps [25, 5]"),
            (["log", "--steps", "5,100"], "--steps [5, 100]"),
            (["log", "--regret-max", "0"], "--regret-max 0"),
        ] {
            let error = format!("{:?}", policy(&args(&words)).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
        let policy = policy(&args(&["log", "--steps", "10,50"])).unwrap();
        assert_eq!(policy.steps, [10, 50]);
    }

    #[test]
    fn the_plot_has_a_curve_for_each_outcome() {
        let (power, _) = simulations::gate(1, &|| ());
        let svg = plot(&power);
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(svg.contains("rolled back") && svg.contains("true regret, points"));
        assert!(table(&power).contains("TRUE REGRET"));
    }
}
