//! Reviewed files: `UPDATE=1` rewrites them, otherwise a difference fails.

use std::path::{Path, PathBuf};

/// A path inside this crate.
pub(crate) fn in_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
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
        "{} has drifted: review the difference and run again with UPDATE=1\n--- reviewed\n{reviewed}\n--- actual\n{actual}",
        path.display()
    );
}
