//! An engine that streams its own name, as fast as it is let.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(crate) struct Echo {
    pub(crate) url: String,
    state: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    requests: AtomicUsize,
    /// Streams stop after their first word until this is true.
    open: watch::Sender<bool>,
}

impl Echo {
    pub(crate) async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Shared {
            name,
            requests: AtomicUsize::new(0),
            open: watch::channel(true).0,
        });
        let routes = Router::new()
            .route("/v1/chat/completions", post(chat))
            .with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, state }
    }

    /// Streams stop after their first word from now on, or go on.
    pub(crate) fn hold(&self, hold: bool) {
        self.state.open.send_replace(!hold);
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }
}

async fn chat(State(state): State<Arc<Shared>>, Json(body): Json<Value>) -> Response {
    state.requests.fetch_add(1, Ordering::SeqCst);
    if body["stream"] != true {
        return Json(json!({
            "id": "c", "object": "chat.completion", "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": state.name}}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
        }))
        .into_response();
    }
    let mut open = state.open.subscribe();
    let first = event(&json!({"content": state.name}), None);
    let rest = stream::once(async move {
        let _ = open.wait_for(|open| *open).await;
        format!("{}data: [DONE]\n\n", event(&json!({}), Some("stop")))
    });
    let events = stream::iter([first]).chain(rest);
    let body = axum::body::Body::from_stream(events.map(Ok::<_, std::io::Error>));
    ([("content-type", "text/event-stream")], body).into_response()
}

fn event(delta: &Value, finish_reason: Option<&str>) -> String {
    let event = json!({"id": "c", "object": "chat.completion.chunk", "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]});
    format!("data: {event}\n\n")
}
