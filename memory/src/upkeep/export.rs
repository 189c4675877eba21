//! Writing a memory out as JSON Lines, as it was at one moment, in little memory.
//!
//! Nodes come first, by id, with their vectors; then edges; then documents. Stamps are not written: they number the
//! writes of one store. Reading on: `line.rs` for the lines, `import.rs` for the way back.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::line::{DocumentLine, EdgeLine, FORMAT, Header, Line, NodeLine, Vector};
use super::{Progress, TELL_EVERY};
use crate::node::{Edge, Node, NodeType};
use crate::store::{Memory, MemoryConfig, ReadError};

/// What was written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// Nodes.
    pub nodes: u64,
    /// Vectors of these nodes.
    pub vectors: u64,
    /// Edges.
    pub edges: u64,
    /// Documents.
    pub documents: u64,
    /// Number of the last write in it.
    pub generation: u64,
}

/// Why an export broke off.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store.
    #[error("read the memory")]
    Read(#[from] ReadError),
    /// Where the lines go.
    #[error("write the export")]
    Write(#[from] io::Error),
}

impl Memory {
    /// Writes everything to `out`, which is given a few hundred bytes at a time. Writes of others go on meanwhile and are
    /// not seen.
    pub fn export(
        &self,
        out: &mut dyn Write,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Exported, ExportError> {
        let snapshot = self.snapshot()?;
        let rows = snapshot.rows()?;
        let holds = Exported {
            nodes: rows.nodes,
            edges: rows.edges,
            documents: rows.documents,
            generation: snapshot.generation,
            ..Exported::default()
        };
        let mut lines = ExportLines::begin(out, tell, self.config(), holds)?;
        // Summaries last: a source that was read in after its summary, and changed, would take it away.
        for summaries in [false, true] {
            for node in snapshot.nodes()? {
                let node = node?;
                if (node.node_type == NodeType::Summary) == summaries {
                    let vector = snapshot.vector(node.id)?;
                    lines.node(node, vector)?;
                }
            }
        }
        for edge in snapshot.edges()? {
            lines.edge(edge?)?;
        }
        for document in snapshot.documents()? {
            let document = document?;
            lines.document(DocumentLine {
                tenant: Cow::Owned(document.tenant),
                key: Cow::Owned(document.key),
                passages: Cow::Owned(document.passages),
            })?;
        }
        Ok(lines.finish()?)
    }
}

/// The lines of an export, wherever the memory is kept: nodes first, by id, then edges.
pub struct ExportLines<'a> {
    out: &'a mut dyn Write,
    tell: &'a mut dyn FnMut(Progress),
    at: Progress,
    exported: Exported,
}

impl<'a> ExportLines<'a> {
    /// Writes the header: whose vectors these are, and how much is to follow.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(
        out: &'a mut dyn Write,
        tell: &'a mut dyn FnMut(Progress),
        config: &MemoryConfig,
        holds: Exported,
    ) -> io::Result<Self> {
        let total = holds.nodes + holds.edges + holds.documents;
        let mut lines = Self {
            out,
            tell,
            at: Progress { done: 0, total },
            exported: Exported {
                generation: holds.generation,
                ..Exported::default()
            },
        };
        lines.write(&Line::Memory(Header {
            format: FORMAT,
            dimensions: config.dimensions,
            embedding_model: config.embedding_model.clone(),
            generation: holds.generation,
            nodes: holds.nodes,
            edges: holds.edges,
            documents: holds.documents,
        }))?;
        Ok(lines)
    }

    /// Writes a node.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn node(&mut self, node: Node, vector: Option<Vec<f32>>) -> io::Result<()> {
        self.exported.nodes += 1;
        self.exported.vectors += u64::from(vector.is_some());
        self.count(&Line::Node(NodeLine {
            id: node.id,
            tenant: Cow::Owned(node.tenant),
            node_type: node.node_type,
            source: node.source,
            text: Cow::Owned(node.text),
            metadata: Cow::Owned(node.metadata),
            vector: vector.map(Vector),
        }))
    }

    /// Writes an edge.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn edge(&mut self, edge: Edge) -> io::Result<()> {
        self.exported.edges += 1;
        self.count(&Line::Edge(EdgeLine {
            src: edge.src,
            dst: edge.dst,
            rel: Cow::Owned(edge.rel),
            weight: edge.weight,
            metadata: Cow::Owned(edge.metadata),
        }))
    }

    fn document(&mut self, document: DocumentLine<'_>) -> io::Result<()> {
        self.exported.documents += 1;
        self.count(&Line::Document(document))
    }

    /// What was written.
    ///
    /// # Errors
    /// The end of it cannot be written.
    pub fn finish(self) -> io::Result<Exported> {
        self.out.flush()?;
        (self.tell)(self.at);
        Ok(self.exported)
    }

    fn write(&mut self, line: &Line<'_>) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line).map_err(io::Error::from)?;
        bytes.push(b'\n');
        self.out.write_all(&bytes)
    }

    fn count(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.write(line)?;
        self.at.done += 1;
        if self.at.done.is_multiple_of(TELL_EVERY) {
            (self.tell)(self.at);
        }
        Ok(())
    }
}
