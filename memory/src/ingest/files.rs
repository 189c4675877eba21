//! Files: which ones are read, what they are called, and their text.
//!
//! A file has two names: the readable one, its path below the folder that was asked for, and its
//! key, the same below the folder's real path, which no other file has.

use std::collections::HashSet;
use std::ffi::OsStr;
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

/// Why a name is refused: two of them could read alike.
const NOT_UTF8: &str = "its path is not UTF-8; rename it";

/// What a file's name says it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Markdown,
    Html,
    Text,
    Pdf,
    JsonLines,
}

/// A file to read.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// The real path of the folder that was asked for.
    pub(super) root: String,
    /// Its path below that folder, with `/`: the first part of every uri.
    pub(super) name: String,
    /// What the store knows the document by: two folders may both have a `README.md`, and one
    /// folder may be named in many ways (relative, absolute, through a link).
    ///
    /// Links below the folder are kept as they are called: a mounted volume swaps what is behind
    /// them, and that is the same document with another text.
    pub(super) key: String,
    /// What it holds.
    pub(super) format: Format,
}

/// What is there to read.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Every file to read, sorted by key.
    pub(super) files: Vec<SourceFile>,
    /// What cannot be read, with the reason.
    pub(super) bad: Vec<BadFile>,
    /// The real paths of the folders that were asked for.
    roots: Vec<String>,
    /// Keys of what could not be looked into.
    unseen: Vec<String>,
}

impl Listed {
    /// Whether the document of the key `key` was below one of the folders and is not there any more. Of what could not be
    /// looked into nobody knows.
    pub(super) fn is_gone(&self, key: &str) -> bool {
        let below = |folder: &String| {
            let rest = key.strip_prefix(folder.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let there = self.files.binary_search_by_key(&key, |file| &file.key);
        there.is_err() && self.roots.iter().any(below) && !self.unseen.iter().any(below)
    }
}

/// Looks for files to read.
pub(super) fn list(paths: &[PathBuf], options: &IngestOptions) -> Result<Listed, IngestError> {
    let mut listing = Listing {
        options,
        listed: Listed::default(),
        entered: HashSet::new(),
    };
    for path in paths {
        listing.path(path).map_err(|source| IngestError::Path {
            path: path.clone(),
            source,
        })?;
    }
    let mut listed = listing.listed;
    // Of a file that was asked for twice the outer folder's name for it is kept.
    (listed.files).sort_by(|a, b| (&a.key, a.root.len()).cmp(&(&b.key, b.root.len())));
    listed.files.dedup_by(|a, b| a.key == b.key);
    Ok(listed)
}

/// The folder that was asked for.
struct Root<'a> {
    path: &'a Path,
    real: String,
}

impl<'a> Root<'a> {
    fn of(path: &'a Path) -> io::Result<Self> {
        // The parent of a bare file name is an empty path.
        let named = match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        let real = fs::canonicalize(named)?.into_os_string().into_string();
        let real = real.map_err(|_| io::Error::other(NOT_UTF8))?;
        Ok(Self { path, real })
    }

    /// What the store would know a path below the folder by.
    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.real.trim_end_matches('/'))
    }
}

struct Listing<'a> {
    options: &'a IngestOptions,
    listed: Listed,
    /// Folders below the present root by their real path, so that links in a circle end.
    entered: HashSet<PathBuf>,
}

impl Listing<'_> {
    /// A path that was asked for.
    fn path(&mut self, path: &Path) -> io::Result<()> {
        if fs::metadata(path)?.is_dir() {
            self.entered.clear();
            let root = Root::of(path)?;
            self.listed.roots.push(root.real.clone());
            self.folder(path, &root, 0);
        } else {
            let parent = path.parent().unwrap_or(Path::new(""));
            self.file(path, &Root::of(parent)?, true);
        }
        Ok(())
    }

    fn folder(&mut self, folder: &Path, root: &Root<'_>, depth: usize) {
        match self.enter(folder) {
            Ok(entries) => {
                for path in entries {
                    self.entry(&path, root, depth);
                }
            }
            Err(error) => self.refuse(folder, root, error.to_string()),
        }
    }

    /// What is in a folder, nothing when it was entered before. By name, so that of two links to
    /// one folder the same one is followed every time.
    fn enter(&mut self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        if !self.entered.insert(fs::canonicalize(folder)?) {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
        let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
        entries.sort_unstable();
        Ok(entries)
    }

    /// Names that begin with a dot or an underscore are no content by custom (`.git`, Sphinx's
    /// `_sources`).
    fn entry(&mut self, path: &Path, root: &Root<'_>, depth: usize) {
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
            Err(error) => self.refuse(path, root, error.to_string()),
        }
    }

    /// Files of other kinds are passed over in folders and refused when asked for by name.
    fn file(&mut self, path: &Path, root: &Root<'_>, by_name: bool) {
        let Some(format) = format_of(path) else {
            if by_name {
                let reason = "not a kind that is read: .md, .html, .txt, .pdf, .jsonl";
                self.refuse(path, root, reason.to_owned());
            }
            return;
        };
        let relative = path.strip_prefix(root.path).unwrap_or(path);
        let parts: Option<Vec<&str>> = relative.iter().map(OsStr::to_str).collect();
        let Some(parts) = parts else {
            return self.refuse(path, root, NOT_UTF8.to_owned());
        };
        let name = parts.join("/");
        let mut excluded = self.options.exclude.iter();
        if !excluded.any(|part| name.contains(part.as_str())) {
            self.listed.files.push(SourceFile {
                path: path.to_owned(),
                root: root.real.clone(),
                key: root.key(&name),
                name,
                format,
            });
        }
    }

    fn refuse(&mut self, path: &Path, root: &Root<'_>, reason: String) {
        let relative = path.strip_prefix(root.path).unwrap_or(path);
        let unseen = match relative.to_str() {
            Some("") => root.real.clone(),
            Some(name) => root.key(name),
            // A name that is not UTF-8 was never stored.
            None => String::new(),
        };
        self.listed
            .unseen
            .extend(Some(unseen).filter(|key| !key.is_empty()));
        self.listed.bad.push(BadFile {
            path: path.to_owned(),
            reason,
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
        "pdf" => Some(Format::Pdf),
        "jsonl" | "ndjson" => Some(Format::JsonLines),
        _ => None,
    }
}

/// The bytes of a file, or why there are none, in one sentence.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!(
            "{size} bytes are more than the {FILE_BYTES_MAX} that are read"
        ));
    }
    fs::read(path).map_err(|error| error.to_string())
}

/// The text of a file, or why there is none, in one sentence.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    let bytes = read(path)?;
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
