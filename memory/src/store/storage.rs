//! The file of rows: transactions on it, while the disk has room and after it failed.
//!
//! redb does nothing more with a file of which a write failed, not even reads. So a write begins only while there is room for
//! it, and where one fails all the same the file is opened again: what was not committed is gone, everything else is there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{Database, ReadTransaction, ReadableDatabase, StorageError, WriteTransaction};

use super::open::{FILE, builder, open_database};
use super::{OpenError, ReadError, WriteError};

/// What a write is for: it says how much room must be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// For something more than is there.
    More,
    /// For less than is there, so that a full disk can be made empty. Pages that change are written anew before they are freed.
    Less,
}

/// The open file.
pub(super) struct Storage {
    folder: PathBuf,
    /// Nothing where it could not be opened again.
    database: RwLock<Option<Database>>,
}

impl Storage {
    pub(super) fn open(folder: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            folder: folder.to_owned(),
            database: RwLock::new(Some(open_database(folder, FILE)?)),
        })
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, ReadError> {
        match &*self.database() {
            Some(database) => Ok(database.begin_read()?),
            None => Err(StorageError::PreviousIo.into()),
        }
    }

    /// Refused where the disk has no room.
    pub(super) fn begin_write(&self, room: Room) -> Result<WriteTransaction, WriteError> {
        self.check(room)?;
        match &*self.database() {
            Some(database) => Ok(database.begin_write()?),
            None => Err(StorageError::PreviousIo.into()),
        }
    }

    /// Closes the file and opens it again.
    pub(super) fn reopen(&self) -> Result<(), ReadError> {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // It is locked until it is closed.
        *database = None;
        let opened = builder().create(self.folder.join(FILE))?;
        *database = Some(opened);
        Ok(())
    }

    /// Whether it could not be opened again.
    pub(super) fn is_closed(&self) -> bool {
        self.database().is_none()
    }

    fn check(&self, room: Room) -> Result<(), WriteError> {
        match free_bytes(&self.folder) {
            Some(free) if free < room.bytes() => Err(self.full(room)),
            _ => Ok(()),
        }
    }

    /// Says that there is no room.
    pub(super) fn full(&self, room: Room) -> WriteError {
        WriteError::Full {
            path: self.folder.clone(),
            free_mib: free_bytes(&self.folder).unwrap_or_default() >> 20,
            needed_mib: room.bytes() >> 20,
        }
    }

    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// A batch of the largest request, its words and vectors, several times over; and the pages that a removal changes.
    fn bytes(self) -> u64 {
        match self {
            Self::More => 16 << 20,
            Self::Less => 2 << 20,
        }
    }
}

/// Whether nothing can be done with the file until it is opened again.
pub(super) fn is_broken(error: &WriteError) -> bool {
    match error {
        WriteError::Storage(error) | WriteError::Stored(ReadError::Storage(error)) => {
            matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo)
        }
        _ => false,
    }
}

/// Whether a write failed for want of room.
pub(super) fn is_full(error: &WriteError) -> bool {
    let WriteError::Storage(error) = error else {
        return false;
    };
    let redb::Error::Io(error) = &**error else {
        return false;
    };
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// What an unprivileged process may still write to the file system of `folder`; `None` where nobody can say.
fn free_bytes(folder: &Path) -> Option<u64> {
    // Their widths differ between systems.
    fn wide(number: impl Into<u64>) -> u64 {
        number.into()
    }
    let found = nix::sys::statvfs::statvfs(folder).ok()?;
    Some(wide(found.blocks_available()).saturating_mul(wide(found.fragment_size())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_asked_of_the_disk_that_the_folder_is_on() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).is_some_and(|free| free > 0));
        assert_eq!(free_bytes(&folder.path().join("not-there")), None);
        let storage = Storage {
            folder: folder.path().to_owned(),
            database: RwLock::new(None),
        };
        let said = storage.full(Room::More).to_string();
        let named = folder.path().display().to_string();
        assert!(
            said.contains(&named) && said.contains("16 MiB are needed"),
            "{said}"
        );
        assert!(
            Room::Less.bytes() < Room::More.bytes(),
            "deleting must go on"
        );
    }
}
