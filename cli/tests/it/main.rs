//! The binary as a user runs it: stacks checked, served, broken and repaired, with a real engine and a real small model.
//!
//! What needs the engine or a model skips loudly when they are not on this machine (`weir-testenv`).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod attention;
mod authorities;
mod bad_input;
mod bench;
mod changes;
mod embedding_pool;
mod ending;
mod external;
mod fetch;
mod hub;
mod inspect;
mod judged;
mod load;
mod local;
mod logs;
mod memory;
mod migrate;
mod server;
mod signals;
mod support;
mod tokens;
mod upkeep;
mod validate;
