//! Reviewed files: `UPDATE=1` rewrites them, otherwise a difference fails.

use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use weir_crds::stack::SourceFile;
use weir_reconcile::Stack;

/// A path inside this crate.
pub(crate) fn in_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The cases below a folder, sorted.
pub(crate) fn folders(path: &str) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(in_crate(path))
        .expect("the cases are there")
        .map(|entry| entry.expect("a case").path())
        .collect();
    folders.sort();
    folders
}

/// Compares `actual` with the reviewed file, or rewrites the file.
pub(crate) fn compare(path: &Path, actual: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, actual).expect("a golden file can be written");
        return;
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        reviewed == actual,
        "{}: review and UPDATE=1\n{actual}",
        path.display()
    );
}

/// The first document of a file, when there is one.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let text = std::fs::read_to_string(path).ok()?;
    let documents = weir_crds::yaml::documents(&text).expect("YAML");
    let value = documents.first()?.value.clone();
    let typed =
        serde_json::from_value(value).map_err(|error| format!("{}: {error}", path.display()));
    Some(typed.expect("a case that can be read"))
}

/// A stack of valid documents.
pub(crate) fn stack(path: &Path) -> Stack {
    let file = SourceFile::read(path).expect("a case has a stack");
    parse(file)
}

/// A stack of a text.
pub(crate) fn parse(file: SourceFile) -> Stack {
    let documents = weir_crds::stack::parse(&[file]).map_err(|found| found[0].to_string());
    let documents = documents.expect("each document of a case is valid");
    Stack::from_documents(documents)
}
