//! `weir router`: artifacts looked into, decisions repeated, outcomes collected, another artifact trained.

use crate::args::{CollectArgs, InspectArgs, Output, RouterCommand, TrainArgs};
use crate::fail::Failure;
use crate::lab;
use crate::output::{bold, columns};
use crate::replay;
use indicatif::HumanDuration;
use serde_json::json;
use std::path::Path;
use weir_lab::collect::{CollectOptions, CollectProgress, collect};
use weir_lab::train::{TrainCommand, train};
use weir_router::train::{Estimate, Evaluation, TrainOptions};
use weir_router::{Artifact, Router};

pub(crate) async fn run(command: RouterCommand) -> Result<(), Failure> {
    match command {
        RouterCommand::Inspect(args) => inspect(&args),
        RouterCommand::Replay(args) => replay::run(&args),
        RouterCommand::Collect(args) => run_collect(args).await,
        RouterCommand::Train(args) => run_train(args),
    }
}

/// The artifact in a file, or the one built in.
pub(crate) fn artifact(file: Option<&Path>) -> Result<Artifact, Failure> {
    let Some(path) = file else {
        return Ok(Router::builtin().artifact().clone());
    };
    let named = |error: String| Failure::new(format!("artifact {}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| named(error.to_string()))?;
    Artifact::from_bytes(&bytes).map_err(|error| named(weir_local::chain(&error)))
}

fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let artifact = artifact(args.file.as_deref())?;
    let manifest = artifact.manifest();
    if args.output == Output::Json {
        let bytes = artifact.to_bytes().len();
        let all = json!({"sha256": artifact.sha256(), "bytes": bytes, "manifest": manifest});
        anstream::println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    let trained = manifest.training.as_ref().map_or_else(
        || "never (constant heads)".to_owned(),
        |t| {
            format!(
                "{} questions, {} outcomes, {} passes, seed {}",
                t.questions, t.outcomes, t.epochs, t.seed
            )
        },
    );
    let rows = [
        ("sha256", artifact.sha256().to_owned()),
        ("bytes", artifact.to_bytes().len().to_string()),
        (
            "features",
            format!("{} ({})", manifest.features.len(), manifest.schema_hash),
        ),
        ("hidden", manifest.hidden.to_string()),
        ("models", manifest.arms.models.to_string()),
        ("arms", manifest.arms.arms.len().to_string()),
        ("trained on", trained),
        ("licence", manifest.licence.clone()),
    ];
    for (name, value) in rows {
        anstream::println!("{name:<12} {value}");
    }
    if let Some(evaluation) = &manifest.hold_out {
        anstream::println!("\n{}\n", bold("On held-out questions"));
        anstream::println!("{}", hold_out(evaluation));
    }
    Ok(())
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
