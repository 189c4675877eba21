//! The way from a file into the servers and back loses nothing.

use std::ops::ControlFlow;

use weir_memory::upkeep::{ImportOptions, import_into};
use weir_memory::{Batch, Memory, MemoryConfig, NewEdge, NewNode};
use weir_memory_external::Blocking;

use crate::world::{DIMENSIONS, World, id, node};

/// Node lines by id, then edge lines in any order, without the numbers of writes.
fn lines(export: &[u8]) -> Vec<String> {
    let text = String::from_utf8(export.to_vec()).unwrap();
    let mut lines: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_a_file_read_into_the_servers_is_exported_from_them_as_it_was() {
    let Some(world) = World::new().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let config = MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: "test-model".into(),
    };
    let embedded = Memory::open(folder.path(), &config).unwrap();
    let bare = NewNode {
        vector: None,
        ..node("bare", "no vector yet", 0)
    };
    let mut edge = NewEdge::new(id("whale"), id("krill"), "cites");
    edge.metadata.evidence = Some("whales eat krill".into());
    let batch = Batch {
        nodes: vec![
            node("whale", "the whale sings", 0),
            node("krill", "krill swims", 1),
            bare,
        ],
        edges: vec![edge],
    };
    embedded.write(&batch).unwrap();
    let mut before = Vec::new();
    embedded.export(&mut before, &mut |_| {}).unwrap();
    let external = world.open().await;
    let (target, input) = (external.clone(), before.clone());
    let read = move || {
        let target = Blocking::new(target);
        let options = ImportOptions::default();
        import_into(&target, &mut input.as_slice(), options, &mut |_| {
            ControlFlow::Continue(())
        })
    };
    let imported = tokio::task::spawn_blocking(read).await.unwrap().unwrap();
    assert_eq!(
        (imported.inserted, imported.edges, imported.pending),
        (3, 1, 1)
    );
    let mut after = Vec::new();
    let exported = external.export(&mut after, &mut |_| {}).await.unwrap();
    assert_eq!(
        (exported.nodes, exported.vectors, exported.edges),
        (3, 2, 1)
    );
    assert_eq!(lines(&after), lines(&before));
}
