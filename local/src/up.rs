//! `weir up` from start to end: own the state folder, take the port, stage the stack, serve, follow files and engines, drain.
//!
//! The order matters: what can be refused cheaply (files, another instance, the port) is refused before anything is
//! downloaded or started. What follows is in `stage.rs` and `world.rs`.

use crate::claim::{Owned, bind, own, reachable};
use crate::engine::supervisor::Launcher;
use crate::event::{Event, Events};
use crate::home::{Home, HomeError};
use crate::stack::{self, StackError};
use crate::stage::{Kept, Staged, Stager};
use crate::stage_error::StageError;
use crate::status::GatewayPhase;
use crate::world::World;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_engine::Engines;
use weir_gateway::{Stop, serve};

/// How often the stack files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What `weir up` was asked to do.
#[derive(Clone)]
pub struct Up {
    /// The stack files, in order.
    pub files: Vec<PathBuf>,
    /// The gateway, when the files have several.
    pub gateway: Option<String>,
    /// The engine program, when it is not to be looked for.
    pub llama_server: Option<PathBuf>,
    /// The port instead of the stack's; 0 lets the system choose.
    pub port: Option<u16>,
    /// How long an engine may take until it can generate.
    pub start_timeout: Duration,
    /// This program and the words that make it the engine shim.
    pub shim: Vec<OsString>,
    /// Where state and models are.
    pub home: Home,
    /// Who is told what happens.
    pub events: Events,
}

/// Why `weir up` ended with an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpError {
    /// The files are wrong.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The state folder cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The gateway runs already.
    #[error(
        "gateway {gateway:?} is already running (pid {pid}, {address}): it follows its stack files by itself; `weir down` \
         ends it"
    )]
    AlreadyRunning {
        /// The gateway.
        gateway: String,
        /// Its process.
        pid: u32,
        /// Where it answers, or that it is still starting.
        address: String,
    },
    /// The state folder is locked and nobody answers.
    #[error(
        "the state folder {path} is in use by another weir command (a `weir up` that starts or ends, or `weir memory`): \
         try again in a moment"
    )]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Somebody else listens there.
    #[error(
        "port {port} of {address} is in use by another program: choose another with --port (0 lets the system choose) or \
         spec.listen.port"
    )]
    PortInUse {
        /// The address.
        address: String,
        /// The port.
        port: u16,
    },
    /// The address cannot be used.
    #[error("cannot listen at {address}: {source}; choose another spec.listen or --port")]
    Listen {
        /// Address and port.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// The control socket or file cannot be made.
    #[error("cannot make {path}: {source}")]
    Control {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Nobody could tell it to end.
    #[error("cannot listen to SIGTERM and Ctrl-C: {0}")]
    Signals(#[source] io::Error),
    /// The stack cannot be served.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The gateway ended by itself.
    #[error("the gateway ended: {0}")]
    Served(String),
}

/// The next stack, on its way.
type Staging = JoinHandle<Result<Staged, StageError>>;

/// Serves a stack until it is told to end: by Ctrl-C, SIGTERM or `weir down`. A second Ctrl-C ends it at once.
///
/// # Errors
/// The stack cannot be served. Once it is served, errors are events and the last good state stays.
pub async fn up(up: Up) -> Result<(), UpError> {
    let tasks = TaskTracker::new();
    let result = run(up, tasks.clone()).await;
    // Engines that were told to end on the way have ended when this process does.
    tasks.close();
    tasks.wait().await;
    result
}

async fn run(up: Up, tasks: TaskTracker) -> Result<(), UpError> {
    let loaded = stack::load(&up.files, up.gateway.as_deref())?;
    let fingerprint = stack::fingerprint(&up.files);
    let owned = own(&up, loaded.name()).await?;
    let listener = bind(&up, &loaded.gateway.spec.listen).await?;
    let address = listener.local_addr().map_err(|source| UpError::Listen {
        address: loaded.gateway.spec.listen.address.clone(),
        source,
    })?;
    follow_signals(&owned.shared.stop, &up.events)?;
    let stager = stager(&up, &owned, tasks);
    let staging = stager.stage(loaded, Kept::default());
    let Some(staged) = owned.shared.stop.drain.run_until_cancelled(staging).await else {
        // Told to end while starting: dropping the stage ended its engines.
        return Ok(());
    };
    let (changed, changes) = mpsc::unbounded_channel();
    let path = owned.state.path().to_path_buf();
    let (shared, events) = (Arc::clone(&owned.shared), Arc::clone(&up.events));
    let world = World::new(shared, events, path, staged?, changed)?;
    let running = Running {
        up,
        owned,
        stager,
        world,
        fingerprint,
    };
    running.serve(listener, address, changes).await
}

/// Staging as this `weir up` does it.
pub(crate) fn stager(up: &Up, owned: &Owned, tasks: TaskTracker) -> Stager {
    let (shim, start_timeout) = (up.shim.clone(), up.start_timeout);
    Stager {
        home: up.home.clone(),
        state: owned.state.clone(),
        llama_server: up.llama_server.clone(),
        launcher: Launcher {
            shim,
            start_timeout,
            tasks,
            events: Arc::clone(&up.events),
        },
        engines: Engines::new(),
        events: Arc::clone(&up.events),
    }
}

/// Everything of a gateway that serves.
struct Running {
    up: Up,
    owned: Owned,
    stager: Stager,
    world: World,
    fingerprint: String,
}

impl Running {
    async fn serve(
        mut self,
        listener: TcpListener,
        address: SocketAddr,
        mut changes: mpsc::UnboundedReceiver<String>,
    ) -> Result<(), UpError> {
        let gateway = self
            .world
            .gateway()
            .expect("a world that exists has applied a plan");
        let stop = CancellationToken::new();
        let mut server = tokio::spawn(serve(gateway, listener, stop.clone()));
        {
            let mut view = self.owned.shared.view();
            view.phase = GatewayPhase::Serving;
            view.address = format!("http://{}", reachable(address));
        }
        self.owned.write_control_file()?;
        (self.up.events)(Event::Serving(Box::new(self.owned.shared.status())));
        let ended_by_itself = self.follow(&mut server, &mut changes).await;
        if let Some(reason) = ended_by_itself {
            self.owned.shared.stop.drain.cancel();
            self.world.stop().await;
            self.owned.shared.settle().await;
            return Err(UpError::Served(reason));
        }
        self.owned.shared.view().phase = GatewayPhase::Draining;
        stop.cancel();
        let now = self.owned.shared.stop.now.clone();
        if now.run_until_cancelled(&mut server).await.is_none() {
            server.abort();
        }
        self.world.stop().await;
        self.owned.shared.settle().await;
        Ok(())
    }

    /// Follows files and engines until draining begins; `Some` when the server ended by itself.
    async fn follow(
        &mut self,
        server: &mut JoinHandle<()>,
        changes: &mut mpsc::UnboundedReceiver<String>,
    ) -> Option<String> {
        let drain = self.owned.shared.stop.drain.clone();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut staging: Option<Staging> = None;
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => {
                    if let Some(task) = staging {
                        task.abort();
                    }
                    return None;
                }
                ended = &mut *server => return Some(match ended {
                    Ok(()) => "its listener was closed".into(),
                    Err(error) => error.to_string(),
                }),
                Some(pool) = changes.recv() => {
                    self.world.engine_changed(&pool);
                    self.note_control_file();
                }
                staged = staged(&mut staging) => {
                    staging = None;
                    self.reloaded(staged).await;
                }
                _ = look.tick() => if let Some(newer) = self.look_at_files() {
                    // What is still being made ready is not what the files say any more.
                    if let Some(outdated) = staging.replace(newer) {
                        outdated.abort();
                    }
                },
            }
        }
    }

    /// Starts to stage the files when their content changed.
    fn look_at_files(&mut self) -> Option<Staging> {
        let fingerprint = stack::fingerprint(&self.up.files);
        if fingerprint == self.fingerprint {
            return None;
        }
        self.fingerprint = fingerprint;
        let (files, name) = (self.up.files.clone(), self.owned.shared.gateway.clone());
        let (stager, kept) = (self.stager.clone(), self.world.kept());
        let (served, port_given) = (self.world.loaded().clone(), self.up.port.is_some());
        Some(tokio::spawn(async move {
            let loaded = stack::load(&files, Some(&name))?;
            loaded.may_replace(&served, port_given)?;
            stager.stage(loaded, kept).await
        }))
    }

    async fn reloaded(&mut self, staged: Result<Staged, StageError>) {
        let committed = match staged {
            Ok(staged) => self.world.commit(staged).await,
            Err(error) => Err(error),
        };
        let reason = committed.err().map(|error| error.to_string());
        self.owned.shared.view().reload_refused.clone_from(&reason);
        self.note_control_file();
        (self.up.events)(match reason {
            Some(reason) => Event::ReloadRefused { reason },
            None => Event::Reloaded(Box::new(self.owned.shared.status())),
        });
    }

    fn note_control_file(&self) {
        if let Err(error) = self.owned.write_control_file() {
            tracing::warn!("{error}");
        }
    }
}

/// The outcome of staging; never while nothing is staged.
async fn staged(staging: &mut Option<Staging>) -> Result<Staged, StageError> {
    match staging {
        Some(task) => match task.await {
            Ok(staged) => staged,
            Err(error) => Err(StageError::Internal(error.to_string())),
        },
        None => std::future::pending().await,
    }
}

/// Tells a stack to end by signals from now on, and whoever watches that it does.
pub(crate) fn follow_signals(stop: &Stop, events: &Events) -> Result<(), UpError> {
    let events = Arc::clone(events);
    let draining = move |signal: Option<&'static str>| {
        let why = signal.unwrap_or("weir down");
        events(Event::Draining { why });
    };
    stop.follow_signals(draining).map_err(UpError::Signals)
}
