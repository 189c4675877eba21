//! Markdown into sections: one a heading, anchored as GitHub does.

use std::collections::HashMap;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd};

use super::document::{Document, Link, Piece, Section, words};

/// Splits a page.
pub(super) fn split(source: &str) -> Document {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut reader = Reader::default();
    for event in Parser::new_ext(source, options) {
        reader.event(event);
    }
    reader.flush();
    reader.close_section();
    let headings = reader.sections.iter().map(|section| &section.heading);
    let title = headings
        .clone()
        .find(|heading| !heading.is_empty())
        .cloned()
        .unwrap_or_default();
    Document {
        title,
        sections: reader.sections,
        ordered: true,
        bad_parts: Vec::new(),
    }
}

#[derive(Default)]
struct Reader {
    sections: Vec<Section>,
    section: Section,
    piece: Piece,
    /// Id that the heading in hand states (`# Heading {#id}`).
    stated_id: Option<String>,
    in_heading: bool,
    in_metadata: bool,
    /// Length of the text when the innermost link began.
    link_start: Option<usize>,
    cells: usize,
    slugs: HashMap<String, usize>,
}

impl Reader {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Code(text) => self.text(&text),
            Event::SoftBreak => self.text(" "),
            Event::HardBreak => self.text("\n"),
            Event::Rule => self.flush(),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_metadata {
            return;
        }
        if self.in_heading {
            self.section.heading.push_str(text);
        } else {
            self.piece.text.push_str(text);
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { id, .. } => {
                self.flush();
                self.close_section();
                self.stated_id = id.map(CowStr::into_string);
                self.in_heading = true;
            }
            Tag::CodeBlock(_) => {
                self.flush();
                self.piece.code = true;
            }
            Tag::Item => {
                self.flush();
                self.piece.text.push_str("- ");
            }
            Tag::Link { dest_url, .. } => {
                let (address, words) = (dest_url.into_string(), String::new());
                self.piece.links.push(Link { address, words });
                self.link_start = Some(self.piece.text.len());
            }
            Tag::MetadataBlock(_) => self.in_metadata = true,
            Tag::TableRow | Tag::TableHead => {
                self.flush();
                self.cells = 0;
            }
            Tag::TableCell => {
                if self.cells > 0 {
                    self.text(" | ");
                }
                self.cells += 1;
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                self.in_heading = false;
                self.section.heading = self.section.heading.trim().to_owned();
                let slug = self.slug();
                self.section.anchor = Some(self.stated_id.take().unwrap_or(slug));
            }
            TagEnd::Link => {
                if let Some(linked) = self
                    .link_start
                    .take()
                    .and_then(|at| self.piece.text.get(at..))
                {
                    self.piece.linked_words += words(linked);
                    if let Some(link) = self.piece.links.last_mut() {
                        linked.trim().clone_into(&mut link.words);
                    }
                }
            }
            TagEnd::MetadataBlock(_) => self.in_metadata = false,
            TagEnd::Paragraph
            | TagEnd::CodeBlock
            | TagEnd::Item
            | TagEnd::TableRow
            | TagEnd::TableHead
            | TagEnd::BlockQuote(_) => self.flush(),
            _ => {}
        }
    }

    /// The anchor GitHub gives a heading: lower case, spaces to dashes, other signs dropped,
    /// repeated ones numbered.
    fn slug(&mut self) -> String {
        let kept = self.section.heading.to_lowercase();
        let kept = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let seen = self.slugs.entry(slug.clone()).or_default();
        *seen += 1;
        if *seen == 1 {
            slug
        } else {
            format!("{slug}-{}", *seen - 1)
        }
    }

    fn flush(&mut self) {
        let mut piece = std::mem::take(&mut self.piece);
        let kept = if piece.code {
            piece.text.trim_matches('\n')
        } else {
            piece.text.trim()
        };
        piece.text = kept.trim_end().to_owned();
        if !piece.text.is_empty() && piece.text != "-" {
            self.section.pieces.push(piece);
        } else if let Some(before) = self.section.pieces.last_mut() {
            before.links.append(&mut piece.links);
        }
    }

    fn close_section(&mut self) {
        let section = std::mem::take(&mut self.section);
        if !section.pieces.is_empty() || section.anchor.is_some() {
            self.sections.push(section);
        }
    }
}
