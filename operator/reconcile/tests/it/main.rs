//! What the crate promises, as reviewed files: `cases/NAME/stack.yaml` with, if it needs one, `observed.yaml`, gives
//! `plan.yaml` of the first gateway or `problems.yaml`. `UPDATE=1` rewrites the results.

use serde_json::Value;
use std::path::{Path, PathBuf};
use weir_crds::stack::SourceFile;
use weir_reconcile::{Observed, Stack, plan, validate};

fn in_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn stack(path: &Path) -> Stack {
    let file = SourceFile::read(path).expect("a case has a stack");
    let documents = weir_crds::stack::parse(&[file]).map_err(|found| found[0].to_string());
    let documents = documents.expect("each document of a case is valid");
    Stack::from_documents(documents)
}

fn observed(path: &Path) -> Observed {
    let Ok(text) = std::fs::read_to_string(path) else {
        return Observed::default();
    };
    let documents = weir_crds::yaml::documents(&text).expect("YAML");
    serde_json::from_value(documents[0].value.clone()).expect("an observation")
}

/// The result of a case, and the file it belongs in.
fn outcome(folder: &Path) -> (&'static str, Value) {
    let stack = stack(&folder.join("stack.yaml"));
    let gateway = stack
        .gateways
        .first()
        .and_then(|gateway| gateway.metadata.name.clone());
    let planned = plan(
        &stack,
        &gateway.unwrap_or_default(),
        &observed(&folder.join("observed.yaml")),
    );
    let problems = validate(&stack);
    match planned {
        Ok(plan) if problems.is_empty() => (
            "plan.yaml",
            serde_json::to_value(plan).expect("a plan is plain data"),
        ),
        _ => {
            let problem = |problem| {
                let finding = stack.locate(problem);
                serde_json::json!({
                    "reason": problem.reason,
                    "line": finding.line,
                    "says": problem.to_string(),
                })
            };
            ("problems.yaml", problems.iter().map(problem).collect())
        }
    }
}

#[test]
fn cases_give_their_reviewed_plan_or_problems() {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(in_crate("cases"))
        .expect("the cases are there")
        .map(|entry| entry.expect("a case").path())
        .collect();
    folders.sort();
    for folder in folders {
        let (file, value) = outcome(&folder);
        let path = folder.join(file);
        let text = weir_crds::yaml::to_string(&value);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).expect("a result can be written");
        }
        let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            reviewed == text,
            "{}: review and UPDATE=1\n{text}",
            path.display()
        );
        let other = if file == "plan.yaml" {
            "problems.yaml"
        } else {
            "plan.yaml"
        };
        assert!(
            !folder.join(other).exists(),
            "{}: {other} is left over",
            folder.display()
        );
    }
}

#[test]
fn examples_load_and_plan() {
    for (name, gateway, pools) in [("offline.yaml", "demo", 3), ("lfm2.yaml", "lfm2", 4)] {
        let path = in_crate("../../examples/stacks").join(name);
        let file = SourceFile::read(&path).expect("the example exists");
        let stack = weir_reconcile::load(&[file]).expect(name);
        let plan = plan(&stack, gateway, &Observed::default()).expect(name);
        assert_eq!(plan.pools.len(), pools, "{name}");
        assert!(
            stack
                .base_dir("ModelPool", &plan.pools[0].name)
                .ends_with("examples/stacks")
        );
    }
}

#[test]
fn a_gateway_that_does_not_exist_is_named_with_those_that_do() {
    let stack = stack(&in_crate("cases/ladder/stack.yaml"));
    let problems = plan(&stack, "dmeo", &Observed::default()).expect_err("no such gateway");
    assert_eq!(problems[0].reason, "InferenceGatewayNotFound");
    assert_eq!(problems[0].instead, "name demo");
}

#[test]
fn problems_of_objects_a_gateway_does_not_use_do_not_stop_it() {
    let stack = stack(&in_crate("cases/unused-broken/stack.yaml"));
    assert_eq!(validate(&stack).len(), 2);
    assert!(plan(&stack, "works", &Observed::default()).is_ok());
    assert!(plan(&stack, "broken", &Observed::default()).is_err());
}

#[test]
fn plans_and_problems_never_show_a_key() {
    let stack = stack(&in_crate("cases/keys/stack.yaml"));
    let plan = plan(&stack, "demo", &Observed::default()).expect("a plan");
    for text in [
        format!("{plan:?}"),
        serde_json::to_string(&plan.auth).expect("plain data"),
    ] {
        assert!(!text.contains("0123456789abcdef"), "{text}");
    }
}
