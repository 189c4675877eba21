//! One engine, one fault: each ends as one typed error, and an error never shows an address or a key.

use crate::doubles::{Does, Double, ask, nobody, pool, read, request};
use futures_util::StreamExt;
use std::time::{Duration, Instant};
use weir_engine::{EngineError, Engines, Fault, ForwardRequest, Phase, Priority, Usage};
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

fn forwarding(body: &str) -> ForwardRequest<'static> {
    ForwardRequest {
        path: "/v1/chat/completions",
        body: body.to_owned().into(),
        prefix: None,
        priority: Priority::Normal,
        deadline: Instant::now() + Duration::from_secs(20),
        offered: Vec::new(),
        choices: 1,
    }
}

fn answers(body: &'static str) -> Does {
    let (status, head) = (200, "content-type: application/json\r\n");
    Does::Refuses { status, head, body }
}

#[tokio::test]
async fn forwarded_bytes_are_untouched_but_for_the_models_name() {
    let body = r#"{ "model" : "smol",  "messages":[] , "x": 1.50 }"#;
    let answer = r#"{ "choices" : [{"message":{"content":"hi"}}], "y": 1.50 }"#;
    let double = Double::start(answers(answer)).await;
    let pool = pool(&[&double.url]);
    let forwarded = Engines::new().forward(&pool, forwarding(body)).await;
    assert_eq!(forwarded.unwrap().body, answer);
    let sent = double.last_request();
    assert!(
        sent.ends_with(r#"{ "model" : "smol-upstream",  "messages":[] , "x": 1.50 }"#),
        "{sent}"
    );
}

#[tokio::test]
async fn a_forwarded_stream_gives_the_engines_own_events() {
    let event = r#"{ "choices" : [{"text":"hi","index":0,"finish_reason":"stop"}], "y": 1.50 }"#;
    let stream = r#"data: { "choices" : [{"text":"hi","index":0,"finish_reason":"stop"}], "y": 1.50 }

data: [DONE]

"#;
    let double = Double::start(Does::Streams(stream)).await;
    let pool = pool(&[&double.url]);
    let engines = Engines::new();
    let mut events = engines
        .forward_stream(&pool, forwarding("{}"))
        .await
        .unwrap();
    let first = events.next().await.unwrap().unwrap();
    assert_eq!(
        (first.raw, first.delta.as_deref()),
        (event.into(), Some("hi"))
    );
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn of_two_answers_in_one_stream_both_must_end() {
    let both = r#"data: {"choices":[{"index":0,"delta":{"content":"a"}}]}

data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: {"choices":[{"index":1,"delta":{"content":"b"}}]}

data: {"choices":[{"index":1,"delta":{},"finish_reason":"length"}]}

"#;
    let one = both.rsplit_once("data:").unwrap().0;
    for (stream, ends) in [(both, true), (one, false)] {
        let double = Double::start(Does::Streams(stream.to_owned().leak())).await;
        let pool = pool(&[&double.url]);
        let asked = ForwardRequest {
            choices: 2,
            ..forwarding("{}")
        };
        let events = Engines::new().forward_stream(&pool, asked).await.unwrap();
        let events: Vec<_> = events.collect().await;
        assert_eq!(events.iter().all(Result::is_ok), ends, "{events:?}");
        let other = events[2].as_ref().unwrap();
        assert!(other.delta.is_none() && other.aside, "{other:?}");
    }
}

#[tokio::test]
async fn a_whole_answer_that_is_an_error_or_nothing_is_an_error() {
    for (body, says) in [
        ("", "not a completion"),
        ("<html>", "not a completion"),
        (r#"{"choices":[]}"#, "not a completion"),
        (
            r#"{"error":{"message":"out of memory","code":503}}"#,
            "503: out of memory",
        ),
    ] {
        let double = Double::start(answers(body)).await;
        let pool = pool(&[&double.url]);
        let error = Engines::new()
            .forward(&pool, forwarding("{}"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains(says), "{body}: {error}");
        assert!(error.retryable(), "{body}");
        assert_silent(&error);
    }
}

#[tokio::test]
async fn a_stream_that_ends_without_a_finish_reason_is_an_error_also_after_done() {
    let cut = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"}}]}\n\n";
    let done =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"}}]}\n\ndata: [DONE]\n\n";
    for stream in [cut, done] {
        let (text, error) = outcome(Does::Streams(stream)).await;
        assert_eq!(text, "hello", "{stream}");
        let error = error.expect("an error");
        assert!(error.retryable(), "{error}");
        assert_silent(&error);
    }
}

#[tokio::test]
async fn an_empty_stream_is_an_error_and_another_replica_is_asked() {
    let role = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\ndata: [DONE]\n\n";
    for stream in ["", "data: [DONE]\n\n", ": ping\n\n", role] {
        let (text, error) = outcome(Does::Streams(stream)).await;
        assert!(error.is_some() && text.is_empty(), "{stream:?}");
        let empty = Double::start(Does::Streams(stream)).await;
        let good = Double::start(Does::Answers { chunk: 64 }).await;
        let engines = Engines::new();
        let pool = pool(&[&empty.url, &good.url]);
        for _ in 0..4 {
            let (text, error) = read(ask(&engines, &pool).await.unwrap()).await;
            assert_eq!(
                (text.as_str(), error.is_none()),
                ("hello world", true),
                "{stream:?}"
            );
        }
    }
}

#[tokio::test]
async fn calls_in_the_text_become_calls_where_tools_are_offered_and_only_there() {
    let stream = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"<|tool_call_start|>[add(a=1)\"}}]}\n\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"]<|tool_call_end|>\"}}]}\n\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let double = Double::start(Does::Streams(stream)).await;
    let pool = pool(&[&double.url]);
    let mut asked = request(Duration::from_secs(20));
    for offers in [false, true] {
        if offers {
            let tools = serde_json::json!([{"type": "function", "function": {"name": "add"}}]);
            asked.body.insert("tools".to_owned(), tools);
        }
        let mut events = Engines::new().chat(&pool, asked.clone()).await.unwrap();
        let (mut text, mut calls, mut reason) = (String::new(), 0, None);
        while let Some(event) = events.next().await {
            let event = event.unwrap();
            text.push_str(event.delta.as_deref().unwrap_or_default());
            calls += usize::from(event.aside);
            reason = event.finish_reason.or(reason);
        }
        let expected = if offers {
            ("", 2, "tool_calls")
        } else {
            (LFM2_CALL, 0, "stop")
        };
        assert_eq!((text.as_str(), calls, reason.as_deref().unwrap()), expected);
    }
}

const LFM2_CALL: &str = "<|tool_call_start|>[add(a=1)]<|tool_call_end|>";

#[tokio::test]
async fn embeddings_come_back_in_the_order_of_their_texts() {
    let double = Double::start(Does::Embeds).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let inputs = ["a".to_owned(), "b".to_owned()];
    let pool = pool(&[&double.url]);
    let embedded = Engines::new()
        .embeddings(&pool, &inputs, deadline)
        .await
        .unwrap();
    assert_eq!(embedded.vectors, [[1.0, 0.0], [0.0, 1.0]]);
    assert_eq!(embedded.tokens, Some(7));
    let one = Engines::new()
        .embeddings(&pool, &inputs[..1], deadline)
        .await
        .unwrap_err();
    assert!(
        matches!(one, EngineError::BadEvent { .. }),
        "two vectors for one text"
    );
}
