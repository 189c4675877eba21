//! A stack started for measuring: `weir up` without a listener.

use crate::claim::{Owned, own};
use crate::stack;
use crate::stage::Kept;
use crate::status::Status;
use crate::up::{Up, UpError, follow_signals, stager};
use crate::world::World;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_gateway::Assets;
use weir_plan::GatewayPlan;

/// A stack whose engines run and whose memory is open, with nobody listening: what the lab measures.
pub struct Session {
    owned: Owned,
    world: World,
    tasks: TaskTracker,
}

impl Session {
    /// Starts a stack as `weir up` does, up to the listener. Engines end with [`Session::close`]. A restarted engine has
    /// another address, which a plan taken before does not know. From then on Ctrl-C and `weir down` cancel
    /// [`Session::stop`], and a second Ctrl-C [`Session::now`].
    ///
    /// # Errors
    /// As `up`.
    pub async fn open(up: &Up) -> Result<Self, UpError> {
        let tasks = TaskTracker::new();
        let loaded = stack::load(&up.files, up.gateway.as_deref())?;
        let owned = own(up, loaded.name()).await?;
        let stager = stager(up, &owned, tasks.clone());
        let staged = stager.stage(loaded, Kept::default()).await?;
        let (changed, _) = mpsc::unbounded_channel();
        let path = owned.state.path().to_path_buf();
        let (shared, events) = (Arc::clone(&owned.shared), Arc::clone(&up.events));
        let world = World::new(shared, events, path, staged, changed)?;
        follow_signals(&owned.shared.stop, &up.events)?;
        Ok(Self {
            owned,
            world,
            tasks,
        })
    }

    /// The plan of this moment and what belongs to it.
    ///
    /// # Errors
    /// The stack cannot be planned.
    pub fn plan(&self) -> Result<(GatewayPlan, Assets), UpError> {
        Ok((self.world.plan()?, self.world.assets()))
    }

    /// What is there.
    pub fn status(&self) -> Status {
        self.owned.shared.status()
    }

    /// Cancelled when the measurement should end.
    pub fn stop(&self) -> CancellationToken {
        self.owned.shared.stop.drain.clone()
    }

    /// Cancelled when it should end at once.
    pub fn now(&self) -> CancellationToken {
        self.owned.shared.stop.now.clone()
    }

    /// Ends every engine.
    pub async fn close(self) {
        self.world.stop().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}
