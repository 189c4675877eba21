//! What can be measured of a question's text without a model.
//!
//! Word lists are English, as the benchmark's questions are; for other languages they read as
//! zero and the script shares say so. One pass over characters, one over words.

use super::{FLAG, Row, SHARE};

pub(super) const ROWS: &[Row] = &[
    ("chars", "ln(1 + characters)", 0.0, 16.0, 0.0, false),
    ("words", "ln(1 + words)", 0.0, 14.0, 0.0, false),
    ("word_length", "characters", 0.0, 32.0, 0.0, false),
    ("sentences", "ln(1 + sentences)", 0.0, 10.0, 0.0, false),
    ("question_marks", "ln(1 + count)", 0.0, 6.0, 0.0, false),
    ("digits", SHARE, 0.0, 1.0, 0.0, false),
    ("numbers", "ln(1 + numbers)", 0.0, 8.0, 0.0, false),
    ("operators", SHARE, 0.0, 1.0, 0.0, false),
    ("code_signs", SHARE, 0.0, 1.0, 0.0, false),
    ("identifiers", "ln(1 + words)", 0.0, 8.0, 0.0, false),
    ("code_block", FLAG, 0.0, 1.0, 0.0, false),
    ("entities", "ln(1 + words)", 0.0, 8.0, 0.0, false),
    ("acronyms", "ln(1 + words)", 0.0, 8.0, 0.0, false),
    ("quotes", "ln(1 + count)", 0.0, 6.0, 0.0, false),
    ("non_ascii", SHARE, 0.0, 1.0, 0.0, false),
    ("cjk", SHARE, 0.0, 1.0, 0.0, false),
    ("relations", "ln(1 + words)", 0.0, 6.0, 0.0, false),
    ("asks_what", FLAG, 0.0, 1.0, 0.0, false),
    ("asks_who", FLAG, 0.0, 1.0, 0.0, false),
    ("asks_when", FLAG, 0.0, 1.0, 0.0, false),
    ("asks_where", FLAG, 0.0, 1.0, 0.0, false),
    ("asks_why", FLAG, 0.0, 1.0, 0.0, false),
    ("asks_how", FLAG, 0.0, 1.0, 0.0, false),
    ("asks_which", FLAG, 0.0, 1.0, 0.0, false),
    ("asks_yes_no", FLAG, 0.0, 1.0, 0.0, false),
    ("instructs", FLAG, 0.0, 1.0, 0.0, false),
    ("compares", FLAG, 0.0, 1.0, 0.0, false),
    ("calculates", FLAG, 0.0, 1.0, 0.0, false),
    ("negates", FLAG, 0.0, 1.0, 0.0, false),
    ("wants_list", FLAG, 0.0, 1.0, 0.0, false),
    ("wants_code", FLAG, 0.0, 1.0, 0.0, false),
    ("wants_structure", FLAG, 0.0, 1.0, 0.0, false),
    ("wants_short", FLAG, 0.0, 1.0, 0.0, false),
    ("wants_long", FLAG, 0.0, 1.0, 0.0, false),
];

/// Longer texts are measured on this many bytes at their start, so that a decision stays cheap.
const MEASURED_BYTES: usize = 16 * 1024;

const AUXILIARIES: &[&str] = &[
    "is", "are", "was", "were", "do", "does", "did", "can", "could", "will", "would", "has",
    "have", "had", "should", "may",
];
const INSTRUCTIONS: &[&str] = &[
    "explain",
    "describe",
    "list",
    "write",
    "give",
    "summarize",
    "summarise",
    "translate",
    "rewrite",
    "show",
    "name",
    "tell",
    "create",
    "generate",
    "implement",
    "fix",
    "find",
    "classify",
    "extract",
    "outline",
];
const RELATIONS: &[&str] = &[
    "of", "whose", "which", "that", "by", "from", "between", "whom", "where", "after", "before",
];
const COMPARISONS: &[&str] = &[
    "compare",
    "compared",
    "difference",
    "differences",
    "differ",
    "versus",
    "vs",
    "better",
    "worse",
    "than",
    "same",
    "similar",
    "older",
    "earlier",
    "later",
    "first",
];
const CALCULATIONS: &[&str] = &[
    "calculate",
    "compute",
    "solve",
    "sum",
    "total",
    "many",
    "much",
    "percent",
    "average",
    "prove",
    "minus",
    "plus",
    "times",
    "divided",
];
const NEGATIONS: &[&str] = &[
    "not", "no", "never", "without", "except", "cannot", "neither", "nor",
];
const LISTS: &[&str] = &[
    "list",
    "bullet",
    "bullets",
    "enumerate",
    "steps",
    "examples",
];
const CODES: &[&str] = &[
    "code", "function", "script", "program", "snippet", "regex", "sql", "python", "class",
];
const STRUCTURES: &[&str] = &["json", "yaml", "xml", "csv", "table", "markdown"];
const SHORTS: &[&str] = &[
    "briefly",
    "brief",
    "short",
    "shortly",
    "concise",
    "concisely",
    "only",
    "word",
    "sentence",
];
const LONGS: &[&str] = &[
    "detail",
    "detailed",
    "details",
    "essay",
    "thorough",
    "thoroughly",
    "long",
    "comprehensive",
];

/// Counts over the characters and words of a text.
#[derive(Debug, Default)]
pub(super) struct Measures {
    chars: u32,
    digits: u32,
    operators: u32,
    code_signs: u32,
    non_ascii: u32,
    cjk: u32,
    quotes: u32,
    question_marks: u32,
    sentences: u32,
    code_block: bool,
    words: u32,
    word_chars: u32,
    numbers: u32,
    identifiers: u32,
    entities: u32,
    acronyms: u32,
    relations: u32,
    first: String,
    cues: Cues,
}

/// Whether a word of a list occurs, in the order of the `asks_` and `wants_` rows.
#[derive(Debug, Default)]
struct Cues {
    what: bool,
    who: bool,
    when: bool,
    place: bool,
    why: bool,
    how: bool,
    which: bool,
    compares: bool,
    calculates: bool,
    negates: bool,
    list: bool,
    code: bool,
    structure: bool,
    short: bool,
    long: bool,
}

impl Measures {
    pub(super) fn of(text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(MEASURED_BYTES)];
        let mut measures = Self {
            code_block: text.contains("```"),
            ..Self::default()
        };
        text.chars().for_each(|char| measures.read_char(char));
        let mut starts_sentence = true;
        for token in text.split_whitespace() {
            let word = token.trim_matches(|char: char| !char.is_alphanumeric());
            measures.read_word(token, word, starts_sentence);
            starts_sentence = token.ends_with(['.', '!', '?', ':']);
        }
        measures
    }

    fn read_char(&mut self, char: char) {
        self.chars += 1;
        self.digits += u32::from(char.is_ascii_digit());
        self.operators += u32::from("+-*/=<>^%".contains(char));
        self.code_signs += u32::from("{}[]();_=`\\|&#@$".contains(char));
        self.non_ascii += u32::from(!char.is_ascii());
        self.cjk +=
            u32::from(matches!(char as u32, 0x3040..=0x30FF | 0x3400..=0x9FFF | 0xAC00..=0xD7AF));
        self.quotes += u32::from("\"“”«»".contains(char));
        self.question_marks += u32::from("?？".contains(char));
        self.sentences += u32::from(".!?。！？".contains(char));
    }

    fn read_word(&mut self, token: &str, word: &str, starts_sentence: bool) {
        if word.is_empty() {
            return;
        }
        self.words += 1;
        let length = word.chars().count();
        self.word_chars = self
            .word_chars
            .saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        self.numbers += u32::from(word.starts_with(|char: char| char.is_ascii_digit()));
        self.identifiers += u32::from(is_identifier(token, word));
        let capital = word.starts_with(char::is_uppercase);
        let acronym = length > 1 && word.chars().all(char::is_uppercase);
        self.acronyms += u32::from(acronym);
        self.entities += u32::from(capital && !starts_sentence && word != "I");
        let lower = word.to_lowercase();
        let lower = lower.strip_suffix("'s").unwrap_or(&lower);
        self.relations += u32::from(word.ends_with("'s") || RELATIONS.contains(&lower));
        self.cues.read(lower);
        if self.words == 1 {
            self.first = lower.to_owned();
        }
    }

    /// One value per row of [`ROWS`], in order.
    pub(super) fn values(&self) -> [f32; 34] {
        let share = |count: u32| count as f32 / self.chars.max(1) as f32;
        let count = |count: u32| (count as f32).ln_1p();
        let flag = |set: bool| f32::from(u8::from(set));
        let first = self.first.as_str();
        let cues = &self.cues;
        [
            count(self.chars),
            count(self.words),
            self.word_chars as f32 / self.words.max(1) as f32,
            count(self.sentences),
            count(self.question_marks),
            share(self.digits),
            count(self.numbers),
            share(self.operators),
            share(self.code_signs),
            count(self.identifiers),
            flag(self.code_block),
            count(self.entities),
            count(self.acronyms),
            count(self.quotes),
            share(self.non_ascii),
            share(self.cjk),
            count(self.relations),
            flag(cues.what),
            flag(cues.who),
            flag(cues.when),
            flag(cues.place),
            flag(cues.why),
            flag(cues.how),
            flag(cues.which),
            flag(AUXILIARIES.contains(&first)),
            flag(INSTRUCTIONS.contains(&first)),
            flag(cues.compares),
            flag(cues.calculates),
            flag(cues.negates),
            flag(cues.list),
            flag(cues.code),
            flag(cues.structure),
            flag(cues.short),
            flag(cues.long),
        ]
    }
}

impl Cues {
    fn read(&mut self, lower: &str) {
        match lower {
            "what" => self.what = true,
            "who" | "whom" | "whose" => self.who = true,
            "when" => self.when = true,
            "where" => self.place = true,
            "why" => self.why = true,
            "how" => self.how = true,
            "which" => self.which = true,
            _ => {}
        }
        self.compares |= COMPARISONS.contains(&lower);
        self.calculates |= CALCULATIONS.contains(&lower);
        self.negates |= NEGATIONS.contains(&lower);
        self.list |= LISTS.contains(&lower);
        self.code |= CODES.contains(&lower);
        self.structure |= STRUCTURES.contains(&lower);
        self.short |= SHORTS.contains(&lower);
        self.long |= LONGS.contains(&lower);
    }
}

/// `snake_case`, `camelCase`, `path.to.name` or `call()`.
fn is_identifier(token: &str, word: &str) -> bool {
    let camel = word
        .chars()
        .zip(word.chars().skip(1))
        .any(|(a, b)| a.is_lowercase() && b.is_uppercase());
    let dotted = word
        .split('.')
        .filter(|part| part.chars().any(char::is_alphabetic))
        .count()
        > 1;
    camel || dotted || word.contains('_') || token.contains("()")
}
