//! Rows that do not decode: found and taken out in a store that cannot be opened because of them.
//!
//! Works on the file without an index, since an index cannot be made of such rows. What is taken out is returned, so that
//! whoever asked can keep it; nothing is taken out unasked.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable};
use serde::{Deserialize, Serialize};

use super::open::{FILE, open_database};
use super::row;
use super::{OpenError, ReadError};
use crate::node::NodeId;

/// A row that this version cannot read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedRow {
    /// Which table: `nodes`, `vectors` or `edges`.
    pub table: String,
    /// The node, or the edge as `source relation target`.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
    /// Its bytes, as text where they are text.
    pub row: String,
}

/// Keys of damaged rows.
#[derive(Default)]
struct Keys {
    nodes: Vec<u128>,
    vectors: Vec<u128>,
    edges: Vec<(u128, u128, String)>,
}

/// The rows of the memory in `dir` that cannot be read. Nobody may have it open.
pub fn damaged_rows(dir: &Path) -> Result<Vec<DamagedRow>, OpenError> {
    let found = open_database(dir, FILE).map(|database| find(&database))?;
    Ok(found.map_err(|source| unusable(dir, source))?.1)
}

/// Takes those rows out, and with a node's row what hangs on it; returns them.
pub fn remove_damaged_rows(dir: &Path) -> Result<Vec<DamagedRow>, OpenError> {
    let database = open_database(dir, FILE)?;
    let (keys, rows) = find(&database).map_err(|source| unusable(dir, source))?;
    if rows.is_empty() {
        return Ok(rows);
    }
    remove(&database, &keys).map_err(|source| unusable(dir, source))?;
    Ok(rows)
}

fn unusable(dir: &Path, source: ReadError) -> OpenError {
    OpenError::Damaged {
        path: dir.to_owned(),
        source,
    }
}

fn find(database: &Database) -> Result<(Keys, Vec<DamagedRow>), ReadError> {
    let transaction = database.begin_read()?;
    let identity = transaction.open_table(row::IDENTITY)?;
    let dimensions = identity.get("dimensions")?;
    let dimensions: usize = dimensions
        .and_then(|text| text.value().parse().ok())
        .unwrap_or_default();
    let (mut keys, mut rows) = (Keys::default(), Vec::new());
    let mut note = |table: &str, key: String, bytes: &[u8], error: &ReadError| {
        rows.push(DamagedRow {
            table: table.to_owned(),
            key,
            reason: error.to_string(),
            row: String::from_utf8_lossy(bytes).into_owned(),
        });
    };
    for entry in transaction.open_table(row::NODES)?.iter()? {
        let (key, bytes) = entry?;
        let id = NodeId::from_u128(key.value());
        if let Err(error) = row::decode_node(id, bytes.value(), 0) {
            note("nodes", id.to_string(), bytes.value(), &error);
            keys.nodes.push(key.value());
        }
    }
    for entry in transaction.open_table(row::VECTORS)?.iter()? {
        let (key, bytes) = entry?;
        let id = NodeId::from_u128(key.value());
        if let Err(error) = row::decode_vector(id, bytes.value(), dimensions) {
            note("vectors", id.to_string(), &[], &error);
            keys.vectors.push(key.value());
        }
    }
    for entry in transaction.open_table(row::EDGES)?.iter()? {
        let (key, bytes) = entry?;
        let (src, dst, rel) = key.value();
        if let Err(error) = row::decode_edge((src, dst, rel), bytes.value()) {
            let (from, to) = (NodeId::from_u128(src), NodeId::from_u128(dst));
            note("edges", format!("{from} {rel} {to}"), bytes.value(), &error);
            keys.edges.push((src, dst, rel.to_owned()));
        }
    }
    Ok((keys, rows))
}

/// A node whose vector is taken out waits for another; edges at a node that is taken out go with it.
fn remove(database: &Database, keys: &Keys) -> Result<(), ReadError> {
    let transaction = database.begin_write()?;
    {
        let mut sequence = transaction.open_table(row::SEQUENCE)?;
        let generation = sequence.get("generation")?.map_or(0, |value| value.value()) + 1;
        sequence.insert("generation", generation)?;
        let mut nodes = transaction.open_table(row::NODES)?;
        let mut vectors = transaction.open_table(row::VECTORS)?;
        let mut pending = transaction.open_table(row::PENDING)?;
        let mut stamps = transaction.open_table(row::STAMPS)?;
        let mut edges = transaction.open_table(row::EDGES)?;
        for key in &keys.vectors {
            vectors.remove(key)?;
            pending.insert(key, generation)?;
        }
        for key in &keys.nodes {
            nodes.remove(key)?;
            vectors.remove(key)?;
            pending.remove(key)?;
            stamps.remove(key)?;
        }
        for (src, dst, rel) in &keys.edges {
            edges.remove((*src, *dst, rel.as_str()))?;
        }
        let gone = |key: u128| keys.nodes.contains(&key);
        edges.retain(|(src, dst, _), _| !gone(src) && !gone(dst))?;
    }
    transaction.commit()?;
    Ok(())
}
