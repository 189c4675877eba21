//! The lab: questions with checkable answers, collecting outcomes, grading, the four systems, reports.
//!
//! The lab drives a gateway in process (`weir_gateway::Gateway`) and measures it; it never decides anything for one.
//! Start with [`questions`] (what is asked) and [`grade`] (how right an answer is), then `collect` (what the router
//! learns from) and `systems` (what the result is worth).

pub mod grade;
pub mod questions;
mod text;
