//! An export that is read into a memory. What was taken can be written out and read in again, and is the same then.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::ops::ControlFlow;
use weir_memory::upkeep::{ImportError, ImportOptions, Imported};
use weir_memory::{Memory, MemoryConfig};

const HEADER: &[u8] =
    br#"{"memory":{"format":1,"dimensions":2,"embedding_model":"none","nodes":0,"edges":0}}"#;

fn import(memory: &Memory, mut lines: &[u8]) -> Result<Imported, ImportError> {
    memory.import(&mut lines, ImportOptions::default(), &mut |_| ControlFlow::Continue(()))
}

fn export(memory: &Memory) -> Vec<u8> {
    let mut lines = Vec::new();
    memory.export(&mut lines, &mut |_| {}).expect("an open memory");
    lines
}

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let open = |name: &str| {
        let config = MemoryConfig {
            dimensions: 2,
            embedding_model: "none".into(),
        };
        Memory::open(&folder.path().join(name), &config).expect("a new memory")
    };
    let memory = open("first");
    let _ = import(&memory, bytes);
    let _ = import(&memory, &[HEADER, b"\n", bytes].concat());
    let lines = export(&memory);
    let copy = open("second");
    import(&copy, &lines).expect("what was written out");
    let rows = |lines: &[u8]| lines.split(|byte| *byte == b'\n').skip(1).map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert_eq!(rows(&export(&copy)), rows(&lines));
});
