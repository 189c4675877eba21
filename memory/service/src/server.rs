//! From options to a service, and its end.
//!
//! The health port answers from the first moment, the calls' port once the store is open and the embedder loaded. When it
//! is told to stop, calls in flight finish, passages that are being embedded are left for the next start, and the store
//! is closed last. A write is durable when it is acknowledged, so a kill loses nothing that was.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_embed::{EmbedQueue, LoadError};
use weir_engine::Engines;
use weir_memory::{Memory, MemoryConfig, OpenError};
use weir_memory_external::{
    ConfigError, ExternalConfig, ExternalMemory, Neo4jConfig, QdrantConfig,
};
use weir_memory_live::{
    Embedder, LiveMemory, MemoryCalls, UpkeepPolicy, Upkept, fill, keep_up, wire,
};
use weir_plan::{Endpoint, Pool, Secret, Tier};
use weir_proto::memory::v1::memory_server::MemoryServer;

use crate::acceptor;
use crate::calls::Calls;
use crate::certificates::{Certificates, TlsError};
use crate::health::{self, Health};
use crate::served::Served;

/// Longest wait for calls in flight after the service was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(20);

/// Longest call, also when the caller would wait longer.
const CALL_MAX: Duration = Duration::from_secs(120);

/// A connection is renewed after this time, so that a certificate that was withdrawn or has expired does not live on.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(3600);

/// A peer that is gone without a word is noticed after this time.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// What is served, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the store is kept.
    pub store: Store,
    /// Name of the embedding model, part of the store's identity.
    pub model: String,
    /// Length of every vector, part of the store's identity.
    pub dimensions: usize,
    /// What makes vectors.
    pub embedder: EmbedderSource,
    /// What is done by itself.
    pub upkeep: UpkeepPolicy,
    /// Folder with `ca.crt`, `tls.crt` and `tls.key`.
    pub tls: PathBuf,
    /// Where gateways call.
    pub listen: SocketAddr,
    /// Where probes and metrics are answered, over plain HTTP.
    pub listen_health: SocketAddr,
}

/// Where a store is kept.
#[derive(Clone, Debug)]
pub enum Store {
    /// In a folder, which is made when it is missing.
    Folder(PathBuf),
    /// In Qdrant and Neo4j.
    External {
        /// Name of the collection and of the labels.
        collection: String,
        /// How Qdrant is asked.
        qdrant: QdrantConfig,
        /// How Neo4j is asked.
        neo4j: Neo4jConfig,
    },
}

/// Where vectors come from.
#[derive(Clone, Debug)]
pub enum EmbedderSource {
    /// A folder with `model.safetensors`, `tokenizer.json` and `config.json`, evaluated in this process.
    Folder(PathBuf),
    /// A pool that speaks OpenAI's `/v1/embeddings`.
    Pool {
        /// Its address without `/v1`.
        url: String,
        /// Name of the model in a request.
        model: String,
        /// Sent as a bearer token.
        api_key: Option<Secret>,
        /// File of the authorities, PEM, of which one signed its certificate; read again for every question. Without it, the
        /// public ones.
        ca: Option<PathBuf>,
    },
}

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port cannot be used.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The external store cannot be asked as it is said.
    #[error(transparent)]
    External(#[from] ConfigError),
    /// The embedder cannot be loaded.
    #[error(transparent)]
    Embedder(#[from] LoadError),
    /// The embedder makes other vectors than the store holds.
    #[error(
        "the embedder makes vectors of {found} dimensions, the store holds {wanted}: give the embedder that --model and \
         --dimensions name"
    )]
    Dimensions {
        /// Of the store.
        wanted: usize,
        /// Of the embedder.
        found: usize,
    },
    /// A thread of the start ended early.
    #[error("open the memory")]
    Start(#[from] tokio::task::JoinError),
    /// Connections could not be served.
    #[error("serve calls")]
    Serve(#[from] tonic::transport::Error),
}

/// A memory service that listens.
#[derive(Debug)]
pub struct Server {
    options: Options,
    certificates: Arc<Certificates>,
    calls: TcpListener,
    probes: TcpListener,
}

impl Server {
    /// Takes both ports and reads the certificates.
    ///
    /// # Errors
    /// A port is taken, or the certificates cannot be used.
    pub async fn bind(options: Options) -> Result<Self, ServeError> {
        let certificates = Arc::new(Certificates::load(&options.tls)?);
        let calls = listen(options.listen).await?;
        let probes = listen(options.listen_health).await?;
        Ok(Self {
            options,
            certificates,
            calls,
            probes,
        })
    }

    /// Where gateways call, and where probes are answered.
    ///
    /// # Errors
    /// The system does not say.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.calls.local_addr()?, self.probes.local_addr()?))
    }

    /// Opens the store and serves until `stop`.
    ///
    /// # Errors
    /// The store or the embedder cannot be used, or connections cannot be served.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ServeError> {
        let health = Arc::new(Health::default());
        let probes = CancellationToken::new();
        let answering = tokio::spawn(health::serve(
            self.probes,
            Arc::clone(&health),
            probes.clone(),
        ));
        let options = self.options;
        let opened = tokio::task::spawn_blocking(move || open(&options)).await?;
        let served = match opened {
            Ok(opened) => serve(opened, self.calls, self.certificates, &health, stop).await,
            Err(error) => Err(error),
        };
        probes.cancel();
        // A probe's answer that breaks off is nobody's loss.
        let _ = answering.await;
        served
    }
}

/// An open store with what makes its vectors, once for questions and once for passages.
struct Opened {
    store: Served,
    questions: Embedder,
    passages: Embedder,
    upkeep: UpkeepPolicy,
}

fn open(options: &Options) -> Result<Opened, ServeError> {
    let mut revision = None;
    let (questions, passages) = match &options.embedder {
        EmbedderSource::Folder(folder) => {
            let queue = load(folder, options.dimensions)?;
            revision = Some(queue.revision().to_owned());
            let embedder = Embedder::InProcess(queue);
            (embedder.clone(), embedder)
        }
        EmbedderSource::Pool {
            url,
            model,
            api_key,
            ca,
        } => {
            let pool = pool(url, model, api_key.clone());
            let asking = |pool: Pool, ca: Option<PathBuf>| {
                let known = move || believing(&pool, ca.as_deref());
                Embedder::pool(Engines::new(), known)
            };
            (asking(pool.clone(), ca.clone()), asking(pool, ca.clone()))
        }
    };
    let (dimensions, embedding_model) = (options.dimensions, options.model.clone());
    let store = match &options.store {
        Store::Folder(path) => {
            let config = MemoryConfig {
                dimensions,
                embedding_model,
            };
            let store = Memory::open(path, &config)?;
            if let Some(revision) = revision {
                store.embedded_by(&revision)?;
            }
            Served::Embedded(store)
        }
        Store::External {
            collection,
            qdrant,
            neo4j,
        } => {
            let config = ExternalConfig {
                collection: collection.clone(),
                dimensions,
                embedding_model,
                qdrant: qdrant.clone(),
                neo4j: neo4j.clone(),
            };
            Served::External(ExternalMemory::new(config, Some(questions.clone()))?)
        }
    };
    let counts = store.counts();
    tracing::info!(
        nodes = counts.nodes,
        edges = counts.edges,
        pending = counts.pending,
        "the memory is open"
    );
    Ok(Opened {
        store,
        questions,
        passages,
        upkeep: options.upkeep,
    })
}

fn load(folder: &Path, wanted: usize) -> Result<EmbedQueue, ServeError> {
    let embedder = weir_embed::Embedder::load(folder)?;
    match embedder.dimensions() {
        found if found == wanted => Ok(EmbedQueue::new(embedder)),
        found => Err(ServeError::Dimensions { wanted, found }),
    }
}

/// The pool that embeds, as far as asking it needs one: how far a question may travel was decided by the gateway.
fn pool(url: &str, model: &str, api_key: Option<Secret>) -> Pool {
    Pool {
        model: model.to_owned(),
        upstream_model: model.to_owned(),
        tier: Tier::Server,
        endpoints: vec![Endpoint {
            url: url.trim_end_matches('/').to_owned(),
            api_key,
        }],
        ..Pool::local("embeddings")
    }
}

/// The pool with its authorities as the file says now; `None` while it cannot be read, since nobody else may be believed.
fn believing(pool: &Pool, ca: Option<&Path>) -> Option<Pool> {
    let authorities = match ca.map(std::fs::read_to_string).transpose() {
        Ok(authorities) => authorities,
        Err(error) => {
            tracing::warn!(%error, "the authorities of the pool that embeds cannot be read");
            return None;
        }
    };
    Some(Pool {
        authorities,
        ..pool.clone()
    })
}

async fn serve(
    opened: Opened,
    listener: TcpListener,
    certificates: Arc<Certificates>,
    health: &Health,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let Opened {
        store,
        questions,
        passages,
        upkeep,
    } = opened;
    let (wake, given_up) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let upkept = Arc::new(Upkept::default());
    let told = Told {
        wake: Arc::clone(&wake),
        given_up: Arc::clone(&given_up),
        upkept: Arc::clone(&upkept),
        stop: stop.clone(),
    };
    let (keeper, memory) = begin(&store, (questions, passages), upkeep, told);
    health.open(store.clone(), Arc::clone(&given_up), Arc::clone(&upkept));
    let calls = Calls::new(store, memory, (wake, given_up, upkept), health.metrics());
    let service = MemoryServer::new(calls)
        .max_decoding_message_size(wire::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(wire::MESSAGE_BYTES_MAX);
    let incoming = acceptor::connections(listener, certificates, stop.clone());
    let serving = tonic::transport::Server::builder()
        .timeout(CALL_MAX)
        .http2_adaptive_window(Some(true))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_connection_age(CONNECTION_AGE_MAX)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let patience = async {
        stop.cancelled().await;
        health.drain();
        tokio::time::sleep(DRAIN_MAX).await;
    };
    let served = tokio::select! {
        served = serving => served.map_err(ServeError::from),
        () = patience => {
            tracing::warn!("calls were cut off that did not finish within {DRAIN_MAX:?}");
            Ok(())
        }
    };
    stop.cancel();
    // It ends with its token; what it was embedding is found again at the next start.
    let _ = keeper.await;
    health.close();
    served
}

/// How what goes on behind the calls is told of them, and tells them.
struct Told {
    wake: Arc<Notify>,
    given_up: Arc<AtomicUsize>,
    upkept: Arc<Upkept>,
    stop: CancellationToken,
}

/// Begins what goes on behind the calls, and gives who answers them.
fn begin(
    store: &Served,
    (questions, passages): (Embedder, Embedder),
    upkeep: UpkeepPolicy,
    told: Told,
) -> (JoinHandle<()>, Arc<dyn MemoryCalls>) {
    let Told {
        wake,
        given_up,
        upkept,
        stop,
    } = told;
    match store {
        Served::Embedded(store) => {
            let keeping = keep_up(store.clone(), upkeep, upkept, stop.clone());
            let filling = fill(store.clone(), passages, wake, given_up, stop);
            let memory = LiveMemory::new(store.clone(), Some(questions));
            let both = async move {
                tokio::join!(keeping, filling);
            };
            (tokio::spawn(both), Arc::new(memory))
        }
        Served::External(store) => {
            let tending = store.clone();
            let filling = fill(store.clone(), passages, wake, given_up, stop.clone());
            let both = async move {
                tokio::join!(tending.run(stop), filling);
            };
            (tokio::spawn(both), Arc::new(store.clone()))
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| ServeError::Listen { address, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_what_their_file_says_now_and_without_it_no_pool_is_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.crt");
        let pool = pool("https://embed.lan/", "minilm", None);
        let now = || believing(&pool, Some(&file)).map(|pool| pool.authorities);
        assert_eq!(now(), None);
        for text in ["old", "new"] {
            std::fs::write(&file, text).expect("written");
            assert_eq!(now(), Some(Some(text.to_owned())));
        }
        let public = believing(&pool, None).expect("a pool");
        assert_eq!(public.authorities, None);
    }
}
