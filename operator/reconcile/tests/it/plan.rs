//! Plans and problems, as reviewed files: `cases/plan/NAME/stack.yaml` with, if it needs one, `observed.yaml`, gives
//! `plan.yaml` of the first gateway or `problems.yaml`. `UPDATE=1` rewrites the results.

use crate::golden::{folders, in_crate, read, stack};
use serde_json::Value;
use std::path::Path;
use weir_crds::stack::SourceFile;
use weir_plan::Auth;
use weir_reconcile::{Observed, plan, still_accepted, still_may_ask, validate, validate_local};

fn observed(path: &Path) -> Observed {
    read(path).unwrap_or_default()
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
    let mut problems = validate(&stack);
    problems.extend(validate_local(&stack));
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
    for folder in folders("cases/plan") {
        let (file, value) = outcome(&folder);
        let path = folder.join(file);
        crate::golden::compare(&path, &weir_crds::yaml::to_string(&value));
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
    for (name, gateway, pools) in [
        ("offline.yaml", "demo", 3),
        ("lfm2.yaml", "lfm2", 4),
        ("cluster.yaml", "support", 3),
        ("external-memory.yaml", "library", 1),
    ] {
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
    let stack = stack(&in_crate("cases/plan/ladder/stack.yaml"));
    let problems = plan(&stack, "dmeo", &Observed::default()).expect_err("no such gateway");
    assert_eq!(problems[0].reason, "InferenceGatewayNotFound");
    assert_eq!(problems[0].instead, "name demo");
}

#[test]
fn problems_of_objects_a_gateway_does_not_use_do_not_stop_it() {
    let stack = stack(&in_crate("cases/plan/unused-broken/stack.yaml"));
    assert_eq!(validate(&stack).len(), 2);
    assert!(plan(&stack, "works", &Observed::default()).is_ok());
    assert!(plan(&stack, "broken", &Observed::default()).is_err());
}

#[test]
fn an_entry_that_is_no_key_is_left_out_and_opens_nothing() {
    let stack = stack(&in_crate("cases/plan/keys-malformed/stack.yaml"));
    let planned = plan(&stack, "demo", &Observed::default()).expect("the rest is served");
    let Auth::ApiKeys(keys) = planned.auth else {
        panic!("keys are asked for");
    };
    let keys: Vec<(&str, &str)> = keys
        .iter()
        .map(|key| (key.tenant.as_str(), key.key_id.as_str()))
        .collect();
    assert_eq!(keys, [("acme", "c")]);
    assert!(validate(&stack).iter().all(|problem| problem.left_out));

    let mut none = stack.clone();
    let entries = none.secrets[0].string_data.as_mut().expect("entries");
    entries.retain(|name, _| name != "acme.c" && name != "globex.c");
    let planned = plan(&none, "demo", &Observed::default()).expect("a plan");
    assert_eq!(
        planned.auth,
        Auth::ApiKeys(Vec::new()),
        "nobody, not everybody"
    );
}

#[test]
fn keys_that_were_taken_back_are_closed_whatever_else_is_wrong_and_nothing_is_opened() {
    let stack = stack(&in_crate("cases/plan/keys/stack.yaml"));
    let gateway = &stack.gateways[0];
    let planned = plan(&stack, "demo", &Observed::default());
    let before = planned.expect("a plan").auth;
    assert_eq!(still_may_ask(&stack, gateway, &before), before);
    let mut fewer = stack.clone();
    let entries = fewer.secrets[0].string_data.as_mut().expect("entries");
    entries.pop_first().expect("an entry");
    let closed = still_may_ask(&fewer, gateway, &before);
    let count = |auth: &Auth| match auth {
        Auth::ApiKeys(keys) => keys.len(),
        Auth::Anonymous => usize::MAX,
    };
    assert_eq!(count(&closed), count(&before) - 1);
    assert_eq!(still_may_ask(&stack, gateway, &closed), closed);
    let mut open = gateway.clone();
    open.spec.auth = weir_crds::Auth {
        anonymous: Some(weir_crds::Anonymous {}),
        ..weir_crds::Auth::default()
    };
    assert_eq!(still_may_ask(&stack, &open, &before), before);
    assert_eq!(
        still_may_ask(&stack, gateway, &Auth::Anonymous),
        before,
        "who shows no key is no longer let in"
    );
}

#[test]
fn plans_and_problems_never_show_a_key() {
    let stack = stack(&in_crate("cases/plan/keys/stack.yaml"));
    let plan = plan(&stack, "demo", &Observed::default()).expect("a plan");
    for text in [
        format!("{plan:?}"),
        serde_json::to_string(&plan.auth).expect("plain data"),
    ] {
        assert!(!text.contains("0123456789abcdef"), "{text}");
    }
}

#[test]
fn tokens_open_beside_keys_and_what_was_changed_of_them_is_closed_whatever_else_is_wrong() {
    let stack = stack(&in_crate("cases/plan/jwt/stack.yaml"));
    let planned = plan(&stack, "demo", &Observed::default()).expect("a plan");
    assert_eq!(
        planned.auth,
        Auth::ApiKeys(Vec::new()),
        "no key opens, and not everybody may ask"
    );
    let (gateway, before) = (&stack.gateways[0], planned.jwt);
    assert!(before.is_some());
    assert_eq!(still_accepted(gateway, before.as_ref()), before);
    assert_eq!(still_accepted(gateway, None), None, "nothing is opened");
    let mut other = gateway.clone();
    let jwt = other.spec.auth.jwt.as_mut().expect("tokens");
    jwt.audiences.pop();
    assert_eq!(still_accepted(&other, before.as_ref()), None);
    other.spec.auth.jwt = None;
    assert_eq!(still_accepted(&other, before.as_ref()), None);
}
