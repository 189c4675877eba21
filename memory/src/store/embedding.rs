//! Which model makes the vectors, and moving to another one.
//!
//! A store may hold a second set of vectors, of another model: the shadow. While there is one, every write of a text also
//! notes that the shadow's vector is to be made anew, so that it is complete as soon as nothing waits, however long that
//! took and however often it was interrupted. Moving exchanges both sets in one transaction; what was there before is the
//! shadow from then on, and moving back is the same step. Who makes vectors is none of this file's business.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::Ordering;

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::open::{FILE, open_database, stored_identity};
use super::row::{self, IDENTITY, PENDING, SHADOW_PENDING, SHADOW_VECTORS, UNJOINED, VECTORS};
use super::storage::Room;
use super::{Memory, OpenError, ReadError, WriteError, linker};
use crate::node::{NodeId, NodeType};

/// Names in the identity: of the vectors in use, and of the shadow's.
const IN_USE: [&str; 3] = ["embedding_model", "dimensions", "revision"];
const WAS_IN_USE: &str = "shadow_was_in_use";
const SHADOW: [&str; 3] = [
    "shadow_embedding_model",
    "shadow_dimensions",
    "shadow_revision",
];

/// Name of a table while two are exchanged.
const ASIDE_VECTORS: redb::TableDefinition<'_, u128, &[u8]> =
    redb::TableDefinition::new("aside_vectors");
const ASIDE_PENDING: redb::TableDefinition<'_, u128, u64> =
    redb::TableDefinition::new("aside_pending");

/// What makes vectors: those of two embeddings cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Embedding {
    /// Name of the model.
    pub model: String,
    /// Length of a vector.
    pub dimensions: usize,
    /// Digest of the model's files; `None` where it is not known, as of a pool's.
    pub revision: Option<String>,
}

/// The second set of vectors of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shadow {
    /// What makes them.
    pub embedding: Embedding,
    /// Nodes that have one.
    pub vectors: u64,
    /// Nodes that wait for one.
    pub pending: u64,
    /// Whether they were in use before the others were.
    pub was_in_use: bool,
}

/// Why a store does not move to another embedding.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// It is there already.
    #[error("the memory's vectors are those of {0} already")]
    Same(String),
    /// Another move is under way, or was not concluded.
    #[error(
        "the memory also holds vectors of {there}, and there is room for one other embedding: conclude that with \
         `weir memory migrate --forget`, which lets go of them, then repeat the command"
    )]
    Other {
        /// What the shadow is of.
        there: String,
    },
    /// There is nothing to move to.
    #[error("the memory holds vectors of one embedding only: nothing to go back to")]
    NoShadow,
    /// Some nodes lack their vector.
    #[error("{0} nodes still wait for their vector")]
    Incomplete(u64),
    /// It cannot be read.
    #[error("read the memory")]
    Read(#[from] ReadError),
    /// It cannot be written.
    #[error("write the memory")]
    Write(#[from] WriteError),
}

impl std::fmt::Display for Embedding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} ({} dimensions", self.model, self.dimensions)?;
        match &self.revision {
            Some(revision) => write!(f, ", revision {})", short(revision)),
            None => f.write_str(")"),
        }
    }
}

/// Enough of a digest to tell two apart.
fn short(revision: &str) -> &str {
    revision.get(..12).unwrap_or(revision)
}

impl Memory {
    /// What made the vectors of the store in `dir`; `None` when there is no store. For whoever moves it to another one.
    pub fn embedding_in(dir: &Path) -> Result<Option<Embedding>, OpenError> {
        if !dir.join(FILE).exists() {
            return Ok(None);
        }
        let database = open_database(dir, FILE)?;
        let identity = || stored_identity(&database.begin_read()?);
        let identity = identity().map_err(|source| OpenError::Damaged {
            path: dir.to_owned(),
            source,
        })?;
        Ok(named(&identity, IN_USE))
    }

    /// What makes the vectors that are in use.
    pub fn embedding(&self) -> Result<Embedding, ReadError> {
        let identity = stored_identity(&self.begin_read()?)?;
        named(&identity, IN_USE).ok_or_else(|| ReadError::Damaged {
            row: "identity".to_owned(),
            reason: "it names no model".to_owned(),
        })
    }

    /// Says which files the model in use has. The first ones are kept with the store; others are refused, since vectors of
    /// two revisions cannot be compared.
    ///
    /// # Errors
    /// The store's vectors are of other files.
    pub fn embedded_by(&self, revision: &str) -> Result<(), OpenError> {
        let damaged = |source: ReadError| OpenError::Damaged {
            path: self.inner.folder.clone(),
            source,
        };
        let known = self.embedding().map_err(damaged)?;
        match known.revision {
            Some(stored) if stored == revision => return Ok(()),
            // Without a vector there is nothing to compare with.
            Some(stored) if self.counts().vectors > 0 => {
                return Err(OpenError::Revision {
                    path: self.inner.folder.clone(),
                    model: known.model,
                    stored: short(&stored).to_owned(),
                    wanted: short(revision).to_owned(),
                });
            }
            _ => {}
        }
        self.change(|redb, _| {
            redb.open_table(IDENTITY)?.insert(IN_USE[2], revision)?;
            Ok(())
        })
        .map_err(|error| damaged(error.into_read()))
    }

    /// The second set of vectors, if there is one.
    pub fn shadow(&self) -> Result<Option<Shadow>, ReadError> {
        let redb = self.begin_read()?;
        let identity = stored_identity(&redb)?;
        let Some(embedding) = named(&identity, SHADOW) else {
            return Ok(None);
        };
        Ok(Some(Shadow {
            embedding,
            vectors: redb.open_table(SHADOW_VECTORS)?.len()?,
            pending: redb.open_table(SHADOW_PENDING)?.len()?,
            was_in_use: identity.contains_key(WAS_IN_USE),
        }))
    }

    /// Begins to hold vectors of another embedding, none of which is made yet; goes on where that was begun before.
    pub fn begin_shadow(&self, to: &Embedding) -> Result<Shadow, MoveError> {
        let known = self.embedding()?;
        if known == *to {
            return Err(MoveError::Same(to.to_string()));
        }
        match self.shadow()? {
            Some(shadow) if shadow.embedding == *to => return Ok(shadow),
            Some(shadow) => {
                return Err(MoveError::Other {
                    there: shadow.embedding.to_string(),
                });
            }
            None => {}
        }
        self.change(|redb, generation| {
            name(redb, SHADOW, Some(to))?;
            redb.open_table(SHADOW_VECTORS)?;
            let mut waiting = redb.open_table(SHADOW_PENDING)?;
            for entry in redb.open_table(row::NODES)?.iter()? {
                waiting.insert(entry?.0.value(), generation)?;
            }
            Ok(())
        })?;
        self.inner.shadowed.store(true, Ordering::Release);
        self.shadow()?.ok_or(MoveError::NoShadow)
    }

    /// Up to `limit` nodes that wait for a vector of the shadow, with the text to embed and its generation.
    pub fn shadow_pending(&self, limit: usize) -> Result<Vec<(NodeId, String, u64)>, ReadError> {
        let redb = self.begin_read()?;
        let rows = redb.open_table(row::NODES)?;
        let mut waiting = Vec::new();
        for entry in redb.open_table(SHADOW_PENDING)?.iter()?.take(limit) {
            let (key, generation) = entry?;
            if let Some(bytes) = rows.get(key.value())? {
                let id = NodeId::from_u128(key.value());
                let node = row::decode_node(id, bytes.value(), 0)?;
                waiting.push((id, node.indexed_text(), generation.value()));
            }
        }
        Ok(waiting)
    }

    /// Stores vectors of the shadow, made of the texts of these generations; how many. One whose text has changed since is
    /// left out.
    pub fn set_shadow_vectors(&self, made: &[(NodeId, u64, Vec<f32>)]) -> Result<usize, MoveError> {
        let dimensions = self
            .shadow()?
            .ok_or(MoveError::NoShadow)?
            .embedding
            .dimensions;
        let mut units = Vec::with_capacity(made.len());
        for (id, generation, vector) in made {
            let unit = super::write::unit_vector(*id, vector, dimensions)?;
            units.push((id.as_u128(), *generation, row::encode_vector(&unit)));
        }
        let mut stored = 0;
        self.change(|redb, _| {
            let mut waiting = redb.open_table(SHADOW_PENDING)?;
            let mut shadow = redb.open_table(SHADOW_VECTORS)?;
            for (key, generation, bytes) in &units {
                let waits = waiting.get(key)?.map(|waits| waits.value());
                if waits == Some(*generation) {
                    waiting.remove(key)?;
                    shadow.insert(key, bytes.as_slice())?;
                    stored += 1;
                }
            }
            Ok(())
        })?;
        Ok(stored)
    }

    /// Exchanges the vectors in use with the shadow's, in one transaction, and closes the memory: it is to be opened as one
    /// of the other embedding. Unless `incomplete`, only when no node waits.
    pub fn swap_embedding(self, incomplete: bool) -> Result<(), MoveError> {
        let shadow = self.shadow()?.ok_or(MoveError::NoShadow)?;
        if shadow.pending > 0 && !incomplete {
            return Err(MoveError::Incomplete(shadow.pending));
        }
        let before = self.embedding()?;
        self.change(|redb, generation| {
            redb.rename_table(VECTORS, ASIDE_VECTORS)?;
            redb.rename_table(SHADOW_VECTORS, VECTORS)?;
            redb.rename_table(ASIDE_VECTORS, SHADOW_VECTORS)?;
            redb.rename_table(PENDING, ASIDE_PENDING)?;
            redb.rename_table(SHADOW_PENDING, PENDING)?;
            redb.rename_table(ASIDE_PENDING, SHADOW_PENDING)?;
            name(redb, IN_USE, Some(&shadow.embedding))?;
            name(redb, SHADOW, Some(&before))?;
            {
                let mut identity = redb.open_table(IDENTITY)?;
                match shadow.was_in_use {
                    true => identity.remove(WAS_IN_USE)?.map(drop),
                    false => identity.insert(WAS_IN_USE, "yes")?.map(drop),
                };
            }
            // Topics are joined anew, by the new vectors.
            let with_vector = redb.open_table(VECTORS)?;
            let mut unjoined = redb.open_table(UNJOINED)?;
            for entry in with_vector.iter()? {
                let key = entry?.0.value();
                if self.index().node_type(NodeId::from_u128(key)) == Some(NodeType::Doc) {
                    unjoined.insert(key, ())?;
                }
            }
            redb.open_table(row::SEQUENCE)?
                .insert("generation", generation + 1)?;
            Ok(())
        })?;
        let folder = self.inner.folder.clone();
        drop(self);
        // The graph is of the other vectors, and would only be refused.
        match fs::remove_file(folder.join(linker::FILE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(MoveError::Write(
                WriteError::from(redb::StorageError::Io(error)),
            )),
            _ => Ok(()),
        }
    }

    /// Lets go of the shadow. False when there is none.
    pub fn forget_shadow(&self) -> Result<bool, MoveError> {
        if self.shadow()?.is_none() {
            return Ok(false);
        }
        self.change(|redb, _| {
            name(redb, SHADOW, None)?;
            redb.open_table(IDENTITY)?.remove(WAS_IN_USE)?;
            redb.delete_table(SHADOW_VECTORS)?;
            redb.delete_table(SHADOW_PENDING)?;
            Ok(())
        })?;
        self.inner.shadowed.store(false, Ordering::Release);
        Ok(true)
    }

    /// A transaction beside the rows that the index follows. Handed the number of the last write.
    fn change(
        &self,
        work: impl FnOnce(&WriteTransaction, u64) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        self.in_transaction(Room::More, |redb| {
            work(&redb, self.generation())?;
            Ok(redb.commit()?)
        })
    }
}

/// The embedding under these names of an identity.
fn named(identity: &HashMap<String, String>, names: [&str; 3]) -> Option<Embedding> {
    let [model, dimensions, revision] = names.map(|name| identity.get(name).cloned());
    Some(Embedding {
        model: model?,
        dimensions: dimensions?.parse().ok()?,
        revision,
    })
}

fn name(
    redb: &WriteTransaction,
    names: [&str; 3],
    embedding: Option<&Embedding>,
) -> Result<(), WriteError> {
    let mut identity = redb.open_table(IDENTITY)?;
    let values = [
        embedding.map(|embedding| embedding.model.clone()),
        embedding.map(|embedding| embedding.dimensions.to_string()),
        embedding.and_then(|embedding| embedding.revision.clone()),
    ];
    for (name, value) in names.into_iter().zip(values) {
        match value {
            Some(value) => {
                identity.insert(name, value.as_str())?;
            }
            None => {
                identity.remove(name)?;
            }
        }
    }
    Ok(())
}

/// Whether a store has a shadow.
pub(super) fn has_shadow(identity: &HashMap<String, String>) -> bool {
    named(identity, SHADOW).is_some()
}
