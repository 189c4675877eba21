//! The gateway over real HTTP and gRPC: behaviours against an in-process echo engine, and SmolLM2 where it is present.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a double that cannot start fails its test"
)]

mod answer_cache;
mod auth;
mod cold;
mod complaints;
mod completions;
mod counts;
mod echo;
mod embedder;
mod errors;
mod failover;
mod familiarity;
mod fault_proxy;
mod faults;
mod grpc;
mod grpc_calls;
mod grpc_errors;
mod guard;
mod issuer;
mod jwt;
mod labels;
mod leavers;
mod log;
mod memory;
mod near_duplicates;
mod openapi;
mod pinned;
mod places;
mod privacy;
mod quota;
mod real;
mod real_fields;
mod recall;
mod reload;
mod responses;
mod rollout;
mod sampling;
mod streams;
mod tools;
mod traces;
mod world;
mod write_back;
