//! The certificate authorities that downloads trust beside the usual ones: a file that changes while the operator runs.
//!
//! It is read at the start, where a missing file is an error, and again and again. What it says reaches downloads through
//! ConfigMaps (`weir_reconcile::Platform`), which are made by the reconcile of each pool and memory.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the file is read.
const EVERY: Duration = Duration::from_secs(10);

/// The file and what it said last; without a file there are no further authorities.
#[derive(Default)]
pub(crate) struct CaBundle {
    file: Option<PathBuf>,
    text: Mutex<Option<String>>,
}

impl CaBundle {
    /// Reads the file.
    pub(crate) fn read(file: Option<PathBuf>) -> std::io::Result<Self> {
        let text = file.as_ref().map(std::fs::read_to_string).transpose()?;
        Ok(Self {
            file,
            text: Mutex::new(text),
        })
    }

    /// What it said last, PEM.
    pub(crate) fn text(&self) -> Option<String> {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        text.clone()
    }

    /// Reads the file again and again until `stop`, and calls `changed` when it says something else. Why it cannot be read is
    /// told once, and once more when that changes.
    pub(crate) async fn run(&self, changed: impl Fn() + Send, stop: CancellationToken) {
        let mut told = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let found = self.look().await;
            if let Some(error) = news(&mut told, found.as_ref().err()) {
                tracing::warn!(
                    error,
                    "the certificate authorities of before stay: read their file"
                );
            }
            if matches!(found, Ok(true)) {
                tracing::info!("the certificate authorities of downloads changed");
                changed();
            }
        }
    }

    /// Reads the file once more: whether it says something else. An empty file is one that is being written.
    async fn look(&self) -> std::io::Result<bool> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        let found = tokio::fs::read_to_string(file).await?;
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !found.trim().is_empty() && text.as_ref() != Some(&found);
        if is_new {
            *text = Some(found);
        }
        Ok(is_new)
    }
}

/// The error, if it is another than the one that was told last.
fn news<'a>(told: &'a mut Option<String>, error: Option<&std::io::Error>) -> Option<&'a str> {
    let error = error.map(ToString::to_string);
    let is_new = *told != error;
    *told = error;
    told.as_deref().filter(|_| is_new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    #[test]
    fn an_error_is_told_once_until_another_comes_or_the_file_was_read() {
        let away = Error::from(ErrorKind::NotFound);
        let closed = Error::from(ErrorKind::PermissionDenied);
        let mut told = None;
        for (error, is_news) in [
            (None, false),
            (Some(&away), true),
            (Some(&away), false),
            (Some(&closed), true),
            (None, false),
            (Some(&closed), true),
        ] {
            assert_eq!(news(&mut told, error).is_some(), is_news, "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_changed_file_is_news_once_and_a_missing_or_empty_one_leaves_what_was_known() {
        let name = format!("weir-ca-bundle-{:016x}", rand::random::<u64>());
        let file = std::env::temp_dir().join(name);
        assert!(CaBundle::read(Some(file.clone())).is_err());
        std::fs::write(&file, "old").unwrap();
        let bundle = CaBundle::read(Some(file.clone())).unwrap();
        assert!(!bundle.look().await.unwrap());
        std::fs::write(&file, "new").unwrap();
        assert!(bundle.look().await.unwrap());
        assert!(!bundle.look().await.unwrap());
        std::fs::write(&file, "").unwrap();
        assert!(!bundle.look().await.unwrap());
        std::fs::remove_file(&file).unwrap();
        assert!(bundle.look().await.is_err());
        assert_eq!(bundle.text().as_deref(), Some("new"));
        assert!(!CaBundle::default().look().await.unwrap(), "there is none");
    }
}
