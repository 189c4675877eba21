//! The calls: a message into a call of the live memory, its answer into a message, each counted and timed.
//!
//! Decides nothing: what a caller may do is the store's, what a message means is weir-memory-live's `wire`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::Notify;
use tonic::{Code, Request, Response, Status};
use weir_memory::Tuning;
use weir_memory_live::{MemoryCalls, UpkeepCounts, Upkept, wire};
use weir_proto::memory::v1;

use crate::metrics::Metrics;
use crate::served::Served;

/// Most texts of one call, as for OpenAI.
const TEXTS_MAX: usize = 2048;

/// The service.
pub(crate) struct Calls {
    store: Served,
    memory: Arc<dyn MemoryCalls>,
    /// New passages wait for vectors.
    wake: Arc<Notify>,
    /// Passages that get no vector.
    given_up: Arc<AtomicUsize>,
    upkept: Arc<Upkept>,
    metrics: Arc<Metrics>,
}

impl Calls {
    pub(crate) fn new(
        store: Served,
        memory: Arc<dyn MemoryCalls>,
        (wake, given_up, upkept): (Arc<Notify>, Arc<AtomicUsize>, Arc<Upkept>),
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            memory,
            wake,
            given_up,
            upkept,
            metrics,
        }
    }

    /// Answers a call, counted by its name and how it ended.
    async fn answer<T>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<Response<T>, Status> {
        let started = Instant::now();
        let done = work.await;
        let code = done.as_ref().map_or_else(Status::code, |_| Code::Ok);
        if let Err(status) = &done
            && code == Code::Internal
        {
            tracing::error!(call = name, "{}", status.message());
        }
        self.metrics.called(name, code, started.elapsed());
        done.map(Response::new)
    }
}

fn tuning(tuning: Tuning) -> v1::Tuning {
    v1::Tuning {
        recall: tuning.recall,
        target: tuning.target,
        ef_search: u32::try_from(tuning.ef_search).unwrap_or(u32::MAX),
        measured_at_ms: tuning.measured_at,
    }
}

fn pruned(counts: &UpkeepCounts) -> v1::Pruned {
    v1::Pruned {
        edges: counts.edges(),
        traces: counts.traces,
    }
}

#[tonic::async_trait]
impl v1::memory_server::Memory for Calls {
    async fn describe(
        &self,
        _: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::Description>, Status> {
        let work = async {
            let (counts, (model, dimensions)) = (self.store.counts(), self.store.identity());
            let (behind, lag) = self.store.behind().unwrap_or_default();
            // Gateways want the embedder's pool while some wait: for one that is not tried again it would never go to zero.
            let given_up = self.given_up.load(Ordering::Relaxed);
            Ok(v1::Description {
                embedding_model: model.to_owned(),
                dimensions: u32::try_from(dimensions).unwrap_or(u32::MAX),
                nodes: counts.nodes as u64,
                edges: counts.edges as u64,
                vectors: counts.vectors as u64,
                pending: counts.pending.saturating_sub(given_up) as u64,
                generation: self.store.generation(),
                tuning: self.store.tuning().map(tuning),
                pruned: Some(pruned(&self.upkept.counts())),
                summaries: self.store.summaries() as u64,
                away: self.store.away().unwrap_or_default(),
                behind: behind as u64,
                lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
            })
        };
        self.answer("Describe", work).await
    }

    async fn recall(
        &self,
        request: Request<v1::RecallRequest>,
    ) -> Result<Response<v1::Recollection>, Status> {
        let work = async {
            let asked = wire::asked(request.into_inner())?;
            let given = self.memory.recall(asked).await.map_err(wire::status_of)?;
            Ok(wire::recollection(given))
        };
        self.answer("Recall", work).await
    }

    async fn search(
        &self,
        request: Request<v1::SearchRequest>,
    ) -> Result<Response<v1::SearchReply>, Status> {
        let work = async {
            let sought = wire::sought(request.into_inner())?;
            let found = self.memory.search(sought).await.map_err(wire::status_of)?;
            Ok(wire::search_reply(found))
        };
        self.answer("Search", work).await
    }

    async fn attend(
        &self,
        request: Request<v1::AttendRequest>,
    ) -> Result<Response<v1::AttendReply>, Status> {
        let work = async {
            let (sought, limits) = wire::read_attend(request.into_inner())?;
            let attended = self.memory.attend(sought, limits).await;
            Ok(wire::attend_reply(attended.map_err(wire::status_of)?))
        };
        self.answer("Attend", work).await
    }

    async fn write(
        &self,
        request: Request<v1::WriteRequest>,
    ) -> Result<Response<v1::Written>, Status> {
        let work = async {
            let (access, batch) = wire::read_write(request.into_inner())?;
            let written = self.memory.write(access, batch).await;
            let written = written.map_err(wire::status_of)?;
            self.wake.notify_one();
            Ok(wire::written(written))
        };
        self.answer("Write", work).await
    }

    async fn delete_node(
        &self,
        request: Request<v1::DeleteNodeRequest>,
    ) -> Result<Response<v1::DeleteNodeReply>, Status> {
        let work = async {
            let (access, id) = wire::read_delete(request.into_inner())?;
            let deleted = self.memory.delete(access, id).await;
            let deleted = deleted.map_err(wire::status_of)?;
            Ok(v1::DeleteNodeReply { deleted })
        };
        self.answer("DeleteNode", work).await
    }

    async fn erase_subject(
        &self,
        request: Request<v1::EraseSubjectRequest>,
    ) -> Result<Response<v1::Erased>, Status> {
        let work = async {
            let (access, subject, tenant) = wire::read_erase(request.into_inner())?;
            let erased = self.memory.erase(access, subject, tenant).await;
            Ok(wire::erased(&erased.map_err(wire::status_of)?))
        };
        self.answer("EraseSubject", work).await
    }

    async fn embed(
        &self,
        request: Request<v1::EmbedRequest>,
    ) -> Result<Response<v1::EmbedReply>, Status> {
        let work = async {
            let texts = request.into_inner().texts;
            if texts.is_empty() || texts.len() > TEXTS_MAX {
                let message = format!("{} texts: send 1 to {TEXTS_MAX}", texts.len());
                return Err(Status::invalid_argument(message));
            }
            let vectors = self.memory.embed(texts).await;
            Ok(wire::embed_reply(vectors.map_err(wire::status_of)?))
        };
        self.answer("Embed", work).await
    }
}
