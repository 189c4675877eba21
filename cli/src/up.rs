//! `weir up`: serves a stack until it is told to end.

use crate::args::UpArgs;
use crate::fail::Failure;
use crate::progress::Progress;
use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use weir_local::{Event, Events, Home, RotatingLog, Up, open_log};

pub(crate) async fn run(args: UpArgs) -> Result<(), Failure> {
    let home = Home::from_env()?;
    weir_local::up(Up {
        files: args.started.files,
        gateway: args.started.name,
        llama_server: args.started.llama_server,
        port: args.port,
        start_timeout: Duration::from_secs(args.start_timeout.max(1)),
        shim: shim()?,
        home,
        events: events(),
    })
    .await?;
    Ok(())
}

/// What stands between this process and an engine, so that none outlives it.
pub(crate) fn shim() -> io::Result<Vec<OsString>> {
    let own = std::env::current_exe()?.into_os_string();
    Ok(vec![own, "engine-shim".into()])
}

/// Events are shown; the first one that matters here says that the log is ours to write. Before that, a gateway that runs
/// already may be writing it.
fn events() -> Events {
    let show = Progress::events();
    Arc::new(move |event: Event| {
        if let Event::Owned { log } = &event {
            match open_log(log) {
                Ok(log) => log_to(log),
                Err(error) => {
                    let what = format!("nothing is logged: open {}: {error}", log.display());
                    show(Event::Warning(what));
                }
            }
        }
        show(event);
    })
}

/// The gateway's own log goes to its file: the terminal belongs to progress and events.
fn log_to(log: RotatingLog) {
    let writer = SharedLog(Arc::new(Mutex::new(log)));
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // Only a second call could fail, and there is none.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

#[derive(Clone)]
struct SharedLog(Arc<Mutex<RotatingLog>>);

impl Write for SharedLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush()
    }
}
