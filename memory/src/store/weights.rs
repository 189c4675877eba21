//! The attention of a memory: trained weights in a file beside the rows.
//!
//! A store without the file uses the weights of this build. The sentences that carry edges are held in memory only for
//! weights that look at them. Training is `attention/train.rs`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use redb::ReadableTable;

use super::row;
use super::{Memory, OpenError, ReadError, files};
use crate::attention::{AttentionWeights, Wanted};
use crate::words;

/// The file, in the store's folder.
const FILE: &str = "attention.json";

/// Why weights are not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// They cannot be written to the store's folder.
    #[error("cannot write the attention weights to the memory's folder")]
    Write(#[from] io::Error),
    /// What they look at cannot be read.
    #[error("cannot read the sentences that these weights look at")]
    Read(#[from] ReadError),
}

impl Memory {
    /// The weights that recall uses.
    pub fn attention(&self) -> Arc<AttentionWeights> {
        let weights = self.inner.attention.read();
        weights.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses these weights from now on, until the memory is closed.
    ///
    /// # Errors
    /// The weights look at the sentences that carry edges, and these cannot be read.
    pub fn set_attention(&self, weights: AttentionWeights) -> Result<(), ReadError> {
        let wanted = weights.wanted();
        self.make_ready(&wanted)?;
        let held = self.inner.attention.write();
        *held.unwrap_or_else(PoisonError::into_inner) = Arc::new(weights);
        // Before sentences are let go, so that no answer by the former weights without them is kept.
        self.recall_cache().settings_changed();
        if !wanted.evidence() {
            self.index_mut().graph.hold_evidence(false);
        }
        Ok(())
    }

    /// Uses these weights from now on and whenever the memory is opened.
    ///
    /// # Errors
    /// They cannot be used, or not be written to the store's folder.
    pub fn keep_attention(&self, weights: AttentionWeights) -> Result<(), KeepError> {
        files::replace(&self.inner.folder, FILE, weights.to_json().as_bytes())?;
        Ok(self.set_attention(weights)?)
    }

    /// Reads what the index does not hold and weights look at.
    pub(crate) fn make_ready(&self, wanted: &Wanted) -> Result<(), ReadError> {
        if !wanted.evidence() || self.index().graph.holds_evidence() {
            return Ok(());
        }
        // Nobody writes while the rows are read, so that none is missed.
        let writer = self.inner.writer.lock();
        let _writer = writer.unwrap_or_else(PoisonError::into_inner);
        let transaction = self.begin_read()?;
        let mut terms = Vec::new();
        for entry in transaction.open_table(row::EDGES)?.iter()? {
            let (key, bytes) = entry?;
            let edge = row::decode_edge(key.value(), bytes.value())?;
            let sentence = edge.metadata.evidence.unwrap_or_default();
            terms.push((edge.src, edge.dst, edge.rel, words::keys(&sentence)));
        }
        let mut index = self.index_mut();
        index.graph.hold_evidence(true);
        for (src, dst, rel, terms) in terms {
            let ends = index.slot(src).zip(index.slot(dst));
            if let Some(((src, dst), rel)) = ends.zip(index.graph.number(&rel)) {
                index.graph.put_evidence((src, dst, rel), terms);
            }
        }
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
