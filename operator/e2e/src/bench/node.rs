//! A node without a kubelet: it is there, it renews its lease, and its pods are as ready as this program says.

use crate::cluster::{Cluster, Stack};
use anyhow::Result;
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinHandle;

const NAME: &str = "bench-node";
/// As a kubelet does; the controller manager calls a node lost after fifty seconds.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// Renews its lease until it is dropped.
pub(crate) struct Node(JoinHandle<()>);

impl Node {
    pub(crate) async fn register(cluster: &Cluster) -> Result<Self> {
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "Bench", "message": "",
            "lastHeartbeatTime": now(), "lastTransitionTime": now(),
        });
        let room =
            json!({"cpu": "64", "memory": "256Gi", "pods": "250", "ephemeral-storage": "1Ti"});
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}});
        cluster.apply(None, &object).await?;
        let status =
            json!({"status": {"capacity": room, "allocatable": room, "conditions": [ready]}});
        let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(cluster.client.clone());
        nodes
            .patch_status(NAME, &PatchParams::default(), &Patch::Merge(status))
            .await?;
        cluster.namespace("kube-node-lease").await?;
        renew(cluster).await?;
        let lease: Api<k8s_openapi::api::coordination::v1::Lease> =
            Api::namespaced(cluster.client.clone(), "kube-node-lease");
        Ok(Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                let renewed = json!({"spec": {"renewTime": now()}});
                // The next try comes long before the lease runs out.
                let _ = lease
                    .patch(NAME, &PatchParams::default(), &Patch::Merge(renewed))
                    .await;
            }
        })))
    }

    /// Says what a kubelet would say of a pod.
    pub(crate) async fn report(
        &self,
        stack: &Stack,
        (pod, ip): (&str, &str),
        ready: bool,
    ) -> Result<()> {
        let is = if ready { "True" } else { "False" };
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": now()});
        let status = json!({"status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [
                condition("PodScheduled", "True"), condition("Initialized", "True"),
                condition("ContainersReady", is), condition("Ready", is),
            ],
        }});
        stack
            .pods()
            .patch_status(pod, &PatchParams::default(), &Patch::Merge(status))
            .await?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn renew(cluster: &Cluster) -> Result<()> {
    let lease: Value = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NAME},
        "spec": {"holderIdentity": NAME, "leaseDurationSeconds": 40, "renewTime": now()},
    });
    cluster
        .apply(Some("kube-node-lease"), &lease)
        .await
        .map(drop)
}

/// Leases count in microseconds, and the rest may.
fn now() -> String {
    Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%6fZ")
        .to_string()
}
