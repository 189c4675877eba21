//! What goes wrong between this process and the two servers, in words that hold no address, no credential and no text of a
//! node.

use std::fmt;

use weir_memory_live::MemoryError;

/// One of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Vectors and words.
    Qdrant,
    /// Rows and edges.
    Neo4j,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qdrant => "Qdrant",
            Self::Neo4j => "Neo4j",
        })
    }
}

/// Why a server did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached.
    #[error("{0} cannot be reached")]
    Away(Server),
    /// It did not answer in time. What was sent may have been done.
    #[error("{server} did not answer in time ({what})")]
    Late {
        /// Which.
        server: Server,
        /// What was asked.
        what: &'static str,
    },
    /// It does not let this process in.
    #[error("{0} refuses the credentials")]
    Credentials(Server),
    /// It answered with an error.
    #[error("{server} refused to {what}: {why}")]
    Refused {
        /// Which.
        server: Server,
        /// What was asked.
        what: &'static str,
        /// Its own code.
        why: String,
    },
    /// It answered what does not belong to this memory.
    #[error("{server} answered what this memory did not write ({what}): {why}")]
    Strange {
        /// Which.
        server: Server,
        /// What was asked.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The store that is there is another one.
    #[error("{0}")]
    Identity(String),
}

impl StoreError {
    /// Whether asking again later can help, with nothing changed by anybody.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Late { .. })
    }
}

impl From<StoreError> for MemoryError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Away(_) | StoreError::Credentials(_) | StoreError::Identity(_) => {
                Self::Away(error.to_string())
            }
            StoreError::Late { .. } => Self::Late,
            StoreError::Refused { .. } | StoreError::Strange { .. } => Self::Failed {
                what: "asking the external memory",
                why: error.to_string(),
            },
        }
    }
}
