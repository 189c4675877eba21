//! PDF into sections: one a page, anchored as `page=3`, so that its uri opens the page in a browser.
//!
//! Joins lines into paragraphs and leaves out what stands at the top or the bottom of most pages. Reading the file is
//! `pdf.rs`.

use std::collections::HashMap;

use super::document::{Document, Section};
use super::pdf::{self, PdfError};
use super::split_text;

/// Lines at the top and at the bottom of a page that may be the same on all.
const EDGE_LINES: usize = 2;

/// Pages that a line at the edge stands on when it is none of the text.
const REPEATED_MIN: usize = 3;

/// Splits a file; `name` is its title when it has none.
pub(super) fn split(bytes: &[u8], name: &str) -> Result<Document, PdfError> {
    let pdf = pdf::read(bytes)?;
    let first = pdf
        .pages
        .first()
        .map(|page| folded(page))
        .unwrap_or_default();
    // What a word processor put there is only believed when the first page says it too.
    let said = pdf.title.filter(|title| first.contains(&folded(title)));
    let title = said.unwrap_or_else(|| name.to_owned());
    let mut sections: Vec<Section> = (1..)
        .zip(without_edges(&pdf.pages))
        .map(|(number, lines)| Section {
            anchor: Some(format!("page={number}")),
            pieces: split_text::paragraphs(&joined(&lines)),
            ..Section::default()
        })
        .collect();
    if let Some(first) = sections.first_mut() {
        first.heading.clone_from(&title);
    }
    Ok(Document {
        title,
        sections,
        ordered: true,
        bad_parts: Vec::new(),
    })
}

fn folded(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// The lines of each page without those that most pages have at their edge, whatever numbers they count.
fn without_edges(pages: &[String]) -> Vec<Vec<&str>> {
    let mut pages: Vec<Vec<&str>> = pages.iter().map(|page| page.lines().collect()).collect();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for lines in &pages {
        for at in edges(lines) {
            *counts.entry(without_digits(lines[at])).or_default() += 1;
        }
    }
    let least = REPEATED_MIN.max(pages.len().div_ceil(2));
    for lines in &mut pages {
        for at in edges(lines) {
            let line = without_digits(lines[at]);
            if line.is_empty() || counts[&line] >= least {
                lines[at] = "";
            }
        }
    }
    pages
}

/// The first and the last lines that are not empty.
fn edges(lines: &[&str]) -> Vec<usize> {
    let full = || (0..lines.len()).filter(|at| !lines[*at].trim().is_empty());
    let mut edges: Vec<usize> = full().take(EDGE_LINES).collect();
    edges.extend(full().rev().take(EDGE_LINES));
    edges.sort_unstable();
    edges.dedup();
    edges
}

fn without_digits(line: &str) -> String {
    let kept = line
        .chars()
        .filter(|c| !c.is_ascii_digit() && !c.is_whitespace());
    kept.collect()
}

/// Words that were cut at the end of a line in one, and entries of a list of references set apart.
fn joined(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines.iter().map(|line| line.trim()) {
        let small = line.starts_with(char::is_lowercase);
        let cut = text.ends_with('-') && !text.ends_with("--") && small;
        if cut {
            text.pop();
        } else if is_entry(line) {
            text.push_str("\n\n");
        } else if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(line);
    }
    text
}

/// `[12] Author, title`
fn is_entry(line: &str) -> bool {
    let key = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "));
    key.is_some_and(|(key, _)| !key.is_empty() && key.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_cut_words_are_whole_again() {
        let lines = [
            "A weir is a bar-",
            "rier. See",
            "[1] One.",
            "[2] Two-",
            "Three.",
        ];
        assert_eq!(
            joined(&lines),
            "A weir is a barrier. See\n\n[1] One.\n\n[2] Two-\nThree."
        );
    }

    #[test]
    fn what_most_pages_have_at_their_edge_is_left_out() {
        let page =
            |number: usize, text: &str| format!("Weirs 3rd ed.\n{text}\n\nPage {number} of 3\n");
        let pages = [page(1, "One."), page(2, "Two.\n2"), page(3, "Three.")];
        let lines = without_edges(&pages);
        let kept: Vec<String> = lines.iter().map(|lines| lines.concat()).collect();
        assert_eq!(kept, ["One.", "Two.", "Three."]);
    }
}
