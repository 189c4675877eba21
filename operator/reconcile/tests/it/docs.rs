//! What the documents say of conditions is what the code says: every type and every reason is there, and no other.

use crate::golden::in_crate;
use std::collections::BTreeSet;
use std::path::Path;

/// Words in the sources that are written as reasons are and are none: kinds, fields and words of Kubernetes.
const OTHERS: &str = "ClusterIP ConfigMap CreateContainerConfigError CreateContainerError Deployment DirectoryOrCreate \
    ErrImageNeverPull ErrImagePull Failed FallbackToLogsOnError False HTTPRoute ImagePullBackOff InferenceGateway Ingress \
    InvalidImageName LoadBalancer Lost Memory MemoryStore ModelPool NetworkPolicy NodePort OOMKilled OnRootMismatch Opaque Pending \
    PersistentVolumeClaim PodDisruptionBudget PodScheduled PodSecurity ReadWriteOnce ReplicaFailure RollingUpdate \
    RouterVersion RunContainerError Running RuntimeDefault ScheduleAnyway Secret Service ServiceAccount StatefulSet \
    Succeeded True Unknown";

/// Reasons of `weir up` and `weir validate` alone.
const LOCAL: [&str; 3] = ["ClusterOnly", "InferenceGatewayNotFound", "PortShared"];

/// Types of conditions, which are written as reasons are.
const TYPES: [&str; 17] = [
    "Ready",
    "ModelAvailable",
    "EndpointsReady",
    "Scaling",
    "GraphReady",
    "VectorsReady",
    "IndexTuned",
    "Verified",
    "Compatible",
    "PoolsReady",
    "MemoryReady",
    "RouterReady",
    "CertificateReady",
    "KeysAccepted",
    "TenantsKnown",
    "RolloutHealthy",
    "Paused",
];

/// Reasons that are put together: what a reference names and that it is not there, or not shown; and those of refusals and
/// events, which the controller has.
const ELSEWHERE: &str = "ModelPoolNotFound SecretNotShown ConfigMapNotShown NameTaken FieldConflict Forbidden Invalid KindMissing \
    Unreadable DriftCorrected ReconcileFailed";

fn is_reason(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.len() > 2
        && word.bytes().all(|byte| byte.is_ascii_alphabetic())
        && word.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// What stands between two of these marks, as far as it is written as reasons are.
fn between(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark).filter(|word| is_reason(word))
}

/// Every word in quotes of the sources below a folder, tests left out.
fn words(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("a source").path();
        if path.is_dir() {
            words(&path, found);
        } else if !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).expect("a source is text");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            found.extend(between(code, '"').map(str::to_owned));
        }
    }
}

fn reasons() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    words(&in_crate("src"), &mut all);
    let gate = std::fs::read_to_string(in_crate("../../router/src/gate.rs")).expect("the gate");
    all.extend(between(&gate, '"').map(str::to_owned));
    all.extend(ELSEWHERE.split_whitespace().map(str::to_owned));
    let none = OTHERS.split_whitespace().chain(LOCAL);
    for word in none {
        assert!(all.remove(word), "{word} is in no source: take it out");
    }
    all
}

fn document(name: &str) -> String {
    std::fs::read_to_string(in_crate("../../docs").join(name)).expect("a document")
}

#[test]
fn every_reason_is_explained_to_operators_and_every_explained_one_exists() {
    let (operations, reasons) = (document("operations.md"), reasons());
    let told: BTreeSet<&str> = between(&operations, '`').collect();
    let is_told =
        |reason: &&String| told.contains(reason.as_str()) || TYPES.contains(&reason.as_str());
    let missing: Vec<&String> = reasons.iter().filter(|reason| !is_told(reason)).collect();
    assert_eq!(missing, [""; 0], "docs/operations.md says nothing of them");
    // In the table of reasons, the first column has nothing else.
    let table = operations
        .split("| reason | means |")
        .nth(1)
        .expect("the table");
    for row in table.lines().skip(2).take_while(|row| row.starts_with('|')) {
        for word in between(row.split('|').nth(1).unwrap_or_default(), '`') {
            assert!(reasons.contains(word), "no condition has the reason {word}");
        }
    }
}

/// Every word of the reviewed cases, of tests and of scenarios.
fn tested() -> BTreeSet<String> {
    let mut texts = Vec::new();
    for (folder, is_test) in [("cases", true), ("tests/it", true), ("src", false)] {
        test_texts(&in_crate(folder), is_test, &mut texts);
    }
    test_texts(&in_crate("../controller/src"), false, &mut texts);
    test_texts(&in_crate("../../router/src/gate"), true, &mut texts);
    test_texts(&in_crate("../e2e/src/scenarios"), true, &mut texts);
    let is_letter = |letter: char| letter.is_ascii_alphabetic();
    let words = texts
        .iter()
        .flat_map(|text| text.split(|letter| !is_letter(letter)));
    words.map(str::to_owned).collect()
}

/// What tests or reviewed files say below a folder: all of it, or what of sources is test.
fn test_texts(folder: &Path, all: bool, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a file").path();
        let is_test = all || path.ends_with("tests") || path.ends_with("tests.rs");
        if path.is_dir() {
            test_texts(&path, is_test, found);
        } else if path != in_crate(file!().trim_start_matches("operator/reconcile/")) {
            let text = std::fs::read_to_string(&path).expect("text");
            let test = text.split("#[cfg(test)]").nth(1).map(str::to_owned);
            found.extend(if is_test { Some(text) } else { test });
        }
    }
}

#[test]
fn every_reason_occurs_in_a_case_or_a_test() {
    let tested = tested();
    let untested: Vec<String> = reasons()
        .into_iter()
        .filter(|reason| !TYPES.contains(&reason.as_str()) && !tested.contains(reason))
        .collect();
    assert_eq!(untested, [""; 0], "no case and no test comes to them");
}

#[test]
fn every_condition_is_listed_with_its_reasons() {
    let (resources, reasons) = (document("resources.md"), reasons());
    let listed: BTreeSet<&str> = between(&resources, '`').collect();
    for kind in TYPES {
        assert!(reasons.contains(kind), "no condition is called {kind}");
        assert!(
            listed.contains(kind),
            "docs/resources.md lacks the condition {kind}"
        );
    }
}
