//! What gateways report: totals per process, each report in place of the one before.
//!
//! A report counts from the start of its process, so a lost one loses nothing. A process that is gone is forgotten with
//! its pod, a former process of a pod at once. What the numbers add up to is not decided here. Time is passed in.

use crate::control::caller::GatewayId;
use std::collections::{BTreeMap, HashMap};
use tokio::time::Instant;
use weir_proto::control::v1::{Familiarity, PoolLoad, Report, RolloutEvidence};

/// One start of one gateway's process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Process {
    pub(crate) pod: String,
    pub(crate) boot: String,
}

/// Reports of every gateway.
#[derive(Default)]
pub(crate) struct Ledger {
    gateways: HashMap<GatewayId, BTreeMap<Process, Entry>>,
}

struct Entry {
    report: Report,
    /// When it connected first, and reported last.
    since: Instant,
    at: Instant,
    connections: usize,
}

/// What one process last said of one pool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) gateway: GatewayId,
    pub(crate) process: Process,
    /// When this process first and last said something.
    pub(crate) since: Instant,
    pub(crate) at: Instant,
    pub(crate) load: PoolLoad,
}

impl Ledger {
    /// A process connected. A pod runs one process: others of the same pod are gone.
    pub(crate) fn connected(&mut self, gateway: &GatewayId, process: &Process, now: Instant) {
        let processes = self.gateways.entry(gateway.clone()).or_default();
        processes.retain(|other, _| other.pod != process.pod || other.boot == process.boot);
        let entry = processes.entry(process.clone()).or_insert_with(|| Entry {
            report: Report::default(),
            since: now,
            at: now,
            connections: 0,
        });
        entry.connections += 1;
    }

    /// A connection of a process ended; the process may come back.
    pub(crate) fn disconnected(&mut self, gateway: &GatewayId, process: &Process) {
        let processes = self.gateways.get_mut(gateway);
        if let Some(entry) = processes.and_then(|processes| processes.get_mut(process)) {
            entry.connections = entry.connections.saturating_sub(1);
        }
    }

    /// A process reported. The report of one that is gone came late and is dropped.
    pub(crate) fn report(
        &mut self,
        gateway: &GatewayId,
        process: &Process,
        report: Report,
        now: Instant,
    ) {
        let processes = self.gateways.get_mut(gateway);
        if let Some(entry) = processes.and_then(|processes| processes.get_mut(process)) {
            entry.report = report;
            entry.at = now;
        }
    }

    /// Forgets every process that has no connection and whose pod is gone.
    pub(crate) fn sweep(&mut self, pod_lives: impl Fn(&GatewayId, &str) -> bool) {
        self.gateways.retain(|gateway, processes| {
            processes
                .retain(|process, entry| entry.connections > 0 || pod_lives(gateway, &process.pod));
            !processes.is_empty()
        });
    }

    /// What every process of a namespace said of a pool.
    pub(crate) fn loads(&self, namespace: &str, pool: &str) -> Vec<Load> {
        let mut loads = Vec::new();
        let of_namespace = self
            .gateways
            .iter()
            .filter(|(gateway, _)| gateway.namespace == namespace);
        for (gateway, processes) in of_namespace {
            for (process, entry) in processes {
                let of_pool = entry.report.pools.iter().find(|load| load.pool == pool);
                loads.extend(of_pool.map(|load| Load {
                    gateway: gateway.clone(),
                    process: process.clone(),
                    since: entry.since,
                    at: entry.at,
                    load: load.clone(),
                }));
            }
        }
        loads
    }

    /// What every process of a gateway said last of a rollout, and when.
    pub(crate) fn evidence(
        &self,
        gateway: &GatewayId,
        rollout: &str,
    ) -> Vec<(Process, Instant, RolloutEvidence)> {
        let processes = self.gateways.get(gateway).into_iter().flatten();
        processes
            .filter_map(|(process, entry)| {
                let mut all = entry.report.rollouts.iter();
                let of_rollout = all.find(|evidence| evidence.rollout == rollout)?;
                Some((process.clone(), entry.at, of_rollout.clone()))
            })
            .collect()
    }

    /// What every process of a gateway said last of how familiar its requests are.
    pub(crate) fn familiarity(&self, gateway: &GatewayId) -> Vec<Familiarity> {
        let processes = self.gateways.get(gateway).into_iter();
        let entries = processes.flat_map(BTreeMap::values);
        entries
            .filter_map(|entry| entry.report.familiarity.clone())
            .collect()
    }

    /// Processes with a connection.
    pub(crate) fn connections(&self) -> usize {
        let entries = self.gateways.values().flat_map(BTreeMap::values);
        entries.filter(|entry| entry.connections > 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> GatewayId {
        GatewayId {
            namespace: "demo".into(),
            name: "support".into(),
        }
    }

    fn process(pod: &str, boot: &str) -> Process {
        Process {
            pod: pod.into(),
            boot: boot.into(),
        }
    }

    fn report(requests: u64) -> Report {
        Report {
            pools: vec![PoolLoad {
                pool: "small".into(),
                requests,
                ..PoolLoad::default()
            }],
            ..Report::default()
        }
    }

    fn requests(ledger: &Ledger) -> Vec<u64> {
        let loads = ledger.loads("demo", "small").into_iter();
        loads.map(|load| load.load.requests).collect()
    }

    #[test]
    fn a_report_replaces_the_one_before_it_of_the_same_process() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        for pod in ["a", "b"] {
            ledger.connected(&gateway(), &process(pod, "1"), now);
            ledger.report(&gateway(), &process(pod, "1"), report(5), now);
            ledger.report(&gateway(), &process(pod, "1"), report(9), now);
        }
        assert_eq!(requests(&ledger), [9, 9]);
        assert!(ledger.loads("other", "small").is_empty());
    }

    #[test]
    fn a_restarted_container_is_another_process_and_the_former_is_not_heard_any_more() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.connected(&gateway(), &process("a", "1"), now);
        ledger.report(&gateway(), &process("a", "1"), report(5), now);
        ledger.connected(&gateway(), &process("a", "2"), now);
        ledger.report(&gateway(), &process("a", "2"), report(1), now);
        ledger.report(&gateway(), &process("a", "1"), report(6), now);
        assert_eq!(requests(&ledger), [1]);
    }

    #[test]
    fn a_process_is_remembered_while_it_is_connected_or_its_pod_lives() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.connected(&gateway(), &process("a", "1"), now);
        ledger.report(&gateway(), &process("a", "1"), report(5), now);
        ledger.sweep(|_, _| false);
        assert_eq!(requests(&ledger), [5], "it is connected");
        ledger.disconnected(&gateway(), &process("a", "1"));
        ledger.sweep(|_, _| true);
        assert_eq!(requests(&ledger), [5], "its pod lives");
        ledger.sweep(|_, _| false);
        assert!(ledger.gateways.is_empty());
    }
}
