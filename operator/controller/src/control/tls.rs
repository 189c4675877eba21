//! Secured connections: the server's certificate and the trusted ones may change while it runs.
//!
//! A client may come without a certificate, since a download has none; what it may do then is decided in `caller.rs`.
//! New connections use what is valid at that moment, old ones go on.

use crate::control::relay::OwnTls;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

/// Longest handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes that are done and not taken yet.
const BUFFER: usize = 64;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The PEM holds no certificate or key.
    #[error("read the {0} as PEM")]
    Pem(&'static str),
    /// The parts do not fit.
    #[error("use the certificate: {0}")]
    Rustls(#[from] tokio_rustls::rustls::Error),
    /// Nobody can be verified with what is trusted.
    #[error("use the trusted certificates: {0}")]
    Verifier(#[from] tokio_rustls::rustls::server::VerifierBuilderError),
}

/// Accepts secured connections until the receiver of the stream is dropped.
pub(crate) fn accept(
    listener: TcpListener,
    tls: watch::Receiver<OwnTls>,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (sender, receiver) = mpsc::channel(BUFFER);
    tokio::spawn(async move {
        let mut acceptor = Acceptor { tls, made: None };
        loop {
            let connection = tokio::select! {
                connection = listener.accept() => connection,
                () = sender.closed() => return,
            };
            let Ok((stream, _)) = connection else {
                // Out of file descriptors, most likely: others must end first.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            match acceptor.current() {
                Ok(acceptor) => {
                    tokio::spawn(handshake(acceptor, stream, sender.clone()));
                }
                Err(error) => tracing::error!(%error, "a connection was refused"),
            }
        }
    });
    ReceiverStream::new(receiver)
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    sender: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    // A socket without this option still works.
    let _ = stream.set_nodelay(true);
    let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    match accepted {
        // The server may have ended.
        Ok(Ok(stream)) => drop(sender.send(Ok(stream)).await),
        Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
}

/// Makes a configuration when the certificate changed.
struct Acceptor {
    tls: watch::Receiver<OwnTls>,
    made: Option<(OwnTls, TlsAcceptor)>,
}

impl Acceptor {
    fn current(&mut self) -> Result<TlsAcceptor, TlsError> {
        let now = self.tls.borrow().clone();
        if let Some((with, acceptor)) = &self.made
            && *with == now
        {
            return Ok(acceptor.clone());
        }
        let acceptor = TlsAcceptor::from(Arc::new(config(&now)?));
        self.made = Some((now, acceptor.clone()));
        Ok(acceptor)
    }
}

fn config(tls: &OwnTls) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.trusted)? {
        roots.add(certificate)?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let key = PrivateKeyDer::from_pem_slice(tls.key.as_bytes())
        .map_err(|_| TlsError::Pem("private key"))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates(&tls.certificate)?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(TlsError::Pem("certificates")),
    }
}
