//! Text comparisons that the graders share: words, numbers, versions, quoted parts, affirmation and denial.
//!
//! Everything here is pure and total: any string in, no panic out. Nothing here knows about questions.

/// Words that turn what follows into its opposite.
const DENIALS: [&str; 14] = [
    "not", "never", "isn't", "wasn't", "aren't", "doesn't", "don't", "didn't", "won't", "cannot",
    "can't", "without", "neither", "nor",
];
const ARTICLES: [&str; 3] = ["a", "an", "the"];
/// How many words a denial reaches.
const DENIAL_REACH: usize = 3;
const NUMERALS: [&str; 13] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
];

/// `text` without surrounding white space, quotes, back-ticks, emphasis and a final full stop.
pub(crate) fn bare(text: &str) -> &str {
    let mut rest = text.trim();
    loop {
        let shorter = rest
            .strip_suffix('.')
            .unwrap_or(rest)
            .trim_matches(|c: char| c.is_whitespace() || "\"'`*“”‘’".contains(c));
        if shorter == rest {
            return rest;
        }
        rest = shorter;
    }
}

/// Runs of letters, digits and apostrophes, lower-cased.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '’'))
        .map(|word| {
            word.trim_matches(['\'', '’'])
                .replace('’', "'")
                .to_lowercase()
        })
        .filter(|word| !word.is_empty())
        .collect()
}

/// [`words`] without articles.
pub(crate) fn content(text: &str) -> Vec<String> {
    let mut words = words(text);
    words.retain(|word| !ARTICLES.contains(&word.as_str()));
    words
}

/// Numbers in canonical form and order of appearance: those in digits, or, when there are none, English numerals up
/// to twelve (`one` is often no number beside one in digits).
pub(crate) fn numbers(text: &str) -> Vec<String> {
    let (mut digits, mut numerals) = (Vec::new(), Vec::new());
    for token in text.split(|c: char| c.is_whitespace() || "()[]{}=+*/;:\"'`<>".contains(c)) {
        let token = token
            .trim_matches(|c: char| ",.!?".contains(c))
            .replace([',', '_'], "");
        if let Some(value) = NUMERALS
            .iter()
            .position(|name| *name == token.to_lowercase())
        {
            numerals.push(value.to_string());
        } else if token.chars().any(|c| c.is_ascii_digit())
            && let Ok(value) = token.parse::<f64>()
        {
            digits.push(value.to_string());
        }
    }
    if digits.is_empty() { numerals } else { digits }
}

/// Versions such as `3.11`; a patch of zero is dropped.
pub(crate) fn versions(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .map(|token| token.trim_matches('.'))
        .filter(|token| token.contains('.'))
        .map(|token| match token.strip_suffix(".0") {
            Some(short) if short.contains('.') => short.to_owned(),
            _ => token.to_owned(),
        })
        .collect()
}

/// Names of exception classes, without their module.
pub(crate) fn exceptions(text: &str) -> Vec<String> {
    const ENDINGS: [&str; 8] = [
        "Error",
        "Exception",
        "Warning",
        "Interrupt",
        "Exit",
        "Iteration",
        "Failed",
        "Expired",
    ];
    identifiers(text)
        .filter_map(|path| path.rsplit('.').next())
        .filter(|name| name.len() > 5 || *name == "Error" || *name == "error")
        .filter(|name| {
            *name == "error"
                || name.starts_with(|c: char| c.is_ascii_uppercase())
                    && ENDINGS.iter().any(|ending| name.ends_with(ending))
        })
        .map(str::to_owned)
        .collect()
}

/// Dotted names.
fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
        .map(|token| token.trim_matches('.'))
        .filter(|token| !token.is_empty())
}

/// Parts in single quotes, double quotes or back-ticks, innermost quotes removed.
pub(crate) fn quoted(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for mark in ['"', '\'', '`'] {
        let mut pieces = text.split(mark);
        pieces.next();
        while let (Some(inside), Some(_)) = (pieces.next(), pieces.next()) {
            let plain = inside.trim_matches(['"', '\'', '`']);
            if !plain.is_empty() && !parts.iter().any(|part| part == plain) {
                parts.push(plain.to_owned());
            }
        }
    }
    parts
}

/// The inside of a Markdown code fence, or the whole text when there is none.
pub(crate) fn unfenced(text: &str) -> &str {
    let Some(start) = text.find("```") else {
        return text.trim();
    };
    let inside = &text[start + 3..];
    let inside = inside.split_once('\n').map_or(inside, |(_, rest)| rest);
    inside.split("```").next().unwrap_or(inside).trim()
}

/// Whether `phrase` stands in `text` as words of its own and is not denied there.
pub(crate) fn affirmed(text: &str, phrase: &str) -> bool {
    occurrences(text, phrase).any(|at| !denied_before(&text[..at]))
}

/// Whether `phrase` stands in `text` and every time it does it is denied.
pub(crate) fn denied(text: &str, phrase: &str) -> bool {
    let mut found = occurrences(text, phrase).peekable();
    found.peek().is_some() && found.all(|at| denied_before(&text[..at]))
}

/// Byte offsets at which `phrase` stands in `text` bounded by what cannot belong to a longer name or number.
fn occurrences<'a>(text: &'a str, phrase: &'a str) -> impl Iterator<Item = usize> + 'a {
    let width = phrase.len();
    text.char_indices().map(|(at, _)| at).filter(move |&at| {
        let Some(found) = text.get(at..at + width) else {
            return false;
        };
        width > 0
            && found.eq_ignore_ascii_case(phrase)
            && !joins_before(&text[..at], phrase)
            && !joins_after(&text[at + width..], phrase)
    })
}

fn joins_before(before: &str, phrase: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    if !phrase.starts_with(part_of_word) {
        return false;
    }
    let mut back = before.chars().rev();
    match back.next() {
        Some('.' | '-') => back.next().is_some_and(part_of_word),
        Some(c) => part_of_word(c),
        None => false,
    }
}

fn joins_after(after: &str, phrase: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    if !phrase.ends_with(part_of_word) {
        return false;
    }
    let mut ahead = after.chars();
    match ahead.next() {
        Some('.' | '-') => ahead.next().is_some_and(part_of_word),
        Some(c) => part_of_word(c),
        None => false,
    }
}

/// Whether one of the last words of the sentence so far is a denial.
fn denied_before(before: &str) -> bool {
    let ends = |c: char| ";!?:\n,".contains(c);
    let sentence = before.rsplit(ends).next().unwrap_or(before);
    let sentence = sentence.rsplit(". ").next().unwrap_or(sentence);
    words(sentence)
        .iter()
        .rev()
        .take(DENIAL_REACH)
        .any(|word| DENIALS.contains(&word.as_str()) || word == "no")
}
