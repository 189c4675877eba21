//! The running instance's end of the control socket: one task a connection, one request a connection.
//!
//! Messages and the commands' end are in `control.rs`. Only the user can enter the socket's folder; a socket that had to
//! be put into the temporary folder is made readable by the user alone before anything connects.

use crate::control::{Reply, Request, line};
use crate::memory::{self, IngestOptions, MemoryCommandError};
use crate::search::{self, SearchOptions};
use crate::shared::Shared;
use crate::upkeep::{Outcome, Step, Task, perform};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use weir_memory::{Memory, RecallLimits};

/// Longest wait for the vector of a question; words alone find something too.
const QUESTION_BUDGET: Duration = Duration::from_secs(10);

/// Steps of a task that wait to be sent: an export is not read far ahead of whoever reads it.
const STEPS_MAX: usize = 4;

/// Longest request.
const REQUEST_BYTES_MAX: u64 = 1 << 20;

/// The socket; dropping it stops listening and removes the file.
pub(crate) struct ControlSocket {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl ControlSocket {
    /// Starts to listen. The caller holds the state folder's lock, so a socket that is there is a leftover.
    pub(crate) fn open(path: &Path, shared: Arc<Shared>) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    // A command that went away needs no answer.
                    let _ = serve(stream, &shared).await;
                });
            }
        });
        Ok(Self {
            path: path.to_path_buf(),
            task,
        })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut text = String::new();
    BufReader::new(read.take(REQUEST_BYTES_MAX))
        .read_line(&mut text)
        .await?;
    if text.is_empty() {
        // Somebody looked whether anyone is here.
        return Ok(());
    }
    let _reply = shared.replies.token();
    let reply = match serde_json::from_str(&text) {
        Ok(Request::Status) => Reply::Status(Box::new(shared.status())),
        Ok(Request::Shutdown { now }) => {
            shared.stop.drain.cancel();
            if now {
                shared.stop.now.cancel();
            }
            Reply::Draining
        }
        Ok(Request::Search(options)) => find(shared, &options, search::search, Reply::Found).await,
        Ok(Request::Picture(options)) => {
            find(shared, &options, search::picture, Reply::Pictured).await
        }
        Ok(Request::Ingest(options)) => ingest(shared, options, &mut write).await?,
        Ok(Request::Upkeep(task)) => upkeep(shared, task, &mut write).await?,
        Err(error) => Reply::Failed(format!("this weir does not know the request: {error}")),
    };
    write.write_all(&line(&reply)).await
}

/// How a question with its vector is looked for.
type Find<T> =
    fn(&Memory, Option<Vec<f32>>, RecallLimits, &SearchOptions) -> Result<T, MemoryCommandError>;

async fn find<T>(
    shared: &Shared,
    options: &SearchOptions,
    find: Find<T>,
    reply: impl FnOnce(T) -> Reply,
) -> Reply {
    let (open, embedder) = {
        let view = shared.view();
        (view.memory.clone(), view.embedder.clone())
    };
    let Some(open) = open else {
        return no_memory(shared);
    };
    // Words alone still find something when the embedder fails.
    let vector = match embedder {
        Some(embedder) => embedder.question(&options.text, QUESTION_BUDGET).await.ok(),
        None => None,
    };
    let vector = vector.map(|vector| vector.to_vec());
    match find(&open.memory, vector, open.limits, options) {
        Ok(found) => reply(found),
        Err(error) => Reply::Failed(error.to_string()),
    }
}

async fn ingest(
    shared: &Shared,
    options: IngestOptions,
    write: &mut OwnedWriteHalf,
) -> io::Result<Reply> {
    let open = shared.view().memory.clone();
    let Some(open) = open else {
        return Ok(no_memory(shared));
    };
    let reading = shared.reading.token();
    let stop = shared.stop.drain.clone();
    if stop.is_cancelled() {
        return Ok(ending(shared));
    }
    let (progress, mut lines) = mpsc::unbounded_channel();
    let work = tokio::task::spawn_blocking(move || {
        let summary = memory::ingest(&open.memory, &options, &mut |at| {
            // Nobody listens any more when the command went away; reading goes on all the same.
            let _ = progress.send(at);
            if stop.is_cancelled() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        // The memory is closed before the reading counts as ended.
        drop(open);
        drop(reading);
        summary
    });
    while let Some(at) = lines.recv().await {
        write.write_all(&line(&Reply::Progress(at))).await?;
        shared.new_passages.notify_one();
    }
    shared.new_passages.notify_one();
    Ok(match work.await {
        Ok(Ok(summary)) => Reply::Ingested(summary),
        Ok(Err(error)) => Reply::Failed(error.to_string()),
        Err(error) => Reply::Failed(format!("ingest ended early: {error}")),
    })
}

/// Performs an upkeep task on the open memory. An export waits for whoever reads its lines.
async fn upkeep(shared: &Shared, task: Task, write: &mut OwnedWriteHalf) -> io::Result<Reply> {
    let (open, embedder) = {
        let view = shared.view();
        (view.memory.clone(), view.embedder.clone())
    };
    let Some(open) = open else {
        return Ok(no_memory(shared));
    };
    let reading = shared.reading.token();
    let stop = shared.stop.drain.clone();
    if stop.is_cancelled() {
        return Ok(ending(shared));
    }
    let (steps, mut told) = mpsc::channel(STEPS_MAX);
    let work = tokio::task::spawn_blocking(move || {
        let done = perform(&open.memory, &open.folder, &task, &mut |step| {
            let heard = match step {
                Step::At(_) => steps.try_send(step).is_ok() || !steps.is_closed(),
                Step::Lines(_) => steps.blocking_send(step).is_ok(),
            };
            match heard && !stop.is_cancelled() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        if let (Ok(Outcome::Erased(_)), Some(embedder)) = (&done, embedder) {
            embedder.forget_questions();
        }
        // The memory is closed before the task counts as ended.
        drop(open);
        drop(reading);
        done
    });
    while let Some(step) = told.recv().await {
        let reply = match step {
            Step::At(at) => Reply::At(at),
            Step::Lines(text) => Reply::Lines(text),
        };
        write.write_all(&line(&reply)).await?;
    }
    shared.new_passages.notify_one();
    Ok(match work.await {
        Ok(Ok(outcome)) => Reply::Done(Box::new(outcome)),
        Ok(Err(error)) => Reply::Failed(error.to_string()),
        Err(error) => Reply::Failed(format!("the task ended early: {error}")),
    })
}

fn ending(shared: &Shared) -> Reply {
    Reply::Failed(format!(
        "gateway {:?} is ending: start it again, then repeat the command",
        shared.gateway
    ))
}

fn no_memory(shared: &Shared) -> Reply {
    Reply::Failed(format!(
        "gateway {:?} has no memory, or it is not open yet: name a MemoryStore in spec.memory and look at `weir status`",
        shared.gateway
    ))
}
