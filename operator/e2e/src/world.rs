//! The cluster as a scenario sees it: namespaces, objects, conditions, and what to print when a wait ends in vain.

mod cluster;
mod person;

use crate::ask::Gateway;
use crate::extent::Extent;
use crate::hub::Hub;
use crate::told::say;
use anyhow::{Context, Result, anyhow, bail, ensure};
use k8s_openapi::api::core::v1::{Event, Namespace as NamespaceObject, Pod, Service};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config, ResourceExt, discovery};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use weir_e2e::outside::{Manner, Outside};

/// How often a state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Seconds until an Event follows its condition.
const EVENT_WITHIN: u64 = 10;
/// Fewer words do not say what is wrong and what to do.
const ADVICE_WORDS: usize = 5;

/// Where the operator is installed.
pub(crate) const SYSTEM: &str = "weir-system";

/// The cluster, the hub, and the tools of a person.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) hub: Hub,
    pub(crate) repository: PathBuf,
    pub(crate) tag: String,
    /// Checkout of the version that an upgrade comes from, unless that is this one.
    pub(crate) former: Option<PathBuf>,
    pub(crate) extent: Extent,
    kubeconfig: PathBuf,
    tools: PathBuf,
    weir: PathBuf,
    keep: bool,
    /// Requests that planned changes have seen, by scenario.
    counted: RefCell<Vec<(&'static str, usize)>>,
}

impl World {
    pub(crate) async fn open(
        kubeconfig: &Path,
        (tools, weir): (&str, PathBuf),
        (tag, former): (String, Option<PathBuf>),
        (extent, keep): (Extent, bool),
    ) -> Result<Self> {
        let read = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
        let repository = crate::hub::repository()?;
        let home = std::env::home_dir().unwrap_or_default();
        Ok(Self {
            client: Client::try_from(config)?,
            hub: Hub::start(&repository, &kubeconfig.with_file_name("hub")).await?,
            repository,
            tag,
            former,
            extent,
            counted: RefCell::default(),
            kubeconfig: kubeconfig.to_owned(),
            tools: match tools.strip_prefix("~/") {
                Some(rest) => home.join(rest),
                None => PathBuf::from(tools),
            },
            weir,
            keep,
        })
    }

    /// A planned change of `scenario` saw so many requests, none of which failed.
    pub(crate) fn count(&self, scenario: &'static str, requests: usize) {
        say!("{requests} requests, none failed");
        self.counted.borrow_mut().push((scenario, requests));
    }

    /// Requests that planned changes have seen, and a line that says which.
    pub(crate) fn counted(&self) -> (usize, String) {
        let counted = self.counted.borrow();
        let all = counted.iter().map(|(_, requests)| requests).sum();
        let each = counted
            .iter()
            .map(|(scenario, requests)| format!("{scenario} {requests}"));
        (all, each.collect::<Vec<_>>().join(", "))
    }

    /// A server of this process at the address of this machine that pods reach, where the model hub listens too.
    pub(crate) async fn outside(&self, manner: Manner) -> Result<Outside> {
        let hub = self.hub.url.split("://").nth(1).unwrap_or_default();
        let (host, _) = hub.rsplit_once(':').context("the hub's address")?;
        Outside::start(host, manner).await
    }

    /// A new namespace that enforces the restricted pod security.
    pub(crate) async fn namespace(&self, name: &str) -> Result<Namespace<'_>> {
        self.namespace_with(name, "restricted").await
    }

    /// A new namespace that enforces this level of pod security.
    pub(crate) async fn namespace_with(&self, name: &str, level: &str) -> Result<Namespace<'_>> {
        let api: Api<NamespaceObject> = Api::all(self.client.clone());
        let labels = json!({"pod-security.kubernetes.io/enforce": level});
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
        });
        let patch = PatchParams::apply("weir-e2e").force();
        api.patch(name, &patch, &Patch::Apply(object)).await?;
        Ok(Namespace {
            world: self,
            name: name.to_owned(),
        })
    }
}

/// A scenario's own namespace.
pub(crate) struct Namespace<'w> {
    pub(crate) world: &'w World,
    pub(crate) name: String,
}

impl Namespace<'_> {
    /// Ends a scenario whose steps came to `result`: removes the namespace, after printing what a person would look at first
    /// when they failed. That error comes first, whatever else fails now.
    pub(crate) async fn finish(self, result: Result<()>) -> Result<()> {
        let Err(cause) = result else {
            return self.remove().await;
        };
        if let Err(silent) = self.world.answers().await {
            return Err(both(&cause, &silent));
        }
        self.tell().await;
        if self.world.keep {
            return Err(cause);
        }
        match self.remove().await {
            Ok(()) => Err(cause),
            Err(left) => Err(both(&cause, &left)),
        }
    }

    async fn remove(&self) -> Result<()> {
        let api: Api<NamespaceObject> = Api::all(self.world.client.clone());
        let gone = self.world.until(Duration::from_secs(120), async || {
            let Some(present) = api.get_opt(&self.name).await? else {
                return Ok(Some(()));
            };
            if present.metadata.deletion_timestamp.is_none() {
                let now = kube::api::DeleteParams::default();
                api.delete(&self.name, &now).await?;
            }
            // Nobody asks these engines any more, so none of them needs its time to drain.
            self.delete_pods("", true).await?;
            Ok(None)
        });
        gone.await
            .with_context(|| format!("namespace {} does not end", self.name))
    }

    async fn tell(&self) {
        for arguments in [
            ["get", "weir,pods,statefulsets,deployments", "-o", "wide"],
            [
                "get",
                "events",
                "--sort-by=.lastTimestamp",
                "-o=custom-columns=OBJECT:.involvedObject.name,REASON:.reason,MESSAGE:.message",
            ],
        ] {
            let all = [&["-n", &self.name][..], &arguments].concat();
            match self.world.tool("kubectl", &all).await {
                Ok(text) => say!("{text}"),
                Err(error) => say!("{error:#}"),
            }
        }
    }

    /// Applies the documents of a stack; `{hub}` becomes the hub's address.
    pub(crate) async fn apply(&self, text: &str) -> Result<()> {
        let text = text.replace("{hub}", &self.world.hub.url);
        for document in weir_crds::yaml::documents(&text).context("a scenario's YAML")? {
            self.apply_object(&document.value).await?;
        }
        Ok(())
    }

    /// Applies one object.
    pub(crate) async fn apply_object(&self, object: &Value) -> Result<DynamicObject> {
        self.apply_as("weir-e2e", object).await
    }

    /// Applies one object as this field manager, whoever else manages its fields.
    pub(crate) async fn apply_as(&self, manager: &str, object: &Value) -> Result<DynamicObject> {
        let kind = object["kind"].as_str().context("kind")?;
        let name = object["metadata"]["name"]
            .as_str()
            .context("metadata.name")?;
        let api = self
            .api(object["apiVersion"].as_str().unwrap_or_default(), kind)
            .await?;
        let patch = PatchParams::apply(manager).force();
        let applied = api.patch(name, &patch, &Patch::Apply(object)).await;
        applied.with_context(|| format!("apply {kind}/{name}"))
    }

    /// Objects of a kind in this namespace.
    pub(crate) async fn api(&self, api_version: &str, kind: &str) -> Result<Api<DynamicObject>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let wanted = GroupVersionKind::gvk(group, version, kind);
        // An API server that has just started knows the kinds of definitions a moment later.
        let known = self.world.until(cluster::ANSWERS, async || {
            Ok(Some(
                discovery::pinned_kind(&self.world.client, &wanted).await?,
            ))
        });
        let (resource, _) = known.await.with_context(|| format!("find kind {kind}"))?;
        Ok(Api::namespaced_with(
            self.world.client.clone(),
            &self.name,
            &resource,
        ))
    }

    /// Objects of one of our kinds.
    pub(crate) async fn weir(&self, kind: &str) -> Result<Api<DynamicObject>> {
        self.api(weir_crds::API_VERSION, kind).await
    }

    /// Changes an object of ours by a merge patch.
    pub(crate) async fn patch(
        &self,
        kind: &str,
        name: &str,
        patch: Value,
    ) -> Result<DynamicObject> {
        let api = self.weir(kind).await?;
        let patched = api
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.with_context(|| format!("patch {kind}/{name}"))
    }

    /// Sets replicas through the scale subresource, as an autoscaler or `kubectl scale` does.
    pub(crate) async fn scale(&self, kind: &str, name: &str, replicas: u32) -> Result<()> {
        let patch = json!({"spec": {"replicas": replicas}});
        let api = self.weir(kind).await?;
        let scaled = api
            .patch_scale(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        scaled
            .with_context(|| format!("scale {kind}/{name}"))
            .map(drop)
    }

    /// Waits until the condition `Ready` of an object has this status and, unless it is empty, this reason, for the object's
    /// present generation. One that is false for a reason says what to do, and an Event says it too.
    pub(crate) async fn ready(
        &self,
        of: (&str, &str),
        (status, reason): (&str, &str),
        within: u64,
    ) -> Result<DynamicObject> {
        let object = self.becomes(of, ("Ready", status, reason), within).await?;
        if status == "False" && !reason.is_empty() {
            self.event(of, reason, EVENT_WITHIN).await?;
            let told = condition(&object, "Ready");
            let says = told.and_then(|told| told["message"].as_str());
            let says = says.unwrap_or_default();
            ensure!(
                says.split_whitespace().count() >= ADVICE_WORDS,
                "{of:?} is {reason} and does not say what to do: {says:?}"
            );
        }
        Ok(object)
    }

    /// The same for any condition.
    pub(crate) async fn becomes(
        &self,
        (kind, name): (&str, &str),
        (wanted, status, reason): (&str, &str, &str),
        within: u64,
    ) -> Result<DynamicObject> {
        let api = self.weir(kind).await?;
        let fits = |object: &DynamicObject| {
            condition(object, wanted).is_some_and(|found| {
                found["status"] == status
                    && (reason.is_empty() || found["reason"] == reason)
                    && found["observedGeneration"].as_i64() == object.metadata.generation
            })
        };
        let seen = self.world.until(Duration::from_secs(within), async || {
            Ok(api.get_opt(name).await?.filter(fits))
        });
        if let Ok(object) = seen.await {
            return Ok(object);
        }
        let told = match api.get_opt(name).await {
            Ok(Some(object)) => conditions(&object),
            Ok(None) => "it does not exist".to_owned(),
            Err(error) => format!("it cannot be read: {error}"),
        };
        bail!("{kind}/{name} is not {wanted}={status} {reason} after {within} s: {told}")
    }

    /// Waits until an Event about an object has this reason: it follows the condition.
    pub(crate) async fn event(
        &self,
        (kind, name): (&str, &str),
        reason: &str,
        within: u64,
    ) -> Result<()> {
        let api: Api<Event> = Api::namespaced(self.world.client.clone(), &self.name);
        let fields = format!("involvedObject.kind={kind},involvedObject.name={name}");
        let about = ListParams::default().fields(&fields);
        let mut reasons: Vec<String> = Vec::new();
        let told = self.world.until(Duration::from_secs(within), async || {
            let events = api.list(&about).await?;
            reasons = events
                .into_iter()
                .filter_map(|event| event.reason)
                .collect();
            Ok(reasons.iter().any(|told| told == reason).then_some(()))
        });
        let told = told.await;
        told.with_context(|| format!("{kind}/{name}: no Event {reason}, but {reasons:?}"))
    }

    /// Deletes an object of ours and waits until it is gone.
    pub(crate) async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        let api = self.weir(kind).await?;
        api.delete(name, &kube::api::DeleteParams::default())
            .await?;
        let gone = self.world.until(Duration::from_secs(60), async || {
            Ok(api.get_opt(name).await?.is_none().then_some(()))
        });
        gone.await
            .with_context(|| format!("{kind}/{name} does not go"))
    }

    /// Pods that carry a label.
    pub(crate) async fn pods(&self, label: &str) -> Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.world.client.clone(), &self.name);
        Ok(api.list(&ListParams::default().labels(label)).await?.items)
    }

    /// Ends pods that carry a label, at once or as an eviction would.
    pub(crate) async fn delete_pods(&self, label: &str, at_once: bool) -> Result<usize> {
        let api: Api<Pod> = Api::namespaced(self.world.client.clone(), &self.name);
        let how = match at_once {
            true => kube::api::DeleteParams::default().grace_period(0),
            false => kube::api::DeleteParams::default(),
        };
        let pods = self.pods(label).await?;
        for pod in &pods {
            api.delete(pod.metadata.name.as_deref().unwrap_or_default(), &how)
                .await?;
        }
        Ok(pods.len())
    }

    /// The gateway behind the Service of an InferenceGateway.
    pub(crate) async fn gateway(&self, name: &str, key: Option<&str>) -> Result<Gateway> {
        let api: Api<Service> = Api::namespaced(self.world.client.clone(), &self.name);
        let service = api.get(&format!("{name}-gateway")).await?;
        let spec = service.spec.context("a Service has a spec")?;
        let address = spec.cluster_ip.context("a Service has an address")?;
        let ports = spec.ports.unwrap_or_default();
        let port = ports.first().context("a Service has a port")?;
        let scheme = port.app_protocol.as_deref().unwrap_or("http");
        let gateway = Gateway::new(format!("{scheme}://{address}:{}", port.port), key)?;
        // Ready pods are behind the Service's address as soon as this node's kube-proxy has heard of them, which is not the
        // gateway's doing.
        let reached = self.world.until(Duration::from_secs(30), async || {
            Ok(gateway.is_alive().await.then_some(()))
        });
        reached.await.context("the Service leads nowhere")?;
        Ok(gateway)
    }

    /// A Secret with one entry.
    pub(crate) async fn secret(
        &self,
        name: &str,
        labels: Value,
        entry: (&str, &str),
    ) -> Result<()> {
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels},
            "stringData": {entry.0: entry.1},
        });
        self.apply_object(&object).await.map(drop)
    }
}

impl World {
    /// Looks until there is something, for at most `within`.
    pub(crate) async fn until<T>(
        &self,
        within: Duration,
        mut look: impl AsyncFnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let started = Instant::now();
        loop {
            // A failed look counts as nothing seen: the API server may be the one that is being restarted.
            let seen = look().await;
            match seen {
                Ok(Some(found)) => return Ok(found),
                Err(error) if started.elapsed() >= within => return Err(error),
                Ok(None) if started.elapsed() >= within => {
                    bail!("not within {} s", within.as_secs())
                }
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

/// Why a scenario failed, and why what it made could not be removed.
fn both(cause: &anyhow::Error, left: &anyhow::Error) -> anyhow::Error {
    anyhow!("{cause:#}; then its namespace could not be removed: {left:#}")
}

/// How often the containers of each of these pods were started again.
pub(crate) fn starts(pods: &[Pod]) -> BTreeMap<String, i32> {
    let of_pod = |pod: &Pod| {
        let containers = pod
            .status
            .iter()
            .flat_map(|status| &status.container_statuses);
        let restarts = containers.flatten().map(|one| one.restart_count);
        (pod.name_any(), restarts.sum())
    };
    pods.iter().map(of_pod).collect()
}

/// A condition of an object's status.
pub(crate) fn condition<'o>(object: &'o DynamicObject, wanted: &str) -> Option<&'o Value> {
    let conditions = object.data["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == wanted)
}

/// Every condition on one line.
pub(crate) fn conditions(object: &DynamicObject) -> String {
    let conditions = object.data["status"]["conditions"].as_array();
    let lines = conditions.into_iter().flatten().map(|condition| {
        let word = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        format!(
            "{}={} {}: {}",
            word("type"),
            word("status"),
            word("reason"),
            word("message")
        )
    });
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_scenario_failed_comes_before_why_its_namespace_stays() {
        let cause = anyhow!("2 of 9 requests failed").context("scaled by hand");
        let left = anyhow!("connection refused").context("the API server does not answer");
        assert_eq!(
            both(&cause, &left).to_string(),
            "scaled by hand: 2 of 9 requests failed; then its namespace could not be removed: \
             the API server does not answer: connection refused"
        );
    }
}
