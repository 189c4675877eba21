//! Bringing a model onto the disk, whole.
//!
//! A file stands under its final name only when every byte is there and its checksum, if one is
//! given, is right. Downloads resume where they were cut. Verified checksums are remembered by size
//! and modification time (`fetch/checksum.rs`), so that a restart does not read gigabytes again.
//! `fetch/https.rs` and `fetch/hub.rs` are the two ways over a network.

mod checksum;
mod https;
mod hub;

use std::path::{Path, PathBuf};

use crate::Source;
use checksum::Checksum;

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes on the disk.
    pub downloaded: u64,
    /// Bytes of the whole file, when known.
    pub total: Option<u64>,
}

/// Told again and again how far a download is.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The file does not exist.
    #[error("model file {0} does not exist: check the path in `source`")]
    Missing(PathBuf),
    /// A folder where a file was asked for, or the other way round.
    #[error("model source {path} is {found}, {wanted} is needed here")]
    Kind {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A hub source without a file where one file is needed.
    #[error("model source hf://{0} names no file: write hf://{0}/file.gguf")]
    NoFile(String),
    /// The content is not what the stack asks for.
    #[error("{origin} has sha256 {actual}, but {expected} is asked for: {advice}")]
    Checksum {
        /// The file or address.
        origin: String,
        /// The sum in the stack.
        expected: String,
        /// The sum of the content.
        actual: String,
        /// What to do.
        advice: &'static str,
    },
    /// The sum in the stack is no SHA-256.
    #[error("sha256 `{0}` is not 64 hexadecimal digits")]
    BadChecksum(String),
    /// The server answered with something else than the file.
    #[error("download {url}: the server answered {status}")]
    Status {
        /// The address.
        url: String,
        /// Its status line.
        status: String,
    },
    /// The server could not be reached, or the connection broke.
    #[error("download {url}: connection failed after {downloaded} bytes; try again to resume")]
    Connection {
        /// The address.
        url: String,
        /// Bytes that are kept.
        downloaded: u64,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The server closed the connection early.
    #[error("download {url}: ended after {downloaded} of {total} bytes; try again to resume")]
    Short {
        /// The address.
        url: String,
        /// Bytes that are kept.
        downloaded: u64,
        /// Bytes that were announced.
        total: u64,
    },
    /// The hub refused or could not be reached.
    #[error("download hf://{repo}/{file} at {revision}")]
    Hub {
        /// `owner/name`.
        repo: String,
        /// The file.
        file: String,
        /// The revision.
        revision: String,
        /// The cause.
        #[source]
        source: hf_hub::api::tokio::ApiError,
    },
    /// The disk refused.
    #[error("{action} {path}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl FetchError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Brings `source` onto the disk and returns the file: its own path for `file://`, else one under
/// the folder `cache`. With `sha256` the content is verified.
///
/// # Errors
/// The source cannot be reached, or its checksum is another; nothing stays behind then.
pub async fn fetch(
    source: &Source,
    cache: &Path,
    sha256: Option<&str>,
    progress: OnProgress<'_>,
) -> Result<PathBuf, FetchError> {
    let sum = Checksum::parse(sha256)?;
    match source {
        Source::File(path) => local_file(path, cache, &sum).await,
        Source::Https(url) => https::download(url, cache, &sum, progress).await,
        Source::HuggingFace {
            repo,
            file,
            revision,
        } => {
            let file = file
                .as_deref()
                .ok_or_else(|| FetchError::NoFile(repo.clone()))?;
            let path = hub::download(repo, revision, file, (cache, progress)).await?;
            let verdict = sum
                .verify(&path, cache, (source.to_string(), REMOVED))
                .await;
            if verdict.is_err() {
                hub::remove(&path).await;
            }
            verdict.map(|()| path)
        }
    }
}

/// Brings the files named in `files` of the folder, repository or address `source` onto the disk and
/// returns the folder that holds them all.
///
/// # Errors
/// As [`fetch`]; a file that the folder lacks is named.
pub async fn fetch_dir(
    source: &Source,
    cache: &Path,
    files: &[&str],
    progress: OnProgress<'_>,
) -> Result<PathBuf, FetchError> {
    match source {
        Source::File(folder) => {
            check_folder(folder)?;
            let missing = files
                .iter()
                .map(|file| folder.join(file))
                .find(|path| !path.is_file());
            missing.map_or_else(|| Ok(folder.clone()), |path| Err(FetchError::Missing(path)))
        }
        Source::Https(base) => {
            let mut folder = cache.to_path_buf();
            for file in files {
                let url = format!("{}/{file}", base.trim_end_matches('/'));
                let path = https::download(&url, cache, &Checksum::none(), progress).await?;
                folder = path.parent().unwrap_or(cache).to_path_buf();
            }
            Ok(folder)
        }
        Source::HuggingFace {
            repo,
            file: inner,
            revision,
        } => {
            let mut folder = cache.to_path_buf();
            for file in files {
                let name = inner.as_ref().map_or_else(
                    || (*file).to_owned(),
                    |inner| format!("{}/{file}", inner.trim_end_matches('/')),
                );
                let path = hub::download(repo, revision, &name, (cache, progress)).await?;
                folder = path.parent().unwrap_or(cache).to_path_buf();
            }
            Ok(folder)
        }
    }
}

const REMOVED: &str = "the download was removed; check that `sha256` belongs to this file, or \
                       remove it from the stack to accept the file as it is";
const KEPT: &str = "check that `sha256` belongs to this file, or copy the file again";

async fn local_file(path: &Path, cache: &Path, sum: &Checksum) -> Result<PathBuf, FetchError> {
    if path.is_dir() {
        let (found, wanted) = ("a folder", "a file");
        return Err(FetchError::Kind {
            path: path.into(),
            found,
            wanted,
        });
    }
    if !path.exists() {
        return Err(FetchError::Missing(path.into()));
    }
    sum.verify(path, cache, (path.display().to_string(), KEPT))
        .await?;
    Ok(path.to_path_buf())
}

fn check_folder(folder: &Path) -> Result<(), FetchError> {
    if folder.is_file() {
        let (found, wanted) = ("a file", "a folder");
        return Err(FetchError::Kind {
            path: folder.into(),
            found,
            wanted,
        });
    }
    if folder.is_dir() {
        Ok(())
    } else {
        Err(FetchError::Missing(folder.into()))
    }
}
