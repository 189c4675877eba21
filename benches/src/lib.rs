//! What the benchmarks share: where results go, synthetic passages, vectors, the installed embedder and vocabularies, peers, load.
//!
//! Each benchmark is a plain program under `benches/benches`; `cargo bench -p weir-bench` runs them all. The result files
//! are written by [`weir_lab::results`], as those of `weir lab systems` are. Nothing here measures.

pub mod load;
pub mod peers;
pub mod points;
pub mod proxies;
#[cfg(feature = "ruvector")]
pub mod ruvector;
pub mod upstream;

use anyhow::Context;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;
use std::path::Path;
use weir_embed::{EmbedQueue, Embedder, TokenCounter};
use weir_lab::process::resident;
use weir_lab::results::Results;

/// Name of the embedding model that [`embedder`] loads.
pub const EMBEDDING_MODEL: &str = "all-minilm-l6-v2";

/// Pools of the benchmarks, by capability.
pub const POOLS: [&str; 3] = ["small", "mid", "big"];

/// Models whose vocabularies count for [`POOLS`], in that order: those of the demo's stack.
const MODELS: [&str; 3] = [
    weir_testenv::SMOLLM2,
    weir_testenv::QWEN,
    "models/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
];

/// Words of the synthetic passages; some are those of the question set, so that searches by words find something.
const WORDS: [&str; 40] = [
    "function",
    "parameter",
    "module",
    "default",
    "value",
    "exception",
    "version",
    "python",
    "returns",
    "raises",
    "object",
    "string",
    "list",
    "dictionary",
    "tuple",
    "number",
    "path",
    "file",
    "socket",
    "thread",
    "process",
    "encoding",
    "buffer",
    "stream",
    "event",
    "loop",
    "iterator",
    "generator",
    "class",
    "method",
    "attribute",
    "package",
    "import",
    "signal",
    "timeout",
    "queue",
    "lock",
    "archive",
    "parser",
    "argument",
];

/// Writes the results beside the repository's others, prints them, and says where they are.
pub fn publish(results: &Results) -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    results
        .write(&folder)
        .with_context(|| format!("write results to {}", folder.display()))?;
    println!("{}", results.markdown());
    Ok(())
}

/// A passage of `words` words, the same for the same number.
pub fn passage(number: u64, words: usize) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    let mut text = format!("Passage {number}.");
    for word in 0..words {
        text.push(' ');
        text.push_str(WORDS[rng.random_range(0..WORDS.len())]);
        if word % 12 == 11 {
            text.push('.');
        }
    }
    text
}

/// A direction at random, of length one.
pub fn direction(number: u64, dimensions: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    let mut vector: Vec<f32> = (0..dimensions)
        .map(|_| rng.random_range(-1.0..1.0))
        .collect();
    let length = vector
        .iter()
        .map(|x| x * x)
        .sum::<f32>()
        .sqrt()
        .max(f32::MIN_POSITIVE);
    vector.iter_mut().for_each(|x| *x /= length);
    vector
}

/// The installed embedder; `None`, said loudly, when `make components` has not fetched it.
pub fn embedder() -> anyhow::Result<Option<EmbedQueue>> {
    match weir_testenv::component(weir_testenv::MINILM) {
        Some(folder) => Ok(Some(EmbedQueue::new(Embedder::load(&folder)?))),
        None => Ok(None),
    }
}

/// The installed models' own token counters by pool; empty, said loudly, when one of them is absent: counts are estimates
/// then, which are cheaper.
pub fn counters() -> anyhow::Result<HashMap<String, TokenCounter>> {
    let mut counters = HashMap::new();
    for (pool, model) in POOLS.iter().zip(MODELS) {
        let Some(file) = weir_testenv::component(model) else {
            return Ok(HashMap::new());
        };
        counters.insert((*pool).to_owned(), TokenCounter::from_gguf(&file)?);
    }
    Ok(counters)
}

/// Memory of this process that is resident, in KiB.
pub fn resident_kib() -> anyhow::Result<u64> {
    Ok(resident(Path::new("/proc/self"))?.now_kib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_and_directions_are_the_same_every_time_and_differ_by_number() {
        assert_eq!(passage(3, 40), passage(3, 40));
        assert_ne!(passage(3, 40), passage(4, 40));
        let vector = direction(5, 384);
        assert_eq!(vector, direction(5, 384));
        assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}
