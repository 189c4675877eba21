//! A file that is ingested: HTML, Markdown, text, JSON Lines or PDF. Reading it again changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::LazyCell;
use tempfile::TempDir;
use weir_memory::ingest::{IngestOptions, IngestReport, ingest};
use weir_memory::{Memory, MemoryConfig};

const FORMATS: [&str; 5] = ["html", "md", "txt", "jsonl", "pdf"];

struct World {
    folder: TempDir,
    memory: Memory,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let config = MemoryConfig {
            dimensions: 4,
            embedding_model: "none".into(),
        };
        let memory = Memory::open(&folder.path().join("memory"), &config).expect("a new memory");
        Self { folder, memory }
    }

    fn ingest(&self, format: &str, bytes: &[u8]) -> IngestReport {
        let path = self.folder.path().join("document").with_extension(format);
        std::fs::write(&path, bytes).expect("a temporary file");
        ingest(&self.memory, &[path], &IngestOptions::default(), &mut |_| ()).expect("an open memory")
    }
}

thread_local! {
    static WORLD: LazyCell<World> = const { LazyCell::new(World::new) };
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, text)) = bytes.split_first() else {
        return;
    };
    let format = FORMATS[usize::from(*first) % FORMATS.len()];
    WORLD.with(|world| {
        let first = world.ingest(format, text);
        let again = world.ingest(format, text);
        assert_eq!(again.passages, first.passages);
        assert_eq!(again.unchanged, again.passages, "{again:?}");
        assert_eq!(again.removed, 0);
    });
});
