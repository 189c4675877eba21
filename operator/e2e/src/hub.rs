//! The model hub of the test cluster: `testenv/cluster/models.py`, run for as long as the scenarios.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Serves the fetched models to pods over https. Ends when it is dropped.
pub(crate) struct Hub {
    /// Base address, without a slash at the end.
    pub(crate) url: String,
    /// Certificate of its authority, PEM.
    pub(crate) ca: String,
    client: reqwest::Client,
    _process: Child,
}

impl Hub {
    /// Starts it; its authority is made once and kept in the folder `state`, so that whoever trusted it goes on to.
    pub(crate) async fn start(repository: &Path, state: &Path) -> Result<Self> {
        let mut process = Command::new("python3")
            .arg(repository.join("testenv/cluster/models.py"))
            .arg("--state")
            .arg(state)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the model hub")?;
        let output = process.stdout.take().context("the hub has an output")?;
        let line = BufReader::new(output).lines().next_line().await?;
        let facts = line.context("the model hub ended at once")?;
        let facts: Value = serde_json::from_str(&facts).context("the hub's first line")?;
        let url = facts["url"].as_str().context("the hub's url")?.to_owned();
        let ca = PathBuf::from(facts["ca"].as_str().context("the hub's ca")?);
        let ca = std::fs::read_to_string(ca)?;
        let root = reqwest::Certificate::from_pem(ca.as_bytes())?;
        let client = reqwest::Client::builder()
            .add_root_certificate(root)
            .no_proxy()
            .build()?;
        Ok(Self {
            url,
            ca,
            client,
            _process: process,
        })
    }

    /// Sets a fault for a path, as models.py describes it.
    pub(crate) async fn fault(&self, path: &str, fault: Value) -> Result<()> {
        let url = format!("{}/control/faults", self.url);
        let body = json!({"path": path, "fault": fault});
        let answer = self.client.post(url).json(&body).send().await?;
        let status = answer.status();
        ensure!(status.is_success(), "the hub refused a fault: {status}");
        Ok(())
    }

    /// Bytes that were sent of a path since [`Hub::forget`].
    pub(crate) async fn sent(&self, path: &str) -> Result<u64> {
        let url = format!("{}/control/requests", self.url);
        let answer = self.client.get(url).send().await?.error_for_status()?;
        let requests: Vec<Value> = serde_json::from_slice(&answer.bytes().await?)?;
        let own = requests.iter().filter(|request| request["path"] == path);
        let sent = own.filter_map(|request| request["bytesSent"].as_u64());
        Ok(sent.sum())
    }

    /// Forgets every request so far.
    pub(crate) async fn forget(&self) -> Result<()> {
        let url = format!("{}/control/requests", self.url);
        self.client.delete(url).send().await?.error_for_status()?;
        Ok(())
    }

    /// Ends every fault.
    pub(crate) async fn mend(&self) -> Result<()> {
        let url = format!("{}/control/faults", self.url);
        self.client.delete(url).send().await?.error_for_status()?;
        Ok(())
    }
}
