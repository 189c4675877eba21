//! The objects of one namespace together, with where they were written.

use crate::validate::{Problem, validate, validate_local};
use std::collections::BTreeMap;
use std::path::Path;
use weir_crds::stack::{Document, Origin, Resource, SourceFile};
use weir_crds::validate::Finding;
use weir_crds::{InferenceGateway, MemoryStore, ModelPool, RouterVersion, Secret};

/// Every object of one namespace, in the order in which the files name them.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    /// Models and their engines.
    pub pools: Vec<ModelPool>,
    /// Memories.
    pub memories: Vec<MemoryStore>,
    /// Router artifacts.
    pub routers: Vec<RouterVersion>,
    /// Entrances.
    pub gateways: Vec<InferenceGateway>,
    /// Keys.
    pub secrets: Vec<Secret>,
    /// Where each document stands, by kind and name. Empty for objects that come from a cluster.
    pub origins: BTreeMap<(String, String), Origin>,
}

/// Reads, checks and joins files into a stack: everything `weir validate` and `weir up` refuse is found here.
///
/// # Errors
/// Every finding: of single documents first, and when there is none of how the documents fit together.
pub fn load(files: &[SourceFile]) -> Result<Stack, Vec<Finding>> {
    let stack = Stack::from_documents(weir_crds::stack::parse(files)?);
    let mut problems = validate(&stack);
    problems.extend(validate_local(&stack));
    if problems.is_empty() {
        return Ok(stack);
    }
    Err(problems
        .iter()
        .map(|problem| stack.locate(problem))
        .collect())
}

impl Stack {
    /// Sorts documents by kind.
    pub fn from_documents(documents: Vec<Document>) -> Self {
        let mut stack = Self::default();
        for Document { resource, origin } in documents {
            let key = (resource.kind().to_owned(), resource.name().to_owned());
            stack.origins.insert(key, origin);
            match resource {
                Resource::ModelPool(object) => stack.pools.push(*object),
                Resource::MemoryStore(object) => stack.memories.push(*object),
                Resource::RouterVersion(object) => stack.routers.push(*object),
                Resource::InferenceGateway(object) => stack.gateways.push(*object),
                Resource::Secret(object) => stack.secrets.push(*object),
            }
        }
        stack
    }

    /// The folder that relative `file://` sources of an object start from.
    pub fn base_dir(&self, kind: &str, name: &str) -> &Path {
        let key = (kind.to_owned(), name.to_owned());
        self.origins
            .get(&key)
            .map_or(Path::new("."), Origin::base_dir)
    }

    /// The pools that a gateway selects by label, in file order.
    pub fn selected(&self, gateway: &InferenceGateway) -> Vec<&ModelPool> {
        let wanted = &gateway.spec.pools.match_labels;
        let carries = |pool: &&ModelPool| {
            wanted.iter().all(|(key, value)| {
                pool.metadata
                    .labels
                    .as_ref()
                    .and_then(|labels| labels.get(key))
                    == Some(value)
            })
        };
        self.pools.iter().filter(carries).collect()
    }

    /// The selected pools that answer questions, in file order. A pool that some memory of the stack embeds with is none:
    /// its engine is started for vectors alone.
    pub fn answering(&self, gateway: &InferenceGateway) -> Vec<&ModelPool> {
        let mut pools = self.selected(gateway);
        pools.retain(|pool| !self.embeds(pool));
        pools
    }

    /// Whether some memory of the stack embeds with this pool.
    pub fn embeds(&self, pool: &ModelPool) -> bool {
        let name = pool.metadata.name.as_ref();
        let mut stores = self.memories.iter().map(|store| &store.spec.embedding);
        stores.any(|embedding| embedding.pool.is_some() && embedding.pool.as_ref() == name)
    }

    /// The pool that embeds for the gateway's memory, when one does.
    pub fn embedder(&self, gateway: &InferenceGateway) -> Option<&ModelPool> {
        let memory = self.memory(gateway.spec.memory.as_deref()?)?;
        self.pool(memory.spec.embedding.pool.as_deref()?)
    }

    /// Every pool that the gateway asks for something: those that answer, then the one that embeds.
    pub fn used(&self, gateway: &InferenceGateway) -> Vec<&ModelPool> {
        let mut pools = self.answering(gateway);
        pools.extend(self.embedder(gateway));
        pools
    }

    /// A problem with its file and line.
    pub fn locate(&self, problem: &Problem) -> Finding {
        let key = (problem.kind.clone(), problem.name.clone());
        let origin = self.origins.get(&key).cloned().unwrap_or_default();
        Finding {
            line: origin.line_of(&problem.field),
            file: origin.path,
            object: format!("{}/{}", problem.kind, problem.name),
            field: problem.field.clone(),
            message: problem.message.clone(),
            instead: problem.instead.clone(),
        }
    }
}
