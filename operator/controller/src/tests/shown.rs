//! What is said of a Secret or ConfigMap that is there without the label by which Weir reads.

use super::conversation::{call, conversation, in_time};
use super::scenario::{Scenario, gateway, object};
use crate::shown;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use weir_crds::{Condition, RouterVersion};
use weir_reconcile::Problem;

const KEYS: &str = "/api/v1/namespaces/demo/secrets/keys";
const ARTIFACT: &str = "/api/v1/namespaces/demo/configmaps/v3";

fn found(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
           "metadata": {"name": name, "namespace": "demo", "labels": {"made": kind}}})
}

fn no_secret() -> Problem {
    Problem {
        kind: "InferenceGateway".into(),
        name: "support".into(),
        field: "spec.auth.apiKeysSecretRef.name".into(),
        reason: "SecretNotFound".into(),
        message: "no Secret is called \"keys\"".into(),
        instead: "add a Secret called keys".into(),
        left_out: false,
    }
}

#[tokio::test]
async fn a_secret_without_the_label_is_not_called_missing_and_one_that_is_missing_is() {
    let mut asks = gateway("v1");
    asks.spec.auth = serde_json::from_value(json!({"apiKeysSecretRef": {"name": "keys"}})).unwrap();
    let there = call(Method::GET, KEYS).answers(found("Secret", "keys"));
    let missing = call(Method::GET, KEYS).refuses(StatusCode::NOT_FOUND, "NotFound", "");
    for (answer, reason, instead) in [
        (
            there,
            "SecretNotShown",
            "run `kubectl label secret keys weir.dev/watch=true`",
        ),
        (missing, "SecretNotFound", "add a Secret called keys"),
    ] {
        let (client, calls) = conversation(vec![answer]);
        let scenario = Scenario::new(client, Arc::default(), Vec::new());
        let mut problems = [no_secret()];
        let about = [&asks];
        let explained = shown::explain(&scenario.context, &about, &mut problems);
        in_time(explained).await.unwrap();
        calls.ended();
        assert_eq!(problems[0].reason, reason);
        assert_eq!(problems[0].instead, instead);
    }
}

#[tokio::test]
async fn a_config_map_without_the_label_is_told_in_the_condition() {
    let rest =
        json!({"spec": {"artifact": {"configMap": {"name": "v3"}}, "sha256": "c3".repeat(32)}});
    let version: RouterVersion = object("RouterVersion", "v3", &rest);
    let (client, calls) = conversation(vec![
        call(Method::GET, ARTIFACT).answers(found("ConfigMap", "v3")),
    ]);
    let scenario = Scenario::new(client, Arc::default(), Vec::new());
    let mut conditions: [Condition; 1] = serde_json::from_value(json!([{
        "type": "Ready", "status": "False", "reason": "ConfigMapNotFound",
        "message": "no ConfigMap is called v3", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]))
    .unwrap();
    let explained = shown::explain_conditions(&scenario.context, &version, &mut conditions);
    in_time(explained).await.unwrap();
    calls.ended();
    assert_eq!(conditions[0].reason, "ConfigMapNotShown");
    assert!(
        conditions[0]
            .message
            .contains("kubectl label configmap v3 ")
    );
}
