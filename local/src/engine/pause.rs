//! How long a crashed engine waits before it is started again.
//!
//! Pure: who waits and starts is `supervisor.rs`. A crash at start may be over in a moment, such as a lack of memory, and one
//! that stays must not keep the machine busy with loading.

use std::time::Duration;

/// The first pause; doubled with every crash.
const FIRST: Duration = Duration::from_millis(500);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);

/// An engine that has served longer than this begins with the first pause again.
const STABLE: Duration = Duration::from_secs(60);

/// The pause after a run that served for `served`, zero where it never could generate. `last` is the pause before that run,
/// `None` before the first.
pub(super) fn after(last: Option<Duration>, served: Duration) -> Duration {
    match last {
        Some(last) if served <= STABLE => (last * 2).min(LONGEST),
        _ => FIRST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pauses after runs that served for so many seconds, in milliseconds.
    fn pauses(served: &[u64]) -> Vec<u128> {
        let mut last = None;
        let served = served.iter().map(|seconds| Duration::from_secs(*seconds));
        let pauses = served.map(|served| {
            let pause = after(last, served);
            last = Some(pause);
            pause.as_millis()
        });
        pauses.collect()
    }

    #[test]
    fn pauses_double_with_every_crash_up_to_half_a_minute() {
        let expected = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000];
        assert_eq!(pauses(&[0; 9]), expected);
        let forever = pauses(&[60; 10_000]);
        assert_eq!(forever.last(), Some(&30_000), "nothing overflows");
    }

    #[test]
    fn only_a_run_that_served_for_more_than_a_minute_begins_anew() {
        assert_eq!(pauses(&[0, 0, 60, 61, 0]), [500, 1000, 2000, 500, 1000]);
        assert_eq!(pauses(&[3600, 3600, 0]), [500, 500, 1000]);
    }
}
