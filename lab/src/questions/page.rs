//! One HTML page of the Python documentation, read into facts.
//!
//! Owns the knowledge of Sphinx's mark-up: signatures, defaults, `New in version`, headings. Decides nothing about what
//! is worth asking; that is `templates`.

use scraper::{ElementRef, Html, Selector};
use std::path::Path;

/// What one page states.
pub(super) struct Page {
    /// Relative to the root of the documentation, for example `library/bisect.html`.
    pub path: String,
    /// The module the page documents, if it documents one.
    pub module: Option<Module>,
    /// Functions, classes, data and so on, in order of appearance.
    pub definitions: Vec<Definition>,
    /// Sections whose heading is a question.
    pub questions: Vec<FaqEntry>,
}

/// A module and its one-line description.
pub(super) struct Module {
    pub name: String,
    pub synopsis: String,
    pub added: Option<String>,
}

/// One documented object.
pub(super) struct Definition {
    /// `function`, `method`, `class`, `data`, `exception`, ...
    pub kind: String,
    /// Full dotted name, which is its anchor too.
    pub name: String,
    pub parameters: Vec<Parameter>,
    /// Paragraphs of its own, without those of nested definitions.
    pub paragraphs: Vec<String>,
    /// The version that added the object as a whole.
    pub added: Option<String>,
    pub changes: Vec<Change>,
}

/// A parameter of a signature.
pub(super) struct Parameter {
    pub name: String,
    pub default: Option<String>,
}

/// A `Changed in version` note.
pub(super) struct Change {
    pub version: String,
    pub text: String,
}

/// A heading that asks, with the first paragraph below it.
pub(super) struct FaqEntry {
    pub anchor: String,
    pub heading: String,
    pub paragraph: String,
    /// Linked sections of other pages, relative to the root of the documentation.
    pub links: Vec<String>,
}

/// Every page below `root/folder`, sorted by path.
pub(super) fn read_folder(root: &Path, folder: &str) -> std::io::Result<Vec<Page>> {
    let mut paths: Vec<_> = std::fs::read_dir(root.join(folder))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "html")
        })
        .collect();
    paths.sort();
    let mut pages = Vec::new();
    for path in paths {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        pages.push(parse(
            &format!("{folder}/{name}"),
            &std::fs::read_to_string(&path)?,
        ));
    }
    Ok(pages)
}

pub(super) fn parse(path: &str, html: &str) -> Page {
    let document = Html::parse_document(html);
    let body = select("div.body");
    let root = document
        .select(&body)
        .next()
        .unwrap_or_else(|| document.root_element());
    Page {
        path: path.to_owned(),
        module: module(root),
        definitions: root
            .select(&select("dl.py"))
            .filter_map(definition)
            .collect(),
        questions: root
            .select(&select("section"))
            .filter_map(|s| faq_entry(s, path))
            .collect(),
    }
}

fn select(css: &'static str) -> Selector {
    Selector::parse(css).expect("selectors of this file are valid CSS")
}

/// Visible text with white space folded and permalink marks removed.
fn text(element: ElementRef<'_>) -> String {
    let joined: String = element.text().collect();
    joined
        .replace('¶', " ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn children<'a>(of: ElementRef<'a>) -> impl Iterator<Item = ElementRef<'a>> {
    of.children().filter_map(ElementRef::wrap)
}

fn has_class(element: ElementRef<'_>, class: &str) -> bool {
    element.value().classes().any(|own| own == class)
}

fn module(root: ElementRef<'_>) -> Option<Module> {
    let section = root.select(&select("section[id^='module-']")).next()?;
    let name = section.value().id()?.strip_prefix("module-")?.to_owned();
    let heading = text(section.select(&select("h1")).next()?);
    let (_, synopsis) = heading.split_once(" — ")?;
    let added = children(section).find_map(added_in);
    Some(Module {
        name,
        synopsis: synopsis.to_owned(),
        added,
    })
}

fn definition(list: ElementRef<'_>) -> Option<Definition> {
    let kind = list
        .value()
        .classes()
        .find(|class| *class != "py")?
        .to_owned();
    let mut signatures = children(list).filter(|e| e.value().name() == "dt");
    let signature = signatures.next()?;
    let body = children(list).find(|e| e.value().name() == "dd")?;
    // Two signatures for one body make "the default of" ambiguous.
    if signatures.next().is_some() {
        return None;
    }
    let name = signature.value().id()?.to_owned();
    let parameters = signature
        .select(&select("em.sig-param"))
        .filter_map(parameter)
        .collect();
    let paragraphs = children(body)
        .filter(|e| e.value().name() == "p")
        .map(text)
        .collect();
    let added = children(body).find_map(added_in);
    let changes = children(body).filter_map(change).collect();
    Some(Definition {
        kind,
        name,
        parameters,
        paragraphs,
        added,
        changes,
    })
}

fn parameter(element: ElementRef<'_>) -> Option<Parameter> {
    let name = text(element.select(&select("span.n")).next()?);
    let default = element
        .select(&select("span.default_value"))
        .next()
        .map(text);
    Some(Parameter { name, default })
}

/// `New in version 3.11.` and nothing more; a longer note speaks about a part.
fn added_in(element: ElementRef<'_>) -> Option<String> {
    if !has_class(element, "versionadded") {
        return None;
    }
    let note = text(element);
    let version = note.strip_prefix("New in version ")?.strip_suffix('.')?;
    version
        .chars()
        .all(|c| c.is_ascii_digit() || c == '.')
        .then(|| version.to_owned())
}

fn change(element: ElementRef<'_>) -> Option<Change> {
    if !has_class(element, "versionchanged") {
        return None;
    }
    let note = text(element);
    let (version, text) = note.strip_prefix("Changed in version ")?.split_once(": ")?;
    Some(Change {
        version: version.to_owned(),
        text: text.to_owned(),
    })
}

fn faq_entry(section: ElementRef<'_>, path: &str) -> Option<FaqEntry> {
    let anchor = section.value().id()?.to_owned();
    let is_heading = |e: &ElementRef<'_>| matches!(e.value().name(), "h2" | "h3");
    let heading = text(children(section).find(is_heading)?);
    let paragraph = children(section).find(|e| e.value().name() == "p")?;
    if !heading.ends_with('?') {
        return None;
    }
    let mut links: Vec<String> = section
        .select(&select("a.internal"))
        .filter_map(|link| link.value().attr("href"))
        .filter_map(|href| resolve(path, href))
        .collect();
    links.dedup();
    Some(FaqEntry {
        anchor,
        heading,
        paragraph: text(paragraph),
        links,
    })
}

/// `../library/x.html#y` seen from `faq/page.html` is `library/x.html#y`; links without an anchor lead nowhere exact.
fn resolve(path: &str, href: &str) -> Option<String> {
    let (folder, _) = path.rsplit_once('/')?;
    let (page, anchor) = href.split_once('#')?;
    let target = match page.strip_prefix("../") {
        Some(target) => target.to_owned(),
        None if page.is_empty() => return None,
        None => format!("{folder}/{page}"),
    };
    (target != path && !target.starts_with("glossary")).then(|| format!("{target}#{anchor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r##"<html><body><div class="body"><section id="module-bisect">
        <h1><a>bisect</a> — Array bisection algorithm<a>¶</a></h1>
        <dl class="py function"><dt class="sig" id="bisect.insort">
        <em class="sig-param"><span class="n">lo</span>=<span class="default_value">0</span></em>
        <em class="sig-param"><span class="n">x</span></em></dt>
        <dd><p>Insert <em>x</em>   in <em>a</em>.</p>
        <div class="versionadded"><p><span>New in version 3.1.</span></p></div>
        <div class="versionchanged"><p><span>Changed in version 3.10: </span>Added the <em>key</em>
        parameter.</p></div>
        <dl class="py method"><dt class="sig" id="bisect.insort.inner"></dt>
        <dd><p>Inner.</p><div class="versionadded"><p>New in version 3.2: and more.</p></div></dd></dl>
        </dd></dl>
        <section id="why"><h3>Why so?<a>¶</a></h3><p>Because.</p>
        <a class="internal" href="../faq/general.html#x"></a></section></section></div></body></html>"##;

    #[test]
    fn page_is_read_into_facts_without_those_of_nested_definitions() {
        let page = parse("library/bisect.html", PAGE);
        let module = page.module.unwrap();
        assert_eq!(
            (module.name.as_str(), module.synopsis.as_str()),
            ("bisect", "Array bisection algorithm")
        );
        let insort = &page.definitions[0];
        assert_eq!(insort.kind, "function");
        assert_eq!(insort.paragraphs, ["Insert x in a."]);
        assert_eq!(insort.added.as_deref(), Some("3.1"));
        assert_eq!(insort.parameters[0].default.as_deref(), Some("0"));
        assert_eq!(insort.parameters[1].default, None);
        assert_eq!(insort.changes[0].text, "Added the key parameter.");
        assert_eq!(page.definitions[1].added, None);
        assert_eq!(page.questions[0].heading, "Why so?");
        assert_eq!(page.questions[0].links, ["faq/general.html#x"]);
    }
}
