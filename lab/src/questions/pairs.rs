//! Questions that need two sections: which came first, and what two defaults sum to.
//!
//! Both facts come from pages of the same split, so the caller passes the pages of one split at a time.

use super::page::{Definition, Page};
use super::templates::{Draft, gold, shown};
use super::{Gold, Scenario};
use crate::grade::Grader;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

type Fact<'a> = (&'a Page, &'a Definition);

/// Up to `many` questions about which of two objects came to Python first.
pub(super) fn earlier(pages: &[&Page], many: usize, rng: &mut ChaCha8Rng) -> Vec<Draft> {
    let mut facts: Vec<(Fact<'_>, u32)> = Vec::new();
    for (page, definition) in definitions(pages) {
        let minor = definition
            .added
            .as_deref()
            .and_then(|v| v.strip_prefix("3.")?.parse().ok());
        if let Some(minor) = minor.filter(|minor| *minor > 1) {
            facts.push(((page, definition), minor));
        }
    }
    facts.shuffle(rng);
    let mut drafts = Vec::new();
    while let (Some(one), true) = (facts.pop(), drafts.len() < many) {
        let partner = facts
            .iter()
            .position(|other| other.0.0.path != one.0.0.path && other.1.abs_diff(one.1) >= 2);
        if let Some(index) = partner {
            let other = facts.swap_remove(index);
            drafts.push(earlier_of(&one, &other));
        }
    }
    drafts
}

fn earlier_of(one: &(Fact<'_>, u32), other: &(Fact<'_>, u32)) -> Draft {
    let (first, second) = if one.1 < other.1 {
        (one, other)
    } else {
        (other, one)
    };
    let names = |fact: Fact<'_>| {
        let last = fact
            .1
            .name
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_owned();
        vec![fact.1.name.clone(), last]
    };
    Draft {
        template: "earlier",
        source: one.0.0.path.clone(),
        scenario: Scenario::Heavy,
        question: format!(
            "Which was added to Python in an earlier version, {} or {}? Answer with the name only.",
            shown(one.0.1),
            shown(other.0.1)
        ),
        answers: names(first.0),
        grader: Grader::Contains {
            rivals: names(second.0),
        },
        without: None,
        gold: [one, other]
            .map(|(fact, minor)| version_gold(*fact, *minor))
            .to_vec(),
    }
}

fn version_gold(fact: Fact<'_>, minor: u32) -> Gold {
    gold(fact.0, fact.1, &format!("New in version 3.{minor}"))
}

/// Up to `many` questions about the sum of two numeric defaults.
pub(super) fn sums(pages: &[&Page], many: usize, rng: &mut ChaCha8Rng) -> Vec<Draft> {
    let mut facts: Vec<(Fact<'_>, &str, i64)> = Vec::new();
    for (page, definition) in definitions(pages) {
        let number = definition.parameters.iter().find_map(|parameter| {
            let value: i64 = parameter.default.as_deref()?.parse().ok()?;
            (value > 1 && value < 2000).then_some((parameter.name.as_str(), value))
        });
        if let Some((parameter, value)) = number {
            facts.push(((page, definition), parameter, value));
        }
    }
    facts.shuffle(rng);
    let mut drafts = Vec::new();
    while let (Some(one), true) = (facts.pop(), drafts.len() < many) {
        let partner = facts
            .iter()
            .position(|o| o.0.0.path != one.0.0.path && o.2 != one.2);
        if let Some(index) = partner {
            let other = facts.swap_remove(index);
            drafts.push(sum_of(&one, &other));
        }
    }
    drafts
}

fn sum_of(one: &(Fact<'_>, &str, i64), other: &(Fact<'_>, &str, i64)) -> Draft {
    let place = |(fact, parameter, value): &(Fact<'_>, &str, i64)| {
        gold(fact.0, fact.1, &format!("{parameter}={value}"))
    };
    Draft {
        template: "sum",
        source: one.0.0.path.clone(),
        scenario: Scenario::Heavy,
        question: format!(
            "What is the sum of the default value of `{}` in {} and the default value of `{}` in {}? \
             Answer with a number only.",
            one.1,
            shown(one.0.1),
            other.1,
            shown(other.0.1)
        ),
        answers: vec![(one.2 + other.2).to_string()],
        grader: Grader::Number,
        without: None,
        gold: vec![place(one), place(other)],
    }
}

fn definitions<'a>(pages: &[&'a Page]) -> impl Iterator<Item = Fact<'a>> {
    let pages = pages.to_vec();
    pages
        .into_iter()
        .flat_map(|page| page.definitions.iter().map(move |d| (page, d)))
        .filter(|(_, d)| {
            matches!(d.kind.as_str(), "function" | "method" | "class") && !d.name.contains("._")
        })
}
