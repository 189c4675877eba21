//! Whom a gateway believes, certificates that are renewed, and an operator that falls silent.

use crate::certs::{Authority, mount};
use crate::echo::Echo;
use crate::node::{Files, plan, pool};
use crate::operator::Operator;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[tokio::test]
async fn a_stranger_with_the_operators_address_is_not_believed() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    files.mount_plan(&plan(3, vec![pool("small", &[&echo])]));
    let stranger = Authority::new();
    // It accepts the gateway's certificate and shows one of another authority.
    let address = "127.0.0.1:0".parse().unwrap();
    let operator = Operator::start_at(address, &files.authority, &stranger.server());
    operator.send_plan(&plan(9, vec![pool("stolen", &[&echo])]));
    let node = files.start(&operator.url()).await;
    let connected = tokio::time::timeout(Duration::from_secs(2), operator.hello(1)).await;
    assert!(connected.is_err(), "{connected:?}");
    assert_eq!(node.until_served(3).await["plan"]["stale"], true);
}

#[tokio::test]
async fn renewed_certificates_are_used_without_a_restart() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    files.mount_plan(&plan(3, vec![pool("small", &[&echo])]));
    let stranger = Authority::new();
    mount(&files.tls(), &files.authority, &stranger.client());
    let operator = Operator::start(&files.authority);
    operator.send_plan(&plan(3, vec![pool("small", &[&echo])]));
    let node = files.start(&operator.url()).await;
    let connected = tokio::time::timeout(Duration::from_secs(1), operator.hello(1)).await;
    assert!(connected.is_err(), "the operator knows no such gateway");
    mount(&files.tls(), &files.authority, &files.authority.client());
    operator.hello(1).await;
    node.until_ready(|_, body| body["plan"]["stale"] == false)
        .await;
    mount(&files.tls(), &files.authority, &files.authority.client());
    operator.hello(2).await;
    operator.send_plan(&plan(4, vec![pool("small", &[&echo])]));
    node.until_served(4).await;
}

#[tokio::test]
async fn an_operator_that_falls_silent_is_noticed_within_five_seconds() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    files.mount_plan(&plan(3, vec![pool("small", &[&echo])]));
    let operator = Operator::start(&files.authority);
    let relay = Relay::start(operator.address).await;
    let _node = files
        .start(&format!("https://localhost:{}", relay.port))
        .await;
    operator.hello(1).await;
    relay.frozen.send_replace(true);
    let since = Instant::now();
    relay.until_connections(2).await;
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test]
async fn an_operator_that_accepts_and_never_greets_is_given_up_and_tried_again() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    files.mount_plan(&plan(3, vec![pool("small", &[&echo])]));
    let operator = Operator::start(&files.authority);
    let relay = Relay::start(operator.address).await;
    relay.frozen.send_replace(true);
    let _node = files
        .start(&format!("https://localhost:{}", relay.port))
        .await;
    relay.until_connections(2).await;
    relay.frozen.send_replace(false);
    operator.hello(1).await;
}

/// Carries bytes both ways until it is frozen: then it holds every connection open and says nothing more.
struct Relay {
    port: u16,
    frozen: watch::Sender<bool>,
    connections: watch::Receiver<usize>,
}

impl Relay {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let frozen = watch::channel(false).0;
        let (count, connections) = watch::channel(0);
        let told = frozen.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                let mut frozen = told.subscribe();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(to).await.unwrap();
                    let frozen = async { drop(frozen.wait_for(|frozen| *frozen).await) };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        () = frozen => std::future::pending().await,
                    }
                });
            }
        });
        Self {
            port,
            frozen,
            connections,
        }
    }

    async fn until_connections(&self, wanted: usize) {
        let mut connections = self.connections.clone();
        let reached = connections.wait_for(|count| *count >= wanted);
        let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
        reached.unwrap().unwrap();
    }
}
