//! The process between `weir up` and an engine: it makes sure that no engine outlives its owner.
//!
//! `weir up` starts `weir engine-shim -- llama-server ...` as the leader of a new process group and keeps the write end of
//! its standard input. When that pipe ends (also because `weir up` was killed with SIGKILL, which it cannot notice) the
//! shim ends the engine: SIGTERM, then SIGKILL to the whole group. On Linux the engine also dies when the shim itself is
//! killed: the shim starts it through `weir engine-shim --exec -- ...`, which asks the kernel for that signal before
//! it becomes the engine. This file must stay synchronous and small. Its other end is `supervisor.rs`.

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgrp, getpid};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How long an engine may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(3);

/// Exit code when the engine could not be started at all, as shells use it.
const CANNOT_START: u8 = 127;

/// Runs `engine` until it ends or standard input does; returns the exit code for this process.
///
/// `exec` is the second step: this process becomes the engine and only returns when it could not.
pub fn run_shim(engine: &[OsString], exec: bool) -> u8 {
    let Some((program, args)) = engine.split_first() else {
        eprintln!("weir engine-shim: no engine given");
        return CANNOT_START;
    };
    if exec {
        return become_engine(program, args);
    }
    let mut child = match engine_command(program, args).stdin(Stdio::null()).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!(
                "weir engine-shim: cannot start {}: {error}",
                program.display()
            );
            return CANNOT_START;
        }
    };
    let engine_pid = Pid::from_raw(child.id().cast_signed());
    let owner_gone = watch_owner();
    let (ended_tx, ended) = channel();
    thread::spawn(move || {
        // The receiver hangs up only when the owner is gone and the group is being killed.
        let _ = ended_tx.send(child.wait());
    });
    supervise(engine_pid, &owner_gone, &ended)
}

fn supervise(
    engine: Pid,
    owner_gone: &Receiver<()>,
    ended: &Receiver<io::Result<ExitStatus>>,
) -> u8 {
    let poll = Duration::from_millis(50);
    loop {
        match ended.recv_timeout(poll) {
            Ok(status) => return exit_code(&status),
            Err(RecvTimeoutError::Disconnected) => return CANNOT_START,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if owner_gone.try_recv().is_ok() {
            break;
        }
    }
    let _ = kill(engine, Signal::SIGTERM);
    let code = ended
        .recv_timeout(GRACE)
        .map_or(CANNOT_START, |status| exit_code(&status));
    if getpgrp() == getpid() {
        // Children of the engine, and this process with them.
        let _ = killpg(getpgrp(), Signal::SIGKILL);
    }
    let _ = kill(engine, Signal::SIGKILL);
    code
}

/// Sends once standard input ends.
fn watch_owner() -> Receiver<()> {
    let (tx, rx) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => break,
                _ => {}
            }
        }
        let _ = tx.send(());
    });
    rx
}

/// The engine by way of this program's second step, so that the kernel ends it when the shim is killed.
#[cfg(target_os = "linux")]
fn engine_command(program: &OsString, args: &[OsString]) -> Command {
    let Ok(own) = std::env::current_exe() else {
        return plain_command(program, args);
    };
    let mut command = Command::new(own);
    command
        .arg("engine-shim")
        .arg("--exec")
        .arg("--")
        .arg(program)
        .args(args);
    command
}

#[cfg(not(target_os = "linux"))]
fn engine_command(program: &OsString, args: &[OsString]) -> Command {
    plain_command(program, args)
}

fn plain_command(program: &OsString, args: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

fn become_engine(program: &OsString, args: &[OsString]) -> u8 {
    #[cfg(target_os = "linux")]
    {
        let shim = nix::unistd::getppid();
        if nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).is_err()
            || nix::unistd::getppid() != shim
        {
            return CANNOT_START;
        }
    }
    let error = plain_command(program, args).exec();
    eprintln!(
        "weir engine-shim: cannot start {}: {error}",
        program.display()
    );
    CANNOT_START
}

/// The engine's own code, or 128 and the signal's number, as shells report it.
fn exit_code(status: &io::Result<ExitStatus>) -> u8 {
    let Ok(status) = status else {
        return CANNOT_START;
    };
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
