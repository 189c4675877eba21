//! The view: what attention sees of nodes and edges in the light of a question.
//!
//! Computes the features that `attention/features.rs` names, from the index alone. Cosines are
//! computed once a node, and nothing that no weight looks at. A missing vector counts as no similarity, a missing title as
//! no match.

use std::array::from_fn;
use std::cell::{OnceCell, RefCell};
use std::sync::LazyLock;

use super::walk::Member;
use crate::attention::{EDGE, EdgeFeature, Edges, NODE, NodeFeature, SEED, SeedFeature, Wanted};
use crate::bm25::Marks;
use crate::graph::Link;
use crate::index::Index;
use crate::node::NodeType;
use crate::search::{self, Query};
use crate::slots::SlotMap;

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// Least part of a question that is left when its part along a node is taken out: below it the
/// direction of the rest is rounding.
const REST_MIN: f64 = 1e-3;

/// A question and the index it is asked of.
pub(super) struct View<'a> {
    index: &'a Index,
    unit: Option<Vec<f32>>,
    /// Cosine to the question of the slots that it was asked for.
    cosines: RefCell<SlotMap<f32>>,
    text: &'a str,
    wanted: Wanted,
    /// Whether the text asks something.
    asks: bool,
    /// See [`View::marks`].
    marks: OnceCell<Marks>,
    /// Time of the newest node in seconds.
    newest: OnceCell<u32>,
}

impl<'a> View<'a> {
    pub(super) fn new(index: &'a Index, query: &'a Query, wanted: Wanted) -> Self {
        let unit = search::unit_query(query, index.vectors.dimensions()).ok();
        Self {
            unit: unit.flatten(),
            cosines: RefCell::default(),
            text: &query.text,
            asks: asks(&query.text),
            wanted,
            marks: OnceCell::new(),
            newest: OnceCell::new(),
            index,
        }
    }

    /// Which of the question's words each slot holds.
    fn marks(&self) -> &Marks {
        let index = self.index;
        (self.marks).get_or_init(|| index.words.marks(self.text, index.slots()))
    }

    /// Cosine of a node to the question, when both have a vector.
    pub(super) fn cosine(&self, slot: u32) -> Option<f32> {
        let unit = self.unit.as_deref()?;
        let own = self.index.vectors.get(slot)?;
        let mut cosines = self.cosines.borrow_mut();
        let cosine = cosines.entry(slot);
        Some(*cosine.or_insert_with(|| self.index.vectors.cosine(unit, own)))
    }

    /// Cosine of two nodes, when both have a vector.
    fn ends(&self, a: u32, b: u32) -> f64 {
        let vectors = &self.index.vectors;
        let both = vectors.get(a).zip(vectors.get(b));
        both.map_or(0.0, |(a, b)| f64::from(vectors.cosine(a, b)))
    }

    fn similarity(&self, slot: u32) -> f64 {
        self.cosine(slot).map_or(0.0, f64::from)
    }

    /// Cosine of `to` and the question without its part along `from`, given the cosine of the two.
    fn rest(&self, from: u32, to: u32, ends: f64) -> f64 {
        let (along, target) = (self.similarity(from), self.similarity(to));
        let left = (1.0 - along * along).max(0.0).sqrt();
        if left < REST_MIN {
            return 0.0;
        }
        (target - along * ends) / left
    }

    /// Share of the question's words, by idf, that are marked.
    fn share(&self, mut marks: u64) -> f64 {
        let mut sum = 0.0;
        while marks != 0 {
            sum += f64::from(self.marks().terms[marks.trailing_zeros() as usize].1);
            marks &= marks - 1;
        }
        self.of_question(sum)
    }

    /// Share of the question's words, by idf, that are among `keys`, which ascend, and their number.
    fn share_in(&self, keys: &[u32]) -> (f64, usize) {
        if keys.is_empty() {
            return (0.0, 0);
        }
        let terms = self.marks().terms.iter();
        let found = terms.filter(|(key, _)| keys.binary_search(key).is_ok());
        let (sum, count) = found.fold((0.0, 0), |(sum, count), (_, idf)| {
            (sum + f64::from(*idf), count + 1)
        });
        (self.of_question(sum), count)
    }

    /// Share of the question's words, by idf, that a sentence has, and of those of them that no title of `ends` has.
    fn said(&self, sentence: &[u32], ends: [u32; 2]) -> (f64, f64) {
        if sentence.is_empty() {
            return (0.0, 0.0);
        }
        let titles = ends.map(|slot| self.index.title(slot));
        let named = |key: &u32| titles.iter().any(|title| title.binary_search(key).is_ok());
        let (mut all, mut beyond_names) = (0.0, 0.0);
        for (key, idf) in &self.marks().terms {
            if sentence.binary_search(key).is_ok() {
                all += f64::from(*idf);
                beyond_names += if named(key) { 0.0 } else { f64::from(*idf) };
            }
        }
        (self.of_question(all), self.of_question(beyond_names))
    }

    fn of_question(&self, sum: f64) -> f64 {
        let idf = self.marks().idf;
        if idf > 0.0 { sum / idf } else { 0.0 }
    }

    fn holds(&self, slot: u32) -> u64 {
        self.marks().holds[slot as usize]
    }

    fn recency(&self, seconds: u32) -> f64 {
        let newest = self.newest.get_or_init(|| self.index.newest());
        -(f64::from(newest.saturating_sub(seconds)) / DAY).ln_1p()
    }

    /// How much of its title the question has, and how much of the question its title.
    fn title(&self, slot: u32) -> (f64, f64) {
        let title = self.index.title(slot);
        let (of_question, count) = self.share_in(title);
        (count as f64 / title.len().max(1) as f64, of_question)
    }

    /// Features of the link from `from`, walked forwards or backwards; 0 for one that costs something and is not wanted.
    pub(super) fn edge(&self, from: u32, link: &Link, forwards: bool) -> [f64; EDGE] {
        let (src, dst) = if forwards {
            (from, link.to)
        } else {
            (link.to, from)
        };
        let graph = &self.index.graph;
        let wants = |feature: EdgeFeature| self.wanted.edge[feature as usize];
        let mut features = [0.0; EDGE];
        let mut set = |feature: EdgeFeature, value: f64| features[feature as usize] = value;
        // Most links have the weight 1.
        if link.weight != 1.0 {
            set(EdgeFeature::LogWeight, f64::from(link.weight).ln());
        }
        set(EdgeFeature::Confidence, f64::from(link.confidence));
        let degree = log_degree(graph.degree(link.to));
        set(EdgeFeature::LogTargetDegree, degree);
        if wants(EdgeFeature::Recency) {
            set(EdgeFeature::Recency, self.recency(link.seconds));
        }
        if self.wanted.evidence() {
            let evidence = graph.evidence(src, dst, link.rel);
            let (all, beyond_names) = self.said(evidence, [src, dst]);
            set(EdgeFeature::Evidence, all);
            set(EdgeFeature::EvidenceBeyondNames, beyond_names);
        }
        if wants(EdgeFeature::TargetCosine) {
            set(EdgeFeature::TargetCosine, self.similarity(link.to));
        }
        if wants(EdgeFeature::EndsCosine) || wants(EdgeFeature::RestCosine) {
            let ends = self.ends(from, link.to);
            set(EdgeFeature::EndsCosine, ends);
            set(EdgeFeature::RestCosine, self.rest(from, link.to, ends));
        }
        if wants(EdgeFeature::NewWords) || wants(EdgeFeature::SharedWords) {
            let (source, target) = (self.holds(from), self.holds(link.to));
            set(EdgeFeature::NewWords, self.share(target & !source));
            set(EdgeFeature::SharedWords, self.share(target & source));
        }
        features
    }

    /// Features of the seeds among `members`, which come first.
    pub(super) fn seeds(&self, members: &[Member]) -> Vec<[f64; SEED]> {
        let seeds: Vec<_> = (members.iter())
            .filter_map(|member| Some((member.slot, member.hit?)))
            .collect();
        let words: Vec<f64> = (seeds.iter())
            .map(|(_, hit)| f64::from(hit.bm25.unwrap_or(0.0)))
            .collect();
        let wants = |feature: SeedFeature| self.wanted.seed[feature as usize];
        let title = wants(SeedFeature::TitleInQuestion)
            || wants(SeedFeature::QuestionInTitle)
            || wants(SeedFeature::Named)
            || wants(SeedFeature::NamedInQuestion);
        (seeds.iter().zip(standardised(&words)))
            .map(|((slot, hit), words)| {
                let mut features = [0.0; SEED];
                features[SeedFeature::Strength as usize] = f64::from(hit.strength);
                features[SeedFeature::Words as usize] = words;
                if title {
                    let (title, question) = self.title(*slot);
                    features[SeedFeature::TitleInQuestion as usize] = title;
                    features[SeedFeature::QuestionInTitle as usize] = question;
                    features[SeedFeature::Named as usize] = named(title);
                    features[SeedFeature::NamedInQuestion as usize] = self.if_asked(named(title));
                }
                features
            })
            .collect()
    }

    /// The value where the text asks, 0 where it tells.
    fn if_asked(&self, value: f64) -> f64 {
        if self.asks { value } else { 0.0 }
    }

    /// Sets what `edges` say of their targets: whether a node that the question names leads there.
    pub(super) fn lead_from_named(&self, edges: &Edges, nodes: &mut [[f64; NODE]]) {
        if !self.wanted.named() {
            return;
        }
        let leads =
            |(relation, forwards): &(String, bool)| *forwards && LEADS.contains(&relation.as_str());
        let leads: Vec<bool> = edges.heads.iter().map(leads).collect();
        for source in 0..nodes.len() {
            if nodes[source][NodeFeature::Named as usize] == 0.0 {
                continue;
            }
            let groups = edges.groups_of(source).iter();
            for edge in groups
                .filter(|group| leads[group.head])
                .flat_map(|group| group.edges.clone())
            {
                let target = &mut nodes[edges.targets[edge] as usize];
                target[NodeFeature::FromNamed as usize] = 1.0;
                target[NodeFeature::FromNamedInQuestion as usize] = self.if_asked(1.0);
                let said = edges.features[edge][EdgeFeature::EvidenceBeyondNames as usize];
                let most = &mut target[NodeFeature::EvidenceOfNamed as usize];
                *most = most.max(said);
            }
        }
    }

    /// Features of all members but those that the layers find.
    pub(super) fn nodes(&self, members: &[Member]) -> Vec<[f64; NODE]> {
        let wants = |feature: NodeFeature| self.wanted.node[feature as usize];
        let column = |feature: NodeFeature, value: &dyn Fn(u32) -> f64| -> Vec<f64> {
            if !wants(feature) {
                return vec![0.0; members.len()];
            }
            let values: Vec<f64> = members.iter().map(|member| value(member.slot)).collect();
            standardised(&values)
        };
        let cosines = column(NodeFeature::Cosine, &|slot| self.similarity(slot));
        let words = column(NodeFeature::Words, &|slot| {
            f64::from(self.marks().scores[slot as usize])
        });
        let first = members.first().map_or(0, |member| member.slot);
        let rest = column(NodeFeature::RestCosine, &|slot| {
            self.rest(first, slot, self.ends(first, slot))
        });
        let title = wants(NodeFeature::TitleInQuestion)
            || wants(NodeFeature::QuestionInTitle)
            || wants(NodeFeature::Named)
            || wants(NodeFeature::NamedInQuestion)
            || self.wanted.named();
        let mut nodes = Vec::with_capacity(members.len());
        for (place, member) in members.iter().enumerate() {
            let mut features = [0.0; NODE];
            let mut set = |feature: NodeFeature, value: f64| features[feature as usize] = value;
            let (node_type, seconds) = self.index.kind(member.slot);
            set(NodeFeature::Cosine, cosines[place]);
            set(NodeFeature::Words, words[place]);
            if title {
                let (title, question) = self.title(member.slot);
                set(NodeFeature::TitleInQuestion, title);
                set(NodeFeature::QuestionInTitle, question);
                set(NodeFeature::Named, named(title));
                set(NodeFeature::NamedInQuestion, self.if_asked(named(title)));
            }
            if wants(NodeFeature::NewWords) {
                let new = self.holds(member.slot) & !self.holds(first);
                set(NodeFeature::NewWords, self.share(new));
            }
            // The strongest seed has nothing to do with what is left of the question without it.
            let rest = if place == 0 { 0.0 } else { rest[place] };
            set(NodeFeature::RestCosine, rest);
            let degree = self.index.graph.degree(member.slot) as f64;
            set(NodeFeature::LogDegree, degree.ln_1p());
            set(NodeFeature::Depth, f64::from(member.depth));
            if wants(NodeFeature::Recency) {
                set(NodeFeature::Recency, self.recency(seconds));
            }
            match node_type {
                NodeType::Doc => {}
                NodeType::Memory => set(NodeFeature::Memory, 1.0),
                NodeType::Trace => set(NodeFeature::Trace, 1.0),
                NodeType::ToolResult => set(NodeFeature::ToolResult, 1.0),
                NodeType::Summary => set(NodeFeature::Summary, 1.0),
            }
            nodes.push(features);
        }
        nodes
    }
}

/// Relations that a text makes by what it says of another, and not by what both have.
const LEADS: [&str; 3] = ["hyperlink", "mentions", "cites"];

/// Words that a text which asks may begin with.
const ASKING: [&str; 24] = [
    "who", "whom", "whose", "what", "when", "where", "which", "why", "how", "is", "are", "was",
    "were", "do", "does", "did", "has", "have", "had", "can", "could", "should", "would", "will",
];

/// Whether a text asks something: it ends as a question does or begins as one.
fn asks(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    let begins = ASKING.iter().any(|word| first.eq_ignore_ascii_case(word));
    begins || text.trim_end().ends_with(['?', '？', '؟'])
}

/// Logarithms of the degrees that most nodes have.
static LOG_DEGREES: LazyLock<[f64; 256]> = LazyLock::new(|| from_fn(|degree| (degree as f64).ln()));

fn log_degree(degree: usize) -> f64 {
    let known = LOG_DEGREES.get(degree);
    known.copied().unwrap_or_else(|| (degree as f64).ln())
}

/// 1 where all words of a title are in the question.
fn named(share: f64) -> f64 {
    if share >= 1.0 { 1.0 } else { 0.0 }
}

/// The values in standard deviations from their mean; 0 when all are equal.
fn standardised(values: &[f64]) -> Vec<f64> {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    let deviation = variance.sqrt();
    let z = |value: &f64| {
        if deviation < 1e-6 {
            0.0
        } else {
            (value - mean) / deviation
        }
    };
    values.iter().map(z).collect()
}
