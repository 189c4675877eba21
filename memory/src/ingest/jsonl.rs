//! JSON Lines into sections: one a record, `{"id"?, "title"?, "text", "domain"?, "links"?}`.
//!
//! A record's id is its anchor; `links` names other records by id, or documents by path.

use serde::Deserialize;

use super::document::{Document, Link, Section};
use super::split_text;

/// Lines whose trouble is named; the rest is counted.
const NAMED_MAX: usize = 3;

#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    id: Option<serde_json::Value>,
    #[serde(default)]
    title: Option<String>,
    text: String,
    #[serde(default)]
    domain: Option<String>,
    #[serde(default)]
    links: Vec<String>,
}

/// Splits a file. Lines that are no record are reported and left out.
pub(super) fn split(source: &str) -> Document {
    let mut document = Document::default();
    let mut bad = 0;
    for (at, line) in source.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Record>(line) {
            Ok(record) => document.sections.push(section(record, at + 1)),
            Err(error) => {
                bad += 1;
                if bad <= NAMED_MAX {
                    document.bad_parts.push(format!("line {}: {error}", at + 1));
                }
            }
        }
    }
    if bad > NAMED_MAX {
        document
            .bad_parts
            .push(format!("{} more lines are no records", bad - NAMED_MAX));
    }
    document
}

fn section(record: Record, line: usize) -> Section {
    let anchor = match record.id {
        Some(serde_json::Value::String(id)) if !id.is_empty() => id,
        Some(serde_json::Value::Number(id)) => id.to_string(),
        _ => format!("L{line}"),
    };
    let mut pieces = split_text::paragraphs(&record.text);
    if let Some(first) = pieces.first_mut() {
        let link = |address| Link {
            address,
            words: String::new(),
        };
        first.links = record.links.into_iter().map(link).collect();
    }
    Section {
        anchor: Some(anchor),
        heading: record.title.unwrap_or_default(),
        domain: record.domain,
        pieces,
        ..Section::default()
    }
}
