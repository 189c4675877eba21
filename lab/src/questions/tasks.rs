//! Small instructions that need no recall and that a program can verify: repeat, upper case, count, sum, JSON.
//!
//! They are what the smallest model of a ladder can do. Words and numbers are never shared between two tasks of a kind,
//! so that a test task was not seen in training.

use super::Scenario;
use super::templates::Draft;
use crate::grade::Grader;

const WORDS: [&str; 36] = [
    "marble", "lantern", "willow", "copper", "harbour", "meadow", "violin", "pepper", "glacier",
    "saddle", "orchid", "timber", "canyon", "feather", "basket", "comet", "thunder", "velvet",
    "anchor", "bridge", "candle", "desert", "engine", "falcon", "garden", "hammer", "island",
    "jacket", "kettle", "ladder", "mirror", "needle", "oyster", "pillow", "quarry", "ribbon",
];
const SENTENCES: [&str; 6] = [
    "Rain fell all night.",
    "The old boat drifts past the quiet mill.",
    "Birds sing before dawn.",
    "She reads.",
    "Snow covers the narrow road to town.",
    "Two dogs run along the river bank.",
];
const NAMES: [&str; 6] = ["Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald"];
const SUBJECTS: [&str; 6] = ["river", "winter", "music", "bread", "forest", "moon"];

/// All tasks, in a fixed order.
pub(super) fn drafts() -> Vec<Draft> {
    let mut drafts = Vec::new();
    for (index, chunk) in WORDS.chunks(6).take(6).enumerate() {
        drafts.push(repeat(chunk[0]));
        drafts.push(upper(chunk[1]));
        drafts.push(initial(chunk[2]));
        drafts.push(longer(chunk[3], index));
        drafts.push(add(12 + 7 * index, 5 + 4 * index));
        drafts.push(count_words(SENTENCES[index]));
        drafts.push(json(NAMES[index], 20 + 3 * index));
        drafts.push(sorted([9 + index, 2 + index, 5 + index]));
        drafts.push(one_word(SUBJECTS[index]));
    }
    drafts
}

fn task(template: &'static str, question: String, answer: &str, grader: Grader) -> Draft {
    Draft {
        template,
        source: format!("task/{template}"),
        scenario: Scenario::Simple,
        question,
        answers: vec![answer.to_owned()],
        grader,
        without: None,
        gold: Vec::new(),
    }
}

fn repeat(word: &str) -> Draft {
    let question = format!("Repeat this word exactly and write nothing else: {word}");
    task("repeat", question, word, Grader::Exact)
}

fn upper(word: &str) -> Draft {
    let question =
        format!("Write the word {word} in upper case letters. Answer with the word only.");
    task("upper", question, &word.to_uppercase(), Grader::ExactCase)
}

fn initial(word: &str) -> Draft {
    let question =
        format!("What is the first letter of the word {word}? Answer with the letter only.");
    task("initial", question, &word[..1], Grader::Exact)
}

fn longer(word: &str, index: usize) -> Draft {
    let (low, high) = (31 + 5 * index, 40 + 9 * index);
    let question = format!("Which number is larger, {low} or {high}? Answer with the number only.");
    let mut draft = task("larger", question, &high.to_string(), Grader::Exact);
    // Every second task asks for a word instead, so that the kind is not only about numbers.
    if index % 2 == 1 {
        draft.question = format!("Which word is longer, cat or {word}? Answer with the word only.");
        draft.answers = vec![word.to_owned()];
    }
    draft
}

fn add(a: usize, b: usize) -> Draft {
    let question = format!("What is {a} + {b}? Answer with the number only.");
    task("add", question, &(a + b).to_string(), Grader::Number)
}

fn count_words(sentence: &str) -> Draft {
    let question = format!(
        "How many words does this sentence have: \"{sentence}\" Answer with a number only."
    );
    task(
        "count",
        question,
        &sentence.split(' ').count().to_string(),
        Grader::Number,
    )
}

fn json(name: &str, age: usize) -> Draft {
    let question = format!(
        "Write a JSON object with the key \"name\" set to \"{name}\" and the key \"age\" set to the \
         number {age}. Answer with the JSON only."
    );
    task(
        "json",
        question,
        &format!("{{\"name\": \"{name}\", \"age\": {age}}}"),
        Grader::Json,
    )
}

fn sorted(numbers: [usize; 3]) -> Draft {
    let [a, b, c] = numbers;
    let question = format!(
        "Write the numbers {a}, {b}, {c} in ascending order, separated by commas. \
         Answer with the numbers only."
    );
    let answer = format!("{b}, {c}, {a}");
    let pattern = format!(r"\[?{b},\s*{c},\s*{a}\]?");
    task("sort", question, &answer, Grader::Regex { pattern })
}

fn one_word(subject: &str) -> Draft {
    let question = format!(
        "Write exactly three words, one of which is {subject}. Answer with the three words only."
    );
    let grader = Grader::WordCount {
        words: 3,
        about: vec![subject.to_owned()],
    };
    task(
        "three-words",
        question,
        &format!("the quiet {subject}"),
        grader,
    )
}
