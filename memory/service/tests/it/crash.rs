//! Killed with SIGKILL in the middle of writes, the service keeps what it acknowledged.
//!
//! The test binary runs itself as the child (`a_child_that_serves_until_it_is_killed` with an environment variable).

use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weir_memory::{Access, Batch, Memory, MemoryConfig, NewNode, NodeId};
use weir_memory_live::MemoryCalls;
use weir_memory_service::{Options, Server, Store};

use crate::world::{MODEL, World, here};

const CHILD: &str = "WEIR_MEMORY_SERVICE_CHILD";

/// Kills; each child goes on with the store of the one before.
const ROUNDS: u32 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_serves_until_it_is_killed() {
    let Ok(folder) = env::var(CHILD) else { return };
    let Some(world) = World::new() else { return };
    let folder = PathBuf::from(folder);
    let server = Server::bind(Options {
        store: Store::Folder(folder.join("store")),
        tls: folder.join("memory-tls"),
        ..world.options()
    });
    let server = server.await.unwrap();
    println!("\nlistening {}", server.addresses().unwrap().0);
    server.run(CancellationToken::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    let Some(world) = World::new() else { return };
    let mut acknowledged: Vec<NodeId> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "crash::a_child_that_serves_until_it_is_killed"])
            .arg("--nocapture")
            .env(CHILD, world.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| {
            let address = line.strip_prefix("listening ")?;
            address.parse::<SocketAddr>().ok()
        });
        let client = Arc::new(world.client(address.unwrap()));
        here(&client).await;
        let writing = tokio::spawn(write_until_it_fails(Arc::clone(&client), round));
        tokio::time::sleep(Duration::from_millis(150 + 90 * u64::from(round))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let written = writing.await.unwrap();
        assert!(!written.is_empty(), "the child lived too short a time");
        acknowledged.extend(written);
    }
    let config = MemoryConfig {
        dimensions: world.dimensions,
        embedding_model: MODEL.to_owned(),
    };
    let store = Memory::open(&world.path("store"), &config).unwrap();
    let kept = store.nodes(&acknowledged).unwrap();
    assert_eq!(kept.len(), acknowledged.len());
}

async fn write_until_it_fails(
    client: Arc<weir_gateway_cluster::RemoteMemory>,
    round: u32,
) -> Vec<NodeId> {
    let access = Access {
        tenant: "acme".to_owned(),
        admin: false,
    };
    let mut written = Vec::new();
    for number in 0.. {
        let node = NewNode::new("acme", format!("heron {number} of round {round}"));
        let id = node.id;
        let batch = Batch {
            nodes: vec![node],
            edges: Vec::new(),
        };
        match client.write(access.clone(), batch).await {
            Ok(_) => written.push(id),
            Err(_) => break,
        }
    }
    written
}
