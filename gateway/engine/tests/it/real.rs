//! The real engine with SmolLM2: usage, timings, log-probabilities, overflow, and what an abort frees.

use crate::doubles::{pool, read, request};
use futures_util::StreamExt;
use std::time::{Duration, Instant};
use weir_engine::{EngineError, Engines};
use weir_testenv::LlamaServer;

#[tokio::test]
async fn smollm2_answers_with_usage_timings_and_log_probabilities() {
    let Some(server) = LlamaServer::with_smollm2(512) else {
        return;
    };
    let engines = Engines::new();
    let pool = pool(&[&server.url()]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let probed = engines.probe(&pool, &pool.endpoints[0], deadline).await;
    assert!(probed.is_ok(), "a healthy engine generates: {probed:?}");

    let mut asked = request(Duration::from_secs(60));
    asked.body.insert("logprobs".into(), true.into());
    asked.body.insert("max_tokens".into(), 8.into());
    // Greedy: the end of an answer, or half an emoji, would be a token of the usage that has no event of its own.
    asked.body.insert("temperature".into(), 0.into());
    let mut stream = engines.chat(&pool, asked).await.unwrap();
    let (mut logprobs, mut usage, mut timings, mut finish) = (0, None, None, None);
    while let Some(event) = stream.next().await {
        let event = event.unwrap();
        assert!(
            event
                .logprobs
                .iter()
                .all(|logprob| (-100.0..=0.0).contains(logprob))
        );
        logprobs += event.logprobs.len();
        usage = event.usage.or(usage);
        timings = event.timings.or(timings);
        finish = event.finish_reason.or(finish);
    }
    let usage = usage.unwrap();
    assert_eq!(usage.completion_tokens as usize, logprobs);
    assert!(usage.prompt_tokens > 0 && timings.unwrap().completion_ms > 0.0);
    assert!(finish.is_some());

    let mut long = request(Duration::from_secs(60));
    let text = "word ".repeat(2000);
    long.body["messages"][0]["content"] = text.into();
    let error = engines.chat(&pool, long).await.unwrap_err();
    assert!(
        matches!(error, EngineError::Context { prompt_tokens, context_tokens: 512, .. } if prompt_tokens > 2000),
        "{error:?}"
    );

    // The one slot is busy with an endless answer; dropping it must free the slot for the next request.
    let mut endless = request(Duration::from_secs(60));
    endless.body.insert("ignore_eos".into(), true.into());
    drop(engines.chat(&pool, endless).await.unwrap());
    let mut next = request(Duration::from_secs(60));
    next.body.insert("max_tokens".into(), 4.into());
    next.body.insert("temperature".into(), 0.into());
    let (text, error) = read(engines.chat(&pool, next).await.unwrap()).await;
    assert!(error.is_none() && !text.is_empty(), "{error:?}");
}
