//! The stream to the operator: plans, endpoints and signs of life down, reports up, for as long as the gateway lives.
//!
//! It connects again whenever the stream ends, with the certificates that lie in the folder then. A lost operator costs
//! nothing but news: what is served stays. What a message does is `world.rs`, what is told is `report.rs`.

use crate::artifact::ARTIFACT_MAX;
use crate::backoff::Backoff;
use crate::first::mounted;
use crate::report::{Reports, report, revision};
use crate::tls::{Tls, TlsError};
use crate::world::World;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use weir_plan::{Revision, chain};
use weir_proto::control::v1::control_client::ControlClient;
use weir_proto::control::v1::{
    GatewayMessage, GetArtifactRequest, Hello, OperatorMessage, gateway_message, operator_message,
};

/// A connection that is not there after this long is given up, the greeting over TLS included; so is a stream that does not
/// begin.
const CONNECT: Duration = Duration::from_secs(3);
/// Pings, and how long an answer may take: a dead operator is noticed within their sum.
const PING_EVERY: Duration = Duration::from_millis(1500);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// A stream that lived this long was a good one: the next try comes soon.
const STEADY: Duration = Duration::from_secs(5);
/// How often it is looked whether there is something to report.
const LOOK_AT_LOAD: Duration = Duration::from_millis(250);
/// How often it is looked whether the certificates were renewed.
const LOOK_AT_TLS: Duration = Duration::from_secs(5);
/// How long an artifact may take, and how long until it is asked for again.
const ARTIFACT: Duration = Duration::from_secs(5);
/// Largest message of the operator: a plan of thousands of pools.
const MESSAGE_MAX: usize = 16 << 20;
/// Reports that may wait for the network; a later one replaces those that do not fit.
const OUTBOX: usize = 4;
/// How long the operator may take to end the stream of a gateway that leaves.
const GOODBYE: Duration = Duration::from_secs(1);

/// The gateway's end of the stream.
pub(crate) struct Control {
    /// Where the operator listens.
    pub(crate) operator: String,
    /// The folder of the certificates.
    pub(crate) tls: PathBuf,
    /// The mounted plan, which is looked at while the operator is away.
    pub(crate) plan: Option<PathBuf>,
    /// Name of the pod.
    pub(crate) pod: String,
    /// Random for this process.
    pub(crate) boot: String,
    pub(crate) world: World,
}

/// Why a stream ended or never began.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the operator cannot be reached at {url}")]
    Connect {
        url: String,
        source: tonic::transport::Error,
    },
    #[error("the operator accepted the connection and did not begin the stream within {CONNECT:?}")]
    Slow,
    #[error("the stream broke")]
    Broken(#[from] Status),
    #[error("the operator ended the stream")]
    Ended,
}

/// How a stream ended that nothing was wrong with.
enum End {
    /// The gateway leaves.
    Leaving,
    /// New certificates are there.
    Renewed,
}

/// An open stream.
struct Session {
    client: ControlClient<Channel>,
    incoming: Streaming<OperatorMessage>,
    outbox: mpsc::Sender<GatewayMessage>,
    reports: Reports,
    tls: Tls,
    fetching: Option<Fetching>,
    /// When the artifact that is missing may be asked for.
    fetch_after: Instant,
}

struct Fetching {
    sha256: String,
    task: JoinHandle<Result<Vec<u8>, Status>>,
}

impl Control {
    /// Follows the operator until `stop`.
    pub(crate) async fn follow(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new();
        while !stop.is_cancelled() {
            let error = match stop.run_until_cancelled(self.connect()).await {
                None => return,
                Some(Ok(mut session)) => {
                    tracing::info!(operator = self.operator, "the operator is connected");
                    let since = Instant::now();
                    let ended = self.talk(&mut session, &stop).await;
                    if since.elapsed() >= STEADY {
                        backoff = Backoff::new();
                    }
                    match ended {
                        Ok(End::Leaving) => return,
                        Ok(End::Renewed) => continue,
                        Err(error) => error,
                    }
                }
                Some(Err(error)) => error,
            };
            let wait = backoff.next();
            let error = chain(&error);
            tracing::warn!(error, ?wait, "the operator is away: what is served stays");
            self.look_at_mounted();
            stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
    }

    async fn connect(&self) -> Result<Session, StreamError> {
        let tls = Tls::read(&self.tls)?;
        let channel = timeout(CONNECT, channel(&self.operator, &tls)).await;
        let channel =
            channel
                .map_err(|_| StreamError::Slow)?
                .map_err(|source| StreamError::Connect {
                    url: self.operator.clone(),
                    source,
                })?;
        let mut client = ControlClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        let hello = Hello {
            pod: self.pod.clone(),
            boot: self.boot.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            serves: self.world.revision().map(revision),
        };
        // The channel is new, so there is room.
        let _ = outbox.try_send(message(gateway_message::Message::Hello(hello)));
        let opening = client.connect(ReceiverStream::new(outgoing));
        let opened = timeout(CONNECT, opening).await;
        let incoming = opened.map_err(|_| StreamError::Slow)??.into_inner();
        Ok(Session {
            client,
            incoming,
            outbox,
            reports: Reports::default(),
            tls,
            fetching: None,
            fetch_after: Instant::now(),
        })
    }

    async fn talk(
        &mut self,
        session: &mut Session,
        stop: &CancellationToken,
    ) -> Result<End, StreamError> {
        let (mut load, mut renewed) = (interval(LOOK_AT_LOAD), interval(LOOK_AT_TLS));
        load.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            session.fetch(self.world.missing());
            tokio::select! {
                () = stop.cancelled() => {
                    self.leave(session).await;
                    return Ok(End::Leaving);
                }
                received = session.incoming.message() => match received? {
                    Some(message) => self.take(message),
                    None => return Err(StreamError::Ended),
                },
                _ = load.tick() => session.report(&self.world),
                _ = renewed.tick() => if self.renewed(&session.tls) {
                    return Ok(End::Renewed);
                },
                (sha256, fetched) = fetched(&mut session.fetching) => {
                    session.fetching = None;
                    self.take_artifact(&sha256, fetched);
                }
            }
        }
    }

    fn take(&mut self, message: OperatorMessage) {
        let taken = match message.message {
            Some(operator_message::Message::Plan(plan)) => {
                let revision = read(plan.revision);
                let offered = self.world.offer(revision, &plan.plan_json);
                self.world.newest(revision);
                offered
            }
            Some(operator_message::Message::Endpoints(list)) => {
                let revision = read(list.revision);
                self.world
                    .endpoints(&list.pool, revision, &list.endpoints_json)
            }
            Some(operator_message::Message::Alive(alive)) => {
                self.world.newest(read(alive.revision));
                Ok(())
            }
            // A message that this version does not know.
            None => Ok(()),
        };
        if let Err(refusal) = taken {
            let (reason, error) = (refusal.reason(), chain(&refusal));
            tracing::error!(
                reason,
                error,
                "what the operator sent is refused, what is served stays"
            );
        }
    }

    fn take_artifact(&mut self, sha256: &str, fetched: Result<Vec<u8>, Status>) {
        let error = match fetched {
            Ok(bytes) => match self.world.artifact(sha256, &bytes) {
                Ok(()) => return,
                Err(error) => chain(&error),
            },
            Err(status) => status.to_string(),
        };
        tracing::error!(
            sha256,
            error,
            "the router artifact did not come: the present one decides on"
        );
    }

    /// Whether the folder holds other certificates than those in use. A folder that cannot be read now changes nothing.
    fn renewed(&self, tls: &Tls) -> bool {
        match Tls::read(&self.tls) {
            Ok(present) => present != *tls,
            Err(error) => {
                tracing::warn!(error = chain(&error), "the certificates are not renewed");
                false
            }
        }
    }

    /// The operator writes the mounted plan too, and that may arrive when the stream does not. It has the revision of the plan
    /// that it is a part of, so one that is newer than what is served was never heard here.
    fn look_at_mounted(&mut self) {
        let Some(Ok(plan)) = self.plan.as_deref().map(mounted) else {
            return;
        };
        if self
            .world
            .revision()
            .is_some_and(|serves| plan.revision <= serves)
        {
            return;
        }
        if let Err(refusal) = self.world.offer_read(plan) {
            tracing::error!(error = chain(&refusal), "the mounted plan is refused");
        }
    }

    /// Tells the last numbers and waits a moment for the operator to have them.
    async fn leave(&self, session: &mut Session) {
        let last = report(self.world.gateway(), self.world.revision());
        let _ = session
            .outbox
            .try_send(message(gateway_message::Message::Report(last)));
        // Our end of the stream ends with its sender.
        session.outbox = mpsc::channel(1).0;
        let ended = async { while let Ok(Some(_)) = session.incoming.message().await {} };
        let _ = timeout(GOODBYE, ended).await;
    }
}

impl Session {
    fn report(&mut self, world: &World) {
        let present = report(world.gateway(), world.revision());
        if let Some(due) = self.reports.due(present, Instant::now()) {
            // What does not fit is told by the next report.
            let _ = self
                .outbox
                .try_send(message(gateway_message::Message::Report(due)));
            // The next report says it, a second later.
            if let Some(gateway) = world.gateway() {
                gateway.want_pending_vectors();
            }
        }
    }

    /// Asks for an artifact that is missing, one at a time.
    fn fetch(&mut self, missing: Option<&str>) {
        let Some(sha256) = missing else {
            return;
        };
        if self.fetching.is_some() || Instant::now() < self.fetch_after {
            return;
        }
        self.fetch_after = Instant::now() + ARTIFACT;
        let sha256 = sha256.to_owned();
        let request = GetArtifactRequest {
            sha256: sha256.clone(),
        };
        let mut client = self
            .client
            .clone()
            .max_decoding_message_size(ARTIFACT_MAX + 1024);
        let task = tokio::spawn(async move {
            let asked = timeout(ARTIFACT, client.get_artifact(request)).await;
            let answered = asked.map_err(|_| Status::deadline_exceeded("no answer in time"))?;
            Ok(answered?.into_inner().onnx.to_vec())
        });
        self.fetching = Some(Fetching { sha256, task });
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The artifact that is being fetched; never while none is.
async fn fetched(fetching: &mut Option<Fetching>) -> (String, Result<Vec<u8>, Status>) {
    match fetching {
        Some(fetching) => {
            let fetched = (&mut fetching.task).await;
            let fetched = fetched.unwrap_or_else(|error| Err(Status::internal(error.to_string())));
            (fetching.sha256.clone(), fetched)
        }
        None => std::future::pending().await,
    }
}

async fn channel(url: &str, tls: &Tls) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(url.to_owned())?
        .tls_config(tls.client())?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect()
        .await
}

fn message(message: gateway_message::Message) -> GatewayMessage {
    let message = Some(message);
    GatewayMessage { message }
}

fn read(revision: Option<weir_proto::control::v1::Revision>) -> Revision {
    let revision = revision.unwrap_or_default();
    Revision {
        epoch: revision.epoch,
        counter: revision.counter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Places;
    use crate::world::fixture::{plan, revision};
    use weir_plan::GatewayPlan;

    #[tokio::test]
    async fn a_mounted_plan_is_taken_when_it_is_newer_than_what_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        let mut control = Control {
            operator: String::new(),
            tls: PathBuf::new(),
            plan: Some(path.clone()),
            pod: String::new(),
            boot: String::new(),
            world: World::new(Places::default(), true).0,
        };
        let mut look = |counter, gateway: &str| {
            let mounted = GatewayPlan {
                revision: revision(counter),
                ..plan(gateway)
            };
            std::fs::write(&path, serde_json::to_vec(&mounted).unwrap()).unwrap();
            control.look_at_mounted();
            let serving = control.world.gateway().unwrap().serving();
            serving.plan.gateway.clone()
        };
        assert_eq!(look(2, "first"), "first");
        assert_eq!(look(1, "older"), "first");
        assert_eq!(look(2, "the same place in the order"), "first");
        assert_eq!(look(3, "newer"), "newer");
    }
}
