//! Objects and status of each kind, as reviewed files: `cases/KIND/NAME/spec.yaml` is a stack whose first object of the
//! kind is meant, `observed.yaml` what was observed of it; they give `desired.yaml` and `status.yaml`.

use crate::cluster;
use crate::golden::{compare, folders, read, stack};
use serde_json::{Map, Value};
use std::path::Path;
use weir_reconcile::{Object, Stack, model_pool};

fn check(kind: &str, steps: impl Fn(&Stack, &Path) -> (Vec<Object>, Value)) {
    for folder in folders(&format!("cases/{kind}")) {
        let stack = stack(&folder.join("spec.yaml"));
        let observed = folder.join("observed.yaml");
        let (objects, status) = steps(&stack, &observed);
        assert_eq!(
            steps(&stack, &observed).1,
            status,
            "{}: the same input gave another status",
            folder.display()
        );
        compare(&folder.join("desired.yaml"), &cluster::yaml(&objects));
        compare(
            &folder.join("status.yaml"),
            &weir_crds::yaml::to_string(&status),
        );
    }
}

/// What was observed of the first pool. `(current)` stands for the hash of its template.
fn seen(stack: &Stack, path: &Path) -> model_pool::Observed {
    let hash = model_pool::template_hash(&stack.pools[0], stack);
    let value: Option<Value> = read(path);
    let text = value
        .unwrap_or_default()
        .to_string()
        .replace("(current)", &hash);
    let observed: Option<model_pool::Observed> =
        serde_json::from_str(&text).expect("an observation");
    observed.unwrap_or_default()
}

#[test]
fn model_pools_give_their_reviewed_objects_and_status() {
    check("model_pool", |stack, observed| {
        cluster::pool(&stack.pools[0], stack, &seen(stack, observed))
    });
}

#[test]
fn memory_stores_give_their_reviewed_objects_and_status() {
    check("memory_store", |stack, observed| {
        let observed = read(observed).unwrap_or_default();
        cluster::memory(&stack.memories[0], stack, &observed)
    });
}

#[test]
fn gateways_give_their_reviewed_objects_and_status() {
    check("inference_gateway", |stack, observed| {
        let observed = read(observed).unwrap_or_default();
        cluster::gateway(&stack.gateways[0], stack, &observed)
    });
}

#[test]
fn a_status_seen_again_later_is_the_same() {
    for folder in folders("cases/model_pool") {
        let mut stack = stack(&folder.join("spec.yaml"));
        let observed = seen(&stack, &folder.join("observed.yaml"));
        let (_, first) = cluster::pool(&stack.pools[0], &stack, &observed);
        stack.pools[0].status = serde_json::from_value(first.clone()).expect("a status");
        let (_, again) = cluster::pool(&stack.pools[0], &stack, &observed);
        assert_eq!(first, again, "{}", folder.display());
    }
}

/// Every object is in the custom resource's namespace and goes with it, except a volume that is to stay.
#[test]
fn objects_belong_to_their_resource() {
    for (kind, count) in [
        ("model_pool", 1),
        ("memory_store", 1),
        ("inference_gateway", 1),
    ] {
        for folder in folders(&format!("cases/{kind}")) {
            let path = folder.join("desired.yaml");
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for document in weir_crds::yaml::documents(&text).expect("YAML") {
                let Value::Object(object) = document.value else {
                    continue;
                };
                assert_owned(&object, count, &path);
            }
        }
    }
}

fn assert_owned(object: &Map<String, Value>, owners: usize, path: &Path) {
    let metadata = &object["metadata"];
    assert_eq!(
        metadata["namespace"],
        cluster::NAMESPACE,
        "{}",
        path.display()
    );
    let found = metadata["ownerReferences"].as_array().map_or(0, Vec::len);
    let stays = object["kind"] == "PersistentVolumeClaim" && found == 0;
    assert!(found == owners || stays, "{}: {object:?}", path.display());
    assert_eq!(metadata["labels"]["app.kubernetes.io/managed-by"], "weir");
}

/// Pod Security `restricted`, requests and probes, for every pod of every case.
#[test]
fn pods_are_restricted_probed_and_counted() {
    let mut pods = 0;
    for kind in ["model_pool", "memory_store", "inference_gateway"] {
        for folder in folders(&format!("cases/{kind}")) {
            let text = std::fs::read_to_string(folder.join("desired.yaml")).unwrap_or_default();
            for document in weir_crds::yaml::documents(&text).expect("YAML") {
                let spec = &document.value["spec"]["template"]["spec"];
                if spec.is_object() {
                    assert_restricted(spec);
                    pods += 1;
                }
            }
        }
    }
    assert!(pods > 3, "only {pods} pods were looked at");
}

fn assert_restricted(spec: &Value) {
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        spec["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    assert_eq!(spec["automountServiceAccountToken"], false);
    let containers = spec["containers"].as_array().expect("containers");
    let fetching = spec["initContainers"].as_array().into_iter().flatten();
    for container in containers.iter().chain(fetching) {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["capabilities"]["drop"][0], "ALL");
        assert_eq!(security["readOnlyRootFilesystem"], true);
        // A limit alone is its own request.
        let resources = &container["resources"];
        for name in ["cpu", "memory"] {
            let amount = [&resources["requests"][name], &resources["limits"][name]];
            assert!(amount.iter().any(|amount| amount.is_string()), "no {name}");
        }
    }
    for container in containers {
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            assert!(container[probe].is_object(), "no {probe}");
        }
    }
}
