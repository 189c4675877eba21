//! No field is accepted and ignored: `cases/fields/KIND.yaml` changes every field of a kind's spec, and each change changes
//! an object, a plan or a status. A field of the schema that no change names fails, and so does a word that a field may hold and
//! that does what another one does.

use crate::cluster;
use crate::golden::{in_crate, parse, read};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use weir_crds::stack::SourceFile;
use weir_plan::Revision;
use weir_reconcile::router_version::{self, Found};
use weir_reconcile::{Stack, inference_gateway, plan};

/// Changes of one kind.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    /// Other objects of the stack.
    context: Vec<Value>,
    /// Objects of the kind to start from.
    bases: BTreeMap<String, Value>,
    /// What is changed.
    changes: Vec<Change>,
    /// Fields that have their effect elsewhere, and where.
    elsewhere: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Change {
    base: String,
    field: String,
    to: Value,
}

/// Everything that comes of a stack: objects and status of each of its objects, and the plan of each gateway.
fn outcome(context: &[Value], subject: &Value) -> String {
    let documents = context.iter().chain([subject]);
    let text: Vec<String> = documents.map(weir_crds::yaml::to_string).collect();
    let stack = parse(SourceFile {
        path: "stack.yaml".into(),
        text: text.join("---\n"),
    });
    let mut all = Vec::new();
    for pool in &stack.pools {
        let (objects, status) = cluster::pool(pool, &stack, &Default::default());
        all.extend([cluster::yaml(&objects), status.to_string()]);
    }
    for store in &stack.memories {
        let (objects, status) = cluster::memory(store, &stack, &Default::default());
        all.extend([cluster::yaml(&objects), status.to_string()]);
    }
    for gateway in &stack.gateways {
        let (objects, status) = cluster::gateway(gateway, &stack, &Default::default());
        all.extend([
            cluster::yaml(&objects),
            status.to_string(),
            plans(gateway, &stack),
        ]);
    }
    for version in &stack.routers {
        let status =
            router_version::status(version, &stack, Some(&Found::NoConfigMap), cluster::now());
        all.push(json!(status).to_string());
    }
    all.join("\n")
}

fn plans(gateway: &weir_crds::InferenceGateway, stack: &Stack) -> String {
    let name = gateway.metadata.name.as_deref().unwrap_or_default();
    let seen = inference_gateway::observed(gateway, stack, &BTreeMap::new(), Revision::default());
    match plan(stack, name, &seen) {
        Ok(plan) => json!(plan).to_string(),
        Err(problems) => json!(problems).to_string(),
    }
}

/// `subject` with another value at `field` (`spec.a.b`); null takes it away.
fn changed(subject: &Value, field: &str, to: &Value) -> Value {
    let mut changed = subject.clone();
    let mut at = &mut changed;
    let mut parts = field.split('.').peekable();
    while let Some(part) = parts.next() {
        let fields = at.as_object_mut().expect(field);
        if parts.peek().is_none() && to.is_null() {
            fields.remove(part);
            return changed;
        }
        at = fields.entry(part).or_insert_with(|| json!({}));
    }
    *at = to.clone();
    changed
}

fn check(kind: &str, file: &str) {
    let fields: Fields = read(&in_crate("cases/fields").join(file)).expect("the changes are there");
    let before: BTreeMap<&String, String> = fields
        .bases
        .iter()
        .map(|(name, base)| (name, outcome(&fields.context, base)))
        .collect();
    let mut without = Vec::new();
    for Change { base, field, to } in &fields.changes {
        let subject = changed(&fields.bases[base], field, to);
        if outcome(&fields.context, &subject) == before[base] {
            without.push(field.as_str());
        }
    }
    assert!(without.is_empty(), "{kind}: no effect: {without:?}");
    let wanted = weir_crds::schema::fields_of(kind, "spec").expect("a kind");
    let covers = |leaf: &str| {
        let changes = fields.changes.iter().map(|change| &change.field);
        let mut named = changes.chain(fields.elsewhere.keys());
        named.any(|field| field == leaf || field.starts_with(&format!("{leaf}.")))
    };
    let missing: Vec<&String> = wanted.iter().filter(|leaf| !covers(leaf)).collect();
    assert!(
        missing.is_empty(),
        "{kind}: fields without a change: {missing:?}"
    );
    for (field, why) in &fields.elsewhere {
        assert!(why.contains(' '), "{field}: {why}");
    }
    for (field, words) in weir_crds::schema::choices_of(kind, "spec").expect("a kind") {
        let differ = |base: &Value| {
            let with = |word: &String| changed(base, &field, &json!(word));
            let outcomes = words
                .iter()
                .map(|word| outcome(&fields.context, &with(word)));
            outcomes.collect::<BTreeSet<String>>().len() == words.len()
        };
        let is_told = fields.elsewhere.contains_key(&field);
        let changes = fields.changes.iter().filter(|change| change.field == field);
        let mut bases = changes.map(|change| &fields.bases[&change.base]);
        assert!(
            is_told || bases.any(differ),
            "{kind}: {field}: two of {words:?} do the same"
        );
    }
}

#[test]
fn every_field_of_a_model_pool_has_an_effect() {
    check("ModelPool", "model_pool.yaml");
}

#[test]
fn every_field_of_a_memory_store_has_an_effect() {
    check("MemoryStore", "memory_store.yaml");
}

#[test]
fn every_field_of_a_router_version_has_an_effect() {
    check("RouterVersion", "router_version.yaml");
}

#[test]
fn every_field_of_a_gateway_has_an_effect() {
    check("InferenceGateway", "inference_gateway.yaml");
}

/// Every path at which a value has something.
fn present(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    for (name, inner) in value.as_object().into_iter().flatten() {
        present(inner, &format!("{path}.{name}"), found);
    }
}

/// A status field that nobody writes misleads whoever waits for it.
#[test]
fn every_field_of_a_status_is_written_in_some_case() {
    // What rollouts write into a gateway's status, and what the next leader goes on from.
    const ELSEWHERE: [&str; 3] = [
        "status.router.activeSha256",
        "status.router.attempts",
        "status.ledger.",
    ];
    let is_elsewhere = |leaf: &String| ELSEWHERE.iter().any(|other| leaf.starts_with(other));
    for (kind, folder) in [
        ("ModelPool", "model_pool"),
        ("MemoryStore", "memory_store"),
        ("InferenceGateway", "inference_gateway"),
        ("RouterRollout", "router_rollout"),
    ] {
        let mut wanted = weir_crds::schema::fields_of(kind, "status").expect("a kind");
        let mut written = BTreeSet::new();
        for case in crate::golden::folders(&format!("cases/{folder}")) {
            let status: Option<Value> = read(&case.join("status.yaml"));
            present(&status.unwrap_or_default(), "status", &mut written);
        }
        wanted.retain(|leaf| !written.contains(leaf) && !is_elsewhere(leaf));
        assert!(wanted.is_empty(), "{kind}: never written: {wanted:?}");
    }
}

#[test]
fn every_field_of_a_router_versions_status_is_written_for_the_artifact_that_weir_ships() {
    let artifact = weir_router::Router::builtin();
    let artifact = artifact.artifact();
    let mut stack = crate::router_version::stack_of(artifact.sha256());
    stack.gateways.clear();
    let found = Found::Bytes(artifact.to_bytes().to_vec());
    let status = router_version::status(&stack.routers[0], &stack, Some(&found), cluster::now());
    let mut written = BTreeSet::new();
    present(&json!(status), "status", &mut written);
    let wanted = weir_crds::schema::fields_of("RouterVersion", "status").expect("a kind");
    let missing: Vec<&String> = wanted.difference(&written).collect();
    assert!(missing.is_empty(), "never written: {missing:?}");
}
