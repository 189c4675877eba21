//! Pools at zero: who waits, until when, and what is counted.

use crate::doubles::{Does, Double, ask, nobody, pool, read};
use std::time::{Duration, Instant};
use weir_engine::{EngineError, Engines, PoolLoad};
use weir_plan::{Pool, Privacy, WhenCold};

const ANSWERS: Does = Does::Answers { chunk: 1 << 20 };

fn cold() -> Pool {
    Pool {
        when_cold: Some(WhenCold::Hold),
        ..pool(&[])
    }
}

fn serving(pool: &Pool) -> Engines {
    let engines = Engines::new();
    engines.set_pools([pool]);
    engines
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

async fn until(engines: &Engines, reached: impl Fn(&PoolLoad) -> bool) -> PoolLoad {
    let reached = async {
        loop {
            let load = engines.loads().remove(0);
            if reached(&load) {
                return load;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reached)
        .await
        .unwrap()
}

#[tokio::test]
async fn requests_for_a_pool_at_zero_wait_for_its_first_replica() {
    let cold = cold();
    let engines = serving(&cold);
    let waiting = tokio::spawn({
        let (engines, cold) = (engines.clone(), cold.clone());
        async move {
            let warm = engines.warm(&cold, soon()).await.unwrap();
            read(ask(&engines, &warm).await.unwrap()).await.0
        }
    });
    let load = until(&engines, |load| load.waiting == 1).await;
    assert_eq!((load.wanted, load.requests, load.in_flight), (1, 0, 0));
    let good = Double::start(ANSWERS).await;
    let warm = Pool {
        endpoints: pool(&[&good.url]).endpoints,
        ..cold.clone()
    };
    engines.set_pools([&warm]);
    assert_eq!(waiting.await.unwrap(), "hello world");
    let load = until(&engines, |load| load.in_flight == 0).await;
    assert_eq!((load.waiting, load.wanted, load.requests), (0, 1, 1));
    let late = engines.warm(&cold, soon()).await.unwrap();
    assert_eq!(
        late.endpoints, warm.endpoints,
        "an old plan is no reason to wait"
    );
    assert_eq!(engines.loads()[0].wanted, 1);
}

#[tokio::test]
async fn a_request_that_waited_in_vain_ends_at_its_deadline() {
    let cold = cold();
    let engines = serving(&cold);
    let deadline = Instant::now() + Duration::from_millis(30);
    let error = engines.warm(&cold, deadline).await.unwrap_err();
    assert!(matches!(error, EngineError::Cold { .. }), "{error:?}");
    let load = engines.loads().remove(0);
    assert_eq!((load.waiting, load.wanted), (0, 1));
}

#[tokio::test]
async fn nobody_waits_for_a_pool_that_demand_does_not_bring_up() {
    let empty = pool(&[]);
    let engines = serving(&empty);
    let same = engines.warm(&empty, soon()).await.unwrap();
    assert!(same.endpoints.is_empty());
    assert_eq!(engines.loads()[0].wanted, 0);
}

#[tokio::test]
async fn a_waiting_request_is_not_sent_where_its_pool_has_moved() {
    let cold = cold();
    let engines = serving(&cold);
    let elsewhere = Pool {
        privacy: Privacy::Cloud,
        ..pool(&["http://127.0.0.1:1"])
    };
    engines.set_pools([&elsewhere]);
    let same = engines.warm(&cold, soon()).await.unwrap();
    assert!(same.endpoints.is_empty(), "{same:?}");
}

#[tokio::test]
async fn a_replica_that_came_meanwhile_answers_when_those_of_the_older_plan_are_gone() {
    let (gone, good) = (nobody().await, Double::start(ANSWERS).await);
    let old = pool(&[&gone]);
    let engines = serving(&old);
    engines.set_pools([&pool(&[&good.url])]);
    assert_eq!(
        read(ask(&engines, &old).await.unwrap()).await.0,
        "hello world"
    );
    let elsewhere = Pool {
        privacy: Privacy::Cloud,
        ..pool(&[&good.url])
    };
    engines.set_pools([&elsewhere]);
    assert!(
        ask(&engines, &old).await.is_err(),
        "not the same pool any more"
    );
    assert_eq!(good.requests(), 1);
}

#[tokio::test]
async fn each_request_without_a_whole_answer_is_one_error_and_totals_outlive_a_plan() {
    let (dead, breaks, good) = (
        nobody().await,
        Double::start(Does::ClosesInTheMiddle).await,
        Double::start(ANSWERS).await,
    );
    let served = pool(&[&dead, &good.url]);
    let engines = serving(&served);
    for _ in 0..4 {
        assert!(
            read(ask(&engines, &served).await.unwrap())
                .await
                .1
                .is_none()
        );
    }
    let load = engines.loads().remove(0);
    assert_eq!(
        (load.requests, load.errors),
        (4, 0),
        "another replica answered"
    );
    let served = pool(&[&breaks.url]);
    engines.set_pools([&served]);
    assert!(
        read(ask(&engines, &served).await.unwrap())
            .await
            .1
            .is_some()
    );
    let served = pool(&[]);
    engines.set_pools([&served]);
    assert!(ask(&engines, &served).await.is_err());
    engines.set_pools([]);
    assert!(engines.loads().is_empty());
    engines.set_pools([&served]);
    let load = engines.loads().remove(0);
    assert_eq!((load.requests, load.errors, load.in_flight), (6, 2, 0));
}
