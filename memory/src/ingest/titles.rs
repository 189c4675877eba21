//! Titles: which passages a text names.
//!
//! A title is named where its words stand in a text, in its own capitals when it has capitals inside. One word is a name
//! only where the texts of the run write it as one: `Brother` is no mention while most of them say `brother`. What tells
//! titles of one name apart, as in `Dune (film)` or `Paris, Texas`, is looked for beside the name. Pure.

use std::collections::{HashMap, HashSet};

use super::tokens::{Tokens, is_identifier};

/// A title that more passages name than this is a common phrase and says nothing.
const MENTIONS_MAX: usize = 40;

/// Mentions kept for one passage.
const MENTIONS_OF_PASSAGE_MAX: usize = 16;

/// Words of a title that can be named.
const TITLE_WORDS_MAX: usize = 12;

/// Passages that one name may mean.
const MEANINGS_MAX: usize = 4;

/// How many words away from a name the words may stand that say which of its titles is meant.
const QUALIFIER_WORDS: usize = 12;

/// Articles, whose capitals depend on the sentence.
const ARTICLES: &[&str] = &["the", "a", "an"];

/// Titles that can be named, by their words.
#[derive(Debug, Default)]
pub(super) struct Titles {
    by_phrase: HashMap<String, usize>,
    names: Vec<Name>,
    /// Numbers of words that titles with this first word have, one bit each.
    lengths: HashMap<String, u16>,
}

/// One run of words that titles consist of.
#[derive(Debug, Default)]
struct Name {
    meanings: Vec<Meaning>,
    /// How often the texts write a single word in small letters.
    small: usize,
    /// How often with a capital that grammar does not ask for.
    capital: usize,
}

/// A passage that a name may mean.
#[derive(Debug)]
struct Meaning {
    passage: u32,
    /// Words that need their capital, one bit each.
    capitals: u16,
    /// A single word that is no identifier, which is only named as it is written.
    exact: Option<Box<str>>,
    /// Words that tell it from others of the same name, in small letters.
    qualifier: Vec<String>,
    /// Whether it is one of many records, which may have one title by right; a heading that occurs twice names nothing.
    record: bool,
}

/// Some words of a text.
#[derive(Clone, Copy)]
struct Run<'a> {
    tokens: &'a Tokens<'a>,
    at: usize,
    count: usize,
}

/// A place where a passage names the title of another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mention {
    pub(super) source: u32,
    pub(super) target: u32,
    /// 1 shared by what the name may mean.
    pub(super) weight: f32,
    /// The byte of the source's text at which the name begins.
    pub(super) at: usize,
    /// How many words it has.
    pub(super) words: usize,
    /// The single word that has to be a name for this to be a mention.
    word: Option<usize>,
}

impl Titles {
    /// Adds the heading of a passage, and the name in it when it says more than the name.
    pub(super) fn add(&mut self, heading: &str, passage: u32, record: bool) {
        self.put(heading, passage, record, Vec::new());
        if let Some((name, qualifier)) = qualified(heading) {
            self.put(name, passage, record, qualifier);
        }
    }

    fn put(&mut self, title: &str, passage: u32, record: bool, qualifier: Vec<String>) {
        let tokens = Tokens::of(title);
        let count = tokens.len();
        if !(1..=TITLE_WORDS_MAX).contains(&count) || (count == 1 && !is_name(tokens.word(0))) {
            return;
        }
        let word = tokens.word(0);
        let exact = (count == 1 && !word.contains(['.', '_'])).then(|| word.into());
        *self
            .lengths
            .entry(tokens.phrase(0, 1).to_owned())
            .or_default() |= 1 << count;
        let next = self.names.len();
        let phrase = tokens.phrase(0, count).to_owned();
        let number = *self.by_phrase.entry(phrase).or_insert(next);
        if number == next {
            self.names.push(Name::default());
        }
        let meanings = &mut self.names[number].meanings;
        // One more than a name may have says that it has too many.
        if meanings.len() <= MEANINGS_MAX && meanings.iter().all(|of| of.passage != passage) {
            meanings.push(Meaning {
                passage,
                capitals: needed_capitals(&tokens),
                exact,
                qualifier,
                record,
            });
        }
    }

    /// Whether these words in small letters are a title.
    pub(super) fn knows(&self, phrase: &str) -> bool {
        self.by_phrase.contains_key(phrase)
    }

    /// The titles that the passage `source` names, in the order of its text.
    pub(super) fn find(&mut self, tokens: &Tokens<'_>, source: u32, found: &mut Vec<Mention>) {
        let mut at = 0;
        while at < tokens.len() {
            let lengths = self.lengths.get(tokens.phrase(at, 1)).copied().unwrap_or(0);
            let mut counts = (1..=TITLE_WORDS_MAX.min(tokens.len() - at)).rev();
            let longest = counts.find(|count| {
                let count = *count;
                lengths & (1 << count) != 0 && self.named(Run { tokens, at, count }, source, found)
            });
            at += longest.unwrap_or(1);
        }
    }

    /// Whether a title stands there; what it means is added to `found`.
    fn named(&mut self, run: Run<'_>, source: u32, found: &mut Vec<Mention>) -> bool {
        let Run { tokens, at, count } = run;
        let Some(number) = self.by_phrase.get(tokens.phrase(at, count)).copied() else {
            return false;
        };
        let name = &mut self.names[number];
        if count == 1 {
            name.small += usize::from(!tokens.is_capital(at));
            name.capital += usize::from(tokens.is_capital(at) && !tokens.is_first(at));
        }
        let fitting: Vec<&Meaning> = (name.meanings.iter())
            .filter(|meaning| meaning.fits(run))
            .collect();
        let meant = meant(&fitting, run);
        for meaning in meant.iter().filter(|meaning| meaning.passage != source) {
            let sure = meaning.exact.is_none() || tokens.is_quoted(at);
            found.push(Mention {
                source,
                target: meaning.passage,
                weight: 1.0 / meant.len() as f32,
                at: tokens.range(at).start,
                words: count,
                word: (!sure).then_some(number),
            });
        }
        !fitting.is_empty()
    }

    /// The mentions that say something, by source: each title once, without words that are no names and without what
    /// everything mentions.
    pub(super) fn settle(&self, mut mentions: Vec<Mention>) -> Vec<Mention> {
        let mut seen = HashSet::new();
        let is_name = |number: usize| self.names[number].small <= self.names[number].capital;
        mentions.retain(|mention| {
            mention.word.is_none_or(is_name) && seen.insert((mention.source, mention.target))
        });
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for mention in &mentions {
            *counts.entry(mention.target).or_default() += 1;
        }
        mentions.retain(|mention| counts[&mention.target] <= MENTIONS_MAX);
        let mut kept: HashMap<u32, usize> = HashMap::new();
        mentions.retain(|mention| {
            let of_source = kept.entry(mention.source).or_default();
            *of_source += 1;
            *of_source <= MENTIONS_OF_PASSAGE_MAX
        });
        mentions
    }
}

impl Meaning {
    fn fits(&self, Run { tokens, at, count }: Run<'_>) -> bool {
        let exact = self.exact.as_deref();
        let mut places = 0..count;
        exact.is_none_or(|word| word == tokens.word(at))
            && places
                .all(|place| self.capitals & (1 << place) == 0 || tokens.is_capital(at + place))
    }

    /// Whether one of the words that tell it from others stands beside the name.
    fn is_qualified(&self, Run { tokens, at, count }: Run<'_>) -> bool {
        let before = at.saturating_sub(QUALIFIER_WORDS)..at;
        let after = at + count..tokens.len().min(at + count + QUALIFIER_WORDS);
        let mut beside = before.chain(after);
        beside.any(|place| {
            self.qualifier
                .iter()
                .any(|word| word == tokens.phrase(place, 1))
        })
    }
}

/// What a name means here: the titles whose qualifier stands beside it, else those that are the name alone, else all.
/// Nothing where that is too many.
fn meant<'m>(fitting: &[&'m Meaning], run: Run<'_>) -> Vec<&'m Meaning> {
    let those = |which: &dyn Fn(&Meaning) -> bool| -> Vec<&'m Meaning> {
        let which = fitting.iter().copied().filter(|meaning| which(meaning));
        which.collect()
    };
    let mut meant = those(&|meaning| meaning.is_qualified(run));
    if meant.is_empty() {
        meant = those(&|meaning| meaning.qualifier.is_empty());
    }
    if meant.is_empty() {
        meant = fitting.to_vec();
    }
    let alone = meant.len() == 1;
    let records = meant.iter().all(|meaning| meaning.record);
    if !alone && (!records || meant.len() > MEANINGS_MAX) {
        meant.clear();
    }
    meant
}

/// Whether one word can be a title that texts name: it begins with a capital or is a name in code.
fn is_name(word: &str) -> bool {
    let mut chars = word.chars();
    let first = chars.next();
    let capital = first.is_some_and(char::is_uppercase) && chars.next().is_some();
    let dotted = word.contains('.') && first.is_some_and(char::is_alphabetic);
    capital || dotted || is_identifier(word)
}

/// A title with a capital after its first word is a name and needs all its capitals; another is a phrase.
fn needed_capitals(tokens: &Tokens<'_>) -> u16 {
    let capital = |at: &usize| tokens.is_capital(*at) && !ARTICLES.contains(&tokens.phrase(*at, 1));
    if (1..tokens.len()).any(|at| capital(&at)) {
        (0..tokens.len()).filter(capital).map(|at| 1 << at).sum()
    } else {
        0
    }
}

/// The name in `Name (qualifier)` and `Name, Qualifier`, with the words of the qualifier in small letters.
fn qualified(title: &str) -> Option<(&str, Vec<String>)> {
    let (name, qualifier) = match title.trim_end().strip_suffix(')') {
        Some(open) => open.rsplit_once('(')?,
        None => {
            let (name, rest) = title.split_once(", ")?;
            let capital = |text: &str| text.starts_with(char::is_uppercase);
            Some((name, rest)).filter(|_| capital(name) && capital(rest))?
        }
    };
    let tokens = Tokens::of(qualifier);
    let words = (0..tokens.len()).map(|at| tokens.phrase(at, 1));
    let words: Vec<String> = words
        .filter(|word| word.len() > 2)
        .map(str::to_owned)
        .collect();
    (!words.is_empty()).then_some((name, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(titles: &[(&str, u32)], record: bool) -> Titles {
        let mut known = Titles::default();
        for (title, passage) in titles {
            known.add(title, *passage, record);
        }
        known
    }

    /// What a text of a passage that is none of the titles' mentions: passages with weights.
    fn mentioned(titles: &mut Titles, text: &str) -> Vec<(u32, f32)> {
        let mut found = Vec::new();
        titles.find(&Tokens::of(text), 99, &mut found);
        let settled = titles.settle(found).into_iter();
        settled
            .map(|mention| (mention.target, mention.weight))
            .collect()
    }

    #[test]
    fn the_longest_title_is_mentioned_and_ambiguous_headings_are_not() {
        let mut headings = titles(
            &[
                ("Context managers", 0),
                ("Context managers in classes", 1),
                ("functools.lru_cache", 2),
                ("See also", 0),
                ("See also", 3),
                ("Notes", 3),
            ],
            false,
        );
        let text = "See also context managers in classes, notes and functools.lru_cache().";
        assert_eq!(mentioned(&mut headings, text), [(1, 1.0), (2, 1.0)]);
    }

    #[test]
    fn one_word_is_a_title_only_where_the_texts_use_it_as_a_name() {
        let known = [("Teutberga", 0), ("Brother", 1)];
        let text = "In 855 Teutberga married. Her brother and his brother fled to Brother Island.";
        assert_eq!(mentioned(&mut titles(&known, true), text), [(0, 1.0)]);
        let quoted = "Her brother sang the song \"Brother\".";
        assert_eq!(mentioned(&mut titles(&known, true), quoted), [(1, 1.0)]);
        assert_eq!(mentioned(&mut titles(&known, true), "A teutberga."), []);
    }

    #[test]
    fn names_need_their_capitals_and_phrases_do_not() {
        let known = [
            ("In the City", 0),
            ("Data structures", 1),
            ("The Last Coupon", 2),
        ];
        let text = "He lives in the city, near Data Structures. He shot the Last Coupon.";
        assert_eq!(
            mentioned(&mut titles(&known, true), text),
            [(1, 1.0), (2, 1.0)]
        );
    }

    #[test]
    fn what_stands_beside_a_name_says_which_title_is_meant() {
        let known = [
            ("Dune (film)", 0),
            ("Dune (novel)", 1),
            ("Paris", 2),
            ("Paris, Texas", 3),
        ];
        let mut records = titles(&known, true);
        assert_eq!(
            mentioned(&mut records, "He directed the film Dune in 1984."),
            [(0, 1.0)]
        );
        assert_eq!(
            mentioned(&mut records, "He read Dune."),
            [(0, 0.5), (1, 0.5)]
        );
        assert_eq!(mentioned(&mut records, "He moved to Paris."), [(2, 1.0)]);
        assert_eq!(
            mentioned(&mut records, "A farm near Paris in Texas."),
            [(3, 1.0)]
        );
        assert_eq!(mentioned(&mut records, "He shot Paris, Texas."), [(3, 1.0)]);
    }

    #[test]
    fn records_may_share_a_title_and_too_many_of_them_name_nothing() {
        let known: Vec<(&str, u32)> = (0..4).map(|at| ("Lake Victoria", at)).collect();
        let text = "It flows from Lake Victoria.";
        assert_eq!(mentioned(&mut titles(&known, true), text).len(), 4);
        let known: Vec<(&str, u32)> = (0..5).map(|at| ("Lake Victoria", at)).collect();
        assert_eq!(mentioned(&mut titles(&known, true), text), []);
    }

    #[test]
    fn what_everything_mentions_is_dropped() {
        let mut known = titles(&[("Lake Victoria", 0), ("Lake Albert", 1)], true);
        let mut found = Vec::new();
        for source in 2..=MENTIONS_MAX as u32 + 2 {
            known.find(&Tokens::of("Lake Victoria."), source, &mut found);
        }
        known.find(&Tokens::of("Lake Albert."), 2, &mut found);
        let settled = known.settle(found);
        assert_eq!(
            settled
                .iter()
                .map(|of| (of.source, of.target))
                .collect::<Vec<_>>(),
            [(2, 1)]
        );
    }
}
