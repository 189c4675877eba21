//! A gateway in a cluster from start to end: take the ports, find a plan, serve, follow the operator, leave.
//!
//! The order matters on the way out: first `/readyz` says no while requests still come (those who route need a moment to
//! hear of it), then nothing new is accepted and what is in flight finishes, then the operator hears the last numbers.

use crate::artifact::Artifacts;
use crate::control::Control;
use crate::files;
use crate::first::first;
use crate::https::{Certificates, Https};
use crate::last_good::LastGood;
use crate::waiting::Waiting;
use crate::world::{Places, World};
use axum::Router;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_gateway::{Gateway, Stop, prompt, serve_routes};
use weir_plan::chain;

/// What `weir gateway` was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The mounted plan; router artifacts lie beside it as `<sha256>.onnx`.
    pub plan: Option<PathBuf>,
    /// Whom to follow; without one the mounted plan is served as it is.
    pub operator: Option<Operator>,
    /// Where the last good plan and artifacts are kept.
    pub state: Option<PathBuf>,
    /// Where clients are answered.
    pub listen: SocketAddr,
    /// The folder of the `tls.crt` and `tls.key` with which clients are answered over HTTPS; without it they are over HTTP.
    pub https: Option<PathBuf>,
    /// Where metrics are read, when not where clients are answered.
    pub listen_metrics: Option<SocketAddr>,
    /// How long requests are still accepted while `/readyz` says no already.
    pub drain_lead: Duration,
    /// Name of the pod, in reports.
    pub pod: String,
}

/// The operator, from the gateway's side.
#[derive(Clone, Debug)]
pub struct Operator {
    /// `https://` and the address of the control stream.
    pub url: String,
    /// The folder of `ca.crt`, `tls.crt` and `tls.key`.
    pub tls: PathBuf,
}

/// Why a gateway ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state folder cannot be made.
    #[error("the state folder {path} cannot be made")]
    State {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A port cannot be taken.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nobody could send a plan, and none was found.
    #[error("there is no plan to serve and no operator to ask: {0}")]
    NoPlan(String),
    /// The plan cannot be served, and nobody could send another.
    #[error("the plan cannot be served and there is no operator to ask: {0}")]
    BadPlan(String),
    /// A listener failed.
    #[error("the listener failed")]
    Serve(#[from] io::Error),
}

/// A gateway that has its ports and serves nothing yet.
#[derive(Debug)]
pub struct Bound {
    options: Options,
    clients: Port,
    metrics: Option<Port>,
}

#[derive(Debug)]
struct Port {
    tcp: std::net::TcpListener,
    /// With what its connections are encrypted.
    https: Option<Arc<Certificates>>,
}

/// Takes the ports.
///
/// # Errors
/// One of them cannot be taken.
pub async fn bind(options: Options) -> Result<Bound, RunError> {
    let mut clients = Port::take(options.listen).await?;
    let https = options.https.as_deref();
    clients.https = https.map(|folder| Arc::new(Certificates::of(folder)));
    let metrics = match options.listen_metrics {
        Some(address) => Some(Port::take(address).await?),
        None => None,
    };
    Ok(Bound {
        options,
        clients,
        metrics,
    })
}

impl Bound {
    /// Where clients are answered.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.clients.tcp.local_addr()
    }

    /// Where metrics are read, when that is a port of its own.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn metrics_address(&self) -> io::Result<Option<SocketAddr>> {
        let port = self.metrics.as_ref();
        port.map(|port| port.tcp.local_addr()).transpose()
    }

    /// Serves until it is told to leave and has left.
    ///
    /// # Errors
    /// There is nothing to serve, or a listener failed.
    pub async fn run(self, stop: Stop) -> Result<(), RunError> {
        let (follower, made) = self.open()?;
        let following = CancellationToken::new();
        let follower = tokio::spawn(follower.follow(following.clone()));
        let served = tokio::select! {
            served = self.serve(made, &stop) => served,
            () = stop.now.cancelled() => Ok(()),
        };
        following.cancel();
        let _ = stop.now.run_until_cancelled(follower).await;
        served
    }

    /// Finds a plan to begin with and who changes it.
    fn open(&self) -> Result<(Follower, watch::Receiver<Option<Gateway>>), RunError> {
        let options = &self.options;
        if let Some(path) = &options.state {
            files::make_folder(path).map_err(|source| RunError::State {
                path: path.clone(),
                source,
            })?;
        }
        let last_good = options.state.as_deref().map(LastGood::within);
        let (plan, wrong) = first(options.plan.as_deref(), last_good.as_ref());
        for wrong in &wrong {
            tracing::error!("{wrong}");
        }
        let beside = options.plan.as_ref().and_then(|plan| plan.parent());
        let places = Places {
            artifacts: Artifacts {
                mounted: beside.map(Into::into),
                kept: options.state.as_ref().map(|state| state.join("routers")),
            },
            last_good,
            state: options.state.clone(),
            tls: options
                .operator
                .as_ref()
                .map(|operator| operator.tls.clone()),
        };
        let (mut world, made) = World::new(places, options.operator.is_some());
        let refused = match plan {
            Some(plan) => world.offer_read(plan).err().map(|refusal| chain(&refusal)),
            None if options.operator.is_none() => {
                return Err(RunError::NoPlan(wrong.join("; ")));
            }
            None => None,
        };
        if let Some(refusal) = refused {
            tracing::error!("{refusal}");
            if options.operator.is_none() {
                return Err(RunError::BadPlan(refusal));
            }
        }
        let control = options.operator.as_ref().map(|operator| Control {
            operator: operator.url.clone(),
            tls: operator.tls.clone(),
            plan: options.plan.clone(),
            pod: options.pod.clone(),
            boot: uuid::Uuid::new_v4().to_string(),
            world,
        });
        Ok((Follower(control), made))
    }

    /// While there is no plan, answers on every port.
    fn wait(&self, made: &watch::Receiver<Option<Gateway>>) -> io::Result<Vec<Waiting>> {
        if made.borrow().is_some() {
            return Ok(Vec::new());
        }
        tracing::warn!("there is no plan to serve yet: the operator is asked for one");
        let ports = std::iter::once(&self.clients).chain(&self.metrics);
        ports.map(Port::wait).collect()
    }

    async fn serve(
        self,
        mut made: watch::Receiver<Option<Gateway>>,
        stop: &Stop,
    ) -> Result<(), RunError> {
        let waiting = self.wait(&made)?;
        let gateway = tokio::select! {
            first = made.wait_for(Option::is_some) => first.ok().and_then(|first| first.clone()),
            () = stop.drain.cancelled() => None,
        };
        let Some(gateway) = gateway else {
            return Ok(());
        };
        let Self {
            options,
            clients,
            metrics,
        } = self;
        let (routes, operations) = match &metrics {
            Some(_) => {
                let (routes, operations) = gateway.http_apart();
                (routes, Some(operations))
            }
            None => (gateway.http(), None),
        };
        let answers = std::iter::once(&routes).chain(&operations);
        for (waiting, routes) in waiting.into_iter().zip(answers) {
            waiting.hand_over(routes.clone());
        }
        let accepting = CancellationToken::new();
        let observed = CancellationToken::new();
        let mut clients = spawn(&gateway, routes, clients, &accepting)?;
        let operations = metrics
            .zip(operations)
            .map(|(port, operations)| spawn(&gateway, operations, port, &observed))
            .transpose()?;
        tokio::select! {
            ended = &mut clients => return Ok(ended.map_err(io::Error::other)?),
            () = stop.drain.cancelled() => {}
        }
        let lead = options.drain_lead;
        tracing::info!(
            ?lead,
            "leaving: not ready any more, requests are still answered"
        );
        gateway.drain();
        tokio::time::sleep(lead).await;
        tracing::info!("leaving: no new connections, what is in flight finishes");
        accepting.cancel();
        let ended = clients.await;
        observed.cancel();
        // A connection that reads metrics is not waited for.
        drop(operations);
        Ok(ended.map_err(io::Error::other)?)
    }
}

/// Who changes what is served: an operator, or nobody.
struct Follower(Option<Control>);

impl Follower {
    async fn follow(self, stop: CancellationToken) {
        if let Some(control) = self.0 {
            control.follow(stop).await;
        }
    }
}

impl Port {
    async fn take(address: SocketAddr) -> Result<Self, RunError> {
        let taken = async { TcpListener::bind(address).await?.into_std() };
        taken
            .await
            .map(|tcp| Self { tcp, https: None })
            .map_err(|source| RunError::Listen { address, source })
    }

    /// A second listener on the port: connections that one of them does not accept wait for the other.
    fn wait(&self) -> io::Result<Waiting> {
        let listener = TcpListener::from_std(self.tcp.try_clone()?)?;
        match &self.https {
            Some(certificates) => Waiting::on(Https::on(listener, Arc::clone(certificates))?),
            None => Waiting::on(listener),
        }
    }
}

fn spawn(
    gateway: &Gateway,
    routes: Router,
    port: Port,
    stop: &CancellationToken,
) -> io::Result<JoinHandle<()>> {
    // Nobody else holds the port, so it is closed when this listener is.
    let listener = TcpListener::from_std(port.tcp)?;
    let (gateway, stop) = (gateway.clone(), stop.clone());
    Ok(match port.https {
        Some(certificates) => {
            let listener = Https::on(listener, certificates)?;
            tokio::spawn(serve_routes(gateway, routes, listener, stop))
        }
        None => tokio::spawn(serve_routes(gateway, routes, prompt(listener), stop)),
    })
}
