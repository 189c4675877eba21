//! Who leads: one Lease, renewed by its holder, taken over when it was given back or not renewed in time.
//!
//! The epoch of a leader is the Lease's `leaseTransitions`; plans carry it, so that what a former leader sent late is
//! refused. Whether a holder is late is judged by this process's own clock since the record last changed, never by
//! comparing clocks of two machines. A leader that cannot renew stops leading before another may take over. This file
//! decides who leads and nothing of what a leader does.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where the leader's control stream can be reached, as `host:port`.
pub(crate) const ADDRESS: &str = "weir.dev/control-address";

/// Minutes from the Unix epoch to the start of 2025.
const EPOCH_START_MINUTES: i64 = 1_735_689_600 / 60;

/// How long leadership lasts without being renewed, and how often what is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Others may take over when the Lease was not renewed for this long.
    pub(crate) duration: Duration,
    /// The holder stops leading when it could not renew for this long.
    pub(crate) deadline: Duration,
    /// The holder renews this often.
    pub(crate) renew: Duration,
    /// Others look this often.
    pub(crate) poll: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(12),
            deadline: Duration::from_secs(8),
            renew: Duration::from_secs(3),
            poll: Duration::from_secs(1),
        }
    }
}

/// Whether this process leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leadership {
    /// Another one does, reachable at this address, or nobody does yet.
    Follower { leader: Option<String> },
    /// This one does.
    Leader { epoch: u64 },
}

impl Leadership {
    /// The epoch, when this process leads.
    pub(crate) fn epoch(&self) -> Option<u64> {
        match self {
            Self::Leader { epoch } => Some(*epoch),
            Self::Follower { .. } => None,
        }
    }
}

/// Until when this process may write by its own clock. A process that was stopped and goes on believes that it leads until
/// its next look at the Lease; meanwhile another may have taken over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Term(Arc<Mutex<Option<Instant>>>);

impl Term {
    /// Whether the time is over; never so before the first renewal.
    pub(crate) fn is_over(&self) -> bool {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() >= until)
    }

    pub(crate) fn renew(&self, until: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

/// Why the Lease could not be read or written; tried again.
#[derive(Debug, thiserror::Error)]
#[error("{step} lease {name:?}: {source}")]
pub(crate) struct LeaseError {
    step: &'static str,
    name: String,
    #[source]
    source: Box<kube::Error>,
}

/// One candidate for a Lease.
pub(crate) struct Election {
    pub(crate) api: Api<Lease>,
    /// Name of the Lease.
    pub(crate) name: String,
    /// Unique for every start of the process.
    pub(crate) identity: String,
    /// Where this process's control stream can be reached.
    pub(crate) address: String,
    pub(crate) timing: Timing,
    /// Kept by this process while it leads.
    pub(crate) term: Term,
}

/// The record as it was last seen to change.
#[derive(Default)]
struct Seen {
    record: Option<(Option<String>, Option<MicroTime>)>,
    at: Option<Instant>,
    /// The highest transitions that were seen.
    transitions: i32,
}

impl Election {
    /// Stands for election until `stop`, then gives the Lease back so that the next one need not wait.
    pub(crate) async fn run(self, leadership: watch::Sender<Leadership>, stop: CancellationToken) {
        let mut seen = Seen::default();
        let leads = || leadership.borrow().epoch().is_some();
        let mut renewed = Instant::now();
        loop {
            // The others count from when the record was written, which is not before it was asked for.
            let asked = Instant::now();
            let ends = renewed + self.timing.deadline;
            let mut patience = self.timing.renew;
            if leads() {
                patience = patience.min(ends.saturating_duration_since(asked));
            }
            let mut wait = self.timing.poll;
            match tokio::time::timeout(patience, self.step(&mut seen)).await {
                Ok(Ok(now)) => {
                    renewed = asked;
                    self.term.renew(asked + self.timing.deadline);
                    set(&leadership, now);
                    if leads() {
                        wait = self.timing.renew;
                    }
                }
                failed => {
                    if let Ok(Err(error)) = failed {
                        tracing::warn!(%error, "the lease could not be renewed");
                    }
                    let left = ends.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        set(&leadership, Leadership::Follower { leader: None });
                    } else {
                        wait = wait.min(left);
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        let led = leads();
        set(&leadership, Leadership::Follower { leader: None });
        if !led {
            return;
        }
        match tokio::time::timeout(self.timing.renew, self.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease was not given back; it ends by itself");
            }
            Err(_) => tracing::warn!("the lease was not given back in time; it ends by itself"),
        }
    }

    /// Looks at the Lease once, and takes or renews it when that is right.
    async fn step(&self, seen: &mut Seen) -> Result<Leadership, LeaseError> {
        let found = self.api.get_opt(&self.name).await;
        let Some(lease) = found.map_err(|source| self.error("read", source))? else {
            return self.create(seen.transitions).await;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let record = (spec.holder_identity.clone(), spec.renew_time.clone());
        if seen.record.as_ref() != Some(&record) {
            seen.record = Some(record);
            seen.at = Some(Instant::now());
        }
        let transitions = spec.lease_transitions.unwrap_or_default();
        seen.transitions = seen.transitions.max(transitions);
        // One that somebody made empty, as the chart does, was led by nobody, as far as it says.
        let next = match spec.lease_transitions {
            Some(_) => seen.transitions.saturating_add(1),
            None => first_epoch(seen.transitions),
        };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder == self.identity {
            return self.write("renew", lease, transitions).await;
        }
        let quiet = seen.at.map_or(Duration::ZERO, |at| at.elapsed());
        if holder.is_empty() || quiet >= self.timing.duration {
            return self.write("take over", lease, next).await;
        }
        Ok(follower(&lease))
    }

    /// Creates the Lease.
    async fn create(&self, before: i32) -> Result<Leadership, LeaseError> {
        let transitions = first_epoch(before);
        let mut lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(BTreeMap::from([(
                    "app.kubernetes.io/managed-by".to_owned(),
                    "weir".to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            spec: None,
        };
        self.claim(&mut lease, transitions);
        match self.api.create(&PostParams::default(), &lease).await {
            Ok(_) => Ok(leader(transitions)),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                Ok(Leadership::Follower { leader: None })
            }
            Err(source) => Err(self.error("create", source)),
        }
    }

    async fn write(
        &self,
        step: &'static str,
        mut lease: Lease,
        transitions: i32,
    ) -> Result<Leadership, LeaseError> {
        self.claim(&mut lease, transitions);
        let written = self
            .api
            .replace(&self.name, &PostParams::default(), &lease)
            .await;
        match written {
            Ok(_) => Ok(leader(transitions)),
            // Somebody else was faster: the resource version no longer fits.
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                Ok(Leadership::Follower { leader: None })
            }
            Err(source) => Err(self.error(step, source)),
        }
    }

    fn claim(&self, lease: &mut Lease, transitions: i32) {
        let now = MicroTime(Timestamp::now());
        let before = lease.spec.take().unwrap_or_default();
        let renews = before.holder_identity.as_deref() == Some(self.identity.as_str());
        let seconds = i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: before
                .acquire_time
                .filter(|_| renews)
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        });
        let annotations = lease.metadata.annotations.get_or_insert_default();
        annotations.insert(ADDRESS.into(), self.address.clone());
    }

    async fn release(&self) -> Result<(), LeaseError> {
        let found = self.api.get_opt(&self.name).await;
        let Some(mut lease) = found.map_err(|source| self.error("read", source))? else {
            return Ok(());
        };
        let Some(spec) = &mut lease.spec else {
            return Ok(());
        };
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            return Ok(());
        }
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        if let Some(annotations) = &mut lease.metadata.annotations {
            annotations.remove(ADDRESS);
        }
        let written = self
            .api
            .replace(&self.name, &PostParams::default(), &lease)
            .await;
        written
            .map(|_| ())
            .map_err(|source| self.error("give back", source))
    }

    fn error(&self, step: &'static str, source: kube::Error) -> LeaseError {
        LeaseError {
            step,
            name: self.name.clone(),
            source: Box::new(source),
        }
    }
}

/// The transitions of a Lease that says none: the minutes since 2025, or above what was seen `before`, and not zero: when a
/// Lease is lost, epochs must not go back, or gateways would refuse every plan of the new leader.
fn first_epoch(before: i32) -> i32 {
    let minutes = Timestamp::now().as_second() / 60 - EPOCH_START_MINUTES;
    let minutes = i32::try_from(minutes).unwrap_or_default();
    minutes.max(before.saturating_add(1))
}

fn leader(transitions: i32) -> Leadership {
    Leadership::Leader {
        epoch: u64::try_from(transitions).unwrap_or_default(),
    }
}

fn follower(lease: &Lease) -> Leadership {
    let annotations = lease.metadata.annotations.as_ref();
    Leadership::Follower {
        leader: annotations.and_then(|all| all.get(ADDRESS)).cloned(),
    }
}

fn set(leadership: &watch::Sender<Leadership>, now: Leadership) {
    leadership.send_if_modified(|before| {
        if *before == now {
            return false;
        }
        match &now {
            Leadership::Leader { epoch } => tracing::info!(epoch, "leading"),
            Leadership::Follower { leader } => tracing::info!(?leader, "following"),
        }
        *before = now;
        true
    });
}
