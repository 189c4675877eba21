//! The ledger of a rollout: what every gateway process has counted, and what those counted that are gone.
//!
//! Reports are totals since a process began to count, so that a later one replaces an earlier one and a lost one costs
//! nothing. When a process is gone its last totals are folded, and what it had open has failed.

use weir_crds::{ProcessRef, ProcessSums, RegretSums, RolloutLedger, RolloutSums, VersionSums};
use weir_router::gate::evidence::{Histogram, RolloutEvidence, VersionEvidence};
use weir_router::gate::regret::RegretEvidence;

/// Processes that are remembered as gone, the newest last; a report can hardly be later than that.
const GONE_MAX: usize = 256;

/// What one gateway process reports of one rollout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayReport {
    /// Name of the pod.
    pub pod: String,
    /// Which counting of the pod this is: another one for each start of its process, and whenever that begins at zero.
    pub boot: String,
    /// Its totals.
    pub evidence: RolloutEvidence,
    /// Its labels; none where the gate does not ask for any.
    pub regret: RegretEvidence,
}

/// Takes a report into the ledger: it replaces the process' earlier one. A pod that reports as another process has lost
/// the earlier one. Dropped are reports of processes that are gone, and those with smaller totals than before, which
/// came late. Whether anything was taken is returned.
pub fn fold(ledger: &mut RolloutLedger, report: &GatewayReport) -> bool {
    let is_gone = |gone: &ProcessRef| gone.pod == report.pod && gone.boot == report.boot;
    if ledger.gone.iter().any(is_gone) {
        return false;
    }
    let of_pod = ledger
        .processes
        .iter()
        .position(|one| one.pod == report.pod);
    let (sums, regret) = (write(&report.evidence), write_regret(&report.regret));
    match of_pod {
        Some(at) if ledger.processes[at].boot == report.boot => {
            let process = &mut ledger.processes[at];
            let before = (read(&process.sums), read_regret(&process.regret));
            if begun(&report.evidence, &report.regret) < begun(&before.0, &before.1) {
                return false;
            }
            process.sums = sums;
            process.regret = regret;
            return true;
        }
        Some(at) => end(ledger, at),
        None => {}
    }
    ledger.processes.push(ProcessSums {
        pod: report.pod.clone(),
        boot: report.boot.clone(),
        sums,
        regret,
    });
    true
}

/// Folds the processes of pods that are not alive any more. Whether there was one is returned.
pub fn leave(ledger: &mut RolloutLedger, is_alive: impl Fn(&str) -> bool) -> bool {
    let gone = |one: &ProcessSums| !is_alive(&one.pod);
    let mut any = false;
    while let Some(at) = ledger.processes.iter().position(gone) {
        end(ledger, at);
        any = true;
    }
    any
}

/// The process at this place is gone: what it had open has failed.
fn end(ledger: &mut RolloutLedger, at: usize) {
    let process = ledger.processes.remove(at);
    let mut last = read(&process.sums);
    last.active.process_ended();
    last.candidate.process_ended();
    let mut folded = read(&ledger.folded);
    folded.add(&last);
    ledger.folded = write(&folded);
    let mut labels = read_regret(&ledger.folded_regret);
    labels.add(&read_regret(&process.regret));
    ledger.folded_regret = write_regret(&labels);
    ledger.gone.push(ProcessRef {
        pod: process.pod,
        boot: process.boot,
    });
    let forgotten = ledger.gone.len().saturating_sub(GONE_MAX);
    ledger.gone.drain(..forgotten);
}

/// Requests that were begun, and labels: grows with every one, whether it has ended or not.
fn begun(of: &RolloutEvidence, regret: &RegretEvidence) -> [u64; 5] {
    let ended = of.active.requests + of.candidate.requests;
    let open = of.active.open + of.candidate.open;
    [
        of.shadowed,
        ended + open,
        ended,
        regret.compared,
        regret.labelled,
    ]
}

/// Everything that was counted.
pub(super) fn total(ledger: &RolloutLedger) -> RolloutSums {
    let mut total = read(&ledger.folded);
    for process in &ledger.processes {
        total.add(&read(&process.sums));
    }
    write(&total)
}

/// Everything that was judged.
pub(super) fn total_regret(ledger: &RolloutLedger) -> RegretEvidence {
    let mut total = read_regret(&ledger.folded_regret);
    for process in &ledger.processes {
        total.add(&read_regret(&process.regret));
    }
    total
}

/// What was counted since the present step began.
pub(super) fn since_start(ledger: &RolloutLedger) -> RolloutEvidence {
    read(&total(ledger)).since(&read(&ledger.step_start))
}

/// Milliseconds within which 99 % of a version's requests ended.
pub(super) fn p99(version: &VersionEvidence) -> Option<u64> {
    let milliseconds = version.latency.quantile_ms(0.99)?;
    Some(milliseconds.round() as u64)
}

pub(super) fn read(sums: &RolloutSums) -> RolloutEvidence {
    let version = |of: &VersionSums| VersionEvidence {
        requests: of.requests,
        errors: of.errors,
        open: of.open,
        latency: Histogram::from_counts(&of.latency),
    };
    RolloutEvidence {
        active: version(&sums.active),
        candidate: version(&sums.candidate),
        shadowed: sums.shadowed,
        disagreements: sums.disagreements,
    }
}

fn read_regret(sums: &RegretSums) -> RegretEvidence {
    RegretEvidence {
        compared: sums.compared,
        disagreements: sums.disagreements,
        labelled: sums.labelled,
        disagreeing: sums.disagreeing,
        stood_for: sums.stood_for,
        stood_for_variance: sums.stood_for_variance,
        weights: sums.weights.clone(),
        terms: sums.terms.clone(),
    }
}

fn write_regret(of: &RegretEvidence) -> RegretSums {
    RegretSums {
        compared: of.compared,
        disagreements: of.disagreements,
        labelled: of.labelled,
        disagreeing: of.disagreeing,
        stood_for: of.stood_for,
        stood_for_variance: of.stood_for_variance,
        weights: of.weights.clone(),
        terms: of.terms.clone(),
    }
}

fn write(evidence: &RolloutEvidence) -> RolloutSums {
    let version = |of: &VersionEvidence| VersionSums {
        requests: of.requests,
        errors: of.errors,
        open: of.open,
        latency: of.latency.counts().to_vec(),
    };
    RolloutSums {
        active: version(&evidence.active),
        candidate: version(&evidence.candidate),
        shadowed: evidence.shadowed,
        disagreements: evidence.disagreements,
    }
}
