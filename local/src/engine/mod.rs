//! Engines as child processes: found, started through a shim, watched, measured, restarted, ended.
//!
//! A pool's engine is one [`supervisor::Engine`]: a task that owns the process and publishes its [`EngineState`]. Who
//! serves what with them is decided elsewhere (`world.rs`). Read on in `supervisor.rs`.

pub(crate) mod bench;
pub(crate) mod launch;
mod log;
mod output;
mod pause;
mod shim;
pub(crate) mod supervisor;

pub use launch::{LocateError, locate_engine};
pub use log::{RotatingLog, last_lines, open_log, previous};
pub use shim::run_shim;
pub use supervisor::StartError;

pub(crate) use launch::EngineSpec;
pub(crate) use supervisor::{Engine, EngineState, Phase};
