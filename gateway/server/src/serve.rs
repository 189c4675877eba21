//! The listener: accepts connections until told to stop, then lets what is in flight finish.
//!
//! Reading on: `http/mod.rs` for the routes.

use crate::gateway::Gateway;
use crate::quiet::Quiet;
use crate::stalled::Patient;
use axum::serve::{Listener, ListenerExt};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Longer than any request may take is not waited for on the way out; this is added for the last bytes.
const DRAIN_EXTRA: Duration = Duration::from_secs(1);

/// Serves until `stop` is cancelled, then drains: no new connections, requests in flight finish within the gateway's
/// request timeout.
pub async fn serve(gateway: Gateway, listener: TcpListener, stop: CancellationToken) {
    let routes = gateway.http();
    serve_routes(gateway, routes, prompt(listener), stop).await;
}

/// A listener whose connections send each event at once.
pub fn prompt(listener: TcpListener) -> impl Listener<Addr = SocketAddr> {
    // An event of a stream is smaller than a segment and must not wait for the next one.
    listener.tap_io(|tcp| {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
    })
}

/// [`serve`] with some of the gateway's routes, over connections of any kind. One whose client takes nothing for the
/// gateway's request timeout ends.
pub async fn serve_routes(
    gateway: Gateway,
    routes: axum::Router,
    listener: impl Listener<Addr = SocketAddr>,
    stop: CancellationToken,
) {
    let listener = Patient::new(listener, gateway.clone());
    tokio::select! {
        () = answer_each(listener, routes, stop.clone()) => {}
        () = patience(&gateway, stop) => {
            tracing::warn!("requests were still in flight when the time to drain was over");
        }
    }
    gateway.decisions().traces.flush().await;
}

/// Serves each connection in a task of its own until `stop`, then waits for those that have a request in flight.
async fn answer_each(mut listener: impl Listener, routes: axum::Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(routes.into_service::<Incoming>());
    let builder = Builder::new(TokioExecutor::new());
    let open = GracefulShutdown::new();
    while let Some((io, _)) = stop.run_until_cancelled(listener.accept()).await {
        let connection = builder.serve_connection(TokioIo::new(io), service.clone());
        let connection = open.watch(connection.into_owned());
        tokio::spawn(Quiet::new(async {
            if let Err(error) = connection.await {
                tracing::trace!(error, "a connection broke");
            }
        }));
    }
    drop(listener);
    open.shutdown().await;
}

async fn patience(gateway: &Gateway, stop: CancellationToken) {
    stop.cancelled().await;
    // Who watches its health would be waited for.
    gateway.drain();
    let limit = gateway.serving().plan.limits.request_timeout_ms;
    tokio::time::sleep(Duration::from_millis(limit) + DRAIN_EXTRA).await;
}
