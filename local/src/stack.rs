//! Stack files into one checked stack and the gateway in it that is meant.
//!
//! Reading and checking is `weir-crds` and `weir-reconcile`; this file adds which gateway and whether anything changed.
//! Read on in `stage.rs`.

use crate::digest;
use std::path::{Path, PathBuf};
use weir_crds::stack::{ReadError, SourceFile};
use weir_crds::validate::Finding;
use weir_crds::{InferenceGateway, Listen};
use weir_reconcile::Stack;

/// A stack without findings, and one gateway of it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Every object of the files.
    pub stack: Stack,
    /// The gateway.
    pub gateway: InferenceGateway,
    sources: Vec<SourceFile>,
}

/// Why a stack cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something in the files is wrong.
    #[error("{}", lines(.0))]
    Invalid(Vec<Finding>),
    /// A stack that is served may not become this one.
    #[error("{}", lines(.0))]
    Immutable(Vec<Finding>),
    /// The port is taken once, at the start.
    #[error(
        "spec.listen changed from {old} to {new}, which a running gateway cannot follow: `weir down`, then `weir up` \
         again, or take the change back"
    )]
    ListenChanged {
        /// Address and port that are served.
        old: String,
        /// Address and port in the files.
        new: String,
    },
    /// There is no gateway in the files.
    #[error("{} has no InferenceGateway: add one, it says which pools and memory are served", list(.0))]
    NoGateway(Vec<PathBuf>),
    /// There are several and none was named.
    #[error("the stack has {} gateways ({}): choose one with --name", .0.len(), .0.join(", "))]
    WhichGateway(Vec<String>),
    /// The named gateway is not in the files.
    #[error("the stack has no gateway {name:?}: it has {}", known.join(", "))]
    UnknownGateway {
        /// The name that was asked for.
        name: String,
        /// The names in the files.
        known: Vec<String>,
    },
}

impl Loaded {
    /// Name of the gateway.
    pub fn name(&self) -> &str {
        self.gateway.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether this stack may take the place of `served` while it is served. `port_given` says that the port does not come
    /// from the stack.
    pub(crate) fn may_replace(&self, served: &Self, port_given: bool) -> Result<(), StackError> {
        let findings = weir_crds::validate::check_change(&served.sources, &self.sources);
        if !findings.is_empty() {
            return Err(StackError::Immutable(findings));
        }
        let (old, new) = (&served.gateway.spec.listen, &self.gateway.spec.listen);
        if old.address != new.address || old.port != new.port && !port_given {
            let spell = |listen: &Listen| format!("{} port {}", listen.address, listen.port);
            return Err(StackError::ListenChanged {
                old: spell(old),
                new: spell(new),
            });
        }
        Ok(())
    }
}

/// Reads and checks the files and finds the gateway `name`, or the only one.
///
/// # Errors
/// Everything that is wrong with the files, at once.
pub fn load(files: &[PathBuf], name: Option<&str>) -> Result<Loaded, StackError> {
    let sources = read(files)?;
    let stack = weir_reconcile::load(&sources).map_err(StackError::Invalid)?;
    let known: Vec<String> = stack
        .gateways
        .iter()
        .map(|gateway| gateway.metadata.name.clone().unwrap_or_default())
        .collect();
    let position = match (name, known.len()) {
        (_, 0) => return Err(StackError::NoGateway(files.to_vec())),
        (None, 1) => Some(0),
        (None, _) => return Err(StackError::WhichGateway(known)),
        (Some(name), _) => known.iter().position(|known| known == name),
    };
    let Some(position) = position else {
        let name = name.unwrap_or_default().to_owned();
        return Err(StackError::UnknownGateway { name, known });
    };
    let gateway = stack.gateways[position].clone();
    Ok(Loaded {
        stack,
        gateway,
        sources,
    })
}

fn read(files: &[PathBuf]) -> Result<Vec<SourceFile>, ReadError> {
    files.iter().map(|path| SourceFile::read(path)).collect()
}

/// Changes when the content of a file does; a file that cannot be read has a content of its own.
pub(crate) fn fingerprint(files: &[PathBuf]) -> String {
    let mut all = Vec::new();
    for path in files {
        let content = std::fs::read(path).map_or_else(
            |error| format!("unreadable: {:?}", error.kind()),
            |bytes| digest::of_bytes(&bytes),
        );
        all.extend_from_slice(content.as_bytes());
        all.push(b'\n');
    }
    digest::of_bytes(&all)
}

fn lines(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

fn list(files: &[PathBuf]) -> String {
    files
        .iter()
        .map(|path| Path::display(path).to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_follows_content_and_survives_a_missing_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stack.yaml");
        let files = [file.clone()];
        let missing = fingerprint(&files);
        std::fs::write(&file, "a").unwrap();
        let first = fingerprint(&files);
        std::fs::write(&file, "b").unwrap();
        let second = fingerprint(&files);
        std::fs::write(&file, "a").unwrap();
        assert_ne!(missing, first);
        assert_ne!(first, second);
        assert_eq!(fingerprint(&files), first);
    }

    fn loaded(listen: &str, model: &str) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stack.yaml");
        let text = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: ModelPool\nmetadata: {{name: small, labels: {{stack: it}}}}\nspec:\n  \
             model: {{name: {model}, source: 'file://./m.gguf'}}\n  tier: device\n  privacy: local\n  \
             engine: {{llamaCpp: {{}}}}\n---\n\
             apiVersion: weir.dev/v1alpha1\nkind: InferenceGateway\nmetadata: {{name: it}}\nspec:\n  \
             listen: {listen}\n  pools: {{matchLabels: {{stack: it}}}}\n  auth: {{anonymous: {{}}}}\n"
        );
        std::fs::write(&file, text).unwrap();
        load(&[file], None).unwrap()
    }

    #[test]
    fn another_address_or_port_needs_another_start() {
        let served = loaded("{port: 8080}", "m");
        let refused =
            |new: &Loaded, given| new.may_replace(&served, given).map_err(|e| e.to_string());
        assert_eq!(refused(&served, false), Ok(()));
        let port = loaded("{port: 8081}", "m");
        let error = refused(&port, false).unwrap_err();
        assert!(
            error.contains("8081") && error.contains("weir down"),
            "{error}"
        );
        assert_eq!(refused(&port, true), Ok(()), "--port decides");
        let address = loaded("{address: 0.0.0.0, port: 8080}", "m");
        assert!(refused(&address, true).unwrap_err().contains("0.0.0.0"));
    }

    #[test]
    fn an_immutable_field_says_what_to_create_instead() {
        let error = loaded("{port: 0}", "other").may_replace(&loaded("{port: 0}", "m"), false);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("model.name") && error.contains("create another"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = load(&[PathBuf::from("/no/such/stack.yaml")], None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("/no/such/stack.yaml"), "{error}");
    }
}
