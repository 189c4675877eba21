//! The linker: the thread that gives vectors their place in the graph, and the file that keeps the graph.
//!
//! Writers only mark what changed. The thread plans one change after the other while searches go on, and holds them up
//! for no longer than it takes to write a few links. It starts when a store is large enough for a graph and ends with the
//! store. When nothing waits any more and enough has changed, it writes a snapshot, and so does closing the store; what a
//! crash loses of it is linked again. Never touches the database.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use super::files;
use crate::index::Index;
use crate::vectors::snapshot::{GraphIdentity, Snapshot, SnapshotError};

/// The snapshot of the vectors' graph.
pub(super) const FILE: &str = "memory.hnsw";

/// Changes after which a snapshot is written while the store is open: this many, and one in [`SAVED_PART`] of the graph.
const SAVED_AFTER: usize = 1_000;

/// See [`SAVED_AFTER`].
const SAVED_PART: usize = 16;

/// The thread of one open store.
pub(super) struct Linker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    index: Arc<RwLock<Index>>,
    folder: PathBuf,
    identity: GraphIdentity,
    state: Mutex<State>,
    changed: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Vectors were written that the thread has not looked for.
    wanted: bool,
    busy: bool,
    problem: Option<SnapshotError>,
}

impl Linker {
    /// For the index of the store in `folder`; takes its graph from the snapshot that is there.
    pub(super) fn new(index: &Arc<RwLock<Index>>, folder: &Path, identity: GraphIdentity) -> Self {
        let linker = Self {
            shared: Arc::new(Shared {
                index: index.clone(),
                folder: folder.to_owned(),
                identity,
                state: Mutex::default(),
                changed: Condvar::new(),
                stop: AtomicBool::new(false),
            }),
            thread: Mutex::new(None),
        };
        linker.shared.restore();
        linker.wake();
        linker
    }

    /// Has the thread look for vectors that wait, if there are any.
    pub(super) fn wake(&self) {
        if self.shared.read(|index| index.vectors.waiting()) == 0 {
            return;
        }
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = self.shared.clone();
            let named = thread::Builder::new().name("weir-linker".to_owned());
            *thread = named.spawn(move || shared.run()).ok();
        }
        // Without a thread everything is compared exactly, which is slow and right.
        if thread.is_some() {
            self.shared.state().wanted = true;
            self.shared.changed.notify_all();
        }
    }

    /// Returns when all that waited has its place.
    pub(super) fn settle(&self) {
        let mut state = self.shared.state();
        while state.wanted || state.busy {
            state = self
                .shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What last went wrong with the snapshot; said once.
    pub(super) fn problem(&self) -> Option<SnapshotError> {
        self.shared.state().problem.take()
    }
}

impl Drop for Linker {
    fn drop(&mut self) {
        {
            let _state = self.shared.state();
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        self.shared.changed.notify_all();
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            // It died in the middle of a change: what it left is not kept.
            return;
        }
        if self.shared.read(|index| index.vectors.relinked()) > 0 {
            self.shared.save();
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state();
        loop {
            state.busy = false;
            self.changed.notify_all();
            while !state.wanted && !self.stopped() {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if self.stopped() {
                return;
            }
            (state.wanted, state.busy) = (false, true);
            drop(state);
            self.link();
            state = self.state();
        }
    }

    /// Works off what waits.
    fn link(&self) {
        while let Some(planned) = self.read(Index::plan) {
            self.write(|index| index.vectors.commit(planned));
            if self.stopped() {
                return;
            }
        }
        let (relinked, linked) =
            self.read(|index| (index.vectors.relinked(), index.vectors.linked()));
        let part = linked.unwrap_or(0) / SAVED_PART;
        if relinked >= SAVED_AFTER.max(part) {
            self.save();
        }
    }

    fn restore(&self) {
        if self.read(|index| index.vectors.linked()).is_none() {
            return;
        }
        let path = self.folder.join(FILE);
        let result = match fs::read(&path) {
            Ok(bytes) => Snapshot::decode(&bytes, &self.identity)
                .and_then(|snapshot| self.write(|index| index.adopt(&snapshot))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(source) => Err(SnapshotError::Read { path, source }),
        };
        self.state().problem = result.err();
    }

    fn save(&self) {
        let (bytes, relinked) =
            self.read(|index| (index.snapshot(&self.identity), index.vectors.relinked()));
        let Some(bytes) = bytes else {
            return;
        };
        match files::replace(&self.folder, FILE, &bytes) {
            Ok(()) => self.write(|index| index.vectors.saved(relinked)),
            Err(source) => {
                let path = self.folder.join(FILE);
                self.state().problem = Some(SnapshotError::Write { path, source });
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn read<T>(&self, work: impl FnOnce(&Index) -> T) -> T {
        work(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, work: impl FnOnce(&mut Index) -> T) -> T {
        work(&mut self.index.write().unwrap_or_else(PoisonError::into_inner))
    }
}
