//! Training: from a log of outcomes to an artifact, and how good that artifact is.
//!
//! [`data`] owns the log, [`parameters`] the weights as one vector, [`forward`] and [`backward`]
//! the network in f64 with its gradient, [`objective`] what is maximised, [`optimise`] the loop,
//! [`evaluate`] the honest numbers afterwards. No clock and no ambient randomness: the same log
//! and seed give the same bytes.

pub mod data;
mod evaluate;

pub use data::{DataError, Episode, Outcome, read_episodes, write_episodes};
pub use evaluate::{Estimate, Evaluation, System};
