//! One file from the Hugging Face hub: its address, its place in the cache, and what the hub's refusals mean.
//!
//! The bytes come as those of any https source (`https.rs`): resumed, within time limits, over the CA bundle, and without
//! the token where the hub sends the reader on to another host. `HF_ENDPOINT` names another hub.

use std::path::PathBuf;

use reqwest::StatusCode;
use serde::Deserialize;

use super::access::Address;
use super::checksum::Checksum;
use super::{FetchError, Fetcher, OnProgress, https};
use crate::Source;

const HUB: &str = "https://huggingface.co";
/// Most files that a message lists.
const LISTED_MAX: usize = 8;

/// A file of a repository.
#[derive(Clone, Copy)]
pub(super) struct HubFile<'a> {
    pub(super) repo: &'a str,
    pub(super) revision: &'a str,
    pub(super) file: &'a str,
}

/// Downloads the file into the hub's folder of the cache unless it is there already.
pub(super) async fn download(
    fetcher: &Fetcher,
    wanted: HubFile<'_>,
    sum: &Checksum,
    progress: OnProgress<'_>,
) -> Result<PathBuf, FetchError> {
    let address = Address {
        shown: wanted.shown(),
        url: format!(
            "{}/{}/resolve/{}/{}",
            hub(fetcher),
            wanted.repo,
            wanted.revision(),
            wanted.file
        ),
        bearer_token: fetcher.access.hub_token.clone(),
    };
    let target = wanted.target(fetcher);
    match https::download(fetcher, &address, &target, (sum, progress)).await {
        Err(FetchError::Status { url, status }) => {
            Err(match advice(fetcher, wanted, status).await {
                Some(advice) => FetchError::Hub {
                    file: url,
                    status,
                    advice,
                },
                None => FetchError::Status { url, status },
            })
        }
        done => done,
    }
}

/// Removes a file that was downloaded.
pub(super) async fn forget(fetcher: &Fetcher, kept: HubFile<'_>) {
    let _ = tokio::fs::remove_file(kept.target(fetcher)).await;
}

impl HubFile<'_> {
    fn shown(self) -> String {
        let source = Source::HuggingFace {
            repo: self.repo.to_owned(),
            file: Some(self.file.to_owned()),
            revision: self.revision.to_owned(),
        };
        source.to_string()
    }

    /// The revision as one part of an address or path.
    fn revision(self) -> String {
        self.revision.replace('/', "%2F")
    }

    /// `CACHE/hub/OWNER--NAME/REVISION/FILE`. A branch is what it was when it was first asked for.
    fn target(self, fetcher: &Fetcher) -> PathBuf {
        let folder = fetcher.cache.join("hub").join(self.repo.replace('/', "--"));
        folder.join(self.revision()).join(self.file)
    }
}

fn hub(fetcher: &Fetcher) -> &str {
    let endpoint = fetcher.access.hub_endpoint.as_deref().unwrap_or(HUB);
    endpoint.trim_end_matches('/')
}

/// What to do about a refusal; nothing where only waiting helps.
async fn advice(fetcher: &Fetcher, wanted: HubFile<'_>, status: StatusCode) -> Option<String> {
    Some(match status {
        StatusCode::UNAUTHORIZED if fetcher.access.hub_token.is_some() => {
            "it does not take the token: check HF_TOKEN".to_owned()
        }
        StatusCode::UNAUTHORIZED => {
            "it has no public repository of that name: check the name, or set HF_TOKEN to a token that may read it"
                .to_owned()
        }
        StatusCode::FORBIDDEN => {
            "the repository is gated: accept its terms on its page, and set HF_TOKEN to a token of that account"
                .to_owned()
        }
        StatusCode::NOT_FOUND => match files(fetcher, wanted).await {
            Some(files) => format!("the repository has no file {}; {files}", wanted.file),
            None => format!(
                "there is no repository {} with a revision {}: check both in `source`",
                wanted.repo, wanted.revision
            ),
        },
        _ => return None,
    })
}

#[derive(Deserialize)]
struct Listing {
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// The repository's files of the kind that was asked for, in words; `None` where the hub does not know the repository.
async fn files(fetcher: &Fetcher, wanted: HubFile<'_>) -> Option<String> {
    let (hub, repo, revision) = (hub(fetcher), wanted.repo, wanted.revision());
    let mut request = fetcher
        .client
        .get(format!("{hub}/api/models/{repo}/revision/{revision}"));
    if let Some(token) = &fetcher.access.hub_token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.ok()?.error_for_status().ok()?;
    let listing: Listing = response.json().await.ok()?;
    let kind = wanted.file.rsplit_once('.').map_or("", |(_, kind)| kind);
    let names = listing.siblings.into_iter().map(|file| file.rfilename);
    let mut names: Vec<String> = names.filter(|name| name.ends_with(kind)).collect();
    let more = names.len().saturating_sub(LISTED_MAX);
    names.truncate(LISTED_MAX);
    let names = names.join(", ");
    Some(match (names.is_empty(), more) {
        (true, _) => format!("it has none that ends in {kind}"),
        (false, 0) => format!("it has {names}"),
        (false, more) => format!("it has {names} and {more} more"),
    })
}
