//! Clients that leave: wherever their request is by then, the engine is free again, and nobody else pays for it.

use crate::echo::{Echo, Mode};
use crate::fault_proxy::{Fault, FaultProxy, Spell};
use crate::world::{World, asking_with, plan, pool, prefers};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use weir_plan::{Endpoint, Limits, Pool};

/// Where a request is when its client leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Window {
    /// The connection to the engine is being made: its handshake does not end.
    Connecting,
    /// The engine has the request and has said nothing.
    BeforeTheHead,
    /// The engine has sent its head and no event.
    BeforeTheFirstToken,
    /// The answer has begun.
    InTheMiddle,
}

/// Waits until nothing of any request is left in the gateway.
pub(crate) async fn until_idle(world: &World) {
    let idle = async {
        loop {
            let text = world.get("/metrics").await.text().await;
            let in_flight = text
                .lines()
                .find_map(|line| line.strip_prefix("weir_in_flight "));
            if in_flight == Some("0") && world.gateway.engines().load("small") == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), idle)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_engine_wherever_its_request_is() {
    for window in [
        Window::Connecting,
        Window::BeforeTheHead,
        Window::BeforeTheFirstToken,
        Window::InTheMiddle,
    ] {
        let echo = Echo::start(match window {
            Window::BeforeTheFirstToken => Mode::HangAfterTheHead,
            Window::InTheMiddle => Mode::HangInTheMiddle,
            _ => Mode::Hang,
        })
        .await;
        let spell = match window {
            Window::Connecting => Spell::at_once(Fault::Hang),
            _ => Spell::never(),
        };
        for (model, stream) in [
            ("auto", false),
            ("auto", true),
            ("small-model", false),
            ("small-model", true),
        ] {
            if window == Window::InTheMiddle && model != "auto" && !stream {
                // A whole answer of an engine has no middle here.
                continue;
            }
            let proxy = FaultProxy::always(&echo.url, spell).await;
            let mut small = pool("small", &[]);
            let url = match window {
                Window::Connecting => proxy.url.replace("http://", "https://"),
                _ => proxy.url.clone(),
            };
            small.endpoints = vec![Endpoint::keyless(&url)];
            let world = World::start(plan(vec![small]), prefers(0, 1)).await;
            let body = asking_with(model, "one two", &json!({"stream": stream}));
            let asked = async {
                let mut reply = world.chat(&body).await;
                while reply.body.frame().await.is_some() {}
            };
            let there = async {
                proxy.until_open(1).await;
                if window != Window::Connecting {
                    echo.until_open(1).await;
                }
            };
            tokio::select! {
                () = asked => panic!("{window:?} {model}: the engine hangs"),
                () = there => {}
            }
            // Its future is dropped by now, and its connection with it.
            proxy.until_open(0).await;
            echo.until_open(0).await;
            until_idle(&world).await;
        }
    }
}

/// A pool `small` with a place for everybody.
fn wide(echo: &Echo) -> Pool {
    Pool {
        slots: 64,
        ..pool("small", &[echo])
    }
}

#[tokio::test]
async fn clients_that_leave_do_not_trip_a_breaker() {
    for mode in [Mode::Hang, Mode::HangInTheMiddle] {
        let echo = Echo::start(mode).await;
        let world = World::start(plan(vec![wide(&echo)]), prefers(0, 1)).await;
        for model in ["auto", "small-model"] {
            let body = asking_with(model, "one two", &json!({"stream": true}));
            let leaving = (0..40).map(|_| async {
                let mut reply = world.chat(&body).await;
                while reply.body.frame().await.is_some() {}
            });
            tokio::select! {
                _ = join_all(leaving) => panic!("the engine hangs"),
                () = echo.until_open(40) => {}
            }
            echo.until_open(0).await;
        }
        until_idle(&world).await;
        echo.set(Mode::Echo);
        for model in ["auto", "small-model"] {
            let reply = world.chat(&asking_with(model, "hi", &json!({}))).await;
            assert_eq!(reply.status, StatusCode::OK, "{mode:?} {model}");
        }
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_does_not_keep_the_engine() {
    let echo = Echo::start(Mode::Endless).await;
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.limits.request_timeout_ms = 500;
    let world = World::start(plan, prefers(0, 1)).await;
    for model in ["auto", "small-model"] {
        let mut client = TcpStream::connect(world.authority()).await.unwrap();
        let body = asking_with(model, "hi", &json!({"stream": true})).to_string();
        let length = body.len();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        echo.until_open(1).await;
        echo.until_open(0).await;
        until_idle(&world).await;
    }
}

#[tokio::test]
async fn a_stream_of_http_2_that_is_not_read_ends_alone_and_its_connection_serves_on() {
    let echo = Echo::start(Mode::Endless).await;
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.limits.request_timeout_ms = 500;
    let world = World::start(plan, prefers(0, 1)).await;
    let tcp = TcpStream::connect(world.authority()).await.unwrap();
    let (mut client, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(4096)
        .handshake(TokioIo::new(tcp))
        .await
        .unwrap();
    tokio::spawn(connection);
    let url = format!("http://{}/v1/chat/completions", world.authority());
    let request = |model: &str, extra: serde_json::Value| {
        let body = asking_with(model, "hi", &extra).to_string();
        Request::post(&url).body(Full::<Bytes>::from(body)).unwrap()
    };
    for model in ["auto", "small-model"] {
        echo.set(Mode::Endless);
        let endless = request(model, json!({"stream": true}));
        let unread = client.send_request(endless).await.unwrap();
        echo.until_open(1).await;
        echo.until_open(0).await;
        until_idle(&world).await;
        echo.set(Mode::Echo);
        let reply = client
            .send_request(request(model, json!({})))
            .await
            .unwrap();
        assert_eq!(reply.status(), StatusCode::OK, "{model}");
        let end = unread.into_body().collect().await;
        assert!(end.is_err(), "{model}: a broken stream ended well");
    }
}

#[tokio::test]
async fn what_is_beyond_the_places_is_refused_and_who_was_admitted_is_answered() {
    const PLACES: usize = 8;
    let echo = Echo::start(Mode::HangInTheMiddle).await;
    let mut plan = plan(vec![wide(&echo)]);
    plan.limits = Limits {
        in_flight_max: 8,
        queue_max: 8,
        request_timeout_ms: 60_000,
        ..plan.limits
    };
    let world = World::start(plan, prefers(0, 1)).await;
    let body = asking_with("small-model", "one two", &json!({"stream": true}));
    let mut admitted = Vec::new();
    for _ in 0..PLACES {
        admitted.push(world.chat(&body).await);
    }
    echo.set(Mode::Echo);
    let mut waiting: Vec<_> = (0..PLACES).map(|_| Box::pin(world.chat(&body))).collect();
    let queued = async {
        loop {
            let text = world.get("/metrics").await.text().await;
            if text.lines().any(|line| line == "weir_queued 8") {
                return;
            }
        }
    };
    tokio::select! {
        _ = join_all(&mut waiting) => panic!("there is no place"),
        () = queued => {}
    }
    for refused in join_all((0..200).map(|_| world.chat(&body))).await {
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(!refused.header("retry-after").is_empty());
    }
    assert_eq!(
        echo.bodies().len(),
        PLACES,
        "the engine hears of who was admitted only"
    );
    echo.until_open(PLACES).await;
    for mut reply in admitted {
        assert_eq!(reply.status, StatusCode::OK);
        assert!(
            reply.body.frame().await.unwrap().is_ok(),
            "its answer has begun"
        );
    }
    for reply in join_all(waiting).await {
        assert!(
            reply.text().await.contains("[DONE]"),
            "who waited gets the place of who left"
        );
    }
    until_idle(&world).await;
}
