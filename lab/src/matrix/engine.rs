//! A process of llama.cpp's server for one point: started, waited for, ended when it is dropped.

use super::{Point, Template};
use crate::process::{free_port, resident};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use weir_engine::{EngineError, Engines};
use weir_plan::{Endpoint, EngineKind, Pool};

/// Pause between two looks at an engine that loads.
const PAUSE: Duration = Duration::from_millis(100);

/// How an engine is started.
pub struct Launch {
    /// The program and arguments that begin the command line: what runs the engine, then the engine.
    pub program: Vec<OsString>,
    /// The engine's own arguments for a point and a port.
    pub arguments: fn(Point<'_>, u16) -> Vec<OsString>,
}

/// Why a point cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum MatrixError {
    /// It could not be started.
    #[error("the engine cannot be started: {0}")]
    Start(#[source] io::Error),
    /// It ended by itself.
    #[error("the engine ended: {0}")]
    Ended(std::process::ExitStatus),
    /// It did not answer in time.
    #[error("the engine cannot generate after {0:?}")]
    Late(Duration),
    /// It refused a request, or broke off.
    #[error("the engine does not answer: {0}")]
    Engine(#[from] EngineError),
    /// It answered without saying how long it took.
    #[error("the engine does not tell its times")]
    NoTimings,
    /// The prompt cannot be that short.
    #[error("a prompt of {0} tokens has no room for words: choose a larger context")]
    Short(u32),
}

/// A running engine.
pub(super) struct Engine {
    child: Child,
    pool: Pool,
    engines: Engines,
}

impl Engine {
    /// Starts one and waits until it has generated a token.
    pub(super) async fn start(
        launch: &Launch,
        point: Point<'_>,
        patience: Duration,
    ) -> Result<Self, MatrixError> {
        let port = free_port().map_err(MatrixError::Start)?;
        let mut words = launch.program.iter();
        let program = words
            .next()
            .ok_or_else(|| MatrixError::Start(io::Error::from(io::ErrorKind::NotFound)))?;
        let mut child = Command::new(program)
            .args(words)
            .args((launch.arguments)(point, port))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(MatrixError::Start)?;
        let endpoint = Endpoint::keyless(&format!("http://{}:{port}", Ipv4Addr::LOCALHOST));
        let pool = Pool {
            engine: EngineKind::LlamaCpp,
            context_tokens: point.context_tokens,
            endpoints: vec![endpoint.clone()],
            ..Pool::local("matrix")
        };
        let engines = Engines::new();
        let until = Instant::now() + patience;
        while engines.probe(&pool, &endpoint, until).await.is_err() {
            if let Some(status) = child.try_wait().map_err(MatrixError::Start)? {
                return Err(MatrixError::Ended(status));
            }
            if Instant::now() >= until {
                return Err(MatrixError::Late(patience));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(Self {
            child,
            pool,
            engines,
        })
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn engines(&self) -> &Engines {
        &self.engines
    }

    /// Most that the engine had resident until now, its file's pages included.
    pub(super) fn peak_bytes(&self) -> Option<u64> {
        let process = innermost(self.child.id()?);
        let memory = resident(Path::new(&format!("/proc/{process}"))).ok()?;
        Some(memory.peak_kib << 10)
    }
}

/// The last process of a chain of only children: what runs the engine, or the engine.
fn innermost(mut process: u32) -> u32 {
    while let Some(child) =
        std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"))
            .ok()
            .and_then(|children| children.split_whitespace().next()?.parse().ok())
    {
        process = child;
    }
    process
}

impl fmt::Display for Point<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            model,
            threads,
            context_tokens,
            template,
        } = self;
        let minimal = match template {
            Template::Own => "",
            Template::Minimal => ", minimal template",
        };
        write!(
            f,
            "{}, {threads} threads, {context_tokens} tokens{minimal}",
            model.name
        )
    }
}
