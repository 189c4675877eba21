//! Files that whoever issues them renews in place: what they come to now, or came to last while they cannot be used.

use crate::pair::CertificateError;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use weir_plan::chain;

/// What the files of a folder come to.
pub struct Reloaded<T, E, const FILES: usize> {
    folder: PathBuf,
    names: [&'static str; FILES],
    make: fn(&[Vec<u8>; FILES]) -> Result<T, E>,
    /// How long what was found is not looked at again.
    every: Duration,
    now: Mutex<Now<T, FILES>>,
}

struct Now<T, const FILES: usize> {
    looked: Option<Instant>,
    /// What was found last, be it usable or not.
    found: Option<Result<[Vec<u8>; FILES], String>>,
    last: Option<T>,
}

/// What the files hold is nobody's to see.
impl<T, E, const FILES: usize> std::fmt::Debug for Reloaded<T, E, FILES> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloaded")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl<T, E, const FILES: usize> Reloaded<T, E, FILES>
where
    T: Clone,
    E: std::error::Error + From<CertificateError> + 'static,
{
    /// Nothing yet, of the files of these names.
    pub fn of(
        folder: &Path,
        names: [&'static str; FILES],
        every: Duration,
        make: fn(&[Vec<u8>; FILES]) -> Result<T, E>,
    ) -> Self {
        Self {
            folder: folder.to_owned(),
            names,
            make,
            every,
            now: Mutex::new(Now {
                looked: None,
                found: None,
                last: None,
            }),
        }
    }

    /// The same, once the files could be used.
    ///
    /// # Errors
    /// They cannot.
    pub fn loaded(self) -> Result<Self, E> {
        let files = self.read()?;
        let made = (self.make)(&files)?;
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = Now {
            looked: Some(Instant::now()),
            found: Some(Ok(files)),
            last: Some(made),
        };
        drop(now);
        Ok(self)
    }

    /// What the files come to as they are now, or came to last; `None` while they never could be used.
    pub fn get(&self) -> Option<T> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.looked.is_none_or(|at| at.elapsed() >= self.every) {
            now.looked = Some(Instant::now());
            self.look(&mut now);
        }
        now.last.clone()
    }

    /// Each finding is used or complained of once.
    fn look(&self, now: &mut Now<T, FILES>) {
        let found = self.read().map_err(|error| chain(&error));
        if now.found.as_ref() == Some(&found) {
            return;
        }
        let made = match &found {
            Ok(files) => (self.make)(files).map_err(|error| chain(&error)),
            Err(error) => Err(error.clone()),
        };
        now.found = Some(found);
        let folder = self.folder.display();
        match made {
            Ok(made) => {
                tracing::info!(%folder, "changed certificates are used from now on");
                now.last = Some(made);
            }
            Err(error) if now.last.is_some() => {
                tracing::error!(%folder, error, "changed certificates are not used, the last good ones are");
            }
            Err(error) => tracing::error!(%folder, error, "there are no certificates to use"),
        }
    }

    fn read(&self) -> Result<[Vec<u8>; FILES], CertificateError> {
        let mut files = [const { Vec::new() }; FILES];
        for (file, name) in files.iter_mut().zip(self.names) {
            let path = self.folder.join(name);
            *file =
                std::fs::read(&path).map_err(|source| CertificateError::Read { path, source })?;
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(files: &[Vec<u8>; 1]) -> Result<String, CertificateError> {
        let text = String::from_utf8_lossy(&files[0]).into_owned();
        match text.as_str() {
            "damaged" => Err(CertificateError::Key),
            _ => Ok(text),
        }
    }

    #[test]
    fn what_cannot_be_used_leaves_the_last_good_and_what_can_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        let of = |every| Reloaded::of(folder.path(), ["a"], every, text);
        let reloaded = of(Duration::ZERO);
        assert_eq!(reloaded.get(), None);
        assert!(of(Duration::ZERO).loaded().is_err());
        write("damaged");
        assert_eq!(reloaded.get(), None);
        for (text, comes_to) in [
            ("first", "first"),
            ("damaged", "first"),
            ("second", "second"),
        ] {
            write(text);
            assert_eq!(reloaded.get().as_deref(), Some(comes_to));
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(reloaded.get().as_deref(), Some("second"));

        write("third");
        let seldom = of(Duration::from_secs(600)).loaded().unwrap();
        write("fourth");
        assert_eq!(seldom.get().as_deref(), Some("third"), "not looked at yet");
    }
}
