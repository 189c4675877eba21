//! Router versions: what verified bytes say, and what is said of others.

use crate::cluster::now;
use crate::golden::parse;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use std::collections::{BTreeMap, BTreeSet};
use weir_crds::stack::SourceFile;
use weir_crds::{RouterVersion, RouterVersionStatus};
use weir_reconcile::router_version::{Found, address, counts, find, status};
use weir_reconcile::{Object, Stack, router_version};
use weir_router::{ArmTable, Artifact, FeatureSchema};

/// A version of this digest, a pool, and a gateway that uses both.
pub(crate) fn stack_of(sha256: &str) -> Stack {
    let text = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: RouterVersion\nmetadata: {{name: v1, namespace: shop, generation: 1}}\n\
         spec: {{artifact: {{configMap: {{name: routers}}}}, sha256: \"{sha256}\"}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: ModelPool\nmetadata: {{name: small, labels: {{app: demo}}}}\n\
         spec:\n  model: {{name: small, source: hf://o/r/small.gguf}}\n  tier: edge\n  privacy: local\n  \
         engine: {{llamaCpp: {{}}}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: InferenceGateway\nmetadata: {{name: demo, namespace: shop}}\n\
         spec: {{pools: {{matchLabels: {{app: demo}}}}, auth: {{anonymous: {{}}}}, router: {{version: v1}}}}\n"
    );
    parse(SourceFile {
        path: "stack.yaml".into(),
        text,
    })
}

fn artifact(models: usize) -> Artifact {
    Artifact::constant(&ArmTable::standard(models), &[2.0, 3.0])
}

/// Status and reason of a condition.
fn says(status: &RouterVersionStatus, kind: &str) -> (String, String) {
    let mut conditions = status.conditions.iter();
    let condition = conditions.find(|condition| condition.type_ == kind);
    let condition = condition.expect("the condition is there");
    (condition.status.clone(), condition.reason.clone())
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn a_verified_artifact_says_what_it_is_and_whom_it_fits() {
    let artifact = artifact(1);
    let stack = stack_of(artifact.sha256());
    let found = Found::Bytes(artifact.to_bytes().to_vec());
    let status = status(&stack.routers[0], &stack, Some(&found), now());
    assert_eq!(says(&status, "Ready"), pair("True", "Verified"));
    assert_eq!(says(&status, "Compatible"), pair("True", "Fits"));
    assert_eq!(status.models, Some(1));
    assert_eq!(status.used_by_count, 1);
    assert_eq!(
        status.feature_schema.as_deref(),
        Some(artifact.manifest().schema_hash.as_str())
    );
}

#[test]
fn an_artifact_for_another_ladder_fits_by_rank_and_says_so() {
    let artifact = artifact(3);
    let stack = stack_of(artifact.sha256());
    let found = Found::Bytes(artifact.to_bytes().to_vec());
    let status = status(&stack.routers[0], &stack, Some(&found), now());
    assert_eq!(says(&status, "Compatible"), pair("True", "FitsByRank"));
}

#[test]
fn an_artifact_fits_no_gateway_without_models() {
    let artifact = artifact(1);
    let mut stack = stack_of(artifact.sha256());
    stack.pools.clear();
    let found = Found::Bytes(artifact.to_bytes().to_vec());
    let status = status(&stack.routers[0], &stack, Some(&found), now());
    assert_eq!(says(&status, "Verified"), pair("True", "Verified"));
    assert_eq!(says(&status, "Compatible"), pair("False", "NoModels"));
}

#[test]
fn a_version_without_its_bytes_says_what_is_missing() {
    let other = artifact(2);
    let stack = stack_of(artifact(1).sha256());
    let version = &stack.routers[0];
    let empty = ConfigMap::default();
    let mut wrong = ConfigMap {
        binary_data: Some(BTreeMap::from([("v1.onnx".into(), ByteString(vec![1]))])),
        ..ConfigMap::default()
    };
    let cases = [
        (find(version, None), "ConfigMapNotFound"),
        (find(version, Some(&empty)), "EntryNotFound"),
        (find(version, Some(&wrong)), "EntryNotFound"),
        (Found::Bytes(other.to_bytes().to_vec()), "DigestMismatch"),
    ];
    for (found, reason) in cases {
        let status = status(version, &stack, Some(&found), now());
        assert_eq!(says(&status, "Ready"), pair("False", reason));
        assert_eq!(says(&status, "Compatible"), pair("Unknown", "NotVerified"));
        assert_eq!(status.models, None, "{reason}");
    }
    let entries = wrong.binary_data.as_mut().expect("entries");
    entries.insert("router.onnx".into(), ByteString(vec![2]));
    assert_eq!(find(version, Some(&wrong)), Found::Bytes(vec![2]));
}

/// A version is what its digest says: what was verified once decides on, whatever its source holds by now.
#[test]
fn a_source_that_changed_or_went_after_its_bytes_were_kept_takes_nothing_back() {
    let (meant, other) = (artifact(1), artifact(2));
    let stack = stack_of(meant.sha256());
    let version = &stack.routers[0];
    let kept = || Some(meant.to_bytes().to_vec());
    let changed = || Found::Bytes(other.to_bytes().to_vec());
    for there in [
        changed(),
        Found::NoConfigMap,
        Found::NoEntry(vec!["v2.onnx".into()]),
    ] {
        let found = counts(version, Some(there), kept());
        let status = status(version, &stack, found.as_ref(), now());
        assert_eq!(says(&status, "Ready"), pair("True", "Verified"));
    }
    // Bytes under the name of a digest that is not theirs are nobody's word.
    let forged = other.to_bytes().to_vec();
    assert_eq!(
        counts(version, Some(Found::NoConfigMap), Some(forged)),
        Some(Found::NoConfigMap)
    );
    assert_eq!(counts(version, Some(changed()), None), Some(changed()));
}

/// The version of a stack, with its artifact at an address.
fn at_address(stack: &Stack, url: &str) -> RouterVersion {
    let mut version = stack.routers[0].clone();
    version.spec.artifact.config_map = None;
    version.spec.artifact.url = Some(url.to_owned());
    version
}

#[test]
fn only_allowed_hosts_are_asked_for_an_artifact() {
    let stack = stack_of(artifact(1).sha256());
    let hosts = ["models.example".to_owned(), "hub.example:8443".to_owned()];
    for (url, is_allowed) in [
        ("https://models.example/v1.onnx", true),
        ("https://MODELS.example/v1.onnx?token=1", true),
        ("https://hub.example:8443/v1.onnx", true),
        ("https://hub.example/v1.onnx", false),
        ("https://models.example:8443/v1.onnx", false),
        ("https://models.example.evil/v1.onnx", false),
        ("https://evil@models.example/v1.onnx", false),
        ("https://models.example@evil/v1.onnx", false),
        ("http://models.example/v1.onnx", false),
    ] {
        let version = at_address(&stack, url);
        match address(&version, &hosts) {
            Ok(found) => assert!(is_allowed && found == Some(url), "{url}"),
            Err(refused) => {
                assert!(!is_allowed, "{url}");
                let status = status(&version, &stack, Some(&refused), now());
                assert_eq!(says(&status, "Ready"), pair("False", "HostNotAllowed"));
            }
        }
    }
    assert_eq!(
        address(&stack.routers[0], &hosts),
        Ok(None),
        "it is in a ConfigMap"
    );
}

#[test]
fn an_address_says_how_far_its_artifact_came() {
    let (meant, other) = (artifact(1), artifact(2));
    let stack = stack_of(meant.sha256());
    let version = at_address(&stack, "https://models.example/v1.onnx");
    let bytes = |artifact: &Artifact| Found::Bytes(artifact.to_bytes().to_vec());
    for (found, said) in [
        (Found::Coming, pair("Unknown", "Downloading")),
        (
            Found::NotFetched("503".into()),
            pair("False", "FetchFailed"),
        ),
        (bytes(&other), pair("False", "DigestMismatch")),
        (bytes(&meant), pair("True", "Verified")),
    ] {
        let status = status(&version, &stack, Some(&found), now());
        assert_eq!(says(&status, "Verified"), said, "{found:?}");
        let message = &status.conditions[1].message;
        let names_place = message.contains("https://models.example/v1.onnx");
        assert_eq!(names_place, said.0 == "False", "{message}");
    }
}

#[test]
fn an_artifact_of_another_feature_schema_is_verified_and_incompatible() {
    let another = artifact(1).with_manifest(|manifest| {
        manifest.schema_hash = "ab".repeat(32);
        manifest.features[0].name = "query.moon_phase".to_owned();
    });
    let stack = stack_of(another.sha256());
    let found = Found::Bytes(another.to_bytes().to_vec());
    let status = status(&stack.routers[0], &stack, Some(&found), now());
    assert_eq!(says(&status, "Verified"), pair("True", "Verified"));
    assert_eq!(says(&status, "Compatible"), pair("False", "SchemaMismatch"));
    assert_eq!(says(&status, "Ready"), pair("False", "SchemaMismatch"));
    assert_eq!((status.feature_schema, status.models), (None, None));
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
    let message = &ready.expect("the condition is there").message;
    for part in [
        "abababababab",
        &FeatureSchema::current().hash()[..12],
        "query.moon_phase",
        "train it again",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn bytes_that_are_no_artifact_are_named_so() {
    use sha2::{Digest, Sha256};
    let stack = stack_of(&hex::encode(Sha256::digest(b"no artifact")));
    let found = Found::Bytes(b"no artifact".to_vec());
    let status = status(&stack.routers[0], &stack, Some(&found), now());
    assert_eq!(says(&status, "Ready"), pair("False", "NotAnArtifact"));
}

#[test]
fn verified_bytes_are_kept_under_their_digest_whoever_is_deleted() {
    let artifact = artifact(1);
    let stack = stack_of(artifact.sha256());
    let object = router_version::build(&stack.routers[0], artifact.to_bytes());
    let Object::ConfigMap(kept) = &object else {
        panic!("{object:?}")
    };
    assert_eq!(kept.immutable, Some(true));
    assert_eq!(kept.metadata.owner_references, None);
    assert!(object.name().ends_with(&artifact.sha256()[..32]));
    let mut twin = stack.routers[0].clone();
    twin.metadata.name = Some("v1-again".into());
    assert_eq!(router_version::build(&twin, artifact.to_bytes()), object);
}

#[test]
fn kept_bytes_are_needed_by_versions_in_use_or_not_and_by_plans_whose_version_is_gone() {
    let (versioned, planned, forgotten) = (artifact(1), artifact(2), artifact(3));
    let mut stack = stack_of(versioned.sha256());
    stack.gateways.clear();
    let plans = BTreeSet::from([planned.sha256().to_owned()]);
    let needed = router_version::needed(&stack.routers, &plans);
    let kept = |artifact: &Artifact| {
        let mut version = stack.routers[0].clone();
        version.spec.sha256 = artifact.sha256().to_owned();
        let object = router_version::build(&version, artifact.to_bytes());
        needed.contains(object.name())
    };
    assert!(kept(&versioned));
    assert!(kept(&planned));
    assert!(!kept(&forgotten));
}
