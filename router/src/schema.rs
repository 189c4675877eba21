//! The feature schema: name, step, order, unit, range and default of every input of the router.
//!
//! The schema is the contract between a log, an artifact and a gateway; its hash stands in each of
//! them. It measures nothing: that is [`crate::features`].

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The steps of a request, in the order the router sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// The question as it arrived.
    Query,
    /// The nearest passages.
    Search,
    /// The attended subgraph.
    Recall,
    /// An answer, whole or its first tokens.
    Answer,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 4] = [Self::Query, Self::Search, Self::Recall, Self::Answer];

    /// Position in [`Step::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Query => "query",
            Self::Search => "search",
            Self::Recall => "recall",
            Self::Answer => "answer",
        })
    }
}

/// The features of one step, in schema order; `None` is a value nobody could measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFeatures {
    /// Which step these describe.
    pub step: Step,
    /// One entry per feature of that step; finite where present.
    pub values: Vec<Option<f32>>,
}

/// One feature of the schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureSpec {
    /// Unique within the schema, `step.name`.
    pub name: String,
    /// The step that measures it.
    pub step: Step,
    /// What one unit is: `ln tokens`, `share`, `flag`, ...
    pub unit: String,
    /// Smallest and largest value; measurements are clamped into it.
    pub range: [f32; 2],
    /// Used when it is missing.
    pub default: f32,
    /// Whether it can be missing; such a feature has a flag beside it in the network's input.
    pub optional: bool,
}

/// All features, by step and in order.
#[derive(Debug)]
pub struct FeatureSchema {
    features: Vec<FeatureSpec>,
    hash: String,
}

impl FeatureSchema {
    /// The schema of this build.
    pub fn current() -> &'static Self {
        static CURRENT: LazyLock<FeatureSchema> =
            LazyLock::new(|| FeatureSchema::new(crate::features::specs()));
        &CURRENT
    }

    fn new(features: Vec<FeatureSpec>) -> Self {
        let mut digest = Sha256::new();
        for spec in &features {
            let [low, high] = spec.range;
            let line = format!(
                "{}|{}|{}|{low}|{high}|{}|{}\n",
                spec.step, spec.name, spec.unit, spec.default, spec.optional
            );
            digest.update(line.as_bytes());
        }
        Self {
            features,
            hash: hex::encode(digest.finalize()),
        }
    }

    /// SHA-256 of every name, step, order, unit, range and default, as lower-case hex.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Every feature, steps in order.
    pub fn features(&self) -> &[FeatureSpec] {
        &self.features
    }

    /// The features of one step, in the order of [`StepFeatures::values`].
    pub fn of(&self, step: Step) -> impl Iterator<Item = &FeatureSpec> + Clone {
        self.features.iter().filter(move |spec| spec.step == step)
    }
}
