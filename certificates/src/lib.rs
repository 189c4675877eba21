//! Certificates in PEM, as a mounted folder or a Secret has them: read, checked, and read again when they changed.
//!
//! `pair.rs`: what makes a certificate and its key usable. `reloaded.rs`: files that are renewed in place, of which the last
//! good ones stay in use. What is served with them, and who is let in, is decided where they are used: `gateway/cluster`
//! (clients), `memory/service` (gateways), `operator/controller` (what people are told of a Secret).

mod pair;
mod reloaded;

pub use pair::{CERTIFICATE, CertificateError, KEY, Pair, certificates};
pub use reloaded::Reloaded;
