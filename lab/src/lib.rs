//! The lab: questions with checkable answers, collecting outcomes, grading, the four systems, reports.
//!
//! The lab drives a gateway in process (`weir_gateway::Gateway`) and measures it; it never decides anything for one.
//! Start with [`questions`] (what is asked) and [`grade`] (how right an answer is), then [`collect`] (what the router
//! learns from), [`train`] (what it learned) and [`systems`] (what the result is worth).

pub mod collect;
pub mod corpus;
mod design;
pub mod echo;
pub mod grade;
pub mod outcomes;
pub mod questions;
pub mod results;
pub mod retrieval;
pub mod stats;
pub mod systems;
mod text;
pub mod train;
