//! Asking engines for token counts: vLLM by recorded answers, llama.cpp by the real one.

use crate::doubles::{Does, Double, pool};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use weir_engine::{EngineError, Engines, PoolLoad};
use weir_plan::{Pool, TokenizerApi, Vocabulary};
use weir_testenv::LlamaServer;

fn counting(api: TokenizerApi, urls: &[&str]) -> Pool {
    let model = "sha256:00".to_owned();
    Pool {
        vocabulary: Some(Vocabulary { api, model }),
        ..pool(urls)
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn body_of(request: &str) -> Value {
    serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

#[tokio::test]
async fn vllm_is_asked_for_texts_and_conversations_and_its_count_is_read() {
    // As vLLM 0.11 answers.
    let recorded =
        r#"{"count":5,"max_model_len":8192,"tokens":[9707,11,1879,0,151645],"token_strs":null}"#;
    let (status, head) = (200, "content-type: application/json\r\n");
    let body = recorded;
    let double = Double::start(Does::Refuses { status, head, body }).await;
    let (engines, pool) = (Engines::new(), counting(TokenizerApi::Vllm, &[&double.url]));
    engines.set_pools([&pool]);
    let text = engines.text_tokens(&pool, "Hello, world!", soon()).await;
    assert_eq!(text.unwrap(), 5);
    let request = double.last_request();
    assert!(request.starts_with("POST /tokenize "), "{request}");
    assert!(
        request.contains("authorization: Bearer sk-never-shown"),
        "{request}"
    );
    let asked =
        json!({"model": "smol-upstream", "prompt": "Hello, world!", "add_special_tokens": false});
    assert_eq!(body_of(&request), asked);

    let turns = [("user", "Hello"), ("assistant", "Hi")];
    assert_eq!(engines.chat_tokens(&pool, &turns, soon()).await.unwrap(), 5);
    let asked = json!({"model": "smol-upstream", "messages": [
        {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"},
    ]});
    assert_eq!(body_of(&double.last_request()), asked);
    let none = PoolLoad {
        pool: "small".to_owned(),
        ..PoolLoad::default()
    };
    assert_eq!(engines.loads(), [none], "it is no request of the pool");
}

#[tokio::test]
async fn what_is_no_count_is_an_error_and_the_breaker_hears_nothing_of_it() {
    let answers = [
        (200, "{\"tokens\":[1]}"),
        (404, "{\"detail\":\"Not Found\"}"),
        (500, ""),
    ];
    for (status, body) in answers {
        let double = Double::start(Does::Refuses {
            status,
            head: "",
            body,
        })
        .await;
        let (engines, pool) = (Engines::new(), counting(TokenizerApi::Vllm, &[&double.url]));
        for _ in 0..20 {
            let error = engines.text_tokens(&pool, "hi", soon()).await.unwrap_err();
            let status_of = |error| match error {
                EngineError::Status { status, .. } => status,
                EngineError::BadEvent { .. } => 200,
                other => panic!("{other:?}"),
            };
            assert_eq!(status_of(error), status);
        }
        assert!(engines.available(&pool));
    }
}

#[tokio::test]
async fn nobody_is_asked_where_the_plan_does_not_say_how() {
    let double = Double::start(Does::Answers { chunk: 64 }).await;
    let (engines, silent) = (Engines::new(), pool(&[&double.url]));
    assert!(engines.text_tokens(&silent, "hi", soon()).await.is_err());
    assert!(
        engines
            .chat_tokens(&silent, &[("user", "hi")], soon())
            .await
            .is_err()
    );
    let away = counting(TokenizerApi::LlamaCpp, &[]);
    let error = engines.text_tokens(&away, "hi", soon()).await.unwrap_err();
    assert!(matches!(error, EngineError::NoEndpoint { .. }), "{error:?}");
    assert_eq!(double.requests(), 0);
}

#[tokio::test]
async fn llama_cpp_counts_a_conversation_as_its_own_usage_says() {
    let Some(server) = LlamaServer::with_smollm2(1024) else {
        return;
    };
    let (engines, pool) = (
        Engines::new(),
        counting(TokenizerApi::LlamaCpp, &[&server.url()]),
    );
    for text in [
        "What does zip() return?",
        "请用中文解释。🙂👩‍👩‍👧‍👦",
        "def f(x):\n\treturn {'a': [1]}",
    ] {
        let messages =
            json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]);
        let asked = json!({"messages": messages, "max_tokens": 1}).to_string();
        let (_, answer) = server.call("POST", "/v1/chat/completions", &asked).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let turns = [("system", "Be brief."), ("user", text)];
        let counted = engines.chat_tokens(&pool, &turns, soon()).await.unwrap();
        assert_eq!(json!(counted), answer["usage"]["prompt_tokens"], "{text}");
        assert!(engines.text_tokens(&pool, text, soon()).await.unwrap() < counted);
    }
}
