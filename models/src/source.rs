//! What a stack may name as the source of a model.
//!
//! Parsing only: whether the source exists is found out by `fetch`.

use std::path::{Path, PathBuf};

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file of a repository on the Hugging Face hub; no file stands for the whole repository.
    HuggingFace {
        /// `owner/name`.
        repo: String,
        /// Path inside the repository.
        file: Option<String>,
        /// Branch, tag or commit; `main` when the source names none.
        revision: String,
    },
    /// An https (or http) address.
    Https(String),
    /// An object of an S3 bucket, or a prefix of several.
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Key of the object.
        key: String,
    },
    /// A file or folder on this machine.
    File(PathBuf),
}

/// Why a source could not be understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceError {
    /// The scheme is missing or unknown.
    #[error(
        "model source `{0}` has no known scheme: write hf://owner/repo/file.gguf, https://..., \
         s3://bucket/key or file://..."
    )]
    Scheme(String),
    /// The repository is incomplete.
    #[error("model source `{0}` names no repository: write hf://owner/repo/file.gguf")]
    Repository(String),
    /// The bucket or the key is missing.
    #[error("model source `{0}` is incomplete: write s3://bucket/path/file.gguf")]
    Bucket(String),
    /// A part of the path would lead out of the repository.
    #[error("model source `{0}` has an empty part or `..` in its path: write the plain path")]
    Path(String),
    /// The address has no host.
    #[error("model source `{0}` names no host: write https://host/path/file.gguf")]
    Host(String),
    /// `file://` without a path.
    #[error("model source `{0}` names no file: write file:///path, file://~/path or file://./path")]
    File(String),
    /// `file://~/` on a machine where nobody is at home.
    #[error("model source `{0}` starts at the home folder, but HOME is not set: write the path")]
    Home(String),
}

impl Source {
    /// Reads a source as a stack writes it. `base_dir` is the folder of the stack file: relative
    /// `file://` paths start there.
    ///
    /// `hf://owner/repo/file` may name a revision: `hf://owner/repo@revision/file`.
    ///
    /// # Errors
    /// The scheme is unknown or its parts are missing.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self, SourceError> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("hf://") {
            return parse_hub(text, rest);
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return parse_s3(text, rest);
        }
        if let Some(rest) = text.strip_prefix("file://") {
            return parse_file(text, rest, base_dir);
        }
        let address = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        match address {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                Err(SourceError::Host(text.to_owned()))
            }
            Some(_) => Ok(Self::Https(text.to_owned())),
            None => Err(SourceError::Scheme(text.to_owned())),
        }
    }
}

fn parse_hub(text: &str, rest: &str) -> Result<Source, SourceError> {
    let mut parts = rest.splitn(3, '/');
    let owner = parts.next().unwrap_or_default();
    let (name, revision) = match parts.next().unwrap_or_default().split_once('@') {
        Some((name, revision)) => (name, revision),
        None => (rest.split('/').nth(1).unwrap_or_default(), "main"),
    };
    if owner.is_empty() || name.is_empty() || revision.is_empty() {
        return Err(SourceError::Repository(text.to_owned()));
    }
    let file = parts
        .next()
        .filter(|file| !file.is_empty())
        .map(str::to_owned);
    let plain = |path: &str| path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let named = plain(owner) && plain(name) && plain(revision);
    if !named || !file.as_deref().is_none_or(plain) {
        return Err(SourceError::Path(text.to_owned()));
    }
    let (repo, revision) = (format!("{owner}/{name}"), revision.to_owned());
    Ok(Source::HuggingFace {
        repo,
        file,
        revision,
    })
}

fn parse_s3(text: &str, rest: &str) -> Result<Source, SourceError> {
    match rest.split_once('/') {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => Ok(Source::S3 {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        }),
        _ => Err(SourceError::Bucket(text.to_owned())),
    }
}

fn parse_file(text: &str, rest: &str, base_dir: &Path) -> Result<Source, SourceError> {
    if rest.is_empty() {
        return Err(SourceError::File(text.to_owned()));
    }
    let Some(in_home) = rest.strip_prefix("~/") else {
        // An absolute path replaces the base.
        let path = rest.strip_prefix("./").unwrap_or(rest);
        return Ok(Source::File(base_dir.join(path)));
    };
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    let home = home.ok_or_else(|| SourceError::Home(text.to_owned()))?;
    Ok(Source::File(home.join(in_home)))
}

/// The source as a stack writes it.
impl std::fmt::Display for Source {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::HuggingFace {
                repo,
                file,
                revision,
            } => {
                write!(out, "hf://{repo}")?;
                if revision != "main" {
                    write!(out, "@{revision}")?;
                }
                file.iter().try_for_each(|file| write!(out, "/{file}"))
            }
            Self::Https(url) => write!(out, "{url}"),
            Self::S3 { bucket, key } => write!(out, "s3://{bucket}/{key}"),
            Self::File(path) => write!(out, "file://{}", path.display()),
        }
    }
}
