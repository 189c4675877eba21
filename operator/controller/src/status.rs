//! Writing what was found out: `/status`, only when it says something new, and Events for what people should hear.
//!
//! Times alone are no news, and numbers that drift (speeds, counts, bytes) are written every thirty seconds at most;
//! everything else at once. So an idle cluster is written nothing. A condition keeps its transition time as long as its
//! status stays. Which status is right is decided in `operator/reconcile`.

use crate::apply::{ApplyError, MANAGER};
use crate::cluster::Cluster;
use crate::events::Events;
use crate::unreadable::UNREADABLE;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Numbers alone are written this often at most.
const NUMBERS_EVERY: Duration = Duration::from_secs(30);

/// Reasons of a condition that is not true and needs nobody's attention: it is on its way.
const ON_THE_WAY: [&str; 7] = [
    "Collecting",
    "Downloading",
    "Filling",
    "Loading",
    "Starting",
    "Updating",
    "NotReconciled",
];

/// Reasons that need nobody's attention where a condition is new: what the object depends on is about as new as it is.
const DEPENDS: [&str; 4] = ["SomeNotReady", "NoneReady", "Silent", "EmbedderNotReady"];

/// Writes statuses.
pub(crate) struct Statuses {
    cluster: Cluster,
    events: Events,
    /// When each object's status was last written, by uid.
    written: Mutex<HashMap<String, Instant>>,
}

/// How two statuses differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    None,
    Numbers,
    News,
}

impl Statuses {
    pub(crate) fn new(cluster: Cluster, events: Events) -> Self {
        Self {
            cluster,
            events,
            written: Mutex::default(),
        }
    }

    /// Writes the status of `object` when it says something new. When numbers must wait, says how long.
    pub(crate) async fn write<K>(
        &self,
        object: &K,
        status: &impl Serialize,
    ) -> Result<Option<Duration>, ApplyError>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let before = serde_json::to_value(object).unwrap_or_default();
        let before = before.get("status").cloned().unwrap_or_else(|| json!({}));
        let mut after = serde_json::to_value(status).unwrap_or_default();
        keep_times(&before, &mut after, Timestamp::now());
        let uid = object.uid().unwrap_or_default();
        match difference(&before, &after) {
            Difference::None => return Ok(None),
            Difference::Numbers => {
                if let Some(wait) = self.numbers_wait(&uid) {
                    return Ok(Some(wait));
                }
            }
            Difference::News => {}
        }
        self.cluster.may_write()?;
        let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
        let api: Api<K> = Api::namespaced(self.cluster.client(), &namespace);
        let patch = json!({"status": merge_patch(&before, &after)});
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        match api
            .patch_status(&name, &params, &Patch::Merge(&patch))
            .await
        {
            Ok(_) => {}
            // Deleted meanwhile: nobody is left to tell.
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(None),
            Err(source) => {
                return Err(ApplyError::Api {
                    step: "write the status of",
                    object: format!("{} {name}", K::kind(&())),
                    source: Box::new(source),
                });
            }
        }
        self.wrote(uid);
        for turn in turns(&before, &after) {
            let Turn {
                warning,
                reason,
                message,
            } = turn;
            self.events.tell(object, warning, reason, message).await;
        }
        Ok(None)
    }

    /// Tells of what was changed back, as an Event.
    pub(crate) async fn corrected<K>(&self, object: &K, what: &[String])
    where
        K: Resource<DynamicType = ()>,
    {
        for what in what {
            let message = format!("changed back to what Weir manages: {what}");
            self.events
                .tell(object, true, "DriftCorrected", &message)
                .await;
        }
    }

    /// Tells of a failure that is tried again, as an Event.
    pub(crate) async fn failed<K>(&self, object: &K, error: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        self.events
            .tell(object, true, "ReconcileFailed", error)
            .await;
    }

    /// Tells of an object that this version cannot read, as an Event.
    pub(crate) async fn unreadable(&self, object: &ObjectReference, message: &str) {
        let told = self.events.tell_about(object, true, UNREADABLE, message);
        told.await;
    }

    /// Forgets objects that are gone.
    pub(crate) fn forget(&self) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.retain(|_, at| at.elapsed() < NUMBERS_EVERY);
    }

    fn wrote(&self, uid: String) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(uid, Instant::now());
    }

    fn numbers_wait(&self, uid: &str) -> Option<Duration> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let since = written.get(uid)?.elapsed();
        NUMBERS_EVERY.checked_sub(since).filter(|w| !w.is_zero())
    }
}

/// Gives each condition the transition time it had while its status stays, and `now` otherwise.
fn keep_times(before: &Value, after: &mut Value, now: Timestamp) {
    let Some(conditions) = after["conditions"].as_array_mut() else {
        return;
    };
    for condition in conditions {
        let same = find(before, &condition["type"])
            .filter(|before| before["status"] == condition["status"])
            .map(|before| before["lastTransitionTime"].clone())
            .filter(Value::is_string);
        let now = || Value::from(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        condition["lastTransitionTime"] = same.unwrap_or_else(now);
    }
}

fn find<'a>(status: &'a Value, kind: &Value) -> Option<&'a Value> {
    let conditions = status["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == *kind)
}

fn difference(before: &Value, after: &Value) -> Difference {
    compare(before, after, "")
}

fn compare(before: &Value, after: &Value, field: &str) -> Difference {
    match (before, after) {
        _ if before == after => Difference::None,
        (Value::Number(before), Value::Number(after)) => {
            if before.as_f64() == after.as_f64() {
                Difference::None
            } else if is_count(field) {
                Difference::News
            } else {
                Difference::Numbers
            }
        }
        (Value::Object(before), Value::Object(after)) => {
            let names = before.keys().chain(after.keys());
            let differences = names.map(|name| {
                let (before, after) = (before.get(name), after.get(name));
                match (before, after) {
                    (Some(before), Some(after)) => compare(before, after, name),
                    (Some(Value::Null), None) | (None, Some(Value::Null)) => Difference::None,
                    _ => Difference::News,
                }
            });
            worst(differences)
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            let pairs = before.iter().zip(after);
            worst(pairs.map(|(before, after)| compare(before, after, field)))
        }
        // When something was measured is part of the measurement.
        (Value::String(_), Value::String(_)) if field == "measuredAt" => Difference::Numbers,
        (Value::String(before), Value::String(after))
            if field == "message" && says_the_same(before, after) =>
        {
            Difference::Numbers
        }
        _ => Difference::News,
    }
}

/// Whether two messages differ in nothing but their numbers.
fn says_the_same(before: &str, after: &str) -> bool {
    words(before).eq(words(after))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|character: char| character.is_ascii_digit());
    words.filter(|word| !word.is_empty())
}

/// Numbers that people and autoscalers act on.
fn is_count(field: &str) -> bool {
    field == "observedGeneration"
        || field.ends_with("eplicas")
        || field.ends_with("Count")
        || field == "weight"
}

fn worst(differences: impl Iterator<Item = Difference>) -> Difference {
    let mut found = Difference::None;
    for difference in differences {
        match difference {
            Difference::News => return Difference::News,
            Difference::Numbers => found = Difference::Numbers,
            Difference::None => {}
        }
    }
    found
}

/// The merge patch that turns one status into another: fields that are gone become null.
fn merge_patch(before: &Value, after: &Value) -> Value {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let mut patch = Map::new();
            for (name, value) in after {
                match before.get(name) {
                    Some(same) if same == value => {}
                    Some(other) => {
                        patch.insert(name.clone(), merge_patch(other, value));
                    }
                    None => {
                        patch.insert(name.clone(), value.clone());
                    }
                }
            }
            for name in before.keys().filter(|name| !after.contains_key(*name)) {
                patch.insert(name.clone(), Value::Null);
            }
            Value::Object(patch)
        }
        (_, after) => after.clone(),
    }
}

/// A condition that turned, as an Event tells it.
#[derive(Debug, PartialEq, Eq)]
struct Turn<'a> {
    warning: bool,
    reason: &'a str,
    message: &'a str,
}

/// What turned: `Ready` whatever it says, and every other condition that became false or true again. What `Ready` says
/// already, and what is only on its way, is told once and not for each condition.
fn turns<'a>(before: &Value, after: &'a Value) -> Vec<Turn<'a>> {
    let mut told: Vec<Turn<'a>> = Vec::new();
    for now in after["conditions"].as_array().into_iter().flatten() {
        let then = find(before, &now["type"]);
        let word = |field: &str| now[field].as_str().unwrap_or_default();
        let (status, reason) = (word("status"), word("reason"));
        let was = |field: &str| {
            then.and_then(|then| then[field].as_str())
                .unwrap_or_default()
        };
        if (status, reason) == (was("status"), was("reason")) {
            continue;
        }
        let on_its_way = |reason: &str| ON_THE_WAY.contains(&reason);
        let warning = status == "False" && !on_its_way(reason);
        let is_told = match status {
            _ if now["type"] == "Ready" => true,
            "False" => warning && !(then.is_none() && DEPENDS.contains(&reason)),
            "True" => was("status") == "False" && !on_its_way(was("reason")),
            _ => false,
        };
        if is_told && told.iter().all(|turn| turn.reason != reason) {
            let message = word("message");
            told.push(Turn {
                warning,
                reason,
                message,
            });
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(ready: &str, speed: f64, replicas: u32) -> Value {
        json!({
            "conditions": [{"type": "Ready", "status": ready, "reason": "X", "message": "m",
                            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}],
            "performance": {"decodeTokensPerSecond": speed}, "readyReplicas": replicas,
        })
    }

    #[test]
    fn numbers_wait_and_everything_else_is_news() {
        let base = status("True", 10.0, 1);
        assert_eq!(difference(&base, &base), Difference::None);
        assert_eq!(
            difference(&base, &status("True", 11.0, 1)),
            Difference::Numbers
        );
        assert_eq!(
            difference(&base, &status("True", 10.0, 2)),
            Difference::News
        );
        assert_eq!(
            difference(&base, &status("False", 11.0, 1)),
            Difference::News
        );
        let said = |message: &str| {
            let mut status = base.clone();
            status["conditions"][0]["message"] = message.into();
            status
        };
        let counted = difference(&said("9 nodes"), &said("10 nodes"));
        assert_eq!(counted, Difference::Numbers);
        let other = difference(&said("9 nodes"), &said("9 edges"));
        assert_eq!(other, Difference::News);
        let mut generation = base.clone();
        generation["conditions"][0]["observedGeneration"] = 2.into();
        assert_eq!(difference(&base, &generation), Difference::News);
    }

    #[test]
    fn a_transition_time_stays_while_the_status_does() {
        let now: Timestamp = "2026-02-02T00:00:00Z".parse().unwrap();
        let before = status("True", 1.0, 1);
        let mut same = before.clone();
        same["conditions"][0]["lastTransitionTime"] = Value::Null;
        keep_times(&before, &mut same, now);
        assert_eq!(same, before);
        let mut turned = status("False", 1.0, 1);
        keep_times(&before, &mut turned, now);
        assert_eq!(
            turned["conditions"][0]["lastTransitionTime"],
            "2026-02-02T00:00:00Z"
        );
    }

    #[test]
    fn a_patch_removes_what_is_gone_and_leaves_what_stays() {
        let before = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1]});
        let after = json!({"a": 1, "b": {"c": 3}, "e": [2]});
        let patch = merge_patch(&before, &after);
        assert_eq!(patch, json!({"b": {"c": 3, "d": null}, "e": [2]}));
    }

    #[test]
    fn a_turn_of_readiness_is_told_whatever_it_says() {
        let before = status("True", 1.0, 1);
        assert_eq!(turns(&before, &status("True", 5.0, 3)), []);
        let after = status("False", 1.0, 1);
        let [turn] = &turns(&before, &after)[..] else {
            panic!("one turn")
        };
        assert_eq!((turn.warning, turn.reason), (true, "X"));
        assert_eq!(turns(&json!({}), &before).len(), 1);
        let mut loading = status("False", 1.0, 1);
        loading["conditions"][0]["reason"] = "Loading".into();
        assert!(!turns(&before, &loading)[0].warning, "it is on its way");
    }

    #[test]
    fn another_condition_is_told_when_it_fails_and_when_it_holds_again() {
        let with = |status: &str, reason: &str| {
            let ready =
                json!({"type": "Ready", "status": "True", "reason": "Serving", "message": ""});
            let other =
                json!({"type": "Scaling", "status": status, "reason": reason, "message": "m"});
            json!({"conditions": [ready, other]})
        };
        let told = |before: &Value, after: &Value| -> Vec<(bool, String)> {
            let turns = turns(before, after).into_iter();
            turns
                .map(|turn| (turn.warning, turn.reason.to_owned()))
                .collect()
        };
        let (good, bad) = (with("True", "Active"), with("False", "Conflict"));
        assert_eq!(told(&good, &bad), [(true, "Conflict".to_owned())]);
        assert_eq!(told(&bad, &good), [(false, "Active".to_owned())]);
        assert_eq!(told(&good, &with("True", "Other")), []);
        let new = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "Serving"}]});
        assert_eq!(
            told(&new, &with("False", "NoneReady")),
            [],
            "its pools are new too"
        );
        assert_eq!(told(&good, &with("False", "NoneReady")).len(), 1);
        assert_eq!(told(&good, &with("False", "Filling")), []);
        let mut both = with("False", "Conflict");
        both["conditions"][0]["status"] = "False".into();
        both["conditions"][0]["reason"] = "Conflict".into();
        assert_eq!(told(&good, &both).len(), 1, "one reason is told once");
    }
}
