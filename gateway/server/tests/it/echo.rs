//! An engine that answers with the question, one word an event. It can be told to fail, and counts who came.

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the engine does with a chat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    Echo,
    /// Answers with these words.
    Say(&'static str),
    /// Answers this many milliseconds later with these words.
    SlowlySay(u64, &'static str),
    /// Answers with this status.
    Refuse(u16),
    /// Answers with this status and quotes the question and the key.
    Quote(u16),
    /// Sends one word, then breaks the connection.
    BreakInTheMiddle,
    /// Sends the head of an answer, then nothing more.
    HangAfterTheHead,
    /// Sends one word, then nothing more.
    HangInTheMiddle,
    /// Sends the first piece of a tool call, then nothing more.
    HangInACall,
    /// Calls `add` twice, its arguments in two pieces, as OpenAI does.
    Calls,
    /// The same without `index`, and with neither `id` nor `type`.
    BareCalls,
    /// Answers a stream with these events, whatever was asked.
    Stream(&'static [&'static str]),
    /// Sends one word, then ends as if that were all.
    EndInTheMiddle,
    /// Answers this many milliseconds later.
    Slow(u64),
    /// Sends words as fast as they are taken, for ever.
    Endless,
    /// Never answers.
    Hang,
    /// Refuses the prompt as llama.cpp does when it is too long.
    Overflow,
}

#[derive(Clone)]
pub(crate) struct Echo {
    pub(crate) url: String,
    state: Arc<Shared>,
}

struct Shared {
    mode: Mutex<Mode>,
    connections: AtomicUsize,
    bodies: Mutex<Vec<Value>>,
    /// Texts whose tokens were asked for, in order; `None` while the engine does not count.
    counted: Mutex<Option<Vec<String>>>,
    /// Times that somebody asked for a count.
    asked: AtomicUsize,
    /// Answers that have begun and not ended.
    open: watch::Sender<usize>,
    stop: tokio_util::sync::CancellationToken,
}

/// Counts an answer from its first to its last byte, or until the client goes away.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

impl Echo {
    pub(crate) async fn start(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Shared {
            mode: Mutex::new(mode),
            connections: AtomicUsize::new(0),
            bodies: Mutex::new(Vec::new()),
            counted: Mutex::default(),
            asked: AtomicUsize::new(0),
            open: watch::channel(0).0,
            stop: tokio_util::sync::CancellationToken::new(),
        });
        let counted = Arc::clone(&state);
        let listener = listener.tap_io(move |_| {
            counted.connections.fetch_add(1, Ordering::SeqCst);
        });
        let routes = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/completions", post(chat))
            .route("/v1/embeddings", post(embeddings))
            .route("/tokenize", post(tokenize))
            .route("/apply-template", post(apply_template))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&state));
        let stop = state.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = axum::serve(listener, routes) => {}
                () = stop.cancelled() => {}
            }
        });
        Self { url, state }
    }

    /// Connections that were ever opened to this engine.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Bodies of the chats, in order.
    pub(crate) fn bodies(&self) -> Vec<Value> {
        self.state.bodies.lock().unwrap().clone()
    }

    /// Counts tokens from now on, as llama.cpp's server is asked to: each character is one.
    pub(crate) fn counts(&self) {
        self.state.counted.lock().unwrap().get_or_insert_default();
    }

    /// Texts that were counted since this was last asked.
    pub(crate) fn counted(&self) -> Vec<String> {
        let mut counted = self.state.counted.lock().unwrap();
        counted.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Times that somebody asked for a count, answered or not.
    pub(crate) fn asked_to_count(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.state.mode.lock().unwrap() = mode;
    }

    /// Stops listening, as a killed engine does.
    pub(crate) fn kill(&self) {
        self.state.stop.cancel();
    }

    /// Waits until this many answers are open.
    pub(crate) async fn until_open(&self, count: usize) {
        let mut open = self.state.open.subscribe();
        let reached = open.wait_for(|open| *open == count);
        tokio::time::timeout(Duration::from_secs(5), reached)
            .await
            .unwrap()
            .unwrap();
    }
}

async fn chat(State(state): State<Arc<Shared>>, Json(body): Json<Value>) -> Response {
    state.bodies.lock().unwrap().push(body.clone());
    state.open.send_modify(|open| *open += 1);
    let open = Open(Arc::clone(&state));
    let mode = *state.mode.lock().unwrap();
    if let Mode::Slow(late) | Mode::SlowlySay(late, _) = mode {
        tokio::time::sleep(Duration::from_millis(late)).await;
    }
    match mode {
        Mode::Refuse(status) => {
            let status = http::StatusCode::from_u16(status).unwrap();
            (
                status,
                Json(json!({"error": {"message": "no", "type": "x"}})),
            )
                .into_response()
        }
        Mode::Quote(status) => {
            let status = http::StatusCode::from_u16(status).unwrap();
            let message = format!("sk-of-engine sent {}", body["messages"]);
            (status, Json(json!({"error": {"message": message}}))).into_response()
        }
        Mode::Overflow => {
            let error = json!({"error": {
                "code": 400, "message": "too long", "type": "exceed_context_size_error",
                "n_prompt_tokens": 9001, "n_ctx": 2048,
            }});
            (http::StatusCode::BAD_REQUEST, Json(error)).into_response()
        }
        Mode::Hang => {
            let _open = open;
            std::future::pending().await
        }
        Mode::HangAfterTheHead => {
            let tail = stream::once(async move {
                let _open = open;
                std::future::pending::<Result<String, Infallible>>().await
            });
            let body = axum::body::Body::from_stream(tail);
            ([("content-type", "text/event-stream")], body).into_response()
        }
        Mode::Endless => {
            let word = event(
                &body,
                &json!([{"index": 0, "delta": {"content": "x".repeat(16 << 10)}}]),
            );
            let words = stream::repeat_with(move || {
                let _open = &open;
                Ok::<_, Infallible>(word.clone())
            });
            let body = axum::body::Body::from_stream(words);
            ([("content-type", "text/event-stream")], body).into_response()
        }
        _ if body["stream"] == true => events(&body, mode, open),
        _ => Json(whole(&body, mode)).into_response(),
    }
}

fn answer(body: &Value, mode: Mode) -> String {
    if let Mode::Say(words) | Mode::SlowlySay(_, words) = mode {
        return words.to_owned();
    }
    let prompt = body["prompt"].as_str().or(body["prompt"][0].as_str());
    if let Some(prompt) = prompt {
        return format!("echo {prompt}");
    }
    let messages = body["messages"].as_array().unwrap();
    let last = messages
        .iter()
        .rev()
        .find(|message| message["role"] == "user")
        .unwrap();
    format!("echo {}", last["content"].as_str().unwrap_or("parts"))
}

/// What `Mode::Calls` and `Mode::BareCalls` send of each call: how it begins, and the rest of its arguments.
fn call(index: u64, bare: bool) -> [Value; 2] {
    let mut begins = json!({"index": index, "id": format!("call_{index}"), "type": "function",
        "function": {"name": "add", "arguments": "{\"a\":"}});
    let mut goes_on = json!({"index": index, "function": {"arguments": "1}"}});
    if bare {
        begins = json!({"function": begins["function"]});
        goes_on = json!({"function": goes_on["function"]});
    }
    [begins, goes_on]
}

fn whole(body: &Value, mode: Mode) -> Value {
    if body["prompt"].is_string() || body["prompt"].is_array() {
        return json!({
            "id": "cmpl-echo", "object": "text_completion", "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "text": answer(body, mode), "logprobs": null}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        });
    }
    if let Mode::Calls | Mode::BareCalls = mode {
        let calls = [0, 1].map(|index| {
            let [mut call, _] = call(index, mode == Mode::BareCalls);
            call["function"]["arguments"] = json!("{\"a\":1}");
            call
        });
        return json!({
            "id": "chatcmpl-echo", "object": "chat.completion", "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "tool_calls",
                         "message": {"role": "assistant", "content": null, "tool_calls": calls}}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        });
    }
    json!({
        "id": "chatcmpl-echo", "object": "chat.completion", "model": body["model"],
        "choices": [{"index": 0, "finish_reason": "stop",
                     "message": {"role": "assistant", "content": answer(body, mode)}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    })
}

fn event(body: &Value, choices: &Value) -> String {
    let event = json!({
        "id": "chatcmpl-echo", "object": "chat.completion.chunk", "model": body["model"], "choices": choices,
    });
    format!("data: {event}\n\n")
}

/// The events of a mode that says what they are.
fn scripted(body: &Value, mode: Mode) -> Option<String> {
    match mode {
        Mode::Stream(events) => {
            let events = events.iter().map(|event| format!("data: {event}\n\n"));
            Some(events.collect())
        }
        Mode::Calls | Mode::BareCalls => {
            let calls = [0, 1].map(|index| call(index, mode == Mode::BareCalls));
            let pieces = calls.iter().flatten().map(|piece| {
                let delta = json!({"tool_calls": [piece]});
                event(
                    body,
                    &json!([{"index": 0, "delta": delta, "finish_reason": null}]),
                )
            });
            let last = json!([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]);
            let end = event(body, &last) + "data: [DONE]\n\n";
            Some(pieces.chain([end]).collect())
        }
        _ => None,
    }
}

fn events(body: &Value, mode: Mode, open: Open) -> Response {
    let mut sent: Vec<Result<String, std::io::Error>> = Vec::new();
    if let Some(events) = scripted(body, mode) {
        return ([("content-type", "text/event-stream")], events).into_response();
    }
    for word in answer(body, mode).split_inclusive(' ') {
        let delta = if mode == Mode::HangInACall {
            json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "add", "arguments": "{"}}]})
        } else {
            json!({"content": word})
        };
        let mut choice = json!({"index": 0, "delta": delta, "finish_reason": null});
        if body.get("prompt").is_some() {
            choice = json!({"index": 0, "text": word, "finish_reason": null});
        }
        if body["logprobs"] == true {
            choice["logprobs"] = json!({"content": [{"token": word, "logprob": -0.1}]});
        }
        sent.push(Ok(event(body, &json!([choice]))));
        if !matches!(
            mode,
            Mode::Echo | Mode::Say(_) | Mode::SlowlySay(..) | Mode::Slow(_)
        ) {
            break;
        }
    }
    match mode {
        Mode::BreakInTheMiddle
        | Mode::HangInTheMiddle
        | Mode::HangInACall
        | Mode::EndInTheMiddle => {}
        _ => {
            sent.push(Ok(event(
                body,
                &json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]),
            )));
            if body["stream_options"]["include_usage"] == true {
                let usage =
                    json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}});
                sent.push(Ok(format!("data: {usage}\n\n")));
            }
            sent.push(Ok("data: [DONE]\n\n".to_owned()));
        }
    }
    let tail = stream::once(async move {
        if matches!(mode, Mode::HangInTheMiddle | Mode::HangInACall) {
            std::future::pending::<()>().await;
        }
        // What was sent so far leaves while this waits; an error at once would take it along.
        tokio::task::yield_now().await;
        drop(open);
        match mode {
            Mode::BreakInTheMiddle => Err(std::io::Error::other("broken")),
            _ => Ok(String::new()),
        }
    });
    let body = axum::body::Body::from_stream(stream::iter(sent).chain(tail));
    ([("content-type", "text/event-stream")], body).into_response()
}

async fn tokenize(State(state): State<Arc<Shared>>, Json(body): Json<Value>) -> Response {
    state.asked.fetch_add(1, Ordering::SeqCst);
    let text = body["content"].as_str().unwrap();
    match state.counted.lock().unwrap().as_mut() {
        Some(counted) => counted.push(text.to_owned()),
        None => return http::StatusCode::NOT_FOUND.into_response(),
    }
    let tokens: Vec<u32> = text.chars().map(u32::from).collect();
    Json(json!({"tokens": tokens})).into_response()
}

/// Three characters before each message and two after the last one.
async fn apply_template(State(state): State<Arc<Shared>>, Json(body): Json<Value>) -> Response {
    state.asked.fetch_add(1, Ordering::SeqCst);
    if state.counted.lock().unwrap().is_none() {
        return http::StatusCode::NOT_FOUND.into_response();
    }
    let messages = body["messages"].as_array().unwrap().iter();
    let messages = messages.map(|message| format!("<m>{}", message["content"].as_str().unwrap()));
    let prompt = messages.collect::<String>() + "->";
    Json(json!({"prompt": prompt})).into_response()
}

async fn embeddings(Json(body): Json<Value>) -> Json<Value> {
    let count = body["input"].as_array().map_or(1, Vec::len);
    let data: Vec<Value> = (0..count)
        .map(|index| json!({"index": index, "embedding": [1.0, 0.5]}))
        .collect();
    Json(json!({"data": data, "usage": {"prompt_tokens": 10 * count}}))
}
