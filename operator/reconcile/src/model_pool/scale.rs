//! How many replicas a pool should have, from what its gateways report.
//!
//! More at once, fewer only after a quiet time that every gateway has seen. Pure: the caller keeps [`ScaleMemory`] from
//! one step to the next, and losing it (a new leader) only starts the quiet time again.

use crate::names::FIELD_MANAGER;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use weir_crds::{Autoscaling, ModelPool};

/// What every live gateway together reports of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Load {
    /// Requests that it answers or that wait for it, now.
    pub in_flight: u64,
    /// Whether a request wanted it since the last step, while it had no replica.
    pub wanted: bool,
    /// Whether a memory's process asks it: what that asks is in no gateway's `in_flight`.
    pub asked_unseen: bool,
    /// Since when every live gateway has been reporting; `None` while one does not.
    pub reported_since: Option<Timestamp>,
}

/// What one step remembers for the next: since when fewer replicas would do, and the most that would have done since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScaleMemory {
    quiet: Option<(Timestamp, u32)>,
}

/// The replicas that a pool should have, given those it has.
pub fn autoscale(
    scaling: &Autoscaling,
    current: u32,
    load: &Load,
    (memory, now): (ScaleMemory, Timestamp),
) -> (u32, ScaleMemory) {
    let target = u64::from(scaling.target_in_flight_per_replica.max(1));
    let enough = u32::try_from(load.in_flight.div_ceil(target)).unwrap_or(u32::MAX);
    let current = current.min(scaling.max);
    let wanted = match load {
        // How many would do is not known of what nobody counts, so those that are there stay.
        Load {
            wanted: true,
            asked_unseen: true,
            ..
        } => current.max(1),
        _ => u32::from(load.wanted),
    };
    let enough = enough
        .max(wanted)
        .clamp(scaling.min, scaling.max.max(scaling.min));
    if enough >= current {
        return (enough, ScaleMemory::default());
    }
    let (since, most) = memory.quiet.unwrap_or((now, enough));
    let most = most.max(enough);
    let after = i64::try_from(scaling.scale_down_after.milliseconds()).unwrap_or(i64::MAX);
    let long_ago = |time: Timestamp| now.duration_since(time) >= SignedDuration::from_millis(after);
    if long_ago(since) && load.reported_since.is_some_and(long_ago) {
        return (most, ScaleMemory::default());
    }
    let quiet = Some((since, most));
    (current, ScaleMemory { quiet })
}

/// Who else writes a pool's replicas through the scale subresource, as an HPA does.
pub fn other_scale_manager(pool: &ModelPool) -> Option<String> {
    let entries = pool.metadata.managed_fields.iter().flatten();
    let mut others = entries.filter(|entry| {
        let owns = entry
            .fields_v1
            .as_ref()
            .is_some_and(|fields| fields.0["f:spec"].get("f:replicas").is_some());
        entry.subresource.as_deref() == Some("scale")
            && entry.manager.as_deref() != Some(FIELD_MANAGER)
            && owns
    });
    others.find_map(|entry| entry.manager.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60;

    fn scaling(min: u32, max: u32) -> Autoscaling {
        serde_json::from_value(serde_json::json!({
            "min": min, "max": max, "targetInFlightPerReplica": 4, "scaleDownAfter": "5m"
        }))
        .unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn load(in_flight: u64, reported_since: Option<i64>) -> Load {
        Load {
            in_flight,
            wanted: false,
            asked_unseen: false,
            reported_since: reported_since.map(at),
        }
    }

    #[test]
    fn more_requests_bring_more_replicas_at_once_up_to_the_maximum() {
        let cases = [(0, 1), (1, 1), (4, 1), (5, 2), (16, 4), (1000, 4)];
        for (in_flight, expected) in cases {
            let state = (ScaleMemory::default(), at(0));
            let (replicas, _) = autoscale(&scaling(1, 4), 1, &load(in_flight, None), state);
            assert_eq!(replicas, expected, "{in_flight}");
        }
    }

    #[test]
    fn fewer_come_only_after_a_quiet_time_and_to_the_most_that_it_needed() {
        let scaling = scaling(0, 4);
        let mut state = (ScaleMemory::default(), at(0));
        for (minute, in_flight, expected) in [(0, 8, 4), (3, 12, 4), (4, 0, 4), (5, 0, 3)] {
            state.1 = at(minute * MINUTE);
            let (replicas, memory) = autoscale(&scaling, 4, &load(in_flight, Some(-900)), state);
            assert_eq!(replicas, expected, "minute {minute}");
            state.0 = memory;
        }
    }

    #[test]
    fn a_peak_in_between_starts_the_quiet_time_again() {
        let scaling = scaling(0, 4);
        let mut state = (ScaleMemory::default(), at(0));
        for (minute, in_flight, expected) in
            [(0, 0, 2), (4, 8, 2), (5, 0, 2), (9, 0, 2), (10, 0, 0)]
        {
            state.1 = at(minute * MINUTE);
            let (replicas, memory) = autoscale(&scaling, 2, &load(in_flight, Some(-900)), state);
            assert_eq!(replicas, expected, "minute {minute}");
            state.0 = memory;
        }
    }

    #[test]
    fn nothing_is_removed_before_every_gateway_has_reported_as_long() {
        let scaling = scaling(0, 4);
        let (_, memory) = autoscale(
            &scaling,
            2,
            &load(0, Some(0)),
            (ScaleMemory::default(), at(0)),
        );
        let later = (memory, at(6 * MINUTE));
        assert_eq!(autoscale(&scaling, 2, &load(0, None), later).0, 2);
        assert_eq!(
            autoscale(&scaling, 2, &load(0, Some(2 * MINUTE)), later).0,
            2
        );
        assert_eq!(autoscale(&scaling, 2, &load(0, Some(MINUTE)), later).0, 0);
    }

    #[test]
    fn an_idle_pool_goes_also_after_its_operator_was_replaced() {
        let scaling = scaling(0, 4);
        let lost = (ScaleMemory::default(), at(0));
        let (kept, memory) = autoscale(&scaling, 1, &load(0, Some(0)), lost);
        assert_eq!(kept, 1);
        assert_eq!(
            autoscale(&scaling, 1, &load(0, Some(0)), (memory, at(5 * MINUTE))).0,
            0
        );
    }

    #[test]
    fn a_request_brings_a_pool_up_from_zero() {
        let scaling = scaling(0, 4);
        let state = (ScaleMemory::default(), at(0));
        let wanted = Load {
            wanted: true,
            ..Load::default()
        };
        assert_eq!(autoscale(&scaling, 0, &wanted, state).0, 1);
        assert_eq!(autoscale(&scaling, 0, &load(1, None), state).0, 1);
        assert_eq!(autoscale(&scaling, 0, &load(0, None), state).0, 0);
    }

    #[test]
    fn a_pool_that_a_memory_asks_keeps_its_replicas_while_it_is_wanted_and_goes_when_it_is_not() {
        let scaling = scaling(0, 4);
        let asked = |wanted, minute: i64, memory| {
            let load = Load {
                wanted,
                asked_unseen: true,
                ..load(0, Some(-900))
            };
            autoscale(&scaling, 3, &load, (memory, at(minute * MINUTE)))
        };
        let mut memory = ScaleMemory::default();
        for (minute, wanted, expected) in [
            (0, false, 3),
            (4, true, 3),
            (5, false, 3),
            (9, true, 3),
            (10, false, 3),
            (15, false, 0),
        ] {
            let (replicas, after) = asked(wanted, minute, memory);
            assert_eq!(replicas, expected, "minute {minute}");
            memory = after;
        }
        let idle = Load {
            asked_unseen: true,
            wanted: true,
            ..Load::default()
        };
        let state = (ScaleMemory::default(), at(0));
        assert_eq!(autoscale(&scaling, 0, &idle, state).0, 1);
    }

    #[test]
    fn a_lower_maximum_holds_at_once() {
        let state = (ScaleMemory::default(), at(0));
        assert_eq!(autoscale(&scaling(1, 2), 5, &load(100, None), state).0, 2);
    }
}
