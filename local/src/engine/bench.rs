//! How fast an engine reads and writes, measured once after loading and remembered by the model's digest.
//!
//! The router weighs expected latency, so a guess would route badly. One short request is enough: llama.cpp reports its own
//! times. Results lie in `benchmarks.json` in the cache folder; a damaged file is measured again, never an error. What was
//! measured on a busy machine serves until the next start and is not remembered.

use crate::digest;
use crate::files;
use crate::probe::Probe;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use weir_engine::{ChatRequest, Priority, Timings};
use weir_plan::Performance;

/// Longest measurement; a slower engine keeps the cautious default.
const TIMEOUT: Duration = Duration::from_secs(45);

/// Tokens generated.
const COMPLETION_TOKENS: u32 = 16;

/// About a hundred tokens for any vocabulary.
const TEXT: &str = "A weir is a low wall across a river. Water gathers behind it, the level rises, and what flows over the crest \
    is measured by its height alone. Fish pass through a ladder of small pools at one side. Millers used weirs to turn a steady \
    stream into work, and engineers still use them to keep a canal deep enough in a dry summer. Count the uses named here and \
    list each of them in one short sentence.";

/// Measurements of earlier starts.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Benchmarks {
    /// SHA-256 of model files, by path, size and time of change.
    digests: BTreeMap<String, String>,
    /// Measured speed, by digest and threads.
    performance: BTreeMap<String, Performance>,
}

impl Benchmarks {
    /// Reads the file; what cannot be read counts as empty.
    pub(crate) fn load(path: &Path) -> Self {
        std::fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Writes the file whole or not at all.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(self)?;
        crate::files::replace(path, &bytes)
    }

    /// The key of a model file under a number of threads. Reads the whole file the first time.
    pub(crate) fn key(&mut self, file: &Path, threads: u32) -> io::Result<String> {
        let identity = identity(file)?;
        let digest = match self.digests.get(&identity) {
            Some(digest) => digest.clone(),
            None => {
                let digest = digest::of_file(file)?;
                self.digests.insert(identity, digest.clone());
                digest
            }
        };
        Ok(format!("{digest} threads={threads}"))
    }

    /// What was measured before.
    pub(crate) fn get(&self, key: &str) -> Option<Performance> {
        self.performance.get(key).copied()
    }

    /// Remembers a measurement.
    pub(crate) fn put(&mut self, key: String, performance: Performance) {
        self.performance.insert(key, performance);
    }
}

/// Whether the machine had a processor to spare over the last minute, so that a measurement is worth keeping. Where the
/// system does not say, it had.
pub(crate) fn quiet() -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").ok();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    load.and_then(|text| busy(&text, processors)) != Some(true)
}

/// Whether the mean of runnable processes in the last minute leaves none of the processors free.
fn busy(loadavg: &str, processors: usize) -> Option<bool> {
    let minute: f64 = loadavg.split_whitespace().next()?.parse().ok()?;
    Some(minute >= processors as f64)
}

/// The file and its state.
fn identity(file: &Path) -> io::Result<String> {
    let stamp = files::stamp(file)?;
    let file = std::fs::canonicalize(file)?;
    Ok(format!("{}:{stamp}", file.display()))
}

/// Asks the engine at `url` one question and reads its speed; `None` when it did not answer in time.
pub(crate) async fn measure(probe: &Probe, url: &str) -> Option<Performance> {
    let mut body = Map::new();
    body.insert(
        "messages".into(),
        json!([{"role": "user", "content": TEXT}]),
    );
    body.insert("max_tokens".into(), json!(COMPLETION_TOKENS));
    body.insert("temperature".into(), json!(0));
    body.insert("cache_prompt".into(), json!(false));
    let request = ChatRequest {
        body,
        prefix: None,
        priority: Priority::Normal,
        deadline: Instant::now() + TIMEOUT,
    };
    let mut stream = probe
        .engines()
        .chat(&probe.pool_at(url), request)
        .await
        .ok()?;
    let mut timings = None;
    while let Some(event) = stream.next().await {
        timings = event.ok()?.timings.or(timings);
    }
    timings.and_then(performance)
}

fn performance(timings: Timings) -> Option<Performance> {
    let rate =
        |tokens: u32, ms: f64| (tokens > 0 && ms > 0.0).then(|| f64::from(tokens) * 1e3 / ms);
    Some(Performance {
        prefill_tokens_per_second: rate(timings.prompt_tokens, timings.prompt_ms)?,
        decode_tokens_per_second: rate(timings.completion_tokens, timings.completion_ms)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURED: Performance = Performance {
        prefill_tokens_per_second: 250.0,
        decode_tokens_per_second: 40.0,
    };

    #[test]
    fn a_measurement_is_found_again_for_the_same_bytes_and_threads_only() {
        let folder = tempfile::tempdir().unwrap();
        let (model, store) = (folder.path().join("m.gguf"), folder.path().join("b.json"));
        std::fs::write(&model, "weights").unwrap();
        let mut benchmarks = Benchmarks::load(&store);
        let key = benchmarks.key(&model, 1).unwrap();
        benchmarks.put(key.clone(), MEASURED);
        benchmarks.save(&store).unwrap();

        let mut again = Benchmarks::load(&store);
        let copy = folder.path().join("copy.gguf");
        std::fs::copy(&model, &copy).unwrap();
        let copied = again.key(&copy, 1).unwrap();
        assert_eq!(copied, key, "the digest counts, not the path");
        assert_eq!(again.get(&copied), Some(MEASURED));
        let more_threads = again.key(&model, 2).unwrap();
        assert_eq!(again.get(&more_threads), None);
        std::fs::write(&model, "other weights").unwrap();
        let changed = again.key(&model, 1).unwrap();
        assert_eq!(again.get(&changed), None);
    }

    #[test]
    fn a_machine_is_busy_when_no_processor_was_free_for_a_minute() {
        assert_eq!(busy("1.99 0.20 0.10 1/300 17", 2), Some(false));
        assert_eq!(busy("2.00 0.20 0.10 4/300 17", 2), Some(true));
        assert_eq!(busy("no number", 2), None);
    }

    #[test]
    fn a_damaged_file_of_measurements_counts_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("b.json");
        std::fs::write(&store, "{\"digests\": 3").unwrap();
        assert!(Benchmarks::load(&store).performance.is_empty());
    }

    #[test]
    fn rates_come_from_the_engines_own_times() {
        let timings = Timings {
            prompt_tokens: 100,
            prompt_ms: 400.0,
            completion_tokens: 16,
            completion_ms: 400.0,
            ..Timings::default()
        };
        assert_eq!(performance(timings), Some(MEASURED));
        assert_eq!(performance(Timings::default()), None);
    }
}
