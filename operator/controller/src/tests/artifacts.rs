//! Artifacts over real TLS, from a server that says what the scenario says.

use super::control::{authority, leaf, text};
use super::conversation::in_time;
use crate::artifacts::Artifacts;
use crate::ca_bundle::CaBundle;
use crate::key::{Key, Kind};
use crate::pki::{Authority, CERTIFICATE, KEY};
use crate::queue::Queue;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use weir_reconcile::router_version::Found;

/// Answers each connection with the next of `answers`; returns the address of a file on it.
async fn server(authority: &Authority, answers: Vec<Vec<u8>>) -> String {
    let leaf = leaf(authority, "weir://test/files", &["localhost"]);
    let certificates = CertificateDer::pem_slice_iter(&leaf[CERTIFICATE]);
    let certificates: Vec<_> = certificates.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(text(&leaf, KEY).as_bytes()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(certificates, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for answer in answers {
            let (socket, _) = listener.accept().await.unwrap();
            // A client that trusts nobody here ends the handshake.
            let Ok(mut socket) = acceptor.accept(socket).await else {
                continue;
            };
            let mut head = [0; 1024];
            let _ = socket.read(&mut head).await;
            let _ = socket.write_all(&answer).await;
            let _ = socket.shutdown().await;
        }
    });
    format!("https://localhost:{port}/router.onnx")
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// What came of one attempt.
async fn attempt(answer: Option<Vec<u8>>, trusts: bool) -> Found {
    let authority = authority();
    let folder =
        std::env::temp_dir().join(format!("weir-artifacts-{:016x}", rand::random::<u64>()));
    let bundle = if trusts {
        std::fs::write(&folder, &authority.bundle).unwrap();
        CaBundle::read(Some(folder.clone())).unwrap()
    } else {
        CaBundle::default()
    };
    let url = server(&authority, answer.into_iter().collect()).await;
    let queue = Arc::new(Queue::default());
    let artifacts = Arc::new(Artifacts::new(Arc::new(bundle), queue.clone()));
    let key = Key::new(Kind::RouterVersion, "demo", "v1");
    let (found, wait) = artifacts.find(&key, &url);
    assert_eq!(found, Found::Coming);
    assert!(wait.is_some(), "one attempt at a time");
    assert_eq!(
        in_time(queue.next()).await,
        key,
        "the end of the attempt is told"
    );
    let (found, wait) = artifacts.find(&key, &url);
    assert!(wait.is_some(), "the next attempt waits");
    if trusts {
        std::fs::remove_file(folder).unwrap();
    }
    found
}

#[tokio::test]
async fn what_lies_at_the_address_comes_over_tls_that_the_authorities_vouch_for() {
    let found = attempt(Some(answer("200 OK", b"bytes")), true).await;
    assert_eq!(found, Found::Bytes(b"bytes".to_vec()));
    let refused = attempt(Some(answer("200 OK", b"bytes")), false).await;
    let Found::NotFetched(why) = refused else {
        panic!("{refused:?}")
    };
    assert!(why.contains("certificate"), "{why}");
}

#[tokio::test]
async fn nothing_else_is_taken_and_nobody_else_is_asked() {
    let too_large = vec![0; weir_router::artifact::BYTES_MAX + 1];
    let elsewhere =
        b"HTTP/1.1 302 Found\r\nlocation: https://elsewhere/\r\ncontent-length: 0\r\n\r\n";
    for (sent, said) in [
        (answer("503 Service Unavailable", b""), "503"),
        (answer("404 Not Found", b""), "404"),
        (answer("200 OK", &too_large), "128 KiB"),
        (elsewhere.to_vec(), "302"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec(),
            "body",
        ),
    ] {
        let found = attempt(Some(sent), true).await;
        let Found::NotFetched(why) = found else {
            panic!("{said}: {found:?}")
        };
        assert!(why.contains(said), "{said}: {why}");
    }
}
