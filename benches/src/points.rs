//! Vectors to search: embeddings of real passages, or synthetic ones that are named so.

use anyhow::Context;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::path::{Path, PathBuf};
use weir_embed::Embedder;
use weir_memory::ingest::{IngestOptions, ingest};
use weir_memory::{Filter, Memory, MemoryConfig};

/// Length of every vector.
pub const DIMENSIONS: usize = 384;

/// Words of a passage: a sentence or two, so that the corpora give enough of them.
const PASSAGE_WORDS: usize = 14;

/// More vectors than this are synthetic.
const REAL_MAX: usize = 100_000;

/// Passages, `{"title", "text"}`, as published.
const MULTIHOP: [&str; 2] = ["multihop/2wiki_corpus.json", "multihop/musique_corpus.json"];

/// Vectors that are written to the cache at a time.
const PART: usize = 4_096;

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
    /// `count` vectors and `queries` queries: MiniLM on real passages, which are kept in the cache, else synthetic.
    ///
    /// # Errors
    /// The corpora or the cache cannot be read, or a passage not be embedded.
    pub fn new(count: usize, queries: usize) -> anyhow::Result<Self> {
        let wanted = count + queries;
        let real = if wanted <= REAL_MAX {
            embedded(wanted)?
        } else {
            None
        };
        let (what, mut vectors) = match real {
            Some((what, vectors)) => (what, vectors),
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

/// Where passages come from.
struct Source {
    /// For people.
    what: &'static str,
    /// In the name of the file that keeps the vectors.
    key: &'static str,
    paths: Vec<PathBuf>,
}

impl Source {
    /// Python's documentation and, where they lie above the checkout, the published multi-hop corpora, which `folder` gets as
    /// JSON Lines.
    fn found(folder: &Path) -> anyhow::Result<Option<Self>> {
        let Some(docs) = weir_testenv::corpus() else {
            return Ok(None);
        };
        let mut source = Self {
            what: "Python's documentation",
            key: "docs",
            paths: vec![docs],
        };
        for corpus in MULTIHOP {
            let Some(published) = weir_testenv::shared_data(corpus) else {
                return Ok(Some(source));
            };
            let passages: Vec<Value> = serde_json::from_slice(&std::fs::read(published)?)?;
            let lines: String = passages
                .iter()
                .map(|passage| format!("{passage}\n"))
                .collect();
            let file = folder
                .join(corpus.replace('/', "-"))
                .with_extension("jsonl");
            std::fs::write(&file, lines)?;
            source.paths.push(file);
        }
        source.what = "Python's documentation, 2WikiMultihopQA and MuSiQue";
        source.key = "docs-multihop";
        Ok(Some(source))
    }
}

/// `wanted` embeddings of passages, and what they are; `None`, said loudly, without embedder or documentation or with fewer
/// passages.
fn embedded(wanted: usize) -> anyhow::Result<Option<(String, Vec<Vec<f32>>)>> {
    let folder = tempfile::tempdir()?;
    let Some(model) = weir_testenv::component(weir_testenv::MINILM) else {
        return Ok(None);
    };
    let Some(source) = Source::found(folder.path())? else {
        return Ok(None);
    };
    let home = std::env::home_dir().context("there is no home folder for a cache")?;
    let cache = home.join(".cache/weir/points");
    std::fs::create_dir_all(&cache)?;
    let file = cache.join(format!("minilm-{}-{PASSAGE_WORDS}.f32", source.key));
    let mut vectors = match std::fs::read(&file) {
        Ok(bytes) => from_bytes(&bytes),
        Err(_) => Vec::new(),
    };
    if vectors.len() < wanted {
        let texts = texts(&source.paths, folder.path())?;
        if texts.len() < wanted {
            eprintln!(
                "SKIPPED: {} give {} passages, not {wanted}: vectors are synthetic",
                source.what,
                texts.len()
            );
            return Ok(None);
        }
        eprintln!("embedding {} passages, once", wanted - vectors.len());
        for part in texts[vectors.len()..wanted].chunks(PART) {
            vectors.extend(embed(&model, part)?);
            std::fs::write(&file, to_bytes(&vectors))?;
        }
    }
    vectors.truncate(wanted);
    let what = format!("{} on passages of {}", crate::EMBEDDING_MODEL, source.what);
    Ok(Some((what, vectors)))
}

/// Vectors of texts, by all cores.
fn embed(model: &Path, texts: &[String]) -> anyhow::Result<Vec<Vec<f32>>> {
    let cores = std::thread::available_parallelism()?.get();
    let part = texts.len().div_ceil(cores).max(1);
    let parts: Vec<anyhow::Result<Vec<Vec<f32>>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = texts
            .chunks(part)
            .map(|texts| scope.spawn(|| embed_alone(model, texts)))
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
    Ok(vectors)
}

fn embed_alone(model: &Path, texts: &[String]) -> anyhow::Result<Vec<Vec<f32>>> {
    let embedder = Embedder::load(model)?;
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH) {
        let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
        vectors.extend(embedder.embed(&batch)?);
    }
    Ok(vectors)
}

/// Different passages in an order that is the same every time.
fn texts(paths: &[PathBuf], folder: &Path) -> anyhow::Result<Vec<String>> {
    let config = MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: "none".to_owned(),
    };
    let memory = Memory::open(&folder.join("memory"), &config)?;
    let options = IngestOptions {
        passage_words: PASSAGE_WORDS,
        ..IngestOptions::default()
    };
    ingest(&memory, paths, &options, &mut |_| ())?;
    let nodes = memory.nodes(&memory.ids(&Filter::default()))?;
    let mut texts: Vec<String> = nodes.into_iter().map(|node| node.text).collect();
    texts.sort_unstable();
    texts.dedup();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for at in (1..texts.len()).rev() {
        texts.swap(at, rng.random_range(0..=at));
    }
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
