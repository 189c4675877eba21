//! Vectors to search: embeddings of real passages, or synthetic ones that are named so.

use anyhow::Context;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};
use weir_embed::Embedder;
use weir_memory::ingest::{IngestOptions, ingest};
use weir_memory::{Filter, Memory, MemoryConfig};

/// Length of every vector.
pub const DIMENSIONS: usize = 384;

/// Words of a passage: about two sentences, so that Python's documentation gives enough of them.
const PASSAGE_WORDS: usize = 14;

/// Passages in a batch of the embedder.
const BATCH: usize = 64;

/// Vectors that share a centre in synthetic data, about.
const CLUSTER: usize = 50;

/// Vectors to index and queries, in this order in memory, and what they are.
pub struct Points {
    /// Where they come from.
    pub what: String,
    /// Unit vectors.
    pub vectors: Vec<Vec<f32>>,
    /// Unit vectors that are not among them.
    pub queries: Vec<Vec<f32>>,
}

impl Points {
    /// `count` vectors and `queries` queries: MiniLM on passages of Python's documentation, which are kept in the cache,
    /// else synthetic.
    ///
    /// # Errors
    /// The documentation or the cache cannot be read, or a passage not be embedded.
    pub fn new(count: usize, queries: usize) -> anyhow::Result<Self> {
        let wanted = count + queries;
        let real = embedded(wanted)?.filter(|found| found.len() == wanted);
        let (what, mut vectors) = match real {
            Some(vectors) => {
                let what = format!(
                    "{} on passages of Python's documentation",
                    crate::EMBEDDING_MODEL
                );
                (what, vectors)
            }
            None => ("synthetic, clustered".to_owned(), synthetic(wanted)),
        };
        let queries = vectors.split_off(count);
        Ok(Self {
            what,
            vectors,
            queries,
        })
    }
}

/// Embeddings of as many passages as there are, up to `wanted`; `None`, said loudly, without embedder or documentation.
fn embedded(wanted: usize) -> anyhow::Result<Option<Vec<Vec<f32>>>> {
    let (Some(model), Some(docs)) = (
        weir_testenv::component(weir_testenv::MINILM),
        weir_testenv::corpus(),
    ) else {
        return Ok(None);
    };
    let home = std::env::home_dir().context("there is no home folder for a cache")?;
    let file = home.join(format!(
        ".cache/weir/points/minilm-{PASSAGE_WORDS}-{wanted}.f32"
    ));
    if let Ok(bytes) = std::fs::read(&file) {
        return Ok(Some(from_bytes(&bytes)));
    }
    let texts = texts(docs, wanted)?;
    eprintln!("embedding {} passages, once", texts.len());
    let cores = std::thread::available_parallelism()?.get();
    let part = texts.len().div_ceil(cores).max(1);
    let parts: Vec<anyhow::Result<Vec<Vec<f32>>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = texts
            .chunks(part)
            .map(|texts| scope.spawn(|| embed(&model, texts)))
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker returns its error"))
            .collect()
    });
    let mut vectors = Vec::with_capacity(texts.len());
    for part in parts {
        vectors.extend(part?);
    }
    std::fs::create_dir_all(file.parent().context("a folder")?)?;
    std::fs::write(&file, to_bytes(&vectors))?;
    Ok(Some(vectors))
}

fn embed(model: &Path, texts: &[String]) -> anyhow::Result<Vec<Vec<f32>>> {
    let embedder = Embedder::load(model)?;
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH) {
        let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
        vectors.extend(embedder.embed(&batch)?);
    }
    Ok(vectors)
}

/// Different passages of the documentation in an order that is the same every time.
fn texts(docs: PathBuf, wanted: usize) -> anyhow::Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let config = MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: "none".to_owned(),
    };
    let memory = Memory::open(folder.path(), &config)?;
    let options = IngestOptions {
        passage_words: PASSAGE_WORDS,
        ..IngestOptions::default()
    };
    ingest(&memory, &[docs], &options, &mut |_| ())?;
    let nodes = memory.nodes(&memory.ids(&Filter::default()))?;
    let mut texts: Vec<String> = nodes.into_iter().map(|node| node.text).collect();
    texts.sort_unstable();
    texts.dedup();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for at in (1..texts.len()).rev() {
        texts.swap(at, rng.random_range(0..=at));
    }
    texts.truncate(wanted);
    Ok(texts)
}

/// Vectors around random centres, the same every time.
fn synthetic(count: usize) -> Vec<Vec<f32>> {
    let centres = count.div_ceil(CLUSTER) as u64;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    (0..count as u64)
        .map(|number| {
            let centre = crate::direction(rng.random_range(0..centres), DIMENSIONS);
            let noise = crate::direction(centres + number, DIMENSIONS);
            let sum = centre.iter().zip(noise).map(|(a, b)| a + b);
            unit(sum.collect())
        })
        .collect()
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}

/// Rows of little-endian values.
#[must_use]
pub fn to_bytes(vectors: &[Vec<f32>]) -> Vec<u8> {
    let values = vectors.iter().flatten();
    values.flat_map(|value| value.to_le_bytes()).collect()
}

fn from_bytes(bytes: &[u8]) -> Vec<Vec<f32>> {
    let (values, _) = bytes.as_chunks::<4>();
    values
        .chunks_exact(DIMENSIONS)
        .map(|row| row.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synthetic_vectors_are_the_same_every_time_and_survive_a_file() {
        let vectors = synthetic(120);
        assert_eq!(vectors, synthetic(120));
        assert_eq!(from_bytes(&to_bytes(&vectors)), vectors);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let nearest = (1..120)
            .map(|at| dot(&vectors[0], &vectors[at]))
            .fold(0.0, f32::max);
        assert!(nearest > 0.4, "{nearest}: no two share a centre");
    }
}
