//! What goes wrong over gRPC: the same errors as over HTTP, as statuses, and nothing that ends silently.

use crate::echo::{Echo, Mode};
use crate::grpc::{Said, asking, client, read, said, text_of, with, without_a_clock};
use crate::leavers::until_idle;
use crate::world::{World, key, plan, pool, prefers};
use bytes::Bytes;
use http::Method;
use std::time::Duration;
use tonic::{Code, Request};
use weir_plan::{Auth, Budgets, Pool, Privacy, Scope, TenantLimits};
use weir_proto::gateway::v1::{ChatRequest, ListModelsRequest, Message, Weir};

fn expected(code: Code, reason: &str, kind: &str) -> Said {
    Said {
        code,
        reason: reason.to_owned(),
        kind: kind.to_owned(),
        field: None,
        wait_s: None,
    }
}

fn of_field(code: Code, (reason, kind): (&str, &str), field: &str) -> Said {
    Said {
        field: Some(field.to_owned()),
        ..expected(code, reason, kind)
    }
}

#[tokio::test]
async fn keys_scopes_and_budgets_are_those_of_http() {
    let echo = Echo::start(Mode::Echo).await;
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.auth = Auth::ApiKeys(vec![
        key("acme", "sk-acme", &[Scope::Ask]),
        key("globex", "sk-globex", &[Scope::Memory]),
    ]);
    let budgets = Budgets {
        requests_per_minute: Some(1.0),
        ..Budgets::default()
    };
    let limits = TenantLimits {
        budgets,
        ..TenantLimits::within(Privacy::Cloud)
    };
    plan.tenants = [("acme".to_owned(), limits)].into();
    let world = World::start(plan, prefers(0, 1)).await;
    let mut client = client(&world).await;
    let invalid = || {
        expected(
            Code::Unauthenticated,
            "invalid_api_key",
            "authentication_error",
        )
    };
    let denied = expected(Code::PermissionDenied, "missing_scope", "permission_error");
    let none: &[(&'static str, &str)] = &[];
    for (metadata, refusal) in [
        (none, invalid()),
        (&[("authorization", "Bearer sk-wrong")], invalid()),
        (&[("authorization", "Bearer sk-globex")], denied),
    ] {
        let refused = client.chat(with(asking("auto", "hi"), metadata)).await;
        assert_eq!(said(&refused.unwrap_err()), refusal);
        let refused = client
            .chat_stream(with(asking("auto", "hi"), metadata))
            .await;
        assert_eq!(said(&refused.unwrap_err()), refusal);
        let refused = client
            .list_models(with(ListModelsRequest {}, metadata))
            .await;
        assert_eq!(said(&refused.unwrap_err()), refusal);
    }
    let metrics = world.get("/metrics").await.text().await;
    let counted = r#"weir_requests_total{route="/v1/chat/completions",status="401"} 4"#;
    assert!(metrics.contains(counted), "{metrics}");

    let acme = [("authorization", "Bearer sk-acme")];
    client
        .chat(with(asking("auto", "hi"), &acme))
        .await
        .unwrap();
    let refused = client
        .chat(with(asking("auto", "hi"), &acme))
        .await
        .unwrap_err();
    let wait = said(&refused).wait_s.unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let refusal = expected(
        Code::ResourceExhausted,
        "rate_limit_exceeded",
        "rate_limit_error",
    );
    let wait_s = Some(wait);
    assert_eq!(said(&refused), Said { wait_s, ..refusal });
    let metadata = refused.metadata();
    assert_eq!(metadata.get("retry-after").unwrap(), &wait.to_string());
    assert!(metadata.contains_key("x-should-retry"));
    assert_eq!(echo.bodies().len(), 1);
}

/// Asks whole and as a stream, and both are refused so.
async fn refused(world: &World, asked: ChatRequest, refusal: &Said) {
    let mut client = client(world).await;
    let whole = client.chat(asked.clone()).await.unwrap_err();
    assert_eq!(&said(&whole), refusal, "{asked:?}");
    let stream = client.chat_stream(asked).await.unwrap_err();
    assert_eq!(&said(&stream), refusal);
}

#[tokio::test]
async fn a_request_that_cannot_be_served_is_refused_by_its_field() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let wizard = Message {
        role: "wizard".to_owned(),
        ..Message::default()
    };
    let unknown = ("model_not_found", "not_found_error");
    let unknown = of_field(Code::NotFound, unknown, "model");
    refused(&world, asking("no-such", "hi"), &unknown).await;
    for (asked, field) in [
        (
            ChatRequest {
                messages: vec![wizard],
                ..asking("auto", "hi")
            },
            "messages[0].role",
        ),
        (
            ChatRequest {
                temperature: Some(3.0),
                ..asking("auto", "hi")
            },
            "temperature",
        ),
        (
            ChatRequest {
                extra: Some("no JSON".to_owned()),
                ..asking("auto", "hi")
            },
            "extra",
        ),
    ] {
        let invalid = ("invalid_value", "invalid_request_error");
        refused(
            &world,
            asked,
            &of_field(Code::InvalidArgument, invalid, field),
        )
        .await;
    }
    assert!(echo.bodies().is_empty());
}

#[tokio::test]
async fn a_request_beyond_its_privacy_is_denied() {
    let echo = Echo::start(Mode::Echo).await;
    let far = Pool {
        privacy: Privacy::Cloud,
        ..pool("cloud", &[&echo])
    };
    let world = World::start(plan(vec![far]), prefers(0, 1)).await;
    for model in ["auto", "cloud-model"] {
        let local = Weir {
            privacy: Some("local".to_owned()),
            ..Weir::default()
        };
        let asked = ChatRequest {
            weir: Some(local),
            ..asking(model, "hi")
        };
        let limit = ("privacy_limit", "permission_error");
        let denied = of_field(Code::PermissionDenied, limit, "weir.privacy");
        refused(&world, asked, &denied).await;
    }
    assert_eq!(echo.connections(), 0);
}

#[tokio::test]
async fn a_message_is_as_large_as_a_body_may_be() {
    let echo = Echo::start(Mode::Echo).await;
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.limits.body_max_bytes = 6 << 20;
    let world = World::start(plan, prefers(0, 1)).await;
    let mut client = client(&world).await;
    // Larger than what gRPC's libraries take by themselves.
    let fits = asking("small-model", &"x".repeat(5 << 20));
    client = client.max_decoding_message_size(usize::MAX);
    client.chat(fits).await.unwrap();
    let refused = client
        .chat(asking("small-model", &"x".repeat(7 << 20)))
        .await;
    let refusal = expected(
        Code::ResourceExhausted,
        "body_too_large",
        "invalid_request_error",
    );
    assert_eq!(said(&refused.unwrap_err()), refusal);
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_the_engine_is_free() {
    let echo = Echo::start(Mode::Hang).await;
    let world = World::of(&echo).await;
    let mut client = without_a_clock(&world);
    for model in ["auto", "small-model"] {
        for mode in [Mode::Hang, Mode::HangInTheMiddle] {
            echo.set(mode);
            let timeout = [("grpc-timeout", "300m")];
            let asked = with(asking(model, "one two"), &timeout);
            let ended = match client.chat_stream(asked).await {
                Ok(stream) => read(stream.into_inner()).await.1.unwrap_err(),
                Err(status) => status,
            };
            assert_eq!(ended.code(), Code::DeadlineExceeded, "{model} {mode:?}");
            echo.until_open(0).await;
            until_idle(&world).await;
        }
    }
    let wrong = with(asking("auto", "hi"), &[("grpc-timeout", "soon")]);
    let refused = client.chat(wrong).await.unwrap_err();
    let invalid = ("invalid_value", "invalid_request_error");
    let refusal = of_field(Code::InvalidArgument, invalid, "grpc-timeout");
    assert_eq!(said(&refused), refusal);
}

#[tokio::test]
async fn a_call_that_is_cancelled_frees_the_engine() {
    let echo = Echo::start(Mode::Hang).await;
    let world = World::of(&echo).await;
    let mut client = client(&world).await;
    for model in ["auto", "small-model"] {
        let whole = async { drop(client.chat(asking(model, "one two")).await) };
        tokio::select! {
            () = whole => panic!("the engine hangs"),
            () = echo.until_open(1) => {}
        }
        echo.until_open(0).await;
        let streamed = async { drop(client.chat_stream(asking(model, "one two")).await) };
        tokio::select! {
            () = streamed => panic!("the engine hangs"),
            () = echo.until_open(1) => {}
        }
        echo.until_open(0).await;
        until_idle(&world).await;
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_stream_does_not_keep_the_engine() {
    let echo = Echo::start(Mode::Endless).await;
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.limits.request_timeout_ms = 500;
    let world = World::start(plan, prefers(0, 1)).await;
    let mut client = client(&world).await;
    for model in ["auto", "small-model"] {
        let mut stream = client
            .chat_stream(asking(model, "hi"))
            .await
            .unwrap()
            .into_inner();
        echo.until_open(1).await;
        echo.until_open(0).await;
        until_idle(&world).await;
        // Whoever reads on after all hears that it was too late.
        let end = loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{model}: a broken stream ended well"),
                Err(status) => break status,
            }
        };
        assert_eq!(end.code(), Code::DeadlineExceeded, "{model}");
    }
}

#[tokio::test]
async fn an_engine_that_fails_is_a_status_before_and_after_the_first_piece() {
    for model in ["auto", "small-model"] {
        for mode in [Mode::BreakInTheMiddle, Mode::EndInTheMiddle] {
            let echo = Echo::start(mode).await;
            let world = World::of(&echo).await;
            let mut client = client(&world).await;
            let stream = client.chat_stream(asking(model, "one two")).await.unwrap();
            let (chunks, end) = read(stream.into_inner()).await;
            assert_eq!(text_of(&chunks), "echo ", "{model} {mode:?}");
            let refusal = expected(Code::Unavailable, "engine_failed", "api_error");
            assert_eq!(said(&end.unwrap_err()), refusal, "{model} {mode:?}");
            until_idle(&world).await;
        }
        let echo = Echo::start(Mode::Refuse(503)).await;
        let world = World::of(&echo).await;
        let mut client = client(&world).await;
        for stream in [false, true] {
            let refused = match stream {
                true => client.chat_stream(asking(model, "hi")).await.err(),
                false => client.chat(asking(model, "hi")).await.err(),
            };
            let refused = refused.unwrap();
            let told = said(&refused);
            assert_eq!(told.code, Code::Unavailable, "{model}: {refused:?}");
            assert!(told.wait_s.is_some(), "{model}");
        }
    }
}

#[tokio::test]
async fn what_is_no_call_and_what_is_not_served_is_said_so() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let path = "/weir.gateway.v1.Gateway/Chat";
    let json = [("content-type", "application/json")];
    let reply = world.send(Method::POST, path, &json, "{}").await;
    assert_eq!(reply.status.as_u16(), 415);
    assert_eq!(reply.json().await["error"]["code"], "not_grpc");
    let grpc = [("content-type", "application/grpc")];
    for path in [
        "/weir.gateway.v1.Gateway/NoSuch",
        "/weir.control.v1.Control/Connect",
    ] {
        let reply = world
            .send(Method::POST, path, &grpc, Bytes::from_static(&[0; 5]))
            .await;
        assert_eq!(reply.header("grpc-status"), "12", "{path}");
    }
    // A message that is none, and one that is compressed in a way that is not read.
    for (frame, status) in [
        (&[0, 0, 0, 0, 1, 255][..], "13"),
        (&[1, 0, 0, 0, 1, 0][..], "13"),
    ] {
        let reply = world
            .send(Method::POST, path, &grpc, Bytes::from_static(frame))
            .await;
        assert_eq!(reply.header("grpc-status"), status);
    }
    let mut client = client(&world).await;
    let mut late = Request::new(asking("auto", "hi"));
    late.set_timeout(Duration::from_secs(60));
    client.chat(late).await.unwrap();
}
