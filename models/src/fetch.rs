//! Bringing a model onto the disk.

use std::path::{Path, PathBuf};

use crate::Source;

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes on the disk.
    pub downloaded: u64,
    /// Bytes of the whole file, when known.
    pub total: Option<u64>,
}

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The file does not exist.
    #[error("model file {0} does not exist")]
    Missing(PathBuf),
}

/// Brings `source` onto the disk and returns the file.
///
/// # Errors
/// The source cannot be reached or its checksum is wrong.
pub async fn fetch(
    _source: &Source,
    cache: &Path,
    _sha256: Option<&str>,
    _progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<PathBuf, FetchError> {
    Err(FetchError::Missing(cache.into()))
}

/// Brings the files named in `files` of `source` into one folder and returns the folder.
///
/// # Errors
/// As [`fetch`].
pub async fn fetch_dir(
    _source: &Source,
    cache: &Path,
    _files: &[&str],
    _progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<PathBuf, FetchError> {
    Err(FetchError::Missing(cache.into()))
}
