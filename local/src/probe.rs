//! What an engine is asked before it serves: one token or one vector, and later a short measurement.
//!
//! It speaks to one endpoint through `weir-engine`, as the gateway will; it starts and restarts nothing. Read on in
//! `engine/supervisor.rs` (who waits) and `engine/bench.rs` (who measures).

use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_engine::{EngineError, Engines};
use weir_plan::{Endpoint, EngineKind, Pool};

/// Pause between two questions to an engine that cannot answer yet.
const PAUSE: Duration = Duration::from_millis(150);

/// Longest wait for an engine's metrics.
const METRICS_TIMEOUT: Duration = Duration::from_secs(5);

/// Most of an engine's metrics that is read.
const METRICS_BYTES_MAX: u64 = 1 << 20;

/// Longest wait for one token: a big model's first token comes from cold pages.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks the engine of one pool.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    engines: Engines,
    pool: Pool,
    dimensions: Option<usize>,
}

/// Why an engine that answers is of no use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// Its vectors do not fit the memory.
    #[error(
        "its vectors have {found} dimensions, spec.embedding.dimensions of the MemoryStore is {wanted}: write \
         dimensions: {found}"
    )]
    Dimensions {
        /// What the stack says.
        wanted: usize,
        /// What the engine gives.
        found: usize,
    },
    /// It makes no vectors at all.
    #[error(
        "it does not embed: {0}; use a model that is made for embeddings, or give it a pooling, for example \
         extraArgs: ['--pooling', 'mean']"
    )]
    NoEmbedder(String),
}

impl Probe {
    /// A probe for an engine that is known only by its pool's name and context. With `dimensions` it is asked for a vector
    /// of that length, without for a token.
    pub(crate) fn new(
        engines: Engines,
        pool: &str,
        context_tokens: u32,
        dimensions: Option<usize>,
    ) -> Self {
        let pool = Pool {
            engine: EngineKind::LlamaCpp,
            context_tokens,
            ..Pool::local(pool)
        };
        Self {
            engines,
            pool,
            dimensions,
        }
    }

    /// The client it asks with.
    pub(crate) fn engines(&self) -> &Engines {
        &self.engines
    }

    /// The pool, with `url` as its only endpoint.
    pub(crate) fn pool_at(&self, url: &str) -> Pool {
        Pool {
            endpoints: vec![Endpoint::keyless(url)],
            ..self.pool.clone()
        }
    }
}

/// Returns once the engine at `url` has generated a token or made a vector, or has shown that it never will.
pub(crate) async fn until_ready(probe: &Probe, url: &str) -> Result<(), Unfit> {
    let (pool, endpoint) = (&probe.pool, Endpoint::keyless(url));
    loop {
        let deadline = Instant::now() + TOKEN_TIMEOUT;
        let answer = match probe.dimensions {
            Some(wanted) => embeds(&probe.engines, pool, &endpoint, wanted, deadline).await,
            None => {
                let token = probe.engines.probe(pool, &endpoint, deadline).await;
                token.map(|_| Ok(()))
            }
        };
        match answer {
            Ok(fit) => return fit,
            Err(error) => tracing::trace!(pool = %pool.name, "not yet: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks one endpoint for a vector: whether it is of use, or why there was no answer to that.
pub(crate) async fn embeds(
    engines: &Engines,
    pool: &Pool,
    endpoint: &Endpoint,
    wanted: usize,
    deadline: Instant,
) -> Result<Result<(), Unfit>, EngineError> {
    match engines.probe_vector(pool, endpoint, deadline).await {
        Ok(found) if found == wanted => Ok(Ok(())),
        Ok(found) => Ok(Err(Unfit::Dimensions { wanted, found })),
        Err(EngineError::Status {
            status: 400 | 404 | 405 | 501,
            message,
            ..
        }) => Ok(Err(Unfit::NoEmbedder(message))),
        Err(error) => Err(error),
    }
}

/// Requests that an engine works on or has queued, from its metrics; `None` when it does not say.
pub(crate) async fn requests_in_engine(url: &str) -> Option<u64> {
    let address = url.strip_prefix("http://")?;
    let read = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        // HTTP/1.0, so that the engine closes the connection behind a body without chunks.
        stream
            .write_all(b"GET /metrics HTTP/1.0\r\n\r\n")
            .await
            .ok()?;
        let mut bytes = Vec::new();
        stream
            .take(METRICS_BYTES_MAX)
            .read_to_end(&mut bytes)
            .await
            .ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    in_flight(&tokio::time::timeout(METRICS_TIMEOUT, read).await.ok()??)
}

fn in_flight(metrics: &str) -> Option<u64> {
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    let processing = value("llamacpp:requests_processing ")?;
    Some(processing + value("llamacpp:requests_deferred ").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_an_engine_are_those_worked_on_and_those_queued() {
        let metrics = "HTTP/1.0 200 OK\r\n\r\n# TYPE llamacpp:requests_processing gauge\n\
                       llamacpp:requests_processing 2\nllamacpp:requests_deferred 3\n";
        assert_eq!(in_flight(metrics), Some(5));
        assert_eq!(in_flight("HTTP/1.0 404 Not Found\r\n\r\n"), None);
    }
}
