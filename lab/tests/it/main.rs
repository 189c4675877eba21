//! The lab against real input: the documentation that is installed, the log that the default router is trained on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod collect;
mod default_router;
mod evaluation;
mod questions;
mod retrieval;
mod systems;
