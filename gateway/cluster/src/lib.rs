//! A gateway in a cluster: where its plans come from, what it keeps for the time when its operator is away, how it leaves.
//!
//! The gateway itself is `gateway/server` and knows nothing of this: it is handed plans and endpoints. Nothing here decides
//! about a request, and nothing asks an API server. Reading on: `run.rs` from start to end, `world.rs` for what a plan
//! becomes, `control.rs` for the stream to the operator.

mod artifact;
mod backoff;
mod control;
mod files;
mod first;
mod https;
mod last_good;
mod memory;
mod plan_json;
mod report;
mod run;
mod tls;
mod waiting;
mod world;

pub use memory::{MemoryService, RemoteMemory};
pub use run::{Bound, Operator, Options, RunError, bind};
pub use tls::{Tls, TlsError};
