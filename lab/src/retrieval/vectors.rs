//! Vectors of texts, kept from run to run.
//!
//! Embedding is nearly all of a first run's time, and depends on nothing but the text and the embedder. The stores
//! themselves are filled anew each time, so that a run measures the edges that this build makes and not those of an
//! earlier one. A file has one embedder's vectors: records of a text's digest and its numbers, each whole or cut off.

use super::RetrievalError;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use weir_embed::Embedder;

/// Bytes of a text's digest.
const DIGEST: usize = 32;
/// Bytes of a number.
const NUMBER: usize = size_of::<f32>();

type Key = [u8; DIGEST];

/// The vectors that a file keeps, and what makes those that it lacks.
pub(super) struct Vectors<'a> {
    embedder: &'a Embedder,
    path: PathBuf,
    file: File,
    known: HashMap<Key, Vec<f32>>,
}

impl<'a> Vectors<'a> {
    /// Opens the file of this embedder in `folder`.
    pub(super) fn open(folder: &Path, embedder: &'a Embedder) -> Result<Self, RetrievalError> {
        let revision = embedder
            .revision()
            .replace(|c: char| !c.is_alphanumeric(), "-");
        let path = folder.join(format!("{revision}.vectors"));
        let failed = |error| RetrievalError::file(&path, error);
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true);
        let mut file = options.open(&path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let record = DIGEST + NUMBER * embedder.dimensions();
        let whole = bytes.len() - bytes.len() % record;
        file.set_len(whole as u64).map_err(failed)?;
        let known = bytes[..whole].chunks(record).map(parsed).collect();
        Ok(Self {
            embedder,
            path,
            file,
            known,
        })
    }

    /// Numbers of a vector.
    pub(super) fn dimensions(&self) -> usize {
        self.embedder.dimensions()
    }

    /// What made them.
    pub(super) fn revision(&self) -> &str {
        self.embedder.revision()
    }

    /// The vectors of `texts`, in their order.
    pub(super) fn of(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, RetrievalError> {
        let keys: Vec<Key> = texts.iter().map(Sha256::digest).map(Key::from).collect();
        let missing = keys.iter().zip(texts);
        let missing = missing.filter(|(key, _)| !self.known.contains_key(*key));
        let (new, texts): (Vec<Key>, Vec<&str>) = missing.map(|(key, text)| (*key, *text)).unzip();
        if !texts.is_empty() {
            let made = self.embedder.embed(&texts);
            let made = made.map_err(|error| RetrievalError::Embed(error.to_string()))?;
            let mut bytes = Vec::new();
            for (key, vector) in new.iter().zip(&made) {
                bytes.extend_from_slice(key);
                bytes.extend(vector.iter().flat_map(|number| number.to_le_bytes()));
            }
            let written = self.file.write_all(&bytes);
            written.map_err(|error| RetrievalError::file(&self.path, error))?;
            self.known.extend(new.into_iter().zip(made));
        }
        Ok(keys.iter().map(|key| self.known[key].clone()).collect())
    }
}

fn parsed(record: &[u8]) -> (Key, Vec<f32>) {
    let (key, numbers) = record.split_at(DIGEST);
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("chunks of a number"));
    let key = key.try_into().expect("a record begins with a digest");
    (key, numbers.chunks_exact(NUMBER).map(number).collect())
}
