//! One file over https, resumed where it was cut.
//!
//! The file grows as `NAME.part` and is renamed when it is whole. `If-Range` with the stored entity
//! tag makes a server that has another file by now send it from the start (RFC 9110, 13.1.5). Where
//! neither a tag nor a checksum vouches for it, bytes of two downloads are never joined.

use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use sha2::{Digest, Sha256};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::access::Address;
use super::checksum::Checksum;
use super::claim::Claim;
use super::{ATTEMPTS, FetchError, Fetcher, OnProgress, Progress, REMOVED};

/// Downloads `address` to `target` unless it is there already; one after the other, whatever source each names it by: a
/// file itself, or the folder that holds it.
pub(super) async fn download(
    fetcher: &Fetcher,
    address: &Address,
    target: &Path,
    (sum, progress): (&Checksum, OnProgress<'_>),
) -> Result<PathBuf, FetchError> {
    let (cache, url) = (fetcher.cache.as_path(), address.shown.as_str());
    // A volume is not mounted at the same path by all who share it.
    let in_cache = target.strip_prefix(cache).unwrap_or(target);
    let _claim = Claim::take(&in_cache.to_string_lossy(), cache).await;
    if !target.is_file() {
        let folder = target.parent().unwrap_or(cache);
        fs::create_dir_all(folder)
            .await
            .map_err(FetchError::io("create", folder))?;
        let part = Part::of(fetcher, (address, target), sum.is_given());
        let mut attempt = 1;
        while let Err(error) = part.fill(progress).await {
            let broken = matches!(
                error,
                FetchError::Connection { .. } | FetchError::Short { .. }
            );
            if !broken || attempt == ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
        }
        if let Err(error) = sum
            .verify(&part.path, cache, (url.to_owned(), REMOVED))
            .await
        {
            part.remove().await;
            return Err(error);
        }
        fs::rename(&part.path, target)
            .await
            .map_err(FetchError::io("write", target))?;
        let _ = fs::remove_file(&part.tag).await;
        return Ok(target.to_path_buf());
    }
    let verdict = sum.verify(target, cache, (url.to_owned(), REMOVED)).await;
    if verdict.is_err() {
        let _ = fs::remove_file(target).await;
    }
    verdict.map(|()| target.to_path_buf())
}

/// Removes what was downloaded of an address, as errors name it.
pub(super) async fn forget(shown: &str, cache: &Path) {
    let _ = fs::remove_file(target(shown, cache)).await;
}

/// `CACHE/https/HASH/NAME`, HASH from the address without its last part: files of one folder stay
/// together.
pub(super) fn target(url: &str, cache: &Path) -> PathBuf {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let query = &url[path.len()..];
    let hash = hex::encode(&Sha256::digest(format!("{folder}{query}"))[..8]);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    let name = if name.trim_matches('.').is_empty() {
        "model".to_owned()
    } else {
        name
    };
    cache.join("https").join(hash).join(name)
}

/// A download under way: the bytes so far and the entity tag they belong to.
struct Part<'a> {
    fetcher: &'a Fetcher,
    address: &'a Address,
    path: PathBuf,
    tag: PathBuf,
    /// Whether a checksum tells in the end that the bytes are of one file.
    verified: bool,
}

impl<'a> Part<'a> {
    fn of(fetcher: &'a Fetcher, (address, target): (&'a Address, &Path), verified: bool) -> Self {
        let with = |end: &str| {
            let mut name = target.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        Self {
            fetcher,
            address,
            path: with(".part"),
            tag: with(".etag"),
            verified,
        }
    }

    async fn remove(&self) {
        let _ = fs::remove_file(&self.path).await;
        let _ = fs::remove_file(&self.tag).await;
    }

    /// Takes up the download where it stands and carries it to its end.
    async fn fill(&self, progress: OnProgress<'_>) -> Result<(), FetchError> {
        let tag = fs::read_to_string(&self.tag).await.ok();
        let have = match fs::metadata(&self.path).await {
            Ok(facts) if tag.is_some() || self.verified => facts.len(),
            _ => 0,
        };
        let response = self.request(have, tag.as_deref()).await?;
        let status = response.status();
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            return self.judge_end(have, response.headers()).await;
        }
        if !status.is_success() {
            let url = self.address.shown.clone();
            return Err(FetchError::Status { url, status });
        }
        let have = match status {
            StatusCode::PARTIAL_CONTENT if !goes_on(response.headers(), have, tag.as_deref()) => {
                return Err(self.start_over(0).await);
            }
            StatusCode::PARTIAL_CONTENT => have,
            _ => 0,
        };
        let total = response.content_length().map(|rest| have + rest);
        let file = self.open(have, response.headers()).await?;
        self.receive(response, file, (have, total), progress).await
    }

    async fn request(&self, have: u64, tag: Option<&str>) -> Result<Response, FetchError> {
        // The cause would name the address with its signature.
        let failed = |source: reqwest::Error| FetchError::Connection {
            url: self.address.shown.clone(),
            downloaded: have,
            source: source.without_url(),
        };
        let mut request = self.fetcher.client.get(&self.address.url);
        if let Some(token) = &self.address.bearer_token {
            request = request.bearer_auth(token);
        }
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
            if let Some(tag) = tag {
                request = request.header(IF_RANGE, tag);
            }
        }
        request.send().await.map_err(failed)
    }

    /// 416: either every byte is there already, or what is there belongs to another file.
    async fn judge_end(&self, have: u64, headers: &HeaderMap) -> Result<(), FetchError> {
        let total = headers
            .get(CONTENT_RANGE)
            .and_then(|range| range.to_str().ok());
        let total = total.and_then(|range| range.strip_prefix("bytes */")?.parse::<u64>().ok());
        if total == Some(have) {
            return Ok(());
        }
        Err(self.start_over(total.unwrap_or(0)).await)
    }

    /// What is there is of no use: the next attempt begins anew.
    async fn start_over(&self, total: u64) -> FetchError {
        self.remove().await;
        FetchError::Short {
            url: self.address.shown.clone(),
            downloaded: 0,
            total,
        }
    }

    async fn open(&self, have: u64, headers: &HeaderMap) -> Result<File, FetchError> {
        if have == 0 {
            match strong_tag(headers) {
                Some(tag) => fs::write(&self.tag, tag)
                    .await
                    .map_err(FetchError::io("write", &self.tag))?,
                None => drop(fs::remove_file(&self.tag).await),
            }
        }
        let mut options = OpenOptions::new();
        options
            .create(true)
            .write(true)
            .append(have > 0)
            .truncate(have == 0);
        options
            .open(&self.path)
            .await
            .map_err(FetchError::io("write", &self.path))
    }

    async fn receive(
        &self,
        response: Response,
        mut file: File,
        (have, total): (u64, Option<u64>),
        progress: OnProgress<'_>,
    ) -> Result<(), FetchError> {
        let mut downloaded = have;
        progress(Progress { downloaded, total });
        let mut chunks = response.bytes_stream();
        let mut broken = None;
        while let Some(chunk) = chunks.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(source) => {
                    broken = Some(source.without_url());
                    break;
                }
            };
            file.write_all(&chunk)
                .await
                .map_err(FetchError::io("write", &self.path))?;
            downloaded += chunk.len() as u64;
            progress(Progress { downloaded, total });
        }
        file.flush()
            .await
            .map_err(FetchError::io("write", &self.path))?;
        file.sync_all()
            .await
            .map_err(FetchError::io("write", &self.path))?;
        let url = self.address.shown.clone();
        match (broken, total) {
            (Some(source), _) => Err(FetchError::Connection {
                url,
                downloaded,
                source,
            }),
            (None, Some(total)) if downloaded < total => Err(FetchError::Short {
                url,
                downloaded,
                total,
            }),
            (None, _) => Ok(()),
        }
    }
}

/// The entity tag, unless it is a weak one, which does not vouch for equal bytes.
fn strong_tag(headers: &HeaderMap) -> Option<&str> {
    let tag = headers.get(ETAG).and_then(|tag| tag.to_str().ok());
    tag.filter(|tag| !tag.starts_with("W/"))
}

/// Whether a partial answer begins after the `have` bytes that are there, and is of the same file.
fn goes_on(headers: &HeaderMap, have: u64, tag: Option<&str>) -> bool {
    let range = headers
        .get(CONTENT_RANGE)
        .and_then(|range| range.to_str().ok());
    let first = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-'));
    let begins = first.and_then(|(first, _)| first.trim().parse().ok()) == Some(have);
    let other = tag
        .zip(strong_tag(headers))
        .is_some_and(|(then, now)| then != now);
    begins && !other
}
