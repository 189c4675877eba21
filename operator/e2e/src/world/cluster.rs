//! The processes that make the cluster up, and what they leave on this machine.

use crate::world::World;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::Command;

/// How long an API server that was restarted, or that nobody restarted, may leave calls without an answer.
pub(super) const ANSWERS: Duration = Duration::from_secs(30);

impl World {
    /// Kills a process of the cluster and starts it again.
    pub(crate) async fn restart(&self, process: &str) -> Result<()> {
        let ended = self.cluster(&["restart", process]).status().await?;
        ensure!(ended.success(), "restart {process}: {ended}");
        // It serves again when the script ends. One call finds out which connections ended with the former process.
        self.answers()
            .await
            .with_context(|| format!("after the restart of {process}"))
    }

    /// Waits until the API server answers.
    pub(crate) async fn answers(&self) -> Result<()> {
        let answered = self.until(ANSWERS, async || {
            Ok(Some(self.client.apiserver_version().await?))
        });
        answered
            .await
            .map(drop)
            .context("the API server does not answer")
    }

    /// Prints which processes of the cluster are not alive, with the ends of their logs.
    pub(crate) async fn tell_cluster(&self) {
        if let Err(error) = self.cluster(&["status"]).status().await {
            println!("cluster.sh status: {error}");
        }
    }

    /// The script that runs the cluster.
    fn cluster(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.repository.join("testenv/cluster/cluster.sh"));
        command.args(arguments);
        command
    }

    /// Every write at the API server, one JSON line each.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.kubeconfig.with_file_name("log").join("audit.log")
    }

    /// What the kubelet keeps of its pods.
    pub(crate) fn kubelet(&self) -> PathBuf {
        self.kubeconfig.with_file_name("kubelet")
    }
}
