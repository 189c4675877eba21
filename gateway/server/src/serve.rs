//! The listener: accepts connections until told to stop, then lets what is in flight finish.
//!
//! Reading on: `http/mod.rs` for the routes.

use crate::gateway::Gateway;
use crate::stalled::Patient;
use axum::serve::{Listener, ListenerExt};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Longer than any request may take is not waited for on the way out; this is added for the last bytes.
const DRAIN_EXTRA: Duration = Duration::from_secs(1);

/// Serves until `stop` is cancelled, then drains: no new connections, requests in flight finish within the gateway's
/// request timeout.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    gateway: Gateway,
    listener: TcpListener,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let routes = gateway.http();
    serve_routes(gateway, routes, prompt(listener), stop).await
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
///
/// # Errors
/// The listener failed.
pub async fn serve_routes(
    gateway: Gateway,
    routes: axum::Router,
    listener: impl Listener<Addr = SocketAddr>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = Patient::new(listener, gateway.clone());
    // A router by itself would be copied for each connection, with all of its routes.
    let serving = axum::serve(listener, routes.into_make_service())
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    let served = tokio::select! {
        served = serving.into_future() => served,
        () = patience(&gateway, stop) => {
            tracing::warn!("requests were still in flight when the time to drain was over");
            Ok(())
        }
    };
    gateway.decisions().traces.flush().await;
    served
}

async fn patience(gateway: &Gateway, stop: CancellationToken) {
    stop.cancelled().await;
    // Who watches its health would be waited for.
    gateway.drain();
    let limit = gateway.serving().plan.limits.request_timeout_ms;
    tokio::time::sleep(Duration::from_millis(limit) + DRAIN_EXTRA).await;
}
