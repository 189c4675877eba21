//! Behaviour of the router as its users see it: one module a concern.

mod allocation;
mod artifact;
mod cell;
mod comparison;
mod decisions;
mod features;
mod planted;
mod training;
