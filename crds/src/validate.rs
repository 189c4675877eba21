//! Offline validation: what the API server would refuse, with file and line, and what to write instead.
//!
//! Each document goes through three steps, and a later one runs only when the one before found nothing: is it a kind
//! that a stack may hold, does it fit the schema (`structure.rs`), do the CEL rules of the schema hold once defaults
//! are filled in. How documents fit together is checked in `operator/reconcile`.

use crate::schema::{KINDS, of_kind};
use crate::stack::{Document, Origin, Resource, SourceFile};
use crate::structure::{self, Fault};
use crate::yaml::{self, YamlDocument};
use kube::core::cel::{ValidationError, Validator, apply_defaults};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Something wrong in a stack. Prints as
/// `stack.yaml:12: ModelPool/small: spec.tier: "edgy" is not device, edge, server: did you mean edge?`.
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

/// A document that fits its schema, with defaults filled in.
struct Checked {
    kind: &'static str,
    value: Value,
    origin: Origin,
}

/// Checks every document of the files; see [`crate::stack::parse`] for the documents themselves.
pub fn check(files: &[SourceFile]) -> Vec<Finding> {
    documents(files).err().unwrap_or_default()
}

/// Checks what may not change between two versions of a stack, such as the name of a pool's model, as the API server
/// does when the newer one is applied over the older one. Documents that are wrong in themselves are left to [`check`].
pub fn check_change(old: &[SourceFile], new: &[SourceFile]) -> Vec<Finding> {
    let before: BTreeMap<String, Checked> = values(old)
        .0
        .into_iter()
        .map(|document| (document.object(), document))
        .collect();
    let mut findings = Vec::new();
    for document in values(new).0 {
        let Some(old) = before.get(&document.object()) else {
            continue;
        };
        findings.extend(document.rules(Some(&old.value)));
    }
    sort(new, &mut findings);
    findings
}

/// In the order of files and lines, and of fields within a line.
fn sort(files: &[SourceFile], findings: &mut [Finding]) {
    findings.sort_by_cached_key(|finding| {
        let file = files.iter().position(|file| file.path == finding.file);
        (
            file,
            finding.line,
            finding.field.clone(),
            finding.message.clone(),
        )
    });
}

pub(crate) fn documents(files: &[SourceFile]) -> Result<Vec<Document>, Vec<Finding>> {
    let (checked, mut findings) = values(files);
    let mut first: BTreeMap<String, Origin> = BTreeMap::new();
    let mut documents = Vec::new();
    for document in checked {
        let broken = document.rules(None);
        let object = document.object();
        if let Some(earlier) = first.get(&object) {
            let place = format!("{}:{}", earlier.path.display(), earlier.line);
            let message = format!("is written twice, first at {place}");
            findings.push(document.finding("metadata.name", message, "give each its own name"));
        }
        first
            .entry(object)
            .or_insert_with(|| document.origin.clone());
        match (broken.is_empty(), document.typed()) {
            (false, _) => findings.extend(broken),
            (true, Ok(resource)) => {
                documents.push(Document {
                    resource,
                    origin: document.origin,
                });
            }
            (true, Err(error)) => {
                findings.push(document.finding("", format!("cannot be read: {error}"), ""));
            }
        }
    }
    if findings.is_empty() {
        return Ok(documents);
    }
    sort(files, &mut findings);
    Err(findings)
}

/// Reads the files and checks each document against its schema.
fn values(files: &[SourceFile]) -> (Vec<Checked>, Vec<Finding>) {
    let mut checked = Vec::new();
    let mut findings = Vec::new();
    for file in files {
        match yaml::documents(&file.text) {
            Ok(documents) => {
                for document in documents
                    .into_iter()
                    .filter(|document| !document.value.is_null())
                {
                    match structured(file, document) {
                        Ok(document) => checked.push(document),
                        Err(found) => findings.extend(found),
                    }
                }
            }
            Err(error) => {
                let (message, instead) = split(&error.message);
                let origin = Origin {
                    path: file.path.clone(),
                    line: error.line,
                    ..Origin::default()
                };
                findings.push(at(&origin, "", "", (message, instead)));
            }
        }
    }
    (checked, findings)
}

fn structured(file: &SourceFile, document: YamlDocument) -> Result<Checked, Vec<Finding>> {
    let YamlDocument { value, line, lines } = document;
    let origin = Origin {
        path: file.path.clone(),
        line,
        lines,
    };
    let kind = kind(&value).map_err(|fault| {
        vec![at(
            &origin,
            "",
            &fault.field,
            (fault.message.clone(), fault.instead.clone()),
        )]
    })?;
    let schema = of_kind(kind).expect("every kind of a stack has a schema");
    let mut faults = Vec::new();
    structure::check(schema, &value, "", &mut faults);
    let checked = Checked {
        kind,
        value,
        origin,
    };
    if faults.is_empty() {
        let value = apply_defaults(schema, &checked.value);
        return Ok(Checked { value, ..checked });
    }
    let located = |fault: Fault| checked.finding(&fault.field, fault.message, &fault.instead);
    Err(faults.into_iter().map(located).collect())
}

/// The kind that a document says it is.
fn kind(value: &Value) -> Result<&'static str, Fault> {
    let fault = |field: &str, message: String, instead: String| Fault {
        field: field.into(),
        message,
        instead,
    };
    if !value.is_object() {
        let instead = "write fields: apiVersion, kind, metadata, spec".into();
        return Err(fault("", "is no Kubernetes object".into(), instead));
    }
    let Some(written) = value["kind"].as_str() else {
        let instead = format!("write kind: {}", KINDS.join(" or "));
        return Err(fault("kind", "is missing".into(), instead));
    };
    let Some(kind) = KINDS.into_iter().find(|kind| *kind == written) else {
        let instead = match structure::nearest(written, KINDS.into_iter()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("a stack holds {}", KINDS.join(", ")),
        };
        return Err(fault("kind", format!("{written:?} is not known"), instead));
    };
    Ok(kind)
}

impl Checked {
    fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    fn object(&self) -> String {
        match self.name() {
            "" => self.kind.to_owned(),
            name => format!("{}/{name}", self.kind),
        }
    }

    fn finding(&self, field: &str, message: String, instead: &str) -> Finding {
        at(
            &self.origin,
            &self.object(),
            field,
            (message, instead.to_owned()),
        )
    }

    /// The CEL rules that do not hold; those that compare with an older version only when there is one.
    fn rules(&self, old: Option<&Value>) -> Vec<Finding> {
        let schema = of_kind(self.kind).expect("every kind of a stack has a schema");
        let broken = match Validator::new().validate(schema, &self.value, old) {
            Ok(()) => Vec::new(),
            Err(broken) => broken.into_vec(),
        };
        let located = |error: &ValidationError| {
            let (message, instead) = split(&error.message);
            // That of a rule of the whole object begins with a dot.
            self.finding(error.field_path.trim_start_matches('.'), message, &instead)
        };
        broken.iter().map(located).collect()
    }

    fn typed(&self) -> Result<Resource, serde_json::Error> {
        fn read<T: DeserializeOwned>(value: &Value) -> Result<Box<T>, serde_json::Error> {
            serde_json::from_value(value.clone()).map(Box::new)
        }
        Ok(match self.kind {
            "ModelPool" => Resource::ModelPool(read(&self.value)?),
            "MemoryStore" => Resource::MemoryStore(read(&self.value)?),
            "RouterVersion" => Resource::RouterVersion(read(&self.value)?),
            "InferenceGateway" => Resource::InferenceGateway(read(&self.value)?),
            _ => Resource::Secret(read(&self.value)?),
        })
    }
}

fn at(origin: &Origin, object: &str, field: &str, (message, instead): (String, String)) -> Finding {
    Finding {
        file: origin.path.clone(),
        line: origin.line_of(field),
        object: object.to_owned(),
        field: field.to_owned(),
        message,
        instead,
    }
}

/// Rules say `what is wrong: what to write`.
fn split(message: &str) -> (String, String) {
    match message.split_once(": ") {
        Some((wrong, instead)) => (wrong.to_owned(), instead.to_owned()),
        None => (message.to_owned(), String::new()),
    }
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
