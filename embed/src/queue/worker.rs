//! The worker thread and what it shares with those who ask.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::EmbedError;
use crate::recent::{QUESTION_BYTES_MAX, QUESTIONS_MAX, Recent};

/// Queries that are evaluated together.
const BATCH_MAX: usize = 8;
/// Text of one step of bulk work: some 250 tokens, about a tenth of a second.
const BULK_BYTES: usize = 1024;

type Vector = Result<Arc<[f32]>, EmbedError>;
type Vectors = Result<Vec<Vec<f32>>, EmbedError>;

/// What a query gets when it is asked.
pub(super) enum Asked {
    Known(Arc<[f32]>),
    Waiting(oneshot::Receiver<Vector>),
}

/// Many texts of one caller.
#[derive(Debug)]
pub(super) struct Bulk {
    texts: Vec<String>,
    /// Vectors of the first texts.
    vectors: Vec<Vec<f32>>,
    reply: oneshot::Sender<Vectors>,
}

impl Bulk {
    pub(super) fn new(texts: Vec<String>, reply: oneshot::Sender<Vectors>) -> Self {
        Self {
            vectors: Vec::with_capacity(texts.len()),
            texts,
            reply,
        }
    }

    /// The texts of the next step: at least one.
    fn step(&self) -> Vec<&str> {
        let mut bytes = 0;
        let rest = self.texts[self.vectors.len()..].iter().map(String::as_str);
        let fits = rest.enumerate().take_while(|(index, text)| {
            bytes += text.len();
            *index == 0 || bytes <= BULK_BYTES
        });
        fits.map(|(_, text)| text).collect()
    }
}

#[derive(Debug, Default)]
struct Lanes {
    queries: VecDeque<Arc<str>>,
    waiting: HashMap<Arc<str>, Vec<oneshot::Sender<Vector>>>,
    bulk: VecDeque<Bulk>,
    recent: Recent<Arc<str>, Arc<[f32]>, QUESTIONS_MAX>,
    /// Queries that are answered and then not remembered.
    unkept: HashSet<Arc<str>>,
    closed: bool,
}

/// What the handle and the thread share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    lanes: Mutex<Lanes>,
    wake: Condvar,
}

enum Work {
    Queries(Vec<Arc<str>>),
    Bulk(Bulk),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // No lane is left half changed where a panic could strike.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close(&self) {
        let mut lanes = self.lock();
        lanes.closed = true;
        lanes.queries.clear();
        lanes.waiting.clear();
        lanes.bulk.clear();
        self.wake.notify_one();
    }

    pub(super) fn forget(&self) {
        let mut lanes = self.lock();
        lanes.recent = Recent::default();
        // What is under way would come back.
        lanes.unkept = lanes.waiting.keys().cloned().collect();
    }

    pub(super) fn ask(&self, text: &str) -> Result<Asked, EmbedError> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(EmbedError::Stopped);
        }
        if let Some(vector) = lanes.recent.get(text) {
            return Ok(Asked::Known(vector));
        }
        let (reply, answer) = oneshot::channel();
        if let Some(others) = lanes.waiting.get_mut(text) {
            others.push(reply);
            return Ok(Asked::Waiting(answer));
        }
        let text: Arc<str> = text.into();
        lanes.waiting.insert(Arc::clone(&text), vec![reply]);
        lanes.queries.push_back(text);
        self.wake.notify_one();
        Ok(Asked::Waiting(answer))
    }

    pub(super) fn add_bulk(&self, bulk: Bulk) -> Result<(), EmbedError> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(EmbedError::Stopped);
        }
        lanes.bulk.push_back(bulk);
        self.wake.notify_one();
        Ok(())
    }

    /// The thread: until the last handle is gone.
    pub(super) fn run(&self, embed: impl Fn(&[&str]) -> Vectors) {
        // Whoever waits hears of it when the thread ends, also by a panic.
        let _closed = CloseOnDrop(self);
        while let Some(work) = self.next() {
            match work {
                Work::Queries(texts) => self.answer(&texts, &embed),
                Work::Bulk(bulk) => self.advance(bulk, &embed),
            }
        }
    }

    fn next(&self) -> Option<Work> {
        let mut lanes = self.lock();
        loop {
            if lanes.closed {
                return None;
            }
            let queries = lanes.next_queries();
            if !queries.is_empty() {
                return Some(Work::Queries(queries));
            }
            match lanes.bulk.pop_front() {
                Some(bulk) if bulk.reply.is_closed() => {}
                Some(bulk) => return Some(Work::Bulk(bulk)),
                None => {
                    lanes = self
                        .wake
                        .wait(lanes)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn answer(&self, texts: &[Arc<str>], embed: &impl Fn(&[&str]) -> Vectors) {
        let plain: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let vectors = embed(&plain);
        let mut lanes = self.lock();
        for (index, text) in texts.iter().enumerate() {
            let vector: Vector = match &vectors {
                Ok(vectors) => Ok(vectors[index].as_slice().into()),
                Err(error) => Err(error.clone()),
            };
            let kept = !lanes.unkept.remove(text) && text.len() <= QUESTION_BYTES_MAX;
            if let Ok(vector) = &vector
                && kept
            {
                lanes.recent.put(Arc::clone(text), Arc::clone(vector));
            }
            for reply in lanes.waiting.remove(text).unwrap_or_default() {
                let _ = reply.send(vector.clone());
            }
        }
    }

    /// One step of bulk work; the rest goes to the end of the lane, so that callers take turns.
    fn advance(&self, mut bulk: Bulk, embed: &impl Fn(&[&str]) -> Vectors) {
        match embed(&bulk.step()) {
            Ok(vectors) => bulk.vectors.extend(vectors),
            Err(error) => {
                let _ = bulk.reply.send(Err(error));
                return;
            }
        }
        if bulk.vectors.len() == bulk.texts.len() {
            let _ = bulk.reply.send(Ok(bulk.vectors));
        } else {
            self.lock().bulk.push_back(bulk);
        }
    }
}

impl Lanes {
    /// The next queries that somebody still waits for.
    fn next_queries(&mut self) -> Vec<Arc<str>> {
        let mut next = Vec::new();
        while next.len() < BATCH_MAX
            && let Some(text) = self.queries.pop_front()
        {
            let waiting = self.waiting.get(&text);
            if waiting.is_some_and(|all| all.iter().any(|reply| !reply.is_closed())) {
                next.push(text);
            } else {
                self.waiting.remove(&text);
                self.unkept.remove(&text);
            }
        }
        next
    }
}

struct CloseOnDrop<'a>(&'a Shared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
