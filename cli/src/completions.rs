//! `weir completions`: a script for a shell.

use crate::args::{Cli, CompletionsArgs};
use crate::fail::Failure;
use clap::CommandFactory;
use std::io;

#[expect(clippy::unnecessary_wraps, reason = "every command has the same shape")]
pub(crate) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    clap_complete::generate(args.shell, &mut Cli::command(), "weir", &mut io::stdout());
    Ok(())
}
