//! The comparison on a public table: what the first step alone can know of which model is needed.
//!
//! Of two models the question is who gets the bigger one, at every share of them; of more models, which one is asked.

mod sections;

use super::report::Evaluated;
use super::{EvalCommand, EvalError, Groups};
use crate::stats::mean;
use crate::tables::{Table, TableError};
use crate::vectors::vectors;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::thread::ScopedJoinHandle;
use weir_router::QueryFacts;
use weir_router::principal::Principal;
use weir_router::train::tabular::{TableExample, TableLearner, learn_table};
use weir_router::words::Words;
use weir_router::words::coordinates::Coordinates;
use weir_router::words::linear::Linear;

/// Coordinates of the prompt's words beside what is measured of its text.
const COORDINATES: usize = 32;

/// Principal coordinates of the prompt's sentence vector.
const MEANING: usize = 64;

/// Folds; tables have prompts enough to learn from two thirds of them.
const FOLDS: usize = 3;

/// Rows below which folds say nothing.
const ROWS_MIN: usize = 100;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Learner(TableLearner),
    /// A classifier of words, which sees more than the features.
    Words,
    Random,
    BestSingle,
    Oracle,
}

const WAYS: [Way; 9] = [
    Way::Learner(TableLearner::FastGrnn),
    Way::Random,
    Way::BestSingle,
    Way::Learner(TableLearner::Neighbours),
    Way::Learner(TableLearner::Ridge),
    Way::Learner(TableLearner::Perceptron),
    Way::Learner(TableLearner::Mission),
    Way::Words,
    Way::Oracle,
];

const ROUTER: Way = WAYS[0];

impl Way {
    fn place(self) -> usize {
        let place = WAYS.iter().position(|way| *way == self);
        place.expect("every way is in the list")
    }

    fn name(self) -> &'static str {
        match self {
            Self::Learner(TableLearner::FastGrnn) => "FastGRNN",
            Self::Learner(TableLearner::Neighbours) => "kNN",
            Self::Learner(TableLearner::Ridge) => "ridge",
            Self::Learner(TableLearner::Perceptron) => "MLP of as many weights",
            Self::Learner(TableLearner::Mission) => "FastGRNN on the mission's loss",
            Self::Words => "logistic on all words",
            Self::Random => "random",
            Self::BestSingle => "best single",
            Self::Oracle => "oracle",
        }
    }
}

/// Per row, over seeds: what a way scored, and at which share of the bigger model it gets the row.
#[derive(Clone, Default)]
struct Tally {
    /// Mean score of the model it asks.
    score: Vec<f64>,
    /// Of all shares that the bigger model may get, the part at which this row is among them.
    bigger: Vec<f64>,
    /// Share of the rows that each model gets.
    routes: Vec<f64>,
}

struct Measured<'a> {
    table: &'a Table,
    /// Models from least to most able, by mean score.
    order: Vec<usize>,
    groups: Groups,
    /// Whether prompts have sentence vectors.
    with_vectors: bool,
    /// In the order of [`WAYS`].
    tallies: Vec<Tally>,
}

pub(super) fn evaluate(
    table: &Table,
    command: &EvalCommand,
    into: &mut Evaluated,
    progress: &mut dyn FnMut(usize, usize, &str),
) -> Result<(), EvalError> {
    if table.rows.len() < ROWS_MIN {
        return Err(TableError::TooFew {
            path: table.name.clone(),
            rows: table.rows.len(),
            needed: ROWS_MIN,
        }
        .into());
    }
    let names: Vec<String> = table.rows.iter().map(|row| alike(&row.prompt)).collect();
    let groups = Groups::new(&names);
    let mut measured = Measured::new(table, groups, command.vectors.is_some());
    let vectors = match &command.vectors {
        Some(source) => {
            let texts: Vec<&str> = table.rows.iter().map(|row| row.prompt.as_str()).collect();
            let what = format!("{}: vectors", table.name);
            let mut told = |done| progress(done, texts.len(), &what);
            Some(vectors(&texts, source, &mut told)?)
        }
        None => None,
    };
    let mut vectors = vectors.into_iter().flatten();
    let prompts = table.rows.iter();
    let prompts: Vec<Prompt> = prompts
        .map(|row| Prompt::of(&row.prompt, vectors.next()))
        .collect();
    let rounds = command.seeds as usize * FOLDS;
    for seed in 1..=command.seeds {
        let fold_of = cut(&measured.groups, FOLDS, seed);
        for fold in 0..FOLDS {
            let at = (seed as usize - 1) * FOLDS + fold;
            progress(at, rounds, &table.name);
            let (held_out, training): (Vec<usize>, Vec<usize>) =
                (0..table.rows.len()).partition(|row| fold_of[*row] == fold);
            measured.round(&prompts, (&training, &held_out), seed);
        }
    }
    progress(rounds, rounds, &table.name);
    measured.average(command.seeds as f64);
    into.results.notes.push(format!(
        "{}: {} prompts ({} groups of prompts that differ in numbers, case and signs only), {} models; {FOLDS} folds by group, {} \
         seeds; the first step only, on {}: the recurrence, recall and verdict are not exercised; networks are means of five",
        table.name,
        table.rows.len(),
        measured.groups.count,
        table.models.len(),
        command.seeds,
        measured.features()
    ));
    if table.models.len() == 2 {
        measured.pair(into);
    } else {
        measured.many(into);
    }
    Ok(())
}

/// A prompt as features.
struct Prompt {
    words: Words,
    text: Vec<f32>,
    /// Its sentence vector; empty where none is made.
    vector: Vec<f32>,
}

impl Prompt {
    fn of(prompt: &str, vector: Option<Vec<f32>>) -> Self {
        let facts = QueryFacts {
            text: prompt,
            ..QueryFacts::default()
        };
        let values = facts.features().values.into_iter();
        Self {
            words: Words::of(prompt),
            text: values.map(Option::unwrap_or_default).collect(),
            vector: vector.unwrap_or_default(),
        }
    }
}

/// What prompts have in common that are one question with other numbers.
fn alike(prompt: &str) -> String {
    let mut text = String::with_capacity(prompt.len());
    for char in prompt.chars().filter(|char| char.is_alphanumeric()) {
        if char.is_numeric() {
            if !text.ends_with('0') {
                text.push('0');
            }
        } else {
            text.extend(char.to_lowercase());
        }
    }
    text
}

/// The fold of every row: groups dealt out after a seeded shuffle.
fn cut(groups: &Groups, folds: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..groups.count).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut fold_of = vec![0; groups.count];
    for (place, group) in order.into_iter().enumerate() {
        fold_of[group] = place % folds;
    }
    groups.of.iter().map(|group| fold_of[*group]).collect()
}

impl<'a> Measured<'a> {
    fn new(table: &'a Table, groups: Groups, with_vectors: bool) -> Self {
        let score = |model: usize| {
            mean(
                &table
                    .rows
                    .iter()
                    .map(|r| r.scores[model])
                    .collect::<Vec<_>>(),
            )
        };
        let mut order: Vec<usize> = (0..table.models.len()).collect();
        order.sort_by(|a, b| score(*a).total_cmp(&score(*b)));
        let tally = Tally {
            score: vec![0.0; table.rows.len()],
            bigger: vec![0.0; table.rows.len()],
            routes: vec![0.0; table.models.len()],
        };
        Self {
            table,
            order,
            groups,
            with_vectors,
            tallies: vec![tally; WAYS.len()],
        }
    }

    /// What the learners see of a prompt.
    fn features(&self) -> String {
        let meaning = if self.with_vectors {
            format!("{MEANING} of its sentence vector")
        } else {
            "none of its sentence vector, since no embedder was named".to_owned()
        };
        format!(
            "what is measured of the text, {COORDINATES} coordinates of its words and {meaning}"
        )
    }

    fn scores(&self, row: usize) -> &[f64] {
        &self.table.rows[row].scores
    }

    /// Learns on the training rows and decides on the others.
    fn round(&mut self, prompts: &[Prompt], (training, held_out): (&[usize], &[usize]), seed: u64) {
        let words: Vec<&Words> = training.iter().map(|row| &prompts[*row].words).collect();
        let coordinates = Coordinates::fit(&words, COORDINATES, seed);
        let vectors: Vec<&[f32]> = training
            .iter()
            .map(|row| prompts[*row].vector.as_slice())
            .collect();
        let principal = Principal::fit(&vectors, MEANING, seed);
        let features = |row: &usize| -> Vec<f32> {
            let prompt = &prompts[*row];
            let (words, meaning) = (coordinates.of(&prompt.words), principal.of(&prompt.vector));
            [prompt.text.as_slice(), &words, &meaning].concat()
        };
        let known: Vec<Vec<f32>> = training.iter().map(features).collect();
        let asked: Vec<Vec<f32>> = held_out.iter().map(features).collect();
        let asked: Vec<&[f32]> = asked.iter().map(Vec::as_slice).collect();
        let examples: Vec<TableExample<'_>> = training
            .iter()
            .zip(&known)
            .map(|(row, features)| TableExample {
                features,
                scores: self.scores(*row),
            })
            .collect();
        let of_model = |model: usize| -> f64 {
            mean(&examples.iter().map(|e| e.scores[model]).collect::<Vec<_>>())
        };
        let single =
            (0..self.table.models.len()).max_by(|a, b| of_model(*a).total_cmp(&of_model(*b)));
        let mut single_scores = vec![0.0; self.table.models.len()];
        single_scores[single.unwrap_or(0)] = 1.0;
        let expect = &|way: Way| -> Option<(Way, Vec<Vec<f64>>)> {
            let expected = match way {
                Way::Learner(learner) => learn_table(learner, &examples, &asked, seed),
                Way::Words => {
                    let texts = words.iter().zip(&examples);
                    let texts: Vec<(&Words, &[f64])> = texts
                        .map(|(words, example)| (*words, example.scores))
                        .collect();
                    let linear = Linear::fit(&texts, seed);
                    let rows = held_out.iter();
                    rows.map(|row| linear.scores(&prompts[*row].words))
                        .collect()
                }
                Way::BestSingle => vec![single_scores.clone(); held_out.len()],
                Way::Oracle => held_out
                    .iter()
                    .map(|row| self.scores(*row).to_vec())
                    .collect(),
                Way::Random => return None,
            };
            Some((way, expected))
        };
        let expectations: Vec<(Way, Vec<Vec<f64>>)> = std::thread::scope(|scope| {
            let running = WAYS.map(|way| scope.spawn(move || expect(way)));
            let done = running.into_iter().map(ScopedJoinHandle::join);
            let done = done.map(|one| one.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            done.flatten().collect()
        });
        for (way, expected) in expectations {
            self.decide(way, held_out, &expected);
        }
        self.decide_at_random(held_out);
    }

    fn decide(&mut self, way: Way, held_out: &[usize], expected: &[Vec<f64>]) {
        // Of equals the least able model is asked, as it is the cheapest.
        let order = self.order.clone();
        let best = |expected: &[f64]| {
            let better = |best: usize, model: usize| {
                if expected[model] > expected[best] {
                    model
                } else {
                    best
                }
            };
            order.iter().copied().reduce(better).unwrap_or(0)
        };
        let bigger = order[order.len() - 1];
        let gap: Vec<f64> = expected.iter().map(|e| e[bigger] - e[order[0]]).collect();
        let table = self.table;
        let tally = &mut self.tallies[way.place()];
        for (row, expected) in held_out.iter().zip(expected) {
            let model = best(expected);
            tally.score[*row] += table.rows[*row].scores[model];
            tally.routes[model] += 1.0 / table.rows.len() as f64;
        }
        for (place, share) in ranked(&gap).into_iter().enumerate() {
            tally.bigger[held_out[place]] += share;
        }
    }

    fn decide_at_random(&mut self, held_out: &[usize]) {
        let (table, models) = (self.table, self.table.models.len() as f64);
        let tally = &mut self.tallies[Way::Random.place()];
        for row in held_out {
            tally.score[*row] += mean(&table.rows[*row].scores);
            tally.bigger[*row] += 0.5;
            let share = 1.0 / models / table.rows.len() as f64;
            tally.routes.iter_mut().for_each(|route| *route += share);
        }
    }

    /// Sums over seeds become means.
    fn average(&mut self, seeds: f64) {
        for tally in &mut self.tallies {
            let all = [&mut tally.score, &mut tally.bigger, &mut tally.routes];
            all.into_iter().flatten().for_each(|value| *value /= seeds);
        }
    }
}

/// For each value the part of all shares at which it is among the greatest: 1 for the first, 0 for the last, ties in the
/// middle of their places.
fn ranked(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    let mut shares = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let tied = order[start..]
            .iter()
            .take_while(|at| values[**at] == values[order[start]]);
        let end = start + tied.count().max(1);
        let middle = (start + end) as f64 / 2.0 / values.len() as f64;
        order[start..end]
            .iter()
            .for_each(|at| shares[*at] = 1.0 - middle);
        start = end;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Results;
    use crate::tables::TableRow;

    fn command() -> EvalCommand {
        EvalCommand {
            log: None,
            tables: Vec::new(),
            seeds: 1,
            folds: 3,
            vectors: None,
        }
    }

    fn evaluated(table: &Table) -> Evaluated {
        let mut into = Evaluated {
            results: Results::new("demo", "demo"),
            sections: Vec::new(),
            figures: Vec::new(),
        };
        evaluate(table, &command(), &mut into, &mut |_, _, _| ()).unwrap();
        into
    }

    /// The big model is needed for `prove`, never for `name`.
    fn pair(telling: bool) -> Table {
        let row = |index: usize| {
            let hard = index.is_multiple_of(2);
            let word = if hard || !telling { "prove" } else { "name" };
            let letters: String = format!("{index:04}")
                .chars()
                .map(|c| (c as u8 + 49) as char)
                .collect();
            TableRow {
                prompt: format!("please {word} the {letters}"),
                scores: vec![1.0, f64::from(u8::from(!hard))],
            }
        };
        Table {
            name: "demo".to_owned(),
            models: vec!["big".to_owned(), "small".to_owned()],
            rows: (0..300).map(row).collect(),
        }
    }

    #[test]
    fn a_word_that_tells_is_worth_the_whole_lead_and_its_absence_is_chance() {
        let (told, blind) = (evaluated(&pair(true)), evaluated(&pair(false)));
        let apgr = |of: &Evaluated| of.results.rows[0].value.unwrap();
        // Half of the rows need the big model: an oracle's area is three quarters.
        assert!(apgr(&told) > 0.7, "{}", apgr(&told));
        assert!((apgr(&blind) - 0.5).abs() < 0.1, "{}", apgr(&blind));
        let share = told.results.rows[1].value.unwrap();
        assert!((0.4..0.56).contains(&share), "{share}");
        assert_eq!(told.sections[0].rows.len(), WAYS.len() - 1);
    }

    #[test]
    fn of_several_models_the_gap_to_the_oracle_is_closed() {
        let mut table = pair(true);
        table.models.push("other".to_owned());
        for (index, row) in table.rows.iter_mut().enumerate() {
            let hard = index.is_multiple_of(2);
            row.scores = vec![f64::from(u8::from(hard)), f64::from(u8::from(!hard)), 0.2];
        }
        let found = evaluated(&table);
        assert!(found.results.rows[0].value.unwrap() > 0.9, "{found:?}");
    }

    #[test]
    fn ties_share_the_middle_of_their_places() {
        assert_eq!(ranked(&[3.0, 1.0, 1.0, 0.0]), [0.875, 0.5, 0.5, 0.125]);
        assert_eq!(ranked(&[1.0; 4]), [0.5; 4]);
    }

    #[test]
    fn one_question_with_other_numbers_is_one_group() {
        assert_eq!(alike("Add 3 and 14."), alike("add 250 and 7"));
        assert_ne!(alike("Add 3 and 14."), alike("Add 3 or 14."));
    }
}
