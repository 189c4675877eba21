//! The document of the HTTP surface is committed and is what the code says.

use std::path::Path;

#[test]
fn the_committed_document_is_the_one_that_the_code_generates() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let document = weir_gateway::openapi::document();
    let generated = serde_json::to_string_pretty(&document).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "docs/openapi.json differs: run `make generate` and commit it"
    );
}
