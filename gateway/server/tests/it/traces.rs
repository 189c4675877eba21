//! Traces, as a collector of OpenTelemetry gets them over HTTP.

use crate::echo::{Echo, Mode};
use crate::grpc;
use crate::recall::{prefers as recalls, remembering_under};
use crate::world::{World, asking, never_content, plan, pool, prefers};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use weir_plan::{GatewayPlan, TracesPlan};
use weir_router::RecallMode;

/// Takes what it is sent, or refuses all of it with a status.
struct Collector {
    endpoint: String,
    seen: Seen,
}

type Seen = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

async fn take(State((seen, status)): State<(Seen, StatusCode)>, body: Bytes) -> StatusCode {
    let batch = ExportTraceServiceRequest::decode(body).expect("a batch of spans");
    seen.lock().unwrap().push(batch);
    status
}

impl Collector {
    async fn start(status: StatusCode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/base", listener.local_addr().unwrap());
        let seen = Seen::default();
        let routes = Router::new()
            .route("/base/v1/traces", post(take))
            .with_state((Arc::clone(&seen), status));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { endpoint, seen }
    }

    fn plan(&self, sample_ratio: f64) -> Option<TracesPlan> {
        Some(TracesPlan {
            endpoint: self.endpoint.clone(),
            sample_ratio,
        })
    }

    /// Spans so far.
    fn spans(&self) -> Vec<Span> {
        let batches = self.seen.lock().unwrap();
        let resources = batches.iter().flat_map(|batch| &batch.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Waits until this many requests have come; their spans and those of their steps.
    async fn of(&self, requests: usize) -> (Vec<Span>, Vec<Span>) {
        loop {
            let (whole, steps): (Vec<Span>, Vec<Span>) =
                (self.spans().into_iter()).partition(|span| span.kind == SpanKind::Server as i32);
            if whole.len() >= requests {
                return (whole, steps);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn attribute(span: &Span, name: &str) -> Option<Attribute> {
    let found = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == name)?;
    found.value.clone()?.value
}

fn text(span: &Span, name: &str) -> String {
    match attribute(span, name) {
        Some(Attribute::StringValue(text)) => text,
        other => panic!("{name} is {other:?}"),
    }
}

async fn ask(world: &World, model: &str, question: &str) {
    let reply = world.chat(&asking(model, question)).await;
    assert_eq!(reply.status, 200);
    reply.json().await;
}

#[tokio::test]
async fn a_request_is_a_span_whose_steps_are_its_children() {
    let collector = Collector::start(StatusCode::OK).await;
    let router = recalls(RecallMode::Graph, 0);
    let traces = collector.plan(1.0);
    let memory = remembering_under(router, |plan| plan.traces = traces).await;
    let world = &memory.world;
    ask(world, "auto", "When does the heron fish?").await;
    let (whole, steps) = collector.of(1).await;
    let request = &whole[0];
    assert_eq!(request.name, "chat auto");
    assert_eq!(text(request, "gen_ai.operation.name"), "chat");
    assert_eq!(text(request, "gen_ai.request.model"), "auto");
    assert_eq!(text(request, "gen_ai.response.model"), "small-model");
    assert_eq!(text(request, "weir.recall"), "graph");
    let path = format!("/v1/decisions/{}", text(request, "gen_ai.response.id"));
    let row = world.get(&path).await.json().await;
    let tokens = attribute(request, "gen_ai.usage.input_tokens");
    assert_eq!(
        tokens,
        row["tokens"]["prompt"].as_i64().map(Attribute::IntValue)
    );
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    for name in [
        "queue",
        "retrieval",
        "attention",
        "router",
        "prompt",
        "chat small-model",
    ] {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    for step in &steps {
        assert_eq!(step.trace_id, request.trace_id);
        assert_eq!(step.parent_span_id, request.span_id);
        assert!(step.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(
            step.end_time_unix_nano <= request.end_time_unix_nano,
            "{step:?}"
        );
    }
    let told = format!("{:?}", collector.seen.lock().unwrap());
    for hidden in ["heron", "anonymous"] {
        assert!(!told.contains(hidden), "{hidden} in {told}");
    }
    assert!(told.contains("weir-gateway"), "{told}");
}

#[tokio::test]
async fn a_client_s_trace_goes_on_and_decides_what_is_sampled() {
    let collector = Collector::start(StatusCode::OK).await;
    let echo = Echo::start(Mode::Echo).await;
    let of = |share| GatewayPlan {
        traces: collector.plan(share),
        ..plan(vec![pool("small", &[&echo])])
    };
    let world = World::start(of(0.0), prefers(0, 1)).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let with = async |traceparent: &str| {
        let (path, body) = ("/v1/chat/completions", asking("auto", "hi").to_string());
        let headers = [("traceparent", traceparent)];
        let reply = world.send(http::Method::POST, path, &headers, body).await;
        reply.json().await;
    };
    with("no trace at all").await;
    with(&format!("00-{trace}-00f067aa0ba902b7-00")).await;
    with(&format!("00-{trace}-00f067aa0ba902b7-01")).await;
    let (whole, _) = collector.of(1).await;
    assert_eq!(whole.len(), 1, "only what is sampled");
    assert_eq!(hex::encode(&whole[0].trace_id), trace);
    assert_eq!(hex::encode(&whole[0].parent_span_id), "00f067aa0ba902b7");

    let call = grpc::with(
        grpc::asking("auto", "hi"),
        &[(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-01",
        )],
    );
    grpc::client(&world).await.chat(call).await.unwrap();
    let (whole, _) = collector.of(2).await;
    assert_eq!(hex::encode(&whole[1].parent_span_id), "b7ad6b7169203331");

    // Another plan, and from then on every request.
    world.apply(of(1.0), prefers(0, 1));
    ask(&world, "small-model", "hi").await;
    let (whole, _) = collector.of(3).await;
    assert_eq!(whole[2].name, "chat small-model");
    assert!(whole[2].parent_span_id.is_empty());
}

#[tokio::test]
async fn a_second_attempt_and_a_failure_show() {
    let collector = Collector::start(StatusCode::OK).await;
    let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let plan = GatewayPlan {
        traces: collector.plan(1.0),
        ..plan(vec![pool("small", &[&small]), pool("big", &[&big])])
    };
    let world = World::start(plan, never_content(0, 2)).await;
    ask(&world, "auto", "hi").await;
    let (whole, steps) = collector.of(1).await;
    let engines: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    assert!(engines.contains(&"chat small-model") && engines.contains(&"chat big-model"));
    let asked = attribute(&whole[0], "weir.asked_again");
    assert_eq!(asked, Some(Attribute::BoolValue(true)));

    small.set(Mode::Refuse(400));
    big.set(Mode::Refuse(400));
    let reply = world.chat(&asking("auto", "again")).await;
    assert_eq!(reply.status, 400);
    let (whole, _) = collector.of(2).await;
    assert_eq!(whole[1].status.as_ref().map(|status| status.code), Some(2));
    assert!(!text(&whole[1], "error.type").is_empty());
}

#[tokio::test]
async fn what_a_collector_does_not_take_is_counted_and_delays_nobody() {
    let collector = Collector::start(StatusCode::BAD_REQUEST).await;
    let echo = Echo::start(Mode::Echo).await;
    let plan = GatewayPlan {
        traces: collector.plan(1.0),
        ..plan(vec![pool("small", &[&echo])])
    };
    let world = World::start(plan, prefers(0, 1)).await;
    ask(&world, "auto", "hi").await;
    collector.of(1).await;
    let refused = "weir_traces_refused_total 1";
    while !world.get("/metrics").await.text().await.contains(refused) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn explain_has_the_steps_one_after_the_other() {
    let echo = Echo::start(Mode::Echo).await;
    let world = World::of(&echo).await;
    let mut body = asking("auto", "hi");
    body["weir"] = serde_json::json!({"explain": true});
    let answer = world.chat(&body).await.json().await;
    let steps = answer["weir"]["explain"]["waterfall"].as_array().cloned();
    let steps = steps.unwrap_or_else(|| panic!("{answer}"));
    let named = |name: &str| {
        let step = steps.iter().find(|step| step["step"] == name);
        let step = step.unwrap_or_else(|| panic!("no {name} in {steps:?}"));
        let number = |field: &str| step[field].as_f64().unwrap();
        (number("start_ms"), number("took_ms"))
    };
    let (router, llm) = (named("router"), named("llm"));
    assert!(router.0 + router.1 <= llm.0 + 0.001, "{steps:?}");
    assert!(llm.1 > 0.0);
}
