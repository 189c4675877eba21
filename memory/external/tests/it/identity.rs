//! What is made in the servers, and what is refused.

use std::time::Instant;
use weir_memory_external::{ExternalConfig, ExternalMemory, Server, StoreError};
use weir_memory_live::{MemoryCalls, MemoryError, Presence};
use weir_plan::Secret;

use crate::world::{PATIENCE, World, acme, batch, node, sought};

async fn refused(config: ExternalConfig) -> String {
    let memory = ExternalMemory::new(config, None).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        let error = memory.tend().await.unwrap_err();
        // A busy Neo4j takes long for its indexes, and gives up waiting for them.
        if !error.to_string().contains("wait for indexes") || Instant::now() > deadline {
            break error;
        }
    };
    let written = memory.write(acme(), batch(vec![node("a", "b", 0)])).await;
    assert!(matches!(written, Err(MemoryError::Away(_))), "{written:?}");
    assert!(matches!(memory.presence(), Presence::Away(_)));
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_and_indexes_are_made_once_and_stay() {
    let Some(world) = World::new().await else {
        return;
    };
    world.open().await;
    world.open().await;
    let constraints = world
        .cypher("SHOW CONSTRAINTS YIELD name, labelsOrTypes RETURN name, labelsOrTypes AS labels");
    let constraints = constraints.await.unwrap();
    let of = |row: &neo4rs::Row| row.get::<Vec<String>>("labels").unwrap();
    let label = format!("Weir_{}", world.config.collection);
    assert!(constraints.iter().any(|row| of(row) == [label.clone()]));
    assert!(constraints.iter().any(|row| of(row) == ["WeirStore"]));
    if let Some(fake) = &world.qdrant {
        let collection = fake.held.collection(&world.config.collection).unwrap();
        let indexes: Vec<&str> = collection.indexes.iter().map(String::as_str).collect();
        assert_eq!(indexes, ["domain", "tenant", "type"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_other_dimensions_or_another_model_are_refused_by_name() {
    let Some(world) = World::new().await else {
        return;
    };
    world.open().await;
    let mut other = world.config.clone();
    other.dimensions = 9;
    let error = refused(other).await;
    assert!(error.contains("vectors of 8 dimensions, not 9"), "{error}");
    let mut other = world.config.clone();
    other.embedding_model = "another".into();
    let error = refused(other).await;
    assert!(error.contains("\"test-model\", not \"another\""), "{error}");
    // A graph that was lost beside a collection that was not.
    world
        .cypher("MATCH (s:WeirStore) WHERE 'Weir_' + s.name = '{label}' DELETE s")
        .await
        .unwrap();
    let mut other = world.config.clone();
    other.dimensions = 9;
    let error = refused(other).await;
    assert!(
        error.contains("in Qdrant holds vectors of 8 dimensions"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_refused_by_the_server_and_named_nowhere() {
    let Some(mut world) = World::new().await else {
        return;
    };
    let mut config = world.config.clone();
    config.neo4j.password = Secret::new("not-the-password");
    let error = refused(config).await;
    assert_eq!(error, "Neo4j refuses the credentials");
    let config = world.config.clone();
    let Some(fake) = world.fake() else { return };
    *fake.held.api_key.lock().unwrap() = Some("right".into());
    assert_eq!(
        refused(config.clone()).await,
        "Qdrant refuses the credentials"
    );
    let mut right = config;
    right.qdrant.api_key = Some(Secret::new("right"));
    let memory = ExternalMemory::new(right, None).unwrap();
    memory.tend().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_was_dropped_is_made_again_and_filled_from_the_rows() {
    let Some(mut world) = World::new().await else {
        return;
    };
    let name = world.config.collection.clone();
    if world.fake().is_none() {
        return;
    }
    let memory = world.open().await;
    memory
        .write(acme(), batch(vec![node("whale", "the whale sings", 0)]))
        .await
        .unwrap();
    world.fake().unwrap().held.drop_collection(&name);
    let error = memory.tend().await.unwrap_err();
    assert_eq!(error, StoreError::Away(Server::Qdrant));
    memory.tend().await.unwrap();
    let found = memory.search(sought("whale", None)).await.unwrap();
    assert_eq!(found.nodes.len(), 1);
    assert_eq!(
        memory.last_seen().counts.pending,
        1,
        "its vector is made anew"
    );
}
