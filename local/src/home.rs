//! Where local mode keeps its files, and the lock that makes one `weir up` the owner of a gateway's folder.
//!
//! ```text
//! $WEIR_HOME (default: $XDG_STATE_HOME/weir, then ~/.local/state/weir)
//! `-- <gateway>/            0700
//!     |-- lock              held by the running `weir up`
//!     |-- control.json      pid, address and stack files of the running `weir up`
//!     |-- control.sock      what `weir status|down|memory` talk to
//!     |-- memory/<store>/   nodes, edges and vectors
//!     |-- logs/             gateway.log and one log a pool, each rotated once at 8 MiB
//!     `-- decisions.jsonl   one row a decision, when the gateway's `logs.sink` is `file`; `.1` holds those before
//! ```
//!
//! Beside the folders, `sent-*.json` say what `weir memory ingest --gateway` sent where. Models, and the measured speed of engines by model digest (`benchmarks.json`), are shared by all gateways and lie in
//! `$WEIR_CACHE` (default `~/.cache/weir`). This file names paths and takes
//! the lock; it starts nothing. Read on in `up.rs`.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Longest path that a Unix socket may have on every system that Weir runs on.
const SOCKET_PATH_MAX: usize = 100;

/// The folder of all gateways' state.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
    cache: PathBuf,
}

/// The folder of one gateway's state.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// Proof that this process owns a state folder; dropping it gives the folder up.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Why the state folder could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// No environment variable says where the user's files are.
    #[error("cannot tell where to keep state: HOME is not set; set HOME or WEIR_HOME")]
    NoHome,
    /// The folder or a file in it could not be created, read or locked.
    #[error(
        "state folder: cannot use {path}: {source}; set WEIR_HOME to a folder that can be written"
    )]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Home {
    /// Reads `WEIR_HOME`, `XDG_STATE_HOME`, `WEIR_CACHE` and `HOME`.
    ///
    /// # Errors
    /// None of them is set.
    pub fn from_env() -> Result<Self, HomeError> {
        let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let home = variable("HOME").map(PathBuf::from);
        let root = variable("WEIR_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("XDG_STATE_HOME").map(|v| PathBuf::from(v).join("weir")))
            .or_else(|| home.as_ref().map(|v| v.join(".local/state/weir")))
            .ok_or(HomeError::NoHome)?;
        let cache = variable("WEIR_CACHE")
            .map(PathBuf::from)
            .or_else(|| home.map(|v| v.join(".cache/weir")))
            .ok_or(HomeError::NoHome)?;
        Ok(Self {
            root: absolute(&root),
            cache: absolute(&cache),
        })
    }

    /// A home at chosen places, for tests and embedding programs.
    pub fn at(root: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        Self {
            root: absolute(&root.into()),
            cache: absolute(&cache.into()),
        }
    }

    /// The folder of one gateway. Nothing is created.
    pub fn gateway(&self, name: &str) -> StateDir {
        StateDir {
            path: self.root.join(name),
        }
    }

    /// Names of the gateways that have a folder, sorted.
    pub fn gateways(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.root) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Where downloaded models lie, one folder for all gateways.
    pub fn models(&self) -> PathBuf {
        self.cache.join("models")
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Measured speed of engines.
    pub fn benchmarks(&self) -> PathBuf {
        self.cache.join("benchmarks.json")
    }

    /// Where Weir looks for `llama-server` after PATH.
    pub fn engine(&self) -> PathBuf {
        self.cache.join("bin/llama-server")
    }
}

impl StateDir {
    /// Creates the folder and its parts, readable by the user alone.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn create(&self) -> Result<(), HomeError> {
        for path in [self.path.clone(), self.logs(), self.path.join("memory")] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|source| HomeError::Io { path, source })?;
        }
        Ok(())
    }

    /// Takes the lock; `None` when another process holds it.
    ///
    /// # Errors
    /// The lock file cannot be created.
    pub fn lock(&self) -> Result<Option<StateLock>, HomeError> {
        let path = self.path.join("lock");
        let io = |source| HomeError::Io {
            path: path.clone(),
            source,
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(StateLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that names the running `weir up`.
    pub fn control_file(&self) -> PathBuf {
        self.path.join("control.json")
    }

    /// The socket of the running `weir up`; in the temporary folder when the state folder's path is too long for one.
    pub fn socket(&self) -> PathBuf {
        let path = self.path.join("control.sock");
        if path.as_os_str().len() <= SOCKET_PATH_MAX {
            return path;
        }
        let digest = crate::digest::of_bytes(path.as_os_str().as_encoded_bytes());
        std::env::temp_dir().join(format!("weir-{}.sock", &digest[..24]))
    }

    /// The folder of a memory store.
    pub fn memory(&self, store: &str) -> PathBuf {
        self.path.join("memory").join(store)
    }

    /// The folder of logs.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The log of a pool's engine, or of the gateway under the name `gateway`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// The log of decisions.
    pub fn decisions(&self) -> PathBuf {
        self.path.join("decisions.jsonl")
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_owns_a_state_folder() {
        let temporary = tempfile::tempdir().unwrap();
        let state = Home::at(temporary.path(), temporary.path()).gateway("support");
        state.create().unwrap();
        let held = state.lock().unwrap();
        assert!(held.is_some());
        assert!(
            state.lock().unwrap().is_none(),
            "the second owner is refused"
        );
        drop(held);
        assert!(state.lock().unwrap().is_some(), "the folder is free again");
    }

    #[test]
    fn a_deep_state_folder_still_has_a_socket_that_fits() {
        let deep = "d".repeat(120);
        let state = Home::at(format!("/tmp/{deep}"), "/tmp").gateway("support");
        assert!(state.socket().as_os_str().len() <= SOCKET_PATH_MAX);
        let other = Home::at(format!("/tmp/{deep}"), "/tmp").gateway("sales");
        assert_ne!(state.socket(), other.socket());
    }

    #[test]
    fn the_state_folder_is_the_users_own() {
        use std::os::unix::fs::PermissionsExt;
        let temporary = tempfile::tempdir().unwrap();
        let state = Home::at(temporary.path().join("home"), temporary.path()).gateway("support");
        state.create().unwrap();
        let mode = std::fs::metadata(state.path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(
            Home::at(temporary.path().join("home"), "/x").gateways(),
            ["support"]
        );
    }
}
