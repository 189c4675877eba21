//! `mirror`: what is gone from the folders is gone from the memory, and nothing else.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use weir_memory::Memory;
use weir_memory::ingest::{IngestOptions, IngestReport, ingest, ingest_until};

use crate::{open, query};

fn mirror() -> IngestOptions {
    IngestOptions {
        mirror: true,
        ..IngestOptions::default()
    }
}

fn run(memory: &Memory, paths: &[PathBuf], options: &IngestOptions) -> IngestReport {
    ingest(memory, paths, options, &mut |_| {}).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The uris of all passages.
fn uris(memory: &Memory) -> Vec<String> {
    let nodes = memory.nodes(&memory.ids(&query("").filter)).unwrap();
    let mut uris: Vec<String> = nodes
        .into_iter()
        .filter_map(|node| node.metadata.uri)
        .collect();
    uris.sort();
    uris
}

#[test]
fn documents_of_files_that_are_gone_go_with_passages_and_edges() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(docs.path(), "a.md", "# A\n\nSee [b](sub/b.md).\n");
    write(docs.path(), "sub/b.md", "# B\n\nOne.\n\n# C\n\nTwo.\n");
    let memory = open(dir.path());
    let paths = [docs.path().to_owned()];
    run(&memory, &paths, &mirror());
    assert_eq!((memory.counts().nodes, memory.counts().edges), (3, 2));

    fs::remove_file(docs.path().join("sub/b.md")).unwrap();
    let kept = run(&memory, &paths, &IngestOptions::default());
    assert_eq!((kept.gone, kept.removed, memory.counts().nodes), (0, 0, 3));
    let mirrored = run(&memory, &paths, &mirror());
    assert_eq!(
        (mirrored.gone, mirrored.removed, mirrored.unchanged),
        (1, 2, 1)
    );
    assert_eq!((memory.counts().nodes, memory.counts().edges), (1, 0));
    let generation = memory.generation();
    assert_eq!(run(&memory, &paths, &mirror()).gone, 0);
    assert_eq!(memory.generation(), generation);
}

#[test]
fn other_folders_other_tenants_and_files_asked_for_by_name_lose_nothing() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["one/a.md", "one/b.md", "one-more/c.md"] {
        write(docs.path(), name, "# A\n\nText.\n");
    }
    let memory = open(dir.path());
    let all = [docs.path().to_owned()];
    let theirs = IngestOptions {
        tenant: "globex".to_owned(),
        ..mirror()
    };
    run(&memory, &all, &mirror());
    run(&memory, &all, &theirs);
    for name in ["one/a.md", "one-more/c.md"] {
        fs::remove_file(docs.path().join(name)).unwrap();
    }
    let by_name = [docs.path().join("one/b.md")];
    assert_eq!(run(&memory, &by_name, &mirror()).gone, 0);
    assert_eq!(run(&memory, &[docs.path().join("one")], &mirror()).gone, 1);
    assert_eq!(uris(&memory), ["b.md#a", "one-more/c.md#a"]);
    assert_eq!(
        memory.counts().nodes,
        5,
        "the three of the other tenant are there"
    );
}

#[test]
fn of_what_cannot_be_read_nothing_is_removed() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let away = tempfile::tempdir().unwrap();
    write(away.path(), "x/c.md", "# C\n\nText.\n");
    for name in ["broken.md", "gone.md"] {
        write(docs.path(), name, "# A\n\nText.\n");
    }
    symlink(away.path().join("x"), docs.path().join("mounted")).unwrap();
    let memory = open(dir.path());
    let paths = [docs.path().to_owned()];
    assert_eq!(run(&memory, &paths, &mirror()).passages, 3);
    fs::remove_dir_all(away.path().join("x")).unwrap();
    fs::write(docs.path().join("broken.md"), b"\x00").unwrap();
    fs::remove_file(docs.path().join("gone.md")).unwrap();
    let report = run(&memory, &paths, &mirror());
    assert_eq!((report.gone, report.bad.len()), (1, 2), "{report:?}");
    assert_eq!(uris(&memory), ["broken.md#a", "mounted/c.md#c"]);
}

#[test]
fn a_run_that_is_told_to_end_removes_nothing() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["a.md", "b.md"] {
        write(docs.path(), name, "# A\n\nText.\n");
    }
    let memory = open(dir.path());
    let paths = [docs.path().to_owned()];
    run(&memory, &paths, &mirror());
    fs::remove_file(docs.path().join("a.md")).unwrap();
    let stop = &mut |_: &_| ControlFlow::Break(());
    let report = ingest_until(&memory, &paths, &mirror(), stop).unwrap();
    assert_eq!((report.left, report.gone), (1, 0));
    assert_eq!(memory.counts().nodes, 2);
}
