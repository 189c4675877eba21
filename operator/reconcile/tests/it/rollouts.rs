//! What becomes of an attempt, as reviewed files: `cases/router_rollout/NAME/spec.yaml` is a RouterRollout with the status
//! it had, `observed.yaml` what the gateway's processes have reported since; they give `status.yaml`, without the ledger.

use crate::golden::{compare, folders, read};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_crds::{RolloutLedger, RouterRollout};
use weir_reconcile::router_rollout::{GatewayReport, Heard, fold, leave, step};
use weir_router::gate::evidence::{Histogram, RolloutEvidence, VersionEvidence};
use weir_router::gate::regret::{Compared, Learner, RegretEvidence};
use weir_router::ope::Label;

#[derive(Deserialize)]
struct Observed {
    now: Timestamp,
    reports: Vec<Reported>,
    /// Pods that are gone after their report.
    #[serde(default)]
    gone: Vec<String>,
}

/// What one process counted.
#[derive(Deserialize)]
struct Reported {
    pod: String,
    shadowed: u64,
    active: Version,
    candidate: Version,
    #[serde(default)]
    judged: Judged,
}

#[derive(Deserialize)]
struct Version {
    requests: u64,
    errors: u64,
    milliseconds: f64,
}

/// Requests of the canary as a judge saw them.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Judged {
    agreements: u32,
    disagreements: u32,
    /// Of the disagreements the first so many.
    labels: u32,
    propensity: Option<f64>,
    /// Scores of each version's answers, which differ by half a point either way.
    active: f64,
    candidate: f64,
}

impl Reported {
    fn report(&self, weight: u32) -> GatewayReport {
        let version = |of: &Version| {
            let mut latency = Histogram::default();
            (0..of.requests).for_each(|_| latency.record(of.milliseconds));
            VersionEvidence {
                requests: of.requests,
                errors: of.errors,
                open: 0,
                latency,
            }
        };
        GatewayReport {
            pod: self.pod.clone(),
            boot: "1".into(),
            evidence: RolloutEvidence {
                active: version(&self.active),
                candidate: version(&self.candidate),
                shadowed: self.shadowed,
                disagreements: self.judged.disagreements.into(),
            },
            regret: self.judged.evidence(weight),
        }
    }
}

impl Judged {
    fn evidence(&self, weight: u32) -> RegretEvidence {
        let (mut evidence, mut learner) = (RegretEvidence::default(), Learner::default());
        let agreements = (0..self.agreements).map(|number| (number, false));
        let disagreements = (0..self.disagreements).map(|number| (number, true));
        for (number, differs) in agreements.chain(disagreements) {
            // Neighbouring users are in buckets far apart.
            let bucket = u8::try_from(number * 101 % 256).expect("a bucket");
            let tried = u32::from(bucket) * 100 < weight * 256;
            let spread = if number % 4 < 2 { 0.5 } else { -0.5 };
            let label = Label {
                reward: spread + if tried { self.candidate } else { self.active },
                propensity: self.propensity.unwrap_or(1.0),
            };
            let other: &[f64] = if differs { &[0.0, 1.0] } else { &[1.0, 0.0] };
            let row = Compared {
                bucket,
                weight,
                dispatched: usize::from(differs && tried),
                active: &[1.0, 0.0],
                candidate: other,
                baseline: &[1.0, 0.0],
                expected: &[4.0, 3.0],
                label: (differs && number < self.labels).then_some(label),
            };
            evidence.observe(&row, &mut learner);
        }
        evidence
    }
}

#[test]
fn attempts_come_to_their_reviewed_status() {
    let folders = folders("cases/router_rollout");
    assert!(folders.len() >= 6, "{folders:?}");
    for folder in folders {
        let rollout: RouterRollout = read(&folder.join("spec.yaml")).expect("an attempt");
        let observed: Observed = read(&folder.join("observed.yaml")).expect("reports");
        let before = rollout.status.clone().unwrap_or_default();
        let mut ledger: RolloutLedger = before.ledger;
        for report in &observed.reports {
            let report = report.report(before.weight);
            assert!(fold(&mut ledger, &report));
            // Whoever hears it again knows nothing more.
            let once = ledger.clone();
            fold(&mut ledger, &report);
            assert_eq!(ledger, once);
        }
        leave(&mut ledger, |pod| {
            !observed.gone.iter().any(|gone| gone == pod)
        });
        let heard = Heard {
            now: observed.now,
            report: Some(observed.now),
            listening: observed.now,
        };
        // Everything that was counted goes through the API server, and another leader takes it from there.
        let written: Value = json!(ledger);
        let ledger = serde_json::from_value(written).expect("a ledger");
        let status = step(&rollout, &ledger, &heard).status;
        let mut shown = json!(status);
        let fields = shown.as_object_mut().expect("a status");
        fields.remove("ledger").expect("a ledger");
        compare(
            &folder.join("status.yaml"),
            &weir_crds::yaml::to_string(&shown),
        );
    }
}
