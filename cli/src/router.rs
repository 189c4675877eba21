//! `weir router`: artifacts looked into, decisions repeated, outcomes collected, another artifact trained and judged.

use crate::args::{CollectArgs, InspectArgs, Output, RouterCommand, TrainArgs};
use crate::fail::Failure;
use crate::lab;
use crate::output::{bold, columns};
use crate::{replay, router_calibrate, router_eval, router_gate, router_ope};
use indicatif::HumanDuration;
use std::path::Path;
use weir_lab::collect::{CollectOptions, CollectProgress, collect};
use weir_lab::train::{TrainCommand, train};
use weir_router::artifact::Compression;
use weir_router::train::{Estimate, Evaluation, TrainOptions};
use weir_router::{Artifact, Inspection, Router};

pub(crate) async fn run(command: RouterCommand) -> Result<(), Failure> {
    match command {
        RouterCommand::Inspect(args) => inspect(&args),
        RouterCommand::Replay(args) => replay::run(&args),
        RouterCommand::Collect(args) => run_collect(args).await,
        RouterCommand::Train(args) => run_train(args),
        RouterCommand::Eval(args) => router_eval::run(args),
        RouterCommand::Report(args) => router_eval::report(&args),
        RouterCommand::Ope(args) => router_ope::run(&args),
        RouterCommand::Gate(args) => router_gate::run(&args),
        RouterCommand::Calibrate(args) => router_calibrate::run(&args),
    }
}

/// The artifact in a file, or the one built in.
pub(crate) fn artifact(file: Option<&Path>) -> Result<Artifact, Failure> {
    let Some(path) = file else {
        return Ok(Router::builtin().artifact().clone());
    };
    let named = |error: String| Failure::new(format!("artifact {}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| named(error.to_string()))?;
    Artifact::from_bytes(&bytes).map_err(|error| named(weir_plan::chain(&error)))
}

fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let inspection = artifact(args.file.as_deref())?.inspect();
    if args.output == Output::Json {
        anstream::println!("{}", serde_json::to_string_pretty(&inspection)?);
        return Ok(());
    }
    for (name, value) in facts(&inspection) {
        anstream::println!("{name:<12} {value}");
    }
    anstream::println!("\n{}", arms(&inspection));
    if let Some(evaluation) = &inspection.hold_out {
        anstream::println!("\n{}\n", bold("On held-out questions"));
        anstream::println!("{}", hold_out(evaluation));
    }
    Ok(())
}

fn facts(of: &Inspection) -> Vec<(&'static str, String)> {
    let trained = of.training.as_ref().map_or_else(
        || "never".to_owned(),
        |t| {
            format!(
                "{} questions, {} outcomes, {} passes, seed {}",
                t.questions, t.outcomes, t.epochs, t.seed
            )
        },
    );
    let none = || "-".to_owned();
    let valued = of.training.as_ref().map_or_else(none, |t| {
        format!("{} a second, {} a cost unit", t.per_second, t.per_cost_unit)
    });
    let data = of
        .training
        .as_ref()
        .map_or_else(none, |t| t.data_sha256.clone());
    let heads = if of.constant {
        "constant: every request gets the same numbers"
    } else {
        "follow the request"
    };
    let frozen = match of.frozen.as_slice() {
        [] => "none".to_owned(),
        frozen => frozen.join(", "),
    };
    let sampling = of.sampling.iter().map(|class| {
        let (name, temperature, top_p) = (&class.name, class.temperature, class.top_p);
        format!("{name} (temperature {temperature}, top_p {top_p})")
    });
    vec![
        ("sha256", of.sha256.clone()),
        ("bytes", of.bytes.to_string()),
        ("features", format!("{} ({})", of.features, of.schema_hash)),
        ("frozen", frozen),
        ("hidden", of.hidden.to_string()),
        ("weights", weights(of)),
        ("zeta", format!("{:.4}", of.zeta)),
        ("nu", format!("{:.4}", of.nu)),
        ("tau", format!("{:.4}", of.tau)),
        ("models", of.models.to_string()),
        ("sampling", sampling.collect::<Vec<_>>().join(", ")),
        ("heads", heads.to_owned()),
        ("trained on", trained),
        ("valued at", valued),
        ("data", data),
        ("certificate", certificate(of)),
        ("unusual from", unusual(of)),
        ("licence", of.licence.clone()),
    ]
}

/// What is promised of the least capable model's answers.
fn certificate(of: &Inspection) -> String {
    let Some(of) = &of.certificate else {
        return "none: `weir router calibrate --out` writes one".to_owned();
    };
    format!(
        "confidence {:.3} or more at temperature {:.3}: at most {:.0} % wrong with probability {}, by {} answers on a ladder \
         of {} models (log {})",
        of.threshold,
        of.temperature,
        of.alpha * 100.0,
        1.0 - of.delta,
        of.answers,
        of.models,
        of.data_sha256
    )
}

/// From which distance on a request is unusual, and which kinds of questions training knew.
fn unusual(of: &Inspection) -> String {
    let Some(distance) = of.unusual_from else {
        return "unknown: trained by an older version".to_owned();
    };
    let kinds = of.kinds.iter();
    let kinds: Vec<String> = kinds
        .map(|(name, share)| format!("{:.0} % {name}", share * 100.0))
        .collect();
    match kinds.as_slice() {
        [] => format!("{distance:.3}"),
        kinds => format!("{distance:.3}, kinds of questions {}", kinds.join(", ")),
    }
}

/// How the recurrent weights are stored.
fn weights(of: &Inspection) -> String {
    let rank = |rank: Option<usize>| rank.map_or("full".to_owned(), |rank| format!("rank {rank}"));
    format!(
        "W {}, U {}, {} of {} zero, {}",
        rank(of.compression.rank_input),
        rank(of.compression.rank_state),
        of.zeros,
        of.entries,
        if of.compression.int8 {
            "8 bits"
        } else {
            "32 bits"
        }
    )
}

/// Every arm: what it expects of a request it knows nothing of, and how much a request changes that.
fn arms(of: &Inspection) -> String {
    let rows = of.arms.iter().enumerate().map(|(index, head)| {
        vec![
            index.to_string(),
            head.arm.to_string(),
            format!("{:.3}", head.bias),
            format!("{:.3}", head.weight_norm),
        ]
    });
    columns(&["#", "ARM", "BIAS", "WEIGHTS"], rows.collect())
}

fn hold_out(evaluation: &Evaluation) -> String {
    let rows = [
        (
            "quality regret against always biggest",
            &evaluation.quality_regret,
        ),
        (
            "utility regret against the oracle",
            &evaluation.utility_regret,
        ),
        (
            "gain over the best single arm",
            &evaluation.gain_over_best_single,
        ),
        ("gain over a random arm", &evaluation.gain_over_random),
        ("speed-up over the fixed middle model", &evaluation.speed_up),
    ];
    let row = |(name, at): (&str, &Estimate)| {
        vec![
            name.to_owned(),
            format!("{:.3}", at.value),
            format!("{:.3} to {:.3}", at.low, at.high),
        ]
    };
    let table = columns(&["", "VALUE", "95 %"], rows.into_iter().map(row).collect());
    format!("{table}\n\n{}", evaluation.finding)
}

async fn run_collect(args: CollectArgs) -> Result<(), Failure> {
    let questions = weir_lab::questions::read(args.stack.questions.as_deref())?;
    let mut options = CollectOptions::new(questions, args.out.clone());
    options.arms_per_question = args.arms;
    options.outcomes_max = args.outcomes;
    options.seed = args.stack.seed;
    options.max_tokens = args.stack.max_tokens;
    options.time_max = lab::minutes(args.stack.minutes);
    let session = lab::session(&args.stack).await?;
    let (plan, assets) = session.plan()?;
    options.stop = session.stop();
    let bar = lab::bar("outcomes");
    let mut progress = |at: &CollectProgress| {
        bar.set_length(at.total as u64);
        bar.set_position(at.done as u64);
        bar.set_message(format!(
            "score {:.2}  {} left",
            at.mean_score,
            HumanDuration(at.left)
        ));
    };
    let collected =
        lab::unless_ended(&session, collect(&options, plan, assets, &mut progress)).await;
    bar.finish_and_clear();
    session.close().await;
    let at = collected??;
    anstream::println!(
        "{} outcomes of {} are in {}: {} new, {} failed, mean score {:.2}, {:.1} s each",
        at.done,
        at.total,
        args.out.display(),
        at.new,
        at.failed,
        at.mean_score,
        at.mean_s
    );
    Ok(())
}

fn run_train(args: TrainArgs) -> Result<(), Failure> {
    let options = TrainOptions {
        seed: args.seed,
        compression: Compression {
            rank_input: args.rank_input,
            rank_state: args.rank_state,
            sparsity: args.sparsity,
            int8: args.int8,
        },
        ..TrainOptions::default()
    };
    let command = TrainCommand {
        log: args.log,
        artifact: args.out,
        report: args.report,
        options,
    };
    let summary = train(&command)?;
    anstream::println!("{}", summary.markdown());
    Ok(())
}
