//! One download of a file at a time: pools of one process, processes of one machine and pods of one volume share a cache.
//!
//! A claim is a lock on a file of `CACHE/locks`, which the system gives back when its holder ends, however it ends. Nobody
//! waits inside the kernel, so that whoever waits can still be told to end.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// Pause between two looks at what somebody else downloads.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The right to what was claimed, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    #[expect(dead_code, reason = "held for its lock")]
    lock: Option<File>,
}

impl Claim {
    /// Waits until nobody else has claimed `what` in `cache`. Nobody waits on a file system without locks, nor in a cache
    /// that only can be read: nothing is downloaded there, and what it holds is served.
    pub(super) async fn take(what: &str, cache: &Path) -> Self {
        let lock = lock_file(what, cache).ok();
        while lock.as_ref().is_some_and(is_held) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Self { lock }
    }
}

fn lock_file(what: &str, cache: &Path) -> io::Result<File> {
    let folder = cache.join("locks");
    fs::create_dir_all(&folder)?;
    let path = folder.join(hex::encode(&Sha256::digest(what)[..16]));
    let mut options = File::options();
    let made = options.write(true).create(true).truncate(false).open(&path);
    // One that another user made can still be locked, which takes no right to write.
    made.or_else(|_| File::open(&path))
}

fn is_held(lock: &File) -> bool {
    matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
}
