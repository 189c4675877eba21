//! The operator's own processes: who leads, what they write, and what may happen to them.

use crate::world::{self, SYSTEM, World};
use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Label of the operator's pods.
const LABEL: &str = "app.kubernetes.io/component=operator";

/// The operator's pods that run and are to stay.
pub(crate) async fn pods(world: &World) -> Result<Vec<Pod>> {
    let runs = |pod: &Pod| {
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        pod.metadata.deletion_timestamp.is_none() && phase == Some("Running")
    };
    let mut pods = all_pods(world).await?;
    pods.retain(runs);
    Ok(pods)
}

/// The operator's pods, also those that go.
async fn all_pods(world: &World) -> Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM);
    Ok(api.list(&ListParams::default().labels(LABEL)).await?.items)
}

/// How often the containers of each operator's pod were started again, by the pod's name.
pub(crate) async fn restarts(world: &World) -> Result<BTreeMap<String, i32>> {
    Ok(world::starts(&all_pods(world).await?))
}

/// Runs so many operators; waits until there are as many pods, and one leads when there are any.
pub(crate) async fn scale(world: &World, replicas: usize) -> Result<()> {
    let count = format!("--replicas={replicas}");
    let arguments = ["-n", SYSTEM, "scale", "deployment", "weir-operator", &count];
    world.tool("kubectl", &arguments).await?;
    let there = world.until(Duration::from_secs(120), async || {
        Ok((all_pods(world).await?.len() == replicas).then_some(()))
    });
    there
        .await
        .with_context(|| format!("there are not {replicas} operators"))?;
    if replicas > 0 {
        next_leader(world, "").await?;
    }
    Ok(())
}

/// Who leads: the name of its pod, with a word for this start of its process. Empty when nobody does.
pub(crate) async fn leader(world: &World) -> Result<String> {
    let holder = lease(world).await?.holder_identity;
    Ok(holder.unwrap_or_default())
}

/// The epoch of whoever leads.
pub(crate) async fn epoch(world: &World) -> Result<u64> {
    let transitions = lease(world).await?.lease_transitions;
    Ok(u64::try_from(transitions.unwrap_or_default())?)
}

async fn lease(world: &World) -> Result<LeaseSpec> {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), SYSTEM);
    let lease = leases.get("weir-operator").await?;
    Ok(lease.spec.unwrap_or_default())
}

/// The pod of a leader.
pub(crate) fn pod_of(leader: &str) -> &str {
    leader.split('_').next().unwrap_or_default()
}

/// Waits until another than `former` leads; its name.
pub(crate) async fn next_leader(world: &World, former: &str) -> Result<String> {
    let next = world.until(Duration::from_secs(90), async || {
        let now = leader(world).await?;
        Ok((!now.is_empty() && now != former).then_some(now))
    });
    next.await.context("nobody takes over")
}

/// Kills the leading operator without a word and waits until another leads.
pub(crate) async fn kill_leader(world: &World) -> Result<String> {
    let former = leader(world).await?;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM);
    pods.delete(pod_of(&former), &DeleteParams::default().grace_period(0))
        .await?;
    next_leader(world, &former).await?;
    Ok(former)
}

/// Writes of the operator since `from` to anything but leases, by object (`modelpools/demo/small`) and pod, as the API
/// server's audit log has them.
pub(crate) fn writes(
    world: &World,
    from: Timestamp,
) -> Result<BTreeMap<String, BTreeMap<String, usize>>> {
    let log = world.audit_log();
    let text = std::fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
    Ok(written(&text, from))
}

fn written(log: &str, from: Timestamp) -> BTreeMap<String, BTreeMap<String, usize>> {
    let mut found: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for line in log.lines() {
        let Ok(entry) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let at = word(&entry["requestReceivedTimestamp"]).parse::<Timestamp>();
        let pod = word(&entry["user"]["extra"]["authentication.kubernetes.io/pod-name"][0]);
        let object = &entry["objectRef"];
        let resource = word(&object["resource"]);
        let is_late = at.is_ok_and(|at| at >= from);
        if !is_late || !pod.starts_with("weir-operator") || resource == "leases" {
            continue;
        }
        let name = format!(
            "{resource}/{}/{}",
            word(&object["namespace"]),
            word(&object["name"])
        );
        *found.entry(name).or_default().entry(pod).or_default() += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_of_the_operator_are_told_by_object_and_pod() {
        let line = |at: &str, pod: &str, resource: &str| {
            format!(
                r#"{{"requestReceivedTimestamp":"2026-01-01T00:00:{at}.000000Z","verb":"patch","user":{{"extra":{{"authentication.kubernetes.io/pod-name":["{pod}"]}}}},"objectRef":{{"resource":"{resource}","namespace":"demo","name":"small"}}}}"#
            )
        };
        let log = [
            line("01", "weir-operator-a", "modelpools"),
            line("05", "weir-operator-a", "modelpools"),
            line("06", "weir-operator-b", "modelpools"),
            line("06", "weir-operator-b", "leases"),
            line("06", "another", "modelpools"),
            "half a li".to_owned(),
        ];
        let found = written(&log.join("\n"), "2026-01-01T00:00:05Z".parse().unwrap());
        let pool = &found["modelpools/demo/small"];
        assert_eq!(found.len(), 1);
        assert_eq!(pool["weir-operator-a"], 1);
        assert_eq!(pool["weir-operator-b"], 1);
    }
}
