//! weir-engine against small HTTP servers with one named fault each, and against a real engine.

#![expect(
    clippy::unwrap_used,
    reason = "a double that cannot start fails its test"
)]

mod authorities;
mod cold;
mod doubles;
mod faults;
mod links;
mod places;
mod real;
mod replicas;
mod tokens;
