//! The stacks that users read first.

use crate::golden::in_crate;
use weir_crds::stack::{Resource, SourceFile};

#[test]
fn example_stacks_are_valid() {
    for name in [
        "offline.yaml",
        "lfm2.yaml",
        "cluster.yaml",
        "external-memory.yaml",
    ] {
        let path = in_crate("../examples/stacks").join(name);
        let file = SourceFile::read(&path).expect("the example exists");
        let documents = match weir_crds::stack::parse(&[file]) {
            Ok(documents) => documents,
            Err(findings) => panic!(
                "{}",
                findings
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n")
            ),
        };
        let gateways = documents
            .iter()
            .filter(|document| matches!(document.resource, Resource::InferenceGateway(_)));
        assert_eq!(gateways.count(), 1, "{name}");
    }
}

#[test]
fn what_was_not_written_takes_the_schema_s_default() {
    let text = "apiVersion: weir.dev/v1alpha1\nkind: InferenceGateway\nmetadata: {name: g}\n\
                spec: {pools: {matchLabels: {a: b}}, auth: {anonymous: {}}, privacy: {max: cloud}}\n";
    let file = SourceFile {
        path: "g.yaml".into(),
        text: text.into(),
    };
    let documents = weir_crds::stack::parse(&[file]).expect("valid");
    let Resource::InferenceGateway(gateway) = &documents[0].resource else {
        panic!("{documents:?}")
    };
    assert_eq!(gateway.spec.listen.port, 8080);
    assert_eq!(gateway.spec.privacy.default, weir_crds::Privacy::Local);
    assert_eq!(gateway.spec.limits.request_timeout.milliseconds(), 60_000);
    assert!((gateway.spec.router.objective.per_second - 0.05).abs() < 1e-9);
}
