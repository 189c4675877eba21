//! set.mm of Metamath: theorems, and what their proofs use.
//!
//! Reads the first statements of the database: a record is a statement with its description, its links are what its
//! proof uses. A question is a theorem's description and formula; the theorem is hidden, and gold is what its proof uses
//! that few other proofs do.

use super::{Held, Record, Set, drawn};
use std::collections::HashMap;

/// Statements read, of some 40,000.
const STATEMENTS_MAX: usize = 1500;
/// Questions drawn.
const QUESTIONS: usize = 200;
/// Most statements that a question has as gold.
const GOLD_MAX: usize = 4;
/// What a greater share of the proofs uses is a tool of logic and no answer.
const COMMON: f64 = 0.005;

/// A statement that asserts something.
#[derive(Debug, PartialEq)]
struct Statement<'t> {
    label: &'t str,
    description: String,
    formula: String,
    uses: Vec<&'t str>,
}

pub(super) fn set(text: &str, seed: u64) -> Set {
    let statements = statements(text);
    let by_label: HashMap<&str, usize> = (statements.iter().enumerate())
        .map(|(at, statement)| (statement.label, at))
        .collect();
    let mut used = vec![0_usize; statements.len()];
    let mut set = Set::default();
    for statement in &statements {
        let uses = statement.uses.iter();
        let links: Vec<usize> = uses
            .filter_map(|label| by_label.get(label).copied())
            .collect();
        links.iter().for_each(|at| used[*at] += 1);
        set.records.push(Record {
            title: statement.label.to_owned(),
            text: format!("{}\n\n{}", statement.description, statement.formula),
            links,
        });
    }
    let common = (COMMON * statements.len() as f64).ceil() as usize;
    for (at, (record, statement)) in set.records.iter().zip(&statements).enumerate() {
        let links = record.links.iter().copied();
        let gold: Vec<usize> = links.filter(|link| used[*link] <= common).collect();
        if (1..=GOLD_MAX).contains(&gold.len()) {
            let described = statement.description.split_whitespace();
            let described: Vec<&str> = described
                .filter(|word| !by_label.contains_key(word.trim_end_matches(['.', ',', ';'])))
                .collect();
            set.questions.push(Held {
                question: format!("{} {}", described.join(" "), statement.formula),
                gold,
                hidden: vec![at],
            });
        }
    }
    set.questions = drawn(set.questions, QUESTIONS, seed);
    set
}

/// The first assertions of a database.
fn statements(text: &str) -> Vec<Statement<'_>> {
    let mut statements = Vec::new();
    let mut words = text.split_whitespace();
    let (mut description, mut label) = (String::new(), "");
    while let Some(word) = words.next() {
        match word {
            "$(" => {
                let comment: Vec<&str> = words.by_ref().take_while(|word| *word != "$)").collect();
                description = described(&comment);
            }
            "$p" | "$a" => {
                let until = |word: &&str| !["$=", "$."].contains(word);
                let formula: Vec<&str> = words.by_ref().take_while(until).collect();
                let mut uses = Vec::new();
                if word == "$p" {
                    let proof: Vec<&str> =
                        words.by_ref().take_while(|word| *word != "$.").collect();
                    let inside = proof.iter().skip(1).take_while(|word| **word != ")");
                    uses.extend(inside.copied());
                }
                if formula.first() == Some(&"|-") {
                    statements.push(Statement {
                        label,
                        description: std::mem::take(&mut description),
                        formula: formula[1..].join(" "),
                        uses,
                    });
                }
            }
            _ => label = word,
        }
        if statements.len() == STATEMENTS_MAX {
            break;
        }
    }
    statements
}

/// A comment without its mark-up and without who wrote it.
fn described(comment: &[&str]) -> String {
    let words = comment.iter().filter(|word| !["~", "`"].contains(*word));
    let words: Vec<&str> = words.copied().collect();
    let text = words.join(" ");
    let by = ["(Contributed by", "(Revised by", "(Proof shortened by"];
    let end = by.iter().filter_map(|by| text.find(by)).min();
    text[..end.unwrap_or(text.len())].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
        $( Syntax. $) wi $a wff ( ph -> ps ) $.
        $( Identity. See ~ mp2 . (Contributed by NM, 1-Jan-1993.) $) id $p |- ( ph -> ph ) $= ( wi ) AB $.
        $( Used by all. $) mp2 $a |- ps $.
        ${ h $e |- ph $. $( Weaker than ~ id in ` ph ` . $) weak $p |- ch $= ( wi id mp2 ) ABC $. $}";

    #[test]
    fn a_theorem_asks_for_what_its_proof_uses() {
        let statements = statements(TEXT);
        assert_eq!(statements.len(), 3);
        assert_eq!(
            (statements[0].label, statements[0].formula.as_str()),
            ("id", "( ph -> ph )")
        );
        let set = set(TEXT, 1);
        assert_eq!(set.records[2].links, [0, 1]);
        assert_eq!(set.records[0].text, "Identity. See mp2 .\n\n( ph -> ph )");
        let [asked] = set.questions.as_slice() else {
            panic!("{:?}", set.questions);
        };
        assert_eq!(asked.question, "Weaker than in ph . ch");
        assert_eq!((&asked.gold, &asked.hidden), (&vec![0, 1], &vec![2]));
    }
}
