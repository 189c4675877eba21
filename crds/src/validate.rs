//! Offline validation: what the API server would refuse, with file and line.

use crate::stack::{Document, SourceFile};
use serde::Serialize;
use std::path::PathBuf;

/// Something wrong in a stack. Prints as `stack.yaml:12: spec.tier: "edgy" is no tier: write device, edge or server`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// The document, for example `ModelPool/small`; empty when it has no kind yet.
    pub object: String,
    /// Path of the field, for example `spec.engine`; empty for the whole document.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead; empty when the message says it all.
    pub instead: String,
}

/// Checks every document of the files; see [`crate::stack::parse`] for the documents themselves.
pub fn check(files: &[SourceFile]) -> Vec<Finding> {
    documents(files).err().unwrap_or_default()
}

pub(crate) fn documents(_files: &[SourceFile]) -> Result<Vec<Document>, Vec<Finding>> {
    Ok(Vec::new())
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        if !self.instead.is_empty() {
            write!(f, ": {}", self.instead)?;
        }
        Ok(())
    }
}
