//! A stack in a temporary folder, and `weir` around it. Every process that a test starts ends with it.

use serde_json::Value;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// A folder with a stack, a home for state, and the `weir up` that serves it.
pub(crate) struct Stage {
    pub(crate) folder: tempfile::TempDir,
    /// Stands in the command line of every engine of this test.
    pub(crate) mark: String,
    up: Option<Child>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("weir-it-")
            .tempdir()
            .unwrap();
        let name = folder
            .path()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .to_lowercase();
        let mark: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        Self {
            folder,
            mark,
            up: None,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn stack(&self) -> PathBuf {
        self.path("stack.yaml")
    }

    /// Writes a stack with one pool for each name; each serves `model`.
    pub(crate) fn write_stack(&self, pools: &[&str], model: &Path, extra: &str) {
        std::fs::write(self.stack(), self.stack_of(pools, model, extra)).unwrap();
    }

    /// A stack as `write_stack` writes it; further fields of its gateway may be appended.
    pub(crate) fn stack_of(&self, pools: &[&str], model: &Path, extra: &str) -> String {
        let mut text = String::new();
        for pool in pools {
            text.push_str(&format!(
                "apiVersion: weir.dev/v1alpha1\nkind: ModelPool\nmetadata:\n  name: {pool}\n  labels: {{stack: it}}\n\
                 spec:\n  model:\n    name: {pool}-{}\n    source: file://{}\n{extra}  tier: device\n  privacy: local\n  \
                 engine:\n    llamaCpp: {{contextTokens: 512, slots: 1}}\n---\n",
                self.mark,
                model.display(),
            ));
        }
        text.push_str(
            "apiVersion: weir.dev/v1alpha1\nkind: InferenceGateway\nmetadata:\n  name: it\nspec:\n  listen: {port: 0}\n  \
             pools: {matchLabels: {stack: it}}\n  auth: {anonymous: {}}\n  logs: {sink: file}\n",
        );
        text
    }

    /// Changes the stack at once, so that nobody reads half of it.
    pub(crate) fn replace_stack(&self, text: &str) {
        let next = self.path("next.yaml");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, self.stack()).unwrap();
    }

    pub(crate) fn weir(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .args(args)
            .env("WEIR_HOME", self.path("home"))
            .env("NO_COLOR", "1");
        command
    }

    /// Runs `weir up` that is expected to fail; its exit code and what it said.
    pub(crate) fn up_fails(&self, args: &[&str]) -> (Option<i32>, String) {
        let stack = self.stack();
        let mut all = vec!["up", "-f", stack.to_str().unwrap()];
        all.extend(args);
        let output = self.weir(&all);
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Starts `weir up` and waits until it serves.
    pub(crate) fn up(&mut self) -> Value {
        let command = self.up_command();
        self.serve(command)
    }

    /// `up` in an environment and with words of the test's own.
    pub(crate) fn up_with(&mut self, change: impl FnOnce(&mut Command)) -> Value {
        let mut command = self.up_command();
        change(&mut command);
        self.serve(command)
    }

    /// `up` as a shell starts a job: in a process group of its own, which `ctrl_c` signals.
    pub(crate) fn up_as_job(&mut self) -> Value {
        let mut command = self.up_command();
        command.process_group(0);
        self.serve(command)
    }

    fn up_command(&self) -> Command {
        let stack = self.stack();
        let log = File::create(self.path("up.log")).unwrap();
        let mut command = self.command(&["up", "-f", stack.to_str().unwrap(), "--port", "0"]);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    fn serve(&mut self, mut up: Command) -> Value {
        self.up = Some(up.spawn().unwrap());
        self.status_when("it serves", |status| status["ready"] == true)
    }

    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.path("up.log")).unwrap_or_default()
    }

    pub(crate) fn status_when(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            let output = self.weir(&["status", "--output", "json"]);
            last = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if holds(&last) {
                return last;
            }
            if let Some(child) = &mut self.up {
                let ended = child.try_wait().unwrap();
                assert!(
                    ended.is_none(),
                    "weir up ended with {ended:?}: {}",
                    self.said()
                );
            }
            std::thread::sleep(PAUSE);
        }
        panic!("waited in vain until {what}: {last:#}\n{}", self.said());
    }

    pub(crate) fn kill_up(&mut self) {
        let mut child = self.up.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn terminate_up(&self) {
        kill("-TERM", &self.up.as_ref().unwrap().id().to_string());
    }

    /// SIGINT to the process group of `up_as_job`.
    pub(crate) fn ctrl_c(&self) {
        kill("-INT", &format!("-{}", self.up.as_ref().unwrap().id()));
    }

    /// SIGKILL to the engine of a model: the server itself, not the shim around it.
    pub(crate) fn kill_engine(&self, model: &str) {
        let engine = self.processes().into_iter().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(model) && !line.contains("engine-shim")
        });
        kill("-KILL", &engine.unwrap().to_string());
    }

    /// Adds documents to the stack, and fields to its gateway.
    pub(crate) fn extend_stack(&self, gateway_fields: &str, documents: &str) {
        let mut text = std::fs::read_to_string(self.stack()).unwrap();
        text.push_str(gateway_fields);
        text.push_str("---\n");
        text.push_str(documents);
        std::fs::write(self.stack(), text).unwrap();
    }

    /// Waits until `weir up` has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let child = self.up.as_mut().unwrap();
        let status = until("weir up has ended", || child.try_wait().unwrap());
        self.up = None;
        status.code()
    }

    /// Process ids of this test's engines and shims.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&format!("-{}\0", self.mark)) {
                found.push(pid);
            }
        }
        found
    }

    pub(crate) fn no_process_left(&self) {
        until("no engine is left", || {
            self.processes().is_empty().then_some(())
        });
    }

    /// A script in the place of the engine.
    pub(crate) fn script(&self, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path("engine.sh");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut child) = self.up.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a process, or to the group of a negative number.
pub(crate) fn kill(signal: &str, pid: &str) {
    let sent = Command::new("kill").args([signal, "--", pid]).status();
    assert!(sent.unwrap().success(), "kill {signal} {pid}");
}

/// Looks again and again until there is something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("waited in vain until {what}");
}
