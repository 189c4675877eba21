//! Attention over what was fetched gives what the embedded store gives over all that it holds.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weir_memory::{
    Batch, Filter, Memory, MemoryConfig, Metadata, NewEdge, NewNode, NodeId, NodeType, RecallLimits,
};
use weir_memory_live::{Asked, LiveMemory, MemoryCalls, Sought, Wanted};

use crate::world::{DIMENSIONS, World, admin};

/// Nodes: few enough that a question's surroundings are fetched whole.
const NODES: usize = 120;

fn id(name: usize) -> NodeId {
    NodeId::derived("recall", "node", name)
}

/// A hundred tokens with the title, which is the mean that an external store assumes, so that both weigh words alike.
fn text(rng: &mut ChaCha8Rng, titled: bool) -> String {
    let mut text = String::new();
    for _ in 0..100 - usize::from(titled) {
        let word = (rng.random::<f64>().powi(3) * 200.0) as usize;
        text += &format!("quib{word} ");
    }
    text
}

fn batch(rng: &mut ChaCha8Rng) -> Batch {
    let mut nodes = Vec::new();
    for name in 0..NODES {
        let titled = name % 3 == 0;
        let vector = (0..DIMENSIONS)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        nodes.push(NewNode {
            id: id(name),
            node_type: if name % 30 == 0 {
                NodeType::Trace
            } else {
                NodeType::Doc
            },
            metadata: Metadata {
                title: titled.then(|| format!("quib{}", name % 50)),
                timestamp: Some(1_700_000_000_000 + 86_400_000 * name as u64),
                ..Metadata::default()
            },
            vector: (name % 11 != 0).then_some(vector),
            ..NewNode::new(
                if name % 7 == 0 { "other" } else { "acme" },
                text(rng, titled),
            )
        });
    }
    let mut edges = Vec::new();
    for _ in 0..4 * NODES {
        let rel = ["cites", "follows", "mentions"][rng.random_range(0..3_usize)];
        let mut edge = NewEdge::new(
            id(rng.random_range(0..NODES)),
            id(rng.random_range(0..NODES)),
            rel,
        );
        edge.weight = rng.random_range(0.1..2.0);
        edge.metadata.confidence = Some(0.5);
        edge.metadata.timestamp = Some(1_700_000_000_000);
        edge.metadata.evidence = Some(format!("quib{} and quib{}", rng.random_range(0..50), 3));
        edges.push(edge);
    }
    Batch { nodes, edges }
}

#[tokio::test(flavor = "multi_thread")]
async fn recall_over_fetched_nodes_is_that_of_the_embedded_store() {
    let Some(world) = World::new().await else {
        return;
    };
    let external = world.open().await;
    let folder = tempfile::tempdir().unwrap();
    let config = MemoryConfig {
        dimensions: DIMENSIONS,
        embedding_model: "test-model".into(),
    };
    let embedded = LiveMemory::new(Memory::open(folder.path(), &config).unwrap(), None);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let batch = batch(&mut rng);
    embedded.write(admin(), batch.clone()).await.unwrap();
    external.write(admin(), batch).await.unwrap();
    let limits = RecallLimits {
        seeds: 12,
        hops: 2,
        nodes_max: 40,
    };
    for question in 0..20 {
        let sought = Sought {
            text: format!("quib{} quib{} unheard", question % 9, 20 + question),
            vector: (question % 4 != 0).then(|| {
                (0..DIMENSIONS)
                    .map(|_| rng.random_range(-1.0..1.0))
                    .collect()
            }),
            embed: false,
            filter: Filter {
                tenant: "acme".into(),
                ..Filter::default()
            },
            k: 12,
        };
        let here = embedded.attend(sought.clone(), limits).await.unwrap();
        let there = external.attend(sought, limits).await.unwrap();
        assert_eq!(here.recall.nodes_used, 40, "the question leads somewhere");
        assert_eq!(there.recall.nodes_used, here.recall.nodes_used);
        for (there, here) in there.recall.nodes.iter().zip(&here.recall.nodes) {
            assert!(
                (there.score - here.score).abs() < 1e-4,
                "{there:?} is not {here:?}"
            );
            assert_eq!(there.depth, here.depth);
        }
        let ids = |recall: &weir_memory::Recall| {
            recall.nodes.iter().map(|node| node.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&there.recall)[..10], ids(&here.recall)[..10]);
        let texts: Vec<NodeId> = there.nodes.iter().map(|node| node.id).collect();
        assert_eq!(texts, ids(&there.recall));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_gets_its_search_and_its_attention_with_their_texts() {
    let Some(world) = World::new().await else {
        return;
    };
    let external = world.open().await;
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    external.write(admin(), batch(&mut rng)).await.unwrap();
    external.tend().await.unwrap();
    let asked = || Asked {
        text: "quib1 quib2".into(),
        vector: Some(vec![1.0; DIMENSIONS]),
        embed: false,
        wanted: Some(Wanted {
            filter: Filter {
                tenant: "acme".into(),
                ..Filter::default()
            },
            limits: RecallLimits::default(),
            candidates: 5,
        }),
    };
    // A step that is late is skipped, and the first questions of a server are slow.
    let mut given = external.recall(asked()).await.unwrap();
    for _ in 0..30 {
        if given.found.is_some() && given.attended.is_some() {
            break;
        }
        given = external.recall(asked()).await.unwrap();
    }
    let (found, best) = given.found.unwrap();
    assert!(found.hits.len() > 5);
    assert_eq!(best.len(), 5);
    let (attended, best) = given.attended.unwrap();
    assert_eq!(attended.nodes.len(), 5);
    assert!(attended.nodes_used > 64);
    assert_eq!(best.len(), 5);
    assert!(
        best.iter()
            .all(|candidate| candidate.node.tenant != "other")
    );
    assert_eq!(given.generation, 1);
}
