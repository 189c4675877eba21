//! PDF files: a section a page, and a reason for each that cannot be read.

use std::fs;

use weir_memory::ingest::{IngestOptions, ingest};

use crate::{open, query};

/// A file of one page a text.
fn pdf(texts: &[&str]) -> Vec<u8> {
    let kids: String = (0..texts.len())
        .map(|page| format!("{} 0 R ", 10 + 2 * page))
        .collect();
    let mut file = format!(
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[{kids}]\
         /Resources<</Font<</F 3 0 R>>>>>>endobj\n3 0 obj<</Subtype/Type1>>endobj\n4 0 obj<</Title(Low Walls)>>endobj\n"
    );
    for (page, text) in texts.iter().enumerate() {
        let content = format!("BT /F 10 Tf {text} ET");
        let (number, length) = (10 + 2 * page, content.len());
        file += &format!(
            "{number} 0 obj<</Type/Page/Contents {} 0 R>>endobj\n\
             {} 0 obj<</Length {length}>>stream\n{content}\nendstream endobj\n",
            number + 1,
            number + 1,
        );
    }
    (file + "trailer<</Root 1 0 R/Info 4 0 R>>").into_bytes()
}

#[test]
fn pages_become_passages_that_open_at_their_page() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pages = [
        "(Low walls) Tj 0 -30 Td (A weir is a bar-) Tj 0 -12 Td (rier across a river.) Tj",
        "(A sluice gate lets water pass.) Tj",
    ];
    fs::write(docs.path().join("walls.pdf"), pdf(&pages)).unwrap();
    let memory = open(dir.path());
    let paths = [docs.path().to_owned()];
    let report = ingest(&memory, &paths, &IngestOptions::default(), &mut |_| {}).unwrap();
    assert_eq!((report.passages, report.bad.len()), (2, 0), "{report:?}");
    let nodes = memory.nodes(&memory.ids(&query("").filter)).unwrap();
    let at = |uri: &str| {
        nodes
            .iter()
            .find(|node| node.metadata.uri.as_deref() == Some(uri))
            .unwrap()
    };
    let first = at("walls.pdf#page=1");
    assert_eq!(first.metadata.title.as_deref(), Some("Low Walls"));
    assert_eq!(
        first.text,
        "Low walls\n\nA weir is a barrier across a river."
    );
    assert_eq!(
        at("walls.pdf#page=2").text,
        "A sluice gate lets water pass."
    );
    assert_eq!(
        memory.counts().edges,
        1,
        "the second page follows the first"
    );
    let again = ingest(&memory, &paths, &IngestOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(again.unchanged, 2);
}

#[test]
fn a_file_without_text_is_reported_with_what_to_do() {
    let (dir, docs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let locked = [&pdf(&["(x) Tj"])[..], b"trailer<</Encrypt 9 0 R>>"].concat();
    let files: [(&str, &[u8]); 4] = [
        ("broken.pdf", b"%PDF-1.4\n\x00\xff"),
        ("locked.pdf", &locked),
        ("picture.pdf", b"GIF89a"),
        ("scan.pdf", &pdf(&[""])),
    ];
    for (name, bytes) in files {
        fs::write(docs.path().join(name), bytes).unwrap();
    }
    let memory = open(dir.path());
    let paths = [docs.path().to_owned()];
    let report = ingest(&memory, &paths, &IngestOptions::default(), &mut |_| {}).unwrap();
    let reasons: Vec<&str> = report.bad.iter().map(|bad| bad.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "a broken PDF: no page was found in it",
            "an encrypted PDF: save it without a password",
            "not a PDF file, whatever its name says",
            "a PDF without text, such as a scan: run text recognition (OCR) over it",
        ]
    );
}
