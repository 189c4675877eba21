//! A cluster for tests: what its operator was started with, the time, and every step of a kind at once.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use weir_crds::{InferenceGateway, MemoryStore, ModelPool};
use weir_plan::Revision;
use weir_reconcile::{Object, Platform, Stack, inference_gateway, memory_store, model_pool, plan};

pub(crate) const NAMESPACE: &str = "shop";

pub(crate) fn platform() -> Platform {
    Platform {
        image: "example.com/weir:1".into(),
        llama_cpp_image: "example.com/llama.cpp:1".into(),
        vllm_image: "example.com/vllm:1".into(),
        operator_namespace: "weir-system".into(),
        operator_address: "https://weir-operator.weir-system.svc:7443".into(),
        operator_ca: "-----BEGIN CERTIFICATE-----".into(),
        ca_bundle: None,
        environment: BTreeMap::from([("NO_PROXY".to_owned(), ".svc".to_owned())]),
    }
}

/// Two o'clock.
pub(crate) fn now() -> weir_reconcile::condition::Timestamp {
    "2026-11-26T02:00:00Z".parse().expect("a time")
}

pub(crate) fn pool(
    pool: &ModelPool,
    stack: &Stack,
    observed: &model_pool::Observed,
) -> (Vec<Object>, Value) {
    let problems = model_pool::validate(pool, stack);
    let objects = match problems.is_empty() {
        true => model_pool::build(pool, stack, &platform(), observed.deployment.as_ref()),
        false => Vec::new(),
    };
    let status = model_pool::status(pool, stack, observed, (&problems, now()));
    (objects, json!(status))
}

pub(crate) fn memory(
    store: &MemoryStore,
    stack: &Stack,
    observed: &memory_store::Observed,
) -> (Vec<Object>, Value) {
    let problems = memory_store::validate(store, stack);
    let objects = match problems.is_empty() {
        true => memory_store::build(store, stack, &platform()),
        false => Vec::new(),
    };
    let status = memory_store::status(store, stack, observed, (&problems, now()));
    (objects, json!(status))
}

pub(crate) fn gateway(
    gateway: &InferenceGateway,
    stack: &Stack,
    observed: &inference_gateway::Observed,
) -> (Vec<Object>, Value) {
    let name = gateway.metadata.name.as_deref().unwrap_or_default();
    let seen = inference_gateway::observed(gateway, stack, &BTreeMap::new(), Revision::default());
    let problems = inference_gateway::validate(gateway, stack);
    let plan = plan(stack, name, &seen).ok();
    let slow = plan.map(|plan| inference_gateway::slow_plan(&plan, NAMESPACE));
    let material = inference_gateway::Material {
        plan: slow.as_ref(),
        artifacts: &BTreeMap::new(),
    };
    let objects = inference_gateway::build(gateway, &platform(), material);
    let status = inference_gateway::status(gateway, stack, observed, (&problems, now()));
    (objects, json!(status))
}

/// Objects as YAML documents. What is only another writing of something else in them is shortened.
pub(crate) fn yaml(objects: &[Object]) -> String {
    let mut text = String::new();
    for object in objects {
        let mut json = object.to_json();
        let template = json["spec"]["template"].clone();
        if let Some(kept) = json
            .pointer_mut("/metadata/annotations")
            .and_then(|annotations| annotations.get_mut(model_pool::TEMPLATE_ANNOTATION))
        {
            let words = kept.as_str().expect("an annotation is text");
            let words: Value = serde_json::from_str(words).expect("the template is JSON");
            assert_eq!(words, template, "the annotation is not the template");
            *kept = "(the template)".into();
        }
        if let Some(plan) = plan_of(object) {
            json["data"]["plan.json"] = plan;
        }
        text.push_str("---\n");
        text.push_str(&weir_crds::yaml::to_string(&json));
    }
    text
}

fn plan_of(object: &Object) -> Option<Value> {
    let Object::Secret(secret) = object else {
        return None;
    };
    let plan = secret.data.as_ref()?.get("plan.json")?;
    serde_json::from_slice(&plan.0).ok()
}
