//! The peers of the benchmark of nearest neighbours: a Python process with faiss, hnswlib and usearch.
//!
//! Their versions are pinned in `peers/requirements.txt` and installed once into the cache. Where that is not possible they
//! are left out, loudly.

use anyhow::Context;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Names that the process knows.
pub const NAMES: [&str; 3] = ["faiss", "hnswlib", "usearch"];

/// The process.
pub struct Peers {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peers {
    /// Starts the process on the vectors in `folder`; `None`, said loudly, where the peers cannot be installed.
    ///
    /// # Errors
    /// It was installed and does not start.
    pub fn start(folder: &Path, numbers: [usize; 3]) -> anyhow::Result<Option<Self>> {
        let python = match installed() {
            Ok(python) => python,
            Err(error) => {
                eprintln!("SKIPPED: faiss, hnswlib and usearch are not compared: {error:#}");
                return Ok(None);
            }
        };
        let mut child = Command::new(python)
            .arg(source("ann.py"))
            .arg(folder)
            .args(numbers.map(|number| number.to_string()))
            .env("OMP_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the peers")?;
        let input = child.stdin.take().context("a pipe")?;
        let output = BufReader::new(child.stdout.take().context("a pipe")?);
        Ok(Some(Self {
            child,
            input,
            output,
        }))
    }

    /// What the process answers to a command.
    ///
    /// # Errors
    /// It ended; its own words are on standard error.
    pub fn ask(&mut self, command: &str) -> anyhow::Result<Value> {
        writeln!(self.input, "{command}").context("ask the peers")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the peers' answer to {command:?}"))
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers")
        .join(name)
}

/// The interpreter that has the peers.
fn installed() -> anyhow::Result<PathBuf> {
    let cache = std::env::home_dir().context("there is no home folder for a cache")?;
    let home = cache.join(".cache/weir/peers");
    let python = home.join("bin/python");
    let (wanted, have) = (source("requirements.txt"), home.join("requirements.txt"));
    let wanted_text = std::fs::read_to_string(&wanted)?;
    if std::fs::read_to_string(&have).is_ok_and(|text| text == wanted_text) {
        return Ok(python);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&home))?;
    run(Command::new(home.join("bin/pip"))
        .args(["install", "--quiet", "--requirement"])
        .arg(&wanted))?;
    std::fs::copy(&wanted, &have)?;
    Ok(python)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("run {}", command.get_program().display()))?;
    anyhow::ensure!(
        status.success(),
        "{} ended with {status}",
        command.get_program().display()
    );
    Ok(())
}
