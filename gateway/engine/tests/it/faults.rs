//! One engine, one fault: each ends as one typed error, and an error never shows an address or a key.

use crate::doubles::{Does, Double, ask, nobody, pool, read, request};
use futures_util::StreamExt;
use std::time::{Duration, Instant};
use weir_engine::{EngineError, Engines, Fault, ForwardRequest, Phase, Usage};
use weir_testenv::UntrustedTlsServer;

fn assert_silent(error: &EngineError) {
    for shown in [error.to_string(), format!("{error}")] {
        assert!(
            !shown.contains("127.0.0.1") && !shown.contains("sk-never-shown"),
            "{shown}"
        );
    }
}

async fn outcome(does: Does) -> (String, Option<EngineError>) {
    let double = Double::start(does).await;
    match ask(&Engines::new(), &pool(&[&double.url])).await {
        Ok(stream) => read(stream).await,
        Err(error) => (String::new(), Some(error)),
    }
}

#[tokio::test]
async fn an_answer_is_read_whole_however_it_is_cut() {
    for does in [
        Does::Answers { chunk: 1 },
        Does::Answers { chunk: 7 },
        Does::Answers { chunk: 1 << 20 },
        Does::AnswersOddly,
    ] {
        let (text, error) = outcome(does).await;
        assert_eq!(text, "hello world", "{does:?}");
        assert!(error.is_none(), "{does:?}: {error:?}");
    }
}

#[tokio::test]
async fn the_engine_is_asked_for_a_stream_with_usage_under_its_own_model_name() {
    let double = Double::start(Does::Answers { chunk: 64 }).await;
    let mut stream = ask(&Engines::new(), &pool(&[&double.url])).await.unwrap();
    let mut usage = None;
    while let Some(event) = stream.next().await {
        usage = event.unwrap().usage.or(usage);
    }
    assert_eq!(
        usage,
        Some(Usage {
            prompt_tokens: 5,
            completion_tokens: 2,
            cached_tokens: 0
        })
    );
    let sent = double.last_request();
    assert!(sent.contains(r#""model":"smol-upstream""#), "{sent}");
    assert!(
        sent.contains(r#""stream_options":{"include_usage":true}"#),
        "{sent}"
    );
    assert!(
        sent.to_lowercase()
            .contains("authorization: bearer sk-never-shown"),
        "{sent}"
    );
}

#[tokio::test]
async fn a_failure_in_the_middle_is_an_error_after_the_text_that_came() {
    for does in [
        Does::ClosesInTheMiddle,
        Does::SendsGarbage,
        Does::SendsErrorEvent,
    ] {
        let (text, error) = outcome(does).await;
        let error = error.unwrap();
        assert_eq!(text, "hello", "{does:?}");
        assert_silent(&error);
        match does {
            Does::ClosesInTheMiddle => {
                assert!(
                    matches!(
                        error,
                        EngineError::Reset {
                            phase: Phase::Answer,
                            ..
                        }
                    ),
                    "{error:?}"
                );
            }
            Does::SendsGarbage => assert!(matches!(error, EngineError::BadEvent { .. })),
            _ => assert_eq!(error.to_string(), "pool `small` answered 500: worker died"),
        }
    }
}

#[tokio::test]
async fn nothing_listening_and_a_broken_connection_are_retryable_faults_of_the_engine() {
    let url = nobody().await;
    let refused = ask(&Engines::new(), &pool(&[&url])).await.unwrap_err();
    assert!(
        matches!(refused, EngineError::Refused { .. }),
        "{refused:?}"
    );
    for does in [Does::ClosesAtOnce, Does::ClosesAfterHead] {
        let (_, error) = outcome(does).await;
        let error = error.unwrap();
        assert!(
            matches!(error, EngineError::Reset { .. }),
            "{does:?} {error:?}"
        );
        assert!(error.retryable() && error.fault() == Fault::Engine);
        assert_silent(&error);
    }
    assert_silent(&refused);
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_refused_and_the_log_says_so() {
    let Some(server) = UntrustedTlsServer::start() else {
        return;
    };
    let error = ask(&Engines::new(), &pool(&[&server.url()]))
        .await
        .unwrap_err();
    let EngineError::Untrusted { source, .. } = &error else {
        panic!("{error:?}");
    };
    let mut causes = vec![source.to_string()];
    let mut next = source.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    assert!(causes.join(": ").contains("UnknownIssuer"), "{causes:?}");
    assert!(error.retryable() && error.fault() == Fault::Configuration);
    assert_silent(&error);
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_ended_by_the_deadline() {
    let double = Double::start(Does::HangsBeforeHead).await;
    let pool = pool(&[&double.url.replace("http://", "https://")]);
    let asked = request(Duration::from_millis(200));
    let error = Engines::new().chat(&pool, asked).await.unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::TimedOut {
                phase: Phase::FirstEvent,
                ..
            }
        ),
        "{error:?}"
    );
    assert_silent(&error);
}

#[tokio::test]
async fn the_deadline_ends_a_request_before_and_inside_the_answer() {
    for (does, phase) in [
        (Does::HangsBeforeHead, Phase::FirstEvent),
        (Does::HangsInTheMiddle, Phase::Answer),
    ] {
        let double = Double::start(does).await;
        let limit = Duration::from_millis(200);
        let error = match Engines::new()
            .chat(&pool(&[&double.url]), request(limit))
            .await
        {
            Ok(stream) => read(stream).await.1.unwrap(),
            Err(error) => error,
        };
        assert!(
            matches!(&error, EngineError::TimedOut { phase: during, .. } if *during == phase),
            "{does:?} {error:?}"
        );
    }
}

#[tokio::test]
async fn statuses_keep_their_meaning() {
    let refuse = |status, head, body| outcome(Does::Refuses { status, head, body });
    let (_, error) = refuse(400, "", r#"{"error":{"message":"bad","type":"invalid"}}"#).await;
    assert_eq!(error.unwrap().fault(), Fault::Client);
    let (_, error) = refuse(401, "", r#"{"error":"key sk-never-shown is wrong"}"#).await;
    let error = error.unwrap();
    assert_eq!(error.fault(), Fault::Configuration);
    assert_silent(&error);
    let (_, error) = refuse(429, "retry-after: 7\r\n", "{}").await;
    assert_eq!(error.unwrap().retry_after(), Some(Duration::from_secs(7)));
    let (_, error) = refuse(500, "", "boom").await;
    assert!(error.unwrap().retryable());
    let (_, error) = refuse(307, "location: http://elsewhere/\r\n", "").await;
    assert!(
        matches!(error, Some(EngineError::Status { status: 502, .. })),
        "never followed"
    );
}

#[tokio::test]
async fn dropping_closes_the_connection_before_and_after_the_first_token() {
    let mut silent = Double::start(Does::HangsBeforeHead).await;
    let engines = Engines::new();
    let target = pool(&[&silent.url]);
    let asking = engines.chat(&target, request(Duration::from_secs(20)));
    let seen = async {
        while silent.requests() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = asking => panic!("the double never answers"),
        () = seen => {}
    }
    silent.all_closed().await;
    assert_eq!(engines.load("small"), 0);

    let mut talking = Double::start(Does::HangsInTheMiddle).await;
    let stream = ask(&engines, &pool(&[&talking.url])).await.unwrap();
    assert_eq!(engines.load("small"), 1);
    drop(stream);
    talking.all_closed().await;
    assert_eq!(engines.load("small"), 0);
}

#[tokio::test]
async fn forwarded_bytes_are_untouched_but_for_the_models_name() {
    use http_body_util::BodyExt;
    let double = Double::start(Does::Answers { chunk: 5 }).await;
    let body = r#"{ "model" : "smol",  "messages":[] , "x": 1.50 }"#;
    let deadline = Instant::now() + Duration::from_secs(20);
    let pool = pool(&[&double.url]);
    let engines = Engines::new();
    let request = ForwardRequest {
        path: "/v1/chat/completions",
        body: body.into(),
        prefix: None,
        deadline,
    };
    let answer = engines.forward(&pool, request).await;
    let answer = answer
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert!(answer.ends_with(b"data: [DONE]\n\n"));
    let sent = double.last_request();
    assert!(
        sent.ends_with(r#"{ "model" : "smol-upstream",  "messages":[] , "x": 1.50 }"#),
        "{sent}"
    );
}

#[tokio::test]
async fn embeddings_come_back_in_the_order_of_their_texts() {
    let double = Double::start(Does::Embeds).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let inputs = ["a".to_owned(), "b".to_owned()];
    let pool = pool(&[&double.url]);
    let vectors = Engines::new()
        .embeddings(&pool, &inputs, deadline)
        .await
        .unwrap();
    assert_eq!(vectors, [[1.0, 0.0], [0.0, 1.0]]);
    let one = Engines::new()
        .embeddings(&pool, &inputs[..1], deadline)
        .await
        .unwrap_err();
    assert!(
        matches!(one, EngineError::BadEvent { .. }),
        "two vectors for one text"
    );
}
