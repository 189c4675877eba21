//! Token counts of models whose file is elsewhere: the pool's engine is asked, once, and only where the request may go.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking_with, memory_plan, open_memory, plan, pool, prefers};
use http::StatusCode;
use serde_json::{Value, json};
use weir_plan::{EmbedderPlan, Pool, Privacy, TokenizerApi, Vocabulary};
use weir_router::{ArmTable, Artifact, RecallMode, Router};

/// A pool whose engine counts: each character is a token, and its template adds three a message and two.
fn counting(name: &str, engine: &Echo) -> Pool {
    let model = format!("sha256:{name}");
    let api = TokenizerApi::LlamaCpp;
    Pool {
        vocabulary: Some(Vocabulary { api, model }),
        ..pool(name, &[engine])
    }
}

fn explained(messages: &Value) -> Value {
    json!({"model": "auto", "messages": messages, "weir": {"explain": true}})
}

async fn counts_of(world: &World, body: &Value) -> Value {
    let reply = world.chat(body).await.json().await;
    reply["weir"]["explain"]["executed"]["token_counts"].clone()
}

#[tokio::test]
async fn the_engine_counts_each_text_once() {
    let engine = Echo::start(Mode::Echo).await;
    engine.counts();
    let world = World::start(plan(vec![counting("small", &engine)]), prefers(0, 1)).await;
    let asking = |question: &str| {
        explained(
            &json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]),
        )
    };
    assert_eq!(counts_of(&world, &asking("漢字?")).await, "exact");
    let counted = engine.counted();
    for text in ["Be brief.", "漢字?", "<m>x<m>x->"] {
        assert!(
            counted.iter().any(|counted| counted == text),
            "{text}: {counted:?}"
        );
    }
    assert_eq!(counts_of(&world, &asking("another one")).await, "exact");
    assert_eq!(engine.counted(), ["another one"]);
    assert_eq!(counts_of(&world, &asking("another one")).await, "exact");
    assert_eq!(engine.counted(), [""; 0]);
}

#[tokio::test]
async fn what_fits_is_decided_by_the_engines_count() {
    let engine = Echo::start(Mode::Echo).await;
    engine.counts();
    let small = Pool {
        context_tokens: 512,
        ..counting("small", &engine)
    };
    let world = World::start(plan(vec![small]), prefers(0, 1)).await;
    // Three letters are a token of the estimate, which would let this pass.
    let refused = world
        .chat(&asking_with("auto", &"a".repeat(600), &json!({})))
        .await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let error = refused.json().await["error"].clone();
    assert_eq!(error["code"], "context_length_exceeded", "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("605"),
        "{error}"
    );

    // Two old turns that do not fit beside the question by the engine's count.
    let long = "b".repeat(240);
    let turns = json!([
        {"role": "user", "content": long}, {"role": "assistant", "content": "yes"},
        {"role": "user", "content": long}, {"role": "assistant", "content": "no"},
        {"role": "user", "content": "and?"},
    ]);
    let row = world.chat(&explained(&turns)).await.json().await["weir"]["explain"].clone();
    assert_eq!(row["executed"]["turns_cut"], 1, "{row}");
    assert_eq!(row["executed"]["token_counts"], "exact");
}

#[tokio::test]
async fn an_engine_that_does_not_count_is_left_alone_and_the_estimate_is_named() {
    let engine = Echo::start(Mode::Echo).await;
    let world = World::start(plan(vec![counting("small", &engine)]), prefers(0, 1)).await;
    let asking = |question: &str| explained(&json!([{"role": "user", "content": question}]));
    assert_eq!(counts_of(&world, &asking("one")).await, "estimated");
    let asked = engine.asked_to_count();
    assert!(asked > 0);
    assert_eq!(counts_of(&world, &asking("two")).await, "estimated");
    assert_eq!(engine.asked_to_count(), asked);
    // A pool whose plan does not say how is estimated too, and never asked.
    let silent = Echo::start(Mode::Echo).await;
    silent.counts();
    let world = World::of(&silent).await;
    assert_eq!(counts_of(&world, &asking("three")).await, "estimated");
    assert_eq!(silent.asked_to_count(), 0);
}

#[tokio::test]
async fn only_pools_that_the_request_may_reach_are_handed_its_words() {
    let (near, far) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    near.counts();
    far.counts();
    let cloud = Pool {
        privacy: Privacy::Cloud,
        ..counting("far", &far)
    };
    let world = World::start(plan(vec![counting("near", &near), cloud]), prefers(0, 2)).await;
    let stays = asking_with("auto", "my secret", &json!({"weir": {"privacy": "local"}}));
    world.chat(&stays).await.text().await;
    assert!(near.counted().contains(&"my secret".to_owned()));
    assert_eq!(far.connections(), 0);
    let travels = asking_with("auto", "no secret", &json!({"weir": {"privacy": "cloud"}}));
    world.chat(&travels).await.text().await;
    assert!(far.counted().contains(&"no secret".to_owned()));
}

#[tokio::test]
async fn passages_of_the_memory_are_counted_once() {
    let engine = Echo::start(Mode::Echo).await;
    engine.counts();
    let table = ArmTable::standard(1);
    let best = table.find(RecallMode::Vector, 0, 200).unwrap();
    let mut qualities = vec![2.0; table.arms.len()];
    qualities[best] = 4.5;
    let router = Router::new(Artifact::constant(&table, &qualities)).unwrap();
    let in_process = EmbedderPlan::InProcess {
        source: String::new(),
    };
    let kb = memory_plan("none", 2, in_process);
    let (_folder, memory) = open_memory(&kb);
    let mut plan = plan(vec![counting("small", &engine)]);
    plan.memory = Some(kb);
    let world = World::with_memory(plan, router, Some(memory)).await;
    let heron = "The heron fishes at dawn. ".repeat(4);
    let nodes = json!({"nodes": [{"text": heron, "vector": [1.0, 0.0]}]});
    world.post("/v1/memory/nodes", &nodes).await.text().await;
    let asking = |question: &str| explained(&json!([{"role": "user", "content": question}]));

    let reply = world
        .chat(&asking("When does the heron fish?"))
        .await
        .json()
        .await;
    let weir = &reply["weir"]["explain"];
    assert_eq!(weir["executed"]["recall"], "vector", "{weir}");
    assert_eq!(weir["executed"]["token_counts"], "exact");
    let passage = |counted: &[String]| counted.iter().filter(|text| text.contains("dawn")).count();
    let counted = engine.counted();
    assert!(passage(&counted) > 0, "{counted:?}");
    assert_eq!(
        counts_of(&world, &asking("Where does the heron fish?")).await,
        "exact"
    );
    let counted = engine.counted();
    assert_eq!(counted, ["Where does the heron fish?"]);
}
