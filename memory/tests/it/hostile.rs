//! No file can make the splitters panic, hang or overflow.

use std::fs;

use proptest::prelude::*;
use weir_memory::ingest::{IngestOptions, ingest};

use crate::open;

/// Fragments that splitters react to, in any order, next to arbitrary text.
fn fragment() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "<div role=main>",
        "</div>",
        "<dl class=glossary>",
        "<dt class=sig id=a.b>",
        "<dd>",
        "</dl>",
        "<h1 id=x>",
        "</h1>",
        "<pre>",
        "</pre>",
        "<a href='#%zz%'>",
        "</a>",
        "<table><tr><td>",
        "<li>",
        "<span class=sig-name>",
        "<script>",
        "<!--",
        "&#x0;",
        "# ",
        "## {#id}",
        "```",
        "\n\n",
        "- ",
        "| a | b |",
        "[x](y#z)",
        "---\n",
        "> ",
        "{\"text\":\"a\"}\n",
        "{\"id\":1,\"text\":\"b\",\"links\":[\"1\"]}\n",
        "...",
        "a.b.c ",
        "_",
        "é",
        "東京",
        "👩‍👩‍👧",
        "\u{202e}",
        "\u{feff}",
        "\u{0}",
        "。",
        "e.g. A",
    ]);
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_split_and_found_again_unchanged(
        fragments in prop::collection::vec(fragment(), 0..60),
    ) {
        let text = fragments.concat();
        let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["a.md", "b.html", "c.txt", "d.jsonl"] {
            fs::write(docs.path().join(name), &text).unwrap();
        }
        let memory = open(dir.path());
        let paths = [docs.path().to_owned()];
        for passage_words in [1, 180] {
            let options = IngestOptions { passage_words, ..IngestOptions::default() };
            let first = ingest(&memory, &paths, &options, &mut |_| {}).unwrap();
            prop_assert_eq!(memory.counts().nodes, first.passages);
            let generation = memory.generation();
            ingest(&memory, &paths, &options, &mut |_| {}).unwrap();
            prop_assert_eq!(memory.generation(), generation);
        }
    }
}

#[test]
fn deep_nesting_and_long_lines_end() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |name: &str, text: &str| fs::write(docs.path().join(name), text).unwrap();
    write("divs.html", &format!("{}deep", "<div>".repeat(5_000)));
    write(
        "lists.html",
        &format!("{}deep", "<dl><dt class=sig>x<dd>".repeat(2_000)),
    );
    write("quotes.md", &format!("{}deep", "> ".repeat(2_000)));
    write("line.txt", &"word ".repeat(100_000));
    write("run.txt", &"x".repeat(500_000));
    write("array.jsonl", &"[".repeat(100_000));
    let memory = open(dir.path());
    let options = IngestOptions::default();
    let report = ingest(&memory, &[docs.path().to_owned()], &options, &mut |_| {}).unwrap();
    assert_eq!(report.files, 6);
    assert_eq!(report.bad.len(), 1, "{:?}", report.bad);
}
