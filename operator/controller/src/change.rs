//! A change of one object, reduced to what decides who must look at it.

use kube::{Resource, ResourceExt};
use std::collections::BTreeMap;

/// An object that was added, changed or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Kind and name of the object that controls it.
    pub(crate) owner: Option<(String, String)>,
}

impl Change {
    /// The change of an object.
    pub(crate) fn of<K: Resource>(kind: &K::DynamicType, object: &K) -> Self {
        let mut owners = object.owner_references().iter();
        let owner = owners.find(|owner| owner.controller == Some(true));
        Self {
            kind: K::kind(kind).into_owned(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            labels: object.labels().clone(),
            owner: owner.map(|owner| (owner.kind.clone(), owner.name.clone())),
        }
    }

    /// The change of an object of which no more can be read.
    pub(crate) fn named(kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            labels: BTreeMap::new(),
            owner: None,
        }
    }
}
