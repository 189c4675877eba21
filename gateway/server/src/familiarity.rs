//! Whether requests are like those that the active version of the router was trained on: what this process counts of it.
//!
//! Every request that is decided is read once by the active version, whichever version is dispatched. The arithmetic is
//! `weir_router::novelty` and `weir_router::drift`; what the counts come to in a cluster is the operator's to say. A window
//! belongs to one artifact and begins again with another.

use std::sync::{Mutex, PoisonError};
use weir_router::drift::{Drift, Window};
use weir_router::novelty::Reading;
use weir_router::{Choice, Router, StepFeatures};

/// The counters of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Familiarity {
    inner: Mutex<Inner>,
}

/// Totals since this process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests that were compared with those of training.
    pub(crate) compared: u64,
    /// Of them, the unusual ones.
    pub(crate) unusual: u64,
    /// Decisions that a certificate moved from the least capable model to the biggest permitted one.
    pub(crate) held_back: u64,
}

/// The last requests of one process, beside the artifact that they are compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct FamiliarityReport {
    /// SHA-256 of the artifact, lower-case hex.
    pub sha256: String,
    /// What was summed up.
    pub window: Window,
}

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    sha256: String,
    window: Window,
    /// Whether the log has said that requests have drifted.
    told: bool,
}

impl Familiarity {
    /// The active version read a request that is decided now.
    pub(crate) fn saw(&self, active: &Router, features: &[StepFeatures]) {
        let Some(reading) = active.compare(features) else {
            return;
        };
        self.lock().add(active, &reading);
    }

    /// A choice was taken.
    pub(crate) fn chose(&self, choice: &Choice) {
        self.lock().counts.held_back += u64::from(choice.held_back.is_some());
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// What was summed up for the active version; `None` where it has read no request.
    pub(crate) fn report(&self, active: &Router) -> Option<FamiliarityReport> {
        let inner = self.lock();
        let is_own = inner.sha256 == active.artifact().sha256();
        is_own.then(|| FamiliarityReport {
            sha256: inner.sha256.clone(),
            window: inner.window.clone(),
        })
    }

    /// How this process's last requests differ from those of training; `None` where the artifact cannot tell.
    pub(crate) fn drift(&self, active: &Router) -> Option<Drift> {
        let report = self.report(active);
        let window = report.map(|report| report.window).unwrap_or_default();
        window.judge(active.artifact())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, active: &Router, reading: &Reading) {
        let artifact = active.artifact();
        if self.sha256 != artifact.sha256() {
            artifact.sha256().clone_into(&mut self.sha256);
            self.window = Window::default();
            self.told = false;
        }
        let profile = artifact.manifest().profile.as_ref();
        let kinds = profile.map_or(0, |profile| profile.kinds().len());
        self.window.add(reading, kinds);
        self.counts.compared += 1;
        self.counts.unusual += u64::from(reading.unusual);
        if self.counts.compared.is_multiple_of(LOOK_EVERY) {
            self.tell(active);
        }
    }

    /// Says it once in the log when requests have drifted, and once when they are again as in training.
    fn tell(&mut self, active: &Router) {
        let drift = self.window.judge(active.artifact()).unwrap_or_default();
        if !drift.is_known() || drift.findings.is_empty() != self.told {
            return;
        }
        self.told = !self.told;
        if !self.told {
            tracing::info!("requests are again like those that the router was trained on");
            return;
        }
        for finding in drift.findings {
            let (of, says) = (finding.of.as_str(), finding.says);
            tracing::warn!(
                of,
                "requests are not like those that the router was trained on: {says}"
            );
        }
    }
}

/// Requests between two looks at the window for the log.
const LOOK_EVERY: u64 = 64;
