//! Upkeep by itself: one task a memory prunes it and measures its index, in slices, while nobody asks.
//!
//! A slice reads and removes a bounded number of rows, or asks the index one question. Before each one the task waits until
//! no call is being answered, so that a call waits for the rest of one slice at most; a memory that is asked without a pause
//! is not kept up, which the counts show. What a slice does is weir-memory's `upkeep`; this file decides when.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_memory::Memory;
use weir_memory::upkeep::{PrunePolicy, Pruned, Pruning, Slice, TuneOptions};
use weir_plan::chain;

/// How often something to do is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Least time between the beginnings of two passes over the edges and traces.
const PASS_EVERY: Duration = Duration::from_secs(600);

/// Pause after a slice, so that writes come between two.
const SLICE_PAUSE: Duration = Duration::from_millis(5);

/// Pause before it is looked again whether somebody is still being answered.
const CALL_PAUSE: Duration = Duration::from_millis(5);

/// What is done by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UpkeepPolicy {
    /// What may stay; `None` where everything may.
    pub prune: Option<PrunePolicy>,
    /// When the index is measured; `None` for never.
    pub tune: Option<TunePolicy>,
}

/// When the index is measured, and what it must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TunePolicy {
    /// Share of the truly nearest that searches find.
    pub target_recall: f64,
    /// Writes after which it is measured again.
    pub every_writes: u64,
}

/// What upkeep did since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpkeepCounts {
    /// Passes over the whole memory.
    pub passes: u64,
    /// Measurements of the index.
    pub measurements: u64,
    /// Slices of both.
    pub slices: u64,
    /// Slices that waited for calls.
    pub waits: u64,
    /// Rows that were read.
    pub rows_read: u64,
    /// Rows that were removed.
    pub rows_removed: u64,
    /// The most rows that one slice read or removed.
    pub slice_rows_max: u64,
    /// Passes and measurements that failed.
    pub failures: u64,
    /// Traces beyond their age.
    pub traces: u64,
    /// Edges below the least weight.
    pub light: u64,
    /// Edges beyond their age.
    pub old: u64,
    /// Edges beyond the degree budget of a node.
    pub beyond_budget: u64,
}

impl UpkeepCounts {
    /// Edges that were let go.
    pub fn edges(&self) -> u64 {
        self.light + self.old + self.beyond_budget
    }
}

/// The counts, as others see them.
#[derive(Debug, Default)]
pub struct Upkept(Mutex<UpkeepCounts>);

impl Upkept {
    /// The counts now.
    pub fn counts(&self) -> UpkeepCounts {
        *self.held()
    }

    fn held(&self) -> MutexGuard<'_, UpkeepCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a memory up until `stop`.
pub async fn keep_up(
    memory: Memory,
    policy: UpkeepPolicy,
    upkept: Arc<Upkept>,
    stop: CancellationToken,
) {
    let mut keeper = Keeper {
        memory,
        policy,
        upkept,
        last: None,
        stop,
    };
    while keeper.pause(LOOK_EVERY).await.is_ok() {
        match keeper.look().await {
            Ok(()) => {}
            Err(Ended::Stopped) => return,
            Err(Ended::Failed(why)) => {
                keeper.upkept.held().failures += 1;
                tracing::warn!("the memory is not kept up for now: {why}");
            }
        }
    }
}

/// Why a pass or a measurement did not come to its end.
enum Ended {
    Stopped,
    Failed(String),
}

struct Keeper {
    memory: Memory,
    policy: UpkeepPolicy,
    upkept: Arc<Upkept>,
    /// The last pass: when it began, and the last write when it ended.
    last: Option<(Instant, u64)>,
    stop: CancellationToken,
}

impl Keeper {
    async fn look(&mut self) -> Result<(), Ended> {
        if let Some(policy) = self.policy.prune.filter(|policy| self.is_due(policy)) {
            let began = Instant::now();
            // A pass that fails is not begun again at once either.
            self.last = Some((began, self.memory.generation()));
            self.prune(policy).await?;
            self.last = Some((began, self.memory.generation()));
        }
        match self.policy.tune.filter(|policy| self.is_stale(*policy)) {
            Some(policy) => self.measure(policy).await,
            None => Ok(()),
        }
    }

    /// Whether something may have to go: something was written, or grew old.
    fn is_due(&self, policy: &PrunePolicy) -> bool {
        let ages = policy.max_age.is_some() || policy.trace_age.is_some();
        self.last.is_none_or(|(began, generation)| {
            began.elapsed() >= PASS_EVERY && (ages || generation != self.memory.generation())
        })
    }

    /// Whether the index is to be measured: it never was for this target, or much was written since.
    fn is_stale(&self, policy: TunePolicy) -> bool {
        if self.memory.counts().vectors == 0 {
            return false;
        }
        self.memory.tuning().is_none_or(|tuning| {
            let written = self.memory.generation().saturating_sub(tuning.generation);
            tuning.target != policy.target_recall || written >= policy.every_writes
        })
    }

    async fn prune(&self, policy: PrunePolicy) -> Result<(), Ended> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut pruning = self.memory.prune(policy, now_ms);
        loop {
            let before = pruning.pruned();
            let step = |mut pruning: Pruning| {
                let over = pruning.step().map_err(|error| chain(&error));
                over.map(|over| (pruning, over))
            };
            let over;
            (pruning, over) = self.slice(move || step(pruning)).await?;
            self.note(pruning.slice(), &before, &pruning.pruned());
            if over {
                self.upkept.held().passes += 1;
                return Ok(());
            }
        }
    }

    fn note(&self, slice: Slice, before: &Pruned, after: &Pruned) {
        let mut counts = self.upkept.held();
        counts.rows_read += slice.read as u64;
        counts.rows_removed += slice.removed as u64;
        let most = slice.read.max(slice.removed) as u64;
        counts.slice_rows_max = counts.slice_rows_max.max(most);
        counts.traces += (after.traces - before.traces) as u64;
        counts.light += (after.light - before.light) as u64;
        counts.old += (after.old - before.old) as u64;
        counts.beyond_budget += (after.beyond_budget - before.beyond_budget) as u64;
    }

    async fn measure(&self, policy: TunePolicy) -> Result<(), Ended> {
        let options = TuneOptions {
            target: policy.target_recall,
            ..TuneOptions::default()
        };
        let memory = self.memory.clone();
        let mut measuring = self
            .slice(move || memory.tune(options).map_err(|error| chain(&error)))
            .await?;
        loop {
            let over;
            (measuring, over) = self
                .slice(move || {
                    let over = measuring.step().map_err(|error| chain(&error));
                    over.map(|over| (measuring, over))
                })
                .await?;
            if over {
                break;
            }
        }
        let tuned = self
            .slice(move || measuring.finish().map_err(|error| chain(&error)))
            .await?;
        self.upkept.held().measurements += 1;
        if !tuned.reached {
            tracing::warn!(
                recall = tuned.recall,
                target = tuned.target,
                "searches miss more than declared, as hard as they look"
            );
        }
        Ok(())
    }

    /// Does one slice beside the async threads, when nobody is being answered. What it has begun it ends.
    async fn slice<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, Ended> {
        if self.memory.calls() > 0 {
            self.upkept.held().waits += 1;
            while self.memory.calls() > 0 {
                self.pause(CALL_PAUSE).await?;
            }
        }
        let done = tokio::task::spawn_blocking(work).await;
        self.upkept.held().slices += 1;
        self.pause(SLICE_PAUSE).await?;
        done.map_err(|error| Ended::Failed(error.to_string()))?
            .map_err(Ended::Failed)
    }

    async fn pause(&self, time: Duration) -> Result<(), Ended> {
        tokio::select! {
            () = self.stop.cancelled() => Err(Ended::Stopped),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
