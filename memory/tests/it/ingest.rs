//! From files to passages and edges.

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use weir_memory::ingest::{IngestError, IngestOptions, IngestReport, ingest, ingest_until};
use weir_memory::{Memory, Node, NodeId, SHARED_TENANT};

use crate::{open, query};

fn run(memory: &Memory, path: &Path) -> IngestReport {
    ingest(
        memory,
        &[path.to_owned()],
        &IngestOptions::default(),
        &mut |_| {},
    )
    .unwrap()
}

/// The id of the passage at `uri` of a run over `docs`.
fn passage_id(docs: &Path, uri: &str) -> NodeId {
    let place = fs::canonicalize(docs).unwrap().join(uri);
    NodeId::derived(SHARED_TENANT, place.to_str().unwrap(), 0)
}

fn passage(memory: &Memory, docs: &Path, uri: &str) -> Node {
    let found = memory.node(passage_id(docs, uri)).unwrap();
    let found = found.unwrap_or_else(|| panic!("no passage at {uri}"));
    assert_eq!(found.metadata.uri.as_deref(), Some(uri));
    found
}

fn is_linked(memory: &Memory, docs: &Path, src: &str, rel: &str, dst: &str) -> bool {
    let (src, dst) = (passage_id(docs, src), passage_id(docs, dst));
    let edges = memory.edges(src).unwrap();
    let mut ends = edges
        .iter()
        .map(|edge| (edge.src, edge.rel.as_str(), edge.dst));
    ends.any(|edge| edge == (src, rel, dst))
}

/// How many passages have this uri.
fn count(memory: &Memory, uri: &str) -> usize {
    let nodes = memory.nodes(&memory.ids(&query("").filter)).unwrap();
    let has = |node: &&Node| node.metadata.uri.as_deref() == Some(uri);
    nodes.iter().filter(has).count()
}

const GUIDE: &str = "# Guide\n\nRead [the setup](#setup) first.\n\n## Setup\n\nInstall it:\n\n\
    ```sh\nmake   install\n  make check\n```\n\nThen see [the cache](sub/cache.html#lru).\n\n\
    ## Setup\n\nA second heading of that name.\n";

const CACHE: &str = r##"<html><head><title>Cache</title><style>p{}</style></head><body>
    <nav>Home Next</nav><div role="main"><section id="caching"><h1>Caching<a class="headerlink"
    href="#caching">¶</a></h1><p>Keeps results. See <a href="../guide.md#setup">setup</a>.</p>
    <dl class="py function"><dt class="sig sig-object py" id="tools.lru"><span
    class="sig-prename">tools.</span><span class="sig-name">lru</span>(<em>size</em>)</dt>
    <dd><p>Remembers the   last calls.</p><pre>def f():
    return 1
</pre></dd></dl><span id="lru"></span><p>Prefer tools.lru over your own.</p></section></div>
    <footer>Copyright</footer></body></html>"##;

#[test]
fn markdown_and_html_become_linked_passages() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(docs.path().join("sub")).unwrap();
    fs::write(docs.path().join("guide.md"), GUIDE).unwrap();
    fs::write(docs.path().join("sub/cache.html"), CACHE).unwrap();
    let memory = open(dir.path());
    let report = run(&memory, docs.path());
    assert_eq!(
        (report.files, report.passages, report.bad.len()),
        (2, 5, 0),
        "{report:?}"
    );

    let setup = passage(&memory, docs.path(), "guide.md#setup");
    assert_eq!(setup.metadata.title.as_deref(), Some("Guide › Setup"));
    assert!(
        setup.text.contains("make   install\n  make check"),
        "code is kept verbatim"
    );
    assert_eq!(
        passage(&memory, docs.path(), "guide.md#setup-1").text,
        "A second heading of that name."
    );

    let page = passage(&memory, docs.path(), "sub/cache.html#caching");
    assert_eq!(
        page.text,
        "Keeps results. See setup.\n\nPrefer tools.lru over your own."
    );
    let definition = passage(&memory, docs.path(), "sub/cache.html#tools.lru");
    assert_eq!(definition.metadata.title.as_deref(), Some("tools.lru"));
    assert_eq!(
        definition.text,
        "tools.lru(size)\n\nRemembers the last calls.\n\ndef f():\n    return 1"
    );

    assert!(is_linked(
        &memory,
        docs.path(),
        "guide.md#guide",
        "hyperlink",
        "guide.md#setup"
    ));
    assert!(is_linked(
        &memory,
        docs.path(),
        "guide.md#setup",
        "hyperlink",
        "sub/cache.html#caching"
    ));
    assert!(is_linked(
        &memory,
        docs.path(),
        "sub/cache.html#caching",
        "hyperlink",
        "guide.md#setup"
    ));
    assert!(is_linked(
        &memory,
        docs.path(),
        "guide.md#setup",
        "follows",
        "guide.md#guide"
    ));
    assert!(is_linked(
        &memory,
        docs.path(),
        "sub/cache.html#caching",
        "mentions",
        "sub/cache.html#tools.lru"
    ));
}

#[test]
fn unchanged_files_write_nothing_and_changed_ones_only_their_difference() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let guide = docs.path().join("guide.md");
    fs::write(&guide, GUIDE).unwrap();
    fs::write(docs.path().join("notes.txt"), "Whales sing.\n\nFoxes bark.").unwrap();
    let memory = open(dir.path());
    let first = run(&memory, docs.path());
    let generation = memory.generation();
    let again = run(&memory, docs.path());
    assert_eq!((again.inserted, again.updated, again.removed), (0, 0, 0));
    assert_eq!(again.unchanged, first.passages);
    assert_eq!(memory.generation(), generation);

    let shorter = "# Guide\n\nThere is nothing to set up.\n";
    fs::write(&guide, shorter).unwrap();
    let changed = run(&memory, docs.path());
    assert_eq!(
        (changed.inserted, changed.updated, changed.removed),
        (0, 1, 2),
        "{changed:?}"
    );
    assert!(
        memory
            .node(passage_id(docs.path(), "guide.md#setup"))
            .unwrap()
            .is_none()
    );
    assert!(
        memory
            .edges(passage_id(docs.path(), "guide.md#guide"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_link_that_is_taken_out_of_a_text_is_taken_out_of_the_graph() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let page = docs.path().join("page.md");
    fs::write(&page, "# A\n\nSee [b](#b).\n\n# B\n\nText.\n").unwrap();
    let memory = open(dir.path());
    run(&memory, docs.path());
    assert!(is_linked(
        &memory,
        docs.path(),
        "page.md#a",
        "hyperlink",
        "page.md#b"
    ));
    fs::write(&page, "# A\n\nSee nothing.\n\n# B\n\nText.\n").unwrap();
    run(&memory, docs.path());
    assert!(!is_linked(
        &memory,
        docs.path(),
        "page.md#a",
        "hyperlink",
        "page.md#b"
    ));
    assert!(is_linked(
        &memory,
        docs.path(),
        "page.md#b",
        "follows",
        "page.md#a"
    ));
}

#[test]
fn bad_files_are_reported_with_a_reason_and_stop_nothing() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |name: &str, bytes: &[u8]| fs::write(docs.path().join(name), bytes).unwrap();
    write("good.md", b"# Whales\n\nWhales sing.");
    write("binary.txt", b"\x00\x01\x02");
    write("latin1.html", b"<p>caf\xe9</p>");
    write("picture.png", b"\x89PNG");
    write("empty.md", b"");
    write(
        "records.jsonl",
        b"{\"id\":\"a\",\"text\":\"Foxes bark.\"}\nnot json\n{\"title\":\"x\"}\n",
    );
    std::os::unix::fs::symlink("missing", docs.path().join("dangling.md")).unwrap();
    std::os::unix::fs::symlink(docs.path(), docs.path().join("circle")).unwrap();
    let memory = open(dir.path());
    let report = run(&memory, docs.path());
    let mut bad: Vec<String> = (report.bad.iter())
        .map(|bad| {
            format!(
                "{}: {}",
                bad.path.file_name().unwrap().display(),
                bad.reason
            )
        })
        .collect();
    bad.sort();
    assert_eq!(bad.len(), 5, "{bad:?}");
    assert_eq!(bad[0], "binary.txt: a binary file");
    assert!(bad[1].starts_with("dangling.md: No such file"), "{bad:?}");
    assert_eq!(bad[2], "latin1.html: not UTF-8 from byte 6 on");
    assert!(
        bad[3].starts_with("records.jsonl: line 2: ") && bad[4].contains("line 3: "),
        "{bad:?}"
    );
    assert_eq!(report.passages, 2);
    assert_eq!(memory.search(&query("whales")).unwrap().hits.len(), 1);
    assert_eq!(memory.search(&query("foxes")).unwrap().hits.len(), 1);
}

#[test]
fn a_name_that_is_not_utf8_is_reported_and_nothing_of_it_is_stored() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let name = OsStr::from_bytes(b"caf\xe9.md");
    fs::write(docs.path().join(name), "# Whales\n\nWhales sing.").unwrap();
    fs::write(docs.path().join("good.md"), "# Foxes\n\nFoxes bark.").unwrap();
    let memory = open(dir.path());
    let report = run(&memory, docs.path());
    assert_eq!((report.inserted, report.bad.len()), (1, 1), "{report:?}");
    assert!(report.bad[0].reason.contains("UTF-8"), "{report:?}");
}

#[test]
fn a_path_that_is_not_there_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let missing = dir.path().join("missing");
    let options = IngestOptions::default();
    let error = ingest(&memory, &[missing], &options, &mut |_| {}).unwrap_err();
    assert!(matches!(&error, IngestError::Path { path, .. } if path.ends_with("missing")));
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn records_keep_their_id_domain_and_links() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = docs.path().join("set.jsonl");
    let lines = [
        r#"{"id": "w", "title": "Whale", "text": "It sings.", "domain": "sea", "links": ["f"]}"#,
        r#"{"id": "f", "title": "Fox", "text": "It barks."}"#,
        r#"{"text": "No id."}"#,
    ];
    fs::write(&file, lines.join("\n")).unwrap();
    let memory = open(dir.path());
    let options = IngestOptions {
        domain: Some("animals".to_owned()),
        ..IngestOptions::default()
    };
    ingest(&memory, &[file], &options, &mut |_| {}).unwrap();
    assert_eq!(
        passage(&memory, docs.path(), "set.jsonl#w")
            .metadata
            .domain
            .as_deref(),
        Some("sea")
    );
    assert_eq!(
        passage(&memory, docs.path(), "set.jsonl#f")
            .metadata
            .domain
            .as_deref(),
        Some("animals")
    );
    assert_eq!(passage(&memory, docs.path(), "set.jsonl#L3").text, "No id.");
    assert!(is_linked(
        &memory,
        docs.path(),
        "set.jsonl#w",
        "hyperlink",
        "set.jsonl#f"
    ));
    assert_eq!(memory.counts().edges, 1, "records do not follow each other");
}

#[test]
fn long_sections_are_cut_between_sentences() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sentence = "This sentence has exactly seven short words. ";
    fs::write(docs.path().join("long.txt"), sentence.repeat(100)).unwrap();
    let memory = open(dir.path());
    let report = run(&memory, docs.path());
    assert_eq!(report.passages, 4);
    for node in memory.nodes(&memory.ids(&query("").filter)).unwrap() {
        let words = node.text.split_whitespace().count();
        assert!(
            (100..=250).contains(&words) && words.is_multiple_of(7),
            "{words}"
        );
    }
}

/// Two folders with a page of the same name that links to another page of its folder.
fn two_folders() -> (tempfile::TempDir, [PathBuf; 2]) {
    let parent = tempfile::tempdir().unwrap();
    let folders = ["one", "two"].map(|name| {
        let folder = parent.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(
            folder.join("README.md"),
            format!("# Top\n\nFolder {name}: [more](more.md#m)."),
        )
        .unwrap();
        fs::write(folder.join("more.md"), format!("# M\n\nMore of {name}.")).unwrap();
        folder
    });
    (parent, folders)
}

#[test]
fn files_of_one_name_from_two_folders_both_stay() {
    let (parent, folders) = two_folders();
    let separate = open(&parent.path().join("separate"));
    for folder in &folders {
        assert_eq!(run(&separate, folder).inserted, 2);
    }
    let together = open(&parent.path().join("together"));
    let options = IngestOptions::default();
    let report = ingest(&together, &folders, &options, &mut |_| {}).unwrap();
    assert_eq!((report.files, report.bad.len()), (4, 0), "{report:?}");
    for memory in [separate, together] {
        for (folder, name) in folders.iter().zip(["one", "two"]) {
            let page = passage(&memory, folder, "README.md#top");
            assert_eq!(page.text, format!("Folder {name}: more."));
            assert!(is_linked(
                &memory,
                folder,
                "README.md#top",
                "hyperlink",
                "more.md#m"
            ));
        }
        assert_eq!((memory.counts().nodes, memory.counts().edges), (4, 2));
    }
}

#[test]
fn one_folder_is_the_same_through_a_link_and_a_roundabout_path() {
    let (parent, [one, _]) = two_folders();
    let memory = open(&parent.path().join("store"));
    run(&memory, &one);
    let generation = memory.generation();
    let link = parent.path().join("link");
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let roundabout = parent.path().join("two/../one/.");
    for again in [link, roundabout, one.join("README.md")] {
        let report = run(&memory, &again);
        assert_eq!(report.inserted + report.updated, 0, "{again:?}: {report:?}");
        assert_eq!(report.unchanged, report.passages, "{again:?}");
        assert_eq!(memory.generation(), generation, "{again:?}");
    }
}

#[test]
fn a_file_that_two_paths_lead_to_is_read_once_under_its_longer_name() {
    let (parent, [one, two]) = two_folders();
    let memory = open(&parent.path().join("store"));
    let paths = [one.join("more.md"), parent.path().to_owned(), two];
    let report = ingest(&memory, &paths, &IngestOptions::default(), &mut |_| {}).unwrap();
    assert_eq!((report.files, report.inserted), (4, 4), "{report:?}");
    assert_eq!(count(&memory, "one/more.md#m"), 1);
    assert_eq!(count(&memory, "two/more.md#m"), 1);
}

#[test]
fn a_link_leads_out_of_its_folder_to_what_was_ingested_before() {
    let (parent, [one, two]) = two_folders();
    let memory = open(&parent.path().join("store"));
    run(&memory, &one);
    fs::write(two.join("up.md"), "# Up\n\nSee [one](../one/more.md#m).").unwrap();
    run(&memory, &two);
    let edges = memory.edges(passage_id(&two, "up.md#up")).unwrap();
    assert!(
        (edges.iter()).any(|edge| edge.dst == passage_id(&one, "more.md#m")),
        "{edges:?}"
    );
}

#[test]
fn a_run_that_is_told_to_end_keeps_whole_files_and_the_next_one_adds_the_rest() {
    let (folder, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let memory = open(folder.path());
    for (name, next) in [("a", "b"), ("b", "c"), ("c", "a")] {
        let text = format!("# Page {name}\n\nSee [the next]({next}.md).\n");
        fs::write(docs.path().join(format!("{name}.md")), text).unwrap();
    }
    let paths = [docs.path().to_owned()];
    let options = IngestOptions::default();
    let cut = ingest_until(&memory, &paths, &options, &mut |at| match at.files_done {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    });
    let cut = cut.unwrap();
    assert_eq!((cut.files, cut.inserted, cut.left), (1, 1, 2));
    assert_eq!(memory.counts().nodes, 1);
    let whole = run(&memory, docs.path());
    assert_eq!((whole.inserted, whole.unchanged, whole.left), (2, 1, 0));
    assert!(is_linked(
        &memory,
        docs.path(),
        "a.md#page-a",
        "hyperlink",
        "b.md#page-b"
    ));
}
