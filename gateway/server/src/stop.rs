//! How a process is told to end: the first SIGTERM or Ctrl-C lets it finish what it is at, the second ends it at once.
//!
//! Every process of Weir that listens to signals does it here, since all of them know this crate; what finishing means is
//! theirs to say. The engine shim is none of them: it ends with its owner.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a process waits for.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// It leaves: what is in flight finishes.
    pub drain: CancellationToken,
    /// It ends at once.
    pub now: CancellationToken,
}

impl Stop {
    /// A process that SIGTERM and Ctrl-C tell to end.
    ///
    /// # Errors
    /// The signals cannot be listened to.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        stop.follow_signals(|_| ())?;
        Ok(stop)
    }

    /// Follows SIGTERM and Ctrl-C from now on. `draining` is told of the signal with which leaving begins, or of none where
    /// something else cancelled [`Stop::drain`]: the next signal ends at once then.
    ///
    /// # Errors
    /// The signals cannot be listened to.
    pub fn follow_signals(
        &self,
        draining: impl FnOnce(Option<&'static str>) + Send + 'static,
    ) -> io::Result<()> {
        let mut signals = Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        };
        let stop = self.clone();
        tokio::spawn(async move {
            let first = tokio::select! {
                signal = signals.next() => Some(signal),
                () = stop.drain.cancelled() => None,
            };
            draining(first);
            stop.drain.cancel();
            signals.next().await;
            stop.now.cancel();
        });
        Ok(())
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// The next one, as a person calls it.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
