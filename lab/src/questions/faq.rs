//! FAQ headings as questions: the linked sections are gold, the answer's first sentence is the reference.
//!
//! The FAQ's own page must not be recalled for them, as it would answer itself: [`super::Question::without`] names it, and
//! the memory keeps its passages back, with the links from them to what is gold. Free text is graded by F1, so only short
//! first sentences are taken, and only a few.

use super::page::{FaqEntry, Page};
use super::templates::{Draft, sentences};
use super::{Gold, Scenario};
use crate::grade::Grader;
use std::collections::HashMap;

/// Drafts of one FAQ page; `modules` maps a page of the library to its module's title.
pub(super) fn drafts(page: &Page, modules: &HashMap<String, String>) -> Vec<Draft> {
    page.questions
        .iter()
        .filter_map(|entry| draft(entry, &page.path, modules))
        .collect()
}

fn draft(entry: &FaqEntry, page: &str, modules: &HashMap<String, String>) -> Option<Draft> {
    let key = sentences(&entry.paragraph).into_iter().next()?;
    let gold: Vec<Gold> = entry
        .links
        .iter()
        .filter_map(|link| gold(link, modules))
        .take(2)
        .collect();
    let words = key.split_whitespace().count();
    let first = gold.first()?.uri.split('#').next()?.to_owned();
    let same_page = gold.iter().all(|g| g.uri.starts_with(&first));
    let complete =
        key.ends_with('.') && !key.contains("example") && !entry.anchor.starts_with("id");
    if !(6..=28).contains(&words) || !same_page || !complete {
        return None;
    }
    Some(Draft {
        template: "faq",
        source: first,
        scenario: Scenario::Moderate,
        question: format!("{} Answer in one short sentence.", entry.heading),
        answers: vec![key],
        grader: Grader::F1,
        without: Some(page.to_owned()),
        gold,
    })
}

/// A link to a module or to a documented object; other sections have no text that identifies them.
fn gold(link: &str, modules: &HashMap<String, String>) -> Option<Gold> {
    let (page, anchor) = link.split_once('#')?;
    let evidence = if anchor.starts_with("module-") {
        modules.get(page)?.clone()
    } else {
        format!(
            "{}(",
            anchor.rsplit_once('.').map_or(anchor, |(_, last)| last)
        )
    };
    let is_object = anchor.contains('.') || page == "library/functions.html";
    (page.starts_with("library/") && (anchor.starts_with("module-") || is_object)).then(|| Gold {
        uri: link.to_owned(),
        evidence: vec![evidence],
    })
}
