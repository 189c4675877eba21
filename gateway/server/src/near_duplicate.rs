//! Step 5, where a plan wants it: whether two questions differ in nothing but how they are written.
//!
//! Two questions are near duplicates where their canonical forms are equal, byte for byte. The form leaves out a greeting, a
//! "please" and thanks that stand apart, the mark at the end where the first word says the same, and the case of such a word. Everything
//! that may carry meaning stays: every other word and its order, names, numbers, negations, case, and marks within. Nothing is
//! guessed by similarity: a negated sentence has a cosine of 0.99. Questions with code, quotes or more than one line have no form,
//! since there the marks may be what is asked about.
//!
//! The rules are of English; a question in another language keeps all but repeated blanks. Pure. Who uses it: `answer_cache.rs`.

/// First words of a question.
const INTERROGATIVES: [&str; 23] = [
    "what", "when", "where", "who", "whom", "whose", "which", "why", "how", "is", "are", "was",
    "were", "do", "does", "did", "has", "have", "had", "can", "could", "would", "should",
];
/// First words of a request.
const IMPERATIVES: [&str; 22] = [
    "explain",
    "describe",
    "list",
    "name",
    "give",
    "tell",
    "show",
    "write",
    "compare",
    "define",
    "find",
    "summarize",
    "summarise",
    "translate",
    "calculate",
    "compute",
    "convert",
    "sort",
    "create",
    "generate",
    "answer",
    "suggest",
];
/// What people begin with, followed by a mark.
const GREETINGS: [&str; 5] = ["hi", "hello", "hey", "good morning", "good evening"];
/// What people end with, after a mark.
const THANKS: [&str; 3] = ["please", "thanks", "thank you"];
/// Marks that stand in questions that are no code and quote nothing.
const MARKS: &str = "'’,.?!:;-()%/&+$€£°";

/// The form of a question that its near duplicates share; `None` for one that has none.
pub(crate) fn canonical(question: &str) -> Option<String> {
    let plain = |letter: char| letter.is_alphanumeric() || letter == ' ' || MARKS.contains(letter);
    if !question.chars().all(plain) {
        return None;
    }
    let words: Vec<&str> = question
        .split(' ')
        .filter(|word| !word.is_empty())
        .collect();
    let text = words.join(" ");
    let text = without_please(without_greeting(&text));
    let text = without_end(without_thanks(text));
    let (first, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
    (!text.is_empty()).then(|| small(first) + rest)
}

/// Whether the first word is one of these, whatever its case.
fn begins(text: &str, with: &[&str]) -> bool {
    let first = text.split(' ').next().unwrap_or_default();
    with.iter().any(|word| first.eq_ignore_ascii_case(word))
}

fn is_opening(text: &str) -> bool {
    begins(text, &INTERROGATIVES) || begins(text, &IMPERATIVES)
}

/// Cuts `start`, whatever its case, off the text.
fn cut<'t>(text: &'t str, start: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(rest)
}

/// Without a greeting before what is asked.
fn without_greeting(text: &str) -> &str {
    let after = |start: &&str| {
        let rest = cut(text, start)?.strip_prefix([',', '!', '.'])?;
        rest.strip_prefix(' ')
    };
    let mut found = GREETINGS.iter().filter_map(after);
    let found = found.find(|rest| is_opening(without_please(rest)));
    found.unwrap_or(text)
}

/// Without a "please" before a request, or before a question that a mark sets apart from it.
fn without_please(text: &str) -> &str {
    let after = || {
        let rest = cut(text, "please")?;
        let apart = rest.strip_prefix(", ").filter(|rest| is_opening(rest));
        let joined = rest.strip_prefix(' ');
        apart.or_else(|| joined.filter(|rest| begins(rest, &IMPERATIVES)))
    };
    after().unwrap_or(text)
}

/// Without thanks, or a "please", that a mark sets apart from what is asked.
fn without_thanks(text: &str) -> &str {
    let bare = text.strip_suffix(['.', '!']).unwrap_or(text);
    let before = |thanks: &&str| {
        let (asked, end) = bare.split_at_checked(bare.len().checked_sub(thanks.len())?)?;
        let asked = asked.strip_suffix(' ')?;
        let is_apart = match *thanks {
            "please" => asked.ends_with(','),
            _ => asked.ends_with(['.', '?']),
        };
        (is_apart && end.eq_ignore_ascii_case(thanks)).then(|| asked.trim_end_matches(','))
    };
    THANKS.iter().find_map(before).unwrap_or(text)
}

/// Without the mark at the end, where the first word says the same.
fn without_end(text: &str) -> &str {
    let bare = if begins(text, &INTERROGATIVES) {
        text.strip_suffix('?')
    } else if begins(text, &IMPERATIVES) {
        text.strip_suffix('.')
    } else {
        None
    };
    // A mark after a mark or a blank ends no sentence.
    let bare = bare.filter(|bare| bare.ends_with(char::is_alphanumeric));
    bare.unwrap_or(text)
}

/// A first word whose case says nothing, in small letters; another as it is. One in capitals says something.
fn small(first: &str) -> String {
    let word = first.to_ascii_lowercase();
    let is_usual = first.get(1..) == word.get(1..);
    if is_usual && is_opening(first) {
        word
    } else {
        first.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_left_out() {
        for (written, form) in [
            ("What is a heron?", "what is a heron"),
            ("what  is a heron", "what is a heron"),
            ("Hello, what is a heron?", "what is a heron"),
            ("Hi! Please explain herons.", "explain herons"),
            ("please, explain herons", "explain herons"),
            ("Explain herons, please.", "explain herons"),
            ("What is a heron? Thanks!", "what is a heron"),
            ("What is a heron? Thank you.", "what is a heron"),
        ] {
            assert_eq!(canonical(written).as_deref(), Some(form), "{written}");
        }
    }

    #[test]
    fn what_may_say_something_stays() {
        for written in [
            "Good morning, Vietnam is a film by whom",
            "Hello world in C",
            "Please is which part of speech",
            "Herons fish at dawn?",
            "Will Smith is how old?",
            "WHO is a part of what",
            "5! is how much?",
        ] {
            assert_eq!(canonical(written).as_deref(), Some(written));
        }
        for (one, other) in [
            ("What is 5!", "What is 5"),
            ("You are open?", "You are open."),
            ("What is the US?", "What is the us?"),
            ("Who is WHO?", "Who is who?"),
            ("How do you say thank you?", "How do you say?"),
            ("Explain the marks . and ?", "Explain the marks . and"),
            ("What is after C?", "What is after C.?"),
        ] {
            assert_ne!(canonical(one), canonical(other), "{one}");
        }
    }

    #[test]
    fn code_quotes_and_lines_have_no_form() {
        for written in [
            "What does `a?` do?",
            "What is \"please\"?",
            "Explain:\na = 1",
            "a\tb",
            "if (x < 1) { y() }",
            "",
            "   ",
        ] {
            assert_eq!(canonical(written), None, "{written}");
        }
    }

    #[test]
    fn a_word_of_another_alphabet_is_no_reason_to_end() {
        for written in ["\u{c9}tat de quoi?", "\u{5bf9} \u{5417}?", "\u{df}", "?"] {
            assert!(canonical(written).is_some(), "{written}");
        }
    }
}
