//! Weights: what training finds, as a file that people can read.
//!
//! JSON with a version. A feature that is not named has no weight, a relation that is not named is
//! walked with the default head, and a number that makes no sense is refused with its name.
//! `by_hand.json` has the weights of this build, which are also what training starts from.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::features::{EDGE, EdgeFeature, NODE, NodeFeature, SEED, SeedFeature};
use super::forward::dot;

/// Version of the file.
const VERSION: u32 = 1;

/// Largest weight that means something; features are of the order of 1.
const WEIGHT_MAX: f64 = 1000.0;

/// Most layers: with half of the weight returning, what is left to move after 32 is below `f32`
/// precision.
pub(super) const LAYERS_MAX: usize = 64;

/// Share of the weight that moves on in each layer of PageRank.
const PAGERANK_MOVES: f64 = 0.5;

/// Layers of PageRank: enough to converge.
const PAGERANK_LAYERS: usize = 32;

/// The weights that were set by hand.
static BY_HAND: LazyLock<AttentionWeights> = LazyLock::new(|| {
    AttentionWeights::from_json(include_str!("by_hand.json"))
        .expect("the weights set by hand are valid, which a test asserts")
});

/// One way of walking a relation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Head {
    /// `a_r`: how much it counts next to the other heads at a node.
    pub(crate) bias: f64,
    /// `tau_r`: how evenly its edges share.
    pub(crate) temperature: f64,
    /// `w_r`: weights of the edge features.
    pub(crate) edge: [f64; EDGE],
}

/// The features that some weight looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) seed: [bool; SEED],
    pub(crate) edge: [bool; EDGE],
    pub(crate) node: [bool; NODE],
}

impl Wanted {
    /// Every feature, for training.
    pub(crate) const ALL: Self = Self {
        seed: [true; SEED],
        edge: [true; EDGE],
        node: [true; NODE],
    };

    /// Whether the sentences that carry edges are looked at.
    pub(crate) fn evidence(&self) -> bool {
        self.edge[EdgeFeature::Evidence as usize]
            || self.edge[EdgeFeature::EvidenceBeyondNames as usize]
            || self.node[NodeFeature::EvidenceOfNamed as usize]
    }

    /// Whether it matters which nodes the question names and what their texts lead to.
    pub(crate) fn named(&self) -> bool {
        self.node[NodeFeature::FromNamed as usize]
            || self.node[NodeFeature::FromNamedInQuestion as usize]
            || self.node[NodeFeature::EvidenceOfNamed as usize]
    }
}

/// A relation's two heads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Directions {
    /// From source to target.
    pub(crate) forwards: Head,
    /// From target to source.
    pub(crate) backwards: Head,
}

/// The weights of attention.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionWeights {
    /// What they were trained on, in words.
    pub(crate) trained_on: String,
    /// Steps along edges.
    pub(crate) layers: usize,
    /// `g`: share of the weight that moves on in each layer.
    pub(crate) moves: f64,
    /// What makes a seed strong; the first is `beta`.
    pub(crate) seed: [f64; SEED],
    /// The head of relations without one of their own.
    pub(crate) other: Directions,
    /// Heads by relation.
    pub(crate) relations: BTreeMap<String, Directions>,
    /// `w`: the scorer.
    pub(crate) score: [f64; NODE],
}

/// Why weights are refused.
#[derive(Debug, thiserror::Error)]
pub enum AttentionError {
    /// Not the JSON that was expected.
    #[error("these are no attention weights: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by another version.
    #[error("the attention weights have version {found}, this build reads version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// A feature that does not exist.
    #[error("attention weights: {place} names {name:?}; the features are {known}")]
    UnknownFeature {
        /// Where.
        place: String,
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// A number out of its bounds.
    #[error("attention weights: {place} is {value}; write {expected}")]
    OutOfBounds {
        /// Where.
        place: String,
        /// The value.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
}

impl Default for AttentionWeights {
    /// The weights of this build.
    fn default() -> Self {
        Self::by_hand()
    }
}

impl Head {
    /// An edge counts as much as its weight says.
    pub(crate) fn plain() -> Self {
        let mut edge = [0.0; EDGE];
        edge[EdgeFeature::LogWeight as usize] = 1.0;
        Self {
            bias: 0.0,
            temperature: 1.0,
            edge,
        }
    }
}

impl AttentionWeights {
    /// Weighted personalised PageRank with the search's strength as restart: no biases, edges as
    /// heavy as their weight.
    pub fn pagerank() -> Self {
        let plain = Directions {
            forwards: Head::plain(),
            backwards: Head::plain(),
        };
        let (mut seed, mut score) = ([0.0; SEED], [0.0; NODE]);
        seed[SeedFeature::Strength as usize] = 1.0;
        score[NodeFeature::LogAttention as usize] = 1.0;
        Self {
            trained_on: "nothing: weighted personalised PageRank".to_owned(),
            layers: PAGERANK_LAYERS,
            moves: PAGERANK_MOVES,
            seed,
            other: plain,
            relations: BTreeMap::new(),
            score,
        }
    }

    /// PageRank with damped hubs and a weight for each relation, set by hand: what training starts from.
    pub fn by_hand() -> Self {
        BY_HAND.clone()
    }

    /// The same with the weight of an edge divided by the root of the target's degree, so that hubs
    /// draw less.
    #[must_use]
    pub fn with_hubs_damped(mut self) -> Self {
        let directions = std::iter::once(&mut self.other).chain(self.relations.values_mut());
        for both in directions {
            for head in [&mut both.forwards, &mut both.backwards] {
                head.edge[EdgeFeature::LogTargetDegree as usize] = -0.5;
            }
        }
        self
    }

    /// The same order of nodes with other shares: each to the power of `by`, above 0. More than 1 sharpens them.
    #[must_use]
    pub fn sharpened(mut self, by: f64) -> Self {
        self.score = self.score.map(|weight| weight * by);
        self
    }

    /// The same weights, with what they were trained on in words.
    #[must_use]
    pub fn named(mut self, trained_on: String) -> Self {
        self.trained_on = trained_on;
        self
    }

    /// What they were trained on, in words.
    pub fn trained_on(&self) -> &str {
        &self.trained_on
    }

    /// Names of the features that weights can look at: of seeds, of edges and of nodes.
    pub fn features() -> [&'static [&'static str]; 3] {
        [SeedFeature::NAMES, EdgeFeature::NAMES, NodeFeature::NAMES]
    }

    /// Logit of a seed.
    pub(crate) fn seed_logit(&self, features: &[f64; SEED]) -> f64 {
        dot(&self.seed, features)
    }

    /// The features that these weights look at.
    pub(crate) fn wanted(&self) -> Wanted {
        let mut edge = [false; EDGE];
        for both in self.relations.values().chain([&self.other]) {
            for head in [&both.forwards, &both.backwards] {
                for (wanted, weight) in edge.iter_mut().zip(&head.edge) {
                    *wanted |= *weight != 0.0;
                }
            }
        }
        Wanted {
            seed: self.seed.map(|weight| weight != 0.0),
            edge,
            node: self.score.map(|weight| weight != 0.0),
        }
    }

    /// The heads of these relations and directions.
    pub(crate) fn heads_of(&self, heads: &[(String, bool)]) -> Vec<Head> {
        let head = |(relation, forwards): &(String, bool)| {
            let both = self.relations.get(relation).unwrap_or(&self.other);
            let head = if *forwards {
                &both.forwards
            } else {
                &both.backwards
            };
            head.clone()
        };
        heads.iter().map(head).collect()
    }

    /// Reads a file of weights.
    pub fn from_json(text: &str) -> Result<Self, AttentionError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version: found } = serde_json::from_str(text)?;
        if found != VERSION {
            return Err(AttentionError::Version { found });
        }
        serde_json::from_str::<File>(text)?.weights()
    }

    /// The file of these weights.
    pub fn to_json(&self) -> String {
        let file = File {
            version: VERSION,
            trained_on: self.trained_on.clone(),
            layers: self.layers,
            moves: self.moves,
            seed: named(&self.seed, SeedFeature::NAMES),
            other: BothFile::of(&self.other),
            relations: (self.relations.iter())
                .map(|(name, both)| (name.clone(), BothFile::of(both)))
                .collect(),
            score: named(&self.score, NodeFeature::NAMES),
        };
        let text = serde_json::to_string_pretty(&file);
        text.expect("weights are numbers and names") + "\n"
    }
}

type Named = BTreeMap<String, f64>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    trained_on: String,
    layers: usize,
    moves: f64,
    seed: Named,
    other: BothFile,
    #[serde(default)]
    relations: BTreeMap<String, BothFile>,
    score: Named,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BothFile {
    forwards: HeadFile,
    backwards: HeadFile,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadFile {
    bias: f64,
    temperature: f64,
    edge: Named,
}

impl File {
    fn weights(self) -> Result<AttentionWeights, AttentionError> {
        let layers = self.layers as f64;
        within("layers", layers, 1.0..=LAYERS_MAX as f64, "1 to 64")?;
        within("moves", self.moves, 0.0..=1.0, "0 to 1")?;
        let mut relations = BTreeMap::new();
        for (name, both) in self.relations {
            let both = both.heads(&format!("relations.{name}"))?;
            relations.insert(name, both);
        }
        Ok(AttentionWeights {
            trained_on: self.trained_on,
            layers: self.layers,
            moves: self.moves,
            seed: values("seed", &self.seed, SeedFeature::NAMES)?,
            other: self.other.heads("other")?,
            relations,
            score: values("score", &self.score, NodeFeature::NAMES)?,
        })
    }
}

impl BothFile {
    fn of(both: &Directions) -> Self {
        Self {
            forwards: HeadFile::of(&both.forwards),
            backwards: HeadFile::of(&both.backwards),
        }
    }

    fn heads(self, place: &str) -> Result<Directions, AttentionError> {
        Ok(Directions {
            forwards: self.forwards.head(&format!("{place}.forwards"))?,
            backwards: self.backwards.head(&format!("{place}.backwards"))?,
        })
    }
}

impl HeadFile {
    fn of(head: &Head) -> Self {
        Self {
            bias: head.bias,
            temperature: head.temperature,
            edge: named(&head.edge, EdgeFeature::NAMES),
        }
    }

    fn head(self, place: &str) -> Result<Head, AttentionError> {
        let bounds = -WEIGHT_MAX..=WEIGHT_MAX;
        within(&format!("{place}.bias"), self.bias, bounds, WEIGHT_BOUNDS)?;
        let at = format!("{place}.temperature");
        within(&at, self.temperature, 0.01..=100.0, "0.01 to 100")?;
        Ok(Head {
            bias: self.bias,
            temperature: self.temperature,
            edge: values(&format!("{place}.edge"), &self.edge, EdgeFeature::NAMES)?,
        })
    }
}

const WEIGHT_BOUNDS: &str = "-1000 to 1000";

fn within(
    place: &str,
    value: f64,
    bounds: std::ops::RangeInclusive<f64>,
    expected: &'static str,
) -> Result<(), AttentionError> {
    if bounds.contains(&value) {
        return Ok(());
    }
    let place = place.to_owned();
    Err(AttentionError::OutOfBounds {
        place,
        value,
        expected,
    })
}

/// Weights that are not 0 by the names of their features.
fn named(values: &[f64], names: &[&str]) -> Named {
    let pairs = names.iter().zip(values).filter(|(_, value)| **value != 0.0);
    pairs
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect()
}

fn values<const N: usize>(
    place: &str,
    named: &Named,
    names: &[&str],
) -> Result<[f64; N], AttentionError> {
    let mut values = [0.0; N];
    for (name, value) in named {
        let Some(at) = names.iter().position(|known| known == name) else {
            return Err(AttentionError::UnknownFeature {
                place: place.to_owned(),
                name: name.clone(),
                known: names.join(", "),
            });
        };
        let place = format!("{place}.{name}");
        within(&place, *value, -WEIGHT_MAX..=WEIGHT_MAX, WEIGHT_BOUNDS)?;
        values[at] = *value;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_survive_their_file_bit_for_bit() {
        for weights in [AttentionWeights::pagerank(), AttentionWeights::default()] {
            let read = AttentionWeights::from_json(&weights.to_json()).unwrap();
            assert_eq!(read, weights);
        }
    }

    #[test]
    fn a_relation_without_a_head_takes_the_default_one() {
        let mut weights = AttentionWeights::pagerank();
        weights.other.backwards.bias = -2.0;
        let mut cites = weights.other.clone();
        cites.forwards.bias = 3.0;
        weights.relations.insert("cites".to_owned(), cites);
        let heads = weights.heads_of(&[("cites".to_owned(), true), ("unheard".to_owned(), false)]);
        assert_eq!((heads[0].bias, heads[1].bias), (3.0, -2.0));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let good = AttentionWeights::pagerank().to_json();
        let refused = |from: &str, to: &str| {
            assert!(good.contains(from), "{from} is not in {good}");
            let error = AttentionWeights::from_json(&good.replacen(from, to, 1));
            error.unwrap_err().to_string()
        };
        let message = refused("\"version\": 1", "\"version\": 2");
        assert!(message.contains("version 2"), "{message}");
        let message = refused("\"moves\": 0.5", "\"moves\": 1.5");
        assert!(message.contains("moves is 1.5; write 0 to 1"), "{message}");
        let message = refused("\"layers\": 32", "\"layers\": 0");
        assert!(message.contains("layers is 0"), "{message}");
        let message = refused("\"temperature\": 1.0", "\"temperature\": 0.0");
        assert!(message.contains("other.forwards.temperature"), "{message}");
        let message = refused("\"log_weight\": 1.0", "\"log_weight\": 1e9");
        assert!(
            message.contains("other.forwards.edge.log_weight"),
            "{message}"
        );
        let message = refused("log_attention", "luck");
        assert!(
            message.contains("score names \"luck\"") && message.contains("log_received"),
            "{message}"
        );
        let message = refused("\"seed\"", "\"sead\"");
        assert!(message.contains("sead"), "{message}");
    }
}
