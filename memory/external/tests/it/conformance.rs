//! One suite for every store: random operations, compared with the oracle while others read, across restarts.
//!
//! `WEIR_CONFORMANCE_SEED` gives other operations than the usual ones, `WEIR_CONFORMANCE_OPERATIONS` another number of them.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weir_memory::{
    Batch, Counts, Filter, Memory, MemoryConfig, Metadata, NewEdge, NewNode, NodeId, NodeType,
    SHARED_TENANT, outside,
};
use weir_memory_external::ExternalMemory;
use weir_memory_live::{LiveMemory, MemoryCalls, MemoryError, Presence, Sought};

use crate::exact::Exact;
use crate::world::{DIMENSIONS, World, admin};

/// Hits that are asked for.
const K: usize = 10;

/// Words of the texts; the first are the most frequent.
const WORDS: usize = 300;

/// Where a store is kept between two openings.
enum Kept {
    Embedded(tempfile::TempDir),
    External(Box<World>),
}

/// An open store.
struct Opened {
    calls: Arc<dyn MemoryCalls>,
    external: Option<ExternalMemory>,
}

impl Kept {
    async fn open(&self) -> Opened {
        match self {
            Self::Embedded(folder) => {
                let config = MemoryConfig {
                    dimensions: DIMENSIONS,
                    embedding_model: "test-model".into(),
                };
                let store = Memory::open(folder.path(), &config).unwrap();
                Opened {
                    calls: Arc::new(LiveMemory::new(store, None)),
                    external: None,
                }
            }
            Self::External(world) => {
                let memory = world.open().await;
                Opened {
                    calls: Arc::new(memory.clone()),
                    external: Some(memory),
                }
            }
        }
    }
}

impl Opened {
    async fn counts(&self) -> Counts {
        if let Some(external) = &self.external {
            external.tend().await.unwrap();
            assert_eq!(external.last_seen().behind, 0);
        }
        match self.calls.presence() {
            Presence::Here(counts) => counts,
            Presence::Away(why) => panic!("away: {why}"),
        }
    }
}

/// How much is done.
struct Size {
    operations: usize,
    /// Nodes that may exist.
    names: usize,
    restarts: usize,
    searches: usize,
}

/// What was found out.
#[derive(Default)]
struct Tally {
    operations: usize,
    searches: usize,
    recall: f64,
    /// Searches of the tenant with one node in a hundred, and how many of them gave what the oracle gives.
    small: usize,
    small_right: usize,
}

struct Suite {
    rng: ChaCha8Rng,
    names: usize,
    exact: Exact,
    tally: Tally,
}

fn id(name: usize) -> NodeId {
    NodeId::derived("conformance", "node", name)
}

/// A node belongs to one tenant for good.
fn tenant(name: usize) -> &'static str {
    match name % 200 {
        0 => SHARED_TENANT,
        1 | 2 => "small",
        3..40 => "other",
        _ => "big",
    }
}

impl Suite {
    fn new(seed: u64, names: usize, mean_length: Option<f32>) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            names,
            exact: Exact {
                mean_length,
                ..Exact::default()
            },
            tally: Tally::default(),
        }
    }

    fn words(&mut self, count: usize) -> String {
        let mut text = String::new();
        for _ in 0..count {
            // Small numbers are frequent, as words are.
            let word = (self.rng.random::<f64>().powi(3) * WORDS as f64) as usize;
            text += &format!("quib{word} ");
        }
        text
    }

    fn vector(&mut self) -> Vec<f32> {
        let mut values: Vec<f32> = (0..DIMENSIONS)
            .map(|_| self.rng.random_range(-1.0..1.0))
            .collect();
        values[0] += 0.01;
        values
    }

    fn node(&mut self) -> NewNode {
        let name = self.rng.random_range(0..self.names);
        let length = self.rng.random_range(3..12);
        let subject = self
            .rng
            .random_bool(0.01)
            .then(|| format!("s{}", self.rng.random_range(0..5)));
        let domain = ["law", "sea"]
            .get(self.rng.random_range(0..3_usize))
            .map(ToString::to_string);
        NewNode {
            id: id(name),
            node_type: match self.rng.random_range(0..20) {
                0 => NodeType::Trace,
                1 => NodeType::Summary,
                2..6 => NodeType::Memory,
                _ => NodeType::Doc,
            },
            metadata: Metadata {
                domain,
                subject,
                ..Metadata::default()
            },
            vector: self.rng.random_bool(0.9).then(|| self.vector()),
            ..NewNode::new(tenant(name), self.words(length))
        }
    }

    /// A batch of nodes, some of which were there, and of edges between nodes that are.
    async fn write(&mut self, store: &Opened) {
        let count = self.rng.random_range(1..100);
        let nodes: Vec<NewNode> = (0..count).map(|_| self.node()).collect();
        let came: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
        // As they are before any of these is written.
        let joined = self.exact.summaries_by_source();
        let mut changed = Vec::new();
        for node in &nodes {
            if self.exact.changes(node) {
                changed.push(node.id);
            }
            self.exact.put(node.clone());
        }
        let known: Vec<NodeId> = self.exact.nodes.keys().copied().collect();
        let mut edges = Vec::new();
        for _ in 0..self.rng.random_range(0..20) {
            let [src, dst] = [0; 2].map(|_: usize| known[self.rng.random_range(0..known.len())]);
            let rel = ["cites", "summarises", "mentions"][self.rng.random_range(0..3_usize)];
            if !self.exact.may_join(src, dst, rel) {
                continue;
            }
            let edge = NewEdge {
                weight: self.rng.random_range(0.1..2.0),
                ..NewEdge::new(src, dst, rel)
            };
            self.exact.link(&edge);
            edges.push(edge);
        }
        for gone in Exact::outdated(&joined, &changed, &came) {
            self.exact.remove(gone);
        }
        self.tally.operations += nodes.len() + edges.len();
        store
            .calls
            .write(admin(), Batch { nodes, edges })
            .await
            .unwrap();
    }

    async fn delete(&mut self, store: &Opened) {
        let id = id(self.rng.random_range(0..self.names));
        let outdated = Exact::outdated(&self.exact.summaries_by_source(), &[id], &[]);
        let was_there = self.exact.remove(id);
        for gone in outdated {
            self.exact.remove(gone);
        }
        assert_eq!(store.calls.delete(admin(), id).await.unwrap(), was_there);
        self.tally.operations += 1;
    }

    async fn erase(&mut self, store: &Opened) {
        let subject = format!("s{}", self.rng.random_range(0..5));
        let gone = self.exact.erase(&subject);
        let erased = store.calls.erase(admin(), subject, None).await.unwrap();
        assert_eq!(erased.ids, gone);
        self.tally.operations += 1;
    }

    /// A batch of which one edge leads nowhere changes nothing.
    async fn refuse(&mut self, store: &Opened) {
        let node = self.node();
        let nowhere = NodeId::derived("conformance", "nowhere", 0);
        let edges = vec![NewEdge::new(node.id, nowhere, "cites")];
        let batch = Batch {
            nodes: vec![node],
            edges,
        };
        let refused = store.calls.write(admin(), batch).await;
        assert!(
            matches!(refused, Err(MemoryError::Field { .. })),
            "{refused:?}"
        );
        self.tally.operations += 1;
    }

    async fn search(&mut self, store: &Opened) {
        let is_small = self.rng.random_bool(0.2);
        let tenant = if is_small { "small" } else { "big" };
        let (text, vector) = (self.words(3), self.vector());
        let mut filter = Filter {
            tenant: tenant.into(),
            ..Filter::default()
        };
        if self.rng.random_bool(0.3) {
            filter.domains = vec!["sea".into()];
        }
        if self.rng.random_bool(0.2) {
            filter.types = vec![NodeType::Memory, NodeType::Trace];
        }
        let sought = Sought {
            text: text.clone(),
            vector: Some(vector.clone()),
            embed: false,
            filter: filter.clone(),
            k: K,
        };
        let found = store.calls.search(sought).await.unwrap();
        let ranked = self.exact.search((&text, &vector), &filter, K);
        let hits = &found.result.hits;
        assert_eq!(found.nodes.len(), hits.len());
        assert_eq!(hits.len(), ranked.len().min(K));
        for (hit, node) in hits.iter().zip(&found.nodes) {
            assert_eq!(hit.id, node.id);
            let held = &self.exact.nodes[&hit.id];
            assert!(
                Exact::passes(&filter, &held.new),
                "{hit:?} passes no filter"
            );
            assert_eq!(node.text, held.new.text);
            let (cosine, bm25) = self.exact.scores(hit.id, (&text, &vector));
            assert!(
                close(hit.cosine, cosine),
                "{:?} is not {cosine:?}",
                hit.cosine
            );
            assert!(close(hit.bm25, bm25), "{:?} is not {bm25:?}", hit.bm25);
        }
        let wanted = &ranked[..hits.len()];
        let right = hits
            .iter()
            .filter(|hit| wanted.iter().any(|(id, ..)| *id == hit.id));
        let right = right.count();
        self.tally.operations += 1;
        self.tally.searches += 1;
        self.tally.recall += right as f64 / hits.len().max(1) as f64;
        if is_small {
            self.tally.small += 1;
            // Two nodes of the same strength may change places.
            let same = (hits.iter().zip(wanted))
                .all(|(hit, (.., strength))| (hit.strength - strength).abs() < 1e-2);
            self.tally.small_right += usize::from(same);
        }
        let share = found.result.filter_share;
        let passing = self
            .exact
            .nodes
            .values()
            .filter(|held| Exact::passes(&filter, &held.new));
        let passing = passing.count() as f32 / self.exact.nodes.len() as f32;
        assert!((share - passing).abs() < 1e-4, "{share} is not {passing}");
    }

    async fn agree(&self, store: &Opened) {
        let counts = store.counts().await;
        assert_eq!(counts.nodes, self.exact.nodes.len());
        assert_eq!(counts.edges, self.exact.edges.len());
        assert_eq!(counts.vectors, self.exact.vectors());
        assert_eq!(counts.pending, counts.nodes - counts.vectors);
    }
}

fn close(a: Option<f32>, b: Option<f32>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-3,
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Reads until it is told to stop; what it may not see it never sees.
async fn read(
    calls: Arc<dyn MemoryCalls>,
    (stop, reads): (Arc<AtomicBool>, Arc<AtomicUsize>),
    seed: u64,
) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    while !stop.load(Ordering::Relaxed) {
        let tenant = ["small", "big", "other"][rng.random_range(0..3_usize)];
        let sought = Sought {
            text: format!("quib{}", rng.random_range(0..WORDS)),
            vector: Some(
                (0..DIMENSIONS)
                    .map(|_| rng.random_range(0.1..1.0))
                    .collect(),
            ),
            embed: false,
            filter: Filter {
                tenant: tenant.into(),
                ..Filter::default()
            },
            k: K,
        };
        let found = calls.search(sought).await.unwrap();
        assert!(
            found
                .result
                .hits
                .is_sorted_by(|a, b| a.strength >= b.strength)
        );
        for node in &found.nodes {
            assert!(node.tenant == tenant || node.tenant == SHARED_TENANT);
        }
        reads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// The number in an environment variable.
fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let value = std::env::var(variable).ok()?;
    let number = value.parse().ok();
    Some(number.unwrap_or_else(|| panic!("{variable} is no number: {value}")))
}

async fn conform(kept: Kept, size: Size, mean_length: Option<f32>) {
    let seed = number("WEIR_CONFORMANCE_SEED").unwrap_or(7);
    let operations = number("WEIR_CONFORMANCE_OPERATIONS").unwrap_or(size.operations);
    let size = Size { operations, ..size };
    let mut suite = Suite::new(seed, size.names, mean_length);
    let mut store = kept.open().await;
    let reads = Arc::new(AtomicUsize::new(0));
    for round in 0..=size.restarts {
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let told = (Arc::clone(&stop), Arc::clone(&reads));
                tokio::spawn(read(Arc::clone(&store.calls), told, seed + reader))
            })
            .collect();
        let until = size.operations * (round + 1) / (size.restarts + 1);
        while suite.tally.operations < until {
            suite.write(&store).await;
            for _ in 0..suite.rng.random_range(0..7) {
                suite.delete(&store).await;
            }
            if suite.rng.random_bool(0.05) {
                suite.erase(&store).await;
                suite.refuse(&store).await;
            }
            let due = size.searches * suite.tally.operations / size.operations;
            while suite.tally.searches < due {
                suite.search(&store).await;
            }
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.unwrap();
        }
        suite.agree(&store).await;
        drop(store);
        store = kept.open().await;
        suite.agree(&store).await;
    }
    let Tally {
        operations,
        searches,
        recall,
        small,
        small_right,
    } = suite.tally;
    let recall = recall / searches as f64;
    let line = format!(
        "seed {seed}: {operations} operations, {} restarts, {} nodes left, {searches} searches with recall {recall:.4}, \
         {small_right} of {small} for the 1 % tenant as the oracle, {} by other readers\n",
        size.restarts + 1,
        suite.exact.nodes.len(),
        reads.load(Ordering::Relaxed),
    );
    let _ = std::io::stderr().write_all(line.as_bytes());
    assert!(recall >= 0.98, "recall is {recall}");
    assert_eq!(small_right, small, "the 1 % tenant was given other nodes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_agrees_with_the_oracle() {
    let size = Size {
        operations: 20_000,
        names: 10_000,
        restarts: 3,
        searches: 500,
    };
    let folder = tempfile::tempdir().unwrap();
    conform(Kept::Embedded(folder), size, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qdrant_and_neo4j_agree_with_the_oracle() {
    let Some(world) = World::new().await else {
        return;
    };
    let size = Size {
        operations: 6_000,
        names: 4_000,
        restarts: 3,
        searches: 400,
    };
    let kept = Kept::External(Box::new(world));
    conform(kept, size, Some(outside::MEAN_LENGTH)).await;
}
