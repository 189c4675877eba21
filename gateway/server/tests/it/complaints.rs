//! What users complain about in other gateways, one test each.
//!
//! Elsewhere: silent ends and usage that nobody asked for in `streams.rs`, clients that leave in `leavers.rs`, one tenant's
//! nodes found by another in `memory.rs`, what becomes of thousands of answers in `faults.rs`.

use crate::echo::{Echo, Mode};
use crate::fault_proxy::{Fault, FaultProxy, Spell};
use crate::world::{
    Reply, World, asking, asking_with, assets, events, key, memory_plan, open_memory, plan, pool,
    prefers, text_of,
};
use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_gateway::gateway::Assets;
use weir_plan::{Auth, EmbedderPlan, Endpoint, LogSink, Pool, Scope, Secret};
use weir_router::{ArmTable, Artifact, RecallMode, Router};

/// Longest that a replica is left alone, and so what a client is told at most, in seconds.
const RETRY_AFTER_MAX: u64 = 15;

fn retry_after(reply: &Reply) -> u64 {
    reply.header("retry-after").parse().unwrap()
}

#[tokio::test]
async fn a_429_says_when_to_come_back_whatever_the_engine_says_of_it() {
    let echo = Echo::start(Mode::Echo).await;
    for (head, seconds) in [
        ("", 1),
        ("retry-after: 0\r\n", 1),
        ("retry-after: 7\r\n", 7),
        ("retry-after: 86400\r\n", RETRY_AFTER_MAX),
        ("retry-after: 99999999999999999999999\r\n", RETRY_AFTER_MAX),
        ("retry-after: soon\r\n", 1),
    ] {
        for model in ["auto", "small-model"] {
            let spell = Spell::at_once(Fault::Status(429, head));
            let proxy = FaultProxy::always(&echo.url, spell).await;
            let mut small = pool("small", &[]);
            small.endpoints = vec![Endpoint::keyless(&proxy.url)];
            let world = World::start(plan(vec![small]), prefers(0, 1)).await;
            let reply = world.chat(&asking(model, "hi")).await;
            assert_eq!(
                reply.status,
                StatusCode::TOO_MANY_REQUESTS,
                "{head} {model}"
            );
            assert_eq!(retry_after(&reply), seconds, "{head} {model}");
            let again = world.chat(&asking(model, "hi")).await;
            let status = again.status.as_u16();
            assert!([429, 503].contains(&status), "{head} {model}: {status}");
            assert!(
                (1..=RETRY_AFTER_MAX).contains(&retry_after(&again)),
                "{head} {model}"
            );
        }
    }
}

#[tokio::test]
async fn a_huge_retry_after_of_one_replica_keeps_nobody_from_the_other() {
    let echo = Echo::start(Mode::Echo).await;
    let spell = Spell::at_once(Fault::Status(429, "retry-after: 86400\r\n"));
    let proxy = FaultProxy::always(&echo.url, spell).await;
    let mut small = pool("small", &[&echo]);
    small.endpoints.push(Endpoint::keyless(&proxy.url));
    let world = World::start(plan(vec![small]), prefers(0, 1)).await;
    for number in 0..20 {
        let model = ["auto", "small-model"][number % 2];
        assert_eq!(
            world.chat(&asking(model, "hi")).await.status,
            StatusCode::OK
        );
    }
    let met = proxy.met(true, |_| true);
    assert!(met <= 1, "it was asked {met} times in its rest");
}

#[tokio::test]
async fn different_questions_at_once_get_an_answer_each_of_their_own() {
    let echo = Echo::start(Mode::Echo).await;
    // None has to wait for a place.
    let small = Pool {
        slots: 100,
        ..pool("small", &[&echo])
    };
    let world = World::start(plan(vec![small]), prefers(0, 1)).await;
    for stream in [false, true] {
        let asked = (0..100).map(|number| {
            let world = &world;
            async move {
                let model = ["auto", "small-model"][number % 2];
                let question = format!("question {number}");
                let body = asking_with(
                    model,
                    &question,
                    &json!({"stream": stream, "temperature": 0}),
                );
                let reply = world.chat(&body).await;
                let id = reply.header("x-weir-decision").to_owned();
                let text = reply.text().await;
                let said = if stream {
                    text_of(&events(&text).0)
                } else {
                    let body: Value = serde_json::from_str(&text).unwrap();
                    body["choices"][0]["message"]["content"]
                        .as_str()
                        .unwrap()
                        .to_owned()
                };
                assert_eq!(said, format!("echo {question}"), "{model}");
                id
            }
        });
        let ids: HashSet<String> = join_all(asked).await.into_iter().collect();
        assert_eq!(ids.len(), 100, "no two share a decision");
    }
}

/// A router that always recalls.
fn recalls() -> Router {
    let table = ArmTable::standard(1);
    let best = table.find(RecallMode::Vector, 0, 200).unwrap();
    let mut qualities = vec![2.0; table.arms.len()];
    qualities[best] = 4.5;
    Router::new(Artifact::constant(&table, &qualities)).unwrap()
}

#[tokio::test]
async fn the_same_question_of_two_tenants_recalls_what_is_each_ones_own() {
    let echo = Echo::start(Mode::Echo).await;
    let in_process = EmbedderPlan::InProcess {
        source: String::new(),
    };
    let kb = memory_plan("none", 2, in_process);
    let (_folder, memory) = open_memory(&kb);
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.memory = Some(kb);
    let tenants = ["acme", "globex"];
    plan.auth = Auth::ApiKeys(
        tenants
            .map(|name| key(name, name, &[Scope::Ask, Scope::Memory]))
            .to_vec(),
    );
    let world = World::with_memory(plan, recalls(), Some(memory)).await;
    let post = async |tenant: &str, path: &str, body: Value| {
        let bearer = format!("Bearer {tenant}");
        let headers = [("authorization", bearer.as_str())];
        let reply = world
            .send(Method::POST, path, &headers, body.to_string())
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{tenant} {path}");
        reply.text().await
    };
    for tenant in tenants {
        let nodes = json!({"nodes": [{"text": format!("The heron of {tenant} fishes at dawn.")}]});
        post(tenant, "/v1/memory/nodes", nodes).await;
    }
    // Twice: what was recalled for a question may be remembered.
    for tenant in [tenants, tenants].concat() {
        post(
            tenant,
            "/v1/chat/completions",
            asking("auto", "When does the heron fish?"),
        )
        .await;
        let prompt = echo.bodies().pop().unwrap()["messages"].to_string();
        for name in tenants {
            assert_eq!(
                prompt.contains(&format!("heron of {name}")),
                name == tenant,
                "{tenant}: {prompt}"
            );
        }
    }
}

#[tokio::test]
async fn turns_of_a_conversation_stay_with_the_replica_that_has_read_it() {
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Echo::start(Mode::Echo).await);
    }
    let engines: Vec<&Echo> = replicas.iter().collect();
    let world = World::start(plan(vec![pool("small", &engines)]), prefers(0, 1)).await;
    for model in ["auto", "small-model"] {
        for conversation in 0..3 {
            let before: Vec<usize> = replicas
                .iter()
                .map(|replica| replica.bodies().len())
                .collect();
            let mut messages = Vec::new();
            for turn in 0..4 {
                let text = format!("{model} {conversation} {turn} ").repeat(60);
                messages.push(json!({"role": "user", "content": text}));
                let body = json!({"model": model, "messages": messages});
                let answer = world.chat(&body).await.json().await;
                messages.push(answer["choices"][0]["message"].clone());
            }
            let mut asked: Vec<usize> = replicas
                .iter()
                .map(|replica| replica.bodies().len())
                .collect();
            asked
                .iter_mut()
                .zip(before)
                .for_each(|(asked, before)| *asked -= before);
            asked.sort_unstable();
            assert_eq!(asked, [0, 0, 4], "{model} {conversation}");
        }
    }
}

/// Everything that is logged, of every level.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What no log and no row may hold: keys, and words of what clients send.
const SECRETS: [&str; 4] = [
    "sk-of-client",
    "sk-of-engine",
    "sk-unknown",
    "zebra-crossing",
];

fn assert_silent(text: &str) {
    for secret in SECRETS {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}

/// A gateway that knows one key, before an engine that is asked with another, with its log in a folder.
async fn keyed(echo: &Echo, folder: &Path) -> World {
    let small = Pool {
        endpoints: vec![Endpoint {
            url: echo.url.clone(),
            api_key: Some(Secret::new("sk-of-engine")),
        }],
        ..pool("small", &[])
    };
    let mut plan = plan(vec![small]);
    plan.auth = Auth::ApiKeys(vec![key("acme", "sk-of-client", &[Scope::Ask])]);
    plan.logs.sink = LogSink::File;
    plan.limits.request_timeout_ms = 500;
    let assets = Assets {
        state_dir: Some(folder.to_path_buf()),
        ..assets(prefers(0, 1), None)
    };
    World::with_assets(plan, assets).await
}

/// The log's rows, once there are so many.
async fn rows(folder: &Path, count: usize) -> String {
    let written = async {
        loop {
            let rows = std::fs::read_to_string(folder.join("decisions.jsonl")).unwrap();
            if rows.lines().count() >= count {
                return rows;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), written)
        .await
        .unwrap()
}

#[tokio::test]
async fn keys_and_prompts_never_stand_in_logs_however_a_request_ends() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // For the whole process: of a subscriber of one thread, a place that another thread comes by first never hears.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    for mode in [
        Mode::Echo,
        Mode::Quote(400),
        Mode::Quote(401),
        Mode::Quote(422),
        Mode::Quote(500),
        Mode::BreakInTheMiddle,
        Mode::EndInTheMiddle,
        Mode::HangInTheMiddle,
        Mode::Overflow,
    ] {
        let (echo, folder) = (Echo::start(mode).await, tempfile::tempdir().unwrap());
        let world = keyed(&echo, folder.path()).await;
        let ask = async |bearer: &str, body: String| {
            let headers = [("authorization", bearer)];
            let path = "/v1/chat/completions";
            world
                .send(Method::POST, path, &headers, body)
                .await
                .text()
                .await;
        };
        for model in ["auto", "small-model", "zebra-crossing"] {
            for stream in [false, true] {
                let more = json!({"stream": stream, "user": "zebra-crossing"});
                let body = asking_with(model, "zebra-crossing at noon", &more).to_string();
                ask("Bearer sk-of-client", body.clone()).await;
                ask("Bearer sk-unknown", body).await;
            }
        }
        let role = r#"{"model": "auto", "messages": [{"role": "zebra-crossing", "content": 1}]}"#;
        for body in [role, "zebra-crossing"] {
            ask("Bearer sk-of-client", body.to_owned()).await;
        }
        assert_silent(&rows(folder.path(), 4).await);
    }
    let logged = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("pool `small` answered 500"), "{logged}");
    assert_silent(&logged);
}
