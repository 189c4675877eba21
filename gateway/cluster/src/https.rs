//! HTTPS to clients: the certificate in a mounted folder, and connections that have shaken hands with it.
//!
//! The folder is looked at again while connections come, once a second at most, so a changed certificate is shown to the
//! next connection; those that are open go on. A folder without a usable pair leaves the last one in use, and without any
//! nobody is answered: never in the clear. Who speaks plain HTTP is told so and nothing else.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::server::TlsStream;
use weir_certificates::{CERTIFICATE, CertificateError, KEY, Pair, Reloaded};

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A client that has not shaken hands by then is left.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that have shaken hands and wait to be taken.
const WAITING_MAX: usize = 64;
/// How every TLS connection begins.
const HANDSHAKE: u8 = 22;
/// Bytes of a plain request that are read before it is answered.
const PLAIN_MAX: usize = 16 << 10;
const PLAIN_BODY: &str = r#"{"error": {"message": "this gateway speaks HTTPS only: write https:// in its address", "type": "invalid_request_error", "param": null, "code": "https_only"}}"#;

/// The certificate of a folder, as it is now.
#[derive(Debug)]
pub(crate) struct Certificates(Reloaded<Arc<ServerConfig>, CertificateError, 2>);

/// A port on which every connection is encrypted.
pub(crate) struct Https {
    shaken: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl Certificates {
    pub(crate) fn of(folder: &Path) -> Self {
        Self(Reloaded::of(folder, [CERTIFICATE, KEY], LOOK_EVERY, config))
    }
}

fn config([certificate, key]: &[Vec<u8>; 2]) -> Result<Arc<ServerConfig>, CertificateError> {
    let pair = Pair::of(certificate, key)?;
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions()?;
    let mut config = config
        .with_no_client_auth()
        .with_cert_resolver(pair.resolver());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Https {
    /// Accepts on a port until this is dropped. A slow handshake keeps nobody else waiting.
    pub(crate) fn on(listener: TcpListener, certificates: Arc<Certificates>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, shaken) = mpsc::channel(WAITING_MAX);
        tokio::spawn(accept(listener, certificates, sender));
        Ok(Self { shaken, address })
    }
}

impl Listener for Https {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        match self.shaken.recv().await {
            Some(shaken) => shaken,
            // The task that accepts ends with this listener only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(
    mut listener: TcpListener,
    certificates: Arc<Certificates>,
    sender: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    loop {
        let (tcp, from) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = sender.closed() => return,
        };
        let (certificates, sender) = (Arc::clone(&certificates), sender.clone());
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, shake(tcp, &certificates)).await;
            match shaken {
                // The port may be closing: then there is nobody to take the connection.
                Ok(Ok(Some(stream))) => drop(sender.send((stream, from)).await),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a client did not shake hands"),
                Err(_) => tracing::debug!("a client did not shake hands in time"),
            }
        });
    }
}

/// `None`: the client was told to speak HTTPS, or there is no certificate.
async fn shake(
    mut tcp: TcpStream,
    certificates: &Certificates,
) -> io::Result<Option<TlsStream<TcpStream>>> {
    // An event of a stream is smaller than a segment and must not wait for the next one.
    tcp.set_nodelay(true)?;
    let mut first = [0];
    if tcp.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
        refuse_plain(&mut tcp).await?;
        return Ok(None);
    }
    let Some(config) = certificates.0.get() else {
        return Ok(None);
    };
    TlsAcceptor::from(config).accept(tcp).await.map(Some)
}

async fn refuse_plain(tcp: &mut TcpStream) -> io::Result<()> {
    // What is left unread when a connection is closed would take the answer with it.
    let mut request = vec![0; PLAIN_MAX];
    let _ = tcp.read(&mut request).await?;
    let length = PLAIN_BODY.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{PLAIN_BODY}"
    );
    tcp.write_all(answer.as_bytes()).await?;
    tcp.shutdown().await
}
