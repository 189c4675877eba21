//! The lab against real input: the documentation that is installed, the log that the default router is trained on.

mod collect;
mod default_router;
mod questions;
mod systems;
