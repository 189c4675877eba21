//! One download of a source at a time: pools of one process, processes of one machine and pods of one volume share a cache.
//!
//! A claim is a lock on a file of `CACHE/locks`, which the system gives back when its holder ends, however it ends. Nobody
//! waits inside the kernel, so that whoever waits can still be told to end.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::FetchError;
use crate::Source;

/// Pause between two looks at a source that somebody else downloads.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The right to download a source, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim(#[expect(dead_code, reason = "held for its lock")] File);

impl Claim {
    /// Waits until nobody else downloads `source` into `cache`. On a file system without locks nobody waits.
    pub(super) async fn take(source: &Source, cache: &Path) -> Result<Self, FetchError> {
        let folder = cache.join("locks");
        tokio::fs::create_dir_all(&folder)
            .await
            .map_err(FetchError::io("create", &folder))?;
        let name = hex::encode(&Sha256::digest(source.to_string())[..16]);
        let path = folder.join(name);
        let file = File::create(&path).map_err(FetchError::io("write", &path))?;
        while matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Self(file))
    }
}
