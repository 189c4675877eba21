//! The part of a plan that lies on a gateway's disk: which revision it has, and when it is written anew.

use super::control::id;
use super::conversation::conversation;
use super::scenario::{Scenario, gateway, rollout};
use crate::control::server::Hub;
use crate::inference_gateway::{last_plan, slow_plan};
use crate::key::{Key, Kind};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::core::ObjectMeta;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_crds::InferenceGateway;
use weir_plan::{Auth, GatewayPlan};
use weir_reconcile::{Stack, names};

fn key() -> Key {
    Key::new(Kind::InferenceGateway, "demo", "support")
}

/// A cluster whose leader told nothing yet, with this plan on the disk.
fn scenario(gateway: InferenceGateway, on_disk: Option<&GatewayPlan>) -> Scenario {
    let secret = |plan: &GatewayPlan| {
        let plan = ByteString(serde_json::to_vec(plan).unwrap());
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(names::gateway_plan("support")),
                namespace: Some("demo".into()),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(names::PLAN_KEY.to_owned(), plan)])),
            ..Secret::default()
        };
        serde_json::to_value(secret).unwrap()
    };
    let made = on_disk.map(secret).into_iter().collect();
    let (client, hub) = (conversation(vec![]).0, Arc::new(Hub::default()));
    Scenario::with(client, hub, vec![rollout()], gateway, made)
}

fn slow(scenario: &Scenario) -> Option<GatewayPlan> {
    slow_plan(&scenario.context, &key()).unwrap()
}

#[tokio::test]
async fn what_is_mounted_has_the_revision_of_the_plan_that_was_told_and_no_candidate() {
    let scenario = scenario(gateway("v1"), None);
    assert_eq!(slow(&scenario), None, "nothing was told");
    assert_eq!(scenario.publish(), ["support"]);
    assert_eq!(scenario.publish(), [""; 0], "it says the same");
    let told = scenario.context.hub.plans.get(&id()).unwrap();
    let slow = slow(&scenario).unwrap();
    assert_eq!(slow.revision, told.revision);
    let told: GatewayPlan = serde_json::from_slice(told.plan.as_ref().unwrap()).unwrap();
    assert!(told.candidate.is_some() && slow.candidate.is_none());
    assert_eq!(
        told,
        GatewayPlan {
            candidate: told.candidate.clone(),
            ..slow
        }
    );
}

/// Else every election and every step of a rollout would write a Secret for every gateway.
#[tokio::test]
async fn a_candidate_that_moves_on_and_another_leader_write_nothing_and_a_changed_spec_does() {
    let first = scenario(gateway("v1"), None);
    first.publish();
    let on_disk = slow(&first).unwrap();

    let mut elected = scenario(gateway("v1"), Some(&on_disk));
    assert_eq!(
        slow(&elected).as_ref(),
        Some(&on_disk),
        "before it tells anything"
    );
    let told = |scenario: &Scenario| scenario.context.hub.plans.get(&id()).unwrap().revision;
    assert_eq!(elected.publish(), ["support"]);
    let before = told(&elected);
    elected.watch_tells(&json!({"status": {"weight": 50}}));
    assert_eq!(elected.publish(), ["support"]);
    assert!(told(&elected) > before);
    assert_eq!(slow(&elected).as_ref(), Some(&on_disk));

    let mut changed = gateway("v1");
    changed.spec.limits.queue_max += 1;
    let changed = scenario(changed, Some(&on_disk));
    changed.publish();
    let slow = slow(&changed).unwrap();
    assert_eq!(slow.revision, told(&changed));
    assert_ne!(slow.limits, on_disk.limits);
}

fn with_keys(conditions: &Value) -> InferenceGateway {
    let mut gateway = gateway("v1");
    gateway.spec.auth =
        serde_json::from_value(json!({"apiKeysSecretRef": {"name": "keys"}})).unwrap();
    let status = gateway.status.get_or_insert_default();
    status.conditions = serde_json::from_value(conditions.clone()).unwrap();
    gateway
}

/// The stack has no pool, so no plan can be made; that must not keep keys working that were taken back.
#[tokio::test]
async fn keys_that_were_taken_back_open_nothing_whatever_else_is_wrong() {
    let first = scenario(gateway("v1"), None);
    first.publish();
    let mut on_disk = slow(&first).unwrap();
    on_disk.revision.epoch -= 1;
    let gone = |reason: &str, status: &str| {
        with_keys(
            &json!([{"type": "KeysAccepted", "status": status, "reason": reason, "message": "",
                           "lastTransitionTime": "2026-01-01T00:00:00Z"}]),
        )
    };
    let nothing = Stack::default();
    let kept = gone("SecretGone", "Unknown");
    let scenario = scenario(kept.clone(), Some(&on_disk));
    let last = |gateway: &InferenceGateway| {
        last_plan(&scenario.context, &key(), (gateway, &nothing)).unwrap()
    };
    assert_eq!(
        last(&kept).as_ref(),
        Some(&on_disk),
        "they open for a while"
    );
    let closed = last(&gone("KeysWithdrawn", "False")).unwrap();
    assert_eq!(closed.auth, Auth::ApiKeys(Vec::new()));
    assert!(
        closed.revision > on_disk.revision,
        "or nobody would take it"
    );
}
