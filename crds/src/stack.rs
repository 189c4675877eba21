//! Stack files: multi-document YAML into typed documents that know their lines.

use crate::{InferenceGateway, MemoryStore, ModelPool, RouterVersion, Secret};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file's text and the path it came from, which findings show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Path as the user named it; relative `file://` sources start from its folder.
    pub path: PathBuf,
    /// Contents.
    pub text: String,
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path:?}: {source}")]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// One document of a stack.
#[derive(Clone, Debug)]
pub struct Document {
    /// What the document says.
    pub resource: Resource,
    /// Where it says it.
    pub origin: Origin,
}

/// Where a document stands, down to its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub path: PathBuf,
    /// First line of the document, from 1.
    pub line: usize,
    /// Lines of the fields, by path (`spec.engine.llamaCpp`, `spec.guardrails[0].name`).
    pub(crate) lines: BTreeMap<String, usize>,
}

/// A typed document.
#[derive(Clone, Debug)]
pub enum Resource {
    /// A model and its engine.
    ModelPool(Box<ModelPool>),
    /// A memory.
    MemoryStore(Box<MemoryStore>),
    /// A router artifact.
    RouterVersion(Box<RouterVersion>),
    /// An entrance.
    InferenceGateway(Box<InferenceGateway>),
    /// Keys. Never printed.
    Secret(Box<Secret>),
}

impl SourceFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        std::fs::read_to_string(path)
            .map(|text| Self {
                path: path.to_owned(),
                text,
            })
            .map_err(|source| ReadError {
                path: path.to_owned(),
                source,
            })
    }
}

impl Origin {
    /// The line of a field, or of the nearest field around it that is written down.
    pub fn line_of(&self, field: &str) -> usize {
        let mut field = field;
        loop {
            if let Some(line) = self.lines.get(field) {
                return *line;
            }
            match field.rfind(['.', '[']) {
                Some(end) => field = &field[..end],
                None => return self.line,
            }
        }
    }

    /// The folder that relative `file://` sources of this document start from.
    pub fn base_dir(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }
}

impl Resource {
    /// The document's kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ModelPool(_) => "ModelPool",
            Self::MemoryStore(_) => "MemoryStore",
            Self::RouterVersion(_) => "RouterVersion",
            Self::InferenceGateway(_) => "InferenceGateway",
            Self::Secret(_) => "Secret",
        }
    }

    /// The document's `metadata.name`.
    pub fn name(&self) -> &str {
        let metadata = match self {
            Self::ModelPool(object) => &object.metadata,
            Self::MemoryStore(object) => &object.metadata,
            Self::RouterVersion(object) => &object.metadata,
            Self::InferenceGateway(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
        };
        metadata.name.as_deref().unwrap_or_default()
    }
}

/// Reads, checks and types every document; see [`crate::validate`] for what is checked.
///
/// # Errors
/// Every finding of every document, when there is one.
pub fn parse(files: &[SourceFile]) -> Result<Vec<Document>, Vec<crate::validate::Finding>> {
    crate::validate::documents(files)
}
