//! Graders: how right an answer is, from 0 to 1, and the quality on the router's scale, 1 + 4 x score.
//!
//! A grader is strict about what a guess can do cheaply: naming the right answer among others, denying it, or repeating
//! the question earns nothing. It is lenient about what does not matter: quotes, back-ticks, a whole sentence
//! around the answer, a final full stop. Graders are pure; the text comparisons they share are in [`crate::text`].

use crate::questions::Question;
use crate::text;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// How an answer is judged against the accepted ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Grader {
    /// The whole answer equals an accepted one; quotes, case and a final full stop aside.
    Exact,
    /// As `Exact`, but case counts.
    ExactCase,
    /// Overlap of words with the best accepted answer (F1 as in `SQuAD`, without articles).
    F1,
    /// An accepted answer stands in the answer as words of its own, is not denied, and no rival stands beside it.
    Contains {
        /// Wrong answers of the same kind.
        rivals: Vec<String>,
    },
    /// The answer names exactly one number beyond those of the question: the accepted one.
    Number,
    /// The answer names exactly one version (`3.11`) beyond those of the question: the accepted one.
    Version,
    /// The answer names exactly one exception class beyond those of the question: the accepted one.
    Exception,
    /// A Python literal: a number, one of `None`, `True` and `False`, or a string.
    Literal,
    /// The whole answer matches this regular expression, surrounding white space aside.
    Regex {
        /// Anchored at both ends by the grader.
        pattern: String,
    },
    /// The answer is JSON (in a code fence or not) and equals the accepted text as a value.
    Json,
    /// The answer has this many words, one of them given.
    WordCount {
        /// How many.
        words: usize,
        /// One of these must be among them.
        about: Vec<String>,
    },
}

/// How right `answer` is, from 0 to 1.
pub fn grade(question: &Question, answer: &str) -> f64 {
    // A model that repeats the question before it answers is judged by what it adds.
    let added = answer.replace(&question.question, "");
    let answer = added.trim();
    if answer.is_empty() {
        return 0.0;
    }
    let right = match &question.grader {
        Grader::F1 => return best_f1(&question.answers, answer),
        Grader::Exact => {
            let given = text::bare(answer).to_lowercase();
            question
                .answers
                .iter()
                .any(|gold| text::bare(gold).to_lowercase() == given)
        }
        Grader::ExactCase => {
            let given = text::bare(answer);
            question
                .answers
                .iter()
                .any(|gold| text::bare(gold) == given)
        }
        Grader::Contains { rivals } => contains(&question.answers, rivals, answer),
        Grader::Number => one_of_a_kind(question, answer, text::numbers),
        Grader::Version => one_of_a_kind(question, answer, text::versions),
        Grader::Exception => one_of_a_kind(question, answer, text::exceptions),
        Grader::Literal => literal(question, answer),
        Grader::Regex { pattern } => regex::Regex::new(&format!("^(?:{pattern})$"))
            .is_ok_and(|pattern| pattern.is_match(text::bare(answer))),
        Grader::Json => json(&question.answers, answer),
        Grader::WordCount { words, about } => {
            let given = text::words(answer);
            given.len() == *words && given.iter().any(|word| about.contains(word))
        }
    };
    f64::from(u8::from(right))
}

/// Quality on the router's scale of 1 to 5.
pub fn quality(score: f64) -> f64 {
    1.0 + 4.0 * score.clamp(0.0, 1.0)
}

/// Word overlap of `answer` and `gold` from 0 to 1; articles, case and punctuation aside.
pub fn f1(gold: &str, answer: &str) -> f64 {
    let (gold, given) = (text::content(gold), text::content(answer));
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in &gold {
        *counts.entry(word).or_default() += 1;
    }
    let mut shared = 0.0;
    for word in &given {
        if let Some(count) = counts.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1.0;
        }
    }
    if shared == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (shared / given.len() as f64, shared / gold.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

/// Word overlap with the best accepted answer; what reports call F1 whatever the grader.
pub fn best_f1(answers: &[String], answer: &str) -> f64 {
    answers
        .iter()
        .map(|gold| f1(gold, answer))
        .fold(0.0, f64::max)
}

/// Whether the whole answer equals an accepted one; what reports call EM whatever the grader.
pub fn exact(question: &Question, answer: &str) -> bool {
    let given = text::content(answer);
    question
        .answers
        .iter()
        .any(|gold| text::content(gold) == given)
}

fn contains(accepted: &[String], rivals: &[String], answer: &str) -> bool {
    let affirmed = |phrase: &String| text::affirmed(answer, phrase);
    accepted.iter().any(affirmed) && !rivals.iter().any(affirmed)
}

/// Right when, beyond what the question itself names, the answer names one thing of the kind and it is accepted.
///
/// Of a computation that is written out (`4 + 100 = 104`) only the result counts.
fn one_of_a_kind(question: &Question, answer: &str, kind: fn(&str) -> Vec<String>) -> bool {
    let answer = answer.rsplit_once('=').map_or(answer, |(_, result)| result);
    let accepted: Vec<String> = question
        .answers
        .iter()
        .flat_map(|gold| kind(gold))
        .collect();
    let asked = kind(&question.question);
    let named = kind(answer);
    let right = |name: &String| accepted.contains(name);
    named.iter().any(right)
        && named.iter().all(|name| right(name) || asked.contains(name))
        && accepted
            .iter()
            .any(|gold| named.contains(gold) && !text::denied(answer, gold))
}

fn literal(question: &Question, answer: &str) -> bool {
    const CONSTANTS: [&str; 3] = ["None", "True", "False"];
    let Some(gold) = question.answers.first() else {
        return false;
    };
    if CONSTANTS.contains(&gold.as_str()) {
        let rivals: Vec<String> = CONSTANTS
            .iter()
            .filter(|name| *name != gold)
            .map(|name| (*name).to_owned())
            .collect();
        return contains(&question.answers, &rivals, answer);
    }
    if gold.parse::<f64>().is_ok() {
        return one_of_a_kind(question, answer, text::numbers);
    }
    let quoted = text::quoted(answer);
    let bare = text::bare(gold);
    let rival = quoted
        .iter()
        .any(|part| text::bare(part) != bare && !question.question.contains(part.as_str()));
    !rival
        && (quoted.iter().any(|part| part == bare)
            || text::bare(answer) == bare
            || (bare.chars().any(char::is_alphanumeric) && text::affirmed(answer, bare)))
}

fn json(accepted: &[String], answer: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    let Some(given) = parse(text::unfenced(answer)) else {
        return false;
    };
    accepted
        .iter()
        .any(|gold| parse(gold).is_some_and(|gold| gold == given))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::questions::{Scenario, Split};

    fn question(question: &str, answers: &[&str], grader: Grader) -> Question {
        Question {
            id: "t".into(),
            source: "t".into(),
            scenario: Scenario::Simple,
            split: Split::Test,
            question: question.into(),
            answers: answers.iter().map(|a| (*a).to_owned()).collect(),
            grader,
            without: None,
            gold: Vec::new(),
        }
    }

    fn scores(question: &Question, right: &[&str], wrong: &[&str]) {
        for answer in right {
            assert_eq!(grade(question, answer), 1.0, "`{answer}` is right");
        }
        for answer in wrong {
            assert_eq!(grade(question, answer), 0.0, "`{answer}` is wrong");
        }
    }

    #[test]
    fn version_is_right_in_a_sentence_and_wrong_among_others_or_denied() {
        let q = question("When was `f()` added?", &["3.10"], Grader::Version);
        scores(
            &q,
            &[
                "3.10",
                "Python 3.10.",
                "It was added in version 3.10",
                "3.10.0",
                "`3.10`",
            ],
            &[
                "3.1",
                "3.11",
                "3.100",
                "3.9, 3.10 or 3.11",
                "not 3.10",
                "310",
                "3 . 10",
            ],
        );
    }

    #[test]
    fn number_is_right_with_the_numbers_of_the_question_and_the_result_of_a_sum() {
        let q = question("What is 17 + 26?", &["43"], Grader::Number);
        scores(
            &q,
            &["43", "17 + 26 = 43", "The answer is 43.", "43.0"],
            &[
                "42",
                "42 or 43",
                "43 or 44",
                "-43",
                "143",
                "It is not 43",
                "17 + 26 = 44",
            ],
        );
        let words = question("How many words?", &["8"], Grader::Number);
        scores(
            &words,
            &["Eight", "There are eight words."],
            &["seven", "seven or eight"],
        );
    }

    #[test]
    fn contained_name_needs_word_boundaries_no_rival_and_no_denial() {
        let grader = Grader::Contains {
            rivals: vec!["list".into(), "os.path".into()],
        };
        let q = question("Which one?", &["os", "tuple"], grader);
        scores(
            &q,
            &[
                "os",
                "`os`",
                "The module os.",
                "It returns a tuple.",
                "not a string but a tuple",
            ],
            &[
                "os.path",
                "osx",
                "list",
                "a list or a tuple",
                "It is not a tuple.",
                "isn't tuple",
                "tuple, list",
                "namedtuple",
                "tuple_of",
            ],
        );
    }

    #[test]
    fn exception_is_judged_by_the_classes_named() {
        let q = question("What does it raise?", &["KeyError"], Grader::Exception);
        scores(
            &q,
            &[
                "KeyError",
                "`KeyError`",
                "It raises a KeyError exception.",
                "builtins.KeyError",
            ],
            &[
                "ValueError",
                "KeyError or ValueError",
                "LookupError",
                "It does not raise KeyError",
                "keyerror-like",
                "MyKeyError",
            ],
        );
    }

    #[test]
    fn literal_is_judged_by_its_kind() {
        let none = question("Default of `x`?", &["None"], Grader::Literal);
        scores(
            &none,
            &["None", "none", "It is `None`."],
            &["True", "None or True", "null", "0"],
        );
        let number = question("Default of `x`?", &["-1"], Grader::Literal);
        scores(
            &number,
            &["-1", "x = -1", "The default is -1."],
            &["1", "-1 or 0", "-10"],
        );
        let string = question("Default of `errors`?", &["'strict'"], Grader::Literal);
        scores(
            &string,
            &["'strict'", "\"strict\"", "strict", "`errors` is 'strict'"],
            &[
                "'ignore'",
                "'strict' or 'ignore'",
                "'strictly'",
                "unrestricted",
            ],
        );
    }

    #[test]
    fn whole_answers_are_compared_as_a_whole() {
        let exact = question("Repeat", &["marble"], Grader::Exact);
        scores(
            &exact,
            &["marble", "Marble.", "\"marble\""],
            &["marble marble", "a marble"],
        );
        let case = question("Upper", &["MARBLE"], Grader::ExactCase);
        scores(&case, &["MARBLE", "MARBLE."], &["marble", "Marble"]);
        let regex = question(
            "Sort",
            &["2, 5"],
            Grader::Regex {
                pattern: r"2,\s*5".into(),
            },
        );
        scores(
            &regex,
            &["2, 5", "2,5", "2, 5."],
            &["5, 2", "2, 5, 9", "1, 2, 5"],
        );
        let words = Grader::WordCount {
            words: 3,
            about: vec!["river".into()],
        };
        let words = question("Three", &["the quiet river"], words);
        scores(
            &words,
            &["The river flows."],
            &["river", "a river is wide", "snow falls softly"],
        );
    }

    #[test]
    fn json_is_compared_as_a_value_with_or_without_a_fence() {
        let q = question("JSON", &[r#"{"name": "Ada", "age": 20}"#], Grader::Json);
        scores(
            &q,
            &[
                "{\"age\":20,\"name\":\"Ada\"}",
                "```json\n{\"name\": \"Ada\", \"age\": 20}\n```",
            ],
            &[
                "{\"name\": \"Ada\"}",
                "{\"name\": \"Ada\", \"age\": \"20\"}",
                "Ada, 20",
                "{",
            ],
        );
    }

    #[test]
    fn f1_counts_shared_words_once() {
        assert_eq!(f1("the module shutil", "shutil module"), 1.0);
        assert!((f1("copy a file", "file file file file") - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(f1("copy", ""), 0.0);
    }

    #[test]
    fn quality_spans_one_to_five() {
        assert_eq!(
            (quality(0.0), quality(0.5), quality(1.0), quality(9.0)),
            (1.0, 3.0, 5.0, 5.0)
        );
    }

    #[test]
    fn any_text_is_graded_without_a_panic() {
        let hostile = [
            "",
            "ß",
            "```",
            "``` ```",
            "''",
            "'\"'`",
            "=",
            "3.",
            ".3",
            "é=ü",
            "\u{0}",
            "日本語のテキスト",
            "1e999",
            "--",
            "not",
            "{\"a\":",
            "\u{202e}3.11",
        ];
        for q in crate::questions::read(None).unwrap() {
            for answer in hostile {
                let score = grade(&q, answer);
                assert!((0.0..=1.0).contains(&score), "{}: {answer}", q.id);
            }
        }
    }
}
