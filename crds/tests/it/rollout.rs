//! The rules of a RouterRollout, which no stack holds: what may change in it.

use kube::core::cel::Validator;
use serde_json::{Value, json};

fn schema() -> Value {
    let (_, crd) = weir_crds::crds()
        .into_iter()
        .find(|(file, _)| *file == "routerrollouts.yaml")
        .expect("the CRD of rollouts");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

fn spec() -> Value {
    json!({
        "gateway": "support",
        "from": {"version": "router-v6", "sha256": "a".repeat(64)},
        "to": {"version": "router-v7", "sha256": "b".repeat(64)},
        "shadow": {"requests": 100},
        "canary": {"steps": [5, 25, 50], "requestsPerStep": 200},
        "gate": {"p99LatencyRatioMax": 1.1, "errorRateMax": 0.01, "confidence": 0.95},
        "action": "Continue"
    })
}

fn refusals(change: impl Fn(&mut Value)) -> Vec<String> {
    let (old, mut new) = (spec(), spec());
    change(&mut new);
    match Validator::new().validate(&schema(), &new, Some(&old)) {
        Ok(()) => Vec::new(),
        Err(broken) => broken
            .into_vec()
            .into_iter()
            .map(|error| error.message)
            .collect(),
    }
}

#[test]
fn only_the_action_of_a_rollout_changes() {
    assert_eq!(refusals(|spec| spec["action"] = "Abort".into()), [""; 0]);
    let changes: [fn(&mut Value); 7] = [
        |spec| spec["gateway"] = "other".into(),
        |spec| spec["from"]["version"] = "router-v5".into(),
        |spec| spec["to"]["sha256"] = "c".repeat(64).into(),
        |spec| spec["shadow"]["requests"] = 0.into(),
        |spec| spec["canary"]["requestsPerStep"] = 1.into(),
        |spec| spec["gate"]["errorRateMax"] = 1.into(),
        |spec| spec["gate"]["regretMax"] = 0.5.into(),
    ];
    for change in changes {
        let refused = refusals(change);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].contains("change the gateway's router.rollout"));
    }
}

#[test]
fn a_rollout_has_the_defaults_of_the_gateway_s_policy() {
    let policy: weir_crds::RolloutPolicy = serde_json::from_value(json!({})).expect("defaults");
    assert_eq!(policy, weir_crds::RolloutPolicy::default());
    assert_eq!(policy.canary.steps, [5, 25, 50]);
}
