//! Behaviour of the router as its users see it: one module a concern.

mod artifact;
mod cell;
mod decisions;
mod features;
mod planted;
mod training;
