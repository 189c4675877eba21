//! Every field is changed while the stack serves, and each change has its effect; no request fails.
//!
//! What is changed and what must come of it stands in `../../fields/KIND.yaml`, in steps: one patch of one object, and an
//! effect of each field in it. A walk over the schemas finds fields without a change; those that cannot change here are
//! named with the reason.

use crate::ask::Gateway;
use crate::load::Load;
use crate::told::say;
use crate::world::{Namespace, World};
use anyhow::{Context, Result, bail, ensure};
use certificates::Certificates;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use weir_e2e::outside::{Manner, Outside};

const STACK: &str = include_str!("../../stacks/fields.yaml");
/// Time between two requests over HTTPS.
const ENCRYPTED_GAP: Duration = Duration::from_millis(500);
const KEY: &str = "e2e-key-0123456789abcdef0123456789abcdef";
const GATEWAY: &str = "fields";
/// The one that speaks HTTPS.
const SECURE: &str = "secure";
/// Written as a value it takes a field away: a null of YAML counts as not written.
const GONE: &str = "{gone}";

/// The changes of each kind, in the order in which they are made.
const KINDS: [(&str, &str); 5] = [
    ("ModelPool", include_str!("../../fields/model_pool.yaml")),
    (
        "InferenceGateway",
        include_str!("../../fields/inference_gateway.yaml"),
    ),
    (
        "MemoryStore",
        include_str!("../../fields/memory_store.yaml"),
    ),
    (
        "RouterVersion",
        include_str!("../../fields/router_version.yaml"),
    ),
    (
        "RouterRollout",
        include_str!("../../fields/router_rollout.yaml"),
    ),
];

/// The changes of one kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    steps: Vec<Step>,
    /// Fields, or what they begin with, that cannot change here, and why.
    elsewhere: BTreeMap<String, String>,
}

/// One patch of one object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Name of the object.
    change: String,
    /// The spec's changes.
    to: Value,
    effects: Vec<Effect>,
}

/// What comes of one field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Effect {
    field: String,
    /// Where it shows: `KIND/NAME` of an object, `plan`, `models`, `outside`, `answer`, `certificate` for the name of the
    /// Secret whose certificate clients see, or a command of kubectl.
    of: String,
    /// Fields and names of list entries, down from there.
    #[serde(default)]
    at: String,
    /// What is asked before each look.
    ask: Option<Ask>,
    /// What it becomes.
    is: Option<Value>,
    /// What it contains.
    has: Option<String>,
}

/// A question to the gateway.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    model: String,
    /// Of another client.
    key: Option<String>,
    question: Option<String>,
    /// Weir's own settings.
    weir: Option<Value>,
}

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-fields").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    let world = namespace.world;
    let outside = world.outside(Manner::Prompt).await?;
    surroundings(namespace).await?;
    let certificates = Certificates::given(namespace).await?;
    namespace
        .apply(&STACK.replace("{outside}", &outside.url))
        .await?;
    for (kind, name) in [
        ("ModelPool", "steady"),
        ("ModelPool", "moving"),
        ("ModelPool", "outside"),
        ("MemoryStore", "kb"),
        ("InferenceGateway", GATEWAY),
        ("InferenceGateway", SECURE),
    ] {
        namespace.ready((kind, name), ("True", ""), 180).await?;
    }
    let pool = namespace.weir("ModelPool").await?.get("moving").await?;
    let digest = pool.data["status"]["model"]["digest"].as_str();
    let digest = digest.and_then(|digest| digest.strip_prefix("sha256:"));
    let stage = Stage {
        namespace,
        gateway: namespace.gateway(GATEWAY, Some(KEY)).await?,
        secure: namespace.gateway(SECURE, Some(KEY)).await?,
        certificates,
        outside: &outside,
        words: vec![
            ("{hub}", world.hub.url.clone()),
            ("{outside}", outside.url.clone()),
            ("{tag}", world.tag.clone()),
            (
                "{digest}",
                digest.context("status.model.digest")?.to_owned(),
            ),
            ("{long}", "long ".repeat(14_000)),
        ],
    };
    let load = Load::start(&stage.gateway, "auto", world.extent.gap());
    let encrypted = Load::start(&stage.secure, "auto", ENCRYPTED_GAP);
    let (mut changed, mut elsewhere) = (0, 0);
    for (kind, text) in KINDS {
        let changes = read(text)?;
        elsewhere += changes.elsewhere.len();
        for step in changes.steps {
            stage
                .step(kind, &step)
                .await
                .with_context(|| format!("{:.1} s into the load: {kind}", load.at()))?;
            changed += step.effects.len();
            say!("{:.1} s: {kind}/{}", load.at(), step.change);
        }
    }
    stage
        .certificates
        .renewed_in_place(namespace, &stage.secure)
        .await
        .context("a renewed certificate")?;
    while load.sent() < world.extent.share() {
        reprice(namespace, load.sent()).await?;
    }
    let total = load.end().await? + encrypted.end().await?;
    say!("{changed} fields were changed, {elsewhere} are proved elsewhere");
    world.count("fields", total);
    Ok(())
}

/// Where steps are taken.
struct Stage<'a> {
    namespace: &'a Namespace<'a>,
    gateway: Gateway,
    secure: Gateway,
    certificates: Certificates,
    outside: &'a Outside,
    /// Words of the steps that stand for others.
    words: Vec<(&'static str, String)>,
}

impl Stage<'_> {
    async fn step(&self, kind: &str, step: &Step) -> Result<()> {
        let name = step.change.as_str();
        let patch = json!({"spec": self.filled(&step.to)});
        self.namespace.patch(kind, name, patch).await?;
        self.namespace
            .ready((kind, name), ("True", ""), 180)
            .await?;
        for effect in &step.effects {
            self.shows(effect)
                .await
                .with_context(|| format!("{name}: {} has no effect", effect.field))?;
        }
        Ok(())
    }

    /// A value with the words replaced.
    fn filled(&self, value: &Value) -> Value {
        match value {
            Value::String(text) if text == GONE => Value::Null,
            Value::String(text) => {
                let replace = |text: String, (word, by): &(&str, String)| text.replace(word, by);
                Value::String(self.words.iter().fold(text.clone(), replace))
            }
            Value::Array(items) => items.iter().map(|item| self.filled(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.iter();
                let filled = fields.map(|(name, value)| (name.clone(), self.filled(value)));
                Value::Object(filled.collect())
            }
            other => other.clone(),
        }
    }

    /// Waits until an effect is there.
    async fn shows(&self, effect: &Effect) -> Result<()> {
        let mut last = Value::Null;
        let seen = self
            .namespace
            .world
            .until(Duration::from_secs(90), async || {
                let whole = self.look(effect).await?;
                last = find(&whole, &effect.at).cloned().unwrap_or_default();
                Ok(self.fits(effect, &last).then_some(()))
            });
        seen.await
            .with_context(|| format!("{} {} is {last}", effect.of, effect.at))
    }

    fn fits(&self, effect: &Effect, found: &Value) -> bool {
        let is = effect
            .is
            .as_ref()
            .is_none_or(|is| self.filled(is) == *found);
        let has = effect.has.as_ref().is_none_or(|has| {
            let has = self.filled(&Value::String(has.clone()));
            text(found).contains(has.as_str().unwrap_or_default())
        });
        is && has
    }

    async fn look(&self, effect: &Effect) -> Result<Value> {
        let mut answer = Value::Null;
        if let Some(ask) = &effect.ask {
            let gateway = match &ask.key {
                Some(key) => self.gateway.with_key(key),
                None => self.gateway.clone(),
            };
            let question = ask.question.as_deref().unwrap_or("Are you there?");
            let body = self.filled(&json!({
                "model": ask.model, "max_tokens": 4, "weir": ask.weir.clone().unwrap_or(json!({})),
                "messages": [{"role": "user", "content": question}],
            }));
            let (status, text) = gateway.try_post("/v1/chat/completions", &body).await?;
            let body: Value = serde_json::from_str(&text).unwrap_or_default();
            answer = json!({"status": status.as_u16(), "body": body});
        }
        let namespace = self.namespace;
        if let Some(command) = effect.of.strip_prefix("kubectl ") {
            let words = command.split(' ');
            let all: Vec<&str> = ["-n", &namespace.name].into_iter().chain(words).collect();
            return Ok(namespace.world.tool("kubectl", &all).await?.into());
        }
        match effect.of.as_str() {
            "answer" => Ok(answer),
            "outside" => Ok(self.outside.asked()),
            "plan" => plan(namespace).await,
            "certificate" => self.certificates.shown_by(&self.secure).await,
            "models" => {
                let (status, text) = self.gateway.get("/v1/models").await?;
                ensure!(status.is_success(), "/v1/models answered {status}: {text}");
                Ok(serde_json::from_str(&text)?)
            }
            object => {
                let Some((kind, name)) = object.split_once('/') else {
                    bail!("nothing is called {object:?}");
                };
                let api_version = match kind {
                    "Deployment" | "StatefulSet" => "apps/v1",
                    "Service" | "PersistentVolumeClaim" => "v1",
                    _ => weir_crds::API_VERSION,
                };
                let api = namespace.api(api_version, kind).await?;
                Ok(serde_json::to_value(api.get(name).await?)?)
            }
        }
    }
}

/// The plan with which a process of the gateway starts.
async fn plan(namespace: &Namespace<'_>) -> Result<Value> {
    let api: Api<Secret> = Api::namespaced(namespace.world.client.clone(), &namespace.name);
    let secret = api.get(&format!("{GATEWAY}-gateway-plan")).await?;
    let data = secret.data.unwrap_or_default();
    let plan = data.get("plan.json").context("the Secret has no plan")?;
    Ok(serde_json::from_slice(&plan.0)?)
}

/// Down a path: fields of objects, entries of lists by their number, name, id or type, or by the flag before them.
fn find<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let mut parts = path.split('.').filter(|part| !part.is_empty());
    parts.try_fold(value, |at, part| match at {
        Value::Array(items) => {
            let called = |item: &&Value| {
                let names = ["name", "id", "type"];
                names.iter().any(|name| item[*name] == part)
            };
            let number = part.parse::<usize>().ok();
            let flag = || items.iter().position(|item| item == part);
            number
                .and_then(|number| items.get(number))
                .or_else(|| items.iter().find(called))
                .or_else(|| items.get(flag()? + 1))
        }
        _ => at.get(part),
    })
}

/// A value as text: words of a list with spaces between.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn read(text: &str) -> Result<Changes> {
    let documents = weir_crds::yaml::documents(text)?;
    let document = documents.into_iter().next().context("an empty file")?;
    Ok(serde_json::from_value(document.value)?)
}

/// The price of a pool, again and again: a new plan each time.
async fn reprice(namespace: &Namespace<'_>, number: usize) -> Result<()> {
    let price = json!({"spec": {"cost": {"completionPerMillion": number}}});
    namespace.patch("ModelPool", "steady", price).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

/// What fields refer to: Secrets, a claim, an account, classes.
async fn surroundings(namespace: &Namespace<'_>) -> Result<()> {
    let watched = || json!({"weir.dev/watch": "true"});
    let other = KEY.replace("e2e", "new");
    for (name, entry, value) in [
        ("keys", "acme.e2e", KEY),
        ("outside-keys", "one", "first"),
        ("other-outside-keys", "two", "second"),
        ("hub-token", "WEIR_SOURCE_TOKEN", "nobody-asks-for-it"),
        ("registry", "unused", "images are there already"),
    ] {
        namespace.secret(name, watched(), (entry, value)).await?;
    }
    namespace
        .apply_object(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "more-keys", "labels": watched()},
            "stringData": {"acme.e2e": KEY, "acme.other": other},
        }))
        .await?;
    let storage = json!({"requests": {"storage": "64Mi"}});
    namespace
        .apply_object(&json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "cache"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": storage},
        }))
        .await?;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "e2e"}});
    namespace.apply_object(&account).await?;
    classes(namespace.world).await
}

/// Classes belong to the cluster: they stay, and the next run finds them as they should be.
async fn classes(world: &World) -> Result<()> {
    use k8s_openapi::api::node::v1::RuntimeClass;
    use k8s_openapi::api::scheduling::v1::PriorityClass;
    use k8s_openapi::api::storage::v1::StorageClass;
    let patch = PatchParams::apply("weir-e2e").force();
    let priority = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": "e2e-fields"}, "value": 1000, "preemptionPolicy": "Never",
    });
    let api: Api<PriorityClass> = Api::all(world.client.clone());
    api.patch("e2e-fields", &patch, &Patch::Apply(priority))
        .await?;
    // What the node runs containers with anyway, by name.
    let runtime = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": {"name": "e2e-fields"}, "handler": "runc",
    });
    let api: Api<RuntimeClass> = Api::all(world.client.clone());
    api.patch("e2e-fields", &patch, &Patch::Apply(runtime))
        .await?;
    let api: Api<StorageClass> = Api::all(world.client.clone());
    let grows = json!({"allowVolumeExpansion": true});
    api.patch("standard", &PatchParams::default(), &Patch::Merge(grows))
        .await?;
    Ok(())
}

mod certificates;

#[cfg(test)]
mod tests;
