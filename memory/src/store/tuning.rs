//! What was measured of the index and how hard searches look since: a file beside the rows.
//!
//! A store without the file looks as hard as its parameters say. Measuring is `upkeep/tune.rs`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use super::{Memory, OpenError, files};

/// The file, in the store's folder.
const FILE: &str = "tuning.json";

/// How hard searches look, and what they miss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tuning {
    /// Fewest nearest vectors that a search keeps while it walks the graph.
    pub ef_search: usize,
    /// Share of the truly nearest that searches found, 0 to 1.
    pub recall: f64,
    /// The share that was declared.
    pub target: f64,
    /// Vectors there were.
    pub vectors: usize,
    /// Number of the last write that was seen.
    pub generation: u64,
    /// Unix time in milliseconds.
    pub measured_at: u64,
}

impl Memory {
    /// What was measured last; `None` where nothing was.
    pub fn tuning(&self) -> Option<Tuning> {
        *self
            .inner
            .tuning
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Fewest nearest vectors that a search keeps while it walks the graph.
    pub fn ef_search(&self) -> usize {
        self.index().vectors.ef_search()
    }

    /// Searches as hard as was measured, from now on and whenever the memory is opened.
    pub(crate) fn keep_tuning(&self, tuning: Tuning) -> io::Result<()> {
        let text = serde_json::to_string_pretty(&tuning).map_err(io::Error::other)?;
        files::replace(&self.inner.folder, FILE, text.as_bytes())?;
        let held = self.inner.tuning.write();
        *held.unwrap_or_else(PoisonError::into_inner) = Some(tuning);
        self.index_mut().vectors.set_ef_search(tuning.ef_search);
        self.recall_cache().settings_changed();
        Ok(())
    }
}

/// What was measured of the store in `dir`, if anything was.
pub(super) fn read(dir: &Path) -> Result<Option<Tuning>, OpenError> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Directory { path, source }),
    };
    let tuning = serde_json::from_str(&text);
    tuning
        .map(Some)
        .map_err(|source| OpenError::Tuning { path, source })
}
