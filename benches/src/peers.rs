//! Peers, installed once into the cache at the versions that `peers/` pins; and those of the benchmark of nearest neighbours, a
//! Python process with faiss, hnswlib and usearch.
//!
//! Where they cannot be installed they are left out, loudly.

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
        let python = match python("peers", "requirements.txt") {
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

/// The interpreter that has the packages of a file in `peers/`, installed into a folder of the cache.
///
/// # Errors
/// They cannot be installed.
pub fn python(folder: &str, requirements: &str) -> anyhow::Result<PathBuf> {
    let home = cache(folder)?;
    install(&home, requirements, |wanted| {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&home))?;
        let mut pip = Command::new(home.join("bin/pip"));
        run(pip
            .args(["install", "--quiet", "--requirement"])
            .arg(wanted))
    })?;
    Ok(home.join("bin/python"))
}

/// The folder of a package that `peers/package.json` names, installed into the cache.
///
/// # Errors
/// It cannot be installed.
pub fn node_package(name: &str) -> anyhow::Result<PathBuf> {
    let home = cache("node-peers")?;
    install(&home, "package.json", |wanted| {
        std::fs::create_dir_all(&home)?;
        std::fs::copy(wanted, home.join("package.json"))?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund"]);
        run(npm.current_dir(&home))
    })?;
    Ok(home.join("node_modules").join(name))
}

fn cache(folder: &str) -> anyhow::Result<PathBuf> {
    let home = std::env::home_dir().context("there is no home folder for a cache")?;
    Ok(home.join(".cache/weir").join(folder))
}

/// Installs what a file in `peers/` names, unless what is installed came from the same file.
fn install(
    home: &Path,
    file: &str,
    install: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (wanted, have) = (source(file), home.join(format!("installed-{file}")));
    let wanted_text = std::fs::read_to_string(&wanted)?;
    if std::fs::read_to_string(&have).is_ok_and(|text| text == wanted_text) {
        return Ok(());
    }
    install(&wanted)?;
    std::fs::write(have, wanted_text)?;
    Ok(())
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
