//! The operator's end of the control stream, as far as a gateway sees it.

use crate::certs::{Authority, Identity};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use weir_plan::{Endpoint, GatewayPlan, Revision};
use weir_proto::control::v1 as wire;
use weir_proto::control::v1::control_server::{Control, ControlServer};
use weir_proto::control::v1::{gateway_message, operator_message};

/// An operator that can be killed: its tasks and sockets are its own.
pub(crate) struct Operator {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct State {
    /// Sent to whoever connects.
    greeting: Mutex<Vec<operator_message::Message>>,
    streams: Mutex<Vec<mpsc::UnboundedSender<Result<wire::OperatorMessage, Status>>>>,
    artifacts: Mutex<HashMap<String, Vec<u8>>>,
    hellos: watch::Sender<Vec<wire::Hello>>,
    reports: watch::Sender<Vec<wire::Report>>,
    asked: watch::Sender<Vec<String>>,
    ended: watch::Sender<usize>,
}

struct Service(Arc<State>);

/// Takes the port, which an operator that was killed in the background may still hold for a moment.
fn bind(address: SocketAddr) -> std::net::TcpListener {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match std::net::TcpListener::bind(address) {
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            bound => return bound.unwrap(),
        }
    }
}

impl Operator {
    /// An operator at a free port of this machine.
    pub(crate) fn start(authority: &Authority) -> Self {
        Self::start_at(
            "127.0.0.1:0".parse().unwrap(),
            authority,
            &authority.server(),
        )
    }

    /// An operator that trusts `authority` and shows `identity`.
    pub(crate) fn start_at(
        address: SocketAddr,
        authority: &Authority,
        identity: &Identity,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let state = Arc::new(State::default());
        let listener = bind(address);
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let tls = ServerTlsConfig::new()
            .identity(tonic::transport::Identity::from_pem(
                &identity.certificate,
                &identity.key,
            ))
            .client_ca_root(Certificate::from_pem(authority.pem()));
        let service = ControlServer::new(Service(Arc::clone(&state)));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let server = Server::builder().tls_config(tls).unwrap();
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let mut server = server;
            server
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self {
            address,
            state,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Every connection breaks, and nothing listens any more.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Sends a message to whoever is connected and to whoever connects later.
    pub(crate) fn send(&self, message: operator_message::Message) {
        self.state.greeting.lock().unwrap().push(message.clone());
        let message = Some(message);
        let streams = self.state.streams.lock().unwrap();
        for stream in streams.iter() {
            let message = message.clone();
            let _ = stream.send(Ok(wire::OperatorMessage { message }));
        }
    }

    pub(crate) fn send_plan(&self, plan: &GatewayPlan) {
        self.send(operator_message::Message::Plan(wire::Plan {
            revision: Some(revision(plan.revision)),
            plan_json: serde_json::to_vec(plan).unwrap().into(),
        }));
    }

    pub(crate) fn send_endpoints(&self, pool: &str, counter: u64, urls: &[&str]) {
        let endpoints: Vec<Endpoint> = urls.iter().map(|url| Endpoint::keyless(url)).collect();
        self.send(operator_message::Message::Endpoints(wire::Endpoints {
            revision: Some(revision(Revision { epoch: 1, counter })),
            pool: pool.to_owned(),
            endpoints_json: serde_json::to_vec(&endpoints).unwrap().into(),
        }));
    }

    pub(crate) fn serve_artifact(&self, sha256: &str, bytes: &[u8]) {
        let mut artifacts = self.state.artifacts.lock().unwrap();
        artifacts.insert(sha256.to_owned(), bytes.to_vec());
    }

    /// Waits for so many connections; what the last one said first.
    pub(crate) async fn hello(&self, count: usize) -> wire::Hello {
        let hellos = until(&self.state.hellos, |hellos| hellos.len() >= count).await;
        hellos.last().unwrap().clone()
    }

    /// Waits until the newest report says something.
    pub(crate) async fn report(&self, says: impl Fn(&wire::Report) -> bool) -> wire::Report {
        let said = |reports: &Vec<wire::Report>| reports.last().is_some_and(&says);
        let reports = until(&self.state.reports, said).await;
        reports.last().unwrap().clone()
    }

    /// Waits until a gateway has asked for artifacts this often.
    pub(crate) async fn asked(&self, count: usize) -> Vec<String> {
        until(&self.state.asked, |asked| asked.len() >= count).await
    }

    /// Waits until so many gateways have ended their stream.
    pub(crate) async fn ended(&self, count: usize) {
        until(&self.state.ended, |ended| *ended >= count).await;
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.end();
    }
}

/// The load of a pool in a report; all zeros when it is not there.
pub(crate) fn load(report: &wire::Report, pool: &str) -> wire::PoolLoad {
    let found = report.pools.iter().find(|load| load.pool == pool);
    found.cloned().unwrap_or_default()
}

async fn until<T: Clone>(sender: &watch::Sender<T>, reached: impl FnMut(&T) -> bool) -> T {
    let mut receiver = sender.subscribe();
    let reached = receiver.wait_for(reached);
    let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
    reached.unwrap().unwrap().clone()
}

fn revision(revision: Revision) -> wire::Revision {
    wire::Revision {
        epoch: revision.epoch,
        counter: revision.counter,
    }
}

#[tonic::async_trait]
impl Control for Service {
    type ConnectStream = UnboundedReceiverStream<Result<wire::OperatorMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<wire::GatewayMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let state = Arc::clone(&self.0);
        let (sender, receiver) = mpsc::unbounded_channel();
        for message in state.greeting.lock().unwrap().iter() {
            let message = Some(message.clone());
            let _ = sender.send(Ok(wire::OperatorMessage { message }));
        }
        state.streams.lock().unwrap().push(sender.clone());
        tokio::spawn(async move {
            let mut incoming = request.into_inner();
            let mut alive = tokio::time::interval(Duration::from_secs(1));
            loop {
                tokio::select! {
                    message = incoming.message() => match message {
                        Ok(Some(message)) => state.take(message),
                        Ok(None) => break,
                        Err(_) => return,
                    },
                    _ = alive.tick() => {
                        let alive = wire::Alive { revision: state.newest() };
                        let message = Some(operator_message::Message::Alive(alive));
                        let _ = sender.send(Ok(wire::OperatorMessage { message }));
                    }
                }
            }
            state.ended.send_modify(|ended| *ended += 1);
        });
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }

    async fn get_artifact(
        &self,
        request: Request<wire::GetArtifactRequest>,
    ) -> Result<Response<wire::Artifact>, Status> {
        let sha256 = request.into_inner().sha256;
        self.0.asked.send_modify(|asked| asked.push(sha256.clone()));
        let artifacts = self.0.artifacts.lock().unwrap();
        match artifacts.get(&sha256) {
            Some(onnx) => Ok(Response::new(wire::Artifact {
                onnx: onnx.clone().into(),
            })),
            None => Err(Status::not_found("no such artifact")),
        }
    }

    async fn report_fetch(
        &self,
        _: Request<wire::FetchProgress>,
    ) -> Result<Response<wire::FetchAcknowledged>, Status> {
        Err(Status::unimplemented("gateways fetch no models"))
    }
}

impl State {
    /// The revision of the last plan that was sent.
    fn newest(&self) -> Option<wire::Revision> {
        let sent = self.greeting.lock().unwrap();
        sent.iter().rev().find_map(|message| match message {
            operator_message::Message::Plan(plan) => plan.revision,
            _ => None,
        })
    }

    fn take(&self, message: wire::GatewayMessage) {
        match message.message {
            Some(gateway_message::Message::Hello(hello)) => {
                self.hellos.send_modify(|hellos| hellos.push(hello));
            }
            Some(gateway_message::Message::Report(report)) => {
                self.reports.send_modify(|reports| reports.push(report));
            }
            None => {}
        }
    }
}
