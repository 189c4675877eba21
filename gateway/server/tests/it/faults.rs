//! Thousands of answers through engines that refuse, hang, break, lie and die: none hangs, none just ends, none is another's.
//!
//! `WEIR_FAULT_STREAMS` is how many (2,000), `WEIR_FAULT_SEED` the plan of the faults.

use crate::echo::{Echo, Mode};
use crate::fault_proxy::{Fault, FaultProxy};
use crate::world::{World, asking_with, events, plan, pool, prefers, text_of};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use weir_plan::{Endpoint, GatewayPlan, Pool};

const STREAMS: usize = 2_000;
/// Requests begin this far apart.
const EVERY: Duration = Duration::from_millis(8);
/// Time of a request in the plan.
const TIME: Duration = Duration::from_millis(1_500);
/// What is not over by then hangs. Much more than a request's time, since the machine may be busy.
const HANGS: Duration = Duration::from_secs(60);

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Whole,
    /// An error with this code before the first byte.
    Refused(String),
    /// An error event with this code after the beginning of the answer.
    Broken(String),
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

/// Two pools of two replicas each behind proxies, and an address where nobody listens in the first.
async fn spoiled(engine: &Echo) -> (GatewayPlan, Vec<FaultProxy>) {
    let seed = number("WEIR_FAULT_SEED", 7);
    let mut proxies = Vec::new();
    for number in 0..4 {
        proxies.push(FaultProxy::seeded(&engine.url, seed + number).await);
    }
    let nobody = Echo::start(Mode::Echo).await;
    nobody.kill();
    let behind = |name: &str, proxies: &[FaultProxy]| Pool {
        endpoints: proxies
            .iter()
            .map(|proxy| Endpoint::keyless(&proxy.url))
            .collect(),
        slots: 64,
        ..pool(name, &[])
    };
    let mut small = behind("small", &proxies[..2]);
    small.endpoints.push(Endpoint::keyless(&nobody.url));
    let mut plan = plan(vec![small, behind("big", &proxies[2..])]);
    plan.limits.request_timeout_ms = u64::try_from(TIME.as_millis()).unwrap();
    (plan, proxies)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_whole_or_ends_in_a_typed_error_whatever_becomes_of_engines() {
    let engine = Echo::start(Mode::Echo).await;
    let (plan, proxies) = spoiled(&engine).await;
    let world = Arc::new(World::start(plan, prefers(0, 2)).await);
    let streams = usize::try_from(number("WEIR_FAULT_STREAMS", STREAMS as u64)).unwrap();
    let mut pace = tokio::time::interval(EVERY);
    let mut asked = Vec::new();
    for index in 0..streams {
        pace.tick().await;
        asked.push(tokio::spawn(ask(Arc::clone(&world), index)));
    }
    let mut ends = BTreeMap::new();
    for (index, asked) in asked.into_iter().enumerate() {
        *ends
            .entry(
                asked
                    .await
                    .unwrap_or_else(|error| panic!("request {index}: {error}")),
            )
            .or_insert(0) += 1;
    }
    println!("{ends:?}");
    assert!(
        ends.get(&End::Whole) > Some(&(streams / 2)),
        "the engines that work are asked: {ends:?}"
    );
    assert!(
        ends.keys().any(|end| matches!(end, End::Broken(_))),
        "{ends:?}"
    );
    let came = |at_once, like: &dyn Fn(Fault) -> bool| {
        let met = proxies.iter().map(|proxy| proxy.met(at_once, like));
        met.sum::<usize>() > 0
    };
    for fault in [Fault::Reset, Fault::Hang, Fault::Garbage] {
        for at_once in [true, false] {
            assert!(came(at_once, &|met| met == fault), "{at_once} {fault:?}");
        }
    }
    assert!(came(true, &|met| matches!(met, Fault::Status(..))));
    for pool in ["small", "big"] {
        assert_eq!(
            world.gateway.engines().load(pool),
            0,
            "{pool}: a place was kept"
        );
    }
}

/// Asks a question of its own and checks how the answer ends.
async fn ask(world: Arc<World>, index: usize) -> End {
    let model = ["auto", "small-model"][index % 2];
    let stream = index % 4 < 2;
    let words: Vec<String> = (0..1 + index % 9)
        .map(|word| format!("q{index}w{word}"))
        .collect();
    let question = words.join(" ");
    let expected = format!("echo {question}");
    let body = asking_with(model, &question, &json!({"stream": stream}));
    let asked = async {
        let reply = world.chat(&body).await;
        (reply.status, reply.text().await)
    };
    let Ok((status, text)) = tokio::time::timeout(HANGS, asked).await else {
        panic!("{model} {index} hangs");
    };
    if status != StatusCode::OK {
        return End::Refused(code(&serde_json::from_str(&text).unwrap()));
    }
    if !stream {
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            answer["choices"][0]["message"]["content"],
            json!(expected),
            "{model}"
        );
        return End::Whole;
    }
    let (events, done) = events(&text);
    let said = text_of(&events);
    if done {
        assert_eq!(said, expected, "{model}: {text}");
        return End::Whole;
    }
    assert!(expected.starts_with(&said), "{model}: {text}");
    End::Broken(code(
        events
            .last()
            .unwrap_or_else(|| panic!("{model}: an empty stream")),
    ))
}

/// The code of an error in OpenAI's shape, which names nothing of the inside.
fn code(body: &Value) -> String {
    let error = &body["error"];
    for field in ["message", "type", "code"] {
        assert!(error[field].is_string(), "no {field} in {body}");
    }
    assert!(!body.to_string().contains("127.0.0.1"), "{body}");
    error["code"].as_str().unwrap().to_owned()
}
