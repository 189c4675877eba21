//! A stack file: YAML, then schema and CEL rules. Every finding must point into the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_crds::stack::{SourceFile, parse};

fuzz_target!(|text: &str| {
    let file = SourceFile {
        path: "fuzz.yaml".into(),
        text: text.to_owned(),
    };
    if let Err(findings) = parse(&[file]) {
        assert!(!findings.is_empty());
        // A carriage return alone ends a line of YAML too.
        let lines = text.replace("\r\n", "\n").split(['\n', '\r']).count();
        assert!(findings.iter().all(|finding| finding.line <= lines + 1));
    }
});
