//! An engine restarts when its pool changes, and for nothing else. A gateway is given the time that its requests may take.

use crate::cluster::{self, platform};
use crate::golden::{in_crate, stack};
use k8s_openapi::api::apps::v1::Deployment;
use weir_reconcile::{Object, Platform, Stack, model_pool};

fn deployment(stack: &Stack, platform: &Platform, existing: Option<&Deployment>) -> Deployment {
    let objects = model_pool::build(&stack.pools[0], stack, platform, existing);
    let deployment = objects.into_iter().find_map(|object| match object {
        Object::Deployment(deployment) => Some(*deployment),
        _ => None,
    });
    deployment.expect("a pool of ours has a Deployment")
}

fn newer() -> Platform {
    Platform {
        image: "example.com/weir:2".into(),
        llama_cpp_image: "example.com/llama.cpp:2".into(),
        ca_bundle: Some("-----BEGIN CERTIFICATE-----".into()),
        ..platform()
    }
}

#[test]
fn an_operator_upgrade_changes_no_pod_template() {
    let stack = stack(&in_crate("cases/model_pool/serving/spec.yaml"));
    let before = deployment(&stack, &platform(), None);
    let after = deployment(&stack, &newer(), Some(&before));
    assert_eq!(before, after);
}

#[test]
fn an_authority_that_is_renewed_restarts_no_download() {
    let stack = stack(&in_crate("cases/model_pool/serving/spec.yaml"));
    let renewed = Platform {
        operator_ca: "-----BEGIN CERTIFICATE-----\nanother".into(),
        ..platform()
    };
    let before = deployment(&stack, &platform(), None);
    assert_eq!(deployment(&stack, &renewed, None), before);
}

#[test]
fn a_pool_that_changes_takes_the_images_of_the_operator_as_it_is_now() {
    let mut stack = stack(&in_crate("cases/model_pool/serving/spec.yaml"));
    let before = deployment(&stack, &platform(), None);
    stack.pools[0].spec.model.sha256 = Some("0".repeat(64));
    let after = deployment(&stack, &newer(), Some(&before));
    let text = serde_json::to_string(&after).expect("plain data");
    assert!(text.contains("example.com/weir:2"), "{text}");
    assert!(!text.contains("example.com/weir:1"), "{text}");
}

#[test]
fn what_no_engine_sees_restarts_none() {
    let mut stack = stack(&in_crate("cases/model_pool/serving/spec.yaml"));
    let before = deployment(&stack, &platform(), None);
    let spec = &mut stack.pools[0].spec;
    spec.replicas = 7;
    spec.cost.prompt_per_million = 3.0;
    spec.sampling.temperature = Some(1.0);
    spec.model.license = Some("MIT".into());
    spec.update.max_unavailable = 1;
    let after = deployment(&stack, &platform(), Some(&before));
    let template =
        |deployment: &Deployment| deployment.spec.as_ref().map(|spec| spec.template.clone());
    assert_eq!(template(&before), template(&after));
    assert_eq!(after.spec.and_then(|spec| spec.replicas), Some(7));
}

#[test]
fn a_template_that_somebody_broke_is_built_again() {
    let stack = stack(&in_crate("cases/model_pool/serving/spec.yaml"));
    let mut before = deployment(&stack, &platform(), None);
    let whole = before.clone();
    let annotations = before.metadata.annotations.as_mut().expect("annotations");
    annotations.insert(model_pool::TEMPLATE_ANNOTATION.into(), "{".into());
    assert_eq!(deployment(&stack, &platform(), Some(&before)), whole);
}

#[test]
fn a_gateway_that_ends_is_given_as_long_as_its_longest_request() {
    let grace = |case: &str| {
        let stack = stack(&in_crate(case));
        let (objects, _) = cluster::gateway(&stack.gateways[0], &stack, &Default::default());
        let deployment = objects.into_iter().find_map(|object| match object {
            Object::Deployment(deployment) => deployment.spec?.template.spec,
            _ => None,
        });
        let pod = deployment.expect("a gateway has a Deployment");
        pod.termination_grace_period_seconds
    };
    assert_eq!(grace("cases/plan/minimal/stack.yaml"), Some(60 + 20));
    assert_eq!(
        grace("cases/plan/ladder/stack.yaml"),
        Some(300 + 20),
        "requestTimeout: 5m"
    );
}
