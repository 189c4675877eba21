//! Connections to engines: used again, replaced when an engine closed them, closed when nobody needs them.

use crate::doubles::{Does, Double, ask, pool, read};
use weir_engine::Engines;

#[tokio::test]
async fn the_next_request_takes_the_connection_of_the_last_until_nobody_asks() {
    let mut double = Double::start(Does::Answers { chunk: 1 << 20 }).await;
    let (engines, pool) = (Engines::new(), pool(&[&double.url]));
    for _ in 0..3 {
        let (text, error) = read(ask(&engines, &pool).await.unwrap()).await;
        assert_eq!((text.as_str(), error.is_none()), ("hello world", true));
        assert_eq!(double.open(), 1);
    }
    let at_once = futures_util::future::join(ask(&engines, &pool), ask(&engines, &pool)).await;
    assert_eq!(double.open(), 2, "each carries one request at a time");
    for stream in [at_once.0, at_once.1] {
        read(stream.unwrap()).await;
    }
    double.all_closed().await;
}

#[tokio::test]
async fn a_kept_connection_that_the_engine_closed_costs_no_request() {
    let mut double = Double::start(Does::AnswersOnce).await;
    let (engines, pool) = (Engines::new(), pool(&[&double.url]));
    for number in 1..4 {
        let (text, error) = read(ask(&engines, &pool).await.unwrap()).await;
        assert_eq!((text.as_str(), error.is_none()), ("hello world", true));
        assert_eq!(double.requests(), number, "none was sent twice");
        double.all_closed().await;
    }
}
