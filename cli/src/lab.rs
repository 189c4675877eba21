//! `weir lab`, and what `weir router collect` shares with it: a stack started for measuring, and a bar while it runs.

use crate::args::{LabCommand, Output, QuestionsArgs, RetrievalArgs, StackArgs, SystemsArgs};
use crate::fail::Failure;
use crate::output::{columns, write_file};
use crate::progress::Progress;
use crate::up::shim;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;
use weir_lab::retrieval::{RetrievalOptions, retrieval, weights};
use weir_lab::systems::{SystemsOptions, SystemsProgress, systems};
use weir_local::{Home, Session, Up};

pub(crate) async fn run(command: LabCommand) -> Result<(), Failure> {
    match command {
        LabCommand::Systems(args) => run_systems(args).await,
        LabCommand::Retrieval(args) => tokio::task::block_in_place(|| run_retrieval(args)),
        LabCommand::Questions(args) => questions(&args),
    }
}

async fn run_systems(args: SystemsArgs) -> Result<(), Failure> {
    let questions = weir_lab::questions::read(args.stack.questions.as_deref())?;
    let mut options = SystemsOptions::new(questions, args.rows, args.results);
    options.questions_max = args.sample;
    options.command = std::env::args().collect::<Vec<_>>().join(" ");
    options.seed = args.stack.seed;
    options.max_tokens = args.stack.max_tokens;
    options.time_max = minutes(args.stack.minutes);
    let session = session(&args.stack).await?;
    let (plan, assets) = session.plan()?;
    options.stop = session.stop();
    let bar = bar("questions");
    let mut progress = |at: &SystemsProgress| {
        bar.set_length(at.total as u64);
        bar.set_position(at.questions as u64);
        bar.set_message(format!("{} left", HumanDuration(at.left)));
    };
    let results = unless_ended(&session, systems(&options, plan, assets, &mut progress)).await;
    bar.finish_and_clear();
    session.close().await;
    anstream::println!("{}", results??.markdown());
    Ok(())
}

fn run_retrieval(args: RetrievalArgs) -> Result<(), Failure> {
    let options = RetrievalOptions {
        multihop: args.multihop,
        docs: args.docs,
        foldoc: args.foldoc,
        metamath: args.metamath,
        embedder: args.embedder,
        cache: args.cache,
        command: std::env::args().collect::<Vec<_>>().join(" "),
        seed: args.seed,
    };
    let bar = bar("done");
    let mut progress = |what: &str, done, total| show(&bar, what, done, total);
    if let Some(path) = &args.weights {
        let weights = weights(&options, &mut progress);
        bar.finish_and_clear();
        write_file(path, &weights?.to_json())?;
    }
    if let Some(folder) = &args.results {
        bar.reset();
        let results = retrieval(&options, &mut progress);
        bar.finish_and_clear();
        let results = results?;
        results.write(folder)?;
        anstream::println!("{}", results.markdown());
    }
    Ok(())
}

fn questions(args: &QuestionsArgs) -> Result<(), Failure> {
    let questions = weir_lab::questions::read(args.questions.as_deref())?;
    if args.output == Output::Json {
        for question in &questions {
            anstream::println!("{}", serde_json::to_string(question)?);
        }
        return Ok(());
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for question in &questions {
        *counts
            .entry(format!("{:?}", question.split).to_lowercase())
            .or_default() += 1;
    }
    let rows = counts
        .into_iter()
        .map(|(split, count)| vec![split, count.to_string()]);
    anstream::println!("{}", columns(&["SPLIT", "QUESTIONS"], rows.collect()));
    Ok(())
}

/// Starts a stack for measuring and waits until every passage has its vector. Vectors stay, so that a second run has fewer
/// to wait for.
pub(crate) async fn session(args: &StackArgs) -> Result<Session, Failure> {
    let session = Session::open(&Up {
        files: args.started.files.clone(),
        gateway: args.started.name.clone(),
        llama_server: args.started.llama_server.clone(),
        port: None,
        start_timeout: Duration::from_secs(600),
        shim: shim()?,
        home: Home::from_env()?,
        events: Progress::events(),
    })
    .await?;
    let (bar, stop) = (bar("vectors"), session.stop());
    while let Some(memory) = session
        .status()
        .memory
        .filter(|memory| memory.vectors_pending > 0)
    {
        bar.set_length(memory.vectors + memory.vectors_pending);
        bar.set_position(memory.vectors);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            () = stop.cancelled() => {
                bar.finish_and_clear();
                session.close().await;
                return Err(Failure::new("stopped while vectors were computed; those that are there stay"));
            }
        }
    }
    bar.finish_and_clear();
    Ok(session)
}

/// What a measurement gives, unless a second Ctrl-C ends it at once.
pub(crate) async fn unless_ended<T>(
    session: &Session,
    measurement: impl Future<Output = T>,
) -> Result<T, Failure> {
    let now = session.now();
    tokio::select! {
        done = measurement => Ok(done),
        () = now.cancelled() => Err(Failure::new("ended at once; what was answered before is in its file")),
    }
}

pub(crate) fn minutes(minutes: Option<u64>) -> Option<Duration> {
    minutes.map(|minutes| Duration::from_secs(minutes * 60))
}

/// How far a measurement is, and what is measured now.
pub(crate) fn show(bar: &ProgressBar, what: &str, done: usize, total: usize) {
    bar.set_length(total as u64);
    bar.set_position(done as u64);
    bar.set_message(what.to_owned());
}

pub(crate) fn bar(unit: &str) -> ProgressBar {
    let template = format!("{{bar:30}} {{pos}}/{{len}} {unit}  {{msg}}");
    let style = ProgressStyle::with_template(&template).expect("the template is valid");
    ProgressBar::new(0).with_style(style)
}
