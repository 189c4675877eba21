//! One file from the Hugging Face hub, through `hf-hub`: its cache layout, its resume, its token.
//!
//! `HF_ENDPOINT` names another hub; a token or the hub's own token file gives access.

use std::path::{Path, PathBuf};

use hf_hub::api::tokio::{ApiBuilder, Progress as HubProgress};
use hf_hub::{Cache, Repo, RepoType};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{FetchError, Fetcher, OnProgress, Progress};

/// Downloads the file `(repo, revision, path)` into the hub's folder of the cache unless it is there already.
pub(super) async fn download(
    fetcher: &Fetcher,
    (repo, revision, file): (&str, &str, &str),
    progress: OnProgress<'_>,
) -> Result<PathBuf, FetchError> {
    let failed = |source| FetchError::Hub {
        repo: repo.to_owned(),
        file: file.to_owned(),
        revision: revision.to_owned(),
        source,
    };
    let cache = Cache::new(fetcher.cache.join("hub"));
    let whole = Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned());
    if let Some(path) = cache.repo(whole.clone()).get(file) {
        return Ok(path);
    }
    let mut builder = ApiBuilder::from_env().with_progress(false);
    if let Some(token) = &fetcher.access.hub_token {
        builder = builder.with_token(Some(token.clone()));
    }
    let api = builder
        .with_cache_dir(cache.path().clone())
        .build()
        .map_err(failed)?;
    let (sender, receiver) = unbounded_channel();
    let tell = async move {
        api.repo(whole)
            .download_with_progress(file, Told(sender))
            .await
    };
    // The hub's callback must own its data, ours is borrowed: a channel lies between them. It closes
    // when the download has ended.
    let (path, ()) = tokio::join!(tell, pass_on(receiver, progress));
    path.map_err(failed)
}

/// Removes a download that turned out wrong: the link and what it points to.
pub(super) async fn remove(path: &Path) {
    if let Ok(blob) = tokio::fs::canonicalize(path).await {
        let _ = tokio::fs::remove_file(blob).await;
    }
    let _ = tokio::fs::remove_file(path).await;
}

/// What the hub tells.
enum Step {
    Total(u64),
    More(u64),
}

#[derive(Clone)]
struct Told(UnboundedSender<Step>);

impl HubProgress for Told {
    async fn init(&mut self, size: usize, _file: &str) {
        let _ = self.0.send(Step::Total(size as u64));
    }

    async fn update(&mut self, size: usize) {
        let _ = self.0.send(Step::More(size as u64));
    }

    async fn finish(&mut self) {}
}

async fn pass_on(mut steps: UnboundedReceiver<Step>, progress: OnProgress<'_>) {
    let mut now = Progress {
        downloaded: 0,
        total: None,
    };
    while let Some(step) = steps.recv().await {
        match step {
            Step::Total(total) => now.total = Some(total),
            Step::More(bytes) => now.downloaded += bytes,
        }
        progress(now);
    }
}
