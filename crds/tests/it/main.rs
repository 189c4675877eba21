//! What the crate promises: committed CRDs, messages for bad stacks, examples that are valid.

mod bad;
mod examples;
mod generated;
mod golden;
mod rollout;
