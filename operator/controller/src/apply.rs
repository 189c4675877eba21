//! Making the cluster be what was asked for: server-side apply, then deleting what is asked for no more.
//!
//! One field manager. A live object that already is what was asked for costs no call. An object of the same name that
//! somebody else made is never touched. Where another manager holds one of our fields, the first conflict is settled
//! for Weir and said in an Event, since most are a hasty `kubectl edit`; when the same field is taken again soon, two
//! managers fight, and Weir says so in a condition instead of fighting. Nothing is written by a process that does not lead.

use crate::cache::Caches;
use crate::cluster::{Cluster, NotLeading};
use crate::drift::{APPLIED, contains, fingerprint, hash};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Resource, ResourceExt};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Name under which Weir writes.
pub(crate) const MANAGER: &str = "weir.dev/operator";

/// A field that is taken again within this time is fought over.
const FIGHT: Duration = Duration::from_secs(600);

/// Whose objects are applied.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    pub(crate) uid: String,
}

/// Why an apply did not happen at all; tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// This process no longer leads.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    /// The API server did not answer, or not with a decision.
    #[error("{step} {object}: {source}")]
    Api {
        step: &'static str,
        object: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// A document without kind or name was built.
    #[error("an object without {0} was built")]
    Malformed(&'static str),
}

/// What an apply came to.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// What the API server would not do, for conditions.
    pub(crate) refusals: Vec<Refusal>,
    /// Fields that somebody changed and Weir changed back, for Events.
    pub(crate) corrected: Vec<String>,
    /// Objects as the API server has them after a write. A cache that lags would show them as they were.
    pub(crate) written: Vec<DynamicObject>,
}

impl Applied {
    /// An object as it is now: as it was written just now, else as the cache has it.
    pub(crate) fn now<K>(
        &self,
        caches: &Caches,
        kind: &str,
        (namespace, name): (&str, &str),
    ) -> Option<K>
    where
        K: Resource + serde::de::DeserializeOwned,
    {
        let mut written = self.written.iter();
        let written = written.find(|object| {
            let of_kind = object
                .types
                .as_ref()
                .is_some_and(|types| types.kind == kind);
            of_kind && object.name_any() == name
        });
        match written {
            Some(object) => object.clone().try_parse().ok(),
            None => caches.typed(kind, namespace, name),
        }
    }
}

/// Something the API server would not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// CamelCase, for a condition.
    pub(crate) reason: &'static str,
    /// What, and what to do.
    pub(crate) message: String,
}

type Id = (String, String, String);

/// Applies, and remembers what it cannot read back.
pub(crate) struct Applier {
    cluster: Cluster,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Hash of what was asked for and fingerprint of what came of it. Needed where the API server writes a value
    /// differently than it was asked for, as with quantities.
    settled: HashMap<Id, (String, String)>,
    /// When a conflict was last settled by force.
    forced: HashMap<Id, Instant>,
}

/// One desired object on its way.
struct Wanted {
    resource: ApiResource,
    name: String,
    document: Value,
    hash: String,
}

enum Outcome {
    InStep,
    Written(Box<DynamicObject>),
    Corrected(Box<DynamicObject>, String),
    Refused(Refusal),
}

impl Applier {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            memory: Mutex::default(),
        }
    }

    /// Makes everything in `desired` so, in its order, then deletes what `owner` has beyond it.
    pub(crate) async fn apply(
        &self,
        caches: &Caches,
        owner: &Owner,
        desired: Vec<Value>,
    ) -> Result<Applied, ApplyError> {
        let mut applied = Applied::default();
        let mut kept = Vec::new();
        for document in desired {
            let wanted = Wanted::new(document)?;
            kept.push((wanted.resource.kind.clone(), wanted.name.clone()));
            match self.apply_one(caches, owner, &wanted).await? {
                Outcome::InStep => {}
                Outcome::Written(object) => applied.written.push(*object),
                Outcome::Corrected(object, what) => {
                    applied.written.push(*object);
                    applied.corrected.push(what);
                }
                Outcome::Refused(refusal) => applied.refusals.push(refusal),
            }
        }
        // What is still asked for comes first: nothing is taken away while its replacement was refused.
        if applied.refusals.is_empty() {
            self.delete_beyond(caches, owner, &kept).await?;
        }
        Ok(applied)
    }

    async fn apply_one(
        &self,
        caches: &Caches,
        owner: &Owner,
        wanted: &Wanted,
    ) -> Result<Outcome, ApplyError> {
        let api = self.api(&wanted.resource, &owner.namespace);
        let cached = caches.owned(&wanted.resource.kind, &owner.namespace, &wanted.name);
        let live = match cached {
            Some(live) => Some((*live).clone()),
            None => match api.get_opt(&wanted.name).await {
                Ok(found) => found,
                // Of a group that it does not know the API server says nothing but this; the write tells what it means.
                Err(kube::Error::Api(status)) if status.code == 404 => None,
                Err(source) => return Err(wanted.error("read", source)),
            },
        };
        if let Some(live) = &live {
            if !wanted.is_ours(live, &owner.uid) {
                return Ok(Outcome::Refused(wanted.name_taken()));
            }
            if self.in_step(owner, wanted, live) {
                return Ok(Outcome::InStep);
            }
        }
        self.write(&api, owner, wanted).await
    }

    fn in_step(&self, owner: &Owner, wanted: &Wanted, live: &DynamicObject) -> bool {
        if live.annotations().get(APPLIED) != Some(&wanted.hash) {
            return false;
        }
        let mut live = serde_json::to_value(live).unwrap_or_default();
        // The items of a list do not say what they are.
        for field in ["apiVersion", "kind"] {
            live[field] = wanted.document[field].clone();
        }
        if contains(&live, &wanted.document) {
            return true;
        }
        let settled = (wanted.hash.clone(), fingerprint(&live));
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.settled.get(&wanted.id(owner)) == Some(&settled)
    }

    async fn write(
        &self,
        api: &Api<DynamicObject>,
        owner: &Owner,
        wanted: &Wanted,
    ) -> Result<Outcome, ApplyError> {
        self.cluster.may_write()?;
        let patch = Patch::Apply(&wanted.document);
        let params = PatchParams::apply(MANAGER);
        let conflict = match api.patch(&wanted.name, &params, &patch).await {
            Ok(written) => {
                self.settle(owner, wanted, &written);
                return Ok(Outcome::Written(Box::new(written)));
            }
            Err(kube::Error::Api(status)) if status.is_conflict() => status,
            Err(error) => return wanted.refused(error).map(Outcome::Refused),
        };
        let what = conflicts(&conflict);
        let id = wanted.id(owner);
        let fought = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let before = memory.forced.insert(id, Instant::now());
            before.is_some_and(|at| at.elapsed() < FIGHT)
        };
        if fought {
            return Ok(Outcome::Refused(wanted.fought(&what)));
        }
        self.cluster.may_write()?;
        match api.patch(&wanted.name, &params.force(), &patch).await {
            Ok(written) => {
                self.settle(owner, wanted, &written);
                let object = wanted.described();
                let what = format!("{object}: {what}");
                Ok(Outcome::Corrected(Box::new(written), what))
            }
            Err(error) => wanted.refused(error).map(Outcome::Refused),
        }
    }

    fn settle(&self, owner: &Owner, wanted: &Wanted, written: &DynamicObject) {
        let mut live = serde_json::to_value(written).unwrap_or_default();
        for field in ["apiVersion", "kind"] {
            live[field] = wanted.document[field].clone();
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = (wanted.hash.clone(), fingerprint(&live));
        memory.settled.insert(wanted.id(owner), settled);
    }

    async fn delete_beyond(
        &self,
        caches: &Caches,
        owner: &Owner,
        kept: &[(String, String)],
    ) -> Result<(), ApplyError> {
        for (resource, object) in caches.owned_by(&owner.uid) {
            let (kind, name) = (resource.kind.clone(), object.name_any());
            let ends = object.meta().deletion_timestamp.is_some();
            if ends || kept.iter().any(|(k, n)| (k, n) == (&kind, &name)) {
                continue;
            }
            self.cluster.may_write()?;
            let params = DeleteParams {
                propagation_policy: Some(PropagationPolicy::Background),
                preconditions: Some(Preconditions {
                    uid: object.uid(),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            let api = self.api(&resource, &owner.namespace);
            match api.delete(&name, &params).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if gone(&status) => {}
                Err(source) => {
                    return Err(ApplyError::Api {
                        step: "delete",
                        object: format!("{kind} {name}"),
                        source: Box::new(source),
                    });
                }
            }
            let id = (kind, owner.namespace.clone(), name);
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.settled.remove(&id);
            memory.forced.remove(&id);
        }
        Ok(())
    }

    /// Forgets objects that no longer exist.
    pub(crate) fn forget(&self, caches: &Caches) {
        let alive = |(kind, namespace, name): &Id| {
            !caches.watches(kind) || caches.owned(kind, namespace, name).is_some()
        };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.settled.retain(|id, _| alive(id));
        memory
            .forced
            .retain(|id, at| alive(id) && at.elapsed() < FIGHT);
    }

    fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.cluster.client(), namespace, resource)
    }
}

impl Wanted {
    fn new(mut document: Value) -> Result<Self, ApplyError> {
        let word = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (word("apiVersion"), word("kind"));
        if kind.is_empty() || api_version.is_empty() {
            return Err(ApplyError::Malformed("kind"));
        }
        let name = document["metadata"]["name"].as_str().unwrap_or_default();
        let name = name.to_owned();
        if name.is_empty() {
            return Err(ApplyError::Malformed("name"));
        }
        let hash = hash(&document);
        document["metadata"]["annotations"][APPLIED] = hash.as_str().into();
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        Ok(Self {
            resource: ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind)),
            name,
            document,
            hash,
        })
    }

    /// Whether a live object is the owner's: it controls it, or nobody does and the labels are Weir's. The latter is so for
    /// what outlives its owner, such as a volume, which the next of the same name takes over.
    fn is_ours(&self, live: &DynamicObject, uid: &str) -> bool {
        let mut owners = live.owner_references().iter();
        if let Some(controller) = owners.find(|owner| owner.controller == Some(true)) {
            return controller.uid == uid;
        }
        let labels = serde_json::to_value(live.labels()).unwrap_or_default();
        let wanted = &self.document["metadata"]["labels"];
        !wanted.is_null() && contains(&labels, wanted)
    }

    fn id(&self, owner: &Owner) -> Id {
        (
            self.resource.kind.clone(),
            owner.namespace.clone(),
            self.name.clone(),
        )
    }

    fn described(&self) -> String {
        format!("{} {}", self.resource.kind, self.name)
    }

    fn error(&self, step: &'static str, source: kube::Error) -> ApplyError {
        ApplyError::Api {
            step,
            object: self.described(),
            source: Box::new(source),
        }
    }

    fn name_taken(&self) -> Refusal {
        Refusal {
            reason: "NameTaken",
            message: format!(
                "{} exists and belongs to somebody else: delete it or rename this object",
                self.described()
            ),
        }
    }

    fn fought(&self, what: &str) -> Refusal {
        Refusal {
            reason: "FieldConflict",
            message: format!(
                "{}: {what}, again within ten minutes: let Weir alone manage these fields",
                self.described()
            ),
        }
    }

    /// A decision of the API server becomes a refusal; anything else is an error that is tried again.
    fn refused(&self, error: kube::Error) -> Result<Refusal, ApplyError> {
        let kube::Error::Api(status) = &error else {
            return Err(self.error("apply", error));
        };
        let reason = match status.code {
            404 => "KindMissing",
            403 => "Forbidden",
            400 | 422 => "Invalid",
            _ => return Err(self.error("apply", error)),
        };
        let why = match reason {
            "KindMissing" => format!(
                "this cluster does not know {} of {}: install its definition, or take out the field that asks for it",
                self.resource.kind, self.resource.api_version
            ),
            _ => status.message.clone(),
        };
        Ok(Refusal {
            reason,
            message: format!("{}: {why}", self.described()),
        })
    }
}

fn gone(status: &kube::core::Status) -> bool {
    // A conflict here means that another object has the name now.
    status.is_not_found() || status.is_conflict()
}

/// Which fields which managers hold, in words.
fn conflicts(status: &kube::core::Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let all: Vec<String> = causes
        .map(|cause| format!("{} ({})", cause.field, cause.message))
        .collect();
    if all.is_empty() {
        status.message.clone()
    } else {
        all.join(", ")
    }
}
