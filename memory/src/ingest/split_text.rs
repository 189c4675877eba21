//! Plain text into one section of paragraphs.

use super::document::{Document, Piece, Section};

/// Splits a text at its empty lines. Paragraphs with indented lines are kept as they are.
pub(super) fn split(source: &str, name: &str) -> Document {
    let section = Section {
        heading: name.to_owned(),
        pieces: paragraphs(source),
        ..Section::default()
    };
    Document {
        title: name.to_owned(),
        sections: vec![section],
        ordered: true,
        bad_parts: Vec::new(),
    }
}

/// The paragraphs of a text.
pub(super) fn paragraphs(source: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    for line in source.lines().chain([""]) {
        if !line.trim().is_empty() {
            lines.push(line);
            continue;
        }
        if !lines.is_empty() {
            pieces.push(paragraph(&lines));
            lines.clear();
        }
    }
    pieces
}

fn paragraph(lines: &[&str]) -> Piece {
    if lines.iter().all(|line| line.starts_with([' ', '\t'])) {
        return Piece::code(lines.join("\n"));
    }
    let words: Vec<&str> = lines
        .iter()
        .flat_map(|line| line.split_whitespace())
        .collect();
    Piece::prose(words.join(" "))
}
