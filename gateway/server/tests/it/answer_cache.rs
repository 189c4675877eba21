//! Answers that are given again: to which requests, for how long, and what a row says of it.

use crate::echo::{Echo, Mode};
use crate::recall::{QUESTION, Remembering, prefers as recalls, remembering_under};
use crate::world::{
    Reply, World, asking, asking_with, events, key, never_content, plan, pool, prefers, text_of,
};
use serde_json::{Value, json};
use weir_plan::{Auth, CachePlan, GatewayPlan, Pool, Scope};
use weir_router::{RecallMode, Router};

const CACHE: CachePlan = CachePlan {
    entries_max: 100,
    ttl_ms: 60_000,
    near_duplicates: false,
};

fn keeping(pools: Vec<Pool>) -> GatewayPlan {
    GatewayPlan {
        cache: Some(CACHE),
        ..plan(pools)
    }
}

async fn one_pool(echo: &Echo) -> World {
    World::start(keeping(vec![pool("small", &[echo])]), prefers(0, 1)).await
}

/// A small pool and a big one, with what answers in each.
async fn two_pools(router: Router) -> (World, Echo, Echo) {
    let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let pools = vec![pool("small", &[&small]), pool("big", &[&big])];
    (World::start(keeping(pools), router).await, small, big)
}

/// What the header says of the cache, and the text of a whole answer.
async fn told(reply: Reply) -> (String, String) {
    let cache = reply.header("x-weir-cache").to_owned();
    let body = reply.json().await;
    let text = body["choices"][0]["message"]["content"].as_str();
    (cache, text.unwrap_or_else(|| panic!("{body}")).to_owned())
}

async fn cache_of(world: &World, body: &Value) -> String {
    told(world.chat(body).await).await.0
}

async fn metric(world: &World, name: &str) -> String {
    let text = world.get("/metrics").await.text().await;
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} in {text}"))
        .to_owned()
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer_and_asks_no_model() {
    let echo = Echo::start(Mode::Echo).await;
    let world = one_pool(&echo).await;
    let body = asking("auto", "When does the heron fish?");
    let first = world.chat(&body).await;
    let made_by = first.header("x-weir-decision").to_owned();
    assert_eq!(
        told(first).await,
        ("miss".into(), "echo When does the heron fish?".into())
    );
    echo.set(Mode::Say("something else"));
    let again = world.chat(&body).await;
    assert_eq!(again.header("x-weir-model"), "small-model");
    let id = again.header("x-weir-decision").to_owned();
    assert_ne!(id, made_by);
    let answer = again.json().await;
    let text = &answer["choices"][0]["message"]["content"];
    assert_eq!(text, "echo When does the heron fish?");
    let prompt = &answer["usage"]["prompt_tokens"];
    let unread = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
    assert_eq!(prompt, unread, "none of the prompt was read again");
    assert_eq!(echo.bodies().len(), 1);

    let row = world.get(&format!("/v1/decisions/{id}")).await.json().await;
    assert_eq!(row["cache"], json!({"hit": {"decision": made_by}}));
    assert_eq!(row["executed"]["model"], "small-model");
    assert_eq!(row["outcome"]["finish_reason"], "stop");
    assert_eq!(
        (&row["tokens"]["prompt"], &row["tokens"]["completion"]),
        (&json!(0), &json!(0)),
        "nothing was spent"
    );
    assert_eq!(row["latency_ms"]["llm"], 0.0);
    for (name, value) in [
        ("weir_answer_cache_hits_total", 1),
        ("weir_answer_cache_misses_total", 1),
        ("weir_answer_cache_entries", 1),
    ] {
        assert_eq!(metric(&world, name).await, format!("{name} {value}"));
    }
}

#[tokio::test]
async fn streams_and_whole_answers_are_kept_for_each_other() {
    let echo = Echo::start(Mode::Echo).await;
    let world = one_pool(&echo).await;
    let streamed = json!({"stream": true, "stream_options": {"include_usage": true}});
    let stream_of = async |question: &str| {
        let reply = world.chat(&asking_with("auto", question, &streamed)).await;
        let cache = reply.header("x-weir-cache").to_owned();
        let (events, done) = events(&reply.text().await);
        assert!(done);
        (cache, events)
    };
    let (cache, _) = stream_of("of a stream").await;
    assert_eq!(cache, "miss");
    let whole = told(world.chat(&asking("auto", "of a stream")).await).await;
    assert_eq!(whole, ("hit".into(), "echo of a stream".into()));

    let (cache, told) = told(world.chat(&asking("auto", "of a whole")).await).await;
    assert_eq!((cache.as_str(), told.as_str()), ("miss", "echo of a whole"));
    let (cache, events) = stream_of("of a whole").await;
    assert_eq!((cache, text_of(&events)), ("hit".into(), told));
    let [text, end, usage] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(text["object"], "chat.completion.chunk");
    assert_eq!(text["model"], "small-model");
    assert_eq!(end["choices"][0]["finish_reason"], "stop");
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["completion_tokens"].as_u64() > Some(0));
    assert_eq!(echo.bodies().len(), 2);
}

#[tokio::test]
async fn the_responses_and_completions_of_a_kept_answer_have_their_own_shape() {
    let echo = Echo::start(Mode::Echo).await;
    let world = one_pool(&echo).await;
    assert_eq!(cache_of(&world, &asking("auto", "hello")).await, "miss");
    let responses = json!({"model": "auto", "input": "hello"});
    let reply = world.post("/v1/responses", &responses).await;
    assert_eq!(reply.header("x-weir-cache"), "hit");
    let body = reply.json().await;
    assert_eq!(
        body["output"][0]["content"][0]["text"], "echo hello",
        "{body}"
    );
    let completions = json!({"model": "auto", "prompt": "hello"});
    let reply = world.post("/v1/completions", &completions).await;
    assert_eq!(reply.header("x-weir-cache"), "hit");
    assert_eq!(reply.json().await["choices"][0]["text"], "echo hello");
    assert_eq!(echo.bodies().len(), 1);
}

#[tokio::test]
async fn a_request_that_differs_in_anything_is_answered_anew() {
    let echo = Echo::start(Mode::Echo).await;
    let world = one_pool(&echo).await;
    let question = "Is the caf\u{e9} open?";
    assert_eq!(cache_of(&world, &asking("auto", question)).await, "miss");
    for same in ["Is the cafe\u{301} open?", "  Is the caf\u{e9} open?\n"] {
        assert_eq!(cache_of(&world, &asking("auto", same)).await, "hit");
    }
    for other in [
        "Is the caf\u{e9} not open?",
        "is the caf\u{e9} open?",
        "Is the  caf\u{e9} open?",
        "Is the caf\u{e9} open",
    ] {
        assert_eq!(
            cache_of(&world, &asking("auto", other)).await,
            "miss",
            "{other}"
        );
    }
    for more in [
        json!({"temperature": 0.25}),
        json!({"top_p": 0.5}),
        json!({"max_tokens": 9}),
        json!({"seed": 1}),
        json!({"seed": 2}),
        json!({"stop": ["x"]}),
        json!({"response_format": {"type": "json_object"}}),
        json!({"weir": {"privacy": "local"}}),
        json!({"weir": {"citations": true}}),
        json!({"weir": {"budget_ms": 9000}}),
        json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]}),
        json!({"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"},
                            {"role": "user", "content": question}]}),
    ] {
        let body = asking_with("auto", question, &more);
        assert_eq!(cache_of(&world, &body).await, "miss", "{more}");
        assert_eq!(cache_of(&world, &body).await, "hit", "{more}");
    }
    // Nothing of the answer depends on these.
    for more in [json!({"user": "u"}), json!({"weir": {"session": "s"}})] {
        let body = asking_with("auto", question, &more);
        assert_eq!(cache_of(&world, &body).await, "hit", "{more}");
    }
}

#[tokio::test]
async fn a_tenant_never_gets_what_another_was_answered() {
    let echo = Echo::start(Mode::Echo).await;
    let auth = Auth::ApiKeys(vec![
        key("acme", "a", &[Scope::Ask]),
        key("globex", "g", &[Scope::Ask]),
    ]);
    let plan = GatewayPlan {
        auth,
        ..keeping(vec![pool("small", &[&echo])])
    };
    let world = World::start(plan, prefers(0, 1)).await;
    let asked = async |bearer: &str| {
        let headers = [("authorization", bearer)];
        let (path, body) = ("/v1/chat/completions", asking("auto", "hi").to_string());
        let reply = world.send(http::Method::POST, path, &headers, body).await;
        told(reply).await.0
    };
    assert_eq!(asked("Bearer a").await, "miss");
    assert_eq!(asked("Bearer g").await, "miss");
    assert_eq!(asked("Bearer a").await, "hit");
    assert_eq!(asked("Bearer g").await, "hit");
}

#[tokio::test]
async fn what_should_be_new_each_time_or_is_not_to_be_stored_is_not_kept() {
    let echo = Echo::start(Mode::Echo).await;
    let world = one_pool(&echo).await;
    let tool = json!([{"type": "function", "function": {"name": "add", "parameters": {}}}]);
    for more in [
        json!({"temperature": 0.75}),
        json!({"logprobs": true}),
        json!({"tools": tool}),
        json!({"weir": {"cache": "no-store"}}),
    ] {
        let body = asking_with("auto", "hi", &more);
        for _ in 0..2 {
            let reply = world.chat(&body).await;
            assert_eq!(reply.header("x-weir-cache"), "", "{more}");
            assert_eq!(world.row_of(reply).await["cache"], Value::Null, "{more}");
        }
    }
    let headers = [("x-weir-cache", "no-store")];
    let (path, body) = ("/v1/chat/completions", asking("auto", "hi").to_string());
    let reply = world.send(http::Method::POST, path, &headers, body).await;
    assert_eq!(reply.header("x-weir-cache"), "");
    assert_eq!(echo.bodies().len(), 9, "each was asked of the engine");
    assert_eq!(cache_of(&world, &asking("auto", "hi")).await, "miss");
}

#[tokio::test]
async fn a_plan_without_a_cache_keeps_nothing_and_forgets_what_was_kept() {
    let echo = Echo::start(Mode::Echo).await;
    let world = one_pool(&echo).await;
    let body = asking("auto", "hi");
    assert_eq!(cache_of(&world, &body).await, "miss");
    let pools = || vec![pool("small", &[&echo])];
    world.apply(plan(pools()), prefers(0, 1));
    assert_eq!(cache_of(&world, &body).await, "");
    let entries = "weir_answer_cache_entries";
    assert_eq!(metric(&world, entries).await, format!("{entries} 0"));
    world.apply(keeping(pools()), prefers(0, 1));
    assert_eq!(cache_of(&world, &body).await, "miss");
    assert_eq!(cache_of(&world, &body).await, "hit");

    // The same pool with another model behind its name.
    let mut changed = pools();
    changed[0].vocabulary = Some(weir_plan::Vocabulary {
        api: weir_plan::TokenizerApi::LlamaCpp,
        model: "another file".to_owned(),
    });
    world.apply(keeping(changed), prefers(0, 1));
    assert_eq!(cache_of(&world, &body).await, "miss");
}

#[tokio::test]
async fn it_holds_as_many_answers_as_the_plan_says_and_for_as_long() {
    let echo = Echo::start(Mode::Echo).await;
    let pools = || vec![pool("small", &[&echo])];
    let of = |entries_max, ttl_ms| GatewayPlan {
        cache: Some(CachePlan {
            entries_max,
            ttl_ms,
            ..CACHE
        }),
        ..plan(pools())
    };
    let world = World::start(of(3, 60_000), prefers(0, 1)).await;
    for at in 0..20 {
        let body = asking("auto", &format!("question {at}"));
        assert_eq!(cache_of(&world, &body).await, "miss");
        assert_eq!(cache_of(&world, &body).await, "hit", "the newest is there");
    }
    let entries = metric(&world, "weir_answer_cache_entries").await;
    assert_eq!(entries, "weir_answer_cache_entries 3");
    // What is longer than all of it together is not kept at all.
    let long = asking("auto", &"x ".repeat(4000));
    world.apply(of(1, 60_000), prefers(0, 1));
    assert_eq!(cache_of(&world, &long).await, "miss");
    assert_eq!(cache_of(&world, &long).await, "miss");
    world.apply(of(100, 1), prefers(0, 1));
    let body = asking("auto", "how old?");
    for _ in 0..2 {
        assert_eq!(cache_of(&world, &body).await, "miss");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_answer_that_broke_failed_over_or_was_left_is_not_kept() {
    let (world, small, _big) = two_pools(prefers(0, 2)).await;
    small.set(Mode::Refuse(500));
    let body = asking("auto", "failed over");
    let reply = world.chat(&body).await;
    assert_eq!(reply.header("x-weir-model"), "big-model");
    assert_eq!(told(reply).await.0, "miss");
    small.set(Mode::Echo);
    let again = world.chat(&body).await;
    assert_eq!(told(again).await.0, "miss");

    small.set(Mode::BreakInTheMiddle);
    let body = asking_with("auto", "broken off", &json!({"stream": true}));
    world.chat(&body).await.text().await;
    small.set(Mode::HangInTheMiddle);
    let left = world
        .chat(&asking_with("auto", "left", &json!({"stream": true})))
        .await;
    drop(left);
    small.until_open(0).await;
    small.set(Mode::Echo);
    for question in ["broken off", "left"] {
        assert_eq!(cache_of(&world, &asking("auto", question)).await, "miss");
    }
}

#[tokio::test]
async fn a_second_attempt_is_kept_and_one_that_failed_is_not() {
    let (world, _small, big) = two_pools(never_content(0, 2)).await;
    big.set(Mode::Refuse(500));
    let body = asking("auto", "hi");
    for _ in 0..2 {
        let reply = world.chat(&body).await;
        assert_eq!(reply.header("x-weir-model"), "small-model");
        assert_eq!(told(reply).await.0, "miss");
    }
    big.set(Mode::Say("better"));
    let body = asking("auto", "once more");
    let first = world.chat(&body).await;
    assert_eq!(first.header("x-weir-escalated"), "true");
    assert_eq!(told(first).await, ("miss".into(), "better".into()));
    let again = world.chat(&body).await;
    assert_eq!(again.header("x-weir-model"), "big-model");
    assert_eq!(
        again.header("x-weir-escalated"),
        "false",
        "nobody was asked"
    );
    assert_eq!(told(again).await, ("hit".into(), "better".into()));
}

#[tokio::test]
async fn what_many_want_at_once_is_made_once() {
    let echo = Echo::start(Mode::SlowlySay(200, "slowly")).await;
    let world = one_pool(&echo).await;
    let body = asking("auto", "hi");
    let wanted = (0..8).map(|_| world.chat(&body));
    for reply in futures_util::future::join_all(wanted).await {
        assert_eq!(told(reply).await.1, "slowly");
    }
    assert_eq!(echo.bodies().len(), 1);
    // Where the one that is waited for fails, the others are answered at once, not one after the other.
    echo.set(Mode::Refuse(400));
    let body = asking("auto", "refused");
    let wanted = (0..4).map(|_| world.chat(&body));
    for reply in futures_util::future::join_all(wanted).await {
        assert_eq!(reply.status, 400);
    }
    assert_eq!(echo.bodies().len(), 5);
}

/// A memory of a heron and reeds, one hop apart, whose router prefers the graph.
async fn remembering() -> Remembering {
    let router = recalls(RecallMode::Graph, 0);
    remembering_under(router, |plan| plan.cache = Some(CACHE)).await
}

#[tokio::test]
async fn a_write_to_what_was_recalled_makes_the_answer_old_and_no_other_does() {
    let memory = remembering().await;
    let world = &memory.world;
    let body = asking("auto", QUESTION);
    let first = world.chat(&body).await;
    let sources = world.row_of(first).await["sources"].clone();
    assert!(!sources.as_array().unwrap().is_empty());
    let again = world.chat(&body).await;
    assert_eq!(again.header("x-weir-cache"), "hit");
    assert_eq!(world.row_of(again).await["sources"], sources);

    let write = async |node: Value| {
        let nodes = json!({"nodes": [node]});
        let written = world.post("/v1/memory/nodes", &nodes).await.json().await;
        written["ids"][0].clone()
    };
    let far = write(json!({"text": "Trains leave at noon."})).await;
    assert_eq!(cache_of(world, &body).await, "hit", "not recalled");
    let heron = json!({"id": memory.heron, "text": "The heron fishes at dusk.", "vector": [1.0, 0.0],
                       "metadata": {"title": "Heron"}});
    write(heron).await;
    assert_eq!(cache_of(world, &body).await, "miss", "another text");
    assert_eq!(cache_of(world, &body).await, "hit");
    let edges = json!({"edges": [{"src": memory.heron, "dst": far, "rel": "cites"}]});
    world.post("/v1/memory/edges", &edges).await.json().await;
    assert_eq!(cache_of(world, &body).await, "miss", "another edge");
    assert_eq!(memory.small.bodies().len(), 3);
}

#[tokio::test]
async fn an_erasure_forgets_answers_and_its_receipt_counts_them() {
    let memory = remembering().await;
    let world = &memory.world;
    let body = asking_with("auto", "hi", &json!({"weir": {"memory": "off"}}));
    assert_eq!(cache_of(world, &body).await, "miss");
    assert_eq!(cache_of(world, &body).await, "hit");
    let (method, path) = (http::Method::DELETE, "/v1/memory/subjects/jane");
    let receipt = world.send(method, path, &[], "").await.json().await;
    assert_eq!(receipt["answers"], 1, "{receipt}");
    assert_eq!(cache_of(world, &body).await, "miss");
}
