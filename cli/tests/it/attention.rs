//! `weir memory search` looks as far as the MemoryStore lets a request look, at the kinds of passages it was asked for.

use crate::support::Stage;
use serde_json::Value;

/// A stack with a memory of these hops, and two pages of which the first links to the second.
fn with_hops(stage: &Stage, hops: u8) -> String {
    stage.write_stack(&["small"], &stage.path("none.gguf"), "");
    let store = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: MemoryStore\nmetadata: {{name: kb}}\nspec:\n  \
         embedding: {{model: none, source: 'file://./none', dimensions: 8}}\n  attention: {{hops: {hops}}}\n"
    );
    stage.extend_stack("  memory: kb\n", &store);
    let docs = stage.path("docs");
    std::fs::create_dir_all(&docs).unwrap();
    let weir = "# Weirs\n\nA weir raises the water, see [ladders](ladder.md).\n";
    std::fs::write(docs.join("weir.md"), weir).unwrap();
    let ladder = "# Ladders\n\nSalmon climb from pool to pool.\n";
    std::fs::write(docs.join("ladder.md"), ladder).unwrap();
    let stack = stage.stack().to_str().unwrap().to_owned();
    let output = stage.weir(&["memory", "ingest", docs.to_str().unwrap(), "-f", &stack]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    stack
}

fn found(stage: &Stage, stack: &str, more: &[&str]) -> Vec<Value> {
    let mut args = vec![
        "memory",
        "search",
        "raises the water",
        "-f",
        stack,
        "--output",
        "json",
    ];
    args.extend(more);
    let output = stage.weir(&args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_link_is_followed_as_far_as_the_store_says() {
    for (hops, passages) in [(0, 1), (2, 2)] {
        let stage = Stage::new();
        let stack = with_hops(&stage, hops);
        let all = found(&stage, &stack, &[]);
        assert_eq!(all.len(), passages, "hops {hops}: {all:#?}");
    }
}

#[test]
fn only_passages_of_the_kinds_asked_for_are_found() {
    let stage = Stage::new();
    let stack = with_hops(&stage, 0);
    assert_eq!(found(&stage, &stack, &["--type", "doc"]).len(), 1);
    assert!(found(&stage, &stack, &["--type", "trace", "--type", "memory"]).is_empty());
    let args = ["memory", "search", "water", "-f", &stack, "--type", "page"];
    let output = stage.weir(&args);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("tool_result"), "{said}");
}
