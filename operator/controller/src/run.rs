//! Bringing everything together and ending it again.
//!
//! Watches and the control stream run in every process, so that a follower can lead at once; writing is the leader's.
//! The end is a signal: streams are closed, the lease is given back, and nothing is left half written, since every
//! write is one call.

use crate::apply::Applier;
use crate::artifacts::Artifacts;
use crate::authority::Keeper;
use crate::benchmark::Benchmarks;
use crate::ca_bundle::CaBundle;
use crate::cache::{Caches, OnChange, Scope};
use crate::change::Change;
use crate::cluster::Cluster;
use crate::collect::Collector;
use crate::context::{Context, Stacks, namespaces};
use crate::control::caller::operator_uri;
use crate::control::relay::{OwnTls, Relay};
use crate::control::server::{Hub, Service};
use crate::describe::Descriptions;
use crate::events::Events;
use crate::http::{self, Health};
use crate::key::{Key, Kind};
use crate::lease::{Election, Leadership, Term, Timing};
use crate::options::Options;
use crate::pki::Identity;
use crate::publisher::{self, Dirty};
use crate::queue::Queue;
use crate::reach::Reaches;
use crate::readers::readers;
use crate::router_rollout::Attempts;
use crate::status::Statuses;
use crate::{autoscale, control, worker};
use kube::{Api, Client, ResourceExt};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weir_proto::control::v1::control_server::ControlServer;
use weir_reconcile::Platform;

/// How often what is gone is forgotten.
const SWEEP: Duration = Duration::from_secs(5);

/// Why the operator could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No cluster to talk to.
    #[error("find a cluster: {0}")]
    Cluster(#[source] Box<kube::Error>),
    /// No client for servers outside.
    #[error("prepare HTTPS: {0}")]
    Https(#[source] reqwest::Error),
    /// A port that is taken, most likely.
    #[error("listen at {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file of certificate authorities cannot be read.
    #[error("read the certificate authorities of {}: {source}", file.display())]
    CaBundle {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another recorder of metrics runs in this process.
    #[error("metrics are recorded already")]
    Metrics,
    /// A part that must live as long as the process ended.
    #[error("a part of the operator ended: see its log")]
    Ended,
}

/// What every part is made from.
struct Parts {
    options: Options,
    ca_bundle: Arc<CaBundle>,
    cluster: Cluster,
    caches: Arc<Caches>,
    stacks: Arc<Stacks>,
    queue: Arc<Queue>,
    dirty: Arc<Dirty>,
    hub: Arc<Hub>,
    keeper: Arc<Keeper>,
    leadership: watch::Receiver<Leadership>,
    stop: CancellationToken,
}

/// Runs the operator until `stop`.
///
/// # Errors
/// When it cannot start, or a part of it ended by itself.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), RunError> {
    let client = Client::try_default().await;
    let client = client.map_err(|source| RunError::Cluster(Box::new(source)))?;
    let file = options.ca_bundle.clone();
    let ca_bundle = CaBundle::read(file.clone()).map_err(|source| RunError::CaBundle {
        file: file.unwrap_or_default(),
        source,
    })?;
    let reaches = Arc::new(Reaches::new().map_err(RunError::Https)?);
    let metrics = http::record().ok_or(RunError::Metrics)?;
    let control_listener = listen(options.listen_control).await?;
    let metrics_listener = listen(options.listen_metrics).await?;
    let (elected, leadership) = watch::channel(Leadership::Follower { leader: None });
    let term = Term::default();
    let cluster = Cluster::new(client, leadership.clone()).during(term.clone());
    let mut tasks = JoinSet::new();
    let started = (options, ca_bundle);
    let parts = parts(started, cluster, (leadership, stop.clone()), &mut tasks);
    let election = tokio::spawn(election(&parts, term).run(elected, stop.clone()));
    let filled = Arc::new(AtomicBool::new(false));
    let health = Health {
        caches: parts.caches.clone(),
        queue: parts.queue.clone(),
        hub: parts.hub.clone(),
        leadership: parts.leadership.clone(),
        tls: parts.keeper.tls(),
        filled: filled.clone(),
        metrics,
    };
    let serving = http::serve(metrics_listener, health, stop.clone());
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "health is not served any more");
        }
    });
    let keeper = parts.keeper.clone();
    let stopping = stop.clone();
    tasks.spawn(async move { keeper.run(stopping).await });
    tasks.spawn(serve_control(&parts, control_listener));
    tokio::select! {
        () = stop.cancelled() => {}
        () = parts.caches.filled() => {
            filled.store(true, Ordering::Relaxed);
            start_work(&parts, reaches, &mut tasks);
        }
    }
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        _ = tasks.join_next() => Err(RunError::Ended),
    };
    stop.cancel();
    // The lease is given back before this process ends, so that the next leader need not wait for it to run out.
    let _ = election.await;
    tasks.abort_all();
    ended
}

fn parts(
    (options, ca_bundle): (Options, CaBundle),
    cluster: Cluster,
    (leadership, stop): (watch::Receiver<Leadership>, CancellationToken),
    tasks: &mut JoinSet<()>,
) -> Parts {
    let (queue, dirty) = (Arc::new(Queue::default()), Arc::new(Dirty::default()));
    let stacks = Arc::new(Stacks::default());
    let known: Arc<OnceLock<Arc<Caches>>> = Arc::default();
    let on_change = on_change(&queue, &dirty, &stacks, &known);
    let scope = match &options.watch {
        Some(namespace) => Scope::Namespace(namespace.clone()),
        None => Scope::Cluster,
    };
    let caches = Arc::new(Caches::start(&cluster.client(), &scope, &on_change, tasks));
    // Set once, here.
    let _ = known.set(caches.clone());
    let service = &options.service;
    let namespace = &options.namespace;
    let own = Identity {
        uri: operator_uri(namespace),
        dns: vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            "localhost".into(),
        ],
    };
    Parts {
        keeper: Arc::new(Keeper::new(cluster.clone(), namespace, own)),
        hub: Arc::new(Hub::default()),
        options,
        ca_bundle: Arc::new(ca_bundle),
        cluster,
        caches,
        stacks,
        queue,
        dirty,
        leadership,
        stop,
    }
}

/// What a change sets in motion. Until the caches are filled it does nothing: everything is looked at then.
fn on_change(
    queue: &Arc<Queue>,
    dirty: &Arc<Dirty>,
    stacks: &Arc<Stacks>,
    known: &Arc<OnceLock<Arc<Caches>>>,
) -> OnChange {
    let (queue, dirty) = (queue.clone(), dirty.clone());
    let (stacks, known) = (stacks.clone(), known.clone());
    Arc::new(move |change: Change| {
        if Kind::of(&change.kind).is_some() || change.kind == "Secret" {
            stacks.changed(&change.namespace);
        }
        if let Some(caches) = known.get() {
            for key in readers(&change, caches) {
                queue.add(key);
            }
        }
        dirty.mark(&change.namespace);
    })
}

fn election(parts: &Parts, term: Term) -> Election {
    let options = &parts.options;
    Election {
        api: Api::namespaced(parts.cluster.client(), &options.namespace),
        name: options.lease.clone(),
        identity: format!("{}_{:08x}", options.pod, rand::random::<u32>()),
        address: options.advertise.clone(),
        timing: Timing::default(),
        term,
    }
}

fn serve_control(parts: &Parts, listener: TcpListener) -> impl Future<Output = ()> + Send + use<> {
    let tls = parts.keeper.tls();
    let (service, namespace) = (&parts.options.service, &parts.options.namespace);
    let service = Service {
        hub: parts.hub.clone(),
        caches: parts.caches.clone(),
        leadership: parts.leadership.clone(),
        own: operator_uri(namespace),
        queue: parts.queue.clone(),
        relay: Arc::new(Relay::new(
            tls.clone(),
            format!("{service}.{namespace}.svc"),
        )),
    };
    let stop = parts.stop.clone();
    let mut known = tls.clone();
    async move {
        // Nobody can be let in before there is a certificate.
        tokio::select! {
            () = stop.cancelled() => return,
            found = known.wait_for(|tls| !tls.certificate.is_empty()) => {
                if found.is_err() {
                    return;
                }
            }
        }
        let incoming = control::tls::accept(listener, tls);
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(5)))
            .http2_keepalive_timeout(Some(Duration::from_secs(5)))
            .add_service(ControlServer::new(service))
            .serve_with_incoming_shutdown(incoming, stop.cancelled())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the control stream is not served any more");
        }
    }
}

/// Everything that needs filled caches.
fn start_work(parts: &Parts, reaches: Arc<Reaches>, tasks: &mut JoinSet<()>) {
    let benchmarks = Arc::new(Benchmarks::default());
    let descriptions = Arc::new(Descriptions::default());
    let events = Events::new(parts.cluster.clone(), &parts.options.pod);
    let context = Arc::new(Context {
        cluster: parts.cluster.clone(),
        caches: parts.caches.clone(),
        stacks: parts.stacks.clone(),
        applier: Applier::new(parts.cluster.clone()),
        statuses: Statuses::new(parts.cluster.clone(), events),
        hub: parts.hub.clone(),
        keeper: parts.keeper.clone(),
        reaches: reaches.clone(),
        benchmarks: benchmarks.clone(),
        descriptions: descriptions.clone(),
        attempts: Attempts::default(),
        started_with: platform(&parts.options),
        ca_bundle: parts.ca_bundle.clone(),
        artifacts: Arc::new(Artifacts::new(parts.ca_bundle.clone(), parts.queue.clone())),
        artifact_hosts: parts.options.artifact_hosts.clone(),
    });
    for _ in 0..parts.options.workers.max(1) {
        tasks.spawn(worker::run(
            context.clone(),
            parts.queue.clone(),
            parts.leadership.clone(),
            parts.stop.clone(),
        ));
    }
    let (caches, queue, hub) = (&parts.caches, &parts.queue, &parts.hub);
    let stop = &parts.stop;
    tasks.spawn(publisher::run(
        (caches.clone(), parts.stacks.clone(), hub.clone()),
        (parts.dirty.clone(), queue.clone()),
        parts.leadership.clone(),
        stop.clone(),
    ));
    tasks.spawn(reaches.run(caches.clone(), queue.clone(), stop.clone()));
    let asked = (caches.clone(), parts.keeper.clone(), queue.clone());
    tasks.spawn(descriptions.run(asked, stop.clone()));
    let measured = (caches.clone(), hub.clone(), queue.clone());
    let leadership = parts.leadership.clone();
    let leads = move || leadership.borrow().epoch().is_some();
    tasks.spawn(benchmarks.run(measured, leads, stop.clone()));
    let collector = Collector::new(parts.cluster.clone(), caches.clone(), hub.clone());
    tasks.spawn(collector.run(stop.clone()));
    tasks.spawn(autoscale::run(context.clone(), stop.clone()));
    tasks.spawn(follow_ca_bundle(parts));
    let causes = (parts.leadership.clone(), parts.keeper.tls());
    tasks.spawn(look_at_everything(
        caches.clone(),
        queue.clone(),
        causes,
        stop.clone(),
    ));
    tasks.spawn(sweep(context, stop.clone()));
}

fn platform(options: &Options) -> Platform {
    let (service, namespace) = (&options.service, &options.namespace);
    let port = options.listen_control.port();
    Platform {
        image: options.image.clone(),
        llama_cpp_image: options.llama_cpp_image.clone(),
        vllm_image: options.vllm_image.clone(),
        operator_namespace: namespace.clone(),
        operator_address: format!("https://{service}.{namespace}.svc:{port}"),
        // Not known yet, and renewed while the operator runs: see `model_pool.rs`.
        operator_ca: String::new(),
        // A file that changes: see `ca_bundle.rs`.
        ca_bundle: None,
        environment: options.environment.clone(),
    }
}

/// Further authorities that changed reach what downloads.
fn follow_ca_bundle(parts: &Parts) -> impl Future<Output = ()> + Send + use<> {
    let (caches, queue) = (parts.caches.clone(), parts.queue.clone());
    let (bundle, stop) = (parts.ca_bundle.clone(), parts.stop.clone());
    let changed = move || {
        let downloads = |key: &Key| matches!(key.kind, Kind::ModelPool | Kind::MemoryStore);
        for key in caches.keys().into_iter().filter(downloads) {
            queue.add(key);
        }
    };
    async move { bundle.run(changed, stop).await }
}

/// A new leader looks at every object once: what changed while nobody led was told to nobody. So does a leader that trusts
/// other certificates than before, since no object changes when the authority does.
pub(crate) async fn look_at_everything(
    caches: Arc<Caches>,
    queue: Arc<Queue>,
    (mut leadership, mut tls): (watch::Receiver<Leadership>, watch::Receiver<OwnTls>),
    stop: CancellationToken,
) {
    let mut looked = None;
    loop {
        let epoch = leadership.borrow_and_update().epoch();
        let trusted = tls.borrow_and_update().trusted.clone();
        let now = epoch.map(|epoch| (epoch, trusted));
        if now.is_some() && now != looked {
            for key in caches.keys() {
                queue.add(key);
            }
        }
        looked = now;
        tokio::select! {
            () = stop.cancelled() => return,
            _ = leadership.changed() => {}
            _ = tls.changed() => {}
        }
    }
}

/// Forgets what is gone, so that nothing here grows with the age of the process.
async fn sweep(context: Arc<Context>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP) => {}
        }
        let caches = &context.caches;
        let pod_lives =
            |namespace: &str, pod: &str| crate::cache::get(&caches.pods, namespace, pod).is_some();
        let gateways: std::collections::HashSet<(String, String)> = caches
            .gateways
            .state()
            .iter()
            .map(|gateway| (gateway.namespace().unwrap_or_default(), gateway.name_any()))
            .collect();
        let gateway_lives = |id: &control::caller::GatewayId| {
            gateways.contains(&(id.namespace.clone(), id.name.clone()))
        };
        let of_gateway = |id: &control::caller::GatewayId, pod: &str| pod_lives(&id.namespace, pod);
        context.hub.ledger().sweep(of_gateway);
        context.hub.plans.retain(gateway_lives);
        context.hub.fetches.retain(pod_lives);
        context.applier.forget(caches);
        context.statuses.forget();
        context.attempts.forget(caches);
        let keys: Vec<Key> = caches.keys();
        context.artifacts.retain(|key| keys.contains(key));
        let alive = namespaces(&keys);
        context.stacks.retain(|namespace| alive.contains(namespace));
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| RunError::Listen { address, source })
}
