//! Which object: kind, namespace and name.

use std::fmt;

/// The kinds that are reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    ModelPool,
    MemoryStore,
    RouterVersion,
    InferenceGateway,
    RouterRollout,
}

/// One object that is reconciled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Kind {
    /// Every kind, in the order in which a new leader works them off: what others wait for comes first.
    pub(crate) const ALL: [Self; 5] = [
        Self::RouterVersion,
        Self::ModelPool,
        Self::MemoryStore,
        Self::InferenceGateway,
        Self::RouterRollout,
    ];

    /// The word in a document.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ModelPool => "ModelPool",
            Self::MemoryStore => "MemoryStore",
            Self::RouterVersion => "RouterVersion",
            Self::InferenceGateway => "InferenceGateway",
            Self::RouterRollout => "RouterRollout",
        }
    }

    /// The kind that a word in a document stands for.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl Key {
    /// The key of an object.
    pub(crate) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}
