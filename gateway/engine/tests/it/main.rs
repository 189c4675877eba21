//! weir-engine against small HTTP servers with one named fault each, and against a real engine.

mod doubles;
mod faults;
mod real;
mod replicas;
