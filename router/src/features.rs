//! Facts of a request to the features of a step: what is measured, in which unit and range.
//!
//! Every value is finite and within its range by construction, whatever the facts hold. A feature
//! and its place in the schema are written down once, in the tables below; how a text is measured
//! is in [`text`]. `domain` only enters as given or not: its name would encode the data set.

mod projection;
mod text;

use crate::schema::{FeatureSchema, FeatureSpec, Step, StepFeatures};
use projection::{COORDINATES, coordinates};
use text::Measures;

/// What is known when a request arrives.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueryFacts<'a> {
    /// The question.
    pub text: &'a str,
    /// The caller's domain, if named.
    pub domain: Option<&'a str>,
    /// Turns of the conversation so far, this one included.
    pub turns: u32,
    /// Tokens of the whole conversation.
    pub conversation_tokens: u32,
    /// The caller's limit on the answer.
    pub max_tokens: Option<u32>,
    /// Whether tools are offered.
    pub tools: bool,
    /// Whether a JSON answer is demanded.
    pub json: bool,
    /// The caller's time budget.
    pub budget_ms: Option<u64>,
    /// `device`, `edge` or `server`; anything else counts as not known.
    pub device_class: Option<&'a str>,
    /// How far the request may travel: 0 local, 1 on premises, 2 cloud.
    pub privacy: u8,
    /// The question's embedding, of any length.
    pub embedding: Option<&'a [f32]>,
}

/// What the search found.
#[derive(Debug, Clone, Copy, Default)]
pub struct SearchFacts<'a> {
    /// Cosine similarity of the hits, descending; empty when there are no vectors.
    pub cosines: &'a [f32],
    /// BM25 of the hits, descending; empty when no word matched.
    pub bm25: &'a [f32],
    /// Share of the memory that the filter let through.
    pub filter_share: f32,
}

/// What attention over the subgraph found.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecallFacts {
    /// Entropy of the scores as H / log n, 0 to 1.
    pub entropy: f32,
    /// Hops reached.
    pub depth: u32,
    /// Nodes of the subgraph.
    pub nodes_used: u32,
    /// Score mass of the best five nodes, 0 to 1.
    pub top_mass: f32,
    /// Jaccard similarity of the vector's best ten and the graph's best ten.
    pub agreement: f32,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Finish {
    /// The model stopped.
    #[default]
    Stop,
    /// It ran into its token limit.
    Length,
    /// These are its first tokens only; more is coming.
    Prefix,
    /// Anything else.
    Other,
}

/// What is known about an answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnswerFacts {
    /// Mean log-probability of its tokens.
    pub mean_logprob: Option<f32>,
    /// The smallest log-probability of a token.
    pub min_logprob: Option<f32>,
    /// Tokens so far.
    pub tokens: u32,
    /// Why it ended.
    pub finish: Finish,
    /// Share of the answer's content words that occur in the context, 0 to 1.
    pub overlap: f32,
    /// Rank of the model that wrote it.
    pub rank: usize,
    /// Models of the ladder.
    pub models: usize,
    /// Context tokens of its prompt.
    pub context_tokens: u32,
}

/// Name, unit, smallest, largest, default when missing, whether it can be missing.
type Row = (&'static str, &'static str, f32, f32, f32, bool);

const FLAG: &str = "flag";
const SHARE: &str = "share";
const LN_TOKENS: &str = "ln(1 + tokens)";

const QUERY: &[Row] = &[
    ("turns", "ln(1 + turns)", 0.0, 8.0, 0.7, false),
    ("conversation_tokens", LN_TOKENS, 0.0, 14.0, 3.0, false),
    ("max_tokens", LN_TOKENS, 0.0, 14.0, 5.5, true),
    ("tools", FLAG, 0.0, 1.0, 0.0, false),
    ("json", FLAG, 0.0, 1.0, 0.0, false),
    ("budget", "ln(1 + ms)", 0.0, 16.0, 9.0, true),
    (
        "device_class",
        "0 device, 1 edge, 2 server",
        0.0,
        2.0,
        1.0,
        true,
    ),
    (
        "privacy",
        "0 local, 1 on premises, 2 cloud",
        0.0,
        2.0,
        0.0,
        false,
    ),
    ("domain_given", FLAG, 0.0, 1.0, 0.0, false),
    ("embedding_norm", "euclidean norm", 0.0, 100.0, 1.0, true),
];

const SEARCH: &[Row] = &[
    ("hits", "ln(1 + hits)", 0.0, 8.0, 0.0, false),
    ("cosine_max", "cosine", -1.0, 1.0, 0.3, true),
    ("cosine_mean", "cosine", -1.0, 1.0, 0.2, true),
    ("cosine_std", "cosine", 0.0, 1.0, 0.1, true),
    ("cosine_min", "cosine", -1.0, 1.0, 0.1, true),
    ("cosine_gap_second", "cosine", 0.0, 2.0, 0.0, true),
    ("cosine_gap_fifth", "cosine", 0.0, 2.0, 0.0, true),
    ("bm25_max", "ln(1 + BM25)", 0.0, 8.0, 1.5, true),
    ("bm25_mean", "ln(1 + BM25)", 0.0, 8.0, 1.0, true),
    ("bm25_gap_second", "share of the best", 0.0, 1.0, 0.0, true),
    ("bm25_gap_fifth", "share of the best", 0.0, 1.0, 0.0, true),
    ("filter_share", SHARE, 0.0, 1.0, 1.0, false),
];

const RECALL: &[Row] = &[
    ("entropy", SHARE, 0.0, 1.0, 0.5, false),
    ("depth", "hops", 0.0, 8.0, 0.0, false),
    ("nodes_used", "ln(1 + nodes)", 0.0, 8.0, 0.0, false),
    ("top_mass", SHARE, 0.0, 1.0, 0.5, false),
    ("agreement", SHARE, 0.0, 1.0, 0.5, false),
];

const ANSWER: &[Row] = &[
    ("mean_logprob", "nats", -20.0, 0.0, -0.5, true),
    ("min_logprob", "nats", -40.0, 0.0, -3.0, true),
    ("tokens", LN_TOKENS, 0.0, 14.0, 3.0, false),
    ("stopped", FLAG, 0.0, 1.0, 1.0, false),
    ("cut_off", FLAG, 0.0, 1.0, 0.0, false),
    ("prefix", FLAG, 0.0, 1.0, 0.0, false),
    ("overlap", SHARE, 0.0, 1.0, 0.0, false),
    (
        "relative_rank",
        "0 least, 1 most capable",
        0.0,
        1.0,
        0.5,
        false,
    ),
    ("context_tokens", LN_TOKENS, 0.0, 14.0, 0.0, false),
];

/// Every feature of the schema, steps in order.
pub(crate) fn specs() -> Vec<FeatureSpec> {
    let tables = [
        (Step::Query, text::ROWS),
        (Step::Query, QUERY),
        (Step::Query, projection::ROWS),
    ]
    .into_iter()
    .chain([
        (Step::Search, SEARCH),
        (Step::Recall, RECALL),
        (Step::Answer, ANSWER),
    ]);
    tables
        .flat_map(|(step, rows)| rows.iter().map(move |row| spec(step, row)))
        .collect()
}

fn spec(step: Step, &(name, unit, low, high, default, optional): &Row) -> FeatureSpec {
    let (name, unit) = (format!("{step}.{name}"), unit.to_owned());
    FeatureSpec {
        name,
        step,
        unit,
        range: [low, high],
        default,
        optional,
    }
}

impl QueryFacts<'_> {
    /// The features of [`Step::Query`].
    pub fn features(&self) -> StepFeatures {
        let mut values = Measures::of(self.text).values().map(Some).to_vec();
        values.extend([
            Some(ln_1p(self.turns)),
            Some(ln_1p(self.conversation_tokens)),
            self.max_tokens.map(ln_1p),
            Some(flag(self.tools)),
            Some(flag(self.json)),
            self.budget_ms.map(|ms| (ms as f32).ln_1p()),
            self.device_class.and_then(device_level),
            Some(f32::from(self.privacy)),
            Some(flag(self.domain.is_some())),
            self.embedding.map(norm),
        ]);
        match self.embedding {
            Some(embedding) => values.extend(coordinates(embedding).map(Some)),
            None => values.extend([None; COORDINATES]),
        }
        bounded(Step::Query, values)
    }
}

impl SearchFacts<'_> {
    /// The features of [`Step::Search`].
    pub fn features(&self) -> StepFeatures {
        let cosines = self.cosines;
        let hits = cosines.len().max(self.bm25.len());
        let best = self.bm25.first().copied();
        let below_best = |rank: usize| {
            let (best, other) = (best?, *self.bm25.get(rank)?);
            (best > 0.0).then(|| (best - other) / best)
        };
        let gap = |rank: usize| Some(cosines.first()? - cosines.get(rank)?);
        let values = vec![
            Some((hits as f32).ln_1p()),
            cosines.first().copied(),
            mean(cosines),
            deviation(cosines),
            cosines.last().copied(),
            gap(1),
            gap(4),
            best.map(|best| best.max(0.0).ln_1p()),
            mean(self.bm25).map(|mean| mean.max(0.0).ln_1p()),
            below_best(1),
            below_best(4),
            Some(self.filter_share),
        ];
        bounded(Step::Search, values)
    }
}

impl RecallFacts {
    /// The features of [`Step::Recall`].
    pub fn features(&self) -> StepFeatures {
        let values = vec![
            Some(self.entropy),
            Some(self.depth as f32),
            Some(ln_1p(self.nodes_used)),
            Some(self.top_mass),
            Some(self.agreement),
        ];
        bounded(Step::Recall, values)
    }
}

impl AnswerFacts {
    /// The features of [`Step::Answer`].
    pub fn features(&self) -> StepFeatures {
        let steps_above = self.models.saturating_sub(1);
        let relative_rank = if steps_above == 0 {
            1.0
        } else {
            self.rank as f32 / steps_above as f32
        };
        let values = vec![
            self.mean_logprob,
            self.min_logprob,
            Some(ln_1p(self.tokens)),
            Some(flag(self.finish == Finish::Stop)),
            Some(flag(self.finish == Finish::Length)),
            Some(flag(self.finish == Finish::Prefix)),
            Some(self.overlap),
            Some(relative_rank),
            Some(ln_1p(self.context_tokens)),
        ];
        bounded(Step::Answer, values)
    }
}

/// Clamps every value into its range; what is not a number is missing, or the default where the
/// schema has no missing.
fn bounded(step: Step, mut values: Vec<Option<f32>>) -> StepFeatures {
    for (value, spec) in values.iter_mut().zip(FeatureSchema::current().of(step)) {
        let [low, high] = spec.range;
        let measured = value
            .filter(|value| !value.is_nan())
            .map(|value| value.clamp(low, high));
        *value = if spec.optional {
            measured
        } else {
            Some(measured.unwrap_or(spec.default))
        };
    }
    StepFeatures { step, values }
}

fn flag(set: bool) -> f32 {
    f32::from(u8::from(set))
}

fn ln_1p(count: u32) -> f32 {
    (count as f32).ln_1p()
}

fn device_level(class: &str) -> Option<f32> {
    match class {
        "device" => Some(0.0),
        "edge" => Some(1.0),
        "server" => Some(2.0),
        _ => None,
    }
}

fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|value| value * value).sum::<f32>().sqrt()
}

fn mean(values: &[f32]) -> Option<f32> {
    (!values.is_empty()).then(|| values.iter().sum::<f32>() / values.len() as f32)
}

fn deviation(values: &[f32]) -> Option<f32> {
    let mean = mean(values)?;
    let squares: f32 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / values.len() as f32).sqrt())
}
