//! Statuses that are lost, the gateway's or an attempt's: the version before serves, never the candidate.

use super::*;

#[test]
fn when_the_gateway_s_status_is_lost_the_version_before_serves() {
    for phase in [None, Some(RolloutPhase::Shadow), Some(RolloutPhase::Canary)] {
        let desired = desire(None, "v2", &[attempt(1, "v1", "v2", phase)]);
        assert_eq!(desired.active, version("v1"), "{phase:?}");
        assert_eq!(desired.running.as_deref(), Some("support-v2-1"));
    }
    let failed = attempt(1, "v1", "v2", Some(RolloutPhase::RolledBack));
    let desired = desire(None, "v2", &[failed]);
    assert_eq!((&desired.active, created(&desired)), (&version("v1"), None));
    let passed = attempt(1, "v1", "v2", Some(RolloutPhase::Active));
    assert_eq!(desire(None, "v2", &[passed]).active, version("v2"));
}

#[test]
fn when_a_rollout_s_status_is_lost_no_plan_has_its_candidate() {
    let lost = attempt(1, "v1", "v2", None);
    assert_eq!(served(&version("v1"), Some(&lost)).candidate, None);
    let ended = attempt(1, "v1", "v2", Some(RolloutPhase::RolledBack));
    assert_eq!(served(&version("v1"), Some(&ended)).candidate, None);
}

/// As after a restore, which brings objects back without their statuses: v1 was tried, then v2, then v1 again.
#[test]
fn an_attempt_of_before_that_lost_its_status_does_not_run_again() {
    let attempts = [
        attempt(1, "v0", "v1", None),
        attempt(2, "v1", "v2", None),
        attempt(3, "v2", "v1", Some(RolloutPhase::Active)),
    ];
    let remembered = GatewayRouterStatus {
        attempts: Some(3),
        ..serving("v1").unwrap_or_default()
    };
    // Also while the version that the spec names cannot be read.
    for wanted in [Some(version("v1")), None] {
        let gateway = gateway(Some(remembered.clone()));
        let desired = desired_rollout(&gateway, wanted.as_ref(), &attempts, at(0));
        assert_eq!((created(&desired), &desired.running), (None, &None));
        assert_eq!(desired.active, version("v1"));
        assert_eq!(desired.status.candidate, None);
        let ends: Vec<_> = (desired.end.iter())
            .map(|(called, status)| (called.as_str(), status.phase, status.weight))
            .collect();
        let expected = [
            ("support-v1-1", Some(RolloutPhase::Active), 100),
            ("support-v2-2", Some(RolloutPhase::Aborted), 0),
        ];
        assert_eq!(ends, expected);
    }
    // The newest one is the one that made its version decide.
    let newest = attempt(3, "v2", "v1", None);
    let desired = desire(Some(remembered), "v1", &[newest]);
    assert_eq!((&desired.running, desired.end.len()), (&None, 1));
    assert_eq!(desired.end[0].1.phase, Some(RolloutPhase::Active));
}

#[test]
fn when_all_statuses_are_lost_the_newest_attempt_begins_again_and_no_other() {
    let attempts = [
        attempt(1, "v1", "v2", None),
        attempt(2, "v2", "v3", None),
        attempt(3, "v2", "v4", None),
    ];
    let desired = desire(None, "v4", &attempts);
    assert_eq!(desired.active, version("v2"), "what it was tried against");
    assert_eq!(desired.running.as_deref(), Some("support-v4-3"));
    assert_eq!(served(&desired.active, Some(&attempts[2])).candidate, None);
    let ended: Vec<&str> = desired.end.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(ended, ["support-v2-1", "support-v3-2"]);
}
