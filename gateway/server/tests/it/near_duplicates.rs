//! Answers that are given to near duplicates of their question: to which, and that nothing else is one.

use crate::echo::{Echo, Mode};
use crate::recall::{QUESTION, prefers as recalls, remembering_under};
use crate::world::{World, asking, asking_with, plan, pool, prefers};
use serde_json::{Value, json};
use weir_plan::{CachePlan, GatewayPlan, Pool};
use weir_router::RecallMode;

const CACHE: CachePlan = CachePlan {
    entries_max: 10_000,
    ttl_ms: 600_000,
    near_duplicates: true,
};

/// Of one pool, whose answers repeat the question.
async fn start(echo: &Echo, cache: CachePlan) -> World {
    let pools: Vec<Pool> = vec![pool("small", &[echo])];
    let plan = GatewayPlan {
        cache: Some(cache),
        ..plan(pools)
    };
    World::start(plan, prefers(0, 1)).await
}

/// What the header says of the cache, and the answer's text.
async fn ask(world: &World, body: &Value) -> (String, String) {
    let reply = world.chat(body).await;
    let cache = reply.header("x-weir-cache").to_owned();
    let answer = reply.json().await;
    let text = answer["choices"][0]["message"]["content"].as_str();
    (cache, text.unwrap_or_else(|| panic!("{answer}")).to_owned())
}

#[tokio::test]
async fn an_answer_is_given_to_the_same_question_written_in_another_way_where_a_plan_says_so() {
    let echo = Echo::start(Mode::Echo).await;
    let world = start(&echo, CACHE).await;
    let first = world.chat(&asking("auto", "What is a heron?")).await;
    let made_by = first.header("x-weir-decision").to_owned();
    first.json().await;
    for written in [
        "what is a heron?",
        "What is a heron",
        "Hello, what is  a heron?",
        "Please, what is a heron? Thanks!",
    ] {
        let reply = world.chat(&asking("auto", written)).await;
        assert_eq!(reply.header("x-weir-cache"), "hit", "{written}");
        let row = world.row_of(reply).await;
        let hit = json!({"hit": {"decision": made_by, "near": true}});
        assert_eq!(row["cache"], hit, "{written}");
    }
    let same = world.chat(&asking("auto", "What is a heron?")).await;
    let row = world.row_of(same).await;
    assert_eq!(row["cache"], json!({"hit": {"decision": made_by}}));
    assert_eq!(echo.bodies().len(), 1);
    let metrics = world.get("/metrics").await.text().await;
    for line in [
        "weir_answer_cache_hits_total 5\n",
        "weir_answer_cache_near_hits_total 4\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }

    // All else has to be the same, and a plan has to want it.
    let warmer = asking_with("auto", "what is a heron?", &json!({"temperature": 0.25}));
    assert_eq!(ask(&world, &warmer).await.0, "miss");
    let exact = CachePlan {
        near_duplicates: false,
        ..CACHE
    };
    let world = start(&echo, exact).await;
    for written in ["What is a heron?", "what is a heron?"] {
        assert_eq!(ask(&world, &asking("auto", written)).await.0, "miss");
    }
}

#[tokio::test]
async fn every_source_of_the_answer_must_be_recalled_again_as_it_was() {
    let router = recalls(RecallMode::Graph, 0);
    let memory = remembering_under(router, |plan| plan.cache = Some(CACHE)).await;
    let world = &memory.world;
    let near = asking(
        "auto",
        &format!("Hello, {}", QUESTION.replace("When", "when")),
    );
    assert_eq!(ask(world, &asking("auto", QUESTION)).await.0, "miss");
    let reply = world.chat(&near).await;
    assert_eq!(reply.header("x-weir-cache"), "hit");
    let row = world.row_of(reply).await;
    assert_eq!(row["cache"]["hit"]["near"], true, "{row}");

    let heron = json!({"id": memory.heron, "text": "The heron fishes at dusk.", "vector": [1.0, 0.0],
                       "metadata": {"title": "Heron"}});
    let nodes = json!({"nodes": [heron]});
    world.post("/v1/memory/nodes", &nodes).await.json().await;
    assert_eq!(ask(world, &near).await.0, "miss", "another text");
    assert_eq!(memory.small.bodies().len(), 2);
}

/// Questions that differ from one another in a negation, a number, a name or the order of names, and have other answers.
fn adversaries() -> Vec<String> {
    let names = [
        "Ada Lovelace",
        "Alan Turing",
        "Grace Hopper",
        "Emmy Noether",
        "Leonhard Euler",
        "Carl Gauss",
        "Sofia Kovalevskaya",
        "Srinivasa Ramanujan",
        "John Nash",
        "Nikola Tesla",
    ];
    let ordered = names
        .iter()
        .flat_map(|one| names.map(|other| (*one, other)));
    let ordered = ordered.filter(|(one, other)| one != other);
    let of = |(one, other): (&str, &str)| {
        let mut all = Vec::new();
        for not in ["", " not"] {
            all.push(format!("Is it{not} true that {one} wrote to {other}?"));
            all.push(format!("Did {one}{not} live before {other}?"));
            all.push(format!("Did {one}{not} live after {other}?"));
        }
        for year in ["1815", "1851", "1815.5"] {
            all.push(format!("What did {one} owe {other} in {year}?"));
        }
        all
    };
    ordered.flat_map(of).collect()
}

/// Of the 810 questions any two are a pair that must not be taken for one: 327,645 pairs.
#[tokio::test]
async fn no_question_with_another_negation_number_name_or_order_gets_another_s_answer() {
    let echo = Echo::start(Mode::Echo).await;
    let world = start(&echo, CACHE).await;
    let all = adversaries();
    assert_eq!(all.len(), 810);
    for question in &all {
        let (cache, text) = ask(&world, &asking("auto", question)).await;
        assert_eq!(cache, "miss", "{question}");
        assert_eq!(text, format!("echo {question}"));
    }
    // Each is there, and found by itself alone.
    for question in &all {
        let other = question.trim_end_matches('?');
        let other = format!("{}{}", other[..1].to_lowercase(), &other[1..]);
        let (cache, text) = ask(&world, &asking("auto", &other)).await;
        assert_eq!(cache, "hit", "{other}");
        assert_eq!(text, format!("echo {question}"));
    }
}
