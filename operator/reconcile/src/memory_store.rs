//! MemoryStore: what has to exist for one memory to be served, and what is known of it.
//!
//! In a cluster the store and its embedder belong to one process, `weir memory serve`, that gateways ask; this file makes
//! its objects and reads its state. What lies in the store is none of its business; of an external one, the service itself
//! makes collections, indexes and constraints and says what does not fit.

mod build;
mod status;

pub use build::build;
pub use status::{Counts, Observed, Tuning, status};

use crate::stack::Stack;
use crate::validate::{On, Problem, validate as validate_stack};
use weir_crds::MemoryStore;

/// Every problem of a memory: of the stack, and what a cluster cannot do.
pub fn validate(store: &MemoryStore, stack: &Stack) -> Vec<Problem> {
    let own = store.metadata.name.as_deref().unwrap_or_default();
    let mut problems: Vec<Problem> = validate_stack(stack)
        .into_iter()
        .filter(|problem| problem.kind == "MemoryStore" && problem.name == own)
        .collect();
    let source = store.spec.embedding.source.as_deref().unwrap_or_default();
    if source.starts_with("file://") {
        let on = On::new("MemoryStore", &store.metadata.name, "spec.embedding");
        let message = format!("{source} is a folder of the machine that runs `weir up`");
        let instead = "write hf:// or https://, or pvc://CLAIM/FOLDER of a volume in this namespace; embedding is \
                       immutable, so delete this MemoryStore and create it again";
        problems.push(on.problem("source", "SourceUnreachable", message, instead.into()));
    }
    problems
}
