//! The same YAML on one machine: what has no effect there is named, what cannot be served is refused.

use crate::golden::{in_crate, parse, stack};
use weir_crds::stack::SourceFile;
use weir_reconcile::{cluster_only, without_effect};

#[test]
fn the_example_of_a_cluster_is_served_and_says_what_has_no_effect() {
    let stack = stack(&in_crate("../../examples/stacks/cluster.yaml"));
    let gateway = &stack.gateways[0];
    assert_eq!(cluster_only(&stack, gateway), []);
    assert_eq!(
        without_effect(&stack, gateway),
        [
            "ModelPool/lfm2-350m: no effect in local mode: resources, replicas",
            "ModelPool/lfm2-1-2b: no effect in local mode: resources, autoscaling",
            "ModelPool/lfm2-2-6b: no effect in local mode: resources, autoscaling",
            "MemoryStore/kb: no effect in local mode: store.embedded",
            "InferenceGateway/support: no effect in local mode: replicas",
        ]
    );
}

#[test]
fn a_stack_for_one_machine_has_nothing_without_effect() {
    let stack = stack(&in_crate("../../examples/stacks/offline.yaml"));
    assert_eq!(without_effect(&stack, &stack.gateways[0]), [""; 0]);
}

#[test]
fn a_tenant_that_nobody_can_ask_as_is_named() {
    let tenants = "[{name: acme, privacyMax: local}, {name: anonymous, privacyMax: local}]";
    let lines = |auth: &str, keys: &str| {
        let text = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: InferenceGateway\nmetadata: {{name: demo}}\n\
             spec: {{pools: {{matchLabels: {{app: demo}}}}, auth: {auth}, tenants: {tenants}}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\nstringData: {keys}\n"
        );
        let path = "stack.yaml".into();
        let stack = parse(SourceFile { path, text });
        without_effect(&stack, &stack.gateways[0])
    };
    let of = |name: &str| vec![format!("InferenceGateway/demo: no key of a tenant: {name}")];
    let with_keys = "{apiKeysSecretRef: {name: keys}}";
    let acme = "{acme.laptop: 0123456789abcdef0123}";
    assert_eq!(lines("{anonymous: {}}", acme), of("acme"));
    assert_eq!(lines(with_keys, acme), of("anonymous"));
    assert_eq!(lines(with_keys, "{}"), of("acme, anonymous"));
}

#[test]
fn https_of_a_cluster_is_no_plain_http_to_others_here() {
    let refused = |listen: &str| {
        let text = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: InferenceGateway\nmetadata: {{name: demo}}\n\
             spec: {{pools: {{matchLabels: {{app: demo}}}}, auth: {{anonymous: {{}}}}, {listen}\
             expose: {{tlsSecretRef: {{name: ask}}}}}}\n"
        );
        let path = "stack.yaml".into();
        let stack = parse(SourceFile { path, text });
        let lines = without_effect(&stack, &stack.gateways[0]);
        assert_eq!(
            lines,
            ["InferenceGateway/demo: no effect in local mode: expose"]
        );
        let problems = cluster_only(&stack, &stack.gateways[0]).into_iter();
        problems
            .map(|problem| problem.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(refused(""), [""; 0]);
    assert_eq!(refused("listen: {address: \"::1\"}, "), [""; 0]);
    let said = "InferenceGateway/demo: spec.expose.tlsSecretRef: HTTPS is served in a cluster only, and others reach \
                0.0.0.0: write listen: {address: 127.0.0.1}, or remove expose.tlsSecretRef";
    assert_eq!(refused("listen: {address: 0.0.0.0}, "), [said]);
}

#[test]
fn engines_and_volumes_of_a_cluster_are_refused_only_where_they_are_used() {
    let text = "\
apiVersion: weir.dev/v1alpha1
kind: ModelPool
metadata: {name: gpu, labels: {app: demo}}
spec:
  model: {name: gpu, source: \"pvc://models/gpu\"}
  tier: server
  privacy: local
  engine: {vllm: {}}
---
apiVersion: weir.dev/v1alpha1
kind: MemoryStore
metadata: {name: kb}
spec: {embedding: {model: minilm, source: \"pvc://models/minilm\", dimensions: 384}}
---
apiVersion: weir.dev/v1alpha1
kind: InferenceGateway
metadata: {name: demo}
spec: {pools: {matchLabels: {app: demo}}, memory: kb, auth: {anonymous: {}}}
---
apiVersion: weir.dev/v1alpha1
kind: InferenceGateway
metadata: {name: other}
spec: {pools: {matchLabels: {app: other}}, auth: {anonymous: {}}}
";
    let stack = parse(SourceFile {
        path: "stack.yaml".into(),
        text: text.into(),
    });
    let fields = |gateway| -> Vec<String> {
        let problems = cluster_only(&stack, gateway).into_iter();
        problems
            .map(|problem| format!("{}/{} {}", problem.kind, problem.name, problem.field))
            .collect()
    };
    assert_eq!(
        fields(&stack.gateways[0]),
        [
            "ModelPool/gpu spec.engine.vllm",
            "ModelPool/gpu spec.model.source",
            "MemoryStore/kb spec.embedding.source",
        ]
    );
    assert_eq!(fields(&stack.gateways[1]), [""; 0]);
}
