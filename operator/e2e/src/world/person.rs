//! What a person runs at this cluster: kubectl, helm, `weir`, and lines that they copied from a page.

use crate::world::World;
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::process::{Output, Stdio};
use tokio::process::{Child, Command};

impl World {
    /// Runs kubectl or helm; its standard output.
    pub(crate) async fn tool(&self, tool: &str, arguments: &[&str]) -> Result<String> {
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new(self.tools.join(tool))
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .output()
            .await
            .with_context(|| format!("run {tool}"))?;
        let told = String::from_utf8_lossy(&stderr);
        ensure!(
            status.success(),
            "{tool} {}: {status}: {told}",
            arguments.join(" ")
        );
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// Runs the program of a person, `weir`, on this cluster; how it ended and what it printed.
    pub(crate) async fn weir(&self, arguments: &[&str]) -> Result<Output> {
        let ended = Command::new(&self.weir)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .output();
        ended
            .await
            .with_context(|| format!("run {}: --weir says where it is", self.weir.display()))
    }

    /// Runs lines in a shell as a person would, in the checkout and with the tools on `PATH`; their standard output.
    pub(crate) async fn shell(&self, lines: &str) -> Result<String> {
        let output = self.shell_process(lines)?.wait_with_output().await?;
        let (said, told) = (output.stdout, String::from_utf8_lossy(&output.stderr));
        ensure!(
            output.status.success(),
            "{lines}: {}: {told}",
            output.status
        );
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// Starts lines in a shell that ends at the first that fails. The shell leads a process group, in which all that it starts is.
    pub(crate) fn shell_process(&self, lines: &str) -> Result<Child> {
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", lines])
            .current_dir(&self.repository)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("PATH", self.path()?)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command.spawn().context("run bash")
    }

    /// `PATH` with kubectl, helm and `weir` before everything else.
    fn path(&self) -> Result<OsString> {
        let weir = self.weir.parent().context("--weir names a file")?;
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let folders = [self.tools.clone(), weir.to_owned()];
        let all = folders.into_iter().chain(std::env::split_paths(&rest));
        Ok(std::env::join_paths(all)?)
    }
}
