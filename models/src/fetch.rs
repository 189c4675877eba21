//! Bringing a model onto the disk, whole.
//!
//! A file stands under its final name only when every byte is there and its checksum, if one is
//! given, is right. Downloads resume where they were cut. Verified checksums are remembered by size
//! and modification time (`fetch/checksum.rs`), so that a restart does not read gigabytes again.
//! `fetch/https.rs` and `fetch/hub.rs` are the two ways over a network; what opens doors on them is in `fetch/access.rs`.
//! Whoever shares a cache waits for each other in `fetch/claim.rs`.

mod access;
mod checksum;
mod claim;
mod https;
mod hub;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::Source;
use access::Address;
use checksum::Checksum;
use claim::Claim;
use hub::HubFile;

pub use access::{Access, S3Access};

/// How often a download is tried, each time from where the connection broke, before the caller hears of it.
const ATTEMPTS: usize = 4;

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
        /// Its status.
        status: reqwest::StatusCode,
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
    /// The hub refused.
    #[error("download {file}: the hub answered {status}: {advice}")]
    Hub {
        /// The file, as a stack names it.
        file: String,
        /// The hub's status.
        status: reqwest::StatusCode,
        /// What that means and what to do.
        advice: String,
    },
    /// The bundle of certificate authorities cannot be used.
    #[error("CA bundle {path}: {reason}")]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The endpoint of the object store is no address.
    #[error("S3 endpoint {0:?} is no address: write https://HOST in AWS_ENDPOINT_URL")]
    S3Endpoint(String),
    /// The disk is full.
    #[error(
        "{action} {path}: no space is left: free some, or keep downloads on a larger disk (in a cluster: a larger volume in \
         spec.cache)"
    )]
    Full {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
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
        move |source: std::io::Error| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full {
                action,
                path,
                source,
            },
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }
}

/// Fetches models into one folder.
#[derive(Clone, Debug)]
pub struct Fetcher {
    cache: PathBuf,
    access: Access,
    client: reqwest::Client,
}

impl Fetcher {
    /// A fetcher that keeps what it downloads under `cache`.
    ///
    /// # Errors
    /// The CA bundle of `access` holds no certificate.
    pub fn new(cache: impl Into<PathBuf>, access: Access) -> Result<Self, FetchError> {
        Ok(Self {
            cache: cache.into(),
            client: access.client()?,
            access,
        })
    }

    /// Brings `source` onto the disk and returns the file: its own path for `file://`, else one under the cache. With
    /// `sha256` the content is verified.
    ///
    /// # Errors
    /// The source cannot be reached, or its checksum is another; nothing stays behind then.
    pub async fn fetch(
        &self,
        source: &Source,
        sha256: Option<&str>,
        progress: OnProgress<'_>,
    ) -> Result<PathBuf, FetchError> {
        let sum = Checksum::parse(sha256)?;
        self.bring(source, &sum, progress).await
    }

    /// [`Fetcher::fetch`], and puts the file under the name `to`: at once and whole, as another name of the same bytes
    /// where the file system allows it, else as a copy.
    ///
    /// # Errors
    /// As [`Fetcher::fetch`], or the disk refuses.
    pub async fn fetch_to(
        &self,
        source: &Source,
        sha256: Option<&str>,
        to: &Path,
        progress: OnProgress<'_>,
    ) -> Result<(), FetchError> {
        let sum = Checksum::parse(sha256)?;
        let _claim = self.claim(source).await;
        let file = self.bring(source, &sum, progress).await?;
        deliver(&file, to).await
    }

    /// SHA-256 of a file, lower-case hexadecimal; computed once for each state of the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn sha256(&self, path: &Path) -> Result<String, FetchError> {
        checksum::sum(path, &self.cache).await
    }

    /// Brings the files named in `files` of the folder, repository, prefix or address `source` onto the disk and returns
    /// the folder that holds them all.
    ///
    /// # Errors
    /// As [`Fetcher::fetch`]; a file that the folder lacks is named.
    pub async fn fetch_dir(
        &self,
        source: &Source,
        files: &[&str],
        progress: OnProgress<'_>,
    ) -> Result<PathBuf, FetchError> {
        self.bring_dir(source, files, progress).await
    }

    /// [`Fetcher::fetch_dir`], and puts the files into the folder `to`, as [`Fetcher::fetch_to`] does with one.
    ///
    /// # Errors
    /// As [`Fetcher::fetch_dir`], or the disk refuses.
    pub async fn fetch_dir_to(
        &self,
        source: &Source,
        files: &[&str],
        to: &Path,
        progress: OnProgress<'_>,
    ) -> Result<(), FetchError> {
        let _claim = self.claim(source).await;
        let folder = self.bring_dir(source, files, progress).await?;
        for file in files {
            deliver(&folder.join(file), &to.join(file)).await?;
        }
        Ok(())
    }

    /// Removes what [`Fetcher::fetch`] downloaded of `source`, so that it is downloaded again. A file of the user's own
    /// stays.
    pub async fn forget(&self, source: &Source) {
        match source {
            Source::File(_) | Source::HuggingFace { file: None, .. } => {}
            Source::Https(_) | Source::S3 { .. } => {
                https::forget(&source.to_string(), &self.cache).await;
            }
            Source::HuggingFace {
                repo,
                file: Some(file),
                revision,
            } => {
                let kept = HubFile {
                    repo,
                    revision,
                    file,
                };
                hub::forget(self, kept).await;
            }
        }
    }

    /// Waits until nobody else brings this source to its place; a file of this machine is only read.
    async fn claim(&self, source: &Source) -> Option<Claim> {
        match source {
            Source::File(_) => None,
            _ => Some(Claim::take(&source.to_string(), &self.cache).await),
        }
    }

    async fn bring(
        &self,
        source: &Source,
        sum: &Checksum,
        progress: OnProgress<'_>,
    ) -> Result<PathBuf, FetchError> {
        match source {
            Source::File(path) => local_file(path, &self.cache, sum).await,
            Source::Https(_) | Source::S3 { .. } => {
                let address = self.access.address(source, None)?;
                self.download(&address, (sum, progress)).await
            }
            Source::HuggingFace {
                repo,
                file,
                revision,
            } => {
                let file = file
                    .as_deref()
                    .ok_or_else(|| FetchError::NoFile(repo.clone()))?;
                let wanted = HubFile {
                    repo,
                    revision,
                    file,
                };
                hub::download(self, wanted, sum, progress).await
            }
        }
    }

    async fn download(
        &self,
        address: &Address,
        how: (&Checksum, OnProgress<'_>),
    ) -> Result<PathBuf, FetchError> {
        let target = https::target(&address.shown, &self.cache);
        https::download(self, address, &target, how).await
    }

    async fn bring_dir(
        &self,
        source: &Source,
        files: &[&str],
        progress: OnProgress<'_>,
    ) -> Result<PathBuf, FetchError> {
        if let Source::File(folder) = source {
            check_folder(folder)?;
            let missing = files
                .iter()
                .map(|file| folder.join(file))
                .find(|path| !path.is_file());
            return missing
                .map_or_else(|| Ok(folder.clone()), |path| Err(FetchError::Missing(path)));
        }
        let mut folder = self.cache.clone();
        for file in files {
            let path = match source {
                Source::HuggingFace {
                    repo,
                    file: inner,
                    revision,
                } => {
                    let name = inner.as_ref().map_or_else(
                        || (*file).to_owned(),
                        |inner| format!("{}/{file}", inner.trim_end_matches('/')),
                    );
                    let wanted = HubFile {
                        repo,
                        revision,
                        file: &name,
                    };
                    hub::download(self, wanted, &Checksum::none(), progress).await?
                }
                _ => {
                    let address = self.access.address(source, Some(file))?;
                    self.download(&address, (&Checksum::none(), progress))
                        .await?
                }
            };
            folder = path.parent().unwrap_or(&self.cache).to_path_buf();
        }
        Ok(folder)
    }
}

/// Puts a fetched file under the name `to`. Nobody else may do so at the same time: with the other's link at its place the
/// copy would be written over the file itself.
async fn deliver(file: &Path, to: &Path) -> Result<(), FetchError> {
    let write = || FetchError::io("write", to);
    let folder = to.parent().unwrap_or(Path::new("."));
    tokio::fs::create_dir_all(folder)
        .await
        .map_err(FetchError::io("create", folder))?;
    let file = tokio::fs::canonicalize(file)
        .await
        .map_err(FetchError::io("read", file))?;
    if tokio::fs::canonicalize(to)
        .await
        .is_ok_and(|there| there == file)
    {
        return Ok(());
    }
    let mut part = to.as_os_str().to_owned();
    part.push(".new");
    let part = PathBuf::from(part);
    let _ = tokio::fs::remove_file(&part).await;
    if tokio::fs::hard_link(&file, &part).await.is_err() {
        tokio::fs::copy(&file, &part).await.map_err(write())?;
    }
    tokio::fs::rename(&part, to).await.map_err(write())?;
    // Renaming one name of a file onto another name of the same file does nothing (POSIX), so the first would stay.
    let _ = tokio::fs::remove_file(&part).await;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_what_to_do() {
        let told = |kind: ErrorKind| {
            let error = FetchError::io("write", Path::new("/models/a.gguf"))(kind.into());
            error.to_string()
        };
        let full = told(ErrorKind::StorageFull);
        assert!(
            full.starts_with("write /models/a.gguf: no space is left: "),
            "{full}"
        );
        assert_eq!(told(ErrorKind::PermissionDenied), "write /models/a.gguf");
    }
}
