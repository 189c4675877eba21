//! Either server away: what is acknowledged stays, what cannot be had is said, and everything goes on without help.

use std::sync::atomic::Ordering;

use weir_memory::Batch;
use weir_memory_external::{ExternalMemory, Server, StoreError};
use weir_memory_live::{MemoryCalls, MemoryError, Presence};
use weir_testenv::Neo4j;

use crate::world::{World, acme, admin, batch, eventually, id, node, sought};

async fn is_open(memory: &ExternalMemory) {
    eventually("both servers answer", async || {
        matches!(memory.presence(), Presence::Here(_))
    })
    .await;
}

fn heron() -> Batch {
    batch(vec![node("heron", "the heron waits", 0)])
}

/// A memory, opened, that holds a node.
async fn with_a_heron(world: &World) -> ExternalMemory {
    let memory = world.open().await;
    memory.write(acme(), heron()).await.unwrap();
    memory
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_taken_while_qdrant_is_away_and_found_when_it_is_back() {
    let Some(mut world) = World::new().await else {
        return;
    };
    let (memory, stop) = world.run();
    is_open(&memory).await;
    memory
        .write(acme(), batch(vec![node("old", "the heron waits", 0)]))
        .await
        .unwrap();
    let Some(fake) = world.fake() else { return };
    fake.stop().await;
    memory
        .write(acme(), batch(vec![node("new", "the heron strikes", 1)]))
        .await
        .unwrap();
    assert!(memory.delete(acme(), id("old")).await.unwrap());
    let away = StoreError::Away(Server::Qdrant);
    let searched = memory.search(sought("heron", Some(1))).await;
    assert_eq!(searched, Err(MemoryError::Away(away.to_string())));
    eventually("the lag is seen", async || {
        let seen = memory.last_seen();
        seen.behind == 2 && seen.away == Some(away.clone()) && !seen.lag.is_zero()
    })
    .await;
    assert_eq!(
        memory.presence(),
        Presence::Away("Qdrant cannot be reached".into())
    );
    world.fake().unwrap().go_on().await;
    is_open(&memory).await;
    let seen = memory.last_seen();
    assert_eq!((seen.behind, seen.lag.is_zero()), (0, true));
    let found = memory.search(sought("heron", Some(1))).await.unwrap();
    let texts: Vec<&str> = found.nodes.iter().map(|node| node.text.as_str()).collect();
    assert_eq!(texts, ["the heron strikes"]);
    assert!(found.result.hits[0].cosine.unwrap() > 0.9);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_behind_is_found_neither_as_it_was_nor_half_as_it_is() {
    let Some(mut world) = World::new().await else {
        return;
    };
    let memory = with_a_heron(&world).await;
    let Some(fake) = world.fake() else { return };
    fake.held.busy.store(3, Ordering::SeqCst);
    memory
        .write(acme(), batch(vec![node("heron", "the crane waits", 1)]))
        .await
        .unwrap();
    for (words, direction) in [("heron", 0), ("crane", 1), ("waits", 1)] {
        let found = memory.search(sought(words, Some(direction))).await.unwrap();
        assert_eq!(found.nodes, [], "{words}");
    }
    // As after a crash: another process finds the mark.
    let next = world.open().await;
    let found = next.search(sought("crane", Some(1))).await.unwrap();
    assert_eq!(found.nodes[0].text, "the crane waits");
    assert!(found.result.hits[0].cosine.unwrap() > 0.9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_of_a_node_that_came_back_is_not_removed_by_the_mark_of_its_removal() {
    let Some(mut world) = World::new().await else {
        return;
    };
    let memory = with_a_heron(&world).await;
    let Some(fake) = world.fake() else { return };
    fake.held.busy.store(3, Ordering::SeqCst);
    assert!(memory.delete(acme(), id("heron")).await.unwrap());
    memory.write(acme(), heron()).await.unwrap();
    memory.tend().await.unwrap();
    let found = memory.search(sought("heron", Some(0))).await.unwrap();
    assert_eq!(found.nodes.len(), 1);
    assert_eq!(
        world
            .count("MATCH (n:{label}_gone) RETURN count(n) AS n")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_busy_is_asked_again_a_few_times_and_no_more() {
    let Some(mut world) = World::new().await else {
        return;
    };
    let memory = with_a_heron(&world).await;
    let Some(fake) = world.fake() else { return };
    fake.held.busy.store(2, Ordering::SeqCst);
    let found = memory.search(sought("heron", None)).await.unwrap();
    assert_eq!(found.nodes.len(), 1);
    assert_eq!(fake.held.busy.load(Ordering::SeqCst), 0);
    fake.held.busy.store(usize::MAX, Ordering::SeqCst);
    let before = fake.held.calls.load(Ordering::SeqCst);
    let searched = memory.search(sought("heron", None)).await;
    assert!(
        matches!(searched, Err(MemoryError::Away(_))),
        "{searched:?}"
    );
    let calls = fake.held.calls.load(Ordering::SeqCst) - before;
    assert!(
        calls <= 9,
        "three calls, each made three times, and not {calls}"
    );
    fake.held.busy.store(0, Ordering::SeqCst);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_qdrant_holds_up_no_write_for_longer_than_a_deadline() {
    let Some(mut world) = World::new().await else {
        return;
    };
    let memory = world.open().await;
    let Some(fake) = world.fake() else { return };
    fake.held.silent.store(true, Ordering::SeqCst);
    memory
        .write(acme(), batch(vec![node("heron", "the heron waits", 0)]))
        .await
        .unwrap();
    let erased = memory.erase(admin(), "nobody".into(), None).await;
    assert!(matches!(erased, Err(MemoryError::Away(_))), "{erased:?}");
    fake.held.silent.store(false, Ordering::SeqCst);
    memory.tend().await.unwrap();
    let erased = memory.erase(admin(), "nobody".into(), None).await.unwrap();
    assert_eq!(erased.nodes, 0);
    let found = memory.search(sought("heron", None)).await.unwrap();
    assert_eq!(found.nodes.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neo4j_that_was_killed_or_stopped_loses_nothing_and_is_used_again_when_it_is_back() {
    let Some(mut neo4j) = tokio::task::block_in_place(Neo4j::start) else {
        return;
    };
    let world = World::with(neo4j.url()).await;
    let (memory, stop) = world.run();
    is_open(&memory).await;
    memory
        .write(acme(), batch(vec![node("old", "the heron waits", 0)]))
        .await
        .unwrap();
    tokio::task::block_in_place(|| neo4j.kill());
    let refused = memory
        .write(acme(), batch(vec![node("lost", "the heron sleeps", 1)]))
        .await;
    assert_eq!(
        refused,
        Err(MemoryError::Away("Neo4j cannot be reached".into()))
    );
    let searched = memory.search(sought("heron", Some(0))).await;
    assert!(
        matches!(searched, Err(MemoryError::Away(_))),
        "{searched:?}"
    );
    eventually("it is said", async || {
        memory.presence() == Presence::Away("Neo4j cannot be reached".into())
    })
    .await;
    tokio::task::block_in_place(|| neo4j.run());
    is_open(&memory).await;
    let found = memory.search(sought("heron", Some(0))).await.unwrap();
    let texts: Vec<&str> = found.nodes.iter().map(|node| node.text.as_str()).collect();
    assert_eq!(texts, ["the heron waits"]);
    neo4j.freeze();
    let late = memory
        .write(acme(), batch(vec![node("late", "the heron dives", 2)]))
        .await;
    assert_eq!(late, Err(MemoryError::Late));
    neo4j.thaw();
    is_open(&memory).await;
    memory
        .write(acme(), batch(vec![node("late", "the heron dives", 2)]))
        .await
        .unwrap();
    let found = memory.search(sought("heron", Some(2))).await.unwrap();
    assert_eq!(found.nodes.len(), 2);
    stop.cancel();
    drop(world);
    tokio::task::block_in_place(|| drop(neo4j));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_get_in_each_others_way_all_succeed() {
    let Some(world) = World::new().await else {
        return;
    };
    let memory = world.open().await;
    let mut writers = Vec::new();
    for writer in 0..4 {
        let memory = memory.clone();
        writers.push(tokio::spawn(async move {
            for round in 0..10 {
                let names = (0..10).map(|name| {
                    // Each in another order, which is how deadlocks are made.
                    let name = (name * (2 * writer + 1) + round) % 10;
                    node(&format!("n{name}"), &format!("text {writer} {round}"), name)
                });
                memory.write(acme(), batch(names.collect())).await.unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    memory.tend().await.unwrap();
    assert_eq!(memory.last_seen().generation, 40);
    assert_eq!(memory.last_seen().behind, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nobody_listens_is_away_and_no_error_names_it() {
    let Some(world) = World::new().await else {
        return;
    };
    let mut config = world.config.clone();
    config.neo4j.url = "bolt://127.0.0.1:1".into();
    let memory = ExternalMemory::new(config, None).unwrap();
    assert_eq!(memory.tend().await, Err(StoreError::Away(Server::Neo4j)));
    let mut config = world.config.clone();
    config.qdrant.url = "http://127.0.0.1:1".into();
    let memory = ExternalMemory::new(config, None).unwrap();
    let error = memory.tend().await.unwrap_err();
    assert_eq!(error, StoreError::Away(Server::Qdrant));
    assert!(!error.to_string().contains("127"));
}
