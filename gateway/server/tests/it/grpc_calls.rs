//! Calls over gRPC are the HTTP requests of the same name: what they answer, record, keep and count is the same.

use crate::echo::{Echo, Mode};
use crate::grpc::{
    asking, asking_for_usage, channel, client, connect, pieces_of, read, text_of, tools, with,
};
use crate::leavers::until_idle;
use crate::world::{World, asking as http_asking, assets, plan, pool, prefers};
use futures_util::stream;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use weir_gateway::gateway::Gateway;
use weir_plan::{CachePlan, GatewayPlan, Pool, Privacy};
use weir_proto::gateway::v1::gateway_client::GatewayClient;
use weir_proto::gateway::v1::{
    ChatReply, ChatRequest, EmbedRequest, ListModelsRequest, Memory, Weir,
};

const SERVICE: &str = "weir.gateway.v1.Gateway";

fn text(reply: &ChatReply) -> &str {
    let message = reply.choices[0].message.as_ref().unwrap();
    message.content.as_deref().unwrap_or_default()
}

/// The values of a row by their paths.
fn leaves(row: &Value) -> BTreeMap<String, Value> {
    fn walk(at: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    walk(&format!("{at}/{name}"), value, found);
                }
            }
            other => {
                found.insert(at.to_owned(), other.clone());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk("", row, &mut found);
    found
}

#[tokio::test]
async fn a_call_is_answered_and_recorded_as_the_request_that_it_stands_for() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let mut client = client(&world).await;
    for model in ["auto", "small-model"] {
        let mut rows = Vec::new();
        for _ in 0..4 {
            let reply = world.chat(&http_asking(model, "hi there")).await;
            rows.push(leaves(&world.row_of(reply).await));
        }
        let called = with(asking(model, "hi there"), &[("x-request-id", "call-7")]);
        let reply = client.chat(called).await.unwrap();
        let metadata = reply.metadata().clone();
        let said = |name: &str| metadata.get(name).unwrap().to_str().unwrap();
        assert_eq!(said("x-weir-model"), "small-model", "{model}");
        assert_eq!(said("x-request-id"), "call-7", "{model}");
        let reply = reply.into_inner();
        assert_eq!(text(&reply), "echo hi there", "{model}");
        assert_eq!(reply.choices[0].finish_reason.as_deref(), Some("stop"));
        let usage = reply.usage.unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (7, 2));
        let path = format!("/v1/decisions/{}", said("x-weir-decision"));
        let row = leaves(&world.get(&path).await.json().await);
        assert_eq!(row["/request_id"], "call-7");
        // What differs between the same requests over HTTP (names, times, draws) may differ here.
        for (path, value) in &rows[0] {
            let varies = rows.iter().any(|row| row.get(path) != Some(value));
            if varies || path.starts_with("/latency_ms") {
                assert!(row.contains_key(path), "{model}: {path} is missing");
            } else {
                assert_eq!(row.get(path), Some(value), "{model}: {path}");
            }
        }
        assert_eq!(row.len(), rows[0].len(), "{model}: {row:?}");
    }
    // Both passed the same bodies on, and were counted in one place.
    let bodies = echo.bodies();
    assert!(
        bodies[0..5]
            .iter()
            .all(|body| body["messages"] == bodies[0]["messages"])
    );
    let metrics = world.get("/metrics").await.text().await;
    let counted = r#"weir_requests_total{route="/v1/chat/completions",status="200"} 10"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn pieces_of_an_answer_come_while_the_model_writes() {
    let echo = Echo::start(Mode::HangInTheMiddle).await;
    let world = World::of(&echo).await;
    let mut client = client(&world).await;
    for model in ["auto", "small-model"] {
        let stream = client.chat_stream(asking(model, "one two")).await.unwrap();
        assert!(stream.metadata().contains_key("x-weir-decision"), "{model}");
        let mut stream = stream.into_inner();
        let first = stream.message().await.unwrap().unwrap();
        assert_eq!(text_of(&[first]), "echo ", "{model}");
        echo.until_open(1).await;
        drop(stream);
        echo.until_open(0).await;
        until_idle(&world).await;
    }
}

#[tokio::test]
async fn a_whole_stream_ends_well_and_tells_the_usage_only_when_asked() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let mut client = client(&world).await;
    for model in ["auto", "small-model"] {
        for asks in [false, true] {
            let asked = match asks {
                true => asking_for_usage(model, "one two three"),
                false => asking(model, "one two three"),
            };
            let stream = client.chat_stream(asked).await.unwrap().into_inner();
            let (chunks, end) = read(stream).await;
            end.unwrap();
            assert_eq!(text_of(&chunks), "echo one two three", "{model}");
            let words = chunks.iter().flat_map(|chunk| &chunk.choices);
            let words =
                words.filter(|choice| choice.delta.as_ref().is_some_and(|d| d.content.is_some()));
            assert_eq!(words.count(), 4, "{model}: a word a piece");
            let reasons = chunks.iter().flat_map(|chunk| &chunk.choices);
            let reasons: Vec<_> = reasons
                .filter_map(|choice| choice.finish_reason.as_deref())
                .collect();
            assert_eq!(reasons, ["stop"], "{model}");
            let used: Vec<u64> = chunks
                .iter()
                .filter_map(|chunk| Some(chunk.usage.as_ref()?.completion_tokens))
                .collect();
            assert_eq!(used, if asks { vec![2] } else { vec![] }, "{model}");
        }
    }
}

#[tokio::test]
async fn tools_reach_the_engine_and_calls_come_back_whole_and_in_pieces() {
    let echo = Echo::start(Mode::Calls).await;
    let world = World::of(&echo).await;
    let mut client = client(&world).await;
    for model in ["auto", "small-model"] {
        let asked = ChatRequest {
            tools: tools(),
            ..asking(model, "one and one?")
        };
        let reply = client.chat(asked.clone()).await.unwrap().into_inner();
        let choice = &reply.choices[0];
        assert_eq!(
            choice.finish_reason.as_deref(),
            Some("tool_calls"),
            "{model}"
        );
        let message = choice.message.clone().unwrap();
        assert_eq!(
            (message.content, message.tool_calls.len()),
            (None, 2),
            "{model}"
        );
        let function = message.tool_calls[1].function.clone().unwrap();
        assert_eq!(function.name.as_deref(), Some("add"));
        assert_eq!(function.arguments.as_deref(), Some("{\"a\":1}"));
        let sent = echo.bodies().pop().unwrap();
        let schema = &sent["tools"][0]["function"]["parameters"];
        assert_eq!(
            schema["properties"]["a"]["type"], "integer",
            "{model}: {sent}"
        );

        let stream = client.chat_stream(asked).await.unwrap().into_inner();
        let (chunks, end) = read(stream).await;
        end.unwrap();
        let pieces = pieces_of(&chunks);
        for index in [0, 1] {
            let of_call = || pieces.iter().filter(|piece| piece.index == Some(index));
            let ids: Vec<_> = of_call().filter_map(|piece| piece.id.as_deref()).collect();
            assert_eq!(ids, [format!("call_{index}")], "{model}: {pieces:?}");
            let arguments =
                of_call().filter_map(|piece| piece.function.as_ref()?.arguments.as_deref());
            assert_eq!(arguments.collect::<String>(), "{\"a\":1}", "{model}");
        }
    }
}

#[tokio::test]
async fn vectors_and_models_are_those_of_http() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let mut client = client(&world).await;
    let asked = EmbedRequest {
        model: "small-model".to_owned(),
        input: vec!["a".to_owned(), "b c".to_owned()],
        dimensions: Some(2),
    };
    let reply = client.embed(asked.clone()).await.unwrap().into_inner();
    let vectors: Vec<&[f32]> = reply
        .data
        .iter()
        .map(|one| one.embedding.as_slice())
        .collect();
    assert_eq!(vectors, [[1.0, 0.5], [1.0, 0.5]]);
    assert_eq!(
        (reply.data[1].index, reply.model.as_str()),
        (1, "small-model")
    );
    assert!(reply.usage.unwrap().prompt_tokens > 0);
    let wrong = EmbedRequest {
        dimensions: Some(3),
        ..asked
    };
    let refused = client.embed(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let models = client.list_models(ListModelsRequest {}).await.unwrap();
    let models = models.into_inner().data;
    let ids: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(ids, ["auto", "small-model"]);
    let facts = models[1].weir.clone().unwrap();
    assert_eq!(facts.context_tokens, Some(2048));
    assert_eq!(
        (facts.pool.as_deref(), facts.available),
        (Some("small"), true)
    );
}

#[tokio::test]
async fn weirs_own_settings_hold_as_fields_and_as_metadata() {
    let (local, cloud) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let far = Pool {
        privacy: Privacy::Cloud,
        ..pool("cloud", &[&cloud])
    };
    let plan = plan(vec![pool("local", &[&local]), far]);
    let world = World::start(plan, prefers(1, 2)).await;
    let mut client = client(&world).await;
    let weir = Weir {
        privacy: Some("local".to_owned()),
        memory: Some(Memory {
            mode: Some("off".to_owned()),
            ..Memory::default()
        }),
        explain: Some(true),
        ..Weir::default()
    };
    let stays = ChatRequest {
        weir: Some(weir),
        ..asking("auto", "hi")
    };
    // The field wins over the metadata, as the body of a request does over its headers.
    let called = with(stays.clone(), &[("x-weir-privacy", "cloud")]);
    let reply = client.chat(called).await.unwrap().into_inner();
    assert_eq!(reply.model, "local-model");
    let told = reply.weir.unwrap();
    let row: Value = serde_json::from_str(&told.explain.unwrap()).unwrap();
    assert_eq!(row["decision_id"], told.decision_id);

    let stream = client.chat_stream(stays).await.unwrap().into_inner();
    let (chunks, end) = read(stream).await;
    end.unwrap();
    let told = chunks.last().unwrap().weir.clone().unwrap();
    assert!(told.explain.unwrap().contains(&told.decision_id));

    let metadata = [("x-weir-privacy", "local")];
    let reply = client.chat(with(asking("auto", "hi"), &metadata)).await;
    assert_eq!(reply.unwrap().into_inner().model, "local-model");
    assert_eq!(cloud.connections(), 0);
    let reply = client.chat(asking("auto", "hi")).await.unwrap();
    assert_eq!(reply.into_inner().model, "cloud-model");
}

#[tokio::test]
async fn an_answer_that_was_kept_over_http_is_given_again_over_grpc() {
    let echo = Echo::start(Mode::Echo).await;
    let cache = Some(CachePlan {
        entries_max: 100,
        ttl_ms: 60_000,
        near_duplicates: false,
    });
    let plan = GatewayPlan {
        cache,
        ..plan(vec![pool("small", &[&echo])])
    };
    let world = World::start(plan, prefers(0, 1)).await;
    let first = world
        .chat(&http_asking("auto", "When does the heron fish?"))
        .await;
    assert_eq!(first.header("x-weir-cache"), "miss");
    first.text().await;
    let asked = asking("auto", "When does the heron fish?");
    let mut client = client(&world).await;
    // A deadline is no budget: the request is the same with one.
    let mut called = tonic::Request::new(asked.clone());
    called.set_timeout(Duration::from_secs(30));
    let again = client.chat(called).await.unwrap();
    assert_eq!(again.metadata().get("x-weir-cache").unwrap(), "hit");
    let stream = client.chat_stream(asked).await.unwrap();
    assert_eq!(stream.metadata().get("x-weir-cache").unwrap(), "hit");
    let (chunks, end) = read(stream.into_inner()).await;
    end.unwrap();
    assert_eq!(text_of(&chunks), "echo When does the heron fish?");
    assert_eq!(echo.bodies().len(), 1);
}

async fn reflected(world: &World, ask: MessageRequest) -> ServerReflectionResponse {
    let request = ServerReflectionRequest {
        message_request: Some(ask),
        ..ServerReflectionRequest::default()
    };
    let mut client = ServerReflectionClient::new(channel(world).await);
    let asked = client.server_reflection_info(stream::iter([request])).await;
    asked
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn reflection_lists_the_services_and_describes_theirs_alone() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let listed = reflected(&world, MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed.message_response else {
        panic!("{listed:?}")
    };
    let mut names: Vec<String> = listed.service.into_iter().map(|one| one.name).collect();
    names.sort();
    let expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        SERVICE,
    ];
    assert_eq!(names, expected);
    let ours = reflected(
        &world,
        MessageRequest::FileContainingSymbol(SERVICE.to_owned()),
    )
    .await;
    let Some(MessageResponse::FileDescriptorResponse(ours)) = ours.message_response else {
        panic!("{ours:?}")
    };
    let file = String::from_utf8_lossy(&ours.file_descriptor_proto[0]).into_owned();
    assert!(file.contains("ChatStream") && !file.contains("GetArtifact"));
    let internal = MessageRequest::FileContainingSymbol("weir.control.v1.Control".to_owned());
    let mut client = ServerReflectionClient::new(channel(&world).await);
    let request = ServerReflectionRequest {
        message_request: Some(internal),
        ..ServerReflectionRequest::default()
    };
    let asked = client.server_reflection_info(stream::iter([request])).await;
    let refused = asked.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn health_says_what_readyz_says_and_tells_who_watches_when_the_gateway_leaves() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let mut client = HealthClient::new(channel(&world).await);
    for service in ["", SERVICE] {
        let status = client
            .check(of(service))
            .await
            .unwrap()
            .into_inner()
            .status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    let unknown = client
        .check(of("weir.control.v1.Control"))
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let mut watched = client.watch(of(SERVICE)).await.unwrap().into_inner();
    let mut unknown = client.watch(of("no.Such")).await.unwrap().into_inner();
    let first = |message: Option<tonic_health::pb::HealthCheckResponse>| message.unwrap().status();
    assert_eq!(
        first(watched.message().await.unwrap()),
        ServingStatus::Serving
    );
    assert_eq!(
        first(unknown.message().await.unwrap()),
        ServingStatus::ServiceUnknown
    );
    let without = world.gateway.serving().plan.pools[0].name.clone();
    assert!(world.gateway.set_endpoints(&without, Vec::new()));
    assert_eq!(
        first(watched.message().await.unwrap()),
        ServingStatus::NotServing
    );
    let endpoint = weir_plan::Endpoint::keyless(&echo.url);
    assert!(world.gateway.set_endpoints(&without, vec![endpoint]));
    assert_eq!(
        first(watched.message().await.unwrap()),
        ServingStatus::Serving
    );
    world.gateway.drain();
    assert_eq!(
        first(watched.message().await.unwrap()),
        ServingStatus::NotServing
    );
    let ends = watched.message().await.unwrap_err();
    assert_eq!(ends.code(), Code::Unavailable);
    let status = client.check(of("")).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::NotServing);
}

#[tokio::test]
async fn who_watches_does_not_keep_a_gateway_from_ending_and_calls_in_flight_finish() {
    let echo = Echo::start(Mode::Slow(300)).await;
    let mut plan = plan(vec![pool("small", &[&echo])]);
    plan.limits.request_timeout_ms = 3_600_000;
    let gateway = Gateway::new(plan, assets(prefers(0, 1), None)).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(weir_gateway::serve(gateway, listener, stop.clone()));
    let mut health = HealthClient::new(connect(&authority).await);
    let mut watched = health.watch(of("")).await.unwrap().into_inner();
    watched.message().await.unwrap();
    let mut client = GatewayClient::new(connect(&authority).await);
    let asking = tokio::spawn(async move { client.chat(asking("auto", "hi")).await });
    echo.until_open(1).await;
    stop.cancel();
    assert_eq!(text(asking.await.unwrap().unwrap().get_ref()), "echo hi");
    // It would wait for an hour.
    let ended = tokio::time::timeout(Duration::from_secs(20), serving).await;
    ended.unwrap().unwrap();
}
