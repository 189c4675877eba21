//! Two servers and a memory in them.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use neo4rs::{ConfigBuilder, Graph, query};
use tokio_util::sync::CancellationToken;
use weir_memory::{Access, Batch, Filter, NewNode, NodeId};
use weir_memory_external::{ExternalConfig, ExternalMemory, Neo4jConfig, QdrantConfig};
use weir_memory_live::Sought;
use weir_plan::Secret;
use weir_testenv::Neo4j;

use crate::qdrant_server::QdrantServer;

/// Length of the vectors in these tests.
pub(crate) const DIMENSIONS: usize = 8;

/// Longest wait for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The Neo4j of all tests but those that break it, each with a collection of its own.
fn shared_neo4j() -> Option<&'static Neo4j> {
    static SERVER: OnceLock<Option<Neo4j>> = OnceLock::new();
    SERVER.get_or_init(Neo4j::start).as_ref()
}

/// Where a memory is kept.
pub(crate) struct World {
    /// The server in this process; `None` where a real one is asked.
    pub(crate) qdrant: Option<QdrantServer>,
    pub(crate) config: ExternalConfig,
}

impl World {
    /// Both servers, or nothing where Neo4j is absent.
    pub(crate) async fn new() -> Option<Self> {
        let neo4j = tokio::task::block_in_place(shared_neo4j)?;
        Some(Self::with(neo4j.url()).await)
    }

    /// The same with a Neo4j of the test's own.
    pub(crate) async fn with(neo4j: String) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let real = std::env::var("WEIR_TEST_QDRANT_URL");
        let real = real.ok().filter(|url| !url.is_empty());
        let which = match &real {
            Some(_) => "the server of WEIR_TEST_QDRANT_URL",
            None => "the server in this process",
        };
        let test = std::thread::current();
        let line = format!(
            "{}: Neo4j is real, Qdrant is {which}\n",
            test.name().unwrap_or("a test")
        );
        let _ = std::io::stderr().write_all(line.as_bytes());
        let qdrant = match &real {
            Some(_) => None,
            None => Some(QdrantServer::start().await),
        };
        let url = qdrant.as_ref().map(QdrantServer::url);
        let world = Self {
            config: ExternalConfig {
                collection: format!("test_{process}_{number}"),
                dimensions: DIMENSIONS,
                embedding_model: "test-model".into(),
                qdrant: QdrantConfig {
                    url: url.or(real).unwrap(),
                    api_key: std::env::var("WEIR_TEST_QDRANT_API_KEY")
                        .ok()
                        .map(Secret::new),
                    ca: None,
                },
                neo4j: Neo4jConfig {
                    url: neo4j,
                    user: Neo4j::USER.into(),
                    password: Secret::new(Neo4j::PASSWORD),
                    database: None,
                    ca: None,
                },
            },
            qdrant,
        };
        let deadline = std::time::Instant::now() + PATIENCE;
        while world.cypher("RETURN 1").await.is_none() {
            assert!(
                std::time::Instant::now() < deadline,
                "neo4j answers no query"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        world
    }

    /// The server in this process, for tests that make it fail.
    pub(crate) fn fake(&mut self) -> Option<&mut QdrantServer> {
        if self.qdrant.is_none() {
            let line = "SKIPPED: a real Qdrant is not told to fail, so this test checked nothing\n";
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        self.qdrant.as_mut()
    }

    /// The memory, opened, with nobody tending it. A server that is still busy with its indexes is asked again, as the task does.
    pub(crate) async fn open(&self) -> ExternalMemory {
        let memory = ExternalMemory::new(self.config.clone(), None).unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        while let Err(error) = memory.tend().await {
            assert!(std::time::Instant::now() < deadline, "not open: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        memory
    }

    /// The memory with its task.
    pub(crate) fn run(&self) -> (ExternalMemory, CancellationToken) {
        let memory = ExternalMemory::new(self.config.clone(), None).unwrap();
        let stop = CancellationToken::new();
        let (running, token) = (memory.clone(), stop.clone());
        tokio::spawn(async move { running.run(token).await });
        (memory, stop)
    }

    /// Rows of a statement, by a connection that is not the memory's; `None` when it failed. `{label}` is the nodes'.
    pub(crate) async fn cypher(&self, statement: &str) -> Option<Vec<neo4rs::Row>> {
        let neo4j = &self.config.neo4j;
        let config = ConfigBuilder::default()
            .uri(&neo4j.url)
            .user(&neo4j.user)
            .password(neo4j.password.expose())
            .build()
            .unwrap();
        let graph = Graph::connect(config).unwrap();
        let label = format!("Weir_{}", self.config.collection);
        let statement = query(&statement.replace("{label}", &label));
        let work = async {
            let mut stream = graph.execute(statement).await.ok()?;
            let mut rows = Vec::new();
            while let Some(row) = stream.next().await.ok()? {
                rows.push(row);
            }
            Some(rows)
        };
        tokio::time::timeout(Duration::from_secs(20), work)
            .await
            .ok()?
    }

    /// The number in the column `n` of the only row of a statement.
    pub(crate) async fn count(&self, statement: &str) -> i64 {
        self.cypher(statement).await.unwrap()[0].get("n").unwrap()
    }
}

/// Waits until `is_so`.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn acme() -> Access {
    Access {
        tenant: "acme".into(),
        admin: false,
    }
}

pub(crate) fn admin() -> Access {
    Access {
        tenant: "acme".into(),
        admin: true,
    }
}

/// The id of the node called `name`.
pub(crate) fn id(name: &str) -> NodeId {
    NodeId::derived("test", name, 0)
}

/// A node of tenant `acme` with the id of its name and a vector that leans to `direction`.
pub(crate) fn node(name: &str, text: &str, direction: usize) -> NewNode {
    let mut vector = vec![0.1; DIMENSIONS];
    vector[direction % DIMENSIONS] = 1.0;
    NewNode {
        id: id(name),
        vector: Some(vector),
        ..NewNode::new("acme", text)
    }
}

pub(crate) fn batch(nodes: Vec<NewNode>) -> Batch {
    Batch {
        nodes,
        edges: Vec::new(),
    }
}

/// What tenant `acme` looks for, by words and a direction.
pub(crate) fn sought(text: &str, direction: Option<usize>) -> Sought {
    let vector = direction.map(|direction| {
        let mut vector = vec![0.0; DIMENSIONS];
        vector[direction % DIMENSIONS] = 1.0;
        vector
    });
    Sought {
        text: text.into(),
        vector,
        embed: false,
        filter: Filter {
            tenant: "acme".into(),
            ..Filter::default()
        },
        k: 10,
    }
}
