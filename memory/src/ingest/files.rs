//! Files: which ones are read, what they are called, and their text.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{BadFile, IngestError, IngestOptions};

/// Largest file read; beyond it a file is data, not a document.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Bytes looked at to tell binary files.
const PROBE_BYTES: usize = 8192;

/// Folders below folders that are followed.
const DEPTH_MAX: usize = 64;

/// What a file's name says it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Markdown,
    Html,
    Text,
    JsonLines,
}

/// A file to read.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its path below the folder that was asked for, with `/`: the first part of every uri.
    pub(super) name: String,
    /// What it holds.
    pub(super) format: Format,
}

/// Every file to read, sorted by name, and those that cannot be.
pub(super) fn list(
    paths: &[PathBuf],
    options: &IngestOptions,
) -> Result<(Vec<SourceFile>, Vec<BadFile>), IngestError> {
    let mut listing = Listing {
        options,
        files: Vec::new(),
        bad: Vec::new(),
        entered: HashSet::new(),
    };
    for path in paths {
        let failed = |source: io::Error| IngestError::Path {
            path: path.clone(),
            source,
        };
        if fs::metadata(path).map_err(failed)?.is_dir() {
            listing.folder(path, path, 0);
        } else {
            let parent = path.parent().unwrap_or(Path::new(""));
            listing.file(path, parent, true);
        }
    }
    let mut files = listing.files;
    files.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.path.cmp(&b.path)));
    files.dedup_by(|a, b| a.path == b.path);
    let mut bad = listing.bad;
    refuse_same_names(&mut files, &mut bad);
    Ok((files, bad))
}

/// Two files of one name would take turns in replacing each other.
fn refuse_same_names(files: &mut Vec<SourceFile>, bad: &mut Vec<BadFile>) {
    files.dedup_by(|later, earlier| {
        let same = later.name == earlier.name;
        if same {
            let reason = format!(
                "another file of this run is called {} too; ingest their common parent folder",
                later.name
            );
            bad.push(BadFile {
                path: later.path.clone(),
                reason,
            });
        }
        same
    });
}

struct Listing<'a> {
    options: &'a IngestOptions,
    files: Vec<SourceFile>,
    bad: Vec<BadFile>,
    /// Folders by their real path, so that links in a circle end.
    entered: HashSet<PathBuf>,
}

impl Listing<'_> {
    fn folder(&mut self, folder: &Path, root: &Path, depth: usize) {
        let entries = fs::canonicalize(folder).and_then(|real| {
            let is_new = self.entered.insert(real);
            if is_new {
                fs::read_dir(folder).map(Some)
            } else {
                Ok(None)
            }
        });
        let entries = match entries {
            Ok(Some(entries)) => entries,
            Ok(None) => return,
            Err(error) => return self.refuse(folder, &error),
        };
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(&entry.path(), root, depth),
                Err(error) => self.refuse(folder, &error),
            }
        }
    }

    /// Names that begin with a dot or an underscore are no content by custom (`.git`, Sphinx's
    /// `_sources`).
    fn entry(&mut self, path: &Path, root: &Path, depth: usize) {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        if name.is_none_or(|name| name.starts_with(['.', '_'])) {
            return;
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() && depth < DEPTH_MAX => {
                self.folder(path, root, depth + 1);
            }
            Ok(metadata) if metadata.is_file() => self.file(path, root, false),
            Ok(_) => {}
            Err(error) => self.refuse(path, &error),
        }
    }

    /// Files of other kinds are passed over in folders and refused when asked for by name.
    fn file(&mut self, path: &Path, root: &Path, by_name: bool) {
        let relative = path.strip_prefix(root).unwrap_or(path);
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        let name = parts.join("/");
        if self
            .options
            .exclude
            .iter()
            .any(|part| name.contains(part.as_str()))
        {
            return;
        }
        match format_of(path) {
            Some(format) => self.files.push(SourceFile {
                path: path.to_owned(),
                name,
                format,
            }),
            None if by_name => {
                let reason = "not a kind that is read: .md, .html, .txt, .jsonl".to_owned();
                self.bad.push(BadFile {
                    path: path.to_owned(),
                    reason,
                });
            }
            None => {}
        }
    }

    fn refuse(&mut self, path: &Path, error: &io::Error) {
        self.bad.push(BadFile {
            path: path.to_owned(),
            reason: error.to_string(),
        });
    }
}

fn format_of(path: &Path) -> Option<Format> {
    match path
        .extension()?
        .to_string_lossy()
        .to_ascii_lowercase()
        .as_str()
    {
        "md" | "markdown" => Some(Format::Markdown),
        "html" | "htm" | "xhtml" => Some(Format::Html),
        "txt" | "text" | "rst" => Some(Format::Text),
        "jsonl" | "ndjson" => Some(Format::JsonLines),
        _ => None,
    }
}

/// The text of a file, or why there is none, in one sentence.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!(
            "{size} bytes are more than the {FILE_BYTES_MAX} that are read"
        ));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    if bytes[..bytes.len().min(PROBE_BYTES)].contains(&0) {
        return Err("a binary file".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("not UTF-8 from byte {at} on")
    })?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text))
}
