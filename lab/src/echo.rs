//! An engine that answers at once: for measuring everything but the engine, and for tests of the lab.
//!
//! Speaks the part of OpenAI's API that the gateway uses (`/v1/chat/completions` as a stream) on a port of its own and
//! always gives the same answer. It is a measuring instrument, not a model: never part of a product's stack.

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinHandle;
use weir_plan::{Endpoint, GatewayPlan, MemoryPlan, Pool};

/// A running echo engine; it ends when this is dropped.
#[derive(Debug)]
pub struct EchoEngine {
    /// Base URL without `/v1`.
    pub url: String,
    served: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Answer {
    events: Arc<str>,
    served: Arc<AtomicUsize>,
}

impl EchoEngine {
    /// Starts an engine that answers every chat with `answer`.
    pub async fn start(answer: &str) -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let served = Arc::new(AtomicUsize::new(0));
        let state = Answer {
            events: events(answer).into(),
            served: Arc::clone(&served),
        };
        let app = Router::new()
            .route("/v1/chat/completions", post(chat))
            .with_state(state);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::warn!(%error, "the echo engine stopped");
            }
        });
        Ok(Self {
            url,
            served,
            server,
        })
    }

    /// Answers given so far.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// A plan whose pools, one per name and in order of capability, are all this engine.
    pub fn plan(&self, models: &[&str], memory: Option<MemoryPlan>) -> GatewayPlan {
        let ranked = models.iter().zip(1..);
        let pools = ranked.map(|(model, rank)| self.pool(model, rank));
        GatewayPlan {
            memory,
            ..GatewayPlan::least("lab", pools.collect())
        }
    }

    fn pool(&self, model: &str, rank: u64) -> Pool {
        Pool {
            context_tokens: 4096,
            slots: 4,
            parameters: rank * 1_000_000,
            endpoints: vec![Endpoint::keyless(&self.url)],
            ..Pool::local(model)
        }
    }
}

impl Drop for EchoEngine {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn chat(State(answer): State<Answer>) -> impl IntoResponse {
    answer.served.fetch_add(1, Ordering::Relaxed);
    (
        [(CONTENT_TYPE, "text/event-stream")],
        answer.events.to_string(),
    )
}

/// The whole answer as server-sent events: role, text, end with usage.
fn events(answer: &str) -> String {
    let logprobs = json!({"content": [{"token": answer, "logprob": -0.1}]});
    let chunk = |choices: serde_json::Value, usage: serde_json::Value| {
        let event = json!({
            "id": "echo", "object": "chat.completion.chunk", "created": 0, "model": "echo",
            "choices": choices, "usage": usage,
        });
        format!("data: {event}\n\n")
    };
    let choice = |delta: serde_json::Value, finish: serde_json::Value| json!([{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]);
    let usage = json!({"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21});
    [
        chunk(
            choice(json!({"role": "assistant", "content": answer}), json!(null)),
            json!(null),
        ),
        chunk(choice(json!({}), json!("stop")), json!(null)),
        chunk(json!([]), usage),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat()
}
