//! Requests as traces of OpenTelemetry: a span each, with a child for every step, in the words of its conventions for generative AI
//! (`gen_ai.*`) and `weir.*` for what they have no word for.
//!
//! Spans are made when a request has ended, from its row and its waterfall, and leave in batches on a thread of their own over OTLP/HTTP;
//! what a collector does not take is counted and lost, and no request waits. They say how and how long, never what: no prompt, no
//! answer, no tenant, no key. A client's `traceparent` is the parent, and decides whether the request is sampled.

use crate::gateway::new_id;
use crate::outside::connector;
use crate::record::Record;
use crate::waterfall::{Step, Waterfall};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{
    Span, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;
use weir_plan::TracesPlan;

/// Longest that a collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long spans are gathered for a batch.
const DELAY: Duration = Duration::from_secs(1);
/// Longest answer of a collector that is read.
const ANSWER_MAX: usize = 64 << 10;

/// Where a gateway's traces go, if anywhere. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traces {
    exporting: Arc<RwLock<Option<Exporting>>>,
    refused: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Exporting {
    plan: TracesPlan,
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Sends traces of this gateway there from now on; nowhere without a plan. Must run on the runtime that is to send them.
    pub(crate) fn follow(&self, gateway: &str, plan: Option<&TracesPlan>) {
        let now = self
            .exporting
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if now.as_ref().map(|now| &now.plan) == plan {
            return;
        }
        drop(now);
        let next = plan.and_then(|plan| match self.exporting(gateway, plan) {
            Ok(next) => Some(next),
            Err(error) => {
                tracing::error!(%error, "no traces are sent: look at traces.endpoint");
                None
            }
        });
        let mut now = self
            .exporting
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let former = std::mem::replace(&mut *now, next);
        drop(now);
        former.into_iter().for_each(Exporting::end);
    }

    /// Batches that the collector did not take.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Sends what waits.
    pub(crate) async fn flush(&self) {
        let Some(provider) = self.provider() else {
            return;
        };
        let flushed = tokio::task::spawn_blocking(move || provider.force_flush()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!("the last traces were not sent");
        }
    }

    fn provider(&self) -> Option<SdkTracerProvider> {
        let now = self
            .exporting
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        now.as_ref().map(|now| now.provider.clone())
    }

    fn exporting(
        &self,
        gateway: &str,
        plan: &TracesPlan,
    ) -> Result<Exporting, Box<dyn std::error::Error>> {
        let collector = Collector {
            runtime: Handle::try_current()?,
            client: Client::builder(TokioExecutor::new()).build(connector(TIMEOUT)),
            refused: Arc::clone(&self.refused),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(collector)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(TIMEOUT)
            .with_endpoint(format!("{}/v1/traces", plan.endpoint))
            .build()?;
        let often = BatchConfigBuilder::default().with_scheduled_delay(DELAY);
        let batches = BatchSpanProcessor::builder(exporter)
            .with_batch_config(often.build())
            .build();
        let own = Resource::builder_empty().with_attributes([
            KeyValue::new("service.name", "weir-gateway"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", new_id()),
            KeyValue::new("weir.gateway", gateway.to_owned()),
        ]);
        let sampler = Sampler::TraceIdRatioBased(plan.sample_ratio);
        let provider = SdkTracerProvider::builder()
            .with_resource(own.build())
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_span_processor(batches)
            .build();
        Ok(Exporting {
            plan: plan.clone(),
            tracer: provider.tracer("weir-gateway"),
            provider,
        })
    }

    /// A request has ended.
    pub(crate) fn ended(&self, row: &Record, waterfall: &Waterfall, traceparent: Option<&str>) {
        let exporting = self
            .exporting
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(exporting) = &*exporting {
            exporting.ended(row, waterfall, traceparent);
        }
    }
}

impl Exporting {
    fn ended(&self, row: &Record, waterfall: &Waterfall, traceparent: Option<&str>) {
        let began = SystemTime::now() - waterfall.received().elapsed();
        let at = |ms: f64| began + Duration::from_secs_f64(ms.max(0.0) / 1e3);
        let request = SpanBuilder::from_name(format!("chat {}", asked_for(row)))
            .with_kind(SpanKind::Server)
            .with_start_time(began);
        let mut span = self
            .tracer
            .build_with_context(request, &parent(traceparent));
        if !span.is_recording() {
            return;
        }
        span.set_attributes(attributes(row));
        let of_request = Context::new().with_remote_span_context(span.span_context().clone());
        for step in waterfall.steps() {
            let child = child(step).with_start_time(at(step.start_ms));
            let mut child = self.tracer.build_with_context(child, &of_request);
            child.end_with_timestamp(at(step.start_ms + step.took_ms));
        }
        if let Some(kind) = &row.outcome.error {
            span.set_status(Status::error(kind.clone()));
        }
        span.end_with_timestamp(at(row.latency_ms.total));
    }

    /// Sends what waits, without making anybody wait for the collector.
    fn end(self) {
        std::thread::spawn(move || {
            if let Err(error) = self.provider.shutdown_with_timeout(TIMEOUT) {
                tracing::warn!(%error, "the last traces were not sent");
            }
        });
    }
}

/// What the client asked for: a model by its name, or the router's choice.
fn asked_for(row: &Record) -> &str {
    match (&row.choice, &row.executed) {
        (None, Some(executed)) => &executed.model,
        _ => "auto",
    }
}

/// The span that a client says its request is a part of.
fn parent(traceparent: Option<&str>) -> Context {
    let headers: HashMap<String, String> = traceparent
        .map(|value| ("traceparent".to_owned(), value.to_owned()))
        .into_iter()
        .collect();
    TraceContextPropagator::new().extract_with_context(&Context::new(), &headers)
}

fn attributes(row: &Record) -> Vec<KeyValue> {
    let text = |name: &'static str, value: &str| KeyValue::new(name, value.to_owned());
    let count = |name: &'static str, value: u32| KeyValue::new(name, i64::from(value));
    let mut all = vec![
        KeyValue::new("gen_ai.operation.name", "chat"),
        KeyValue::new("gen_ai.provider.name", "weir"),
        text("gen_ai.request.model", asked_for(row)),
        text("gen_ai.response.id", &row.decision_id),
        count("gen_ai.usage.input_tokens", row.tokens.prompt),
        count("gen_ai.usage.output_tokens", row.tokens.completion),
        count("gen_ai.usage.cache_read.input_tokens", row.tokens.cached),
    ];
    if let Some(executed) = &row.executed {
        all.push(text("gen_ai.response.model", &executed.model));
        all.push(text("weir.pool", &executed.pool));
        all.push(text("weir.recall", &executed.recall.to_string()));
        let settings = [
            ("gen_ai.request.temperature", executed.temperature),
            ("gen_ai.request.top_p", executed.top_p),
        ];
        let set = settings.into_iter().filter_map(|(name, value)| {
            let value = f64::from(value?);
            Some(KeyValue::new(name, value))
        });
        all.extend(set);
    }
    if let Some(reason) = &row.outcome.finish_reason {
        let reasons = Array::String(vec![StringValue::from(reason.clone())]);
        all.push(KeyValue::new(
            "gen_ai.response.finish_reasons",
            Value::Array(reasons),
        ));
    }
    if let Some(kind) = &row.outcome.error {
        all.push(text("error.type", kind));
    }
    if row.cache.is_some() {
        all.push(KeyValue::new("weir.cached", row.is_cached()));
    }
    let asked = row
        .verdict
        .as_ref()
        .and_then(|verdict| verdict.asked.as_ref());
    all.push(KeyValue::new("weir.asked_again", asked.is_some()));
    all
}

/// The span of a step, without its times.
fn child(step: &Step) -> SpanBuilder {
    let Some(model) = &step.model else {
        return SpanBuilder::from_name(step.step);
    };
    SpanBuilder::from_name(format!("chat {model}"))
        .with_kind(SpanKind::Client)
        .with_attributes([
            KeyValue::new("gen_ai.operation.name", "chat"),
            KeyValue::new("gen_ai.request.model", model.clone()),
        ])
}

/// A collector, asked on the gateway's own runtime: batches leave from a thread without one.
#[derive(Debug)]
struct Collector {
    runtime: Handle,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    refused: Arc<AtomicU64>,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = async move {
            let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        let in_time = async move { tokio::time::timeout(TIMEOUT, sent).await };
        let answer = match self.runtime.spawn(in_time).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(late)) => Err(late.into()),
            Err(lost) => Err(lost.into()),
        };
        let is_taken = answer.as_ref().is_ok_and(|it| it.status().is_success());
        if !is_taken {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}
