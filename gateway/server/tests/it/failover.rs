//! Engines that die under load, second attempts, and plans that change under requests.

use crate::echo::{Echo, Mode};
use crate::world::{
    World, asking, asking_with, events, never_content, plan, pool, prefers, text_of,
};
use futures_util::future::join_all;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::json;
use weir_plan::{Guardrail, GuardrailAction, Pool};

#[tokio::test]
async fn killing_an_engine_under_load_costs_no_request_that_another_could_serve() {
    let (dying, good, other) = (
        Echo::start(Mode::Echo).await,
        Echo::start(Mode::Echo).await,
        Echo::start(Mode::Echo).await,
    );
    let pools = vec![pool("small", &[&dying, &good]), pool("big", &[&other])];
    let world = World::start(plan(pools), prefers(0, 2)).await;
    for round in 0..12 {
        if round == 4 {
            dying.kill();
        }
        if round == 8 {
            good.kill();
        }
        let asked = (0..16).map(|index| {
            let stream = index % 2 == 0;
            let world = &world;
            async move {
                let body = asking_with("auto", "hi", &json!({"stream": stream}));
                let reply = world.chat(&body).await;
                (reply.status, stream, reply.text().await)
            }
        });
        for (status, stream, text) in join_all(asked).await {
            assert_eq!(status, StatusCode::OK, "round {round}: {text}");
            assert!(!text.contains("\"error\""), "round {round}: {text}");
            assert!(!stream || text.contains("[DONE]"), "round {round}: {text}");
        }
    }
    assert!(other.connections() > 0, "the other pool took over");
}

#[tokio::test]
async fn an_answer_that_is_not_good_enough_is_asked_again_of_a_bigger_model() {
    let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let pools = vec![pool("small", &[&small]), pool("big", &[&big])];
    let world = World::start(plan(pools), never_content(0, 2)).await;
    let reply = world.chat(&asking("auto", "hi")).await;
    assert_eq!(reply.header("x-weir-escalated"), "true");
    assert_eq!(reply.header("x-weir-model"), "big-model");
    let streamed = world
        .chat(&asking_with("auto", "hi", &json!({"stream": true})))
        .await;
    assert_eq!(streamed.header("x-weir-escalated"), "true");
    let (events, done) = events(&streamed.text().await);
    assert_eq!(
        (text_of(&events).as_str(), done),
        ("echo hi", true),
        "one answer, not two"
    );
    assert_eq!((small.bodies().len(), big.bodies().len()), (2, 2));
}

#[tokio::test]
async fn under_a_guardrail_the_next_biggest_model_replaces_the_biggest() {
    let (small, middle, big) = (
        Echo::start(Mode::Echo).await,
        Echo::start(Mode::Echo).await,
        Echo::start(Mode::Refuse(500)).await,
    );
    let pools = vec![
        pool("small", &[&small]),
        pool("middle", &[&middle]),
        pool("big", &[&big]),
    ];
    let mut plan = plan(pools);
    plan.guardrails = vec![Guardrail {
        name: "careful".to_owned(),
        domains: vec!["medical".to_owned()],
        then: GuardrailAction::UseBiggest,
    }];
    let world = World::start(plan, prefers(0, 3)).await;
    let asked = asking_with("auto", "hi", &json!({"weir": {"domain": "medical"}}));
    let reply = world.chat(&asked).await;
    assert_eq!(reply.header("x-weir-model"), "middle-model");
    assert!(big.connections() > 0, "the biggest was asked first");
    assert_eq!(small.connections(), 0);
}

#[tokio::test]
async fn a_prompt_that_only_an_absent_pool_holds_is_asked_to_come_back() {
    let echo = Echo::start(Mode::Echo).await;
    let small = Pool {
        context_tokens: 128,
        ..pool("small", &[&echo])
    };
    let long = asking("auto", &"word ".repeat(300));
    let away = pool("big", &[]);
    let world = World::start(plan(vec![small.clone(), away.clone()]), prefers(0, 2)).await;
    let reply = world.chat(&long).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!reply.header("retry-after").is_empty());

    let too_small = Pool {
        context_tokens: 200,
        ..away
    };
    let world = World::start(plan(vec![small, too_small]), prefers(0, 2)).await;
    let reply = world.chat(&long).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "it never fits");
    let error = reply.json().await["error"].clone();
    assert_eq!(error["code"], "context_length_exceeded");
}

#[tokio::test]
async fn a_new_plan_serves_the_next_request_while_the_last_one_finishes() {
    let (old, new) = (
        Echo::start(Mode::HangInTheMiddle).await,
        Echo::start(Mode::Echo).await,
    );
    let world = World::of(&old).await;
    let body = asking_with("small-model", "one two", &json!({"stream": true}));
    let mut running = world.chat(&body).await;
    assert_eq!(running.status, StatusCode::OK);
    assert!(running.body.frame().await.unwrap().is_ok());
    world.apply(plan(vec![pool("other", &[&new])]), prefers(0, 1));
    let routed = world.chat(&asking("auto", "hi")).await;
    assert_eq!(routed.header("x-weir-model"), "other-model");
    assert_eq!(world.chat(&body).await.status, StatusCode::NOT_FOUND);
    old.until_open(1).await;
    drop(running);
    old.until_open(0).await;
}
