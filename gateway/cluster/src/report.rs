//! What this gateway tells the operator: totals since its start, and when they are worth telling.
//!
//! A report replaces the one before it, so one that is lost costs nothing. Pure but for reading the counters.

use std::time::{Duration, Instant};
use weir_gateway::Gateway;
use weir_gateway::evidence::RolloutReport;
use weir_gateway::familiarity::FamiliarityReport;
use weir_plan::Revision;
use weir_proto::control::v1 as wire;
use weir_router::gate::evidence::VersionEvidence;
use weir_router::gate::regret::RegretEvidence;

/// Changes are told at most this often.
const BUSY: Duration = Duration::from_secs(1);
/// And so often while a router version is being tried: they may be what ends the attempt.
const TRYING: Duration = Duration::from_millis(200);
/// Without changes the gateway says this often that it lives.
const IDLE: Duration = Duration::from_secs(5);

/// The reports of one connection.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    last: Option<(Instant, wire::Report)>,
}

impl Reports {
    /// The report to send now, if there is one to send.
    pub(crate) fn due(&mut self, present: wire::Report, now: Instant) -> Option<wire::Report> {
        if let Some((sent, last)) = &self.last {
            let patience = if *last == present {
                IDLE
            } else if last.rollouts == present.rollouts {
                BUSY
            } else {
                TRYING
            };
            if now.duration_since(*sent) < patience {
                return None;
            }
        }
        self.last = Some((now, present.clone()));
        Some(present)
    }
}

/// Everything there is to tell now.
pub(crate) fn report(gateway: Option<&Gateway>, serves: Option<Revision>) -> wire::Report {
    let loads = gateway.map(|gateway| gateway.engines().loads());
    let pools = loads.unwrap_or_default().into_iter();
    let rollout = gateway.and_then(Gateway::rollout_report);
    wire::Report {
        serves: serves.map(revision),
        pools: pools.map(load).collect(),
        rollouts: rollout.into_iter().map(evidence).collect(),
        familiarity: gateway
            .and_then(Gateway::familiarity_report)
            .map(familiarity),
    }
}

fn familiarity(of: FamiliarityReport) -> wire::Familiarity {
    wire::Familiarity {
        sha256: of.sha256,
        requests: of.window.requests,
        unusual: of.window.unusual,
        kinds: of.window.kinds,
        columns: of.window.columns,
    }
}

fn evidence(report: RolloutReport) -> wire::RolloutEvidence {
    let sums = report.evidence;
    wire::RolloutEvidence {
        rollout: report.rollout,
        uid: report.uid,
        counting: report.counting,
        active: Some(version(&sums.active)),
        candidate: Some(version(&sums.candidate)),
        shadowed: sums.shadowed,
        disagreements: sums.disagreements,
        regret: Some(regret(report.regret)),
    }
}

fn regret(of: RegretEvidence) -> wire::RegretEvidence {
    wire::RegretEvidence {
        compared: of.compared,
        disagreements: of.disagreements,
        labelled: of.labelled,
        disagreeing: of.disagreeing,
        stood_for: of.stood_for,
        stood_for_variance: of.stood_for_variance,
        weights: of.weights,
        terms: of.terms,
    }
}

fn version(of: &VersionEvidence) -> wire::VersionEvidence {
    wire::VersionEvidence {
        requests: of.requests,
        errors: of.errors,
        open: of.open,
        latency_ms_buckets: of.latency.counts().to_vec(),
    }
}

fn load(load: weir_engine::PoolLoad) -> wire::PoolLoad {
    wire::PoolLoad {
        pool: load.pool,
        in_flight: load.in_flight,
        waiting: load.waiting,
        requests: load.requests,
        errors: load.errors,
        wanted: load.wanted,
    }
}

/// A revision as it travels.
pub(crate) fn revision(revision: Revision) -> wire::Revision {
    wire::Revision {
        epoch: revision.epoch,
        counter: revision.counter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_reported_with_the_rest_of_a_rollout() {
        let judged = RegretEvidence {
            compared: 5,
            disagreements: 4,
            labelled: 3,
            disagreeing: 4_000_000,
            stood_for: 3_000_000,
            stood_for_variance: 2,
            weights: vec![0, 5_000_000],
            terms: vec![0, 0, -1],
        };
        let sent = evidence(RolloutReport {
            rollout: "support-v2-1".into(),
            regret: judged.clone(),
            ..RolloutReport::default()
        });
        let sent = sent.regret.expect("labels");
        assert_eq!(
            (sent.compared, sent.disagreements, sent.labelled),
            (5, 4, 3)
        );
        assert_eq!(
            (sent.disagreeing, sent.stood_for, sent.stood_for_variance),
            (4_000_000, 3_000_000, 2)
        );
        assert_eq!((sent.weights, sent.terms), (judged.weights, judged.terms));
    }

    #[test]
    fn what_may_end_an_attempt_is_told_five_times_a_second() {
        let with = |disagreements| wire::Report {
            rollouts: vec![wire::RolloutEvidence {
                disagreements,
                ..wire::RolloutEvidence::default()
            }],
            ..wire::Report::default()
        };
        let start = Instant::now();
        let mut reports = Reports::default();
        let mut sent = |ms, disagreements| {
            let now = start + Duration::from_millis(ms);
            reports.due(with(disagreements), now).is_some()
        };
        let told = [sent(0, 0), sent(100, 1), sent(250, 2), sent(500, 2)];
        assert_eq!(told, [true, false, true, false]);
    }

    #[test]
    fn changes_are_told_at_most_every_second_and_life_every_five() {
        let with = |requests| wire::Report {
            pools: vec![wire::PoolLoad {
                requests,
                ..wire::PoolLoad::default()
            }],
            ..wire::Report::default()
        };
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut reports = Reports::default();
        let sent = [
            (0, 0, true),
            (250, 1, false),
            (1000, 2, true),
            (1250, 2, false),
            (5750, 2, false),
            (6000, 2, true),
            (8000, 3, true),
            (8250, 4, false),
        ]
        .map(|(ms, requests, _)| (ms, requests, reports.due(with(requests), at(ms)).is_some()));
        assert_eq!(
            sent,
            [
                (0, 0, true),
                (250, 1, false),
                (1000, 2, true),
                (1250, 2, false),
                (5750, 2, false),
                (6000, 2, true),
                (8000, 3, true),
                (8250, 4, false),
            ]
        );
    }
}
