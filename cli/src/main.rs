//! The `weir` binary: words on the command line into calls of the crates, their answers into text.
//!
//! One file a command. Nothing is decided here: `weir up` is `weir-local`, decisions are `weir-router`, rules for stacks
//! are `weir-crds` and `weir-reconcile`. Exit codes: 0 done, 1 it did not work, 2 the command line was wrong. Reading on:
//! `args.rs` (every command with its help), then the command's file.

mod args;
mod ask;
mod bench;
mod client;
mod completions;
mod down;
mod fail;
#[cfg(feature = "cluster")]
mod gateway;
#[cfg(feature = "cluster")]
mod keys;
mod lab;
mod logs;
mod memory;
#[cfg(feature = "cluster")]
mod memory_external;
mod memory_migrate;
mod memory_send;
#[cfg(feature = "cluster")]
mod memory_serve;
mod memory_svg;
mod memory_tables;
mod memory_train;
mod memory_upkeep;
mod model;
#[cfg(feature = "cluster")]
mod model_report;
mod openapi;
#[cfg(feature = "cluster")]
mod operator;
mod output;
#[cfg(feature = "cluster")]
mod process_log;
mod progress;
mod replay;
#[cfg(feature = "cluster")]
mod rollout;
mod route;
mod router;
mod router_calibrate;
mod router_eval;
mod router_gate;
mod router_ope;
mod router_svg;
mod schema;
mod status;
mod up;
mod validate;

use args::{Cli, Command};
use clap::Parser;
use fail::Failure;
use std::process::ExitCode;
use std::time::Duration;

/// What reading a corpus in took is given back; glibc keeps much of it.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long a thread may still work when its command has ended: the last decisions are written then, and a file of many GiB
/// that nobody waits for any more is not read to its end.
const LEFT_BEHIND: Duration = Duration::from_secs(6);

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::EngineShim(shim) = &cli.command {
        return ExitCode::from(weir_local::run_shim(&shim.engine, shim.exec));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Failure::from(error).report(),
    };
    let code = match runtime.block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    };
    runtime.shutdown_timeout(LEFT_BEHIND);
    code
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(args) => up::run(args).await,
        Command::Down(args) => down::run(&args).await,
        Command::Status(args) => status::run(&args).await,
        Command::Ask(args) => ask::run(args).await,
        Command::Logs(args) => logs::run(&args).await,
        Command::Validate(args) => validate::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Openapi => openapi::run(),
        Command::Memory(args) => memory::run(args.command).await,
        Command::Model(args) => model::run(args.command).await,
        Command::Router(args) => router::run(args.command).await,
        #[cfg(feature = "cluster")]
        Command::Rollout(args) => rollout::run(args).await,
        #[cfg(feature = "cluster")]
        Command::Keys(args) => keys::run(args).await,
        Command::Bench(args) => bench::run(args.command).await,
        Command::Lab(args) => lab::run(args.command).await,
        #[cfg(feature = "cluster")]
        Command::Gateway(args) => gateway::run(*args).await,
        #[cfg(feature = "cluster")]
        Command::Operator(args) => operator::run(*args).await,
        Command::Completions(args) => completions::run(&args),
        Command::EngineShim(_) => Ok(()),
    }
}
