//! The control stream: plans and endpoints down to the gateways, reports up.
//!
//! `plans.rs` keeps what each gateway is told and its revisions, `ledger.rs` what gateways reported, `caller.rs` who
//! calls, `server.rs` the service, `relay.rs` what a follower does instead, `tls.rs` how connections are secured.

pub(crate) mod caller;
pub(crate) mod fetches;
pub(crate) mod ledger;
pub(crate) mod plans;
pub(crate) mod relay;
pub(crate) mod server;
pub(crate) mod tls;
