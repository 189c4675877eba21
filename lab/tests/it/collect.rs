//! Collecting and comparing through a real gateway, with an engine that always gives the same answer.

use std::path::Path;
use weir_gateway::gateway::Assets;
use weir_lab::collect::{CollectOptions, CollectProgress, collect};
use weir_lab::echo::EchoEngine;
use weir_lab::outcomes::{read, to_episodes};
use weir_lab::questions::{self, Question, Split};
use weir_router::Router;

const MODELS: [&str; 3] = ["small", "mid", "big"];

fn assets() -> Assets {
    Assets {
        memory: None,
        router: Router::builtin(),
        candidate: None,
        counters: std::collections::HashMap::new(),
        state_dir: None,
    }
}

fn few(split: Split, count: usize) -> Vec<Question> {
    let mut questions = questions::read(None).expect("the committed set is readable");
    questions.retain(|question| question.split == split);
    questions.truncate(count);
    questions
}

async fn run(engine: &EchoEngine, out: &Path, most: Option<usize>) -> CollectProgress {
    let mut options = CollectOptions::new(few(Split::Train, 6), out.to_owned());
    options.arms_per_question = 4;
    options.outcomes_max = most;
    let mut reports = 0;
    let plan = engine.plan(&MODELS, None);
    let progress = collect(&options, plan, assets(), &mut |_| reports += 1)
        .await
        .expect("the engine answers");
    assert_eq!(reports, progress.new);
    progress
}

#[tokio::test]
async fn collection_that_was_stopped_goes_on_where_it_ended() {
    let engine = EchoEngine::start("3.11").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("outcomes.jsonl");
    let first = run(&engine, &out, Some(7)).await;
    assert_eq!(
        (first.new, first.done, first.total, first.failed),
        (7, 7, 24, 0)
    );
    let second = run(&engine, &out, None).await;
    assert_eq!((second.new, second.done), (17, 24));
    let third = run(&engine, &out, None).await;
    assert_eq!((third.new, third.done), (0, 24));
    assert_eq!(engine.served(), 24);
    let episodes = to_episodes(&read(&out).unwrap());
    assert_eq!(episodes.len(), 6);
    for episode in &episodes {
        assert_eq!(episode.outcomes.len(), 4, "{}", episode.question);
        assert!(
            episode
                .outcomes
                .iter()
                .all(|o| o.probability > 0.0 && o.latency_s > 0.0)
        );
    }
}

#[tokio::test]
async fn an_engine_that_is_gone_ends_the_run_and_keeps_the_log() {
    let engine = EchoEngine::start("3.11").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("outcomes.jsonl");
    run(&engine, &out, Some(3)).await;
    let plan = engine.plan(&MODELS, None);
    drop(engine);
    let before = read(&out).unwrap().len();
    let mut options = CollectOptions::new(few(Split::Train, 6), out.clone());
    options.arms_per_question = 4;
    let error = collect(&options, plan, assets(), &mut |_| ())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("5 answers in a row failed"), "{error}");
    let outcomes = |rows: usize| read(&out).unwrap().len() >= rows;
    assert!(outcomes(before));
}

#[tokio::test]
async fn a_stop_before_the_first_answer_leaves_an_empty_log() {
    let engine = EchoEngine::start("3.11").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = CollectOptions::new(few(Split::Train, 3), folder.path().join("o.jsonl"));
    options.stop.cancel();
    let progress = collect(&options, engine.plan(&MODELS, None), assets(), &mut |_| ())
        .await
        .unwrap();
    assert_eq!((progress.new, engine.served()), (0, 0));
}
