//! What a write does, as it does in the embedded store: who may, what counts as a change, which stamps grow.

use weir_memory::{Access, Batch, Metadata, NewEdge, NewNode, NodeType};
use weir_memory_live::{MemoryCalls, MemoryError, Unembedded};

use crate::world::{World, acme, admin, batch, id, node, sought};

#[tokio::test(flavor = "multi_thread")]
async fn what_would_change_nothing_is_not_written_and_content_alone_bumps_stamps() {
    let Some(world) = World::new().await else {
        return;
    };
    let memory = world.open().await;
    let whale = node("whale", "the whale sings", 0);
    let first = memory
        .write(acme(), batch(vec![whale.clone()]))
        .await
        .unwrap();
    assert_eq!((first.inserted, first.generation), (1, 1));
    let again = memory
        .write(acme(), batch(vec![whale.clone()]))
        .await
        .unwrap();
    assert_eq!((again.unchanged, again.generation), (1, 1));
    let turned = NewNode {
        vector: node("whale", "", 3).vector,
        ..whale.clone()
    };
    let vector = memory.write(acme(), batch(vec![turned])).await.unwrap();
    assert_eq!((vector.unchanged, vector.generation), (1, 2));
    let found = memory.search(sought("", Some(3))).await.unwrap();
    assert!(found.result.hits[0].cosine.unwrap() > 0.9);
    assert_eq!(found.nodes[0].stamp, 1, "a vector is no content");
    let other = NewNode {
        metadata: Metadata {
            domain: Some("sea".into()),
            ..Metadata::default()
        },
        vector: None,
        ..whale
    };
    let changed = memory.write(acme(), batch(vec![other])).await.unwrap();
    assert_eq!((changed.updated, changed.generation), (1, 3));
    let mut at_sea = sought("whale", Some(3));
    at_sea.filter.domains = vec!["sea".into()];
    let found = memory.search(at_sea).await.unwrap();
    assert_eq!(found.nodes[0].stamp, 3);
    let kept = found.result.hits[0].cosine;
    assert!(
        kept.unwrap() > 0.9,
        "the text is the same, so the vector stays"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_of_knowledge_bump_the_stamps_of_their_ends_and_those_of_traces_do_not() {
    let Some(world) = World::new().await else {
        return;
    };
    let memory = world.open().await;
    let trace = NewNode {
        node_type: NodeType::Trace,
        ..node("asked", "what sings", 2)
    };
    let nodes = vec![
        node("whale", "whales sing", 0),
        node("krill", "krill swims", 1),
        trace,
    ];
    memory.write(acme(), batch(nodes)).await.unwrap();
    let link = |src: &str, dst: &str, rel: &str| Batch {
        nodes: Vec::new(),
        edges: vec![NewEdge::new(id(src), id(dst), rel)],
    };
    let stamp = async |name: &str| {
        let statement = format!(
            "MATCH (n:{{label}} {{id: '{}'}}) RETURN n.stamp AS n",
            id(name)
        );
        world.count(&statement).await
    };
    let written = memory
        .write(acme(), link("whale", "krill", "cites"))
        .await
        .unwrap();
    assert_eq!((written.edges, written.generation), (1, 2));
    assert_eq!((stamp("whale").await, stamp("krill").await), (2, 2));
    let again = memory
        .write(acme(), link("whale", "krill", "cites"))
        .await
        .unwrap();
    assert_eq!((again.edges, again.generation), (0, 2));
    memory
        .write(acme(), link("asked", "whale", "used"))
        .await
        .unwrap();
    assert_eq!(stamp("whale").await, 2);
    assert!(memory.delete(acme(), id("krill")).await.unwrap());
    assert_eq!(stamp("whale").await, 4);
    assert!(!memory.delete(acme(), id("krill")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_writes_and_removes_its_own_and_nothing_of_a_refused_batch_is_kept() {
    let Some(world) = World::new().await else {
        return;
    };
    let memory = world.open().await;
    let shared = NewNode {
        tenant: "shared".into(),
        ..node("law", "the law of the sea", 4)
    };
    let refused = memory.write(acme(), batch(vec![shared.clone()])).await;
    assert!(
        matches!(refused, Err(MemoryError::Forbidden(_))),
        "{refused:?}"
    );
    memory.write(admin(), batch(vec![shared])).await.unwrap();
    memory
        .write(acme(), batch(vec![node("own", "mine", 0)]))
        .await
        .unwrap();
    let other = Access {
        tenant: "other".into(),
        admin: false,
    };
    let theirs = NewNode {
        tenant: "other".into(),
        ..node("own", "taken over", 0)
    };
    let refused = memory.write(other.clone(), batch(vec![theirs])).await;
    assert!(
        matches!(refused, Err(MemoryError::Forbidden(_))),
        "{refused:?}"
    );
    assert!(!memory.delete(other, id("own")).await.unwrap());
    let refused = memory.delete(acme(), id("law")).await;
    assert!(
        matches!(refused, Err(MemoryError::Forbidden(_))),
        "{refused:?}"
    );
    let half = Batch {
        nodes: vec![node("new", "half a batch", 1)],
        edges: vec![NewEdge::new(id("new"), id("nowhere"), "cites")],
    };
    let refused = memory.write(acme(), half).await;
    assert!(
        matches!(refused, Err(MemoryError::Field { .. })),
        "{refused:?}"
    );
    let found = memory.search(sought("half batch", None)).await.unwrap();
    assert_eq!(found.nodes, []);
    let wrong = NewNode {
        vector: Some(vec![1.0]),
        ..node("own", "mine", 0)
    };
    let refused = memory.write(acme(), batch(vec![wrong])).await;
    assert!(
        matches!(refused, Err(MemoryError::Refused(_))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn passages_without_vectors_wait_for_them_and_one_of_an_older_text_is_ignored() {
    let Some(world) = World::new().await else {
        return;
    };
    let memory = world.open().await;
    let bare = |text: &str| NewNode {
        vector: None,
        ..node("whale", text, 0)
    };
    memory
        .write(acme(), batch(vec![bare("the whale sings")]))
        .await
        .unwrap();
    let found = memory.search(sought("whale", Some(0))).await.unwrap();
    assert_eq!(found.result.hits[0].cosine, None, "words find it meanwhile");
    memory.tend().await.unwrap();
    assert_eq!(memory.waiting(), 1);
    let passages = memory.passages(8).await.unwrap();
    assert_eq!(passages, [(id("whale"), "the whale sings".to_owned())]);
    memory
        .write(acme(), batch(vec![bare("the whale dives")]))
        .await
        .unwrap();
    let vector = node("", "", 5).vector.unwrap();
    let set = async |vector: Vec<f32>| memory.set(vec![(id("whale"), vector)]).await.unwrap();
    assert_eq!(set(vector.clone()).await, 0);
    memory.passages(8).await.unwrap();
    assert_eq!(set(vector).await, 1);
    let found = memory.search(sought("", Some(5))).await.unwrap();
    assert!(found.result.hits[0].cosine.unwrap() > 0.9);
    memory.tend().await.unwrap();
    let counts = memory.last_seen().counts;
    assert_eq!((counts.nodes, counts.vectors, counts.pending), (1, 1, 0));
}
