//! SHA-256 of large files, computed once.
//!
//! A sum that was computed is remembered in `CACHE/checksums/` under the file's path, with the size
//! and modification time that it was computed for; a file that changed is read again.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::FetchError;

/// The sum that a file must have, if any.
#[derive(Debug, Clone)]
pub(super) struct Checksum(Option<String>);

/// What is remembered about a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    path: PathBuf,
    bytes: u64,
    modified_ns: u128,
    sha256: String,
}

impl Checksum {
    /// Accepts every content.
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn parse(sum: Option<&str>) -> Result<Self, FetchError> {
        let Some(sum) = sum else {
            return Ok(Self::none());
        };
        let plain = sum
            .trim()
            .trim_start_matches("sha256:")
            .to_ascii_lowercase();
        if plain.len() != 64 || !plain.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(FetchError::BadChecksum(sum.to_owned()));
        }
        Ok(Self(Some(plain)))
    }

    /// Whether there is one to compare with.
    pub(super) fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// Compares the file at `path`; `cache` holds what is remembered. `told` is how an error names
    /// the origin, and its advice.
    pub(super) async fn verify(
        &self,
        path: &Path,
        cache: &Path,
        told: (String, &'static str),
    ) -> Result<(), FetchError> {
        let Some(expected) = self.0.clone() else {
            return Ok(());
        };
        let actual = sum(path, cache).await?;
        if actual == expected {
            return Ok(());
        }
        let (origin, advice) = told;
        Err(FetchError::Checksum {
            origin,
            expected,
            actual,
            advice,
        })
    }
}

/// The sum of the file at `path`; `cache` holds what is remembered.
pub(super) async fn sum(path: &Path, cache: &Path) -> Result<String, FetchError> {
    let (path, notes) = (path.to_path_buf(), cache.join("checksums"));
    tokio::task::spawn_blocking(move || remembered_sum(&path, &notes))
        .await
        .expect("hashing a file does not panic")
}

/// The sum of the file, from the note when the file is still the same.
fn remembered_sum(path: &Path, notes: &Path) -> Result<String, FetchError> {
    let mut found = describe(path).map_err(FetchError::io("read", path))?;
    let note = notes.join(hex::encode(
        &Sha256::digest(found.path.as_os_str().as_encoded_bytes())[..16],
    ));
    let known = fs::read(&note)
        .ok()
        .and_then(|text| serde_json::from_slice::<Remembered>(&text).ok());
    if let Some(known) = known {
        found.sha256.clone_from(&known.sha256);
        if found == known {
            return Ok(known.sha256);
        }
    }
    found.sha256 = file_sum(path).map_err(FetchError::io("read", path))?;
    // Without the note the next start is slower, nothing else.
    let text = serde_json::to_vec(&found).expect("strings and numbers are JSON");
    let _ = fs::create_dir_all(notes).and_then(|()| fs::write(&note, text));
    Ok(found.sha256)
}

fn describe(path: &Path) -> std::io::Result<Remembered> {
    let path = fs::canonicalize(path)?;
    let facts = fs::metadata(&path)?;
    let modified = facts
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (bytes, modified_ns) = (facts.len(), modified.as_nanos());
    Ok(Remembered {
        path,
        bytes,
        modified_ns,
        sha256: String::new(),
    })
}

fn file_sum(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}
