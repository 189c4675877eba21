//! HTML into sections: main content only, one section a heading, one a definition.
//!
//! Made for documentation (Sphinx, rustdoc-like pages, plain articles). Nothing in a page can make
//! it recurse deeply or fail: what it does not know it reads as text.

use scraper::{ElementRef, Html, Node};

use super::document::{Document, FOLD_WORDS, Link, Piece, Section, words};

/// Nesting that is followed; deeper content is read as plain text, which bounds the stack on
/// hostile pages.
const DEPTH_MAX: usize = 128;

/// Elements whose content is no text of the page.
const SKIPPED: &[&str] = &[
    "script", "style", "noscript", "template", "svg", "nav", "footer", "form", "head", "button",
    "iframe", "object", "select", "textarea",
];

/// Elements that begin a new paragraph.
const BLOCKS: &[&str] = &[
    "address",
    "article",
    "aside",
    "blockquote",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "li",
    "main",
    "ol",
    "p",
    "pre",
    "section",
    "summary",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "ul",
    "body",
];

/// Splits a page.
pub(super) fn split(source: &str) -> Document {
    let page = Html::parse_document(source);
    let Some(main) = main_content(&page) else {
        return Document::default();
    };
    let mut outline = Outline {
        sections: vec![Section::default()],
        open: vec![0],
    };
    outline.flow(main, "", 0);
    let heading = outline
        .sections
        .iter()
        .map(|section| &section.heading)
        .find(|h| !h.is_empty());
    let title = heading
        .cloned()
        .or_else(|| title_element(&page))
        .unwrap_or_default();
    Document {
        title,
        sections: outline.sections,
        ordered: true,
        bad_parts: Vec::new(),
    }
}

fn main_content(page: &Html) -> Option<ElementRef<'_>> {
    let elements = || {
        page.root_element()
            .descendants()
            .filter_map(ElementRef::wrap)
    };
    elements()
        .find(|element| element.attr("role") == Some("main"))
        .or_else(|| elements().find(|element| element.value().name() == "main"))
        .or_else(|| elements().find(|element| element.value().name() == "article"))
        .or_else(|| elements().find(|element| element.value().name() == "body"))
}

fn title_element(page: &Html) -> Option<String> {
    let mut elements = page
        .root_element()
        .descendants()
        .filter_map(ElementRef::wrap);
    let title = elements.find(|element| element.value().name() == "title")?;
    Some(inline_text(title)).filter(|text| !text.is_empty())
}

struct Outline {
    sections: Vec<Section>,
    /// Indexes of the sections that are being filled, innermost last.
    open: Vec<usize>,
}

impl Outline {
    fn current(&mut self) -> &mut Section {
        let at = *self.open.last().expect("the first section is never closed");
        &mut self.sections[at]
    }

    fn push(&mut self, piece: Piece) {
        if !piece.text.is_empty() || !piece.anchors.is_empty() {
            self.current().pieces.push(piece);
        }
    }

    /// Reads the content of an element: runs of inline content become pieces, blocks are entered.
    fn flow(&mut self, element: ElementRef<'_>, prefix: &str, depth: usize) {
        let mut line = Line::new(prefix);
        for child in element.children() {
            match child.value() {
                Node::Text(text) => line.text(text),
                Node::Element(value) if SKIPPED.contains(&value.name()) => {}
                Node::Element(value) => {
                    let Some(child) = ElementRef::wrap(child) else {
                        continue;
                    };
                    let is_block = BLOCKS.contains(&value.name()) || holds_block(child);
                    if is_block && depth < DEPTH_MAX {
                        self.push(line.take());
                        self.block(child, depth + 1);
                    } else {
                        line.inline(child);
                    }
                }
                _ => {}
            }
        }
        self.push(line.take());
    }

    fn block(&mut self, element: ElementRef<'_>, depth: usize) {
        let name = element.value().name();
        match name {
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => self.heading(element),
            "pre" => self.push(Piece::code(verbatim(element))),
            "dl" if is_definition_list(element) => self.definitions(element, depth),
            "tr" => self.table_row(element),
            "li" => self.flow(element, "- ", depth),
            _ if is_skipped_role(element) => {}
            _ => {
                self.anchor_of(element);
                self.flow(element, "", depth);
            }
        }
    }

    /// The id of a block leads to what stands in it; a section's id belongs to its heading.
    fn anchor_of(&mut self, element: ElementRef<'_>) {
        let Some(id) = element.attr("id") else { return };
        let piece = Piece {
            anchors: vec![id.to_owned()],
            ..Piece::default()
        };
        if !begins_with_heading(element) {
            self.push(piece);
        }
    }

    fn heading(&mut self, element: ElementRef<'_>) {
        let own = element.attr("id").map(str::to_owned);
        let parent = element.parent().and_then(ElementRef::wrap);
        let section = parent.filter(|parent| begins_with_heading(*parent));
        let outer = section
            .and_then(|parent| parent.attr("id"))
            .map(str::to_owned);
        let anchor = outer.clone().or_else(|| own.clone());
        let mut anchors: Vec<String> = own
            .into_iter()
            .filter(|own| Some(own) != anchor.as_ref())
            .collect();
        for sibling in section
            .iter()
            .flat_map(|parent| parent.children())
            .filter_map(ElementRef::wrap)
        {
            if sibling.value().name() == "span" {
                anchors.extend(sibling.attr("id").map(str::to_owned));
            }
        }
        let heading = inline_text(element);
        self.open.truncate(1);
        self.open[0] = self.sections.len();
        self.sections.push(Section {
            anchor,
            anchors,
            heading,
            ..Section::default()
        });
    }

    fn table_row(&mut self, row: ElementRef<'_>) {
        let mut line = Line::new("");
        for (at, cell) in row.children().filter_map(ElementRef::wrap).enumerate() {
            if at > 0 {
                line.text(" | ");
            }
            line.inline(cell);
        }
        self.push(line.take());
    }

    /// Terms with their descriptions. A name defined inside a definition stays there when it is
    /// short.
    fn definitions(&mut self, list: ElementRef<'_>, depth: usize) {
        let mut terms: Vec<ElementRef<'_>> = Vec::new();
        for child in list.children().filter_map(ElementRef::wrap) {
            match child.value().name() {
                "dt" => terms.push(child),
                "dd" => self.definition(&std::mem::take(&mut terms), Some(child), depth),
                _ => {}
            }
        }
        if !terms.is_empty() {
            self.definition(&terms, None, depth);
        }
    }

    fn definition(&mut self, terms: &[ElementRef<'_>], body: Option<ElementRef<'_>>, depth: usize) {
        let Some(first) = terms.first() else { return };
        let ids: Vec<String> = terms
            .iter()
            .filter_map(|term| term.attr("id"))
            .map(str::to_owned)
            .collect();
        let signatures: Vec<String> = terms.iter().map(|term| inline_text(*term)).collect();
        let nested = self.current().definition;
        let mut section = Section {
            anchor: ids.first().cloned(),
            anchors: ids.iter().skip(1).cloned().collect(),
            heading: defined_name(*first),
            definition: true,
            ..Section::default()
        };
        if has_class(*first, "sig") {
            section.pieces.push(Piece::code(signatures.join("\n")));
        }
        let at = self.sections.len();
        self.sections.push(section);
        self.open.push(at);
        if let Some(body) = body {
            self.flow(body, "", depth);
        }
        self.open.pop();
        if nested && self.sections.len() == at + 1 && self.sections[at].words() < FOLD_WORDS {
            let folded = self.sections.pop().expect("it was pushed above");
            self.fold(folded);
        }
    }

    fn fold(&mut self, section: Section) {
        let mut anchors: Vec<String> = section.anchor.into_iter().chain(section.anchors).collect();
        for mut piece in section.pieces {
            piece.anchors.append(&mut anchors);
            self.push(piece);
        }
    }
}

/// Inline content on its way to a piece.
struct Line<'a> {
    prefix: &'a str,
    piece: Piece,
}

impl<'a> Line<'a> {
    fn new(prefix: &'a str) -> Self {
        Self {
            prefix,
            piece: Piece::default(),
        }
    }

    fn text(&mut self, text: &str) {
        self.piece.text.push_str(text);
    }

    fn inline(&mut self, element: ElementRef<'_>) {
        if has_class(element, "headerlink") {
            return;
        }
        let mut raw = String::new();
        gather(element, &mut raw, &mut |inner| {
            self.piece
                .anchors
                .extend(inner.attr("id").map(str::to_owned));
            let target = inner.attr("href").filter(|_| inner.value().name() == "a");
            if let Some(target) = target {
                let (address, linked) = (target.to_owned(), inline_text(inner));
                self.piece.linked_words += words(&linked);
                self.piece.links.push(Link {
                    address,
                    words: linked,
                });
            }
        });
        self.text(&raw);
    }

    /// The piece so far with its white space folded.
    fn take(&mut self) -> Piece {
        let mut piece = std::mem::take(&mut self.piece);
        let folded = fold_space(&piece.text);
        piece.text = if folded.is_empty() {
            folded
        } else {
            format!("{}{folded}", self.prefix)
        };
        piece
    }
}

/// Appends the text of `element` without skipped parts; calls `visit` with it and each element
/// inside. No recursion.
fn gather(element: ElementRef<'_>, text: &mut String, visit: &mut dyn FnMut(ElementRef<'_>)) {
    let mut waiting = vec![*element];
    while let Some(node) = waiting.pop() {
        match node.value() {
            Node::Text(own) => text.push_str(own),
            Node::Element(value) => {
                let Some(inner) = ElementRef::wrap(node) else {
                    continue;
                };
                if SKIPPED.contains(&value.name()) || has_class(inner, "headerlink") {
                    continue;
                }
                visit(inner);
                if value.name() == "br" {
                    text.push('\n');
                }
                let children: Vec<_> = node.children().collect();
                waiting.extend(children.into_iter().rev());
            }
            _ => {}
        }
    }
}

fn inline_text(element: ElementRef<'_>) -> String {
    let mut text = String::new();
    gather(element, &mut text, &mut |_| {});
    fold_space(&text)
}

fn verbatim(element: ElementRef<'_>) -> String {
    let mut text = String::new();
    gather(element, &mut text, &mut |_| {});
    text.trim_matches('\n').trim_end().to_owned()
}

fn fold_space(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn has_class(element: ElementRef<'_>, class: &str) -> bool {
    element.value().classes().any(|own| own == class)
}

fn is_skipped_role(element: ElementRef<'_>) -> bool {
    matches!(
        element.attr("role"),
        Some("navigation" | "search" | "banner" | "contentinfo")
    ) || has_class(element, "toctree-wrapper") && has_class(element, "compound")
}

/// Whether a container that is no block itself (a `span`, an `a`) has a block directly inside.
fn holds_block(element: ElementRef<'_>) -> bool {
    let mut children = element.children().filter_map(ElementRef::wrap);
    children.any(|child| BLOCKS.contains(&child.value().name()))
}

/// Whether the first block in `element` is a heading, so that its id is the heading's.
fn begins_with_heading(element: ElementRef<'_>) -> bool {
    let mut blocks = element
        .children()
        .filter_map(ElementRef::wrap)
        .map(|child| child.value().name());
    let first = blocks.find(|name| BLOCKS.contains(name));
    matches!(first, Some("h1" | "h2" | "h3" | "h4" | "h5" | "h6"))
}

/// Lists that define names: Sphinx signatures and glossaries.
fn is_definition_list(list: ElementRef<'_>) -> bool {
    let mut terms = list.children().filter_map(ElementRef::wrap);
    has_class(list, "glossary") || terms.any(|term| has_class(term, "sig"))
}

/// The full dotted name where the anchor has it, else the name in the signature, else the term.
fn defined_name(term: ElementRef<'_>) -> String {
    let mut inside = term.descendants().filter_map(ElementRef::wrap);
    let named = inside
        .find(|element| has_class(*element, "sig-name"))
        .map(inline_text);
    let Some(name) = named.filter(|name| !name.is_empty()) else {
        return inline_text(term);
    };
    let id = term.attr("id").unwrap_or_default();
    let full = id.strip_prefix("c.").unwrap_or(id);
    if full.ends_with(&name) {
        full.to_owned()
    } else {
        name
    }
}
