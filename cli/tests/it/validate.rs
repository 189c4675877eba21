//! `weir validate`: exit codes and both outputs; and the stacks that the repository shows.

use crate::support::Stage;
use std::path::Path;

#[test]
fn a_good_stack_passes() {
    let stage = Stage::new();
    stage.write_stack(&["small"], &stage.path("none.gguf"), "");
    let stack = stage.stack();
    let output = stage.weir(&["validate", "-f", stack.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("valid: 2 objects"));
}

#[test]
fn a_finding_has_file_line_and_field_and_fails() {
    let stage = Stage::new();
    stage.write_stack(&["small"], &stage.path("none.gguf"), "");
    let text = std::fs::read_to_string(stage.stack()).unwrap();
    std::fs::write(stage.stack(), text.replace("tier: device", "tier: desktop")).unwrap();
    let stack = stage.stack();
    let path = stack.to_str().unwrap();
    let output = stage.weir(&["validate", "-f", path]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with(&format!("{path}:10: ")) && said.contains("tier"),
        "{said}"
    );

    let output = stage.weir(&["validate", "-f", path, "--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(findings[0]["line"], 10);
    assert_eq!(findings[0]["field"], "spec.tier");
}

#[test]
fn a_stack_without_a_gateway_is_valid_with_a_warning_that_up_needs_one() {
    let stage = Stage::new();
    stage.write_stack(&["small"], &stage.path("none.gguf"), "");
    let text = std::fs::read_to_string(stage.stack()).unwrap();
    let (pools, _) = text.split_once("---\n").unwrap();
    std::fs::write(stage.stack(), pools).unwrap();
    let stack = stage.stack();
    let output = stage.weir(&["validate", "-f", stack.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no InferenceGateway"), "{said}");
    let (code, said) = stage.up_fails(&[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("InferenceGateway"), "{said}");
}

#[test]
fn every_example_is_valid() {
    let stage = Stage::new();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/stacks");
    let mut seen = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let output = stage.weir(&["validate", "-f", path.to_str().unwrap()]);
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stdout)
            );
            seen += 1;
        }
    }
    assert!(seen > 0);
}

#[test]
fn the_stack_that_the_readme_explains_is_valid() {
    let stage = Stage::new();
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, rest) = readme.split_once("```yaml\n").unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    let stack = stage.path("shown.yaml");
    std::fs::write(&stack, shown).unwrap();
    let output = stage.weir(&["validate", "-f", stack.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("4 objects"), "{said}");
}

#[test]
fn schemas_are_json_and_an_unknown_kind_is_named() {
    let stage = Stage::new();
    for args in [&["schema"][..], &["schema", "ModelPool"], &["openapi"]] {
        let output = stage.weir(args);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
    }
    let output = stage.weir(&["schema", "Pod"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ModelPool"));
}
