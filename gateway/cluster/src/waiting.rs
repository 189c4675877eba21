//! What a gateway answers that has no plan yet: it lives, it is not ready, and clients shall come back.
//!
//! When the first plan is there the ports are handed over. A connection that was accepted before is not closed under its
//! next request: it gets one more answer, from the gateway's own routes.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use axum::{Json, Router};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

/// A port on which the first plan is waited for; given up when this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    then: Then,
    _accepting: DropGuard,
}

/// Accepts until it is told to stop. Connections that it accepted go on, which a server that ends would close.
struct Until<L> {
    listener: Option<L>,
    address: SocketAddr,
    stop: CancellationToken,
}

/// The routes that answer once they are there.
type Then = Arc<OnceLock<Router>>;

impl Waiting {
    pub(crate) fn on(listener: impl Listener<Addr = SocketAddr>) -> io::Result<Self> {
        let (then, stop) = (Then::default(), CancellationToken::new());
        let until = Until {
            address: listener.local_addr()?,
            listener: Some(listener),
            stop: stop.clone(),
        };
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&then));
        tokio::spawn(axum::serve(until, routes).into_future());
        Ok(Self {
            then,
            _accepting: stop.drop_guard(),
        })
    }

    /// Accepts no connection any more; those that are open are answered by `routes`.
    pub(crate) fn hand_over(self, routes: Router) {
        // Set for the first time: this consumes it.
        let _ = self.then.set(routes);
    }
}

impl<L: Listener<Addr = SocketAddr>> Listener for Until<L> {
    type Io = L::Io;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (L::Io, SocketAddr) {
        if let Some(listener) = &mut self.listener {
            let accepted = Listener::accept(listener);
            if let Some(accepted) = self.stop.run_until_cancelled(accepted).await {
                return accepted;
            }
        }
        self.listener = None;
        std::future::pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn answer(State(then): State<Then>, request: Request) -> Response {
    let mut response = match then.get() {
        Some(routes) => match routes.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None if request.uri().path() == "/healthz" => "ok\n".into_response(),
        None => no_plan(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn no_plan() -> Response {
    let body = json!({"error": {
        "message": "this gateway waits for its first plan: try again shortly",
        "type": "service_unavailable_error", "param": null, "code": "unavailable",
    }});
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert("x-should-retry", HeaderValue::from_static("true"));
    response
}
