//! Pools at zero that demand brings up: requests wait for the first replica, and the demand is counted.
//!
//! It decides nothing about which pool is asked: that a request waits here, or is answered by another pool, was chosen by
//! the gateway. Whoever runs the pools reads the counts. Reading on: `load.rs`.

use crate::engines::Engines;
use crate::error::EngineError;
use crate::load::PoolLoad;
use crate::replica::Live;
use std::borrow::Cow;
use std::time::Instant;
use weir_plan::Pool;

impl Engines {
    /// Load of every pool, by name: totals since the process began, and what goes on now.
    pub fn loads(&self) -> Vec<PoolLoad> {
        self.replicas().loads()
    }

    /// A request chose a pool at zero and does not wait for it, or has it asked by another process.
    pub fn wanted(&self, pool: &Pool) {
        self.replicas().counts(&pool.name).wanted();
    }

    /// The pool to ask: for one at zero that demand brings up, the same pool once its first replica is there. The
    /// request is counted as waiting until then. Every other pool is returned as it is, at once.
    ///
    /// # Errors
    /// No replica came until the deadline.
    pub async fn warm<'a>(
        &self,
        pool: &'a Pool,
        deadline: Instant,
    ) -> Result<Cow<'a, Pool>, EngineError> {
        if !pool.endpoints.is_empty() || pool.when_cold.is_none() {
            return Ok(Cow::Borrowed(pool));
        }
        let replicas = self.replicas();
        let mut changes = replicas.changes();
        let mut waiting = None;
        let since = Instant::now();
        loop {
            match replicas.live(pool) {
                Live::Warm(warm) => return Ok(Cow::Owned(*warm)),
                // To ask it says that there is no endpoint.
                Live::Gone => return Ok(Cow::Borrowed(pool)),
                Live::Cold => {}
            }
            waiting.get_or_insert_with(|| {
                let counts = replicas.counts(&pool.name);
                counts.wanted();
                counts.waiting()
            });
            let changed = tokio::time::timeout_at(deadline.into(), changes.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(EngineError::Cold {
                    pool: pool.name.clone(),
                    waited: since.elapsed(),
                });
            }
        }
    }
}
