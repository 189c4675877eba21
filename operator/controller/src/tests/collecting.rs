//! What is removed of kept router artifacts, and when.

use super::conversation::{Exchange, call, conversation, in_time};
use crate::cache::Caches;
use crate::cluster::Cluster;
use crate::collect::Collector;
use crate::lease::Leadership;
use http::{Method, StatusCode};
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use weir_crds::InferenceGateway;

const PATH: &str =
    "/api/v1/namespaces/demo/configmaps/weir-router-00000000000000000000000000000000";
const MINUTE: Duration = Duration::from_secs(60);

fn kept() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "weir-router-00000000000000000000000000000000", "namespace": "demo", "uid": "c1",
            "labels": {"app.kubernetes.io/managed-by": "weir", "weir.dev/router": "00000000000000000000000000000000"},
        },
        "immutable": true, "binaryData": {"router.onnx": "AA=="},
    })
}

fn other() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "small-engine-ca", "namespace": "demo", "uid": "c2",
                     "labels": {"app.kubernetes.io/managed-by": "weir", "weir.dev/pool": "small"}},
    })
}

/// The plan on the disk of gateway `support`.
fn plan() -> Value {
    let entry = format!("{}.onnx", "0".repeat(64));
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "support-gateway-plan", "namespace": "demo", "uid": "s1",
                     "labels": {"app.kubernetes.io/managed-by": "weir", "weir.dev/gateway": "support"}},
        "data": {"plan.json": "e30=", entry: "AA=="},
    })
}

fn gateway() -> InferenceGateway {
    serde_json::from_value(json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "InferenceGateway",
        "metadata": {"name": "support", "namespace": "demo"},
        "spec": {"pools": {"matchLabels": {"app": "demo"}}, "auth": {"anonymous": {}}},
    }))
    .unwrap()
}

async fn looks(leadership: Leadership, minutes: &[u32], expected: Vec<Exchange>) {
    looks_among(
        Caches::of(vec![kept(), other()]),
        (leadership, minutes),
        expected,
    )
    .await;
}

/// Looks at these minutes.
async fn looks_among(
    caches: Caches,
    (leadership, minutes): (Leadership, &[u32]),
    expected: Vec<Exchange>,
) {
    let (client, calls) = conversation(expected);
    let cluster = Cluster::new(client, watch::Sender::new(leadership).subscribe());
    let mut collector = Collector::new(cluster, Arc::new(caches), Arc::default());
    let start = Instant::now();
    for minute in minutes {
        in_time(collector.collect(start + MINUTE * *minute)).await;
    }
    calls.ended();
}

#[tokio::test]
async fn an_artifact_that_nothing_needed_for_ten_minutes_is_removed_and_nothing_else() {
    let leader = Leadership::Leader { epoch: 1 };
    looks(leader.clone(), &[0, 1, 9], vec![]).await;
    looks(leader, &[0, 1, 10], vec![call(Method::DELETE, PATH)]).await;
}

#[tokio::test]
async fn an_artifact_on_the_disk_of_a_gateway_stays_without_its_version() {
    let leads = || (Leadership::Leader { epoch: 1 }, [0, 10].as_slice());
    let mut gateways = Writer::default();
    gateways.apply_watcher_event(&Event::Apply(gateway()));
    let mut caches = Caches::of(vec![kept(), plan()]);
    caches.gateways = gateways.as_reader();
    looks_among(caches, leads(), vec![]).await;
    // What is left of a gateway that is gone keeps nothing.
    let caches = Caches::of(vec![kept(), plan()]);
    looks_among(caches, leads(), vec![call(Method::DELETE, PATH)]).await;
}

#[tokio::test]
async fn a_removal_that_failed_is_tried_again() {
    let expected = vec![
        call(Method::DELETE, PATH).refuses(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", ""),
        call(Method::DELETE, PATH),
    ];
    looks(Leadership::Leader { epoch: 1 }, &[0, 10, 11], expected).await;
}

#[tokio::test]
async fn a_follower_removes_nothing() {
    let follower = Leadership::Follower { leader: None };
    looks(follower, &[0, 10], vec![]).await;
}
