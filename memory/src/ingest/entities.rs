//! Entities: what two passages both name, without a passage of its own that they could mention.
//!
//! Finds names of people, places and works (capitals, quotation marks), full dates and identifiers of code by their looks
//! alone. Passages that share rare ones are joined. Lists and degrees are bounded, so that the work grows with the text
//! and not with its square. Pure.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::tokens::{Tokens, is_identifier};

/// Passages that may share a name; one that more of them have is no news.
const PASSAGES_MAX: usize = 16;

/// Names looked at in one passage.
const NAMES_OF_PASSAGE_MAX: usize = 48;

/// Joins at one passage.
const DEGREE_MAX: u8 = 8;

/// Words of one name.
const NAME_WORDS_MAX: usize = 8;

/// Fewest letters of a name of one word.
const WORD_CHARS_MIN: usize = 4;

/// Small words inside names.
const CONNECTORS: &[&str] = &[
    "of", "the", "de", "la", "le", "du", "des", "del", "della", "di", "da", "dos", "van", "von",
    "der", "den", "bin", "ibn", "al", "el", "y", "zu", "af",
];

/// Words that a sentence may begin with and no name does.
const OPENERS: &[&str] = &[
    "a", "about", "above", "after", "all", "also", "although", "among", "an", "and", "any", "are",
    "as", "at", "be", "because", "before", "both", "but", "by", "can", "did", "do", "does",
    "during", "each", "for", "from", "had", "has", "have", "he", "her", "here", "his", "how",
    "however", "i", "if", "in", "into", "is", "it", "its", "many", "most", "no", "not", "note",
    "of", "on", "one", "only", "or", "other", "our", "see", "several", "she", "since", "so",
    "some", "such", "than", "that", "the", "their", "then", "there", "these", "they", "this",
    "those", "though", "through", "to", "two", "under", "until", "use", "was", "we", "were",
    "what", "when", "where", "whether", "which", "while", "who", "whose", "why", "with", "you",
    "your",
];

/// Months, which are a date with a day and a year and nothing without them.
const MONTHS: &[&str] = &[
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Which names stand where.
#[derive(Debug, Default)]
pub(super) struct Entities {
    found: Vec<Occurrence>,
}

/// One name in one passage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Occurrence {
    /// Digest of the name in small letters.
    name: u64,
    passage: u32,
    /// The byte of the text at which it begins.
    at: usize,
}

/// Two passages that name the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shared {
    pub(super) source: u32,
    pub(super) target: u32,
    /// Sum of how rare the shared names are, each 0 to 1.
    pub(super) weight: f32,
    /// The byte of the source's text at which the rarest of them stands.
    pub(super) at: usize,
}

impl Entities {
    /// Takes the names of a passage that are not `known` as the title of one.
    pub(super) fn add(&mut self, tokens: &Tokens<'_>, passage: u32, known: &dyn Fn(&str) -> bool) {
        let mut seen = HashSet::new();
        for (from, count) in names(tokens) {
            let phrase = tokens.phrase(from, count);
            if seen.len() == NAMES_OF_PASSAGE_MAX || known(phrase) {
                continue;
            }
            let mut hasher = DefaultHasher::new();
            phrase.hash(&mut hasher);
            let name = hasher.finish();
            if seen.insert(name) {
                let at = tokens.range(from).start;
                self.found.push(Occurrence { name, passage, at });
            }
        }
    }

    /// The pairs of passages that share rare names, by source; `passages` is how many there are. Each keeps the strongest.
    pub(super) fn shared(mut self, passages: usize) -> Vec<Shared> {
        self.found.sort_unstable();
        let rare = |list: &&[Occurrence]| (2..=PASSAGES_MAX).contains(&list.len());
        let lists: Vec<&[Occurrence]> = self
            .found
            .chunk_by(|a, b| a.name == b.name)
            .filter(rare)
            .collect();
        let mut of_passage: Vec<(u32, usize, usize)> = Vec::new();
        for (list, occurrences) in lists.iter().enumerate() {
            of_passage.extend(occurrences.iter().map(|of| (of.passage, list, of.at)));
        }
        of_passage.sort_unstable();
        let mut joins = Joins::default();
        for own in of_passage.chunk_by(|a, b| a.0 == b.0) {
            let source = own[0].0;
            let mut others: HashMap<u32, Shared> = HashMap::new();
            let mut rarest: HashMap<u32, f32> = HashMap::new();
            for (_, list, at) in own {
                let rarity = rarity(lists[*list].len(), passages);
                for other in lists[*list].iter().filter(|of| of.passage != source) {
                    let target = other.passage;
                    let shared = others.entry(target).or_insert(Shared {
                        source,
                        target,
                        weight: 0.0,
                        at: *at,
                    });
                    shared.weight += rarity;
                    let before = rarest.entry(target).or_default();
                    if rarity > *before {
                        *before = rarity;
                        shared.at = *at;
                    }
                }
            }
            let mut others: Vec<Shared> = others.into_values().collect();
            others.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.target.cmp(&b.target)));
            others.into_iter().for_each(|shared| joins.add(shared));
        }
        joins.kept
    }
}

/// Joins with how many each passage has.
#[derive(Default)]
struct Joins {
    degrees: HashMap<u32, u8>,
    pairs: HashSet<(u32, u32)>,
    kept: Vec<Shared>,
}

impl Joins {
    /// Keeps a join unless it is there or one of its ends has enough.
    fn add(&mut self, shared: Shared) {
        let (a, b) = (shared.source, shared.target);
        let degree = |of| self.degrees.get(&of).copied().unwrap_or(0);
        if degree(a) < DEGREE_MAX
            && degree(b) < DEGREE_MAX
            && self.pairs.insert((a.min(b), a.max(b)))
        {
            for end in [a, b] {
                *self.degrees.entry(end).or_default() += 1;
            }
            self.kept.push(shared);
        }
    }
}

/// Inverse document frequency, from 0 to 1 for a name that only one passage has.
fn rarity(having: usize, passages: usize) -> f32 {
    let (having, passages) = (having as f32, passages.max(having) as f32);
    (passages / having).ln_1p() / passages.ln_1p()
}

/// The names in a text: first word and number of words.
fn names(tokens: &Tokens<'_>) -> Vec<(usize, usize)> {
    let mut names = quoted(tokens);
    let mut at = 0;
    while at < tokens.len() {
        let end = run_end(tokens, at);
        if end == at {
            if is_identifier(tokens.word(at)) {
                names.push((at, 1));
            }
            at += 1;
            continue;
        }
        let from = (at..end)
            .find(|from| begins_name(tokens, *from) && !OPENERS.contains(&tokens.phrase(*from, 1)));
        if let Some(from) = from {
            of_run(tokens, from, end, &mut names);
        }
        at = end;
    }
    names
}

/// Where the run of capitals, numbers and what joins them ends that begins at `from`; `from` when none begins there.
fn run_end(tokens: &Tokens<'_>, from: usize) -> usize {
    let number_first = is_number(tokens, from);
    let next_is_capital =
        from + 1 < tokens.len() && tokens.gap(from + 1) == " " && tokens.is_capital(from + 1);
    if !(tokens.is_capital(from) || number_first && next_is_capital) {
        return from;
    }
    let (mut at, mut end) = (from + 1, from + 1);
    while at < tokens.len() && at - from < NAME_WORDS_MAX && is_joined(tokens, at) {
        if tokens.is_capital(at) || is_number(tokens, at) {
            end = at + 1;
        } else if is_number(tokens, at - 1) || !CONNECTORS.contains(&tokens.word(at)) {
            break;
        }
        at += 1;
    }
    end
}

/// Whether a word may go on the name that the one before it is part of.
fn is_joined(tokens: &Tokens<'_>, at: usize) -> bool {
    match tokens.gap(at) {
        " " | "-" | "–" | "'" | "’" => true,
        // After an initial.
        ". " => !tokens.is_first(at),
        // November 11, 1875
        ", " => is_number(tokens, at) && is_number(tokens, at - 1) && tokens.word(at - 1).len() < 3,
        _ => false,
    }
}

/// The name from `from` to `end`, and that without its first word where this may be none of it.
fn of_run(tokens: &Tokens<'_>, from: usize, end: usize, names: &mut Vec<(usize, usize)>) {
    let count = end - from;
    let months = (from..end).filter(|at| MONTHS.contains(&tokens.phrase(*at, 1)));
    let numbers = (from..end).filter(|at| is_number(tokens, *at)).count();
    let words = count - months.count() - numbers;
    match (count, words) {
        // A day, a month and a year are one day; less is none.
        (_, 0) => {
            if count == 3 && numbers == 2 {
                names.push((from, count));
            }
        }
        (1, _) => {
            let word = tokens.word(from);
            let plain = !tokens.is_first(from) && word.chars().nth(WORD_CHARS_MIN - 1).is_some();
            if plain || is_acronym(word) || is_identifier(word) {
                names.push((from, 1));
            }
        }
        _ => {
            names.push((from, count));
            if count > 2 && (tokens.is_first(from) || is_number(tokens, from)) {
                names.push((from + 1, count - 1));
            }
        }
    }
}

fn begins_name(tokens: &Tokens<'_>, at: usize) -> bool {
    tokens.is_capital(at) || is_number(tokens, at)
}

fn is_number(tokens: &Tokens<'_>, at: usize) -> bool {
    tokens.word(at).starts_with(|c: char| c.is_ascii_digit())
}

fn is_acronym(word: &str) -> bool {
    word.len() >= 3 && word.chars().all(|c| c.is_uppercase() || c.is_ascii_digit())
}

/// What stands in quotation marks on one line and begins as a title does.
fn quoted(tokens: &Tokens<'_>) -> Vec<(usize, usize)> {
    let mut titles = Vec::new();
    let mut open: Option<usize> = None;
    for at in 0..=tokens.len() {
        let mut gap = Cow::Borrowed(tokens.gap(at));
        if gap.contains("``") || gap.contains("''") {
            gap = Cow::Owned(gap.replace("``", "“").replace("''", "”"));
        }
        for mark in gap.chars() {
            let ends = open.filter(|_| matches!(mark, '"' | '”' | '»'));
            if let Some(from) = ends {
                let count = at - from;
                if (1..=NAME_WORDS_MAX).contains(&count) && begins_name(tokens, from) {
                    titles.push((from, count));
                }
                open = None;
            } else if matches!(mark, '"' | '“' | '„' | '«') {
                open = Some(at);
            } else if mark == '\n' {
                open = None;
            }
        }
    }
    titles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let tokens = Tokens::of(text);
        let mut names: Vec<String> = (names(&tokens).into_iter())
            .map(|(from, count)| tokens.phrase(from, count).to_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    #[test]
    fn names_dates_titles_and_identifiers_are_found_by_their_looks() {
        let text = "In 931 Hugh of Tuscany met J. R. Smith (born 11 November 875). She wrote \"The far side\" for NASA.";
        assert_eq!(
            found(text),
            [
                "11 november 875",
                "931 hugh of tuscany",
                "hugh of tuscany",
                "j r smith",
                "nasa",
                "the far side"
            ]
        );
        assert_eq!(
            found("Call os.path.join or lru_cache; the ThreadPool waits."),
            ["lru_cache", "os.path.join", "threadpool"]
        );
        assert_eq!(
            found("On May 4, 1998 the 1998 World Cup began."),
            ["1998 world cup", "may 4 1998", "world cup"]
        );
    }

    #[test]
    fn the_first_word_of_a_sentence_and_a_year_alone_are_no_names() {
        assert_eq!(
            found("Whales sing. They sang in May 1998. After 1999 nobody did."),
            [""; 0]
        );
        assert_eq!(
            found("The Beatles came to Liverpool."),
            ["beatles", "liverpool"]
        );
    }

    fn joined(texts: &[&str]) -> Vec<(u32, u32)> {
        let mut entities = Entities::default();
        for (passage, text) in texts.iter().enumerate() {
            entities.add(&Tokens::of(text), passage as u32, &|known| known == "hugh");
        }
        let shared = entities.shared(texts.len()).into_iter();
        shared
            .map(|shared| (shared.source, shared.target))
            .collect()
    }

    #[test]
    fn passages_that_share_a_rare_name_are_joined_once() {
        let texts = [
            "He met Boso Elder.",
            "She fled Boso Elder.",
            "They saw Hugh.",
            "We saw Hugh.",
        ];
        assert_eq!(joined(&texts), [(0, 1)]);
        let common = vec!["He met Boso Elder."; PASSAGES_MAX + 1];
        assert_eq!(joined(&common), []);
    }

    #[test]
    fn the_rarest_name_weighs_most_and_is_the_evidence() {
        let texts = [
            "On Lake Victoria he met Boso Elder.",
            "By Lake Victoria.",
            "By Lake Victoria he met Boso Elder.",
        ];
        let mut entities = Entities::default();
        for (passage, text) in texts.iter().enumerate() {
            entities.add(&Tokens::of(text), passage as u32, &|_| false);
        }
        let shared = entities.shared(100);
        assert_eq!((shared[0].source, shared[0].target), (0, 2));
        assert_eq!(shared[0].at, texts[0].find("Boso").expect("it is there"));
        assert!(shared[0].weight > shared[1].weight && shared[1].weight > 0.0);
    }

    #[test]
    fn no_passage_has_too_many_joins() {
        let names = |at: usize| format!("He met Boso A{} and Hugo A{}.", at / 16, at % 16);
        let texts: Vec<String> = (0..256).map(names).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut degrees = HashMap::new();
        for (a, b) in joined(&texts) {
            for end in [a, b] {
                *degrees.entry(end).or_insert(0) += 1;
            }
        }
        assert_eq!(degrees.values().max(), Some(&DEGREE_MAX));
    }
}
