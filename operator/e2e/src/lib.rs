//! What the two programs of this crate share: the scenarios (`main.rs`) and the numbers (`bench/main.rs`).

pub mod outside;
