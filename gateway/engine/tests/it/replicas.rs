//! Several replicas: who is asked, who is left alone, and what a retry may do.

use crate::doubles::{Does, Double, ask, nobody, pool, read, request};
use futures_util::future::join_all;
use std::time::Duration;
use weir_engine::{ChatRequest, EngineError, Engines, Prefix};

const ANSWERS: Does = Does::Answers { chunk: 1 << 20 };

#[tokio::test]
async fn another_replica_answers_while_nothing_has_been_read() {
    for does in [
        Does::ClosesAtOnce,
        Does::ClosesAfterHead,
        Does::Refuses {
            status: 500,
            head: "",
            body: "",
        },
        Does::Refuses {
            status: 429,
            head: "",
            body: "",
        },
    ] {
        let (bad, good) = (Double::start(does).await, Double::start(ANSWERS).await);
        let engines = Engines::new();
        let pool = pool(&[&bad.url, &good.url]);
        for _ in 0..8 {
            let (text, error) = read(ask(&engines, &pool).await.unwrap()).await;
            assert_eq!(
                (text.as_str(), error.is_none()),
                ("hello world", true),
                "{does:?}"
            );
        }
        assert_eq!(good.requests(), 8, "{does:?}");
    }
}

#[tokio::test]
async fn a_replica_that_hangs_leaves_time_for_another() {
    let (bad, good) = (
        Double::start(Does::HangsBeforeHead).await,
        Double::start(ANSWERS).await,
    );
    let engines = Engines::new();
    let pool = pool(&[&bad.url, &good.url]);
    while bad.requests() == 0 {
        let stream = engines
            .chat(&pool, request(Duration::from_millis(1000)))
            .await
            .unwrap();
        assert_eq!(read(stream).await.0, "hello world");
    }
}

#[tokio::test]
async fn after_the_first_token_nobody_else_is_asked() {
    let (first, second) = (
        Double::start(Does::ClosesInTheMiddle).await,
        Double::start(Does::ClosesInTheMiddle).await,
    );
    let engines = Engines::new();
    let (text, error) = read(
        ask(&engines, &pool(&[&first.url, &second.url]))
            .await
            .unwrap(),
    )
    .await;
    assert!(error.is_some());
    assert_eq!(text, "hello");
    assert_eq!(first.requests() + second.requests(), 1);
}

#[tokio::test]
async fn a_client_fault_is_not_tried_elsewhere_and_opens_no_breaker() {
    for status in [400, 501] {
        let refuses = Does::Refuses {
            status,
            head: "",
            body: r#"{"error":{"message":"no"}}"#,
        };
        let (first, second) = (Double::start(refuses).await, Double::start(refuses).await);
        let (engines, pool) = (Engines::new(), pool(&[&first.url, &second.url]));
        for asked in 1..=12 {
            let error = ask(&engines, &pool).await.unwrap_err();
            assert!(!error.retryable(), "{error}");
            assert_eq!(first.requests() + second.requests(), asked, "{status}");
        }
    }
}

#[tokio::test]
async fn requests_go_to_the_replica_with_fewest_in_flight() {
    let (first, second) = (
        Double::start(Does::HangsInTheMiddle).await,
        Double::start(Does::HangsInTheMiddle).await,
    );
    let engines = Engines::new();
    let pool = pool(&[&first.url, &second.url]);
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(ask(&engines, &pool).await.unwrap());
    }
    assert_eq!((first.requests(), second.requests()), (3, 3));
    assert_eq!(engines.load("small"), 6);
}

#[tokio::test]
async fn a_conversation_stays_with_the_replica_that_has_read_it() {
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Double::start(ANSWERS).await);
    }
    let urls: Vec<&str> = replicas.iter().map(|double| double.url.as_str()).collect();
    let (engines, pool) = (Engines::new(), pool(&urls));
    let conversations = 6;
    for turn in 0..5 {
        for conversation in 0..conversations {
            let mut prefix = Prefix::new("acme", None);
            for number in 0..=turn {
                prefix.push("user", &format!("{conversation} {number} ").repeat(1000));
            }
            let request = ChatRequest {
                prefix: Some(prefix),
                ..request(Duration::from_secs(20))
            };
            let stream = engines.chat(&pool, request).await.unwrap();
            assert!(read(stream).await.1.is_none());
        }
    }
    let asked: Vec<usize> = replicas.iter().map(Double::requests).collect();
    assert_eq!(asked, [10, 10, 10], "two conversations of five turns each");
}

#[tokio::test]
async fn a_dead_replica_is_left_alone_and_tried_again_later() {
    let (dead, good) = (nobody().await, Double::start(ANSWERS).await);
    let engines = Engines::new();
    let pool_of_dead = pool(&[&dead]);
    assert!(matches!(
        ask(&engines, &pool_of_dead).await,
        Err(EngineError::Refused { .. })
    ));
    let error = ask(&engines, &pool_of_dead).await.unwrap_err();
    assert!(
        matches!(error, EngineError::BreakerOpen { .. }),
        "{error:?}"
    );
    assert!(!engines.available(&pool_of_dead));
    let both = pool(&[&dead, &good.url]);
    engines.set_pools(std::slice::from_ref(&both));
    assert!(engines.available(&both));
    engines.set_pools(std::slice::from_ref(&pool_of_dead));
    assert!(matches!(
        ask(&engines, &pool_of_dead).await,
        Err(EngineError::BreakerOpen { .. })
    ));
    let retried = async {
        loop {
            match ask(&engines, &pool_of_dead).await.unwrap_err() {
                EngineError::BreakerOpen { retry_after, .. } => {
                    tokio::time::sleep(retry_after).await;
                }
                error => return error,
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(5), retried)
        .await
        .unwrap();
    assert!(
        matches!(error, EngineError::Refused { .. }),
        "one probe is let through"
    );
}

#[tokio::test]
async fn killing_one_replica_under_load_costs_no_request() {
    let (dying, good) = (Double::start(ANSWERS).await, Double::start(ANSWERS).await);
    let engines = Engines::new();
    let pool = pool(&[&dying.url, &good.url]);
    let mut dying = Some(dying);
    for round in 0..20 {
        if round == 10 {
            drop(dying.take());
        }
        let asked = (0..16).map(|_| async {
            match ask(&engines, &pool).await {
                Ok(stream) => read(stream).await,
                Err(error) => (String::new(), Some(error)),
            }
        });
        for (text, error) in join_all(asked).await {
            assert!(error.is_none(), "round {round}: {error:?}");
            assert_eq!(text, "hello world");
        }
    }
}

#[tokio::test]
async fn a_pool_without_endpoints_says_so() {
    let error = ask(&Engines::new(), &pool(&[])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "pool `small` has no replica that can generate"
    );
    let odd = ask(&Engines::new(), &pool(&["not a url"]))
        .await
        .unwrap_err();
    assert!(matches!(odd, EngineError::BadEndpoint { .. }), "{odd:?}");
}
