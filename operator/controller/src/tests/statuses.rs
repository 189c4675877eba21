//! What is called when a status is written.

use super::conversation::{call, conversation, in_time};
use crate::cluster::Cluster;
use crate::events::Events;
use crate::lease::Leadership;
use crate::status::Statuses;
use http::{Method, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use weir_crds::ModelPool;

const STATUS: &str = "/apis/weir.dev/v1alpha1/namespaces/demo/modelpools/small/status";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/demo/events";

fn pool(status: &Value) -> ModelPool {
    serde_json::from_value(json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "ModelPool",
        "metadata": {"name": "small", "namespace": "demo", "uid": "u1"},
        "spec": {"model": {"name": "small"}, "tier": "edge", "privacy": "local",
                 "engine": {"external": {"url": "http://small"}}},
        "status": status,
    }))
    .unwrap()
}

fn status(ready: &str, speed: f64) -> Value {
    json!({
        "engine": "external", "replicas": 1, "readyReplicas": 1, "desiredReplicas": 1,
        "performance": {"prefillTokensPerSecond": 100.0, "decodeTokensPerSecond": speed,
                        "measuredAt": "2026-01-01T00:00:00Z"},
        "conditions": [{"type": "Ready", "status": ready, "reason": ready, "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    })
}

fn statuses(client: Client) -> Statuses {
    let leads = watch::Sender::new(Leadership::Leader { epoch: 1 });
    let cluster = Cluster::new(client, leads.subscribe());
    Statuses::new(cluster.clone(), Events::new(cluster, "me"))
}

#[tokio::test]
async fn a_status_that_says_the_same_is_not_written() {
    let (client, calls) = conversation(vec![]);
    let known = pool(&status("True", 10.0));
    let same = serde_json::to_value(known.status.clone()).unwrap();
    let mut later = same.clone();
    later["conditions"][0]["lastTransitionTime"] = "2026-06-06T00:00:00Z".into();
    let wait = in_time(statuses(client).write(&known, &later))
        .await
        .unwrap();
    assert_eq!(wait, None);
    calls.ended();
}

#[tokio::test]
async fn a_turn_is_written_at_once_and_told() {
    let (client, calls) = conversation(vec![
        call(Method::PATCH, STATUS)
            .with("fieldManager=weir.dev%2Foperator")
            .answers(serde_json::to_value(pool(&status("False", 10.0))).unwrap()),
        call(Method::POST, EVENTS).answers(json!({"metadata": {}, "eventTime": null})),
    ]);
    let known = pool(&status("True", 10.0));
    let mut turned = serde_json::to_value(known.status.clone()).unwrap();
    turned["conditions"][0]["status"] = "False".into();
    turned["conditions"][0]["reason"] = "Unreachable".into();
    in_time(statuses(client).write(&known, &turned))
        .await
        .unwrap();
    calls.ended();
    let patch = calls.body(0);
    assert_eq!(patch["status"]["conditions"][0]["status"], "False");
    assert_eq!(
        patch["status"].get("replicas"),
        None,
        "what stays is not sent"
    );
    assert_eq!(calls.body(1)["reason"], "Unreachable");
    assert_eq!(calls.body(1)["type"], "Warning");
}

#[tokio::test]
async fn a_failure_is_told_as_a_warning() {
    let answer = json!({"metadata": {}, "eventTime": null});
    let (client, calls) = conversation(vec![call(Method::POST, EVENTS).answers(answer)]);
    let told = pool(&status("True", 10.0));
    in_time(statuses(client).failed(&told, "apply Deployment small-engine: timed out")).await;
    calls.ended();
    assert_eq!(calls.body(0)["reason"], "ReconcileFailed");
    assert_eq!(calls.body(0)["type"], "Warning");
    assert_eq!(
        calls.body(0)["note"],
        "apply Deployment small-engine: timed out"
    );
}

#[tokio::test(start_paused = true)]
async fn numbers_alone_wait_half_a_minute_after_the_last_write() {
    let answer = serde_json::to_value(pool(&status("True", 10.0))).unwrap();
    let patch = || call(Method::PATCH, STATUS).answers(answer.clone());
    let (client, calls) = conversation(vec![patch(), patch()]);
    let statuses = statuses(client);
    let known = pool(&status("True", 10.0));
    let faster = serde_json::to_value(pool(&status("True", 11.0)).status).unwrap();
    assert_eq!(
        in_time(statuses.write(&known, &faster)).await.unwrap(),
        None
    );
    let wait = in_time(statuses.write(&known, &faster)).await.unwrap();
    let wait = wait.expect("it was written just now");
    tokio::time::advance(wait).await;
    assert_eq!(
        in_time(statuses.write(&known, &faster)).await.unwrap(),
        None
    );
    calls.ended();
}

#[tokio::test]
async fn an_object_that_was_deleted_meanwhile_is_no_error() {
    let (client, calls) = conversation(vec![call(Method::PATCH, STATUS).refuses(
        StatusCode::NOT_FOUND,
        "NotFound",
        "",
    )]);
    let known = pool(&status("True", 10.0));
    let turned = serde_json::to_value(pool(&status("False", 10.0)).status).unwrap();
    in_time(statuses(client).write(&known, &turned))
        .await
        .unwrap();
    calls.ended();
}
