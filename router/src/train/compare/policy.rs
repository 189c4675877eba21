//! The list of what is compared, and how each learns.

use std::fmt;

use super::Round;
use super::decide::{After, Decider, Expectation};
use crate::artifact::Compression;
use crate::network::Layout;
use crate::schema::FeatureSchema;
use crate::train::baselines::{Linear, Neighbours, Rows, features};
use crate::train::mission::Mission;
use crate::train::optimise::{Lesson, Recipe, cross_validate, fit};
use crate::train::parameters::Parameters;
use crate::train::sample::{Dataset, Sample};
use crate::train::shape::Body;
use crate::train::worth::{Valuer, largest_vector};

/// A way to decide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// The router as it is trained: a FastGRNN with choice and verdict.
    FastGrnn,
    /// A uniformly random arm.
    Random,
    /// The arm of highest mean utility.
    BestSingle,
    /// The best arm that takes no longer on the whole than the router; after [`Policy::FastGrnn`] in a list.
    BestSingleAtLatency,
    /// The biggest model with the largest vector context.
    AlwaysBiggest,
    /// The middle model with the largest vector context.
    FixedMid,
    /// The smallest model with the largest vector context.
    AlwaysSmallest,
    /// Nearest neighbours, on the features before the choice; no verdict.
    Neighbours,
    /// Ridge regression, on the features before the choice; no verdict.
    Ridge,
    /// A perceptron with one hidden layer and as many weights as the router, with choice and verdict.
    Perceptron,
    /// The router with its state emptied before every step.
    Reset,
    /// The router without reading answers.
    NoVerdict,
    /// The mission's own loss: labels of the best arm.
    Mission,
    /// The router without some features.
    Without(FeatureGroup),
    /// The router with its weights made small.
    Compressed(Compression),
    /// The best of the arms that were tried.
    Oracle,
}

/// Features that an ablation leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureGroup {
    /// What is measured of the question's text.
    Text,
    /// Coordinates of the question's embedding.
    Embedding,
    /// What the caller says: turns, limits, tools, budget, privacy.
    Request,
    /// The search step.
    Search,
    /// The recall step.
    Recall,
    /// The answer step.
    Answer,
}

impl FeatureGroup {
    /// Every group.
    pub const ALL: [Self; 6] = [
        Self::Text,
        Self::Embedding,
        Self::Request,
        Self::Search,
        Self::Recall,
        Self::Answer,
    ];

    /// The group of a column, by its name in the schema.
    fn of(column: &str) -> Self {
        let name = column.trim_end_matches(" is missing");
        let Some(query) = name.strip_prefix("query.") else {
            return match name.split('.').next() {
                Some("search") => Self::Search,
                Some("recall") => Self::Recall,
                _ => Self::Answer,
            };
        };
        let said = [
            "turns",
            "conversation_tokens",
            "max_tokens",
            "tools",
            "json",
            "budget",
            "device_class",
            "privacy",
            "domain_given",
        ];
        if query.starts_with("coordinate_") || query == "embedding_norm" {
            Self::Embedding
        } else if said.contains(&query) {
            Self::Request
        } else {
            Self::Text
        }
    }

    fn columns(self) -> Vec<bool> {
        let names = Layout::column_names(FeatureSchema::current());
        names.iter().map(|name| Self::of(name) == self).collect()
    }
}

impl fmt::Display for FeatureGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Embedding => "embedding",
            Self::Request => "request",
            Self::Search => "search",
            Self::Recall => "recall",
            Self::Answer => "answer",
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::FastGrnn => "FastGRNN",
            Self::Random => "random",
            Self::BestSingle => "best single",
            Self::BestSingleAtLatency => "best single at the router's latency",
            Self::AlwaysBiggest => "always biggest",
            Self::FixedMid => "fixed mid",
            Self::AlwaysSmallest => "always smallest",
            Self::Neighbours => "kNN",
            Self::Ridge => "ridge",
            Self::Perceptron => "MLP of as many weights",
            Self::Reset => "FastGRNN, state reset at every step",
            Self::NoVerdict => "FastGRNN without the verdict",
            Self::Mission => "FastGRNN on the mission's loss",
            Self::Oracle => "oracle over the arms tried",
            Self::Without(group) => return write!(f, "FastGRNN without {group} features"),
            Self::Compressed(compression) => return compressed(f, compression),
        };
        f.write_str(name)
    }
}

fn compressed(f: &mut fmt::Formatter<'_>, of: &Compression) -> fmt::Result {
    f.write_str("FastGRNN")?;
    for (name, rank) in [("W", of.rank_input), ("U", of.rank_state)] {
        if let Some(rank) = rank {
            write!(f, ", {name} of rank {rank}")?;
        }
    }
    if of.sparsity > 0.0 {
        write!(f, ", {:.0} % zeros", 100.0 * of.sparsity)?;
    }
    f.write_str(if of.int8 { ", 8 bits" } else { "" })
}

/// A policy after it has seen the training questions of a fold.
pub(super) enum Learned {
    Fixed(Policy),
    /// An arm for each held-out question.
    Arms(Vec<usize>),
    /// Expectations on each held-out question, and the arms chosen on the training questions.
    Expects {
        held_out: Vec<Expectation>,
        training: Vec<Expectation>,
    },
}

impl Learned {
    pub(super) fn of(policy: Policy, round: &Round<'_>, data: &Dataset) -> Self {
        let network = |body, lesson| {
            let recipe = Recipe {
                body,
                lesson,
                left_out: Vec::new(),
            };
            Self::network(round, &recipe, Compression::default())
        };
        match policy {
            Policy::FastGrnn => network(Body::FastGrnn, Lesson::Utility),
            Policy::Perceptron => network(Body::Perceptron, Lesson::Utility),
            Policy::Reset => network(Body::Reset, Lesson::Utility),
            Policy::NoVerdict => network(Body::FastGrnn, Lesson::Choice),
            Policy::Mission => network(Body::FastGrnn, Lesson::Mission),
            Policy::Without(group) => {
                let left_out = group.columns();
                let recipe = Recipe {
                    left_out,
                    ..Recipe::default()
                };
                Self::network(round, &recipe, Compression::default())
            }
            Policy::Compressed(compression) => {
                Self::network(round, &Recipe::default(), compression)
            }
            Policy::Neighbours => {
                let rows = Rows::of(data);
                let neighbours = Neighbours::fit(&rows);
                Self::regression(round, data, &|features| neighbours.expect(features))
            }
            Policy::Ridge => {
                let linear = Linear::fit(&Rows::of(data));
                Self::regression(round, data, &|features| linear.expect(features))
            }
            Policy::Random
            | Policy::BestSingle
            | Policy::BestSingleAtLatency
            | Policy::AlwaysBiggest
            | Policy::FixedMid
            | Policy::AlwaysSmallest
            | Policy::Oracle => Self::Fixed(policy),
        }
    }

    fn network(round: &Round<'_>, recipe: &Recipe, compression: Compression) -> Self {
        let options = crate::train::TrainOptions {
            compression,
            ..round.options.clone()
        };
        let (epochs, _) = cross_validate(round.training, round.table, &options, recipe);
        let whole = Dataset::new(round.training, round.table, &options);
        let held_out = whole.held_out(round.held_out).without(&recipe.left_out);
        let data = whole.without(&recipe.left_out);
        let run = fit(&data, &options, (recipe, epochs), |_, _| ());
        let network = &run.parameters;
        if recipe.lesson == Lesson::Mission {
            let mission = Mission::of(&data);
            let samples = held_out.samples.iter();
            let arms = samples.map(|sample| mission.choice(network, sample));
            return Self::Arms(arms.collect());
        }
        let verdict = recipe.lesson == Lesson::Utility;
        let all = |samples: &[Sample]| -> Vec<Expectation> {
            let one = |sample| expectation(network, sample, (round.table.arms.len(), verdict));
            samples.iter().map(one).collect()
        };
        Self::Expects {
            held_out: all(&held_out.samples),
            training: all(&data.samples),
        }
    }

    fn regression(round: &Round<'_>, data: &Dataset, expect: &dyn Fn(&[f32]) -> Vec<f64>) -> Self {
        let rows = features(&data.held_out(round.held_out));
        let expectations = rows.iter().map(|row| Expectation {
            arms: expect(row),
            after: Vec::new(),
        });
        Self::Expects {
            held_out: expectations.collect(),
            training: Vec::new(),
        }
    }

    /// Mean seconds of the arms of highest utility on the training questions.
    pub(super) fn training_latency(&self, data: &Dataset) -> f64 {
        let Self::Expects { training, .. } = self else {
            return f64::INFINITY;
        };
        let arms = &data.arms;
        let seconds = |expectation: &Expectation| {
            let utility = |arm: &usize| expectation.arms[*arm].clamp(1.0, 5.0) - arms.price[*arm];
            let best = (0..arms.price.len()).max_by(|a, b| utility(a).total_cmp(&utility(b)));
            arms.latency_s[best.unwrap_or(0)]
        };
        training.iter().map(seconds).sum::<f64>() / training.len().max(1) as f64
    }

    /// What it has to say about a held-out question.
    pub(super) fn decider(&self, index: usize, valuer: &Valuer<'_>, router_s: f64) -> Decider {
        let table = valuer.table;
        let top = table.models.saturating_sub(1);
        let fixed = match self {
            Self::Arms(arms) => return Decider::Arm(arms[index]),
            Self::Expects { held_out, .. } => return Decider::Expect(held_out[index].clone()),
            Self::Fixed(policy) => policy,
        };
        Decider::Arm(match fixed {
            Policy::Random => return Decider::Random,
            Policy::Oracle => return Decider::Oracle,
            Policy::BestSingleAtLatency => {
                valuer.best_single(&|arm| valuer.arms.latency_s[arm] <= router_s)
            }
            Policy::AlwaysBiggest => largest_vector(table, top),
            Policy::FixedMid => largest_vector(table, top / 2),
            Policy::AlwaysSmallest => largest_vector(table, 0),
            _ => valuer.best_single(&|_| true),
        })
    }
}

fn expectation(
    network: &Parameters,
    sample: &Sample,
    (arms, verdict): (usize, bool),
) -> Expectation {
    let state = network.read(sample.steps.iter().filter_map(Option::as_deref));
    let of_arms =
        |state: &[f64]| -> Vec<f64> { (0..arms).map(|arm| network.head(arm, state)).collect() };
    let read = |observed: &crate::train::sample::Observed| {
        let answered = network.step(&observed.answer, state.clone()).after;
        After {
            answer: network.head(network.shape.answer(), &answered),
            arms: of_arms(&answered),
        }
    };
    let read_all = sample.observed.iter().filter(|_| verdict).map(read);
    Expectation {
        arms: of_arms(&state),
        after: read_all.collect(),
    }
}
