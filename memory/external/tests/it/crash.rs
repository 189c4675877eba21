//! Killed with SIGKILL at any moment, a process leaves nothing acknowledged lost, nothing half visible, and nothing to
//! repair by hand.
//!
//! The test binary runs itself as the child (`a_child_that_writes_until_it_is_killed` with environment variables).

use std::collections::HashMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_memory_external::ExternalMemory;
use weir_memory_live::MemoryCalls;
use weir_plan::Secret;

use crate::world::{DIMENSIONS, World, acme, batch, id, node, sought};

const CHILD: &str = "WEIR_MEMORY_EXTERNAL_CHILD";

/// Kills; each child goes on with what the one before left.
const ROUNDS: u64 = 12;

/// Nodes that are written again and again.
const NAMES: usize = 20;

/// What is known of a node: the number of its text, or that it is gone.
type Known = HashMap<String, Option<usize>>;

/// The node of the `number`-th write: text and vector tell the number.
fn heron(name: &str, number: usize) -> weir_memory::NewNode {
    node(name, &format!("heron number {number}"), number)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_writes_until_it_is_killed() {
    let Ok(told) = env::var(CHILD) else { return };
    let [collection, qdrant, neo4j, first] = told.split(' ').collect::<Vec<_>>()[..] else {
        panic!("the child is told four things");
    };
    let mut config = World::with(neo4j.to_owned()).await.config.clone();
    config.collection = collection.to_owned();
    config.qdrant.url = qdrant.to_owned();
    config.neo4j.password = Secret::new(weir_testenv::Neo4j::PASSWORD);
    let memory = ExternalMemory::new(config, None).unwrap();
    memory.tend().await.unwrap();
    let say = |line: &str| {
        let mut out = std::io::stdout();
        out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    };
    for number in first.parse::<usize>().unwrap().. {
        let name = format!("n{}", number * 7 % NAMES);
        if number % 5 == 0 {
            say(&format!("try {name} gone"));
            memory.delete(acme(), id(&name)).await.unwrap();
            say(&format!("ack {name} gone"));
        } else {
            say(&format!("try {name} {number}"));
            memory
                .write(acme(), batch(vec![heron(&name, number)]))
                .await
                .unwrap();
            say(&format!("ack {name} {number}"));
        }
    }
}

/// What the child said: what is acknowledged, and what it was trying last.
#[derive(Default)]
struct Said {
    acknowledged: Known,
    trying: Option<(String, Option<usize>)>,
    highest: usize,
}

fn listen(child: &mut Child, said: Arc<Mutex<Said>>) -> std::thread::JoinHandle<()> {
    let out = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let [verb @ ("try" | "ack"), name, what] = line.split(' ').collect::<Vec<_>>()[..]
            else {
                continue;
            };
            let number = what.parse::<usize>().ok();
            let mut said = said.lock().unwrap();
            said.highest = said.highest.max(number.unwrap_or(0));
            match verb {
                "try" => said.trying = Some((name.to_owned(), number)),
                _ => {
                    said.trying = None;
                    said.acknowledged.insert(name.to_owned(), number);
                }
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_and_nothing_is_half_visible() {
    let Some(world) = World::new().await else {
        return;
    };
    let reader = world.open().await;
    let mut known = Known::new();
    let mut first = 1;
    let mut seen = 0;
    for round in 0..ROUNDS {
        let config = &world.config;
        let told = [&config.collection, &config.qdrant.url, &config.neo4j.url].map(String::as_str);
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "crash::a_child_that_writes_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD, format!("{} {first}", told.join(" ")))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Said::default()));
        let listening = listen(&mut child, Arc::clone(&said));
        crate::world::eventually("the child writes", async || {
            !said.lock().unwrap().acknowledged.is_empty()
        })
        .await;
        let kill_at = tokio::time::Instant::now() + Duration::from_millis(40 + 37 * round);
        while tokio::time::Instant::now() < kill_at {
            seen += look(&reader, seen).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        listening.join().unwrap();
        let said = std::mem::take(&mut *said.lock().unwrap());
        known.extend(said.acknowledged);
        first = said.highest + 1;
        reader.tend().await.unwrap();
        settled(&world, &reader, &mut known, said.trying).await;
    }
    assert!(seen > 0, "the reader saw nothing");
}

/// Nodes seen in one search, each whole: its vector is that of its text.
async fn look(reader: &ExternalMemory, turn: usize) -> usize {
    let direction = turn % DIMENSIONS;
    let found = reader
        .search(sought("heron", Some(direction)))
        .await
        .unwrap();
    for node in &found.nodes {
        let hit = found
            .result
            .hits
            .iter()
            .find(|hit| hit.id == node.id)
            .unwrap();
        let number: usize = node.text.rsplit(' ').next().unwrap().parse().unwrap();
        let leans = hit.cosine.unwrap() > 0.5;
        assert_eq!(
            leans,
            number % DIMENSIONS == direction,
            "{node:?} has another text's vector"
        );
    }
    1 + found.nodes.len()
}

/// Every node is as it was acknowledged, or as the write that was going on would have it, in both servers.
async fn settled(
    world: &World,
    reader: &ExternalMemory,
    known: &mut Known,
    trying: Option<(String, Option<usize>)>,
) {
    let rows = world
        .cypher("MATCH (n:{label}) RETURN n.id AS id, n.text AS text")
        .await
        .unwrap();
    let rows: HashMap<String, String> = rows
        .iter()
        .map(|row| (row.get("id").unwrap(), row.get("text").unwrap()))
        .collect();
    // A commit that was on its way when the child was killed is among the rows, and its point follows now.
    reader.tend().await.unwrap();
    for name in 0..NAMES {
        let name = format!("n{name}");
        let stored = rows.get(&id(&name).to_string());
        let number = stored.map(|text| text.rsplit(' ').next().unwrap().parse().unwrap());
        let acknowledged = known.get(&name).copied().flatten();
        let tried = trying.as_ref().filter(|(tried, _)| *tried == name);
        let fits = number == acknowledged || tried.is_some_and(|(_, tried)| number == *tried);
        assert!(
            fits,
            "{name} is {number:?}, acknowledged was {acknowledged:?}, tried {tried:?}"
        );
        known.insert(name.clone(), number);
        if let Some(number) = number {
            let mut all = sought(&format!("{number}"), Some(number));
            all.k = NAMES;
            let found = reader.search(all).await.unwrap();
            let hit = found.result.hits.iter().find(|hit| hit.id == id(&name));
            let hit = hit.unwrap_or_else(|| panic!("{name} is stored and not found"));
            assert!(hit.cosine.unwrap() > 0.9, "{name} has another vector");
        }
    }
    assert_eq!(reader.last_seen().behind, 0);
    if let Some(fake) = &world.qdrant {
        let collection = fake.held.collection(&world.config.collection).unwrap();
        assert_eq!(collection.points.len(), rows.len(), "a point without a row");
    }
}
