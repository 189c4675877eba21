//! What the crate promises: plans and problems of whole stacks; objects and status of each kind; that no field of the API
//! is without effect.

mod cluster;
mod docs;
mod fields;
mod golden;
mod keep;
mod kinds;
mod local_mode;
mod plan;
mod rollouts;
mod router_version;
