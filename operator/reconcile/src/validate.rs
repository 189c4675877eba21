//! What does not fit together in a stack. Single documents are checked before, in `weir_crds::validate`.

use crate::stack::Stack;
use serde::{Deserialize, Serialize};

/// Something that keeps an object from working, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Path of the field.
    pub field: String,
    /// CamelCase reason for a condition.
    pub reason: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub instead: String,
}

/// Every problem of a stack, in the order of its objects; none means that every reference resolves.
pub fn validate(_stack: &Stack) -> Vec<Problem> {
    Vec::new()
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind,
            name,
            field,
            message,
            instead,
            ..
        } = self;
        write!(f, "{kind}/{name}: {field}: {message}: {instead}")
    }
}
