//! Opening: identity first, then the index from the rows.
//!
//! Nothing is written to a store whose identity does not fit. A new store is made under another name and gets its own when
//! it is whole, since redb refuses a file whose making was cut short.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, RwLock};

use redb::{Builder, Database, DatabaseError, ReadTransaction, ReadableTable};

use super::linker::Linker;
use super::row::{self, FORMAT};
use super::storage::Storage;
use super::{Inner, Memory, MemoryConfig, OpenError, ReadError};
use super::{embedding, tuning, weights};
use crate::graph::EdgeFacts;
use crate::index::{Change, Index, Labels, VectorChange};
use crate::node::NodeId;
use crate::recall::RecallCache;
use crate::vectors::HnswParameters;
use crate::vectors::snapshot::GraphIdentity;
use crate::words;

/// The one file that a store cannot do without.
pub(super) const FILE: &str = "memory.redb";

/// A store that is being made, or what was left of one when its process died.
const UNFINISHED: &str = "memory.redb.new";

/// Pages that redb may keep in memory. The index answers searches, so rows are read a few at a
/// time.
const CACHE_BYTES: usize = 8 << 20;

impl Memory {
    /// Opens the memory in `dir`, which is made when it is missing.
    pub fn open(dir: &Path, config: &MemoryConfig) -> Result<Self, OpenError> {
        Self::open_with(dir, config, HnswParameters::default())
    }

    /// As [`Memory::open`], with a graph over the vectors that is built and walked in another way.
    pub fn open_with(
        dir: &Path,
        config: &MemoryConfig,
        parameters: HnswParameters,
    ) -> Result<Self, OpenError> {
        if config.dimensions == 0 {
            return Err(OpenError::NoDimensions);
        }
        if !dir.join(FILE).exists() {
            make(dir, config)?;
        }
        let storage = Storage::open(dir)?;
        let damaged = |source| OpenError::Damaged {
            path: dir.to_owned(),
            source,
        };
        let rows = storage.begin_read().map_err(damaged)?;
        let identity = stored_identity(&rows).map_err(damaged)?;
        check_identity(dir, &identity, config)?;
        let shadowed = embedding::has_shadow(&identity);
        let attention = weights::read(dir)?;
        let evidence = attention.wanted().evidence();
        let tuning = tuning::read(dir)?;
        let mut index = load(&rows, config, (parameters, evidence)).map_err(damaged)?;
        if let Some(tuning) = &tuning {
            index.vectors.set_ef_search(tuning.ef_search);
        }
        let index = Arc::new(RwLock::new(index));
        let identity = GraphIdentity::new(config.dimensions, &config.embedding_model, &parameters);
        let inner = Inner {
            linker: Linker::new(&index, dir, identity),
            storage,
            config: config.clone(),
            folder: dir.to_owned(),
            attention: RwLock::new(Arc::new(attention)),
            tuning: RwLock::new(tuning),
            recollected: RecallCache::default(),
            calls: AtomicUsize::new(0),
            shadowed: AtomicBool::new(shadowed),
            index,
            writer: Mutex::new(()),
            handed_out: Mutex::new(HashMap::new()),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// A transaction that reads.
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, ReadError> {
        if self.inner.storage.is_closed()
            && let Ok(_one_at_a_time) = self.inner.writer.try_lock()
        {
            self.recover()?;
        }
        self.inner.storage.begin_read()
    }

    /// Opens the file again, of which a write failed, and reads the index anew where that write was made all the same. For who
    /// holds the writer's lock.
    pub(super) fn recover(&self) -> Result<(), ReadError> {
        self.inner.storage.reopen()?;
        let rows = self.inner.storage.begin_read()?;
        if generation(&rows)? != self.generation() {
            let (parameters, evidence) = {
                let index = self.index();
                (index.vectors.parameters(), index.graph.holds_evidence())
            };
            let index = load(&rows, self.config(), (parameters, evidence))?;
            *self.index_mut() = index;
            self.recall_cache().forget();
            self.inner.linker.wake();
        }
        Ok(())
    }
}

/// Makes an empty store. The folder is made when it is missing.
fn make(dir: &Path, config: &MemoryConfig) -> Result<(), OpenError> {
    let failed = |source| OpenError::Directory {
        path: dir.to_owned(),
        source,
    };
    fs::create_dir_all(dir).map_err(failed)?;
    match fs::remove_file(dir.join(UNFINISHED)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let database = open_database(dir, UNFINISHED)?;
    create_tables(&database, config).map_err(|source| OpenError::Damaged {
        path: dir.to_owned(),
        source,
    })?;
    drop(database);
    fs::rename(dir.join(UNFINISHED), dir.join(FILE)).map_err(failed)?;
    // The name must last as long as what is acknowledged under it.
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed)
}

pub(super) fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

pub(super) fn open_database(dir: &Path, file: &str) -> Result<Database, OpenError> {
    builder()
        .create(dir.join(file))
        .map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                OpenError::InUse {
                    path: dir.to_owned(),
                }
            }
            DatabaseError::Storage(redb::StorageError::Io(source)) => OpenError::Directory {
                path: dir.to_owned(),
                source,
            },
            other => OpenError::Damaged {
                path: dir.to_owned(),
                source: other.into(),
            },
        })
}

pub(super) type Identity = HashMap<String, String>;

/// Empty for a database that is no memory.
pub(super) fn stored_identity(rows: &ReadTransaction) -> Result<Identity, ReadError> {
    let table = match rows.open_table(row::IDENTITY) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Identity::new()),
        Err(other) => return Err(other.into()),
    };
    let mut identity = Identity::new();
    for entry in table.iter()? {
        let (name, value) = entry?;
        identity.insert(name.value().to_owned(), value.value().to_owned());
    }
    Ok(identity)
}

fn check_identity(dir: &Path, stored: &Identity, wanted: &MemoryConfig) -> Result<(), OpenError> {
    let path = dir.to_owned();
    let value = |name: &str| stored.get(name).cloned().unwrap_or_default();
    if value("format") != FORMAT {
        return Err(OpenError::Format {
            path,
            stored: value("format"),
            supported: FORMAT,
        });
    }
    let dimensions = value("dimensions").parse().unwrap_or_default();
    if dimensions != wanted.dimensions {
        let wanted = wanted.dimensions;
        return Err(OpenError::Dimensions {
            path,
            stored: dimensions,
            wanted,
        });
    }
    let stored = value("embedding_model");
    if stored != wanted.embedding_model {
        let wanted = wanted.embedding_model.clone();
        return Err(OpenError::EmbeddingModel {
            path,
            stored,
            wanted,
        });
    }
    Ok(())
}

fn create_tables(database: &Database, config: &MemoryConfig) -> Result<(), ReadError> {
    let transaction = database.begin_write()?;
    {
        let mut identity = transaction.open_table(row::IDENTITY)?;
        identity.insert("format", FORMAT)?;
        identity.insert("dimensions", config.dimensions.to_string().as_str())?;
        identity.insert("embedding_model", config.embedding_model.as_str())?;
        transaction
            .open_table(row::SEQUENCE)?
            .insert("generation", 0)?;
        transaction.open_table(row::NODES)?;
        transaction.open_table(row::STAMPS)?;
        transaction.open_table(row::VECTORS)?;
        transaction.open_table(row::PENDING)?;
        transaction.open_table(row::EDGES)?;
        transaction.open_table(row::DOCUMENTS)?;
    }
    transaction.commit()?;
    Ok(())
}

/// The number of the last write.
pub(super) fn generation(rows: &ReadTransaction) -> Result<u64, ReadError> {
    let sequence = rows.open_table(row::SEQUENCE)?;
    Ok(sequence.get("generation")?.map_or(0, |value| value.value()))
}

fn load(
    transaction: &ReadTransaction,
    config: &MemoryConfig,
    (parameters, evidence): (HnswParameters, bool),
) -> Result<Index, ReadError> {
    let mut index = Index::new(config.dimensions, parameters);
    index.graph.hold_evidence(evidence);
    let generation = generation(transaction)?;
    for entry in transaction.open_table(row::NODES)?.iter()? {
        let (key, bytes) = entry?;
        let id = NodeId::from_u128(key.value());
        let node = row::decode_node(id, bytes.value(), 0)?;
        let words = Some((None, words::count(&node.indexed_text())));
        let labels = Labels::of(node.tenant, node.node_type, &node.metadata);
        index.follow(Change::Node {
            id,
            labels,
            words,
            vector: VectorChange::Clear,
        });
    }
    index.words.shrink();
    let vectors = transaction.open_table(row::VECTORS)?;
    index.vectors.reserve(index.len());
    for entry in vectors.iter()? {
        let (key, bytes) = entry?;
        let id = NodeId::from_u128(key.value());
        let unit = row::decode_vector(id, bytes.value(), config.dimensions)?;
        index.follow(Change::Vector { id, unit });
    }
    for entry in transaction.open_table(row::EDGES)?.iter()? {
        let (key, bytes) = entry?;
        let edge = row::decode_edge(key.value(), bytes.value())?;
        let facts = EdgeFacts::of(edge.weight, edge.metadata);
        let (src, dst, rel) = (edge.src, edge.dst, edge.rel);
        index.follow(Change::Edge {
            src,
            dst,
            rel,
            facts,
        });
    }
    index.generation = generation;
    Ok(index)
}
