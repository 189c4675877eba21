//! Behaviour of the router as its users see it: one module a concern.

mod allocation;
mod artifact;
mod cell;
mod comparison;
mod decisions;
mod features;
mod guard;
mod novelty;
mod planted;
mod training;
