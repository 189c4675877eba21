//! The lab: questions with checkable answers, collecting outcomes, grading, the four systems, reports.
//!
//! The lab drives a gateway in process (`weir_gateway::Gateway`) and measures it; it never decides anything for one.
//! Start with [`questions`] (what is asked) and [`grade`] (how right an answer is), then [`collect`] (what the router
//! learns from), [`train`] (what it learned), [`evaluation`] (beside what else could have learned it) and [`systems`] (what
//! the result is worth); [`matrix`] says what the models alone cost. A log of decisions that were
//! really taken is read by [`decision_log`]: [`ope`] says what another router would have been worth on it, [`gate`] whether
//! it may take over.

pub mod calibrate;
pub mod collect;
pub mod corpus;
pub mod decision_log;
mod design;
pub mod echo;
pub mod evaluation;
pub mod gate;
pub mod grade;
pub mod matrix;
pub mod ope;
pub mod outcomes;
pub mod process;
pub mod questions;
pub mod results;
pub mod retrieval;
pub mod simulations;
pub mod stats;
pub mod systems;
pub mod tables;
mod text;
pub mod train;
pub mod vectors;
