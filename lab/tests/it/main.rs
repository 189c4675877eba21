//! The lab against real input: the installed documentation.

mod collect;
mod questions;
