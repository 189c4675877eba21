//! Turns facts of one page into questions with one short answer.
//!
//! Each template is one function from a page to drafts, filtered hard: a draft must name what it asks about in full, have
//! one answer, and not contain it. Which drafts are taken is `generate`'s business.

use super::page::{Definition, Page};
use super::{Gold, Scenario};
use crate::grade::Grader;
use regex::Regex;
use std::sync::LazyLock;

/// A question before it has an id and a split.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// Name of the template; first part of the id.
    pub template: &'static str,
    pub source: String,
    pub scenario: Scenario,
    pub question: String,
    pub answers: Vec<String>,
    pub grader: Grader,
    /// A page that answers the question word by word.
    pub without: Option<String>,
    pub gold: Vec<Gold>,
}

static ADDED_PARAMETER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:The |Added(?: the)?(?: keyword-only)?(?: optional)? )(\w+)(?: parameter)(?: was added| added)?\.$",
    )
});
static RAISED_IF: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:An? )?([A-Z]\w+(?:Error|Exception|Empty|Full|Exists)) (?:is|will be) raised (if|when) (.+)\.$",
    )
});
static IF_RAISED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(If|When) (.+?), (?:then )?(?:an? )?([A-Z]\w+(?:Error|Exception)) (?:exception )?(?:is|will be) raised\.$",
    )
});
static RAISES: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:Raises?|Raising) (?:an? )?([A-Z]\w+(?:Error|Exception)) (?:exception )?(if|when) (.+)\.$",
    )
});
static RETURNS_KIND: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^Returns? an? (?:new |named )?(list|tuple|dictionary|bytes object|string|iterator|frozenset|set) (of|containing|that) ",
    )
});
static MAPPED: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(.+)\. This error is mapped to the exception (\w+)\.$"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("patterns of this file are valid")
}

/// Every draft that the page yields, in a fixed order.
pub(super) fn drafts(page: &Page) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for definition in page.definitions.iter().filter(|d| is_askable(d)) {
        drafts.extend(defaults(page, definition));
        drafts.extend(added(page, definition));
        drafts.extend(parameter_changes(page, definition));
        drafts.extend(raised(page, definition));
        drafts.extend(returned(page, definition));
        drafts.extend(mapped(page, definition));
    }
    drafts.extend(described(page));
    drafts.extend(module_facts(page));
    drafts
}

/// The name of the object as a reader would write it in prose.
pub(super) fn shown(definition: &Definition) -> String {
    let call = matches!(
        definition.kind.as_str(),
        "function" | "method" | "classmethod"
    );
    format!("`{}{}`", definition.name, if call { "()" } else { "" })
}

pub(super) fn gold(page: &Page, definition: &Definition, evidence: &str) -> Gold {
    let last = definition
        .name
        .rsplit('.')
        .next()
        .unwrap_or(&definition.name);
    Gold {
        uri: format!("{}#{}", page.path, definition.name),
        evidence: [last, evidence]
            .iter()
            .filter(|e| !e.is_empty())
            .map(|e| (*e).to_owned())
            .collect(),
    }
}

fn is_askable(definition: &Definition) -> bool {
    let last = definition.name.rsplit('.').next().unwrap_or_default();
    !last.starts_with('_') && !definition.name.contains("__") && definition.name.len() < 48
}

fn draft(
    template: &'static str,
    page: &Page,
    question: String,
    answer: &str,
    (grader, gold): (Grader, Gold),
) -> Draft {
    Draft {
        template,
        source: page.path.clone(),
        scenario: Scenario::Moderate,
        question,
        answers: vec![answer.to_owned()],
        grader,
        without: None,
        gold: vec![gold],
    }
}

/// A default that can be written in a word: a decimal number, a constant or a short string.
pub(super) fn is_short_literal(default: &str) -> bool {
    let plain = default.trim_matches(['\'', '"']);
    let string = plain.len() + 2 == default.len()
        && (2..=10).contains(&plain.len())
        && plain
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_ ".contains(c))
        && plain.chars().any(|c| c.is_ascii_alphabetic());
    let number = default.parse::<f64>().is_ok() && default.chars().any(|c| c.is_ascii_digit());
    string || number || matches!(default, "None" | "True" | "False")
}

fn defaults(page: &Page, definition: &Definition) -> Vec<Draft> {
    if !matches!(definition.kind.as_str(), "function" | "method" | "class") {
        return Vec::new();
    }
    let mut drafts = Vec::new();
    for parameter in &definition.parameters {
        let Some(default) = parameter.default.as_deref().filter(|d| is_short_literal(d)) else {
            continue;
        };
        let question = format!(
            "What is the default value of the parameter `{}` of {}? Answer with the value only.",
            parameter.name,
            shown(definition)
        );
        let evidence = format!("{}={}", parameter.name, default);
        let rest = (Grader::Literal, gold(page, definition, &evidence));
        drafts.push(draft("default", page, question, default, rest));
    }
    drafts
}

fn added(page: &Page, definition: &Definition) -> Option<Draft> {
    let version = definition
        .added
        .as_deref()
        .filter(|v| v.starts_with('3') && *v != "3.0")?;
    let question = format!(
        "In which Python version was {} added? Answer with the version number only.",
        shown(definition)
    );
    let evidence = format!("New in version {version}");
    let rest = (Grader::Version, gold(page, definition, &evidence));
    Some(draft("added", page, question, version, rest))
}

fn parameter_changes(page: &Page, definition: &Definition) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for change in &definition.changes {
        let Some(name) = ADDED_PARAMETER
            .captures(&change.text)
            .map(|c| c[1].to_owned())
        else {
            continue;
        };
        let evidence = format!("Changed in version {}", change.version);
        let same = definition
            .changes
            .iter()
            .filter(|c| c.version == change.version)
            .count();
        if same == 1 && name.len() > 2 {
            let question = format!(
                "Which parameter was added to {} in Python {}? Answer with the parameter's name only.",
                shown(definition),
                change.version
            );
            let rivals = definition.parameters.iter().map(|p| p.name.clone());
            let rivals = rivals.filter(|r| *r != name && r.len() > 2).collect();
            let rest = (
                Grader::Contains { rivals },
                gold(page, definition, &evidence),
            );
            drafts.push(draft("new-parameter", page, question, &name, rest));
        }
        let question = format!(
            "In which Python version did {} gain the parameter `{name}`? Answer with the version number only.",
            shown(definition)
        );
        let rest = (Grader::Version, gold(page, definition, &evidence));
        drafts.push(draft(
            "parameter-version",
            page,
            question,
            &change.version,
            rest,
        ));
    }
    drafts
}

/// Sentences of prose, split where a full stop is followed by a capital.
pub(super) fn sentences(paragraph: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut start = 0;
    for (at, _) in paragraph.match_indices(". ") {
        let next_is_capital = paragraph[at + 2..].starts_with(|c: char| c.is_uppercase());
        let short = paragraph[..at].ends_with("e.g") || paragraph[..at].ends_with("i.e");
        if next_is_capital && !short {
            sentences.push(paragraph[start..=at].trim().to_owned());
            start = at + 2;
        }
    }
    sentences.push(paragraph[start..].trim().to_owned());
    sentences
}

fn raised(page: &Page, definition: &Definition) -> Vec<Draft> {
    let mut found: Vec<(String, String, String)> = Vec::new();
    for sentence in definition.paragraphs.iter().flat_map(|p| sentences(p)) {
        let parts = if let Some(c) = RAISED_IF.captures(&sentence).or(RAISES.captures(&sentence)) {
            (c[1].to_owned(), c[2].to_lowercase(), c[3].to_owned())
        } else if let Some(c) = IF_RAISED.captures(&sentence) {
            (c[3].to_owned(), c[1].to_lowercase(), c[2].to_owned())
        } else {
            continue;
        };
        found.push(parts);
    }
    found
        .iter()
        .filter(|(name, _, condition)| is_clear_condition(condition, name))
        .map(|(name, when, condition)| {
            let question = format!(
                "Which exception does {} raise {when} {condition}? Answer with the exception's name only.",
                shown(definition)
            );
            let rest = (Grader::Exception, gold(page, definition, name));
            draft("raises", page, question, name, rest)
        })
        .collect()
}

/// A condition that stands on its own: no reference to what came before, no second exception, of readable length.
fn is_clear_condition(condition: &str, exception: &str) -> bool {
    let words: Vec<&str> = condition.split_whitespace().collect();
    let vague = [
        "this",
        "these",
        "it",
        "that",
        "such",
        "otherwise",
        "above",
        "one",
        "they",
    ];
    (3..=22).contains(&words.len())
        && !words
            .iter()
            .take(2)
            .any(|word| vague.contains(&word.to_lowercase().as_str()))
        && !condition.contains(exception)
        && crate::text::exceptions(condition).is_empty()
        && ![" raised", "returned", "those ", "these "]
            .iter()
            .any(|part| condition.contains(part))
        && !condition.contains([';', '(', '—'])
}

fn returned(page: &Page, definition: &Definition) -> Option<Draft> {
    let first = definition.paragraphs.first()?;
    let kind = RETURNS_KIND.captures(first)?[1].to_owned();
    if !matches!(definition.kind.as_str(), "function" | "method") {
        return None;
    }
    let (answer, more): (&str, &[&str]) = match kind.as_str() {
        "dictionary" => ("dictionary", &["dict"]),
        "string" => ("string", &["str"]),
        "bytes object" => ("bytes", &["bytes object"]),
        other => (other, &[]),
    };
    let all = [
        "list",
        "tuple",
        "dictionary",
        "dict",
        "bytes",
        "string",
        "str",
        "iterator",
        "frozenset",
        "set",
        "generator",
        "int",
        "integer",
        "bool",
    ];
    let rivals = all.iter().filter(|r| **r != answer && !more.contains(r));
    let rivals = rivals.map(|r| (*r).to_owned()).collect();
    let question = format!(
        "What type of object does {} return: a list, a tuple, a string, or something else? \
         Answer with the type's name only.",
        shown(definition)
    );
    // The question must not name the answer unless it names rivals too; `Contains` then refuses all of them together.
    let evidence = first
        .split_whitespace()
        .take(6)
        .collect::<Vec<_>>()
        .join(" ");
    let rest = (
        Grader::Contains { rivals },
        gold(page, definition, &evidence),
    );
    let mut draft = draft("returns", page, question, answer, rest);
    draft
        .answers
        .extend(more.iter().map(|name| (*name).to_owned()));
    Some(draft)
}

fn mapped(page: &Page, definition: &Definition) -> Option<Draft> {
    let captures = MAPPED.captures(definition.paragraphs.first()?)?;
    let question = format!(
        "To which exception is the error code {} mapped? Answer with the exception's name only.",
        shown(definition)
    );
    let evidence = captures[1].to_owned();
    let rest = (Grader::Exception, gold(page, definition, &evidence));
    Some(draft("mapped", page, question, &captures[2], rest))
}

/// From what a function does to its name: the first sentence, when no other function of the page begins alike.
fn described(page: &Page) -> Vec<Draft> {
    let Some(module) = &page.module else {
        return Vec::new();
    };
    let functions: Vec<&Definition> = page
        .definitions
        .iter()
        .filter(|d| d.kind == "function" && d.name.starts_with(&format!("{}.", module.name)))
        .collect();
    let last = |d: &Definition| d.name.rsplit('.').next().unwrap_or_default().to_owned();
    let mut drafts = Vec::new();
    for function in functions.iter().filter(|d| is_askable(d)) {
        let name = last(function);
        let Some(first) = function
            .paragraphs
            .first()
            .and_then(|p| sentences(p).into_iter().next())
        else {
            continue;
        };
        let words = first.split_whitespace().count();
        let lower = first.to_lowercase();
        let parts: Vec<&str> = name.split('_').filter(|part| part.len() > 3).collect();
        let told = lower.contains(&name.to_lowercase())
            || parts
                .iter()
                .any(|part| lower.contains(&part.to_lowercase()))
            || name.len() < 4;
        let alone = functions.iter().filter(|d| {
            d.paragraphs
                .first()
                .is_some_and(|p| p.chars().take(24).eq(first.chars().take(24)))
        });
        let clear = !["same as", "see ", "this ", "like "]
            .iter()
            .any(|s| lower.starts_with(s))
            && !lower.contains("this function");
        if told || !clear || !(5..=22).contains(&words) || alone.count() != 1 || first.contains('`')
        {
            continue;
        }
        let question = format!(
            "Which function of Python's `{}` module is documented with the words \"{}\"? \
             Answer with the function's name only.",
            module.name,
            first.trim_end_matches(['.', ':'])
        );
        let rivals: Vec<String> = functions
            .iter()
            .map(|d| last(d))
            .filter(|r| *r != name && r.len() > 3 && !lower.contains(&r.to_lowercase()))
            .take(12)
            .collect();
        let evidence = first.trim_end_matches(['.', ':']);
        let rest = (Grader::Contains { rivals }, gold(page, function, evidence));
        let mut draft = draft("described", page, question, &name, rest);
        draft.answers.push(function.name.clone());
        drafts.push(draft);
    }
    drafts
}

fn module_facts(page: &Page) -> Vec<Draft> {
    let Some(module) = &page.module else {
        return Vec::new();
    };
    let place = |evidence: &str| Gold {
        uri: format!("{}#module-{}", page.path, module.name),
        evidence: vec![evidence.to_owned()],
    };
    let mut drafts = Vec::new();
    let synopsis = &module.synopsis;
    let stem: String = module
        .name
        .chars()
        .take(4)
        .collect::<String>()
        .to_lowercase();
    if !synopsis.to_lowercase().contains(&stem) && synopsis.split_whitespace().count() >= 3 {
        let question = format!(
            "Which module of Python's standard library is titled \"{synopsis}\" in its documentation? \
             Answer with the module's name only."
        );
        let rest = (Grader::Contains { rivals: Vec::new() }, place(synopsis));
        drafts.push(draft("module", page, question, &module.name, rest));
    }
    if let Some(version) = module.added.as_deref().filter(|v| v.starts_with("3.")) {
        let question = format!(
            "In which Python version was the module `{}` added to the standard library? \
             Answer with the version number only.",
            module.name
        );
        let evidence = format!("New in version {version}");
        drafts.push(draft(
            "added",
            page,
            question,
            version,
            (Grader::Version, place(&evidence)),
        ));
    }
    drafts
}
