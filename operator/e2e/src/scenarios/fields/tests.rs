//! No field of any kind is forgotten.

use super::*;
use std::collections::BTreeSet;

fn is_within(field: &str, whole: &str) -> bool {
    let rest = field.strip_prefix(whole);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[test]
fn every_field_is_changed_or_named_with_the_reason() {
    for (kind, text) in KINDS {
        let changes = read(text).unwrap();
        let mut shown = BTreeSet::new();
        for step in &changes.steps {
            let object = json!({"spec": step.to});
            for effect in &step.effects {
                let field = effect.field.as_str();
                assert!(
                    find(&object, field).is_some(),
                    "{kind}/{}: {field} is not changed",
                    step.change
                );
                assert!(
                    effect.is.is_some() != effect.has.is_some(),
                    "{kind}: {field} is compared with one thing"
                );
                shown.insert(field);
            }
        }
        let wanted = weir_crds::schema::fields_of(kind, "spec").unwrap();
        let elsewhere = |leaf: &str| changes.elsewhere.keys().any(|one| is_within(leaf, one));
        let missing: Vec<&String> = wanted
            .iter()
            .filter(|leaf| !shown.contains(leaf.as_str()) && !elsewhere(leaf))
            .collect();
        assert!(missing.is_empty(), "{kind}: never changed: {missing:?}");
        for (field, why) in &changes.elsewhere {
            assert!(why.contains(' '), "{kind}: {field}: {why}");
            let is_one = wanted.iter().any(|leaf| is_within(leaf, field));
            assert!(is_one, "{kind} has no field {field}");
            let both = shown.iter().find(|one| is_within(one, field));
            assert!(both.is_none(), "{kind}: {both:?} is changed here too");
        }
    }
}

#[test]
fn a_path_leads_through_lists_by_name() {
    let value = json!({"a": [{"name": "x", "b": [1, 2]}, {"type": "Ready", "c": "d"}]});
    assert_eq!(find(&value, "a.x.b.1"), Some(&json!(2)));
    assert_eq!(find(&value, "a.Ready.c"), Some(&json!("d")));
    assert_eq!(find(&value, "a.y"), None);
    assert_eq!(find(&value, ""), Some(&value));
}
