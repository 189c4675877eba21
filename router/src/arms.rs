//! The arms: what the first decision chooses between, and how they bind to another ladder.
//!
//! An arm is what of the recall enters the prompt, the model by rank of capability, and how many
//! context tokens it may use. Arms never name a pool: rank 0 is the least capable pool of a
//! ladder, so an artifact trained on one ladder runs on another. The decision over arms is in
//! [`crate::choose`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// What of the recall enters the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecallMode {
    /// Nothing: the model answers from its weights.
    None,
    /// The passages nearest to the question.
    Vector,
    /// The passages that attention over the graph ranks highest.
    Graph,
}

impl fmt::Display for RecallMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Vector => "vector",
            Self::Graph => "graph",
        })
    }
}

/// One thing the router can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arm {
    /// What of the recall enters the prompt.
    pub recall: RecallMode,
    /// The model, as its rank by capability in the ladder; 0 is the least capable.
    pub rank: usize,
    /// Tokens of context the prompt may carry; 0 for [`RecallMode::None`].
    pub context_tokens: u32,
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}@{}/rank{}",
            self.recall, self.context_tokens, self.rank
        )
    }
}

/// How the model samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SamplingClass {
    /// What logs and reports call it.
    pub name: String,
    /// Temperature; 0 is greedy decoding.
    pub temperature: f32,
    /// Nucleus mass.
    pub top_p: f32,
}

/// Every arm and every sampling class of one ladder of `models` models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArmTable {
    /// The arms; an arm's index is its name in logs and artifacts.
    pub arms: Vec<Arm>,
    /// How many models the ladder has; every arm's rank is below it.
    pub models: usize,
    /// The sampling classes.
    pub sampling: Vec<SamplingClass>,
}

/// Recall and context of the standard arms of each model.
const STANDARD_CONTEXTS: [(RecallMode, u32); 5] = [
    (RecallMode::None, 0),
    (RecallMode::Vector, 200),
    (RecallMode::Vector, 400),
    (RecallMode::Graph, 200),
    (RecallMode::Graph, 400),
];

impl ArmTable {
    /// Five arms a model (`none@0`, `vector@200`, `vector@400`, `graph@200`, `graph@400`), by rank,
    /// and two sampling classes.
    pub fn standard(models: usize) -> Self {
        let arms = (0..models)
            .flat_map(|rank| {
                STANDARD_CONTEXTS.map(|(recall, context_tokens)| Arm {
                    recall,
                    rank,
                    context_tokens,
                })
            })
            .collect();
        let class = |name: &str, temperature, top_p| SamplingClass {
            name: name.to_owned(),
            temperature,
            top_p,
        };
        let sampling = vec![class("precise", 0.0, 1.0), class("balanced", 0.3, 0.9)];
        Self {
            arms,
            models,
            sampling,
        }
    }

    /// A table of the same recalls, contexts and sampling classes for another number of models.
    pub fn with_models(&self, models: usize) -> Self {
        let of_rank = |rank| {
            let lowest = self.arms.iter().filter(|arm| arm.rank == 0);
            lowest.map(move |arm| Arm { rank, ..*arm })
        };
        let arms = (0..models).flat_map(of_rank).collect();
        Self {
            arms,
            models,
            sampling: self.sampling.clone(),
        }
    }

    /// The arm with this recall, rank and context, if the table has it.
    pub fn find(&self, recall: RecallMode, rank: usize, context_tokens: u32) -> Option<usize> {
        let wanted = Arm {
            recall,
            rank,
            context_tokens,
        };
        self.arms.iter().position(|arm| *arm == wanted)
    }

    /// The arm that keeps recall and context of `arm` and asks another `rank` of model.
    pub fn with_rank(&self, arm: usize, rank: usize) -> Option<usize> {
        let arm = self.arms.get(arm)?;
        self.find(arm.recall, rank, arm.context_tokens)
    }
}
