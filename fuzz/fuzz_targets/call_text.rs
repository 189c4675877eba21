//! Calls in an answer's text, as a model may write them. Where the answer is cut must not matter, and no text gets lost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_engine::tool_text::{Piece, ToolText};

fn split<'a>(chunks: impl Iterator<Item = &'a str>) -> Vec<Piece> {
    ToolText::new(vec!["f".to_owned(), "g".to_owned()]).split(chunks)
}

fuzz_target!(|text: &str| {
    let whole = split(std::iter::once(text));
    let single = split(text.split_inclusive(|_: char| true));
    assert_eq!(whole, single);
    let texts = |pieces: &[Piece]| -> String {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Calls(_) => String::new(),
        };
        pieces.iter().map(text).collect()
    };
    let called = whole.iter().any(|piece| matches!(piece, Piece::Calls(_)));
    assert!(called || texts(&whole) == text, "text is lost");
    for calls in whole.iter().filter_map(|piece| match piece {
        Piece::Calls(calls) => Some(calls),
        Piece::Text(_) => None,
    }) {
        assert!(!calls.is_empty() && calls.iter().all(|call| call.name == "f" || call.name == "g"));
        for call in calls {
            serde_json::to_string(&call.arguments).expect("arguments are JSON");
        }
    }
});
