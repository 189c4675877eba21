//! Connections: accepted, greeted over TLS, and dropped unless the other end is a gateway that may call.
//!
//! Who that is stands in `certificates.rs`. A greeting that does not end keeps nobody else waiting.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::certificates::Certificates;

/// Longest greeting.
const GREETING_MAX: Duration = Duration::from_secs(10);

/// Connections that were greeted and wait for the server.
const WAITING_MAX: usize = 64;

/// Pause after the system refused a connection, for want of file descriptors mostly.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Everybody who may call, until `stop`.
pub(crate) fn connections(
    listener: TcpListener,
    certificates: Arc<Certificates>,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => {
                    let (certificates, sender) = (Arc::clone(&certificates), sender.clone());
                    tokio::spawn(async move {
                        match greet(stream, &certificates).await {
                            // Nobody listens any more when the server has ended.
                            Ok(stream) => drop(sender.send(Ok(stream)).await),
                            Err(why) => tracing::warn!(%peer, "a connection was refused: {why}"),
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("no connection could be accepted: {error}");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

async fn greet(
    stream: TcpStream,
    certificates: &Certificates,
) -> Result<TlsStream<TcpStream>, String> {
    let identity = certificates.identity();
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let greeting = identity.acceptor.accept(stream);
    let stream = tokio::time::timeout(GREETING_MAX, greeting)
        .await
        .map_err(|_| format!("no greeting within {GREETING_MAX:?}"))?
        .map_err(|error| error.to_string())?;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    identity.lets_in(certificate.ok_or("it shows no certificate")?)?;
    Ok(stream)
}
