//! Files of every kind, made here, and broken ones.

use miniz_oxide::deflate::compress_to_vec_zlib;

use super::*;

/// A file of these objects, numbered from 1; the first is its catalog.
fn file(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    for (number, object) in (1..).zip(objects) {
        bytes.extend(format!("{number} 0 obj\n").bytes());
        bytes.extend(object);
        bytes.extend(b"\nendobj\n");
    }
    bytes.extend(b"trailer <</Root 1 0 R>>\n%%EOF");
    bytes
}

fn stream(dict: &str, data: &[u8]) -> Vec<u8> {
    let head = format!("<<{dict}/Length {}>>stream\n", data.len());
    [head.as_bytes(), data, b"\nendstream"].concat()
}

/// A file of one page with this content and font.
fn page(font: &str, content: Vec<u8>) -> Vec<u8> {
    file(&[
        b"<</Type/Catalog/Pages 2 0 R>>".to_vec(),
        b"<</Type/Pages/Kids[3 0 R]/Resources<</Font<</F 4 0 R>>>>>>".to_vec(),
        b"<</Type/Page/Contents 5 0 R>>".to_vec(),
        font.as_bytes().to_vec(),
        content,
    ])
}

const HELVETICA: &str = "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>";

fn text(content: &str) -> String {
    let bytes = page(HELVETICA, stream("", content.as_bytes()));
    read(&bytes).expect("a good file").pages.concat()
}

#[test]
fn lines_words_and_paragraphs_are_told_apart_by_where_they_stand() {
    let content = "BT /F 10 Tf 72 700 Td (A weir is a) Tj 0 -12 Td [(bar) 20 (rier) -300 (across)] TJ \
        0 -30 Td (\\(New\\)) Tj ET BT /F 10 Tf 1 0 0 1 102 658 Tm (par) Tj 14 3 Td (2) Tj ET";
    assert_eq!(text(content), "A weir is a\nbarrier across\n\n(New) par2");
    assert_eq!(
        text("BT /F 10 Tf 0 1 -1 0 50 50 Tm (up) Tj 20 0 Td (wards) Tj ET"),
        "up wards"
    );
    assert_eq!(text("BI /W 1 ID \x01 Tj EI BT /F 1 Tf (x) ' ET"), "x");
}

#[test]
fn packed_streams_and_packed_objects_are_read() {
    let content = b"BT /F 10 Tf (Packed) Tj ET";
    let packed = compress_to_vec_zlib(content, 6);
    let bytes = page(HELVETICA, stream("/Filter/FlateDecode", &packed));
    assert_eq!(read(&bytes).expect("a good file").pages, ["Packed"]);
    let hex: String = packed.iter().map(|byte| format!("{byte:02x}")).collect();
    let bytes = page(
        HELVETICA,
        stream(
            "/Filter[/ASCIIHexDecode/FlateDecode]",
            format!("{hex}>").as_bytes(),
        ),
    );
    assert_eq!(read(&bytes).expect("a good file").pages, ["Packed"]);
    // What is missing at the end of a packed stream costs only the end.
    let cut = &packed[..packed.len() - 6];
    let bytes = page(HELVETICA, stream("/Filter/FlateDecode", cut));
    assert!(read(&bytes).is_ok_and(|pdf| pdf.pages[0].starts_with("Pack")));

    let head = "1 0 2 30 3 60 ";
    let inside = format!(
        "{head}{:<30}{:<30}{:<60}",
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]>>",
        "<</Contents 9 0 R/Resources<</Font<</F 8 0 R>>>>>>"
    );
    let dict = format!("/Type/ObjStm/N 3/First {}/Filter/FlateDecode", head.len());
    let mut bytes = b"%PDF-1.7\n7 0 obj".to_vec();
    bytes.extend(stream(&dict, &compress_to_vec_zlib(inside.as_bytes(), 6)));
    bytes.extend(b"endobj 8 0 obj");
    bytes.extend(HELVETICA.bytes());
    bytes.extend(b"endobj 9 0 obj");
    bytes.extend(stream("", content));
    bytes.extend(b"endobj 10 0 obj");
    bytes.extend(stream("/Type/XRef/Root 1 0 R", b""));
    assert_eq!(read(&bytes).expect("a good file").pages, ["Packed"]);
}

#[test]
fn ascii85_is_read() {
    assert_eq!(ascii85(b"87cURD]i,\"Ebo80~>"), b"Hello World!");
    assert_eq!(ascii85(b"z"), [0; 4]);
    assert_eq!(ascii85(b"uuuuu"), four(&[84; 5]));
}

#[test]
fn fonts_say_what_their_codes_mean() {
    let table = "1 begincodespacerange <0000> <ffff> endcodespacerange \
        1 beginbfrange <0001> <0003> <0061> endbfrange";
    let objects = |encoding: &str| {
        file(&[
            b"<</Type/Catalog/Pages 2 0 R>>".to_vec(),
            b"<</Type/Pages/Kids[3 0 R]>>".to_vec(),
            b"<</Contents 5 0 R/Resources<</Font<</F 4 0 R>>>>>>".to_vec(),
            encoding.as_bytes().to_vec(),
            stream("", b"BT /F 10 Tf <000100020003> Tj ET"),
            stream("", table.as_bytes()),
        ])
    };
    let wide = objects("<</Subtype/Type0/Encoding/Identity-H/ToUnicode 6 0 R>>");
    assert_eq!(read(&wide).expect("a good file").pages, ["abc"]);
    let named = objects("<</Subtype/Type1/Encoding<</Differences[1/eacute/fi 3/g99]>>>>");
    assert_eq!(read(&named).expect("a good file").pages, ["éfi"]);
}

#[test]
fn what_has_no_text_says_why() {
    let why = |bytes: &[u8]| read(bytes).expect_err("there is no text");
    assert_eq!(why(b"GIF89a"), PdfError::NoPdf);
    assert_eq!(why(b"%PDF-1.4\nnothing"), PdfError::NoPages);
    let scan = page(HELVETICA, stream("", b"q 100 0 0 100 0 0 cm /Im Do Q"));
    assert_eq!(why(&scan), PdfError::NoText);
    let locked = [&scan[..], b"trailer <</Root 1 0 R/Encrypt 9 0 R>>"].concat();
    assert_eq!(why(&locked), PdfError::Encrypted);
}

#[test]
fn a_small_file_that_unpacks_to_very_much_is_refused() {
    let bomb = compress_to_vec_zlib(&vec![b' '; STREAM_BYTES_MAX], 1);
    let kids = "3 0 R ".repeat(2);
    let again = "5 0 R ".repeat(UNPACKED_BYTES_MAX / STREAM_BYTES_MAX + 1);
    let bytes = file(&[
        b"<</Type/Catalog/Pages 2 0 R>>".to_vec(),
        format!("<</Type/Pages/Kids[{kids}]>>").into_bytes(),
        format!("<</Contents[{again}]>>").into_bytes(),
        HELVETICA.as_bytes().to_vec(),
        stream("/Filter/FlateDecode", &bomb),
    ]);
    assert!(bytes.len() < 1 << 20);
    assert_eq!(read(&bytes).expect_err("too much"), PdfError::TooLarge);
}

#[test]
fn circles_end() {
    let bytes = file(&[
        b"<</Type/Catalog/Pages 2 0 R>>".to_vec(),
        b"<</Type/Pages/Kids[2 0 R 3 0 R 3 0 R]/Resources 4 0 R>>".to_vec(),
        b"<</Contents 5 0 R>>".to_vec(),
        b"<</XObject<</X 5 0 R>>/Font<</F 6 0 R>>>>".to_vec(),
        stream("/Subtype/Form", b"/X Do BT /F 1 Tf (x) Tj ET"),
        b"7 0 R".to_vec(),
        b"6 0 R".to_vec(),
    ]);
    assert_eq!(read(&bytes), Err(PdfError::NoText));
}

#[test]
fn no_change_of_a_file_makes_reading_panic() {
    let content = stream("", b"BT /F 10 Tf 72 700 Td [(A) -300 (weir)] TJ /X Do ET");
    let whole = page(HELVETICA, content);
    for end in 0..whole.len() {
        let _ = read(&whole[..end]);
    }
    let mut state = 7_u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    for _ in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..4 {
            let at = next(bytes.len());
            bytes[at] = b"<>[]()/ 0123456789Rob\\\xff\x00"[next(24)];
        }
        let _ = read(&bytes);
    }
}
