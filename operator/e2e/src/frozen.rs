//! Processes in pods that stand still, as one does that hangs.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How the command lines of our images' processes begin.
const PROGRAMS: [&[u8]; 2] = [b"/weir\0", b"/llama-server\0"];

/// Processes that were stopped where they stood, and go on when this is dropped.
pub(crate) struct Frozen(Vec<Pid>);

impl Frozen {
    /// Stops the process in each of these pods. Neither Kubernetes nor the process is told.
    pub(crate) fn of(pods: &[Pod]) -> Result<Self> {
        let found = processes(pods)?;
        let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        ensure!(
            found.len() == pods.len(),
            "{} processes of {names:?} were found on this machine",
            found.len()
        );
        let frozen = Self(found);
        for pid in &frozen.0 {
            kill(*pid, Signal::SIGSTOP).with_context(|| format!("stop process {pid}"))?;
        }
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            // One that was killed meanwhile needs nothing.
            let _ = kill(*pid, Signal::SIGCONT);
        }
    }
}

/// The processes of our images' programs in these pods: the node is this machine, and a control group is named after its pod.
fn processes(pods: &[Pod]) -> Result<Vec<Pid>> {
    let uids: Vec<String> = pods.iter().filter_map(ResourceExt::uid).collect();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let folder = entry?.path();
        let name = folder.file_name().and_then(|name| name.to_str());
        let Some(pid) = name.and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while it is looked at.
        let read = |file: &str| std::fs::read(folder.join(file)).unwrap_or_default();
        let groups = read("cgroup");
        let groups = String::from_utf8_lossy(&groups);
        let command = read("cmdline");
        let is_ours = PROGRAMS.iter().any(|program| command.starts_with(program));
        if is_ours && uids.iter().any(|uid| groups.contains(uid.as_str())) {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}
