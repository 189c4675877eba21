//! The keys of the plan's issuer, kept fresh.
//!
//! One task fetches, and nobody else: it does so when keys have aged, and once when a token names a key that is not there, but
//! not again for [`ASKED_AGAIN_AFTER`], so that made-up names cannot be turned on the issuer. Keys that cannot be fetched again
//! stay for [`KEPT_FOR`]. Reading on: `fetch.rs`.

use super::compact::Compact;
use super::fetch::{FETCH_TIMEOUT, Fetcher};
use super::key_set::KeySet;
use super::{Subject, TokenError, verify};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use weir_plan::{GatewayPlan, JwtKeys, chain};

/// Least time between two fetches that tokens with unknown keys cause.
pub(crate) const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long keys are good when their issuer does not say.
const GOOD_FOR: Duration = Duration::from_secs(600);
/// Bounds of what it says.
const GOOD_FOR_MIN: Duration = Duration::from_secs(60);
const GOOD_FOR_MAX: Duration = Duration::from_secs(3600);
/// How long keys open that cannot be fetched again.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Pause after a first failed fetch; it doubles with each up to [`GOOD_FOR_MIN`].
const PAUSE: Duration = Duration::from_secs(1);

/// The keys of an issuer, and when they are fetched. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    fetcher: Fetcher,
    /// Somebody waits for a fetch.
    wanted: Notify,
    /// Counts fetches that ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    source: Option<JwtKeys>,
    keys: Option<Arc<KeySet>>,
    /// When the keys came.
    fetched: Option<Instant>,
    /// When they are fetched next; at once where this is not set.
    next: Option<Instant>,
    /// When a token with an unknown key last caused a fetch.
    asked_for: Option<Instant>,
    is_fetching: bool,
    failures_in_a_row: u32,
    refreshed: u64,
    failed: u64,
}

/// What a scrape shows; `None` where no address is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Counts {
    pub(crate) keys: usize,
    /// `None` as long as none came.
    pub(crate) age: Option<Duration>,
    pub(crate) refreshed: u64,
    pub(crate) failed: u64,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                fetcher: Fetcher::new(),
                wanted: Notify::new(),
                ended: watch::Sender::new(0),
            }),
        }
    }

    /// Takes the keys of this plan's issuer from now on. Those of the same source stay.
    pub(crate) fn follow(&self, plan: &GatewayPlan) {
        let source = plan.jwt.as_ref().map(|jwt| &jwt.keys);
        let mut state = self.lock();
        if state.source.as_ref() == source {
            return;
        }
        let (refreshed, failed) = (state.refreshed, state.failed);
        let inline = match source {
            Some(JwtKeys::Inline(document)) => Some(KeySet::parse(document.as_bytes())),
            _ => None,
        };
        *state = State {
            source: source.cloned(),
            keys: inline.and_then(Result::ok).map(Arc::new),
            refreshed,
            failed,
            ..State::default()
        };
        drop(state);
        self.shared.wanted.notify_one();
    }

    /// Who a token speaks for. One whose key is not known may wait for the keys to be fetched once more.
    pub(crate) async fn subject(
        &self,
        token: &str,
        plan: &GatewayPlan,
    ) -> Result<Subject, TokenError> {
        let jwt = plan.jwt.as_ref().ok_or(TokenError::UnknownKey)?;
        let token = Compact::parse(token)?;
        let known = |keys: Arc<KeySet>| verify(&token, &keys, (jwt, &plan.tenants), unix_now());
        let first = self.keys(&jwt.keys).map(known);
        if !matches!(
            first,
            Err(TokenError::KeysAway(_)) | Ok(Err(TokenError::UnknownKey))
        ) {
            return first?;
        }
        if !self.fetched_anew().await {
            return first?;
        }
        known(self.keys(&jwt.keys)?)
    }

    /// Waits for a fetch that is under way or may begin now; false when none may.
    async fn fetched_anew(&self) -> bool {
        let mut ended = self.shared.ended.subscribe();
        if !self.lock().may_fetch(Instant::now()) {
            return false;
        }
        self.shared.wanted.notify_one();
        let waited = tokio::time::timeout(FETCH_TIMEOUT, ended.changed()).await;
        matches!(waited, Ok(Ok(())))
    }

    /// The keys of this source: a request may hold an older plan than the one whose keys are kept.
    fn keys(&self, source: &JwtKeys) -> Result<Arc<KeySet>, TokenError> {
        let state = self.lock();
        if state.source.as_ref() != Some(source) {
            return Err(TokenError::KeysAway(PAUSE));
        }
        state.usable(Instant::now())
    }

    /// Fetches what is due, if anything is, and waits until more may be, `at_most` for so long.
    pub(crate) async fn upkeep(&self, at_most: Duration) {
        let (due, until) = {
            let mut state = self.lock();
            let now = Instant::now();
            let due = state.due(now);
            state.is_fetching = due.is_some();
            (due, state.next.unwrap_or(now + at_most))
        };
        let Some(url) = due else {
            let until = until.min(Instant::now() + at_most);
            let _ = tokio::time::timeout_at(until, self.shared.wanted.notified()).await;
            return;
        };
        let fetched = self.shared.fetcher.fetch(&url).await;
        {
            let mut state = self.lock();
            if state.source != Some(JwtKeys::Url(url)) {
                return;
            }
            match fetched {
                Ok((keys, good_for)) => state.refresh(keys, good_for, Instant::now()),
                Err(error) => {
                    tracing::warn!("fetching the issuer's keys: {}", chain(&error));
                    state.fail(Instant::now());
                }
            }
        }
        self.shared.ended.send_modify(|ended| *ended += 1);
    }

    pub(crate) fn counts(&self) -> Option<Counts> {
        let state = self.lock();
        state.source.as_ref()?;
        Some(Counts {
            keys: state.keys.as_ref().map_or(0, |keys| keys.len()),
            age: state.fetched.map(|fetched| fetched.elapsed()),
            refreshed: state.refreshed,
            failed: state.failed,
        })
    }

    /// The data behind this lock is valid after every statement.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The address to fetch from now.
    fn due(&self, now: Instant) -> Option<String> {
        match &self.source {
            Some(JwtKeys::Url(url)) if self.next.is_none_or(|next| next <= now) => {
                Some(url.clone())
            }
            _ => None,
        }
    }

    /// Whether who misses a key may wait for a fetch, which is due then.
    fn may_fetch(&mut self, now: Instant) -> bool {
        if !matches!(self.source, Some(JwtKeys::Url(_))) {
            return false;
        }
        if self.is_fetching || self.due(now).is_some() {
            return true;
        }
        // While it fails, the pauses say when it is asked again.
        let lately = |asked: Instant| now < asked + ASKED_AGAIN_AFTER;
        if self.failures_in_a_row > 0 || self.asked_for.is_some_and(lately) {
            return false;
        }
        self.asked_for = Some(now);
        self.next = None;
        true
    }

    fn refresh(&mut self, keys: KeySet, good_for: Option<Duration>, now: Instant) {
        let good_for = good_for
            .unwrap_or(GOOD_FOR)
            .clamp(GOOD_FOR_MIN, GOOD_FOR_MAX);
        self.keys = Some(Arc::new(keys));
        self.fetched = Some(now);
        self.next = Some(now + good_for);
        self.is_fetching = false;
        self.failures_in_a_row = 0;
        self.refreshed += 1;
    }

    fn fail(&mut self, now: Instant) {
        let doubled = 2u32.saturating_pow(self.failures_in_a_row.min(6));
        self.next = Some(now + (PAUSE * doubled).min(GOOD_FOR_MIN));
        self.is_fetching = false;
        self.failures_in_a_row += 1;
        self.failed += 1;
    }

    /// The keys, while they are not too old.
    fn usable(&self, now: Instant) -> Result<Arc<KeySet>, TokenError> {
        let too_old = |fetched: Instant| now >= fetched + KEPT_FOR;
        let keys = self.keys.as_ref();
        let keys = keys.filter(|_| !self.fetched.is_some_and(too_old));
        let wait = self
            .next
            .map_or(PAUSE, |next| next.saturating_duration_since(now));
        keys.cloned().ok_or(TokenError::KeysAway(wait.max(PAUSE)))
    }
}

fn unix_now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_keys() -> KeySet {
        KeySet::parse(br#"{"keys": []}"#).unwrap()
    }

    fn state() -> (State, Instant) {
        let source = Some(JwtKeys::Url("http://127.0.0.1/keys".into()));
        let state = State {
            source,
            ..State::default()
        };
        (state, Instant::now())
    }

    #[test]
    fn keys_are_fetched_again_within_bounds_of_what_the_issuer_says() {
        for (said, good_for) in [
            (None, 600),
            (Some(0), 60),
            (Some(900), 900),
            (Some(1 << 40), 3600),
        ] {
            let (mut state, now) = state();
            assert!(state.due(now).is_some(), "the first at once");
            state.refresh(no_keys(), said.map(Duration::from_secs), now);
            let at = |seconds| now + Duration::from_secs(seconds);
            assert!(state.due(at(good_for - 1)).is_none(), "{said:?}");
            assert!(state.due(at(good_for)).is_some(), "{said:?}");
        }
    }

    #[test]
    fn unknown_keys_cause_one_fetch_in_ten_seconds_and_none_beside_failures() {
        let (mut state, now) = state();
        let at = |seconds| now + Duration::from_secs(seconds);
        state.refresh(no_keys(), None, now);
        assert!(
            state.may_fetch(at(1)) && state.may_fetch(at(1)),
            "of one fetch"
        );
        state.refresh(no_keys(), None, at(2));
        assert!(!state.may_fetch(at(2)) && !state.may_fetch(at(10)));
        assert!(state.may_fetch(at(11)));
        state.fail(at(12));
        assert!(!state.may_fetch(at(12)), "it rests for a second");
        assert!(state.may_fetch(at(13)));
    }

    #[test]
    fn keys_stay_for_a_day_while_their_issuer_is_away() {
        let (mut state, now) = state();
        assert!(matches!(state.usable(now), Err(TokenError::KeysAway(_))));
        state.refresh(no_keys(), None, now);
        let mut later = now;
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            state.fail(later);
            assert!(state.due(later + Duration::from_secs(pause - 1)).is_none());
            later += Duration::from_secs(pause);
            assert!(state.due(later).is_some());
        }
        assert!(state.usable(now + KEPT_FOR - PAUSE).is_ok());
        assert!(state.usable(now + KEPT_FOR).is_err());
    }
}
