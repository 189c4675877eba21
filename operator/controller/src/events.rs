//! Events: what people read in `kubectl describe`. Few, never twice for one thing within minutes, never with a secret.

use crate::cluster::Cluster;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The same reason and message about one object is told this often at most.
const AGAIN: Duration = Duration::from_secs(600);
/// Events a minute of the whole operator.
const MINUTELY: u32 = 300;
/// An Event's note may have 1,024 bytes.
const NOTE_MAX: usize = 1000;

type Told = ((String, String), String);

/// Tells Events.
#[derive(Clone)]
pub(crate) struct Events {
    cluster: Cluster,
    recorder: Recorder,
    limits: Arc<Mutex<Limits>>,
}

struct Limits {
    told: HashMap<Told, Instant>,
    minute: Instant,
    count: u32,
}

impl Events {
    pub(crate) fn new(cluster: Cluster, pod: &str) -> Self {
        let reporter = Reporter {
            controller: crate::apply::MANAGER.into(),
            instance: Some(pod.to_owned()),
        };
        Self {
            recorder: Recorder::new(cluster.client(), reporter),
            cluster,
            limits: Arc::new(Mutex::new(Limits {
                told: HashMap::new(),
                minute: Instant::now(),
                count: 0,
            })),
        }
    }

    /// Tells one Event about an object. A failure is logged: no reconcile depends on an Event.
    pub(crate) async fn tell<K>(&self, object: &K, warning: bool, reason: &str, message: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let about = object.object_ref(&());
        self.tell_about(&about, warning, reason, message).await;
    }

    /// The same about an object of which only its reference is known.
    pub(crate) async fn tell_about(
        &self,
        object: &ObjectReference,
        warning: bool,
        reason: &str,
        message: &str,
    ) {
        let uid = object.uid.clone().unwrap_or_default();
        let about = (uid, reason.to_owned());
        let fresh = {
            let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
            limits.admit((about, message.to_owned()), Instant::now())
        };
        if !fresh || self.cluster.may_write().is_err() {
            return;
        }
        let event = Event {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(cut(message)),
            action: "Reconcile".into(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, object).await {
            tracing::debug!(%error, reason, "an event was not published");
        }
    }
}

impl Limits {
    fn admit(&mut self, what: Told, now: Instant) -> bool {
        if now - self.minute >= Duration::from_secs(60) {
            self.minute = now;
            self.count = 0;
            self.told.retain(|_, at| now - *at < AGAIN);
        }
        if self.count >= MINUTELY || self.told.get(&what).is_some_and(|at| now - *at < AGAIN) {
            return false;
        }
        self.count += 1;
        self.told.insert(what, now);
        true
    }
}

fn cut(message: &str) -> String {
    let mut end = message.len().min(NOTE_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(message: &str) -> Told {
        (("uid".into(), "Reason".into()), message.into())
    }

    #[test]
    fn one_thing_is_told_once_in_ten_minutes() {
        let start = Instant::now();
        let mut limits = Limits {
            told: HashMap::new(),
            minute: start,
            count: 0,
        };
        assert!(limits.admit(told("a"), start));
        assert!(!limits.admit(told("a"), start + Duration::from_secs(30)));
        assert!(limits.admit(told("b"), start + Duration::from_secs(30)));
        assert!(limits.admit(told("a"), start + AGAIN));
    }

    #[test]
    fn a_flood_is_cut_off_and_ends_with_its_minute() {
        let start = Instant::now();
        let mut limits = Limits {
            told: HashMap::new(),
            minute: start,
            count: 0,
        };
        for message in 0..MINUTELY {
            assert!(limits.admit(told(&message.to_string()), start));
        }
        assert!(!limits.admit(told("one more"), start));
        assert!(limits.admit(told("one more"), start + Duration::from_secs(60)));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(cut(&"ü".repeat(600)).len(), NOTE_MAX);
    }
}
