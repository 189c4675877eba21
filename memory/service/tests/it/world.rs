//! Authorities, certificates, services and clients for one test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_embed::Embedder;
use weir_gateway_cluster::{MemoryService, RemoteMemory};
use weir_memory::{Batch, EdgeMetadata, Metadata, NewEdge, NewNode, NodeId};
use weir_memory_live::{MemoryCalls, Presence, UpkeepPolicy};
use weir_memory_service::{EmbedderSource, Options, ServeError, Server, Store};
use weir_testenv::{MINILM, component};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Name of the embedding model in these tests.
pub(crate) const MODEL: &str = "minilm";

/// An authority that signs what it is asked to.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A folder with a certificate for `uri`, a server's when it has a name, and whom it trusts.
    pub(crate) fn issue(&self, folder: &Path, uri: &str, name: Option<&str>) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = name.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let uri = SanType::URI(uri.try_into().unwrap());
        params.subject_alt_names.push(uri);
        params.extended_key_usages = vec![match name {
            Some(_) => ExtendedKeyUsagePurpose::ServerAuth,
            None => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("ca.crt"), &self.pem).unwrap();
        std::fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
        std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    }
}

/// A namespace `ns` with a memory `kb` and its gateway `web`.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) authority: Authority,
    pub(crate) embedder: PathBuf,
    pub(crate) dimensions: usize,
}

/// A running service.
pub(crate) struct Service {
    pub(crate) calls: SocketAddr,
    pub(crate) probes: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<Result<(), ServeError>>,
}

impl World {
    /// `None` when the embedder is absent, which was said.
    pub(crate) fn new() -> Option<Self> {
        let embedder = component(MINILM)?;
        let dimensions = Embedder::load(&embedder).unwrap().dimensions();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.issue(
            &folder.path().join("memory-tls"),
            "weir://ns/memory/kb",
            Some("localhost"),
        );
        authority.issue(
            &folder.path().join("gateway-tls"),
            "weir://ns/gateway/web",
            None,
        );
        Some(Self {
            folder,
            authority,
            embedder,
            dimensions,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Any port, and the embedder in process.
    pub(crate) fn options(&self) -> Options {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Options {
            store: Store::Folder(self.path("store")),
            model: MODEL.to_owned(),
            dimensions: self.dimensions,
            embedder: EmbedderSource::Folder(self.embedder.clone()),
            upkeep: UpkeepPolicy::default(),
            tls: self.path("memory-tls"),
            listen: any,
            listen_health: any,
        }
    }

    pub(crate) async fn serve(&self) -> Service {
        start(self.options()).await
    }

    /// The gateway's client of a service at this address.
    pub(crate) fn client(&self, address: SocketAddr) -> RemoteMemory {
        RemoteMemory::new(self.asked(address))
    }

    pub(crate) fn asked(&self, address: SocketAddr) -> MemoryService {
        MemoryService {
            url: format!("https://localhost:{}", address.port()),
            tls: self.path("gateway-tls"),
            embedding_model: MODEL.to_owned(),
            dimensions: self.dimensions,
        }
    }

    /// A service and its client, connected.
    pub(crate) async fn connected(&self) -> (Service, RemoteMemory) {
        let service = self.serve().await;
        let client = self.client(service.calls);
        here(&client).await;
        (service, client)
    }
}

pub(crate) async fn start(options: Options) -> Service {
    let server = Server::bind(options).await.unwrap();
    let (calls, probes) = server.addresses().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(stop.clone()));
    Service {
        calls,
        probes,
        stop,
        running,
    }
}

impl Service {
    /// Drains and closes the store.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.running).await;
        ended.unwrap().unwrap().unwrap();
    }

    /// Why it ended by itself.
    pub(crate) async fn failed(self) -> ServeError {
        let ended = tokio::time::timeout(PATIENCE, self.running).await;
        ended.unwrap().unwrap().unwrap_err()
    }

    /// A page of the health port, with its status line.
    pub(crate) async fn page(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.probes).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        page
    }
}

/// Waits for a state, not for a time.
pub(crate) async fn until(what: &str, reached: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !reached().await {
        assert!(started.elapsed() < PATIENCE, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn here(client: &RemoteMemory) {
    let there = async || matches!(client.presence(), Presence::Here(_));
    until("the client reaches the service", there).await;
}

pub(crate) async fn away(client: &RemoteMemory) -> String {
    let gone = async || matches!(client.presence(), Presence::Away(_));
    until("the client notices that the service is away", gone).await;
    match client.presence() {
        Presence::Away(why) => why,
        Presence::Here(_) => String::new(),
    }
}

/// Passages about birds and rivers in two tenants and for everybody, linked, with the embedder's vectors.
pub(crate) fn corpus(embedder: &Path) -> Batch {
    let texts = [
        (
            "shared",
            "A weir is a low wall across a river that raises the water behind it.",
        ),
        ("shared", "The heron fishes at dawn in shallow water."),
        ("acme", "Our pond has a heron that comes every morning."),
        ("acme", "Reeds grow along the pond and hide the nests."),
        ("globex", "A heron of globex nests in the tower."),
        (
            "globex",
            "Globex measures the river level at the weir each hour.",
        ),
        ("shared", "Bread dough rises overnight in a cool kitchen."),
        (
            "shared",
            "A kingfisher dives for small fish beside the weir.",
        ),
        (
            "acme",
            "The violinist tuned her instrument before the concert.",
        ),
        (
            "shared",
            "Salmon climb the river in autumn and leap at weirs.",
        ),
    ];
    let embedder = Embedder::load(embedder).unwrap();
    let node = |index: usize| {
        let (tenant, text) = texts[index];
        let title = format!("Note {index}");
        let mut node = NewNode {
            id: NodeId::derived(tenant, "corpus", index),
            metadata: Metadata {
                timestamp: Some(1_700_000_000_000),
                tags: vec!["note".to_owned()],
                title: Some(title),
                uri: Some(format!("notes.md#{index}")),
                domain: index.is_multiple_of(2).then(|| "birds".to_owned()),
                ..Metadata::default()
            },
            ..NewNode::new(tenant, text)
        };
        let vector = embedder.embed(&[&node.indexed_text()]).unwrap().remove(0);
        node.vector = Some(vector);
        node
    };
    let nodes: Vec<NewNode> = (0..texts.len()).map(node).collect();
    let edge = |src: usize, dst: usize, rel: &str| NewEdge {
        metadata: EdgeMetadata {
            timestamp: Some(1_700_000_000_000),
            ..EdgeMetadata::default()
        },
        ..NewEdge::new(nodes[src].id, nodes[dst].id, rel)
    };
    let edges = vec![
        edge(1, 0, "mentions"),
        edge(2, 1, "cites"),
        edge(3, 2, "follows"),
        edge(4, 1, "cites"),
        edge(7, 0, "hyperlink"),
        edge(9, 0, "hyperlink"),
        edge(5, 0, "mentions"),
    ];
    Batch { nodes, edges }
}
