//! The attention of a memory: trained weights in a file beside the rows.
//!
//! A store without the file uses the weights of this build. Training them is `attention/train.rs`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::{Memory, OpenError, files};
use crate::attention::AttentionWeights;

/// The file, in the store's folder.
const FILE: &str = "attention.json";

impl Memory {
    /// The weights that recall uses.
    pub fn attention(&self) -> Arc<AttentionWeights> {
        let weights = self.inner.attention.read();
        weights.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses these weights from now on, until the memory is closed.
    pub fn set_attention(&self, weights: AttentionWeights) {
        let held = self.inner.attention.write();
        *held.unwrap_or_else(PoisonError::into_inner) = Arc::new(weights);
    }

    /// Uses these weights from now on and whenever the memory is opened.
    ///
    /// # Errors
    /// They cannot be written to the store's folder.
    pub fn keep_attention(&self, weights: AttentionWeights) -> io::Result<()> {
        files::replace(&self.inner.folder, FILE, weights.to_json().as_bytes())?;
        self.set_attention(weights);
        Ok(())
    }
}

/// The weights in `dir`, or those of this build.
pub(super) fn read(dir: &Path) -> Result<AttentionWeights, OpenError> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(AttentionWeights::default());
        }
        Err(source) => return Err(OpenError::Directory { path, source }),
    };
    AttentionWeights::from_json(&text).map_err(|source| OpenError::Attention { path, source })
}
