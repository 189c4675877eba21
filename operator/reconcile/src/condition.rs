//! Conditions: what `kubectl describe` shows and `kubectl wait` waits for.
//!
//! Order is the order in which a status sets them, `Ready` first. A condition keeps the time of its last change as long as
//! its status word stays, whatever happens to reason and message.

use crate::validate::Problem;
pub use k8s_openapi::jiff::Timestamp;
use weir_crds::{Condition, Time};

/// What is new in a status: the conditions before, the generation that was looked at, and the time.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Conditions of the status before.
    pub before: &'a [Condition],
    /// `metadata.generation` of the object.
    pub generation: Option<i64>,
    /// Now, in whole seconds.
    pub now: Timestamp,
}

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// CamelCase word that programs read.
    pub reason: String,
    /// Sentence that people read: what is wrong and what to do.
    pub message: String,
}

/// Longest message that the API server takes is 32,768 bytes; a log line of an engine needs less.
const MESSAGE_MAX: usize = 1024;

impl Verdict {
    /// It is so.
    pub fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self::new("True", reason, message)
    }

    /// It is not so.
    pub fn no(reason: &str, message: impl Into<String>) -> Self {
        Self::new("False", reason, message)
    }

    /// It is not known.
    pub fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self::new("Unknown", reason, message)
    }

    fn new(status: &'static str, reason: &str, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if let Some((end, _)) = message.char_indices().nth(MESSAGE_MAX) {
            message.truncate(end);
        }
        Self {
            status,
            reason: reason.to_owned(),
            message,
        }
    }

    /// What is wrong with an object: the first problem gives the reason, all of them the message.
    pub fn of_problems(first: &Problem, all: &[Problem]) -> Self {
        let says = |problem: &Problem| {
            format!(
                "{}: {}: {}",
                problem.field, problem.message, problem.instead
            )
        };
        let all: Vec<String> = all.iter().map(says).collect();
        Self::no(&first.reason, all.join("; "))
    }

    /// Whether it is so.
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}

impl Seen<'_> {
    /// Conditions of a status, in the order given.
    pub fn conditions(&self, verdicts: Vec<(&str, Verdict)>) -> Vec<Condition> {
        verdicts
            .into_iter()
            .map(|(kind, verdict)| self.condition(kind, verdict))
            .collect()
    }

    fn condition(&self, kind: &str, verdict: Verdict) -> Condition {
        let same = self
            .before
            .iter()
            .find(|before| before.type_ == kind && before.status == verdict.status);
        Condition {
            last_transition_time: same
                .map_or(Time(self.now), |before| before.last_transition_time.clone()),
            message: verdict.message,
            observed_generation: self.generation,
            reason: verdict.reason,
            status: verdict.status.to_owned(),
            type_: kind.to_owned(),
        }
    }

    /// The conditions of an object that the annotation [`weir_crds::PAUSED`] stops: those before, and that it is so.
    pub fn paused(&self) -> Vec<Condition> {
        let message = format!(
            "not reconciled while the annotation {} is \"true\": remove it to go on",
            weir_crds::PAUSED
        );
        let kept = self.before.iter().filter(|before| before.type_ != PAUSED);
        let mut conditions: Vec<Condition> = kept.cloned().collect();
        conditions.push(self.condition(PAUSED, Verdict::yes("Annotation", message)));
        conditions
    }
}

/// Type of the condition of a paused object.
const PAUSED: &str = "Paused";

/// Whether the annotations stop an object from being reconciled.
pub fn is_paused(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> bool {
    let annotations = metadata.annotations.as_ref();
    annotations.is_some_and(|all| {
        all.get(weir_crds::PAUSED)
            .is_some_and(|word| word == "true")
    })
}

/// Rounds to three significant digits, so that a status does not change with every measurement.
pub fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let magnitude = value.abs().log10().floor();
    let scale = 10f64.powf(2.0 - magnitude);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_word_changes() {
        let first = Seen {
            before: &[],
            generation: Some(1),
            now: at(100),
        };
        let before = first.conditions(vec![("Ready", Verdict::no("Loading", "loads"))]);
        let seen = Seen {
            before: &before,
            generation: Some(2),
            now: at(200),
        };
        let other = seen.conditions(vec![("Ready", Verdict::no("Failed", "fails"))]);
        assert_eq!(other[0].last_transition_time, Time(at(100)));
        assert_eq!(other[0].observed_generation, Some(2));
        let ready = seen.conditions(vec![("Ready", Verdict::yes("Serving", ""))]);
        assert_eq!(ready[0].last_transition_time, Time(at(200)));
    }

    #[test]
    fn pausing_keeps_what_was_known_and_ends_without_a_trace() {
        let seen = Seen {
            before: &[],
            generation: Some(1),
            now: at(100),
        };
        let before = seen.conditions(vec![("Ready", Verdict::yes("Serving", ""))]);
        let seen = Seen {
            before: &before,
            ..seen
        };
        let paused = seen.paused();
        let types: Vec<&str> = paused.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(types, ["Ready", "Paused"]);
        let again = Seen {
            before: &paused,
            now: at(900),
            ..seen
        };
        assert_eq!(again.paused(), paused);
        let resumed = again.conditions(vec![("Ready", Verdict::yes("Serving", ""))]);
        assert_eq!(resumed, before);
    }

    #[test]
    fn numbers_keep_three_digits() {
        for (value, shown) in [
            (41.2345, 41.2),
            (0.123_456, 0.123),
            (12345.0, 12300.0),
            (0.0, 0.0),
        ] {
            assert!((rounded(value) - shown).abs() < 1e-9, "{value}");
        }
    }
}
