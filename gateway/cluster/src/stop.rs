//! How a gateway is told to leave: the first signal drains it, the second ends it at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a gateway waits for.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// It leaves: requests in flight finish.
    pub drain: CancellationToken,
    /// It ends at once.
    pub now: CancellationToken,
}

impl Stop {
    /// Follows SIGTERM and Ctrl-C.
    ///
    /// # Errors
    /// The signals cannot be listened to.
    pub fn on_signals() -> std::io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = Self::default();
        let told = stop.clone();
        tokio::spawn(async move {
            for step in [&told.drain, &told.now] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                step.cancel();
            }
        });
        Ok(stop)
    }
}
