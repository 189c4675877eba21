//! Objects of the benchmark: definitions, namespaces, a gateway and its pools.

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config, ResourceExt, discovery};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use weir_crds::ModelPool;
use weir_e2e::outside::{Manner, Outside};

/// Where the operator says it runs.
pub(crate) const SYSTEM: &str = "weir-system";
/// The pool whose pods come and go.
pub(crate) const POOL_OF_PODS: &str = "pods";
/// Field manager of everything that is applied here.
const MANAGER: &str = "weir-bench";
/// Objects made at the same time.
const CONCURRENT: usize = 16;

/// The API server, and a server that external pools can reach.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) repository: PathBuf,
    engine: Outside,
}

/// A namespace with one gateway, `bench`, which selects every pool in it.
pub(crate) struct Stack {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Cluster {
    pub(crate) async fn open(kubeconfig: &Path) -> Result<Self> {
        let read = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        Ok(Self {
            client: Client::try_from(config)?,
            repository: root.canonicalize()?,
            engine: Outside::start("127.0.0.1", Manner::Prompt).await?,
        })
    }

    /// The definitions and the operator's namespace.
    pub(crate) async fn install(&self) -> Result<()> {
        for file in std::fs::read_dir(self.repository.join("crds/yaml"))? {
            let text = std::fs::read_to_string(file?.path())?;
            for document in weir_crds::yaml::documents(&text)? {
                self.apply(None, &document.value).await?;
            }
        }
        self.namespace(SYSTEM).await?;
        let started = Instant::now();
        let pools: Api<ModelPool> = Api::all(self.client.clone());
        while pools.list(&ListParams::default()).await.is_err() {
            anyhow::ensure!(
                started.elapsed() < Duration::from_secs(30),
                "the API server does not serve ModelPools"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    pub(crate) async fn namespace(&self, name: &str) -> Result<()> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.apply(None, &object).await.map(drop)
    }

    /// Applies one object, in a namespace or beside them.
    pub(crate) async fn apply(
        &self,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<DynamicObject> {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (word(&object["kind"]), word(&object["metadata"]["name"]));
        let api = self
            .api(namespace, &word(&object["apiVersion"]), &kind)
            .await?;
        let patch = PatchParams::apply(MANAGER).force();
        let applied = api.patch(&name, &patch, &Patch::Apply(object)).await;
        applied.with_context(|| format!("apply {kind}/{name}"))
    }

    pub(crate) async fn api(
        &self,
        namespace: Option<&str>,
        api_version: &str,
        kind: &str,
    ) -> Result<Api<DynamicObject>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let wanted = GroupVersionKind::gvk(group, version, kind);
        let (resource, _) = discovery::pinned_kind(&self.client, &wanted).await?;
        let client = self.client.clone();
        Ok(match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        })
    }

    /// A namespace with a gateway, whose router is asked for this.
    pub(crate) async fn gateway(&self, namespace: &str, router: &Value) -> Result<Stack> {
        self.namespace(namespace).await?;
        let mut object = gateway();
        object["spec"]["router"] = router.clone();
        self.apply(Some(namespace), &object).await?;
        Ok(Stack {
            client: self.client.clone(),
            namespace: namespace.to_owned(),
        })
    }

    /// A namespace with a gateway and so many external pools.
    pub(crate) async fn stack(&self, namespace: &str, pools: usize) -> Result<Stack> {
        let stack = self.gateway(namespace, &json!({})).await?;
        let api = stack.pools();
        let patch = PatchParams::apply(MANAGER).force();
        let all = (0..pools).map(|index| {
            let (api, patch) = (&api, &patch);
            async move {
                let pool = json!({"external": {"url": self.engine.url}});
                let object = pool_object(&external(index), pool, 1);
                api.patch(&external(index), patch, &Patch::Apply(object))
                    .await
            }
        });
        let made: Vec<ModelPool> = futures_util::stream::iter(all)
            .buffer_unordered(CONCURRENT)
            .try_collect()
            .await?;
        anyhow::ensure!(made.len() == pools, "{} of {pools} pools", made.len());
        Ok(stack)
    }
}

impl Stack {
    pub(crate) fn pools(&self) -> Api<ModelPool> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A pool of two replicas; the names of its pods, once the scheduler has placed them.
    pub(crate) async fn pool_of_pods(&self) -> Result<Vec<String>> {
        let engine = json!({"llamaCpp": {"contextTokens": 512, "slots": 2}});
        let object = pool_object(POOL_OF_PODS, engine, 2);
        let patch = PatchParams::apply(MANAGER).force();
        self.pools()
            .patch(POOL_OF_PODS, &patch, &Patch::Apply(object))
            .await?;
        let label = ListParams::default().labels(&format!("weir.dev/pool={POOL_OF_PODS}"));
        let started = Instant::now();
        loop {
            let pods = self.pods().list(&label).await?;
            let placed = |pod: &&Pod| {
                pod.spec
                    .as_ref()
                    .is_some_and(|spec| spec.node_name.is_some())
            };
            let names: Vec<String> = pods
                .iter()
                .filter(placed)
                .map(ResourceExt::name_any)
                .collect();
            if names.len() == 2 {
                return Ok(names);
            }
            anyhow::ensure!(
                started.elapsed() < Duration::from_secs(30),
                "the pool has {} pods on the node after 30 s",
                names.len()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Name of an external pool.
pub(crate) fn external(index: usize) -> String {
    format!("external-{index:04}")
}

#[expect(clippy::needless_pass_by_value, reason = "a literal of the caller")]
pub(crate) fn pool_object(name: &str, engine: Value, replicas: u32) -> Value {
    let mut model = json!({"name": name});
    if engine["external"].is_null() {
        model["source"] = "https://models.example/model.gguf".into();
    }
    json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "ModelPool",
        "metadata": {"name": name, "labels": {"weir.dev/stack": "bench"}},
        "spec": {
            "model": model, "tier": "edge", "privacy": "local", "engine": engine, "replicas": replicas,
        },
    })
}

fn gateway() -> Value {
    json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "InferenceGateway", "metadata": {"name": "bench"},
        "spec": {
            "replicas": 1, "pools": {"matchLabels": {"weir.dev/stack": "bench"}},
            "auth": {"anonymous": {}}, "logs": {"sink": "none"},
        },
    })
}
