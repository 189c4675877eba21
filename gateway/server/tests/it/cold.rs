//! Pools at zero that demand brings up: who waits, who is answered by another pool, what is counted. And leaving.

use crate::echo::{Echo, Mode};
use crate::guard::certified;
use crate::world::{
    World, asking, asking_with, memory_plan, never_content, open_memory, plan, pool, prefers,
};
use http::StatusCode;
use serde_json::json;
use std::time::Duration;
use weir_engine::PoolLoad;
use weir_plan::{
    EmbedderPlan, Endpoint, GatewayPlan, Guardrail, GuardrailAction, Pool, Privacy, WhenCold,
};
use weir_router::{ArmTable, Artifact, Router};

fn cold(name: &str, when: WhenCold) -> Pool {
    Pool {
        when_cold: Some(when),
        ..pool(name, &[])
    }
}

/// Three pools of which the biggest is at zero, and must answer questions of medicine.
fn guarded(small: &Echo, middle: &Echo) -> GatewayPlan {
    let pools = vec![
        pool("small", &[small]),
        pool("middle", &[middle]),
        cold("big", WhenCold::Spill),
    ];
    let careful = Guardrail {
        name: "careful".to_owned(),
        domains: vec!["medical".to_owned()],
        then: GuardrailAction::UseBiggest,
    };
    GatewayPlan {
        guardrails: vec![careful],
        ..plan(pools)
    }
}

fn at(echo: &Echo) -> Vec<Endpoint> {
    pool("x", &[echo]).endpoints
}

fn load(world: &World, pool: &str) -> PoolLoad {
    let loads = world.gateway.engines().loads();
    loads.into_iter().find(|load| load.pool == pool).unwrap()
}

/// A router that expects this quality of each rank.
fn expects(qualities: &[f32]) -> Router {
    let table = ArmTable::standard(qualities.len());
    let of_arms: Vec<f32> = table.arms.iter().map(|arm| qualities[arm.rank]).collect();
    Router::new(Artifact::constant(&table, &of_arms)).unwrap()
}

async fn until_waiting(world: &World, pool: &str, count: u32) {
    let reached = async {
        while load(world, pool).waiting != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reached)
        .await
        .unwrap();
}

#[tokio::test]
async fn requests_for_a_pool_at_zero_wait_for_its_first_replica_on_every_surface() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::start(plan(vec![cold("small", WhenCold::Hold)]), prefers(0, 1)).await;
    assert_eq!(world.get("/readyz").await.status, StatusCode::OK);
    let streamed = asking_with("auto", "hi", &json!({"stream": true}));
    let generate = json!({"model_id": "small-model", "prompt": "hi"});
    let embed = json!({"model": "small-model", "input": "hi"});
    let (auto, pinned) = (asking("auto", "hi"), asking("small-model", "hi"));
    let bring_up = async {
        until_waiting(&world, "small", 5).await;
        assert!(world.gateway.set_endpoints("small", at(&echo)));
    };
    let (a, b, c, d, e, ()) = tokio::join!(
        world.chat(&auto),
        world.chat(&streamed),
        world.chat(&pinned),
        world.post("/generate", &generate),
        world.post("/v1/embeddings", &embed),
        bring_up,
    );
    for reply in [&a, &b, &c, &d, &e] {
        assert_eq!(reply.status, StatusCode::OK);
    }
    let row = world.row_of(a).await;
    assert!(row["latency_ms"]["queue"].as_f64().unwrap() > 0.0, "{row}");
    b.text().await;
    let small = load(&world, "small");
    assert_eq!((small.waiting, small.wanted, small.requests), (0, 5, 5));
    assert_eq!(world.chat(&auto).await.status, StatusCode::OK);
    assert_eq!(load(&world, "small").wanted, 5, "a warm pool is not wanted");
}

#[tokio::test]
async fn who_waited_in_vain_is_asked_to_come_back_and_only_then() {
    let mut timed = plan(vec![cold("small", WhenCold::Spill)]);
    timed.limits.request_timeout_ms = 200;
    let world = World::start(timed, prefers(0, 1)).await;
    for model in ["auto", "small-model"] {
        let since = std::time::Instant::now();
        let reply = world.chat(&asking(model, "hi")).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{model}");
        assert!(!reply.header("retry-after").is_empty(), "{model}");
        assert!(since.elapsed() >= Duration::from_millis(200), "{model}");
    }
    let small = load(&world, "small");
    assert_eq!((small.waiting, small.wanted), (0, 2));
}

#[tokio::test]
async fn a_client_that_goes_away_waits_no_longer() {
    let world = World::start(plan(vec![cold("small", WhenCold::Hold)]), prefers(0, 1)).await;
    let body = asking("small-model", "hi");
    tokio::select! {
        _ = world.chat(&body) => panic!("nobody could have answered"),
        () = until_waiting(&world, "small", 1) => {}
    }
    until_waiting(&world, "small", 0).await;
}

#[tokio::test]
async fn a_warm_pool_answers_instead_of_a_cold_one_that_spills_and_the_row_says_so() {
    let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let pools = vec![pool("small", &[&small]), cold("big", WhenCold::Spill)];
    let world = World::start(plan(pools), expects(&[3.5, 4.25])).await;
    let reply = world.chat(&asking("auto", "hi")).await;
    assert_eq!(reply.header("x-weir-model"), "small-model");
    let row = world.row_of(reply).await;
    assert!(row["choice"]["mask"].to_string().contains("cold"), "{row}");
    let wanted = load(&world, "big");
    assert_eq!((wanted.wanted, wanted.waiting, wanted.requests), (1, 0, 0));
    world.post("/v1/route", &asking("auto", "hi")).await;
    assert_eq!(load(&world, "big").wanted, 1, "to be told is not to want");
    world.gateway.set_endpoints("big", at(&big));
    let reply = world.chat(&asking("auto", "hi")).await;
    assert_eq!(reply.header("x-weir-model"), "big-model");
}

/// One request is answered by `big`, which comes up once it is waited for.
async fn waits_for_big(plan: GatewayPlan, router: Router, asked: &serde_json::Value) {
    let big = Echo::start(Mode::Echo).await;
    let world = World::start(plan, router).await;
    let bring_up = async {
        until_waiting(&world, "big", 1).await;
        world.gateway.set_endpoints("big", at(&big));
    };
    let (reply, ()) = tokio::join!(world.chat(asked), bring_up);
    assert_eq!(reply.header("x-weir-model"), "big-model");
}

#[tokio::test]
async fn a_cold_pool_that_spills_is_waited_for_where_what_is_up_is_worse_by_more_than_a_point() {
    let small = Echo::start(Mode::Echo).await;
    let pools = || vec![pool("small", &[&small]), cold("big", WhenCold::Spill)];
    let hi = asking("auto", "hi");
    waits_for_big(plan(pools()), expects(&[3.0, 4.25]), &hi).await;
    // The other costs half a point for ten tokens, so less than a point is lost.
    let mut dear = plan(pools());
    dear.pools[1].cost.completion_per_million = 50_000.0;
    dear.objective.per_cost_unit = 1.0;
    let world = World::start(dear, expects(&[3.0, 4.25])).await;
    let short = asking_with("auto", "hi", &json!({"max_tokens": 10}));
    let reply = world.chat(&short).await;
    assert_eq!(reply.header("x-weir-model"), "small-model");
    assert_eq!(load(&world, "big").wanted, 1);
}

#[tokio::test]
async fn under_a_guardrail_a_cold_pool_is_waited_for_where_what_is_up_is_of_much_less_quality() {
    let (small, middle) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let plan = guarded(&small, &middle);
    let asked = asking_with("auto", "hi", &json!({"weir": {"domain": "medical"}}));
    waits_for_big(plan, expects(&[4.5, 3.0, 4.5]), &asked).await;
    assert_eq!((small.connections(), middle.connections()), (0, 0));
}

#[tokio::test]
async fn a_cold_pool_that_spills_is_waited_for_where_the_certificate_holds_back_what_is_up() {
    let small = Echo::start(Mode::Echo).await;
    let pools = vec![pool("small", &[&small]), cold("big", WhenCold::Spill)];
    waits_for_big(plan(pools), certified(0.7, 0.8), &asking("auto", "hi")).await;
    assert_eq!(small.connections(), 0);
}

#[tokio::test]
async fn a_cold_pool_that_holds_is_waited_for_though_another_is_warm() {
    let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let pools = vec![pool("small", &[&small]), cold("big", WhenCold::Hold)];
    let world = World::start(plan(pools), prefers(1, 2)).await;
    let auto = asking("auto", "hi");
    let bring_up = async {
        until_waiting(&world, "big", 1).await;
        world.gateway.set_endpoints("big", at(&big));
    };
    let (reply, ()) = tokio::join!(world.chat(&auto), bring_up);
    assert_eq!(reply.header("x-weir-model"), "big-model");
    assert_eq!(small.connections(), 0);
}

#[tokio::test]
async fn a_cold_pool_beyond_the_requests_privacy_is_not_wanted() {
    let small = Echo::start(Mode::Echo).await;
    let far = Pool {
        privacy: Privacy::Cloud,
        ..cold("big", WhenCold::Hold)
    };
    let world = World::start(plan(vec![pool("small", &[&small]), far]), prefers(1, 2)).await;
    let local = asking_with("auto", "hi", &json!({"weir": {"privacy": "local"}}));
    let reply = world.chat(&local).await;
    assert_eq!(reply.header("x-weir-model"), "small-model");
    assert_eq!(load(&world, "big").wanted, 0);
}

#[tokio::test]
async fn under_a_guardrail_the_biggest_warm_model_answers_instead_of_the_cold_biggest() {
    let (small, middle) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let plan = guarded(&small, &middle);
    let world = World::start(plan, prefers(0, 3)).await;
    let asked = asking_with("auto", "hi", &json!({"weir": {"domain": "medical"}}));
    let reply = world.chat(&asked).await;
    assert_eq!(reply.header("x-weir-model"), "middle-model");
    assert_eq!(load(&world, "big").wanted, 1);
}

#[tokio::test]
async fn a_second_attempt_wakes_the_bigger_pool_at_zero_and_does_not_wait_for_it() {
    for when in [WhenCold::Spill, WhenCold::Hold] {
        let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
        let pools = vec![pool("small", &[&small]), cold("big", when)];
        let world = World::start(plan(pools), never_content(0, 2)).await;
        for (stream, wanted) in [(false, 1), (true, 2)] {
            let asked = asking_with("auto", "hi", &json!({"stream": stream}));
            let reply = world.chat(&asked).await;
            assert_eq!(reply.header("x-weir-model"), "small-model", "{when:?}");
            assert_eq!(reply.header("x-weir-escalated"), "false", "{when:?}");
            reply.text().await;
            let load = load(&world, "big");
            assert_eq!((load.wanted, load.waiting), (wanted, 0), "{when:?}");
        }
        world.gateway.set_endpoints("big", at(&big));
        let reply = world.chat(&asking("auto", "hi")).await;
        assert_eq!(reply.header("x-weir-model"), "big-model", "{when:?}");
        assert_eq!(load(&world, "big").wanted, 2, "a warm pool is not wanted");
    }
}

#[tokio::test]
async fn a_cold_pool_that_the_answer_does_not_need_is_not_woken_by_the_verdict() {
    let small = Echo::start(Mode::Echo).await;
    let pools = vec![pool("small", &[&small]), cold("big", WhenCold::Spill)];
    let world = World::start(plan(pools), prefers(0, 2)).await;
    world.chat(&asking("auto", "hi")).await.text().await;
    assert_eq!(load(&world, "big").wanted, 0);
}

#[tokio::test]
async fn a_second_attempt_goes_to_a_bigger_pool_that_is_up_while_the_one_it_prefers_is_woken() {
    let (small, middle) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let pools = vec![
        pool("small", &[&small]),
        pool("middle", &[&middle]),
        cold("big", WhenCold::Spill),
    ];
    let table = ArmTable::standard(3);
    let qualities = table.arms.iter().map(|arm| [4.5, 2.0, 3.0][arm.rank]);
    let qualities: Vec<f32> = qualities.collect();
    let artifact = Artifact::constant_with_answer(&table, &qualities, 1.0);
    let world = World::start(plan(pools), Router::new(artifact).unwrap()).await;
    let reply = world.chat(&asking("auto", "hi")).await;
    assert_eq!(reply.header("x-weir-model"), "middle-model");
    assert_eq!(load(&world, "big").wanted, 1);
}

/// A gateway whose memory embeds with the pool `vectors`, which is at zero.
async fn cold_embedder(service: Option<&str>) -> (World, Echo, tempfile::TempDir) {
    let small = Echo::start(Mode::Echo).await;
    let embedder = Box::new(cold("vectors", WhenCold::Hold));
    let mut kb = memory_plan("none", 2, EmbedderPlan::Pool(embedder));
    kb.service = service.map(str::to_owned);
    let (folder, memory) = open_memory(&kb);
    let mut plan = plan(vec![pool("small", &[&small])]);
    plan.memory = Some(kb);
    let world = World::with_memory(plan, prefers(0, 1), Some(memory)).await;
    (world, small, folder)
}

#[tokio::test]
async fn a_recall_wakes_the_pool_at_zero_that_makes_its_vectors_and_is_answered_without() {
    for service in [None, Some("https://kb")] {
        let (world, _small, _folder) = cold_embedder(service).await;
        let reply = world.chat(&asking("auto", "hi")).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(load(&world, "vectors").wanted, 1, "{service:?}");
        world
            .post("/v1/memory/search", &json!({"query": "hi"}))
            .await;
        assert_eq!(load(&world, "vectors").wanted, 2, "{service:?}");
        let node = json!({"nodes": [{"text": "hi"}]});
        world.post("/v1/memory/nodes", &node).await;
        assert_eq!(load(&world, "vectors").wanted, 3, "{service:?}");
        let local = json!({"query": "hi", "vector": [0.6, 0.8]});
        world.post("/v1/memory/search", &local).await;
        assert_eq!(load(&world, "vectors").wanted, 3, "it brings its vector");
    }
}

#[tokio::test]
async fn a_warm_pool_is_wanted_for_vectors_only_where_its_use_is_not_seen_here() {
    for (service, wanted) in [(None, 0), (Some("https://kb"), 1)] {
        let (world, small, _folder) = cold_embedder(service).await;
        assert!(world.gateway.set_endpoints("vectors", at(&small)));
        world.chat(&asking("auto", "hi")).await.text().await;
        assert_eq!(load(&world, "vectors").wanted, wanted, "{service:?}");
    }
}

#[tokio::test]
async fn passages_that_wait_for_their_vectors_want_the_pool_until_they_have_them() {
    let (world, _small, _folder) = cold_embedder(Some("https://kb")).await;
    world.gateway.want_pending_vectors();
    assert_eq!(load(&world, "vectors").wanted, 0, "nothing waits");
    let node = json!({"nodes": [{"text": "hi"}]});
    world.post("/v1/memory/nodes", &node).await;
    for wanted in [2, 3] {
        world.gateway.want_pending_vectors();
        assert_eq!(load(&world, "vectors").wanted, wanted);
    }
}

#[tokio::test]
async fn passages_that_are_not_written_wake_nobody() {
    let (world, _small, _folder) = cold_embedder(Some("https://kb")).await;
    let id = "018f0000-0000-7000-8000-000000000001";
    let node = json!({"nodes": [{"id": id, "text": "hi"}]});
    for unchanged in [0, 1] {
        let reply = world.post("/v1/memory/nodes", &node).await;
        assert_eq!(reply.json().await["unchanged"], unchanged);
        assert_eq!(load(&world, "vectors").wanted, 1, "once, as it was new");
    }
    let refused =
        json!({"nodes": [{"text": "new"}, {"text": "too long", "vector": [1.0, 0.0, 0.0]}]});
    let reply = world.post("/v1/memory/nodes", &refused).await;
    assert!(reply.status.is_client_error(), "{}", reply.status);
    assert_eq!(load(&world, "vectors").wanted, 1);
}

#[tokio::test]
async fn vectors_that_the_memorys_process_is_asked_for_wake_its_pool_and_count_as_its_use() {
    let (world, small, _folder) = cold_embedder(Some("https://kb")).await;
    let embed = json!({"model": "none", "input": "hi"});
    world.post("/v1/embeddings", &embed).await;
    assert_eq!(load(&world, "vectors").wanted, 1, "at zero");
    assert!(world.gateway.set_endpoints("vectors", at(&small)));
    world.post("/v1/embeddings", &embed).await;
    assert_eq!(load(&world, "vectors").wanted, 2, "up");
}

#[tokio::test]
async fn endpoints_of_a_pool_change_without_a_new_plan() {
    let (old, new) = (
        Echo::start(Mode::HangInTheMiddle).await,
        Echo::start(Mode::Echo).await,
    );
    let world = World::of(&old).await;
    let before = world.gateway.serving();
    let streamed = asking_with("small-model", "hi", &json!({"stream": true}));
    let running = world.chat(&streamed).await;
    old.until_open(1).await;
    assert!(world.gateway.set_endpoints("small", at(&new)));
    assert!(!world.gateway.set_endpoints("unknown", Vec::new()));
    assert_eq!(world.gateway.serving().since, before.since);
    assert_eq!(
        world.chat(&asking("auto", "hi")).await.status,
        StatusCode::OK
    );
    old.until_open(1).await;
    drop(running);
    assert_eq!(new.bodies().len(), 1);
}

#[tokio::test]
async fn a_gateway_that_leaves_is_not_ready_and_still_answers() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    assert_eq!(
        world.chat(&asking("auto", "hi")).await.header("connection"),
        ""
    );
    world.gateway.drain();
    let ready = world.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json().await["draining"], true);
    let reply = world.chat(&asking("auto", "hi")).await;
    assert_eq!(
        (reply.status, reply.header("connection")),
        (StatusCode::OK, "close")
    );
}
