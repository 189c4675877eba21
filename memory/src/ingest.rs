//! Ingest: from files and folders to nodes and edges.
//!
//! Lists files, splits each into passages, writes them, then links them. Running it again writes
//! only what changed; a file that cannot be read is reported at the end and stops nothing. Vectors
//! are made later by whoever owns the embedder. Reading on: `ingest/files.rs`, `ingest/split_*.rs`,
//! `ingest/document.rs`, `ingest/edges.rs`, `ingest/write.rs`.

mod document;
mod edges;
mod entities;
mod files;
mod jsonl;
mod links;
mod pdf;
mod places;
mod references;
mod split_html;
mod split_markdown;
mod split_pdf;
mod split_text;
mod titles;
mod tokens;
mod write;

use std::ops::ControlFlow;
use std::path::PathBuf;

use self::document::Document;
use self::files::{Format, SourceFile};
use crate::store::{Memory, ReadError, WriteError};

/// How files become nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct IngestOptions {
    /// Owner of the nodes.
    pub tenant: String,
    /// Domain of nodes whose source names none.
    pub domain: Option<String>,
    /// Words a passage aims at; one sentence or code block may exceed it.
    pub passage_words: usize,
    /// Skip files whose relative path contains one of these.
    pub exclude: Vec<String>,
    /// Remove the documents of earlier runs below the folders that are asked for whose files are not there any more.
    pub mirror: bool,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            tenant: crate::SHARED_TENANT.to_owned(),
            domain: None,
            passage_words: 180,
            exclude: Vec::new(),
            mirror: false,
        }
    }
}

/// How far an ingest is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestProgress {
    /// Files found.
    pub files: usize,
    /// Files read, bad ones included.
    pub files_done: usize,
    /// Passages seen so far.
    pub passages: usize,
    /// The file in hand.
    pub current: Option<PathBuf>,
}

/// What an ingest did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestReport {
    /// Files that became passages.
    pub files: usize,
    /// Passages in those files.
    pub passages: usize,
    /// Passages that were new.
    pub inserted: usize,
    /// Passages whose content had changed.
    pub updated: usize,
    /// Passages that were there already.
    pub unchanged: usize,
    /// Passages that a changed file no longer has, and those of files that are gone.
    pub removed: usize,
    /// Documents that were removed because their files are gone.
    pub gone: usize,
    /// Edges of these files.
    pub edges: usize,
    /// Files that were not reached because the run was told to end.
    pub left: usize,
    /// Files that could not be read, with the reason.
    pub bad: Vec<BadFile>,
}

/// A file that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFile {
    /// The file.
    pub path: PathBuf,
    /// Why, in one sentence.
    pub reason: String,
}

/// Why an ingest stopped.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A path that was asked for is not there.
    #[error("cannot ingest {}: {source}", path.display())]
    Path {
        /// What was asked for.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// The store refused or failed.
    #[error("cannot write the passages")]
    Write(#[from] WriteError),
    /// The store could not be read.
    #[error("cannot read the passages that are there")]
    Read(#[from] ReadError),
}

/// Ingests `paths` (files or folders). Running it again over unchanged files writes nothing.
///
/// A passage's uri is the file's path below the folder that was named, `#`, and the anchor of its
/// section. Its id follows from the tenant, the same path below the folder's real path, and its
/// part: files of one name in two folders are two documents, however the folders were named.
/// Passages that a file no longer has are removed; those of a file that is gone stay unless `options` say `mirror`.
pub fn ingest(
    memory: &Memory,
    paths: &[PathBuf],
    options: &IngestOptions,
    progress: &mut dyn FnMut(&IngestProgress),
) -> Result<IngestReport, IngestError> {
    ingest_until(memory, paths, options, &mut |at| {
        progress(at);
        ControlFlow::Continue(())
    })
}

/// As [`ingest`], and ends early when `progress`, which is called before each file, says so: what was read is written, and
/// a run that reads to the end adds the rest and the edges.
pub fn ingest_until(
    memory: &Memory,
    paths: &[PathBuf],
    options: &IngestOptions,
    progress: &mut dyn FnMut(&IngestProgress) -> ControlFlow<()>,
) -> Result<IngestReport, IngestError> {
    let mut listed = files::list(paths, options)?;
    let mut report = IngestReport {
        bad: std::mem::take(&mut listed.bad),
        ..IngestReport::default()
    };
    let mut now = IngestProgress {
        files: listed.files.len(),
        ..IngestProgress::default()
    };
    let mut writer = write::Writer::new(memory, options);
    for file in &listed.files {
        now.current = Some(file.path.clone());
        if progress(&now).is_break() {
            report.left = now.files - now.files_done;
            writer.flush(&mut report)?;
            return Ok(report);
        }
        match split(file) {
            Ok(document) => {
                let passages = document::passages(&document, options.passage_words);
                report.files += 1;
                report.passages += passages.len();
                for reason in &document.bad_parts {
                    report.bad.push(BadFile {
                        path: file.path.clone(),
                        reason: reason.clone(),
                    });
                }
                writer.add(file, &document, passages, &mut report)?;
            }
            Err(reason) => report.bad.push(BadFile {
                path: file.path.clone(),
                reason,
            }),
        }
        now.files_done += 1;
        now.passages = report.passages;
    }
    now.current = None;
    // Everything is read: only edges are left, which nobody has to wait for long.
    let _ = progress(&now);
    if options.mirror {
        writer.remove_gone(&listed, &mut report)?;
    }
    writer.finish(&mut report)?;
    Ok(report)
}

/// The sections of a file, or why there are none.
fn split(file: &SourceFile) -> Result<Document, String> {
    let stem = file.path.file_stem().map(|stem| stem.to_string_lossy());
    let stem = stem.unwrap_or_default();
    let text = || files::read_text(&file.path);
    Ok(match file.format {
        Format::Html => split_html::split(&text()?),
        Format::Markdown => split_markdown::split(&text()?),
        Format::JsonLines => jsonl::split(&text()?),
        Format::Text => split_text::split(&text()?, &stem),
        Format::Pdf => {
            let bytes = files::read(&file.path)?;
            split_pdf::split(&bytes, &stem).map_err(|error| error.to_string())?
        }
    })
}
