//! The committed question set is what the generator makes of the installed documentation.

use std::path::Path;
use weir_lab::questions::{GenerateOptions, generate};

#[test]
fn committed_questions_are_what_the_generator_makes() {
    let Some(docs) = weir_testenv::corpus() else {
        return;
    };
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("questions/python-docs.jsonl");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("questions.jsonl");
    let report = generate(&GenerateOptions {
        docs,
        out: out.clone(),
        seed: 1,
    })
    .unwrap();
    eprintln!("{report:?}");
    let made = std::fs::read_to_string(&out).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&committed, &made).unwrap();
    }
    assert!(
        made == std::fs::read_to_string(&committed).unwrap(),
        "the set differs from what the generator makes; run this test with UPDATE=1 and review the diff"
    );
}

#[test]
fn absent_documentation_is_named_with_the_package_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let docs = folder.path().join("nowhere");
    let options = GenerateOptions {
        docs,
        out: folder.path().join("q.jsonl"),
        seed: 1,
    };
    let error = generate(&options).unwrap_err().to_string();
    assert!(
        error.contains("nowhere/library") && error.contains("python3.11-doc"),
        "{error}"
    );
    assert!(!options.out.exists());
}
