//! Local mode: the same resources and the same pure functions as in a cluster, with engines as child processes.
//!
//! `weir up` is [`up()`]: it reads a stack, starts engines, opens the memory, runs the gateway in this process and follows
//! the files. This crate decides nothing about requests (that is `weir-gateway`) and nothing about what a stack means (that
//! is `weir-reconcile`); it makes the world that they speak about. It prints nothing: what happens is told as [`Event`]s.
//!
//! Reading on: `up.rs` (from start to end), `stage.rs` (a stack made ready), `world.rs` (what is served and how it
//! changes), `engine/` (processes), `control.rs` (how commands reach a running instance), `home.rs` (files).

mod artifact;
mod claim;
mod control;
mod digest;
mod engine;
mod event;
mod external;
mod files;
mod home;
mod listen;
mod memory;
mod moving;
mod offline;
mod probe;
mod search;
mod sent;
mod session;
mod shared;
mod stack;
mod stage;
mod stage_error;
mod status;
mod up;
mod upkeep;
mod world;

pub use control::{ControlError, ControlFile, Instance, Replies, Reply, Request};
pub use engine::{
    LocateError, RotatingLog, StartError, last_lines, locate_engine, open_log, previous, run_shim,
};
pub use event::{Event, Events};
pub use home::{Home, HomeError, StateDir, StateLock};
pub use memory::{IngestLine, IngestOptions, IngestSummary, MemoryCommandError, ingest};
pub use moving::{Embeddings, Moving, MovingError, open_moving};
pub use offline::{OfflineError, OfflineMemory, open_offline};
pub use search::{Found, Hop, Joined, Picture, SearchOptions};
pub use sent::Sent;
pub use session::Session;
pub use stack::{Loaded, StackError, load};
pub use stage_error::StageError;
pub use status::{GatewayPhase, MemoryStatus, PoolStatus, RouterStatus, Status};
pub use up::{Up, UpError, up};
pub use upkeep::{Outcome, Step, Task, UpkeepError, perform};
pub use weir_memory::NodeType;
