//! A server beyond the cluster that speaks OpenAI's API as an engine does. It remembers who came and what was asked.
//!
//! It runs in this process, at an address of this machine. Any path is answered, so that a pool's base URL shows.

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Ends when it is dropped.
pub struct Outside {
    /// Base address, without a slash at the end.
    pub url: String,
    seen: Arc<Seen>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// Where each connection came from.
    peers: Mutex<Vec<IpAddr>>,
    /// The last request.
    asked: Mutex<Value>,
    /// Requests so far, over any connection.
    requests: AtomicUsize,
    manner: Manner,
}

/// How it answers.
#[derive(Clone, Copy, Debug, Default)]
pub enum Manner {
    /// At once.
    #[default]
    Prompt,
    /// After so long.
    Slow(Duration),
    /// It takes no request.
    Refusing,
    /// At once, whoever has this token.
    Locked(&'static str),
}

impl Outside {
    /// Listens at a free port of this host.
    ///
    /// # Errors
    ///
    /// An address that is not this machine's.
    pub async fn start(host: &str, manner: Manner) -> Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let seen = Arc::new(Seen {
            manner,
            ..Seen::default()
        });
        let counted = Arc::clone(&seen);
        let listener = listener.tap_io(move |connection| {
            if let Ok(peer) = connection.peer_addr() {
                let mut peers = counted.peers.lock().unwrap_or_else(PoisonError::into_inner);
                peers.push(peer.ip());
            }
        });
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        let server = tokio::spawn(async move {
            // It serves until it is aborted.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { url, seen, server })
    }

    /// Where each connection so far came from.
    pub fn peers(&self) -> Vec<IpAddr> {
        let peers = self.seen.peers.lock();
        peers.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::Relaxed)
    }

    /// The last request: `path`, `authorization` and `body`.
    pub fn asked(&self) -> Value {
        let asked = self.seen.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(seen): State<Arc<Seen>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let authorization = headers.get(header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok());
    if let Manner::Locked(token) = seen.manner
        && authorization.and_then(|value| value.strip_prefix("Bearer ")) != Some(token)
    {
        return (StatusCode::UNAUTHORIZED, "no such key").into_response();
    }
    if method == Method::GET {
        // The operator asks for models now and then, which is no request.
        return axum::Json(json!({"object": "list", "data": []})).into_response();
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let asked = json!({"path": uri.path(), "authorization": authorization, "body": body});
    *seen.asked.lock().unwrap_or_else(PoisonError::into_inner) = asked;
    seen.requests.fetch_add(1, Ordering::Relaxed);
    match seen.manner {
        Manner::Prompt | Manner::Locked(_) => {}
        Manner::Slow(delay) => tokio::time::sleep(delay).await,
        Manner::Refusing => {
            return (StatusCode::BAD_REQUEST, "nothing is answered").into_response();
        }
    }
    if body["stream"] != true {
        let message = json!({"role": "assistant", "content": "From outside."});
        let whole = json!({
            "id": "chatcmpl-outside", "object": "chat.completion", "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        });
        return axum::Json(whole).into_response();
    }
    let event = |choices: Value| {
        let event = json!({
            "id": "chatcmpl-outside", "object": "chat.completion.chunk", "model": body["model"],
            "choices": choices,
        });
        format!("data: {event}\n\n")
    };
    let mut word =
        json!({"index": 0, "delta": {"content": "From outside."}, "finish_reason": null});
    if body["logprobs"] == true {
        word["logprobs"] = json!({"content": [{"token": "From outside.", "logprob": -0.1}]});
    }
    let end = json!({"index": 0, "delta": {}, "finish_reason": "stop"});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}});
    let events = [
        event(json!([word])),
        event(json!([end])),
        format!("data: {usage}\n\n"),
        "data: [DONE]\n\n".to_owned(),
    ];
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, events.concat()).into_response()
}
