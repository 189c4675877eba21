//! What pods tell: which can generate, what their download says, what is wrong with them and what to do.

use crate::model_pool::TEMPLATE_HASH_ANNOTATION;
use crate::names::{ENGINE_PORT, FETCH_CONTAINER};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};
use serde::{Deserialize, Serialize};
use weir_plan::Endpoint;

/// What `weir model fetch` says of a file, in its container's termination message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Architecture by the file.
    pub architecture: String,
    /// Weights.
    pub parameters: u64,
    /// Longest context the model was trained for.
    pub context_tokens: u32,
    /// Quantization by the file.
    pub quantization: String,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// Size.
    pub bytes: u64,
}

/// The pods that can generate now, in the order of their names: ready, not told to end, with an address.
pub fn endpoints(pods: &[Pod]) -> Vec<Endpoint> {
    let mut ready: Vec<(&str, &str)> = pods.iter().filter_map(address).collect();
    ready.sort_unstable();
    ready
        .into_iter()
        .map(|(_, ip)| {
            Endpoint::keyless(&match ip.contains(':') {
                true => format!("http://[{ip}]:{ENGINE_PORT}"),
                false => format!("http://{ip}:{ENGINE_PORT}"),
            })
        })
        .collect()
}

fn address(pod: &Pod) -> Option<(&str, &str)> {
    // An evicted pod keeps its name and loses its address.
    let ip = pod.status.as_ref()?.pod_ip.as_deref()?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    (is_ready(pod) && !ip.is_empty()).then_some((name, ip))
}

/// Whether a pod answers: it runs, its probes say so, and it was not told to end.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let is_ending = pod.metadata.deletion_timestamp.is_some();
    let Some(status) = pod.status.as_ref().filter(|_| !is_ending) else {
        return false;
    };
    let mut conditions = status.conditions.iter().flatten();
    status.phase.as_deref() == Some("Running")
        && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether the Deployment was looked at since it changed, and all its pods are of its last template.
pub(crate) fn is_settled(deployment: Option<&Deployment>, desired: i32) -> bool {
    let Some(deployment) = deployment else {
        return false;
    };
    let none = DeploymentStatus::default();
    let status = deployment.status.as_ref().unwrap_or(&none);
    let updated = status.updated_replicas.unwrap_or(0);
    status.observed_generation >= deployment.metadata.generation
        && updated >= desired
        && status.replicas.unwrap_or(0) <= updated
}

/// The pods that are meant to stay, those of template `hash` first and those that were ended last: the latter are replaced
/// and only remain to be looked at.
pub(crate) fn staying<'a>(pods: &'a [Pod], hash: &str) -> Vec<&'a Pod> {
    let mut staying: Vec<&Pod> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect();
    staying.sort_by_key(|pod| (is_over(pod), !is_of(pod, hash), pod.metadata.name.clone()));
    staying
}

/// Whether a pod was ended for good, such as by eviction.
pub(crate) fn is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// Whether a pod was made from template `hash`.
pub(crate) fn is_of(pod: &Pod, hash: &str) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(TEMPLATE_HASH_ANNOTATION))
        .is_some_and(|own| own == hash)
}

/// What the download of a pod of template `hash` says.
pub(crate) fn facts(pods: &[&Pod], hash: &str) -> Option<Facts> {
    pods.iter().filter(|pod| is_of(pod, hash)).find_map(|pod| {
        let ended = terminated(fetch_status(pod)?.state.as_ref())?;
        if ended.exit_code != 0 {
            return None;
        }
        serde_json::from_str(ended.message.as_deref()?).ok()
    })
}

/// Whether a pod's download goes on.
pub fn is_fetching(pod: &Pod) -> bool {
    let state = fetch_status(pod).and_then(|status| status.state.as_ref());
    state.is_some_and(|state| state.running.is_some())
}

/// Something that keeps a pod from being ready, with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// Whether it is the download that fails.
    pub(crate) in_fetch: bool,
}

/// The first trouble among the pods.
pub(crate) fn trouble(pods: &[&Pod]) -> Option<Trouble> {
    pods.iter().find_map(|pod| trouble_of(pod))
}

fn trouble_of(pod: &Pod) -> Option<Trouble> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let trouble = |reason, message: String| Trouble {
        reason,
        message,
        in_fetch: false,
    };
    if status.phase.as_deref() == Some("Failed") {
        let reason = status.reason.as_deref().unwrap_or("failed");
        let message = status.message.as_deref().unwrap_or_default();
        let text = format!("pod {name} was ended: {reason}: {message}");
        return Some(trouble("PodFailed", text));
    }
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        let why = condition.message.as_deref().unwrap_or_default();
        let (reason, text) = unscheduled_trouble(name, why);
        return Some(trouble(reason, text));
    }
    let fetch = fetch_status(pod).and_then(|status| container_trouble(name, status));
    if let Some((reason, message)) = fetch {
        let reason = if reason == "CrashLoop" {
            "FetchFailed"
        } else {
            reason
        };
        return Some(Trouble {
            reason,
            message,
            in_fetch: true,
        });
    }
    let engines = status.container_statuses.iter().flatten();
    let (reason, message) = engines
        .filter(|status| !status.ready)
        .find_map(|status| container_trouble(name, status))?;
    Some(trouble(reason, message))
}

/// Why no node takes a pod, by the scheduler's message: its claim, or what it asks of a node.
fn unscheduled_trouble(pod: &str, why: &str) -> (&'static str, String) {
    let claim = why.split("persistentvolumeclaim \"").nth(1);
    let missing = claim.and_then(|rest| rest.split_once('"'));
    if let Some((claim, _)) = missing.filter(|(_, rest)| rest.trim_start().starts_with("not found"))
    {
        let text = format!(
            "pod {pod} waits for the PersistentVolumeClaim {claim}, which is not there: create it, or write another \
             name in cache.pvc or the pvc:// source"
        );
        return ("ClaimNotFound", text);
    }
    if why.contains("unbound immediate PersistentVolumeClaims") {
        let text = format!(
            "pod {pod} waits for a PersistentVolumeClaim that has no volume: `kubectl describe pvc` says what it waits for"
        );
        return ("VolumePending", text);
    }
    let text = format!(
        "pod {pod} fits on no node: {why}: lower spec.resources, change spec.pod, or add a node"
    );
    ("Unschedulable", text)
}

/// What is wrong with one container: its image, its configuration, or that it ends again and again.
fn container_trouble(pod: &str, status: &ContainerStatus) -> Option<(&'static str, String)> {
    let container = &status.name;
    let state = status.state.as_ref();
    if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
        let why = waiting.message.as_deref().unwrap_or_default();
        match waiting.reason.as_deref().unwrap_or_default() {
            "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => {
                let text = format!(
                    "pod {pod} cannot pull image {}: {why}: check the image's name, or name a secret in \
                     spec.pod.imagePullSecrets",
                    status.image
                );
                return Some(("ImagePullFailed", text));
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                let text = format!("pod {pod} cannot start its container {container}: {why}");
                return Some(("ContainerRefused", text));
            }
            _ => {}
        }
    }
    let ended = terminated(state).or_else(|| terminated(status.last_state.as_ref()))?;
    if ended.exit_code == 0 {
        return None;
    }
    // The last lines of the log, where progress and rows stand before the reason.
    let said = ended.message.as_deref().unwrap_or_default().lines();
    let is_reason = |line: &&str| !line.starts_with("downloaded ") && !line.starts_with('{');
    let said: Vec<&str> = said.filter(is_reason).collect();
    let said = said.join(" ");
    let said = said.trim();
    let text = match (ended.reason.as_deref(), container.as_str()) {
        (Some("OOMKilled"), _) => format!(
            "pod {pod}: container {container} took more memory than its limit: raise the memory \
             limit in its resources"
        ),
        (_, FETCH_CONTAINER) if !said.is_empty() => format!("pod {pod}: {said}"),
        _ => format!(
            "pod {pod}: container {container} ended with status {}{}{said}: see `kubectl logs {pod} -c {container} \
             --previous`",
            ended.exit_code,
            if said.is_empty() { "" } else { ": " },
        ),
    };
    Some(("CrashLoop", text))
}

fn fetch_status(pod: &Pod) -> Option<&ContainerStatus> {
    let mut containers = pod
        .status
        .as_ref()?
        .init_container_statuses
        .iter()
        .flatten();
    containers.find(|status| status.name == FETCH_CONTAINER)
}

fn terminated(state: Option<&ContainerState>) -> Option<&ContainerStateTerminated> {
    state?.terminated.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, ip: &Value, phase: &str, ready: &str) -> Value {
        json!({
            "metadata": {"name": name},
            "status": {
                "phase": phase, "podIP": ip, "conditions": [{"type": "Ready", "status": ready}],
            },
        })
    }

    #[test]
    fn only_pods_that_can_generate_are_endpoints() {
        let ip = json!("10.0.0.9");
        let mut ending = pod("ending", &ip, "Running", "True");
        ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        let pods = [
            pod("serves", &json!("10.0.0.1"), "Running", "True"),
            pod("six", &json!("fd00::1"), "Running", "True"),
            pod("running-but-not-ready", &ip, "Running", "False"),
            pod("evicted", &Value::Null, "Failed", "False"),
            pod("evicted-and-still-called-ready", &ip, "Failed", "True"),
            pod("without-its-address", &Value::Null, "Running", "True"),
            pod("with-an-empty-address", &json!(""), "Running", "True"),
            ending,
        ];
        let pods: Vec<Pod> = pods
            .into_iter()
            .map(|pod| serde_json::from_value(pod).unwrap())
            .collect();
        let urls: Vec<String> = endpoints(&pods).into_iter().map(|one| one.url).collect();
        assert_eq!(urls, ["http://10.0.0.1:8080", "http://[fd00::1]:8080"]);
    }
}
