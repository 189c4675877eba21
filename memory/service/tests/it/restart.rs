//! The service ends and comes back while a gateway goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use weir_gateway::MemoryAsset;
use weir_gateway::ask::{Ask, Caller};
use weir_memory_live::{MemoryCalls, Presence};
use weir_memory_service::{Options, ServeError, Store};

use crate::http::{call, gateway};
use crate::world::{World, away, start, until};

fn ask() -> Ask {
    let caller = Caller {
        tenant: "acme".to_owned(),
        ..Caller::default()
    };
    Ask::question("When does the heron fish?", caller)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_without_recall_while_the_service_restarts_and_with_it_afterwards() {
    let Some(world) = World::new() else { return };
    let (service, remote) = world.connected().await;
    let address = service.calls;
    let remote = Arc::new(remote);
    let calls: Arc<dyn MemoryCalls> = remote.clone();
    let gateway = gateway(MemoryAsset::Service(calls), world.dimensions);
    let heron = json!({"nodes": [{"text": "The heron fishes at dawn."}]});
    let search = json!({"query": "heron"});
    let post = async |path: &str, body: &Value| {
        let path = format!("/v1/memory/{path}");
        call(&gateway, "acme", Method::POST, &path, body).await
    };
    assert_eq!(post("nodes", &heron).await.0, 200);
    assert_eq!(gateway.prepare(&ask()).await.unwrap().features.len(), 3);

    // Questions all the while; none may fail, or wait longer than a late store lets it wait.
    let asking = tokio::spawn({
        let gateway = gateway.clone();
        async move {
            let (mut recalled, mut without, mut longest) = (0, 0, Duration::ZERO);
            let mut gone = false;
            loop {
                let started = Instant::now();
                let prepared = gateway.prepare(&ask()).await.unwrap();
                longest = longest.max(started.elapsed());
                match prepared.features.len() {
                    3 => recalled += 1,
                    _ => without += 1,
                }
                gone |= without > 0;
                if gone && prepared.features.len() == 3 {
                    return (recalled, without, longest);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    service.stop().await;
    away(&remote).await;
    let (status, error) = post("search", &search).await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (503, &json!("unavailable"))
    );
    let (_, ready) = call(&gateway, "", Method::GET, "/readyz", &Value::Null).await;
    assert_eq!(ready["memory"]["reason"], "MemoryAway", "{ready}");
    assert!(!ready.to_string().contains("localhost"), "{ready}");

    let again = start(Options {
        listen: address,
        ..world.options()
    })
    .await;
    let (_, without, longest) = tokio::time::timeout(Duration::from_secs(20), asking)
        .await
        .unwrap()
        .unwrap();
    assert!(
        without > 0 && longest < Duration::from_secs(3),
        "{without} {longest:?}"
    );
    let (status, found) = post("search", &search).await;
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["hits"][0]["text"], "The heron fishes at dawn.");
    let (_, ready) = call(&gateway, "", Method::GET, "/readyz", &Value::Null).await;
    assert_eq!(ready["memory"]["nodes"], 1, "{ready}");
    drop((gateway, remote));
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_model_is_not_asked_and_says_why() {
    let Some(world) = World::new() else { return };
    let service = world.serve().await;
    let mut asked = world.asked(service.calls);
    asked.dimensions = 7;
    let remote = weir_gateway_cluster::RemoteMemory::new(asked);
    let said = async || matches!(remote.presence(), Presence::Away(why) if why.contains("the plan says 7"));
    until("the client sees that the dimensions differ", said).await;
    let mut asked = world.asked(service.calls);
    asked.embedding_model = "another".to_owned();
    let remote = weir_gateway_cluster::RemoteMemory::new(asked);
    let said =
        async || matches!(remote.presence(), Presence::Away(why) if why.contains("\"another\""));
    until("the client sees that the models differ", said).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_not_opened_for_another_model_or_an_embedder_of_another_length() {
    let Some(world) = World::new() else { return };
    world.serve().await.stop().await;
    let renamed = start(Options {
        model: "another".to_owned(),
        ..world.options()
    });
    let error = renamed.await.failed().await;
    assert!(
        error.to_string().contains("\"minilm\", not \"another\""),
        "{error}"
    );
    let shorter = start(Options {
        store: Store::Folder(world.path("other")),
        dimensions: 7,
        ..world.options()
    });
    let error = shorter.await.failed().await;
    assert!(
        matches!(error, ServeError::Dimensions { wanted: 7, .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_without_a_certificate_hear_that_an_open_store_is_ready() {
    let Some(world) = World::new() else { return };
    let service = world.serve().await;
    assert!(service.page("/healthz").await.starts_with("HTTP/1.1 200"));
    let ready = async || service.page("/readyz").await.starts_with("HTTP/1.1 200");
    until("the service is ready", ready).await;
    service.stop().await;
}
