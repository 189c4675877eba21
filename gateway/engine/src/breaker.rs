//! The breaker of one replica: when it may be asked, judged from what happened before.
//!
//! Pure: every call is handed the time. Closed until `FAILURES_MAX` failures in a row (one refused connection is
//! enough: nothing listens there), then open with a backoff that doubles, then one probe request decides.
//! Reading on: `replica.rs`.

use std::time::{Duration, Instant};

/// Failures in a row that open a breaker.
const FAILURES_MAX: u32 = 3;
/// Impatient requests in a row that weigh as much as one failure.
const IMPATIENT_PER_FAILURE: u32 = 8;
/// First time a breaker stays open.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Longest time a breaker stays open, and a replica rests.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// How a failure weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Something went wrong; a few in a row open the breaker.
    Counted,
    /// Its client waited too short a time to tell; only many in a row open the breaker.
    Impatient,
    /// Nothing listens: the breaker opens at once.
    Certain,
    /// The replica is healthy and asks to be left alone for a while.
    Rest(Duration),
}

/// Whether a replica may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Ask it.
    Open,
    /// Ask it once; what happens decides.
    Probe,
    /// Leave it alone for this long.
    Wait(Duration),
}

#[derive(Debug)]
pub(crate) struct Breaker {
    /// Weight of the failures in a row.
    failures: u32,
    backoff: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open { until: Instant },
    Resting { until: Instant },
    Probing,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self {
            failures: 0,
            backoff: BACKOFF_MIN,
            state: State::Closed,
        }
    }

    /// What a request at `now` may do. Changes nothing; [`Breaker::take_probe`] does.
    pub(crate) fn admission(&self, now: Instant) -> Admission {
        match self.state {
            State::Closed => Admission::Open,
            State::Resting { until } if until <= now => Admission::Open,
            State::Open { until } if until <= now => Admission::Probe,
            State::Open { until } | State::Resting { until } => Admission::Wait(until - now),
            State::Probing => Admission::Wait(self.backoff),
        }
    }

    /// Marks the one probe of an open breaker as under way.
    pub(crate) fn take_probe(&mut self) {
        self.state = State::Probing;
    }

    /// A probe that ended without a verdict (its client went away) leaves the place to the next one.
    pub(crate) fn abandon_probe(&mut self, now: Instant) {
        if matches!(self.state, State::Probing) {
            self.state = State::Open { until: now };
        }
    }

    /// The probe has begun to answer: others need not wait for its end, but one failure more opens the breaker again.
    pub(crate) fn answering(&mut self) {
        if matches!(self.state, State::Probing) {
            self.state = State::Closed;
            self.failures = (FAILURES_MAX - 1) * IMPATIENT_PER_FAILURE;
        }
    }

    /// An answer ended well. One that began before the breaker opened, or before the replica asked to be left alone, says
    /// nothing about what happened since.
    pub(crate) fn succeeded(&mut self) {
        if matches!(self.state, State::Closed | State::Probing) {
            *self = Self::new();
        }
    }

    pub(crate) fn failed(&mut self, failure: Failure, now: Instant) {
        match failure {
            Failure::Rest(time) => {
                self.state = State::Resting {
                    until: now + time.min(BACKOFF_MAX),
                };
            }
            // It says nothing of the replica, which may hang all the same: at once, the next client would wait for it in vain.
            Failure::Impatient if matches!(self.state, State::Probing) => self.open(now),
            Failure::Counted | Failure::Certain | Failure::Impatient => {
                self.failures += match failure {
                    Failure::Impatient => 1,
                    _ => IMPATIENT_PER_FAILURE,
                };
                let probing = matches!(self.state, State::Probing);
                if probing {
                    self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                }
                let full = self.failures >= FAILURES_MAX * IMPATIENT_PER_FAILURE;
                if probing || failure == Failure::Certain || full {
                    self.open(now);
                }
            }
        }
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Open {
            until: now + self.backoff,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_open_and_one_probe_closes() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        breaker.failed(Failure::Counted, now);
        breaker.failed(Failure::Counted, now);
        breaker.succeeded();
        breaker.failed(Failure::Counted, now);
        breaker.failed(Failure::Counted, now);
        assert_eq!(breaker.admission(now), Admission::Open);
        breaker.failed(Failure::Counted, now);
        assert_eq!(breaker.admission(now), Admission::Wait(BACKOFF_MIN));
        assert_eq!(breaker.admission(now + BACKOFF_MIN), Admission::Probe);
        breaker.take_probe();
        assert!(matches!(
            breaker.admission(now + BACKOFF_MIN),
            Admission::Wait(_)
        ));
        breaker.succeeded();
        assert_eq!(breaker.admission(now), Admission::Open);
    }

    #[test]
    fn impatient_requests_open_it_late_and_as_probes_leave_the_backoff_as_it_is() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        for _ in 0..FAILURES_MAX * IMPATIENT_PER_FAILURE - 1 {
            breaker.failed(Failure::Impatient, now);
        }
        assert_eq!(breaker.admission(now), Admission::Open);
        breaker.failed(Failure::Impatient, now);
        assert_eq!(breaker.admission(now), Admission::Wait(BACKOFF_MIN));
        let later = now + BACKOFF_MIN;
        breaker.take_probe();
        breaker.failed(Failure::Impatient, later);
        assert_eq!(breaker.admission(later), Admission::Wait(BACKOFF_MIN));
        let again = later + BACKOFF_MIN;
        assert_eq!(breaker.admission(again), Admission::Probe);
    }

    #[test]
    fn failed_probes_double_the_backoff_up_to_its_maximum() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new();
        breaker.failed(Failure::Certain, now);
        let mut waits = Vec::new();
        for _ in 0..10 {
            let Admission::Wait(wait) = breaker.admission(now) else {
                panic!("open")
            };
            waits.push(wait);
            now += wait;
            assert_eq!(breaker.admission(now), Admission::Probe);
            breaker.take_probe();
            breaker.failed(Failure::Counted, now);
        }
        assert_eq!(waits[..3], [BACKOFF_MIN, BACKOFF_MIN * 2, BACKOFF_MIN * 4]);
        assert_eq!(waits.last(), Some(&BACKOFF_MAX));
    }

    #[test]
    fn an_abandoned_probe_leaves_the_place_to_the_next() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        breaker.failed(Failure::Certain, now);
        breaker.take_probe();
        breaker.abandon_probe(now);
        assert_eq!(breaker.admission(now), Admission::Probe);
    }

    #[test]
    fn a_probe_that_begins_to_answer_lets_others_in_and_one_failure_shuts_them_out() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        breaker.failed(Failure::Certain, now);
        breaker.take_probe();
        breaker.answering();
        assert_eq!(breaker.admission(now), Admission::Open);
        breaker.failed(Failure::Counted, now);
        assert!(matches!(breaker.admission(now), Admission::Wait(_)));
    }

    #[test]
    fn an_older_answer_that_ends_well_clears_neither_a_rest_nor_an_open_breaker() {
        let now = Instant::now();
        for failure in [Failure::Rest(Duration::from_secs(2)), Failure::Certain] {
            let mut breaker = Breaker::new();
            breaker.failed(failure, now);
            breaker.succeeded();
            assert!(matches!(breaker.admission(now), Admission::Wait(_)));
        }
    }

    #[test]
    fn a_replica_that_asks_for_a_day_of_rest_is_asked_again_within_the_longest_backoff() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        breaker.failed(Failure::Rest(Duration::from_secs(86_400)), now);
        assert_eq!(breaker.admission(now), Admission::Wait(BACKOFF_MAX));
        assert_eq!(breaker.admission(now + BACKOFF_MAX), Admission::Open);
    }

    #[test]
    fn overloaded_replica_is_skipped_until_retry_after() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        breaker.failed(Failure::Rest(Duration::from_secs(2)), now);
        assert_eq!(
            breaker.admission(now),
            Admission::Wait(Duration::from_secs(2))
        );
        assert_eq!(
            breaker.admission(now + Duration::from_secs(2)),
            Admission::Open
        );
    }
}
