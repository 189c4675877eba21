//! Hold-out numbers: what the router is worth on questions it was not trained on.

use serde::{Deserialize, Serialize};

/// A value with its 95 % bootstrap interval, questions resampled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One policy on the held-out questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct System {
    /// `routed`, `random`, `best single`, ...
    pub name: String,
    /// Expected quality, 1 to 5.
    pub quality: Estimate,
    /// Expected seconds, second attempts included.
    pub latency_s: Estimate,
    /// Quality less seconds and cost at the objective's prices.
    pub utility: Estimate,
}

/// How a router did on held-out questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Every policy compared.
    pub systems: Vec<System>,
}
