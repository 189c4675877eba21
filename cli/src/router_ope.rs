//! `weir router ope`: what another artifact would have been worth on logged decisions, or how often such estimates err.

use crate::args::{LabelArgs, OpeArgs, Output, RewardWord};
use crate::fail::Failure;
use crate::output::{bold, columns, dim};
use crate::{lab, router};
use serde_json::json;
use std::path::Path;
use weir_lab::decision_log::{self, LabelSource};
use weir_lab::ope::{Excluded, OpeError, Report, Reward, ope};
use weir_lab::results::Results;
use weir_lab::simulations;
use weir_router::Router;
use weir_router::ope::{Interval, Options};

pub(crate) fn run(args: &OpeArgs) -> Result<(), Failure> {
    let (Some(log), Some(candidate)) = (&args.log, &args.candidate) else {
        return simulate(args);
    };
    let log = decision_log::read(log)?;
    let candidate = Router::new(router::artifact(Some(candidate.as_path()))?)?;
    let reward = match args.reward {
        RewardWord::Quality => Reward::Quality,
        RewardWord::Utility => Reward::Utility,
    };
    let options = Options {
        confidence: args.confidence,
        ..Options::default()
    };
    let labels = labels(&args.labels);
    let report = ope(&log, labels.as_ref(), &candidate, (reward, &options));
    match (report, args.output) {
        (Ok(report), Output::Json) => {
            anstream::println!("{}", serde_json::to_string_pretty(&report)?);
        }
        (Ok(report), Output::Text) => anstream::println!("{}", text(&report, args.confidence)),
        (Err(OpeError::Refused(refusal)), Output::Json) => {
            let said = json!({"refused": refusal.to_string()});
            anstream::println!("{}", serde_json::to_string_pretty(&said)?);
            return Err(Failure::said());
        }
        (Err(error), _) => return Err(error.into()),
    }
    Ok(())
}

/// Where labels come from, if anywhere.
pub(crate) fn labels(args: &LabelArgs) -> Option<LabelSource> {
    let scores = args.label_propensity;
    let scores = scores.map(|propensity| LabelSource::Scores { propensity });
    args.labels.clone().map(LabelSource::File).or(scores)
}

fn text(report: &Report, confidence: f64) -> String {
    let of = &report.evaluation;
    let what = match report.reward {
        Reward::Quality => "quality, 1 to 5",
        Reward::Utility => "utility: quality less seconds and cost",
    };
    let row = |name: &str, interval: &Interval| {
        vec![
            name.to_owned(),
            format!("{:.3}", interval.value),
            format!("{:.3} to {:.3}", interval.low, interval.high),
        ]
    };
    let rows = vec![
        row("inverse propensity", &of.inverse_propensity),
        row("self-normalised", &of.self_normalised),
        row("doubly robust", &of.doubly_robust),
        row("switch", &of.switch),
        row("logged policy", &of.logged),
        row("gain over it", &of.gain),
    ];
    let interval = format!("{:.0} %", confidence * 100.0);
    let table = columns(&["ESTIMATE", "VALUE", &interval], rows);
    let said = &of.diagnostics;
    let facts = format!(
        "{} decisions of {} askers, {} labelled; they say as much about the candidate as {:.0} rows would, the largest \
         weight is {:.1} % of all, {:.2} % of its decisions have no support",
        said.rows,
        said.askers,
        said.labelled,
        said.effective,
        said.largest_weight * 100.0,
        said.unsupported * 100.0
    );
    let short: String = report.candidate.chars().take(12).collect();
    format!(
        "{} {short} ({what})\n\n{table}\n\n{}\n{}",
        bold("candidate"),
        facts,
        dim(excluded(&report.excluded))
    )
}

fn excluded(of: &Excluded) -> String {
    format!(
        "left out: {} pinned a model, {} chosen by a guardrail, {} answered from the cache, {} failed before a decision, \
         {} given up or wrong by the client",
        of.pinned, of.guardrail, of.cached, of.undecided, of.client
    )
}

fn simulate(args: &OpeArgs) -> Result<(), Failure> {
    let bar = lab::bar("logs");
    bar.set_length((args.replicates * simulations::OPE_WORLDS) as u64);
    let results = simulations::ope(args.replicates, &|| bar.inc(1));
    bar.finish_and_clear();
    show(&results, args.output)?;
    write(&results, args.results.as_deref())
}

/// The rows of a simulation, unmet goals marked.
pub(crate) fn show(results: &Results, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        anstream::println!("{}", serde_json::to_string_pretty(results)?);
        return Ok(());
    }
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    let rows = results.rows.iter().map(|row| {
        let met = row
            .met
            .map_or("", |met| if met { "met" } else { "not met" });
        vec![
            row.metric.clone(),
            format!("{} {}", number(row.value), row.unit),
            row.goal.clone().unwrap_or_default(),
            met.to_owned(),
        ]
    });
    let table = columns(&["METRIC", "VALUE", "GOAL", ""], rows.collect());
    anstream::println!("{table}");
    Ok(())
}

pub(crate) fn write(results: &Results, folder: Option<&Path>) -> Result<(), Failure> {
    let Some(folder) = folder else { return Ok(()) };
    let name = folder.display();
    results
        .write(folder)
        .map_err(|error| Failure::new(format!("cannot write results into {name}: {error}")))
}
