//! The model hub of the test cluster: `testenv/cluster/models.py`, run for as long as the scenarios.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

/// Serves the fetched models to pods over https. Ends when it is dropped.
pub(crate) struct Hub {
    /// Base address, without a slash at the end.
    pub(crate) url: String,
    /// Certificate of its authority, PEM.
    pub(crate) ca: String,
    client: reqwest::Client,
    process: Mutex<Child>,
}

/// The checkout that this was built from.
pub(crate) fn repository() -> Result<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Ok(repository.canonicalize()?)
}

impl Hub {
    /// Starts it; its authority is made once and kept in the folder `state`, so that whoever trusted it goes on to.
    pub(crate) async fn start(repository: &Path, state: &Path) -> Result<Self> {
        Self::run(repository, state, &[]).await
    }

    async fn run(repository: &Path, state: &Path, words: &[&str]) -> Result<Self> {
        let mut process = Command::new("python3")
            .arg(repository.join("testenv/cluster/models.py"))
            .arg("--state")
            .arg(state)
            .args(words)
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
            process: Mutex::new(process),
        })
    }

    /// Ends it, so that its address is free.
    pub(crate) async fn end(&self) -> Result<()> {
        self.process
            .lock()
            .await
            .kill()
            .await
            .context("end the hub")
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

    /// A file of it.
    pub(crate) async fn file(&self, path: &str) -> Result<Vec<u8>> {
        let answer = self
            .client
            .get(format!("{}{path}", self.url))
            .send()
            .await?;
        Ok(answer.error_for_status()?.bytes().await?.to_vec())
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

#[cfg(test)]
mod tests {
    use super::*;
    use weir_testenv::{TINY_RANDOM, component, program};

    /// What is read of a file until it ends or breaks off.
    async fn read(hub: &Hub, path: &str, range: &str) -> Result<Vec<u8>> {
        let request = hub.client.get(format!("{}{path}", hub.url));
        let mut answer = request.header("range", range).send().await?;
        answer.error_for_status_ref()?;
        let mut read = Vec::new();
        while let Ok(Some(piece)) = answer.chunk().await {
            read.extend(piece);
        }
        Ok(read)
    }

    #[tokio::test]
    async fn a_fault_holds_until_it_is_mended_and_what_is_sent_is_counted() -> Result<()> {
        let tools = ["python3", "openssl"].map(program);
        let (Some(model), [Some(_), Some(_)]) = (component(TINY_RANDOM), tools) else {
            return Ok(());
        };
        let (repository, state) = (repository()?, tempfile::tempdir()?);
        let hub = Hub::run(&repository, state.path(), &["--listen", "127.0.0.1:0"]).await?;
        let path = format!("/{TINY_RANDOM}");
        hub.fault(&path, json!({"status": 503})).await?;
        for _ in 0..2 {
            assert!(read(&hub, &path, "").await.is_err());
        }
        hub.mend().await?;
        let whole = read(&hub, &path, "").await?;
        assert_eq!(whole, std::fs::read(model)?);
        assert_eq!(hub.sent(&path).await?, whole.len() as u64);

        hub.forget().await?;
        hub.fault(&path, json!({"cutAfterBytes": 1000})).await?;
        assert_eq!(read(&hub, &path, "").await?, whole[..1000]);
        hub.mend().await?;
        assert_eq!(read(&hub, &path, "bytes=1000-").await?, whole[1000..]);
        assert_eq!(hub.sent(&path).await?, whole.len() as u64);
        let unknown = hub.fault(&path, json!({"slowly": true})).await;
        assert!(unknown.is_err(), "no scenario runs without its fault");
        Ok(())
    }
}
