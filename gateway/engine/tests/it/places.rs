//! More requests than a pool works on at once: who waits, who goes first, who is refused; and a second replica beside a silent one.

use crate::doubles::{Does, Double, ask, pool, read, request};
use std::time::Duration;
use tokio::task::JoinHandle;
use weir_engine::{ChatRequest, ChatStream, EngineError, Engines, PoolLoad, Priority};
use weir_plan::{Endpoint, Pool};

const ANSWERS: Does = Does::Answers { chunk: 1 << 20 };

/// Replicas that begin an answer and never end it, with a place each.
async fn busy(count: usize) -> (Vec<Double>, Pool) {
    let mut replicas = Vec::new();
    for _ in 0..count {
        replicas.push(Double::start(Does::HangsInTheMiddle).await);
    }
    let urls: Vec<&str> = replicas.iter().map(|double| double.url.as_str()).collect();
    let pool = Pool {
        slots: 1,
        ..pool(&urls)
    };
    (replicas, pool)
}

fn load(engines: &Engines) -> PoolLoad {
    engines.loads().remove(0)
}

/// A request that waits for a place when this returns.
async fn waits(
    engines: &Engines,
    pool: &Pool,
    priority: Priority,
) -> JoinHandle<Result<ChatStream, EngineError>> {
    let before = load(engines).waiting;
    let asking = tokio::spawn({
        let (engines, pool) = (engines.clone(), pool.clone());
        let request = ChatRequest {
            priority,
            ..request(Duration::from_secs(20))
        };
        async move { engines.chat(&pool, request).await }
    });
    while load(engines).waiting == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    asking
}

#[tokio::test]
async fn who_finds_no_place_waits_and_asks_the_replica_that_is_free_first() {
    let (replicas, pool) = busy(2).await;
    let engines = Engines::new();
    engines.set_pools([&pool]);
    let mut held = vec![
        ask(&engines, &pool).await.unwrap(),
        ask(&engines, &pool).await.unwrap(),
    ];
    let asked = |replicas: &[Double]| replicas.iter().map(Double::requests).collect::<Vec<_>>();
    assert_eq!(asked(&replicas), [1, 1]);
    let third = waits(&engines, &pool, Priority::Normal).await;
    assert_eq!(asked(&replicas), [1, 1]);
    assert_eq!(
        engines.load("small"),
        3,
        "what waits is a load on the pool too"
    );
    drop(held.pop());
    let third = third.await.unwrap().unwrap();
    assert!(third.queued() > Duration::ZERO);
    assert_eq!(asked(&replicas).iter().sum::<usize>(), 3);
    assert_eq!(load(&engines).waiting, 0);
    assert_eq!(load(&engines).errors, 0);
}

#[tokio::test]
async fn work_in_the_background_has_its_turn_when_nobody_else_waits() {
    let (_replicas, pool) = busy(1).await;
    let engines = Engines::new();
    engines.set_pools([&pool]);
    let held = ask(&engines, &pool).await.unwrap();
    let background = waits(&engines, &pool, Priority::Low).await;
    let somebody = waits(&engines, &pool, Priority::Normal).await;
    drop(held);
    let somebody = somebody.await.unwrap().unwrap();
    assert!(!background.is_finished());
    drop(somebody);
    background.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_gets_no_place_in_time_is_told_and_no_replica_is_asked() {
    let (replicas, pool) = busy(1).await;
    let engines = Engines::new();
    engines.set_pools([&pool]);
    let _held = ask(&engines, &pool).await.unwrap();
    let refused = engines
        .chat(&pool, request(Duration::from_millis(50)))
        .await;
    let error = refused.unwrap_err();
    assert!(matches!(error, EngineError::Busy { .. }), "{error:?}");
    assert_eq!(error.kind(), "overloaded");
    assert_eq!(replicas[0].requests(), 1);
    assert_eq!((load(&engines).requests, load(&engines).errors), (2, 1));
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_queue() {
    let (_replicas, pool) = busy(1).await;
    let engines = Engines::new();
    engines.set_pools([&pool]);
    let held = ask(&engines, &pool).await.unwrap();
    let gone = waits(&engines, &pool, Priority::Normal).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert_eq!(load(&engines).waiting, 0);
    drop(held);
    ask(&engines, &pool).await.unwrap();
}

#[tokio::test]
async fn a_replica_that_comes_takes_who_waits() {
    let (replicas, both) = busy(2).await;
    let one = Pool {
        endpoints: both.endpoints[..1].to_vec(),
        ..both.clone()
    };
    let engines = Engines::new();
    engines.set_pools([&one]);
    let _held = ask(&engines, &one).await.unwrap();
    let waiting = waits(&engines, &one, Priority::Normal).await;
    engines.set_pools([&both]);
    waiting.await.unwrap().unwrap();
    assert_eq!(replicas[1].requests(), 1);
}

#[tokio::test]
async fn a_second_replica_is_asked_beside_one_that_is_silent_and_the_first_is_told_to_stop() {
    let mut silent = Double::start(Does::HangsBeforeHead).await;
    let answers = Double::start(ANSWERS).await;
    let hedged = Pool {
        hedge_after_ms: Some(20),
        ..pool(&[&silent.url, &answers.url])
    };
    let engines = Engines::new();
    engines.set_pools([&hedged]);
    while silent.requests() == 0 {
        let stream = ask(&engines, &hedged).await.unwrap();
        assert_eq!(read(stream).await.0, "hello world");
    }
    assert_eq!(load(&engines).hedged, 1);
    silent.all_closed().await;
    assert_eq!(load(&engines).in_flight, 0);
    assert_eq!(load(&engines).errors, 0);
}

#[tokio::test]
async fn nobody_is_asked_twice_where_no_place_is_free() {
    let silent = Double::start(Does::HangsBeforeHead).await;
    let (replicas, taken) = busy(1).await;
    let hedged = Pool {
        hedge_after_ms: Some(10),
        endpoints: vec![Endpoint::keyless(&silent.url), taken.endpoints[0].clone()],
        ..taken.clone()
    };
    let engines = Engines::new();
    engines.set_pools([&hedged]);
    let _held = ask(&engines, &taken).await.unwrap();
    // The other one is asked when the silent one has had its half of the time, as without hedging.
    let stream = engines.chat(&hedged, request(Duration::from_millis(400)));
    stream.await.unwrap();
    assert_eq!((silent.requests(), replicas[0].requests()), (1, 2));
    assert_eq!(load(&engines).hedged, 0);
}
