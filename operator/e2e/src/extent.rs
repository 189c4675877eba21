//! How much is asked while something is changed on purpose: CI's share, or the whole.

use std::time::Duration;

/// Scenarios whose changes are planned, so that no request may fail: together they see as many as [`Extent::requests`].
pub(crate) const PLANNED: [&str; 4] = ["scale", "fields", "rollouts", "upgrade"];

/// How long the scenarios go on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    /// As CI runs them.
    Ordinary,
    /// Until planned changes have seen 100,000 requests, and an idle stack ten minutes.
    Full,
}

impl Extent {
    /// Requests that planned changes see in a whole run.
    pub(crate) fn requests(self) -> usize {
        match self {
            Self::Ordinary => 5_000,
            Self::Full => 100_000,
        }
    }

    /// How many of them each scenario with planned changes sends at least: it goes on with its changes until then.
    pub(crate) fn share(self) -> usize {
        self.requests().div_ceil(PLANNED.len())
    }

    /// How long nothing may be written to an idle stack: longer than numbers in a status are held back.
    pub(crate) fn idle(self) -> Duration {
        match self {
            Self::Ordinary => Duration::from_secs(45),
            Self::Full => Duration::from_secs(600),
        }
    }

    /// Between two requests.
    pub(crate) fn gap(self) -> Duration {
        match self {
            Self::Ordinary => Duration::from_millis(40),
            Self::Full => Duration::from_millis(25),
        }
    }
}
