//! Writing a memory out as JSON Lines, as it was at one moment, in little memory.
//!
//! Nodes come first, by id, with their vectors; then edges; then documents. Stamps are not written: they number the
//! writes of one store. Reading on: `line.rs` for the lines, `import.rs` for the way back.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::line::{DocumentLine, EdgeLine, FORMAT, Header, Line, NodeLine, Vector};
use super::{Progress, TELL_EVERY};
use crate::node::NodeType;
use crate::store::{Memory, ReadError};

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
        let total = rows.nodes + rows.edges + rows.documents;
        let mut exported = Exported {
            generation: snapshot.generation,
            ..Exported::default()
        };
        let mut lines = Lines {
            out,
            tell,
            at: Progress { done: 0, total },
        };
        lines.write(&Line::Memory(Header {
            format: FORMAT,
            dimensions: self.config().dimensions,
            embedding_model: self.config().embedding_model.clone(),
            generation: snapshot.generation,
            nodes: rows.nodes,
            edges: rows.edges,
            documents: rows.documents,
        }))?;
        // Summaries last: a source that was read in after its summary, and changed, would take it away.
        for summaries in [false, true] {
            for node in snapshot.nodes()? {
                let node = node?;
                if (node.node_type == NodeType::Summary) != summaries {
                    continue;
                }
                let vector = snapshot.vector(node.id)?;
                exported.nodes += 1;
                exported.vectors += u64::from(vector.is_some());
                lines.count(&Line::Node(NodeLine {
                    id: node.id,
                    tenant: Cow::Owned(node.tenant),
                    node_type: node.node_type,
                    source: node.source,
                    text: Cow::Owned(node.text),
                    metadata: Cow::Owned(node.metadata),
                    vector: vector.map(Vector),
                }))?;
            }
        }
        for edge in snapshot.edges()? {
            let edge = edge?;
            exported.edges += 1;
            lines.count(&Line::Edge(EdgeLine {
                src: edge.src,
                dst: edge.dst,
                rel: Cow::Owned(edge.rel),
                weight: edge.weight,
                metadata: Cow::Owned(edge.metadata),
            }))?;
        }
        for document in snapshot.documents()? {
            let document = document?;
            exported.documents += 1;
            lines.count(&Line::Document(DocumentLine {
                tenant: Cow::Owned(document.tenant),
                key: Cow::Owned(document.key),
                passages: Cow::Owned(document.passages),
            }))?;
        }
        lines.out.flush()?;
        (lines.tell)(lines.at);
        Ok(exported)
    }
}

struct Lines<'a> {
    out: &'a mut dyn Write,
    tell: &'a mut dyn FnMut(Progress),
    at: Progress,
}

impl Lines<'_> {
    fn write(&mut self, line: &Line<'_>) -> Result<(), io::Error> {
        let mut bytes = serde_json::to_vec(line).map_err(io::Error::from)?;
        bytes.push(b'\n');
        self.out.write_all(&bytes)
    }

    fn count(&mut self, line: &Line<'_>) -> Result<(), io::Error> {
        self.write(line)?;
        self.at.done += 1;
        if self.at.done.is_multiple_of(TELL_EVERY) {
            (self.tell)(self.at);
        }
        Ok(())
    }
}
