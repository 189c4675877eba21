//! Sentence vectors of texts, made by the embedder in this process and kept on the disk.
//!
//! A file holds the vectors of one list of texts by one embedder, whose digest is its name: other texts or another embedder
//! make another file. It grows while vectors are made, so that a run that was ended goes on.

use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;
use weir_embed::{EmbedError, Embedder, LoadError};

/// Texts that one thread embeds before they are written down.
const BLOCK: usize = 64;

/// Where vectors come from, and where they are kept.
#[derive(Clone, Debug)]
pub struct VectorSource {
    /// Folder of the embedder.
    pub embedder: PathBuf,
    /// Folder of the files.
    pub cache: PathBuf,
}

/// Why there are no vectors.
#[derive(Debug, thiserror::Error)]
pub enum VectorsError {
    /// The embedder cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A text cannot be embedded.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// The file cannot be read or written.
    #[error("cannot keep vectors in {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The vector of each text, of unit length; `progress` gets how many are there.
pub fn vectors(
    texts: &[&str],
    source: &VectorSource,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f32>>, VectorsError> {
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let first = Embedder::load(&source.embedder)?;
    let dimensions = first.dimensions();
    let path = source.cache.join(file_name(texts, first.revision()));
    let mut kept = Kept::open(&path, dimensions)?;
    if kept.values.len() < texts.len() * dimensions {
        let more = (1..threads).map(|_| Embedder::load(&source.embedder));
        let mut embedders = more.collect::<Result<Vec<_>, _>>()?;
        embedders.push(first);
        loop {
            let done = kept.values.len() / dimensions;
            progress(done);
            if done >= texts.len() {
                break;
            }
            kept.add(&embedded(&texts[done..], &embedders)?)?;
        }
    }
    let vectors = kept.values.chunks_exact(dimensions);
    Ok(vectors.take(texts.len()).map(<[f32]>::to_vec).collect())
}

/// The vectors of the next texts, a block by each embedder, in order.
fn embedded(texts: &[&str], embedders: &[Embedder]) -> Result<Vec<f32>, EmbedError> {
    let parts = std::thread::scope(|scope| {
        let blocks = texts.chunks(BLOCK).zip(embedders);
        let running: Vec<_> = blocks
            .map(|(block, embedder)| scope.spawn(|| embedder.embed(block)))
            .collect();
        let joined = running.into_iter().map(ScopedJoinHandle::join);
        joined
            .map(|part| part.unwrap_or(Err(EmbedError::Stopped)))
            .collect::<Result<Vec<_>, _>>()
    })?;
    Ok(parts.concat().concat())
}

fn file_name(texts: &[&str], revision: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(revision);
    for text in texts {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    }
    format!("vectors-{}.f32", &hex::encode(digest.finalize())[..24])
}

/// Vectors in a file, little-endian floats one after the other.
struct Kept {
    path: PathBuf,
    file: File,
    values: Vec<f32>,
}

impl Kept {
    /// Reads what is there, whole vectors only.
    fn open(path: &Path, dimensions: usize) -> Result<Self, VectorsError> {
        let failed = |source| VectorsError::File {
            path: path.display().to_string(),
            source,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let options = OpenOptions::new().append(true).create(true).clone();
        let file = options.open(path).map_err(failed)?;
        let bytes = std::fs::read(path).map_err(failed)?;
        let whole = bytes.len() - bytes.len() % (4 * dimensions.max(1));
        file.set_len(whole as u64).map_err(failed)?;
        let (floats, _) = bytes[..whole].as_chunks::<4>();
        Ok(Self {
            path: path.to_owned(),
            file,
            values: floats.iter().map(|one| f32::from_le_bytes(*one)).collect(),
        })
    }

    fn add(&mut self, values: &[f32]) -> Result<(), VectorsError> {
        let bytes: Vec<u8> = values.iter().flat_map(|one| one.to_le_bytes()).collect();
        let written = self.file.write_all(&bytes);
        written.map_err(|source| VectorsError::File {
            path: self.path.display().to_string(),
            source,
        })?;
        self.values.extend(values);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_cut_short_keeps_its_whole_vectors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/vectors.f32");
        let mut kept = Kept::open(&path, 3).unwrap();
        kept.add(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        drop(kept);
        let mut kept = Kept::open(&path, 3).unwrap();
        assert_eq!(kept.values, [1.0, 2.0, 3.0]);
        kept.add(&[7.0, 8.0, 9.0]).unwrap();
        let again = Kept::open(&path, 3).unwrap();
        assert_eq!(again.values, [1.0, 2.0, 3.0, 7.0, 8.0, 9.0]);
    }

    #[test]
    fn other_texts_or_another_embedder_make_another_file() {
        let name = file_name(&["ab", "c"], "r1");
        assert_ne!(name, file_name(&["a", "bc"], "r1"));
        assert_ne!(name, file_name(&["ab", "c"], "r2"));
        assert_eq!(name, file_name(&["ab", "c"], "r1"));
    }
}
