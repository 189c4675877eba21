//! The memory of another process: the calls of weir-memory-live, answered by a memory service over gRPC.
//!
//! Owns how long an answer is waited for and what is said while the service is away: a call then fails at once, so that a
//! request goes on without recall. Who is away, and for how long, is found out in `memory/link.rs`; what messages mean is
//! weir-memory-live's `wire`.

mod link;

use link::{Client, Link};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::{Response, Status};
use weir_memory::upkeep::Erased;
use weir_memory::{Access, Batch, NodeId, RecallLimits, Written};
use weir_memory_live::{
    Asked, Attended, EMBED_BUDGET, Found, MemoryCalls, MemoryError, Presence, Recollection, Reply,
    STORE_BUDGET, Sought, wire,
};
use weir_plan::MemoryPlan;
use weir_proto::memory::v1;

/// Longest recall: what its three steps may take together.
const RECALL_BUDGET: Duration = EMBED_BUDGET.saturating_add(STORE_BUDGET.saturating_mul(2));

/// Longest other call, as for the service. Whoever waits for it may stop earlier.
const CALL_MAX: Duration = Duration::from_secs(120);

/// Which service is asked, and what it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryService {
    /// `https://` and its address.
    pub url: String,
    /// The folder of `ca.crt`, `tls.crt` and `tls.key`.
    pub tls: PathBuf,
    /// Name of the embedding model in the plan.
    pub embedding_model: String,
    /// Length of a vector in the plan.
    pub dimensions: usize,
}

impl MemoryService {
    /// The service that a plan names; `None` when it means a store of this process.
    pub fn of(plan: &MemoryPlan, tls: PathBuf) -> Option<Self> {
        Some(Self {
            url: plan.service.clone()?,
            tls,
            embedding_model: plan.embedding_model.clone(),
            dimensions: plan.dimensions,
        })
    }
}

/// A memory behind a service. It is followed in the background until it is dropped.
#[derive(Debug)]
pub struct RemoteMemory {
    link: Arc<Link>,
    following: tokio::task::JoinHandle<()>,
}

impl RemoteMemory {
    /// Begins to follow a service, which may be away. Needs a running tokio.
    pub fn new(service: MemoryService) -> Self {
        let link = Arc::new(Link::new(service));
        let following = tokio::spawn(Arc::clone(&link).follow());
        Self { link, following }
    }

    /// What is asked, so that another plan that means the same keeps the connection.
    pub fn service(&self) -> &MemoryService {
        self.link.service()
    }

    /// One call, unless the service is known to be away.
    async fn call<T, F>(
        &self,
        patience: Duration,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, MemoryError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let (client, connection) = self.link.client()?;
        match tokio::time::timeout(patience, call(client)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                let error = wire::error_of(&status);
                // What the service itself answers has no cause; a broken connection has.
                if error != MemoryError::Late && status.source().is_some() {
                    self.link.lost(connection, &status);
                    return Err(MemoryError::Away(link::UNREACHABLE.to_owned()));
                }
                Err(error)
            }
            Err(_) => Err(MemoryError::Late),
        }
    }
}

impl Drop for RemoteMemory {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl MemoryCalls for RemoteMemory {
    fn presence(&self) -> Presence {
        self.link.presence()
    }

    fn recall(&self, asked: Asked) -> Reply<'_, Recollection> {
        Box::pin(async move {
            let started = Instant::now();
            let request = wire::recall_request(asked);
            let work = |mut client: Client| async move { client.recall(request).await };
            let answer = self.call(RECALL_BUDGET, work).await;
            if answer == Err(MemoryError::Late) {
                // It does not even say that its steps were late: the next requests do not wait for it.
                self.link.silent();
            }
            let mut given = wire::read_recollection(answer?)?;
            // What the steps do not account for was the way there and back.
            let steps = given.spent.embed + given.spent.search + given.spent.attend;
            let way = started.elapsed().as_secs_f64() * 1e3 - steps;
            given.spent.search += way.max(0.0);
            Ok(given)
        })
    }

    fn search(&self, sought: Sought) -> Reply<'_, Found> {
        Box::pin(async move {
            let request = wire::search_request(sought);
            let work = |mut client: Client| async move { client.search(request).await };
            Ok(wire::read_found(self.call(CALL_MAX, work).await?)?)
        })
    }

    fn attend(&self, sought: Sought, limits: RecallLimits) -> Reply<'_, Attended> {
        Box::pin(async move {
            let request = wire::attend_request(sought, limits);
            let work = |mut client: Client| async move { client.attend(request).await };
            Ok(wire::read_attended(self.call(CALL_MAX, work).await?)?)
        })
    }

    fn write(&self, access: Access, batch: Batch) -> Reply<'_, Written> {
        Box::pin(async move {
            let request = wire::write_request(access, batch);
            let work = |mut client: Client| async move { client.write(request).await };
            Ok(wire::read_written(&self.call(CALL_MAX, work).await?))
        })
    }

    fn delete(&self, access: Access, id: NodeId) -> Reply<'_, bool> {
        Box::pin(async move {
            let request = wire::delete_request(access, id);
            let work = |mut client: Client| async move { client.delete_node(request).await };
            Ok(self.call(CALL_MAX, work).await?.deleted)
        })
    }

    fn erase(&self, access: Access, subject: String, tenant: Option<String>) -> Reply<'_, Erased> {
        Box::pin(async move {
            let request = wire::erase_request(access, subject, tenant);
            let work = |mut client: Client| async move { client.erase_subject(request).await };
            Ok(wire::read_erased(&self.call(CALL_MAX, work).await?)?)
        })
    }

    fn embed(&self, texts: Vec<String>) -> Reply<'_, Vec<Vec<f32>>> {
        Box::pin(async move {
            let request = v1::EmbedRequest { texts };
            let work = |mut client: Client| async move { client.embed(request).await };
            Ok(wire::read_vectors(self.call(CALL_MAX, work).await?))
        })
    }
}
