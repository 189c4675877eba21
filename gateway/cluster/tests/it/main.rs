//! A gateway against an operator that speaks the real protocol over mutual TLS, and engines that answer over HTTP.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a double that cannot start fails its test"
)]

mod artifacts;
mod certs;
mod cold;
mod echo;
mod https;
mod leave;
mod node;
mod operator;
mod start;
mod stream;
mod tls;
