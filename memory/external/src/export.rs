//! The way between a memory in Qdrant and Neo4j and one in a file: an export, read out or in.
//!
//! An export is of the nodes that were there when it began. Which passages a document has is not kept here, so it is not
//! written, and not read.

use std::collections::HashSet;
use std::io::Write;

use neo4rs::query;
use tokio::runtime::Handle;
use weir_memory::upkeep::{DocumentPassages, ExportLines, Exported, Importing, Progress};
use weir_memory::{Edge, MemoryConfig, NewEdge, NewNode, NodeId, WriteError, Written};

use crate::error::StoreError;
use crate::neo4j::Broken;
use crate::row;
use crate::store::ExternalMemory;
use crate::write::{Edit, strange};

/// Nodes that are read at a time.
const PAGE: usize = 1000;

/// Why an export broke off.
#[derive(Debug, thiserror::Error)]
pub enum ExternalExportError {
    /// The servers.
    #[error("read the memory: {0}")]
    Read(#[from] StoreError),
    /// Where the lines go.
    #[error("write the export")]
    Write(#[from] std::io::Error),
    /// Somebody wrote meanwhile.
    #[error("nodes or edges were removed while the memory was written out: export it again")]
    Changed,
}

impl ExternalMemory {
    /// Writes every node and edge to `out`.
    ///
    /// # Errors
    /// A server is away, the lines cannot be written, or what was there at the beginning is gone.
    pub async fn export(
        &self,
        out: &mut dyn Write,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Exported, ExternalExportError> {
        let ids = self.all_ids().await?;
        let there: HashSet<NodeId> = ids.iter().copied().collect();
        let mut edges = 0;
        for page in ids.chunks(PAGE) {
            edges += self.edges_from(page, &there).await?.len() as u64;
        }
        let holds = Exported {
            nodes: ids.len() as u64,
            edges,
            generation: self.last_seen().generation,
            ..Exported::default()
        };
        let mut lines = ExportLines::begin(out, tell, &self.memory_config(), holds)?;
        for page in ids.chunks(PAGE) {
            let rows = self.stored(page).await?;
            let mut vectors = self.inner.qdrant.vectors(page).await?;
            let mut rows: Vec<_> = rows.into_iter().collect();
            rows.sort_by_key(|row| row.node.id);
            for row in rows {
                let point = vectors.remove(&row.node.id);
                let point = point.filter(|(version, _)| *version == row.version);
                let vector = row.vector.or(point.and_then(|(_, vector)| vector));
                lines.node(row.node, vector)?;
            }
        }
        for page in ids.chunks(PAGE) {
            for edge in self.edges_from(page, &there).await? {
                lines.edge(edge)?;
            }
        }
        let exported = lines.finish()?;
        match (exported.nodes, exported.edges) == (holds.nodes, holds.edges) {
            true => Ok(exported),
            false => Err(ExternalExportError::Changed),
        }
    }

    /// Its identity, as the embedded store says it.
    pub fn memory_config(&self) -> MemoryConfig {
        MemoryConfig {
            dimensions: self.inner.config.dimensions,
            embedding_model: self.inner.config.embedding_model.clone(),
        }
    }

    async fn all_ids(&self) -> Result<Vec<NodeId>, StoreError> {
        let what = "list nodes";
        let statement = format!("MATCH (n:{}) RETURN n.id AS id", self.inner.label);
        let rows = self.inner.neo4j.rows(what, query(&statement)).await?;
        let ids: Result<Vec<NodeId>, Broken> = rows.iter().map(|row| row::id(row, "id")).collect();
        let mut ids = ids.map_err(|broken| strange(what, broken))?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// The edges that start at some nodes and end at known ones.
    async fn edges_from(
        &self,
        ids: &[NodeId],
        there: &HashSet<NodeId>,
    ) -> Result<Vec<Edge>, StoreError> {
        let (label, what) = (&self.inner.label, "list edges");
        let statement = format!(
            "UNWIND $ids AS start MATCH (a:{label} {{id: start}})-[e:{label}]->(b:{label}) {}",
            row::EDGES_RETURNED
        );
        let statement = query(&statement).param("ids", row::ids(ids));
        let rows = self.inner.neo4j.rows(what, statement).await?;
        let edges: Result<Vec<Edge>, Broken> = rows.iter().map(row::edge).collect();
        let mut edges = edges.map_err(|broken| strange(what, broken))?;
        edges.retain(|edge| there.contains(&edge.dst));
        Ok(edges)
    }
}

/// An external memory for a thread that may wait, such as one that reads an export in.
pub struct Blocking {
    memory: ExternalMemory,
    config: MemoryConfig,
    runtime: Handle,
}

impl Blocking {
    /// Waits on the runtime that this is called in.
    pub fn new(memory: ExternalMemory) -> Self {
        Self {
            config: memory.memory_config(),
            runtime: Handle::current(),
            memory,
        }
    }
}

impl Importing for Blocking {
    fn config(&self) -> &MemoryConfig {
        &self.config
    }

    /// Which passages a document has is left out.
    fn put(
        &self,
        nodes: &[NewNode],
        edges: &[NewEdge],
        _documents: &[DocumentPassages],
    ) -> Result<Written, WriteError> {
        let edit = Edit {
            nodes: nodes.to_vec(),
            edges: edges.to_vec(),
            ..Edit::default()
        };
        let done = self.runtime.block_on(self.memory.edit_unchecked(&edit))?;
        Ok(done.written)
    }

    fn now(&self) -> (usize, u64) {
        let looked = self.runtime.block_on(self.memory.tend());
        if let Err(error) = looked {
            tracing::warn!("what was read in is counted as last seen: {error}");
        }
        let seen = self.memory.last_seen();
        (seen.counts.pending, seen.generation)
    }
}
