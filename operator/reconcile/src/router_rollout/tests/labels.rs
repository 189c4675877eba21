//! Labels in the ledger: each counts once, whoever reports it how often, also when its process is gone or another one leads.

use super::*;
use crate::router_rollout::evidence::total_regret;
use weir_router::gate::regret::RegretEvidence;

/// A process that has compared and labelled as many requests.
fn judged(pod: &str, boot: &str, compared: u64, labelled: u64) -> GatewayReport {
    let millions = i64::try_from(labelled).expect("few") * 1_000_000;
    GatewayReport {
        regret: RegretEvidence {
            compared,
            disagreements: compared,
            labelled,
            disagreeing: millions,
            stood_for: millions,
            weights: vec![0, millions],
            terms: vec![0, 0, millions / 2],
            ..RegretEvidence::default()
        },
        ..report(pod, boot, totals(10, (10, 0, 5.0), (10, 0, 5.0)))
    }
}

fn labels(ledger: &RolloutLedger) -> u64 {
    total_regret(ledger).labelled
}

#[test]
fn a_label_alone_is_news_and_a_late_report_without_it_takes_nothing_back() {
    let mut ledger = RolloutLedger::default();
    assert!(fold(&mut ledger, &judged("a", "1", 9, 3)));
    assert!(fold(&mut ledger, &judged("a", "1", 9, 4)));
    assert!(fold(&mut ledger, &judged("b", "1", 9, 2)));
    assert!(!fold(&mut ledger, &judged("a", "1", 9, 3)), "it came late");
    assert_eq!(labels(&ledger), 6);
    let once = ledger.clone();
    assert!(fold(&mut ledger, &judged("a", "1", 9, 4)));
    assert_eq!(ledger, once, "the same totals again change nothing");
}

#[test]
fn labels_of_processes_that_are_gone_stay_and_are_not_counted_again() {
    let mut ledger = RolloutLedger::default();
    fold(&mut ledger, &judged("a", "1", 9, 3));
    fold(&mut ledger, &judged("a", "2", 1, 1));
    leave(&mut ledger, |pod| pod != "a");
    assert_eq!((labels(&ledger), ledger.processes.len()), (4, 0));
    assert!(!fold(&mut ledger, &judged("a", "2", 9, 9)));
    let written = serde_json::to_value(&ledger).expect("plain data");
    let next_leader: RolloutLedger = serde_json::from_value(written).expect("a ledger");
    assert_eq!(labels(&next_leader), 4);
    let total = total_regret(&next_leader);
    assert_eq!((total.weights[1], total.terms[2]), (4_000_000, 2_000_000));
}

#[test]
fn the_gateway_s_status_says_the_regret_of_its_attempt() {
    let mut running = attempt(1, "v1", "v2", Some(RolloutPhase::Canary));
    if let Some(status) = &mut running.status {
        status.evidence.regret = Some(weir_crds::RegretStatus {
            estimate: Some(0.25),
            upper: Some(0.5),
            ..weir_crds::RegretStatus::default()
        });
    }
    let desired = desire(serving("v1"), "v2", &[running]);
    assert_eq!(
        (desired.status.regret, desired.status.regret_upper),
        (Some(0.25), Some(0.5))
    );
}
