//! Reading an export in, batch by batch, each acknowledged before the next.
//!
//! What is there already with the same content stays as it is, so that a file may be read in again: after it broke off,
//! or into a memory that holds part of it. A line that cannot be taken ends the import and is named; the lines before it
//! are in the memory. Reading on: `line.rs` for the lines.

use std::io::{self, BufRead, Read};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::Progress;
use super::line::{FORMAT, Header, Line};
use crate::node::{NewEdge, NewNode, NodeId};
use crate::store::{Edit, Memory, MemoryConfig, WriteError, Written, check_edge, check_node};

/// Lines of one write.
const BATCH_LINES: usize = 1000;

/// Bytes of one write.
const BATCH_BYTES: usize = 8 << 20;

/// Longest line: far above what a passage and its vector take.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// How an export is read in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Leave the vectors out, so that this memory's own embedder makes them: the way from one embedding model to another.
    pub without_vectors: bool,
}

/// What was read in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// Nodes that were not there.
    pub inserted: usize,
    /// Nodes that were there with another content.
    pub updated: usize,
    /// Nodes that were there as they are.
    pub unchanged: usize,
    /// Edges that were new or different.
    pub edges: usize,
    /// Documents.
    pub documents: usize,
    /// Nodes that wait for a vector now.
    pub pending: usize,
    /// The present generation.
    pub generation: u64,
}

/// Why an import ended early.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file.
    #[error("read line {line}")]
    Read {
        /// The line, from 1.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// It does not begin like an export.
    #[error(
        "line 1 is not the header of an export ({reason}): read in a file that `weir memory export` wrote; documents \
         are read by `weir memory ingest`"
    )]
    NoHeader {
        /// What is wrong.
        reason: String,
    },
    /// Another version of the lines.
    #[error(
        "the file has format {found}, this build reads format {FORMAT}: export it with this version of weir"
    )]
    Format {
        /// Its format.
        found: u32,
    },
    /// Vectors that cannot stand beside those of this memory.
    #[error(
        "the file holds vectors of {} with {} dimensions, this memory those of {} with {}: read it in with \
         --without-vectors, and this memory's own embedder makes them anew",
        file.0, file.1, memory.0, memory.1
    )]
    Identity {
        /// Embedding model and dimensions of the file.
        file: (String, usize),
        /// Those of the memory.
        memory: (String, usize),
    },
    /// A line that cannot be taken.
    #[error(
        "line {line}: {reason}; the lines before it are in the memory: mend it and read the file in again, what is \
         there stays as it is"
    )]
    Line {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The file ends before its header said.
    #[error(
        "the file ends after {found} of {announced} lines: it was cut short; what it has is in the memory, export it \
         again for the rest"
    )]
    Short {
        /// Nodes, edges and documents in it.
        found: u64,
        /// As many as its header announces.
        announced: u64,
    },
    /// The store cannot be written.
    #[error("write lines {first} to {last}")]
    Write {
        /// First line of the batch.
        first: u64,
        /// Last line of the batch.
        last: u64,
        /// What went wrong.
        source: WriteError,
    },
    /// Whoever reads it in was told to end.
    #[error(
        "reading in was ended after {done} lines: read the file in again, what is there stays as it is"
    )]
    Stopped {
        /// Lines that are in the memory.
        done: u64,
    },
}

/// The passages of documents: tenant, key, ids.
pub type DocumentPassages = (String, String, Vec<NodeId>);

/// A memory that exports can be read into, wherever it is kept.
pub trait Importing {
    /// Its identity.
    fn config(&self) -> &MemoryConfig;

    /// Writes a batch, durable when it returns, all or nothing.
    ///
    /// # Errors
    /// What is wrong with it, or that it cannot be written.
    fn put(
        &self,
        nodes: &[NewNode],
        edges: &[NewEdge],
        documents: &[DocumentPassages],
    ) -> Result<Written, WriteError>;

    /// Nodes that wait for a vector, and the number of the last write.
    fn now(&self) -> (usize, u64);
}

impl Importing for Memory {
    fn config(&self) -> &MemoryConfig {
        self.config()
    }

    fn put(
        &self,
        nodes: &[NewNode],
        edges: &[NewEdge],
        documents: &[DocumentPassages],
    ) -> Result<Written, WriteError> {
        self.edit(&Edit {
            nodes,
            edges,
            documents,
            ..Edit::default()
        })
    }

    fn now(&self) -> (usize, u64) {
        (self.counts().pending, self.generation())
    }
}

impl Memory {
    /// Reads an export in. `tell` is called after each batch, when it is durable, and may end the reading.
    pub fn import(
        &self,
        input: &mut dyn BufRead,
        options: ImportOptions,
        tell: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Imported, ImportError> {
        import_into(self, input, options, tell)
    }
}

/// Reads an export into a memory. `tell` is called after each batch, when it is durable, and may end the reading.
///
/// # Errors
/// A line cannot be taken, or the memory not be written; what was told is in the memory.
pub fn import_into(
    memory: &dyn Importing,
    input: &mut dyn BufRead,
    options: ImportOptions,
    tell: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Imported, ImportError> {
    Reading { memory }.run(input, options, tell)
}

/// Whose vectors an export holds, from its first line.
///
/// # Errors
/// It is no export.
pub fn identity_of(input: &mut dyn BufRead) -> Result<MemoryConfig, ImportError> {
    let mut lines = Lines {
        input,
        number: 0,
        bytes: Vec::new(),
    };
    let header = header(&mut lines)?;
    Ok(MemoryConfig {
        dimensions: header.dimensions,
        embedding_model: header.embedding_model,
    })
}

/// A memory that is read into.
struct Reading<'a> {
    memory: &'a dyn Importing,
}

impl Reading<'_> {
    fn run(
        &self,
        input: &mut dyn BufRead,
        options: ImportOptions,
        tell: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Imported, ImportError> {
        let mut lines = Lines {
            input,
            number: 0,
            bytes: Vec::new(),
        };
        let header = header(&mut lines)?;
        self.check_identity(&header, options)?;
        let announced = (header.nodes)
            .saturating_add(header.edges)
            .saturating_add(header.documents);
        let mut at = Progress {
            done: 0,
            total: announced,
        };
        let (mut batch, mut imported) = (Batch::default(), Imported::default());
        while lines.next()? {
            let taken = self.take(&lines, options, &mut batch);
            if taken.is_err() || batch.is_full() {
                at.done += batch.lines();
                self.put(&mut batch, &mut imported)?;
                taken?;
                if tell(at).is_break() {
                    return Err(ImportError::Stopped { done: at.done });
                }
            }
        }
        at.done += batch.lines();
        self.put(&mut batch, &mut imported)?;
        let _ = tell(at);
        if at.done < announced {
            return Err(ImportError::Short {
                found: at.done,
                announced,
            });
        }
        (imported.pending, imported.generation) = self.memory.now();
        Ok(imported)
    }

    fn check_identity(&self, header: &Header, options: ImportOptions) -> Result<(), ImportError> {
        if header.format != FORMAT {
            return Err(ImportError::Format {
                found: header.format,
            });
        }
        let file = (header.embedding_model.clone(), header.dimensions);
        let config = self.memory.config();
        let memory = (config.embedding_model.clone(), config.dimensions);
        if file != memory && !options.without_vectors {
            return Err(ImportError::Identity { file, memory });
        }
        Ok(())
    }

    /// Checks a line and takes it into the batch.
    fn take(
        &self,
        lines: &Lines<'_>,
        options: ImportOptions,
        batch: &mut Batch,
    ) -> Result<(), ImportError> {
        let bad = |reason: String| ImportError::Line {
            line: lines.number,
            reason,
        };
        let line = serde_json::from_slice(&lines.bytes).map_err(|error| bad(error.to_string()))?;
        match line {
            Line::Memory(_) => return Err(bad("a second header".to_owned())),
            Line::Node(node) => {
                let vector = node.vector.filter(|_| !options.without_vectors);
                let node = NewNode {
                    id: node.id,
                    tenant: node.tenant.into_owned(),
                    text: node.text.into_owned(),
                    node_type: node.node_type,
                    source: node.source,
                    metadata: node.metadata.into_owned(),
                    vector: vector.map(|vector| vector.0),
                };
                let checked = check_node(&node, self.memory.config().dimensions);
                checked.map_err(|error| bad(error.to_string()))?;
                batch.nodes.push(node);
            }
            Line::Edge(edge) => {
                let metadata = edge.metadata.into_owned();
                let weight = edge.weight;
                let edge = NewEdge {
                    weight,
                    metadata,
                    ..NewEdge::new(edge.src, edge.dst, edge.rel)
                };
                check_edge(&edge).map_err(|error| bad(error.to_string()))?;
                batch.edges.push((lines.number, edge));
            }
            Line::Document(document) => {
                let (tenant, key) = (document.tenant.into_owned(), document.key.into_owned());
                batch
                    .documents
                    .push((tenant, key, document.passages.into_owned()));
            }
        }
        batch.first = batch.first.min(lines.number);
        batch.last = lines.number;
        batch.bytes += lines.bytes.len();
        Ok(())
    }

    /// Writes the batch and empties it. An edge whose end is nowhere is a line that cannot be taken: the batch is written
    /// as far as the line before it.
    fn put(&self, batch: &mut Batch, imported: &mut Imported) -> Result<(), ImportError> {
        let batch = std::mem::take(batch);
        let (numbers, edges): (Vec<u64>, Vec<NewEdge>) = batch.edges.into_iter().unzip();
        let documents = batch.documents.as_slice();
        let mut write = |edges: &[NewEdge], documents: &[DocumentPassages]| {
            let written = self.memory.put(&batch.nodes, edges, documents)?;
            imported.inserted += written.inserted;
            imported.updated += written.updated;
            imported.unchanged += written.unchanged;
            imported.edges += written.edges;
            imported.documents += documents.len();
            Ok(())
        };
        let source = match write(&edges, documents) {
            Ok(()) => return Ok(()),
            Err(source) => source,
        };
        let (first, last) = (batch.first, batch.last);
        let refused = match &source {
            WriteError::UnknownNode { id, .. } => edges
                .iter()
                .position(|edge| edge.src == *id || edge.dst == *id),
            _ => None,
        };
        let Some(refused) = refused else {
            return Err(ImportError::Write {
                first,
                last,
                source,
            });
        };
        let written = write(&edges[..refused], &[]);
        written.map_err(|source| ImportError::Write {
            first,
            last,
            source,
        })?;
        Err(ImportError::Line {
            line: numbers[refused],
            reason: source.to_string(),
        })
    }
}

/// Lines that are checked and not yet written.
struct Batch {
    nodes: Vec<NewNode>,
    edges: Vec<(u64, NewEdge)>,
    documents: Vec<DocumentPassages>,
    bytes: usize,
    first: u64,
    last: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            edges: Vec::new(),
            documents: Vec::new(),
            bytes: 0,
            first: u64::MAX,
            last: 0,
        }
    }
}

impl Batch {
    fn lines(&self) -> u64 {
        (self.nodes.len() + self.edges.len() + self.documents.len()) as u64
    }

    fn is_full(&self) -> bool {
        self.lines() >= BATCH_LINES as u64 || self.bytes >= BATCH_BYTES
    }
}

/// The lines of a file, one at a time.
struct Lines<'a> {
    input: &'a mut dyn BufRead,
    number: u64,
    bytes: Vec<u8>,
}

impl Lines<'_> {
    /// Reads the next line that is not empty. False at the end.
    fn next(&mut self) -> Result<bool, ImportError> {
        loop {
            self.bytes.clear();
            self.number += 1;
            let line = self.number;
            let read = (&mut *self.input)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut self.bytes);
            let read = read.map_err(|source| ImportError::Read { line, source })?;
            if read == 0 {
                return Ok(false);
            }
            if read as u64 == LINE_BYTES_MAX && self.bytes.last() != Some(&b'\n') {
                let reason = format!("longer than {} MiB", LINE_BYTES_MAX >> 20);
                return Err(ImportError::Line { line, reason });
            }
            if !self.bytes.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }
}

fn header(lines: &mut Lines<'_>) -> Result<Header, ImportError> {
    let no_header = |reason: String| ImportError::NoHeader { reason };
    match lines.next() {
        Ok(true) => {}
        Ok(false) => return Err(no_header("the file is empty".to_owned())),
        Err(ImportError::Line { reason, .. }) => return Err(no_header(reason)),
        Err(other) => return Err(other),
    }
    match serde_json::from_slice(&lines.bytes) {
        Ok(Line::Memory(header)) => Ok(header),
        Ok(_) => Err(no_header("a line of another kind".to_owned())),
        Err(error) => Err(no_header(error.to_string())),
    }
}
