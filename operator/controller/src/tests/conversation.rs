//! An API server that expects certain calls in a certain order and answers as it was told.

use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One call that is expected, and its answer.
pub(super) struct Exchange {
    method: Method,
    path: &'static str,
    query: Vec<&'static str>,
    answer: (StatusCode, Value),
    takes: Duration,
}

/// Calls as they came.
#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    expected: VecDeque<Exchange>,
    bodies: Vec<Value>,
    surprises: Vec<String>,
}

pub(super) fn call(method: Method, path: &'static str) -> Exchange {
    Exchange {
        method,
        path,
        query: Vec::new(),
        answer: (StatusCode::OK, Value::Null),
        takes: Duration::ZERO,
    }
}

impl Exchange {
    /// The query must contain this; with a leading `!` it must not.
    pub(super) fn with(mut self, query: &'static str) -> Self {
        self.query.push(query);
        self
    }

    pub(super) fn answers(mut self, body: Value) -> Self {
        self.answer = (StatusCode::OK, body);
        self
    }

    pub(super) fn refuses(mut self, status: StatusCode, reason: &str, message: &str) -> Self {
        self.answer = (status, failure(status, reason, message));
        self
    }

    /// The answer comes after this time.
    pub(super) fn takes(mut self, time: Duration) -> Self {
        self.takes = time;
        self
    }

    fn fits(&self, request: &Request<Body>) -> bool {
        let query = request.uri().query().unwrap_or_default();
        let holds = |wanted: &&str| match wanted.strip_prefix('!') {
            Some(unwanted) => !query.contains(unwanted),
            None => query.contains(wanted),
        };
        *request.method() == self.method
            && request.uri().path() == self.path
            && self.query.iter().all(holds)
    }
}

fn failure(status: StatusCode, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16(),
           "reason": reason, "message": message})
}

/// A client of such an API server.
pub(super) fn conversation(expected: Vec<Exchange>) -> (Client, Calls) {
    let calls = Calls::default();
    calls.0.lock().unwrap().expected = expected.into();
    let heard = calls.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let heard = heard.clone();
        async move { Ok::<_, Infallible>(heard.answer(request).await) }
    });
    (Client::new(service, "demo"), calls)
}

impl Calls {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let said = format!("{} {}", request.method(), request.uri());
        let fits = {
            let state = self.0.lock().unwrap();
            state
                .expected
                .front()
                .is_some_and(|next| next.fits(&request))
        };
        let bytes = request.into_body().collect_bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        let next = {
            let mut state = self.0.lock().unwrap();
            state.bodies.push(body);
            if fits {
                state.expected.pop_front()
            } else {
                state.surprises.push(said);
                None
            }
        };
        let (status, answer) = match next {
            Some(exchange) => {
                tokio::time::sleep(exchange.takes).await;
                exchange.answer
            }
            None => {
                let status = StatusCode::IM_A_TEAPOT;
                (status, failure(status, "Surprise", "not expected here"))
            }
        };
        let body = Body::from(serde_json::to_vec(&answer).unwrap());
        Response::builder().status(status).body(body).unwrap()
    }

    /// Everything that was expected was called, and nothing else.
    pub(super) fn ended(&self) {
        let state = self.0.lock().unwrap();
        assert_eq!(state.surprises, Vec::<String>::new());
        let missing: Vec<String> = state
            .expected
            .iter()
            .map(|exchange| format!("{} {}", exchange.method, exchange.path))
            .collect();
        assert_eq!(missing, Vec::<String>::new(), "never called");
    }

    /// Waits until there were so many calls.
    pub(super) async fn came(&self, count: usize) {
        let came = || self.0.lock().unwrap().bodies.len() >= count;
        while !came() {
            tokio::task::yield_now().await;
        }
    }

    /// What the n-th call sent.
    pub(super) fn body(&self, call: usize) -> Value {
        self.0.lock().unwrap().bodies[call].clone()
    }
}

/// Fails when a scenario hangs.
pub(super) async fn in_time<T>(scenario: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), scenario)
        .await
        .expect("the scenario hangs")
}
