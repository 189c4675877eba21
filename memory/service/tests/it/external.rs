//! The service over Qdrant and Neo4j: gateways ask it like any other, and hear when a server behind it is away.

use weir_memory::{Access, Batch, Filter, NewNode};
use weir_memory_external::{Neo4jConfig, QdrantConfig};
use weir_memory_live::{MemoryCalls, Presence, Sought};
use weir_memory_service::{Options, Store};
use weir_plan::Secret;
use weir_testenv::Neo4j;

use crate::qdrant_server::QdrantServer;
use crate::world::{World, away, here, start, until};

fn store(qdrant: &QdrantServer, neo4j: &Neo4j) -> Store {
    Store::External {
        collection: "kb".to_owned(),
        qdrant: QdrantConfig {
            url: qdrant.url(),
            api_key: None,
            ca: None,
        },
        neo4j: Neo4jConfig {
            url: neo4j.url(),
            user: Neo4j::USER.to_owned(),
            password: Secret::new(Neo4j::PASSWORD),
            database: None,
            ca: None,
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_store_is_filled_and_asked_and_its_servers_are_missed() {
    let Some(world) = World::new() else { return };
    let Some(neo4j) = tokio::task::block_in_place(Neo4j::start) else {
        return;
    };
    let mut qdrant = QdrantServer::start().await;
    let service = start(Options {
        store: store(&qdrant, &neo4j),
        ..world.options()
    })
    .await;
    let client = world.client(service.calls);
    here(&client).await;
    let access = Access {
        tenant: "acme".to_owned(),
        admin: false,
    };
    let batch = Batch {
        nodes: vec![NewNode::new("acme", "The heron fishes at dawn.")],
        edges: Vec::new(),
    };
    client.write(access, batch).await.unwrap();
    let sought = || Sought {
        text: "birds that catch fish".to_owned(),
        vector: None,
        embed: true,
        filter: Filter {
            tenant: "acme".to_owned(),
            ..Filter::default()
        },
        k: 5,
    };
    until("the service's own embedder made the vector", async || {
        let found = client.search(sought()).await.unwrap();
        found
            .result
            .hits
            .first()
            .is_some_and(|hit| hit.cosine.is_some())
    })
    .await;
    until("the gateway hears of it", async || {
        matches!(client.presence(), Presence::Here(counts) if (counts.nodes, counts.pending) == (1, 0))
    })
    .await;
    let page = service.page("/metrics").await;
    assert!(page.contains("weir_memory_behind 0"), "{page}");
    assert!(page.contains("weir_memory_away 0"), "{page}");
    qdrant.stop().await;
    assert_eq!(away(&client).await, "Qdrant cannot be reached");
    assert!(service.page("/readyz").await.contains("200 OK"));
    assert!(
        service
            .page("/metrics")
            .await
            .contains("weir_memory_away 1")
    );
    qdrant.go_on().await;
    here(&client).await;
    let found = client.search(sought()).await.unwrap();
    assert_eq!(found.nodes.len(), 1);
    service.stop().await;
    tokio::task::block_in_place(|| drop(neo4j));
}
