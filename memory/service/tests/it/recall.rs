//! A recall through the service is the recall of the same store in process.

use std::time::Duration;
use weir_embed::{EmbedQueue, Embedder};
use weir_memory::{
    Access, Batch, Filter, Memory, MemoryConfig, NewNode, NodeId, NodeType, RecallLimits,
};
use weir_memory_live::{
    Asked, LiveMemory, MemoryCalls, MemoryError, Recollection, Sought, Spent, Wanted,
};

use crate::http::gateway;
use crate::world::{MODEL, World, corpus, until};
use weir_gateway::MemoryAsset;

fn admin() -> Access {
    Access {
        tenant: "ops".to_owned(),
        admin: true,
    }
}

fn asked(tenant: &str, text: &str) -> Asked {
    Asked {
        text: text.to_owned(),
        vector: None,
        embed: true,
        wanted: Some(Wanted {
            filter: Filter {
                tenant: tenant.to_owned(),
                ..Filter::default()
            },
            limits: RecallLimits {
                seeds: 4,
                hops: 2,
                nodes_max: 16,
            },
            candidates: 24,
        }),
    }
}

fn sought(tenant: &str, text: &str) -> Sought {
    Sought {
        text: text.to_owned(),
        vector: None,
        embed: true,
        filter: Filter {
            tenant: tenant.to_owned(),
            ..Filter::default()
        },
        k: 5,
    }
}

/// The same corpus in this process.
fn local(world: &World, batch: &Batch) -> (Memory, EmbedQueue) {
    let config = MemoryConfig {
        dimensions: world.dimensions,
        embedding_model: MODEL.to_owned(),
    };
    let store = Memory::open(&world.path("local"), &config).unwrap();
    store.write(batch).unwrap();
    // As the service does by itself.
    store.join_topics(batch.nodes.len()).unwrap();
    let embed = EmbedQueue::new(Embedder::load(&world.embedder).unwrap());
    (store, embed)
}

fn without_times(given: Recollection) -> Recollection {
    Recollection {
        spent: Spent::default(),
        ..given
    }
}

const QUESTIONS: [&str; 4] = [
    "When does the heron fish?",
    "small dams holding back streams",
    "weir",
    "zxqy",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_through_the_service_gives_what_the_same_store_gives_in_process() {
    let Some(world) = World::new() else { return };
    let (service, remote) = world.connected().await;
    let batch = corpus(&world.embedder);
    let written = remote.write(admin(), batch.clone()).await.unwrap();
    assert_eq!((written.inserted, written.edges), (10, 7));
    let (store, embed) = local(&world, &batch);
    let embedder = weir_memory_live::Embedder::InProcess(embed.clone());
    let own = LiveMemory::new(store.clone(), Some(embedder));
    let joined = async {
        let first = asked("acme", QUESTIONS[0]);
        while remote.recall(first.clone()).await.unwrap().generation != store.generation() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), joined)
        .await
        .expect("the service joins topics");
    for (tenant, question) in ["acme", "globex", "nobody"]
        .into_iter()
        .flat_map(|tenant| QUESTIONS.map(|question| (tenant, question)))
    {
        let asked = asked(tenant, question);
        let here = without_times(own.recall(asked.clone()).await.unwrap());
        let there = without_times(remote.recall(asked).await.unwrap());
        assert_eq!(there, here, "{tenant}: {question}");
        let (_, candidates) = there.found.unwrap();
        assert!(!candidates.is_empty() && there.vector.is_some());

        let sought = sought(tenant, question);
        let here = own.search(sought.clone()).await;
        assert_eq!(
            remote.search(sought.clone()).await,
            here,
            "{tenant}: {question}"
        );
        let limits = RecallLimits::default();
        let here = own.attend(sought.clone(), limits).await;
        assert_eq!(remote.attend(sought, limits).await, here);
    }

    // The router sees the same, whoever owns the memory.
    let near = MemoryAsset::Open {
        store,
        embed: Some(embed),
    };
    let far = MemoryAsset::Service(std::sync::Arc::new(remote));
    let (near, far) = (
        gateway(near, world.dimensions),
        gateway(far, world.dimensions),
    );
    for question in QUESTIONS {
        let ask = weir_gateway::ask::Ask::question(
            question,
            weir_gateway::ask::Caller {
                tenant: "acme".to_owned(),
                ..Default::default()
            },
        );
        let (near, far) = (
            near.prepare(&ask).await.unwrap(),
            far.prepare(&ask).await.unwrap(),
        );
        assert_eq!(far.features.len(), 3, "query, search and recall");
        assert_eq!(far.features, near.features, "{question}");
    }
    drop((near, far));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_recall_and_no_search_leaves_its_tenant() {
    let Some(world) = World::new() else { return };
    let (_service, remote) = world.connected().await;
    let batch = corpus(&world.embedder);
    remote.write(admin(), batch).await.unwrap();
    let visible = |tenant: &str| tenant == "acme" || tenant == "shared";
    for question in QUESTIONS {
        let given = remote.recall(asked("acme", question)).await.unwrap();
        let ((_, vector), (_, graph)) = (given.found.unwrap(), given.attended.unwrap());
        for candidate in vector.iter().chain(&graph) {
            assert!(visible(&candidate.node.tenant), "{:?}", candidate.node);
        }
        let found = remote.search(sought("acme", question)).await.unwrap();
        assert!(found.nodes.iter().all(|node| visible(&node.tenant)));
    }
    let acme = Access {
        tenant: "acme".to_owned(),
        admin: false,
    };
    let globex = NodeId::derived("globex", "corpus", 4);
    let gone = remote.delete(acme.clone(), globex).await;
    assert_eq!(gone, Ok(false), "it is not there for acme");
    let shared = NodeId::derived("shared", "corpus", 0);
    let refused = remote.delete(acme.clone(), shared).await;
    assert!(
        matches!(refused, Err(MemoryError::Forbidden(_))),
        "{refused:?}"
    );
    let stolen = Batch {
        nodes: vec![NewNode {
            id: globex,
            ..NewNode::new("acme", "mine now")
        }],
        edges: Vec::new(),
    };
    let refused = remote.write(acme, stolen).await;
    assert!(
        matches!(refused, Err(MemoryError::Forbidden(_))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn passages_without_vectors_get_them_and_are_counted() {
    let Some(world) = World::new() else { return };
    let (service, remote) = world.connected().await;
    let mut batch = corpus(&world.embedder);
    for node in &mut batch.nodes {
        node.vector = None;
    }
    let known = corpus(&world.embedder).nodes[0].vector.clone().unwrap();
    remote.write(admin(), batch).await.unwrap();
    let filled = async || {
        let page = service.page("/metrics").await;
        page.contains("\nweir_memory_vectors 10\n")
            && page.contains("\nweir_memory_vectors_pending 0\n")
    };
    until("every passage has its vector", filled).await;
    let page = service.page("/metrics").await;
    assert!(page.contains("weir_memory_nodes 10"), "{page}");
    assert!(page.contains("weir_memory_edges 7"), "{page}");
    assert!(
        page.contains(r#"weir_memory_calls_total{call="Write",code="Ok"} 1"#),
        "{page}"
    );
    let mut by_vector = sought("acme", "zxqy");
    by_vector.vector = Some(known);
    let found = remote.search(by_vector).await.unwrap();
    let cosine = found.result.hits[0].cosine.unwrap();
    assert!(cosine > 0.999, "the vector is that of its text: {cosine}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_is_erased_through_the_service_and_by_admins_only() {
    let Some(world) = World::new() else { return };
    let (_service, remote) = world.connected().await;
    let mut node = NewNode::new("acme", "jane keeps geese");
    node.metadata.subject = Some("jane".to_owned());
    let batch = Batch {
        nodes: vec![node.clone()],
        edges: Vec::new(),
    };
    remote.write(admin(), batch).await.unwrap();
    let caller = Access {
        tenant: "acme".to_owned(),
        admin: false,
    };
    let refused = remote.erase(caller, "jane".to_owned(), None).await;
    assert!(
        matches!(refused, Err(MemoryError::Forbidden(_))),
        "{refused:?}"
    );
    let erased = remote
        .erase(admin(), "jane".to_owned(), None)
        .await
        .unwrap();
    assert_eq!((erased.nodes, erased.ids), (1, vec![node.id]));
    let found = remote.search(sought("acme", "jane")).await.unwrap();
    assert_eq!(found.nodes, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_with_its_reason_and_nothing_of_it_is_written() {
    let Some(world) = World::new() else { return };
    let (_service, remote) = world.connected().await;
    let mut bad = NewNode::new("ops", "a vector of another model");
    bad.vector = Some(vec![1.0, 2.0]);
    let batch = Batch {
        nodes: vec![NewNode::new("ops", "good"), bad],
        edges: Vec::new(),
    };
    let refused = remote.write(admin(), batch).await.unwrap_err();
    assert!(
        matches!(&refused, MemoryError::Refused(why) if why.contains("2 dimensions")),
        "{refused:?}"
    );
    let mut narrow = sought("ops", "good");
    narrow.filter.types = vec![NodeType::Doc];
    assert_eq!(remote.search(narrow).await.unwrap().nodes, []);
    let mut wrong = sought("ops", "good");
    wrong.vector = Some(vec![1.0]);
    let refused = remote.search(wrong).await.unwrap_err();
    assert!(matches!(refused, MemoryError::Refused(_)), "{refused:?}");
}
