//! Bad stacks, each with the messages that people see: `bad/NAME.yaml` and `bad/NAME.txt`. A case with `NAME.old.yaml`
//! is applied over that older version.

use crate::golden::{compare, in_crate};
use serde_json::Value;
use std::path::Path;
use weir_crds::stack::SourceFile;
use weir_crds::validate::{Finding, check, check_change};

struct Case {
    name: String,
    findings: Vec<Finding>,
}

fn read(path: &Path) -> SourceFile {
    let file = SourceFile::read(path).expect("a case can be read");
    let name = path.file_name().expect("a case has a name");
    SourceFile {
        path: name.into(),
        text: file.text,
    }
}

fn cases() -> Vec<Case> {
    let folder = in_crate("tests/it/bad");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("the cases are there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|file| file.strip_suffix(".yaml").map(str::to_owned))
        .filter(|name| !name.ends_with(".old"))
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let new = [read(&folder.join(format!("{name}.yaml")))];
            let old = folder.join(format!("{name}.old.yaml"));
            let findings = if old.exists() {
                check_change(&[read(&old)], &new)
            } else {
                check(&new)
            };
            Case { name, findings }
        })
        .collect()
}

#[test]
fn bad_stacks_are_refused_with_reviewed_messages() {
    for case in cases() {
        assert!(
            !case.findings.is_empty(),
            "nothing is wrong with {}",
            case.name
        );
        let mut text = String::new();
        for finding in &case.findings {
            text.push_str(&format!("{finding}\n"));
        }
        compare(
            &in_crate("tests/it/bad").join(format!("{}.txt", case.name)),
            &text,
        );
    }
}

#[test]
fn every_rule_of_every_schema_is_broken_by_a_case() {
    let findings: Vec<Finding> = cases().into_iter().flat_map(|case| case.findings).collect();
    let mut missing = Vec::new();
    for kind in weir_crds::schema::KINDS {
        let schema = weir_crds::schema::of_kind(kind).expect("a schema");
        for (field, message) in rules(schema, "") {
            let is_broken = findings.iter().any(|finding| {
                finding.object.starts_with(kind)
                    && format!("{}: {}", finding.message, finding.instead) == message
                    && same_field(field.trim_start_matches('.'), &finding.field)
            });
            // Labels, names and Secrets share one schema for every kind, so one case is enough for them.
            let is_shared = field.starts_with("metadata.") && kind != "ModelPool";
            if !is_broken && !is_shared {
                missing.push(format!("{kind} {field}: {message}"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "rules that no case breaks:\n{}",
        missing.join("\n")
    );
}

/// Whether a finding's field is what a rule speaks about: the path with list positions and map keys left open.
fn same_field(rule: &str, found: &str) -> bool {
    let mut rest = found;
    for part in rule.split('*') {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || rule.ends_with('*')
}

/// Every rule of a schema as (field it reports, message).
fn rules(schema: &Value, field: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let message = rule["message"].as_str().expect("a rule has a message");
        assert!(
            message.contains(": "),
            "{field}: {message:?} does not say what to write"
        );
        let inner = rule["fieldPath"].as_str().unwrap_or_default();
        found.push((format!("{field}{inner}"), message.to_owned()));
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = if field.is_empty() {
            name.clone()
        } else {
            format!("{field}.{name}")
        };
        found.extend(rules(inner, &path));
    }
    if schema["items"].is_object() {
        found.extend(rules(&schema["items"], &format!("{field}[*]")));
    }
    if schema["additionalProperties"].is_object() {
        found.extend(rules(
            &schema["additionalProperties"],
            &format!("{field}.*"),
        ));
    }
    found
}
