//! `weir router inspect`: everything that is known of an artifact, for people and for programs.

use crate::support::Stage;
use serde_json::Value;

#[test]
fn the_artifact_that_is_built_in_is_shown_whole() {
    let stage = Stage::new();
    let output = stage.weir(&["router", "inspect", "--output", "json"]);
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let output = stage.weir(&["router", "inspect"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in [
        "zeta",
        "nu",
        "tau",
        "frozen",
        "heads",
        "sampling",
        "trained on",
        "licence",
    ] {
        let begins = |line: &str| line.starts_with(&format!("{name} "));
        assert!(said.lines().any(begins), "{name}: {said}");
    }
    assert!(said.contains(all["sha256"].as_str().unwrap()), "{said}");
    let arms = all["arms"].as_array().unwrap();
    assert!(!arms.is_empty());
    for arm in arms {
        let (recall, tokens) = (arm["recall"].as_str().unwrap(), &arm["contextTokens"]);
        let name = format!("{recall}@{tokens}/rank{}", arm["rank"]);
        assert!(said.contains(&name), "{name}: {said}");
    }
}
