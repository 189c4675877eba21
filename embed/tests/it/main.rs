//! weir-embed against the real embedder, the real vocabularies and a running llama.cpp server.
//!
//! The files come from `testenv`; a test that lacks them says so and passes, unless
//! `WEIR_TEST_REQUIRE_ENGINE=1` is set, as in CI.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail the test"
)]

mod counter;
mod embedder;
mod engine;

use std::path::PathBuf;

/// A file or folder under `~/.cache/weir`, or nothing after a loud line.
fn component(path: &str) -> Option<PathBuf> {
    let found = std::env::home_dir().map(|home| home.join(".cache/weir").join(path));
    let found = found.filter(|path| path.exists());
    if found.is_none() {
        skipped(path);
    }
    found
}

fn skipped(what: &str) {
    let required = std::env::var("WEIR_TEST_REQUIRE_ENGINE").is_ok_and(|value| value == "1");
    assert!(
        !required,
        "{what} is required but absent: run `make testenv`"
    );
    eprintln!("SKIPPED: {what} is absent, so this test checked nothing: run `make testenv`");
}
