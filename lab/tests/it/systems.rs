//! The four systems on a small memory with the real embedder, and an engine that always gives the same answer or none.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use weir_embed::{EmbedQueue, Embedder};
use weir_gateway::gateway::{Assets, MemoryAsset};
use weir_lab::echo::EchoEngine;
use weir_lab::questions::{self, Gold, Question, Split};
use weir_lab::systems::{System, SystemRow, SystemsOptions, systems};
use weir_memory::{Batch, Memory, MemoryConfig, NewNode, SHARED_TENANT};
use weir_plan::{EmbedderPlan, MemoryPlan};
use weir_router::Router;
use weir_testenv::{MINILM, component};

const MODELS: [&str; 3] = ["small", "mid", "big"];

/// A memory of three passages and everything that answers from it; nothing without the embedder.
async fn assets(folder: &Path) -> Option<(Assets, MemoryPlan)> {
    let embed = EmbedQueue::new(Embedder::load(&component(MINILM)?).unwrap());
    let config = MemoryConfig {
        dimensions: embed.dimensions(),
        embedding_model: "minilm".to_owned(),
    };
    let plan = MemoryPlan {
        name: "kb".to_owned(),
        embedding_model: config.embedding_model.clone(),
        dimensions: config.dimensions,
        service: None,
        embedder: EmbedderPlan::InProcess {
            source: String::new(),
        },
        seeds: 64,
        hops: 2,
        nodes_max: 256,
        summaries: None,
    };
    let memory = Memory::open(folder, &config).unwrap();
    let mut nodes = Vec::new();
    for (page, text) in [
        ("gc", "The gc module was frozen in version 3.7."),
        ("birds", "Herons fish at dawn."),
        ("rivers", "A weir raises the river."),
    ] {
        let mut node = NewNode::new(SHARED_TENANT, text);
        node.metadata.uri = Some(format!("docs/faq/{page}.html"));
        node.vector = Some(embed.embed(text).await.unwrap().to_vec());
        nodes.push(node);
    }
    let edges = Vec::new();
    memory.write(&Batch { nodes, edges }).unwrap();
    let assets = Assets {
        memory: Some(MemoryAsset::Open {
            store: memory,
            embed: Some(embed),
        }),
        router: Router::builtin(),
        candidate: None,
        counters: HashMap::new(),
        state_dir: None,
    };
    Some((assets, plan))
}

fn rows(path: &Path) -> Vec<SystemRow> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The first test questions.
fn few(count: usize) -> Vec<Question> {
    let mut set = questions::read(None).unwrap();
    set.retain(|question| question.split == Split::Test);
    set.truncate(count);
    set
}

#[tokio::test]
async fn nobody_sees_the_page_that_a_question_was_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let Some((assets, memory)) = assets(&folder.path().join("memory")).await else {
        return;
    };
    let engine = EchoEngine::start("dawn").await.unwrap();
    let plan = engine.plan(&MODELS, Some(memory));
    let mut set = few(1);
    set[0].question = "When do herons fish?".to_owned();
    // Only for this test is the page itself gold: found where it is shown, and nowhere where it is hidden.
    set[0].gold = vec![Gold {
        uri: "faq/birds.html#when".to_owned(),
        evidence: vec!["dawn".to_owned()],
    }];
    for (without, found) in [(None, 1.0), (Some("faq/birds.html"), 0.0)] {
        set[0].without = without.map(str::to_owned);
        let path = folder.path().join(format!("{found}.jsonl"));
        let options = SystemsOptions::new(set.clone(), path.clone(), folder.path().join("out"));
        systems(&options, plan.clone(), assets.clone(), &mut |_| ())
            .await
            .unwrap();
        let rows = rows(&path);
        assert_eq!(rows.len(), 4);
        for row in rows.iter().filter(|row| row.system != System::Routed) {
            assert_eq!(row.recall_at_5, Some(found), "{row:?}");
        }
    }
}

#[tokio::test]
async fn every_question_is_asked_of_all_four_systems_once_also_by_a_second_run() {
    let folder = tempfile::tempdir().unwrap();
    let Some((assets, memory)) = assets(&folder.path().join("memory")).await else {
        return;
    };
    let engine = EchoEngine::start("3.7").await.unwrap();
    let plan = engine.plan(&MODELS, Some(memory));
    let mut set = few(3);
    // Ids are as long as their authors like.
    set[0].id = "a-long-id/".repeat(40);
    let path = folder.path().join("not/there/yet/rows.jsonl");
    let results = folder.path().join("results");
    let mut options = SystemsOptions::new(set, path.clone(), results.clone());
    options.questions_max = Some(2);
    systems(&options, plan.clone(), assets.clone(), &mut |_| ())
        .await
        .unwrap();
    assert_eq!(rows(&path).len(), 8);

    options.questions_max = None;
    let report = systems(&options, plan, assets, &mut |_| ()).await.unwrap();
    let rows = rows(&path);
    let pairs: HashSet<String> = rows
        .iter()
        .map(|row| format!("{} {}", row.question, row.system.name()))
        .collect();
    assert_eq!((rows.len(), pairs.len()), (12, 12));
    assert!(rows.iter().all(|row| row.error.is_none()), "{rows:?}");
    assert!(report.markdown().contains("routed.quality_regret"));
    assert!(results.join("systems.json").exists());
}

#[tokio::test]
async fn an_answer_that_a_stop_cuts_off_leaves_no_row_and_is_asked_for_by_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let Some((assets, memory)) = assets(&folder.path().join("memory")).await else {
        return;
    };
    let engine = EchoEngine::start("3.7").await.unwrap();
    let whole = engine.plan(&MODELS, Some(memory));
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut plan = whole.clone();
    plan.pools[1].endpoints[0].url = format!("http://{}", silent.local_addr().unwrap());
    let path = folder.path().join("rows.jsonl");
    let mut options = SystemsOptions::new(few(1), path.clone(), folder.path().join("out"));
    let stop = options.stop.clone();
    let stopped = async {
        let asked = silent.accept().await.unwrap();
        stop.cancel();
        asked
    };
    let mut quiet = |_: &_| ();
    let run = systems(&options, plan, assets.clone(), &mut quiet);
    let within = Duration::from_secs(20);
    let (run, _asked) = tokio::join!(tokio::time::timeout(within, run), stopped);
    run.unwrap().unwrap();
    let before = rows(&path);
    assert!(before.iter().all(|row| row.error.is_none()), "{before:?}");
    assert!(before.iter().all(|row| row.system != System::Naive));

    options.stop = CancellationToken::new();
    systems(&options, whole, assets, &mut quiet).await.unwrap();
    let after = rows(&path);
    assert_eq!((after.len(), &after[..before.len()]), (4, &before[..]));
    assert!(after.iter().all(|row| row.error.is_none()), "{after:?}");
}

#[tokio::test]
async fn an_engine_that_fails_leaves_its_row_also_when_the_time_is_over_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let Some((assets, memory)) = assets(&folder.path().join("memory")).await else {
        return;
    };
    let engine = EchoEngine::start("3.7").await.unwrap();
    let mut plan = engine.plan(&MODELS, Some(memory));
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    plan.pools[1].endpoints[0].url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let path = folder.path().join("rows.jsonl");
    let mut options = SystemsOptions::new(few(2), path.clone(), folder.path().join("out"));
    // The first question is begun within this time and takes longer: a failure is held back for a moment.
    options.time_max = Some(Duration::from_millis(200));
    let mut asked = 0;
    systems(&options, plan, assets, &mut |_| asked += 1)
        .await
        .unwrap();
    let rows = rows(&path);
    assert_eq!((asked, rows.len()), (1, 4), "{rows:?}");
    let naive = rows.iter().find(|row| row.system == System::Naive).unwrap();
    assert!(naive.error.is_some() && naive.answered.is_none());
    let biggest = rows.iter().find(|row| row.system == System::Biggest);
    assert!(biggest.unwrap().answered.is_some());
}
