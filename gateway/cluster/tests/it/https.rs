//! HTTPS to clients: whose certificate they see, a changed one under open connections, and what is never said in the clear.

use crate::certs::{Authority, mount};
use crate::echo::Echo;
use crate::node::{Files, Node, plan, pool};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use weir_gateway_cluster::Options;
use weir_proto::gateway::v1::ListModelsRequest;
use weir_proto::gateway::v1::gateway_client::GatewayClient;

/// Where the certificate for clients lies.
fn folder(files: &Files) -> PathBuf {
    files.path().join("https")
}

/// A gateway over HTTPS, with one pool behind it.
struct Secured {
    files: Files,
    node: Node,
    _echo: Echo,
}

impl Secured {
    /// With a certificate of this authority, or without one yet.
    async fn start(shown: Option<&Authority>) -> Self {
        let (files, echo) = (Files::new(), Echo::start("small").await);
        files.mount_plan(&plan(3, vec![pool("small", &[&echo])]));
        let options = Options {
            https: Some(folder(&files)),
            ..files.options(None)
        };
        if let Some(authority) = shown {
            show(&files, authority);
        }
        Self {
            node: Node::start(options).await,
            files,
            _echo: echo,
        }
    }
}

/// Puts a certificate of this authority where the gateway looks for it.
fn show(files: &Files, authority: &Authority) {
    mount(&folder(files), authority, &authority.server());
}

/// The address under the name that certificates are for.
fn address(node: &Node) -> String {
    node.url.replace("127.0.0.1", "localhost")
}

/// A client that believes one authority, on connections of its own.
fn believing(authority: &Authority) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy();
    let client = client.tls_built_in_root_certs(false);
    client.add_root_certificate(root).build().unwrap()
}

async fn models(client: &reqwest::Client, node: &Node) -> reqwest::Result<Value> {
    let url = format!("{}/v1/models", address(node));
    client.get(url).send().await?.json().await
}

/// Waits until a new connection shows a certificate of this authority.
async fn until_shown(authority: &Authority, node: &Node) {
    for _ in 0..100 {
        if models(&believing(authority), node).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the certificate is not shown");
}

#[tokio::test]
async fn clients_are_answered_over_https_whole_and_streamed() {
    let authority = Authority::new();
    let Secured { node, .. } = &Secured::start(Some(&authority)).await;
    let client = believing(&authority);
    let listed = models(&client, node).await.unwrap();
    assert_eq!(listed["object"], "list");
    let body = json!({"model": "small-model", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let url = format!("{}/v1/chat/completions", address(node));
    let reply = client.post(url).json(&body).send().await.unwrap();
    assert!(reply.status().is_success(), "{}", reply.status());
    assert!(reply.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    let stranger = models(&believing(&Authority::new()), node).await;
    assert!(stranger.is_err(), "another authority's word counts");
    // Probes and scrapes on a port of their own are not encrypted.
    let metrics = reqwest::get(format!("{}/metrics", node.metrics_url)).await;
    assert!(metrics.unwrap().status().is_success());
}

#[tokio::test]
async fn calls_over_grpc_are_answered_at_the_same_port() {
    let authority = Authority::new();
    let Secured { node, .. } = &Secured::start(Some(&authority)).await;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    let endpoint = Channel::from_shared(address(node)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut client = GatewayClient::new(channel);
    let listed = client.list_models(ListModelsRequest {}).await.unwrap();
    let listed = listed.into_inner().data;
    let ids: Vec<&str> = listed.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(ids, ["auto", "small-model"]);
}

#[tokio::test]
async fn a_changed_certificate_is_shown_to_new_connections_and_a_damaged_one_is_not() {
    let (first, second) = (Authority::new(), Authority::new());
    let Secured { files, node, .. } = &Secured::start(Some(&first)).await;
    let open = believing(&first);
    models(&open, node).await.unwrap();

    show(files, &second);
    until_shown(&second, node).await;
    models(&open, node)
        .await
        .expect("an open connection goes on");
    assert!(models(&believing(&first), node).await.is_err());

    // The key of another pair, and then no certificate at all.
    let key = first.server().key;
    std::fs::write(folder(files).join("tls.key"), key).unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    models(&believing(&second), node)
        .await
        .expect("the last good one stays");
    std::fs::remove_file(folder(files).join("tls.crt")).unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    models(&believing(&second), node)
        .await
        .expect("the last good one stays");
}

#[tokio::test]
async fn without_a_certificate_nobody_is_answered_until_there_is_one() {
    let authority = Authority::new();
    let Secured { files, node, .. } = &Secured::start(None).await;
    assert!(models(&believing(&authority), node).await.is_err());
    let plain = address(node).replace("https://", "http://");
    let told = reqwest::get(format!("{plain}/v1/models")).await.unwrap();
    assert_eq!(told.status().as_u16(), 400);
    let body: Value = told.json().await.unwrap();
    assert_eq!(body["error"]["code"], "https_only", "{body}");
    show(files, &authority);
    until_shown(&authority, node).await;
}

#[tokio::test]
async fn a_handshake_that_hangs_keeps_nobody_waiting_and_the_port_closes_on_leave() {
    let authority = Authority::new();
    let Secured { node, .. } = &Secured::start(Some(&authority)).await;
    let port = address(node).replace("https://", "");
    let mut hanging = Vec::new();
    for _ in 0..200 {
        let mut tcp = TcpStream::connect(&port).await.unwrap();
        tcp.write_all(&[22, 3, 1]).await.unwrap();
        hanging.push(tcp);
    }
    models(&believing(&authority), node).await.unwrap();
    node.stop.drain.cancel();
    for _ in 0..100 {
        if TcpStream::connect(&port).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        TcpStream::connect(&port).await.is_err(),
        "the port is still open"
    );
    let mut rest = Vec::new();
    let _ = hanging.pop().unwrap().read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_gateway_that_waits_for_its_plan_speaks_https_already() {
    let (files, authority) = (Files::new(), Authority::new());
    show(&files, &authority);
    let operator = crate::operator::Operator::start(&files.authority);
    let following = weir_gateway_cluster::Operator {
        url: operator.url(),
        tls: files.tls(),
    };
    let options = Options {
        https: Some(folder(&files)),
        ..files.options(Some(following))
    };
    let node = Node::start(options).await;
    let client = believing(&authority);
    let health = client.get(format!("{}/healthz", address(&node)));
    assert!(health.send().await.unwrap().status().is_success());
    let echo = Echo::start("small").await;
    operator.send_plan(&plan(3, vec![pool("small", &[&echo])]));
    for _ in 0..100 {
        if models(&client, &node)
            .await
            .is_ok_and(|listed| listed["object"] == "list")
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the plan is not served");
}
