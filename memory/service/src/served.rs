//! The store that is served: in a file of this process, or in two servers.

use std::time::Duration;

use weir_memory::{Counts, Memory, Tuning};
use weir_memory_external::ExternalMemory;

/// A store, whichever it is. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Served {
    /// In a file, which this process alone has open.
    Embedded(Memory),
    /// In Qdrant and Neo4j.
    External(ExternalMemory),
}

impl Served {
    /// How much it holds; of an external one, as last seen.
    pub(crate) fn counts(&self) -> Counts {
        match self {
            Self::Embedded(store) => store.counts(),
            Self::External(store) => store.last_seen().counts,
        }
    }

    /// Number of the last write.
    pub(crate) fn generation(&self) -> u64 {
        match self {
            Self::Embedded(store) => store.generation(),
            Self::External(store) => store.last_seen().generation,
        }
    }

    /// Embedding model, and length of a vector.
    pub(crate) fn identity(&self) -> (&str, usize) {
        match self {
            Self::Embedded(store) => {
                let config = store.config();
                (&config.embedding_model, config.dimensions)
            }
            Self::External(store) => {
                let config = store.config();
                (&config.embedding_model, config.dimensions)
            }
        }
    }

    /// Nodes whose vectors and words are still to follow, and since when; `None` where they are written together.
    pub(crate) fn behind(&self) -> Option<(usize, Duration)> {
        match self {
            Self::Embedded(_) => None,
            Self::External(store) => {
                let seen = store.last_seen();
                Some((seen.behind, seen.lag))
            }
        }
    }

    /// What was measured of its index; an external one measures its own.
    pub(crate) fn tuning(&self) -> Option<Tuning> {
        match self {
            Self::Embedded(store) => store.tuning(),
            Self::External(_) => None,
        }
    }

    /// Summaries among its nodes; an external store is not asked to count them, since none are written into it.
    pub(crate) fn summaries(&self) -> usize {
        match self {
            Self::Embedded(store) => store.summaries(),
            Self::External(_) => 0,
        }
    }

    /// Why it cannot be asked; `None` when it can.
    pub(crate) fn away(&self) -> Option<String> {
        match self {
            Self::Embedded(_) => None,
            Self::External(store) => store.why_away(),
        }
    }
}
