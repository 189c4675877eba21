//! Draws a balanced set from the documentation, the same one every time.
//!
//! Pages are assigned to a split first and questions are drawn within a split, so no page serves both. Quotas per
//! template, per page and per answer keep one easy fact (`None`, `3.3`) from filling the set.

use super::page::{Page, read_folder};
use super::templates::{self, Draft};
use super::{Question, Split, faq, pairs, tasks};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

/// Questions that were written by hand, without their split.
const HAND_WRITTEN: &str = include_str!("../../questions/hand-written.jsonl");
/// Template, questions for training, questions for the test.
const QUOTAS: [(&str, usize, usize); 10] = [
    ("default", 22, 12),
    ("added", 16, 9),
    ("new-parameter", 7, 4),
    ("parameter-version", 6, 3),
    ("raises", 16, 9),
    ("returns", 6, 3),
    ("mapped", 2, 2),
    ("described", 16, 9),
    ("module", 7, 4),
    ("faq", 6, 10),
];
const EARLIER: (usize, usize) = (10, 6);
const SUMS: (usize, usize) = (6, 4);
/// Of every eight pages, three are tested.
const TEST_PAGES_OF_EIGHT: usize = 3;
const PER_PAGE_AND_TEMPLATE: usize = 2;
const PER_PAGE: usize = 4;
const PER_ANSWER_AND_TEMPLATE: usize = 4;

/// What to generate from, and where to.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Root of the HTML documentation, for example `/usr/share/doc/python3.11/html`.
    pub docs: PathBuf,
    /// The JSON Lines file to write.
    pub out: PathBuf,
    /// Changes which questions are drawn.
    pub seed: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerateReport {
    /// Questions to learn from.
    pub train: usize,
    /// Questions to test with.
    pub test: usize,
    /// Pages read.
    pub pages: usize,
}

/// Why no questions were written.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A folder or page cannot be read.
    #[error(
        "cannot read the documentation below {path}: {source}; install the package python3.11-doc"
    )]
    Docs {
        /// The folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write the questions to {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Reads the documentation and writes the question set.
pub fn generate(options: &GenerateOptions) -> Result<GenerateReport, GenerateError> {
    let read = |folder: &str| {
        read_folder(&options.docs, folder).map_err(|source| GenerateError::Docs {
            path: options.docs.join(folder).display().to_string(),
            source,
        })
    };
    let (library, faq) = (read("library")?, read("faq")?);
    let questions = draw(&library, &faq, options.seed);
    let mut text = String::new();
    for question in &questions {
        text.push_str(&serde_json::to_string(question).expect("questions are plain data"));
        text.push('\n');
    }
    std::fs::write(&options.out, text).map_err(|source| GenerateError::Write {
        path: options.out.display().to_string(),
        source,
    })?;
    let test = questions.iter().filter(|q| q.split == Split::Test).count();
    let pages = library.len() + faq.len();
    Ok(GenerateReport {
        train: questions.len() - test,
        test,
        pages,
    })
}

fn draw(library: &[Page], faq: &[Page], seed: u64) -> Vec<Question> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let splits = split_pages(library, &mut rng);
    let modules: HashMap<String, String> = library
        .iter()
        .filter_map(|page| Some((page.path.clone(), page.module.as_ref()?.synopsis.clone())))
        .collect();
    let mut pool: Vec<Draft> = library.iter().flat_map(templates::drafts).collect();
    pool.extend(faq.iter().flat_map(|page| faq::drafts(page, &modules)));
    pool.shuffle(&mut rng);
    let mut questions = Vec::new();
    for split in [Split::Train, Split::Test] {
        let of = |quota: (usize, usize)| {
            if split == Split::Train {
                quota.0
            } else {
                quota.1
            }
        };
        let pages: Vec<&Page> = library
            .iter()
            .filter(|p| splits[&p.path] == split)
            .collect();
        let mut drafts = pick(&pool, &splits, split);
        drafts.extend(pairs::earlier(&pages, of(EARLIER), &mut rng));
        drafts.extend(pairs::sums(&pages, of(SUMS), &mut rng));
        questions.extend(numbered(drafts, split));
    }
    questions.extend(numbered_tasks());
    questions.extend(hand_written(&splits));
    questions.sort_by(|a, b| a.id.cmp(&b.id));
    questions
}

fn split_pages(library: &[Page], rng: &mut ChaCha8Rng) -> HashMap<String, Split> {
    let mut order: Vec<&Page> = library.iter().collect();
    order.shuffle(rng);
    let split = |index: usize| {
        if index % 8 < TEST_PAGES_OF_EIGHT {
            Split::Test
        } else {
            Split::Train
        }
    };
    order
        .iter()
        .enumerate()
        .map(|(index, page)| (page.path.clone(), split(index)))
        .collect()
}

/// Takes drafts in shuffled order until each template's quota for the split is full.
fn pick(pool: &[Draft], splits: &HashMap<String, Split>, split: Split) -> Vec<Draft> {
    let mut taken: Vec<Draft> = Vec::new();
    let mut texts = HashSet::new();
    let mut pages: HashMap<&str, usize> = HashMap::new();
    for (template, train, test) in QUOTAS {
        let quota = if split == Split::Train { train } else { test };
        let mut of_page: HashMap<&str, usize> = HashMap::new();
        let mut of_answer: HashMap<&str, usize> = HashMap::new();
        let mut count = 0;
        for draft in pool.iter().filter(|d| d.template == template) {
            if count == quota {
                break;
            }
            if splits.get(&draft.source) != Some(&split) {
                continue;
            }
            let on_page = of_page.entry(&draft.source).or_default();
            let in_all = pages.entry(&draft.source).or_default();
            let with_answer = of_answer.entry(&draft.answers[0]).or_default();
            let full = (*on_page >= PER_PAGE_AND_TEMPLATE || *in_all >= PER_PAGE)
                && template != "mapped"
                || *with_answer >= PER_ANSWER_AND_TEMPLATE;
            if full || !texts.insert(&draft.question) {
                continue;
            }
            *on_page += 1;
            *in_all += 1;
            *with_answer += 1;
            count += 1;
            taken.push(draft.clone());
        }
    }
    taken
}

fn numbered(drafts: Vec<Draft>, split: Split) -> Vec<Question> {
    let mut counts: HashMap<&'static str, usize> = HashMap::new();
    let name = if split == Split::Train {
        "train"
    } else {
        "test"
    };
    drafts
        .into_iter()
        .map(|draft| {
            let number = counts.entry(draft.template).or_default();
            *number += 1;
            let id = format!("{}/{name}/{number:02}", draft.template);
            question(draft, id, split)
        })
        .collect()
}

/// Tasks have no page; every third of a kind is tested.
fn numbered_tasks() -> Vec<Question> {
    let mut counts: HashMap<&'static str, usize> = HashMap::new();
    tasks::drafts()
        .into_iter()
        .map(|draft| {
            let number = counts.entry(draft.template).or_default();
            *number += 1;
            let id = format!("task-{}/{number:02}", draft.template);
            let split = if *number % 3 == 2 {
                Split::Test
            } else {
                Split::Train
            };
            question(draft, id, split)
        })
        .collect()
}

fn question(draft: Draft, id: String, split: Split) -> Question {
    Question {
        id,
        source: draft.source,
        scenario: draft.scenario,
        split,
        question: draft.question,
        answers: draft.answers,
        grader: draft.grader,
        without: draft.without,
        gold: draft.gold,
    }
}

/// Hand-written questions follow their page's split; those without a page alternate.
fn hand_written(splits: &HashMap<String, Split>) -> Vec<Question> {
    let mut without_page = 0;
    HAND_WRITTEN
        .lines()
        .map(|line| {
            let mut row: serde_json::Value =
                serde_json::from_str(line).expect("the committed file is JSON Lines");
            row["split"] = serde_json::json!("train");
            let mut question: Question =
                serde_json::from_value(row).expect("the committed file holds questions");
            question.split = splits.get(&question.source).copied().unwrap_or_else(|| {
                without_page += 1;
                if without_page % 3 == 2 {
                    Split::Test
                } else {
                    Split::Train
                }
            });
            question
        })
        .collect()
}
