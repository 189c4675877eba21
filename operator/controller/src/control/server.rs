//! The control service: one stream per gateway process, artifacts by digest, progress of downloads.
//!
//! The leader serves; a follower passes streams on to it (`relay.rs`) and never makes a plan. A stream ends when
//! leadership changes: the gateway connects again, says what it has and gets what it lacks. A gateway that does not
//! read is cut off, so that it holds no memory here.

use crate::cache::{Caches, get};
use crate::control::caller::{self, GatewayId};
use crate::control::fetches::{Fetches, is_from};
use crate::control::ledger::{Ledger, Process};
use crate::control::plans::{Plans, Published, Subscription, Told, revision};
use crate::control::relay::Relay;
use crate::key::{Key, Kind};
use crate::lease::Leadership;
use crate::queue::Queue;
use bytes::Bytes;
use futures_util::Stream;
use sha2::{Digest, Sha256};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weir_proto::control::v1::control_server::Control;
use weir_proto::control::v1::{
    Alive, Artifact, FetchAcknowledged, FetchProgress, GatewayMessage, GetArtifactRequest,
    OperatorMessage, gateway_message, operator_message,
};

/// How often a leader says that it lives. A gateway stops candidates after ten seconds without.
const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// A gateway that does not take a message for this long is cut off.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// A gateway says hello at once.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages on the way to one gateway.
const BUFFER: usize = 64;

/// What goes down one stream.
pub(crate) type Down = Pin<Box<dyn Stream<Item = Result<OperatorMessage, Status>> + Send>>;

/// What the control service knows and keeps.
#[derive(Default)]
pub(crate) struct Hub {
    pub(crate) plans: Plans,
    pub(crate) fetches: Fetches,
    ledger: Mutex<Ledger>,
}

/// The control service.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) hub: Arc<Hub>,
    pub(crate) caches: Arc<Caches>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    /// The operator's own name in certificates.
    pub(crate) own: String,
    pub(crate) relay: Arc<Relay>,
    /// Where a pool whose download moved on is put.
    pub(crate) queue: Arc<Queue>,
}

impl Hub {
    /// The reports.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl Control for Service {
    type ConnectStream = Down;

    async fn connect(
        &self,
        request: Request<Streaming<GatewayMessage>>,
    ) -> Result<Response<Down>, Status> {
        let gateway = caller::gateway(&request, &self.own)?;
        let leadership = self.leadership.borrow().clone();
        let epoch = match leadership {
            Leadership::Leader { epoch } => epoch,
            Leadership::Follower { leader } => {
                return self
                    .relay
                    .connect(leader, &gateway, request.into_inner())
                    .await;
            }
        };
        let mut up = request.into_inner();
        let process = hello(&mut up).await?;
        let now = Instant::now();
        self.hub.ledger().connected(&gateway, &process, now);
        tracing::info!(gateway = %gateway.uri(), pod = process.pod, "a gateway connected");
        let (sender, receiver) = mpsc::channel(BUFFER);
        let session = Session {
            service: self.clone(),
            gateway,
            process,
            epoch,
            sender,
            told: Told::default(),
        };
        tokio::spawn(session.run(up));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_artifact(
        &self,
        request: Request<GetArtifactRequest>,
    ) -> Result<Response<Artifact>, Status> {
        let gateway = caller::gateway(&request, &self.own)?;
        let leadership = self.leadership.borrow().clone();
        if let Leadership::Follower { leader } = leadership {
            let request = request.into_inner();
            return self.relay.get_artifact(leader, &gateway, request).await;
        }
        let sha256 = request.into_inner().sha256;
        let named = self.hub.plans.get(&gateway);
        if !named.is_some_and(|published| published.artifacts.contains(&sha256)) {
            return Err(Status::permission_denied(
                "no plan of this gateway names the artifact",
            ));
        }
        let onnx = artifact(&self.caches, &gateway.namespace, &sha256)
            .ok_or_else(|| Status::not_found("the artifact is not there yet"))?;
        Ok(Response::new(Artifact { onnx }))
    }

    async fn report_fetch(
        &self,
        request: Request<FetchProgress>,
    ) -> Result<Response<FetchAcknowledged>, Status> {
        let address = caller::address(&request, &self.own)
            .ok_or_else(|| Status::unauthenticated("the address of the caller is not known"))?;
        let leadership = self.leadership.borrow().clone();
        if let Leadership::Follower { leader } = leadership {
            let progress = request.into_inner();
            return self.relay.report_fetch(leader, address, progress).await;
        }
        let progress = request.into_inner();
        let pod = get(&self.caches.pods, &progress.namespace, &progress.pod);
        if !pod.is_some_and(|pod| is_from(&pod, &progress.pool, address)) {
            return Err(Status::permission_denied(
                "the call does not come from the pod that it names",
            ));
        }
        let pool = Key::new(Kind::ModelPool, &progress.namespace, &progress.pool);
        self.hub.fetches.note(progress);
        self.queue.add(pool);
        Ok(Response::new(FetchAcknowledged {}))
    }
}

/// Waits for the first message, which says which process speaks.
async fn hello(up: &mut Streaming<GatewayMessage>) -> Result<Process, Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, up.message()).await;
    let first =
        first.map_err(|_| Status::deadline_exceeded("the first message must be a hello"))?;
    match first?.and_then(|message| message.message) {
        Some(gateway_message::Message::Hello(hello)) => Ok(Process {
            pod: hello.pod,
            boot: hello.boot,
        }),
        _ => Err(Status::invalid_argument(
            "the first message must be a hello",
        )),
    }
}

/// The bytes of a verified artifact, from the ConfigMap that keeps them.
fn artifact(caches: &Caches, namespace: &str, sha256: &str) -> Option<Bytes> {
    let name = weir_reconcile::names::router(sha256);
    let kept: k8s_openapi::api::core::v1::ConfigMap =
        caches.typed("ConfigMap", namespace, &name)?;
    let mut entries = kept.binary_data?.into_values();
    let bytes = entries.find(|bytes| hex::encode(Sha256::digest(&bytes.0)) == sha256)?;
    Some(Bytes::from(bytes.0))
}

/// One gateway process that is connected.
struct Session {
    service: Service,
    gateway: GatewayId,
    process: Process,
    epoch: u64,
    sender: mpsc::Sender<Result<OperatorMessage, Status>>,
    told: Told,
}

impl Session {
    async fn run(mut self, up: Streaming<GatewayMessage>) {
        let plans = self.service.hub.plans.subscribe(&self.gateway);
        let end = self.serve(up, plans).await;
        if let Err(status) = end {
            // The gateway may be gone already.
            let _ = self.sender.try_send(Err(status));
        }
        let mut ledger = self.service.hub.ledger();
        ledger.disconnected(&self.gateway, &self.process);
        tracing::info!(gateway = %self.gateway.uri(), pod = self.process.pod, "a gateway left");
    }

    async fn serve(
        &mut self,
        mut up: Streaming<GatewayMessage>,
        mut plans: Subscription,
    ) -> Result<(), Status> {
        let mut leadership = self.service.leadership.clone();
        let mut alive = tokio::time::interval(ALIVE_EVERY);
        plans.mark_changed();
        loop {
            tokio::select! {
                message = up.message() => match message? {
                    Some(message) => self.hear(message),
                    None => return Ok(()),
                },
                changed = plans.changed() => {
                    changed.map_err(|_| Status::unavailable("the operator ends"))?;
                    let published = plans.borrow_and_update().clone();
                    self.tell(published.as_deref()).await?;
                }
                _ = alive.tick() => {
                    let published = plans.borrow().clone();
                    self.say_alive(published.as_deref()).await?;
                }
                _ = leadership.changed() => {}
            }
            if leadership.borrow().epoch() != Some(self.epoch) {
                return Err(Status::unavailable(
                    "this operator no longer leads: connect again",
                ));
            }
        }
    }

    fn hear(&self, message: GatewayMessage) {
        let Some(gateway_message::Message::Report(report)) = message.message else {
            return;
        };
        // What gateways counted of an attempt may decide it.
        let (namespace, known) = (&self.gateway.namespace, &self.service.caches.rollouts);
        let attempts = report.rollouts.iter().map(|evidence| &evidence.rollout);
        let attempts = attempts.filter(|name| get(known, namespace, name).is_some());
        let attempts = attempts.map(|name| Key::new(Kind::RouterRollout, namespace, name));
        let attempts: Vec<Key> = attempts.collect();
        let mut ledger = self.service.hub.ledger();
        ledger.report(&self.gateway, &self.process, report, Instant::now());
        drop(ledger);
        for attempt in attempts {
            self.service.queue.add(attempt);
        }
    }

    /// Tells what is new. What a former leader published here is not told as this one's.
    async fn tell(&mut self, published: Option<&Published>) -> Result<(), Status> {
        let Some(published) = published.filter(|p| p.revision.epoch == self.epoch) else {
            return Ok(());
        };
        for message in self.told.catch_up(published) {
            self.send(message).await?;
        }
        Ok(())
    }

    /// Confirms the plan that is this leader's own. One that another leader made is left to grow stale.
    async fn say_alive(&self, published: Option<&Published>) -> Result<(), Status> {
        let own = |p: &&Published| p.revision.epoch == self.epoch && p.plan.is_some();
        let Some(published) = published.filter(own) else {
            return Ok(());
        };
        let alive = Alive {
            revision: Some(revision(published.revision)),
        };
        let message = Some(operator_message::Message::Alive(alive));
        self.send(OperatorMessage { message }).await
    }

    async fn send(&self, message: OperatorMessage) -> Result<(), Status> {
        let sent = tokio::time::timeout(SEND_TIMEOUT, self.sender.send(Ok(message))).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the gateway is gone")),
            Err(_) => Err(Status::deadline_exceeded("the gateway does not read")),
        }
    }
}
