//! What answers leave in the memory: summaries of what overlaps, made by a small pool while nobody else asks it, and never by
//! one that the request may not reach.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking, asking_with, key, memory_plan, open_memory, plan, pool};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;
use weir_gateway::Outcome;
use weir_gateway::ask::{Ask, Caller};
use weir_memory::{Filter, Memory, NewNode, NodeId, NodeType, SUMMARISES};
use weir_plan::{
    Auth, EmbedderPlan, GatewayPlan, Pool, Privacy, Scope, SummariesPlan, TenantLimits,
};
use weir_router::{ArmTable, Artifact, RecallMode, Router};

const QUESTION: &str = "When does the heron fish?";
const DAWN: &str =
    "The heron fishes at dawn in the shallow water of the pond, and it never fishes at noon.";
const POND: &str =
    "At dawn the pond is shallow: the heron fishes in its water until the sun is high.";
const SUMMARY: &str = "The heron fishes at dawn in the shallow pond, never at noon.";

/// A router that answers with the graph's recall, at this rank.
fn recalls(rank: usize, pools: usize) -> Router {
    let table = ArmTable::standard(pools);
    let best = table.find(RecallMode::Graph, rank, 200).unwrap();
    let mut qualities = vec![2.0; table.arms.len()];
    qualities[best] = 4.5;
    Router::new(Artifact::constant(&table, &qualities)).unwrap()
}

/// An engine that answers and one that summarises.
async fn engines(summarises: Mode) -> (Echo, Echo) {
    (Echo::start(Mode::Echo).await, Echo::start(summarises).await)
}

fn big_and_small(asked: &Echo, small: &Echo) -> Vec<Pool> {
    vec![pool("big", &[asked]), pool("small", &[small])]
}

struct Remembering {
    world: World,
    memory: Memory,
    ids: Vec<NodeId>,
    _folder: TempDir,
}

/// A gateway whose answers come from the first of the pools and whose summaries come from the last, over a memory of two passages
/// that overlap and one that does not.
async fn remembering(pools: Vec<Pool>, change: impl FnOnce(&mut GatewayPlan)) -> Remembering {
    let in_process = EmbedderPlan::InProcess {
        source: String::new(),
    };
    let mut kb = memory_plan("none", 2, in_process);
    let writer = pools.last().unwrap().name.clone();
    kb.summaries = Some(SummariesPlan {
        pool: writer,
        min_attention: 0.05,
    });
    let (folder, memory) = open_memory(&kb);
    let count = pools.len();
    let mut plan = plan(pools);
    plan.memory = Some(kb);
    change(&mut plan);
    let tenant = match plan.auth {
        Auth::Anonymous => "anonymous",
        _ => "acme",
    };
    let nodes: Vec<NewNode> = [DAWN, POND, "Bees swarm in may."]
        .map(|text| NewNode::new(tenant, text))
        .to_vec();
    let ids = nodes.iter().map(|node| node.id).collect();
    let batch = weir_memory::Batch {
        nodes,
        edges: Vec::new(),
    };
    memory.write(&batch).unwrap();
    let world = World::with_memory(plan, recalls(0, count), Some(memory.clone())).await;
    Remembering {
        world,
        memory,
        ids,
        _folder: folder,
    }
}

impl Remembering {
    /// Asks, and hears the answer out.
    async fn ask(&self, body: &Value) {
        self.world.chat(body).await.text().await;
    }

    /// Waits until a summary has ended in this way.
    async fn until(&self, outcome: Outcome) {
        let ended = async {
            while self.count(outcome) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
        assert!(
            ended.is_ok(),
            "{outcome:?}: {:?}",
            self.world.gateway.summaries()
        );
    }

    fn count(&self, outcome: Outcome) -> u64 {
        let counts = self.world.gateway.summaries();
        counts.into_iter().find(|(of, _)| *of == outcome).unwrap().1
    }

    fn summaries(&self) -> Vec<NodeId> {
        let edges = self.memory.edges(self.ids[0]).unwrap();
        let made = edges.iter().filter(|edge| edge.rel == SUMMARISES);
        made.map(|edge| edge.src).collect()
    }
}

#[tokio::test]
async fn what_overlaps_is_compressed_once_and_stands_for_its_sources() {
    for stream in [false, true] {
        let (asked, small) = engines(Mode::Say(SUMMARY)).await;
        let memory = remembering(big_and_small(&asked, &small), |_| {}).await;
        let body = asking_with("auto", QUESTION, &json!({"stream": stream}));
        memory.ask(&body).await;
        memory.until(Outcome::Written).await;
        let [summary] = memory.summaries()[..] else {
            panic!("{stream}: {:?}", memory.summaries());
        };
        let node = memory.memory.node(summary).unwrap().unwrap();
        assert_eq!(
            (node.text.as_str(), node.node_type),
            (SUMMARY, NodeType::Summary)
        );
        assert_eq!(node.tenant, "anonymous");
        let mut sources: Vec<NodeId> = (memory.memory.edges(summary).unwrap().iter())
            .map(|edge| edge.dst)
            .collect();
        sources.sort_unstable();
        let mut expected = memory.ids[..2].to_vec();
        expected.sort_unstable();
        assert_eq!(sources, expected, "the bees are no part of it");
        let sent = small.bodies()[0].to_string();
        assert!(
            sent.contains("fishes at dawn") && !sent.contains(QUESTION),
            "{sent}"
        );

        let body = asking_with("auto", QUESTION, &json!({"weir": {"explain": true}}));
        memory.ask(&body).await;
        assert_eq!(memory.count(Outcome::Written), 1, "once");
        assert_eq!(small.bodies().len(), 1);

        // A source that changes takes it away.
        let changed = json!({"nodes": [{"id": memory.ids[1], "text": "The pond is dry."}]});
        memory
            .world
            .post("/v1/memory/nodes", &changed)
            .await
            .text()
            .await;
        assert_eq!(memory.summaries(), []);
        let scrape = memory.world.get("/metrics").await.text().await;
        assert!(
            scrape.contains("weir_summaries_total{outcome=\"written\"} 1"),
            "{scrape}"
        );
    }
}

#[tokio::test]
async fn a_summary_in_a_prompt_is_cited_with_its_sources() {
    let (asked, small) = engines(Mode::Say(SUMMARY)).await;
    let long = |text: &str| {
        format!(
            "{text} {}",
            "It is seen there every day of the year. ".repeat(16)
        )
    };
    let memory = remembering(big_and_small(&asked, &small), |_| {}).await;
    let nodes = json!({"nodes": [
        {"id": memory.ids[0], "text": long(DAWN)}, {"id": memory.ids[1], "text": long(POND)},
    ]});
    memory
        .world
        .post("/v1/memory/nodes", &nodes)
        .await
        .text()
        .await;
    memory.ask(&asking("auto", QUESTION)).await;
    memory.until(Outcome::Written).await;
    let body = asking_with("auto", QUESTION, &json!({"weir": {"explain": true}}));
    let reply = memory.world.chat(&body).await.json().await;
    let sources = reply["weir"]["sources"].as_array().unwrap();
    let of_summary = |source: &&Value| source["id"] == memory.summaries()[0].to_string();
    let summary = sources.iter().find(of_summary).expect("it is shown");
    assert_eq!(
        summary["summarises"].as_array().unwrap().len(),
        2,
        "{summary}"
    );
    let shown = |id: NodeId| sources.iter().any(|source| source["id"] == id.to_string());
    assert!(
        !shown(memory.ids[0]) && !shown(memory.ids[1]),
        "{sources:?}"
    );
}

#[tokio::test]
async fn a_cloud_pool_that_summarises_sees_no_connection_from_a_local_request() {
    let (local, cloud) = engines(Mode::Say(SUMMARY)).await;
    let far = Pool {
        privacy: Privacy::Cloud,
        ..pool("cloud", &[&cloud])
    };
    let memory = remembering(vec![pool("local", &[&local]), far], |_| {}).await;
    for stream in [false, true] {
        let more = json!({"stream": stream, "weir": {"privacy": "local"}});
        let body = asking_with("auto", QUESTION, &more);
        memory.ask(&body).await;
    }
    memory.until(Outcome::TooFar).await;
    assert_eq!(cloud.connections(), 0);
    assert_eq!(memory.summaries(), []);
    assert!(local.connections() > 0);
    // Where nothing forbids it, the pool is asked: else this test would show nothing.
    memory.ask(&asking("auto", QUESTION)).await;
    memory.until(Outcome::Written).await;
    assert!(cloud.connections() > 0);
}

#[tokio::test]
async fn a_tenant_that_stays_local_is_not_summarised_in_the_cloud() {
    let (local, cloud) = engines(Mode::Say(SUMMARY)).await;
    let far = Pool {
        privacy: Privacy::Cloud,
        ..pool("cloud", &[&cloud])
    };
    let memory = remembering(vec![pool("local", &[&local]), far], |plan| {
        plan.auth = Auth::ApiKeys(vec![key("acme", "sk-acme", &[Scope::Ask, Scope::Memory])]);
        let privacy_max = Privacy::Local;
        plan.tenants = [("acme".to_owned(), TenantLimits::within(privacy_max))].into();
    });
    let memory = memory.await;
    let headers = [("authorization", "Bearer sk-acme")];
    let wide = asking_with("auto", QUESTION, &json!({"weir": {"privacy": "cloud"}}));
    let path = "/v1/chat/completions";
    let sent = memory
        .world
        .send(Method::POST, path, &headers, wide.to_string());
    sent.await.text().await;
    memory.until(Outcome::TooFar).await;
    assert_eq!((cloud.connections(), memory.summaries()), (0, Vec::new()));
}

#[tokio::test]
async fn nothing_is_written_that_a_pool_beyond_the_request_would_embed() {
    let (local, embedder) = (
        Echo::start(Mode::Say(SUMMARY)).await,
        Echo::start(Mode::Echo).await,
    );
    let memory = remembering(vec![pool("local", &[&local])], |plan| {
        let far = Pool {
            privacy: Privacy::Cloud,
            ..pool("embedder", &[&embedder])
        };
        let kb = plan.memory.as_mut().unwrap();
        kb.embedder = EmbedderPlan::Pool(Box::new(far));
    });
    let memory = memory.await;
    let body = asking_with("auto", QUESTION, &json!({"weir": {"privacy": "local"}}));
    memory.ask(&body).await;
    memory.until(Outcome::TooFar).await;
    assert_eq!(
        (embedder.connections(), memory.summaries()),
        (0, Vec::new())
    );
}

#[tokio::test]
async fn what_says_more_than_its_sources_or_hardly_less_is_not_kept() {
    for said in [
        "The heron ate 40 frogs at dawn.",
        "Elephants march.",
        DAWN_AND_POND,
    ] {
        let (asked, small) = engines(Mode::Say(said)).await;
        let pools = big_and_small(&asked, &small);
        let memory = remembering(pools, |_| {}).await;
        memory.ask(&asking("auto", QUESTION)).await;
        memory.until(Outcome::Unfaithful).await;
        assert_eq!(memory.summaries(), [], "{said}");
    }
}

const DAWN_AND_POND: &str = "The heron fishes at dawn in the shallow water of the pond, and it never fishes at noon. At dawn the \
    pond is shallow: the heron fishes in its water until the sun is high.";

#[tokio::test]
async fn a_summary_gives_way_to_who_asks_the_pool() {
    let (asked, small) = engines(Mode::Hang).await;
    let pools = big_and_small(&asked, &small);
    let memory = remembering(pools, |_| {}).await;
    memory.ask(&asking("auto", QUESTION)).await;
    small.until_open(1).await;
    let pinned = asking("small-model", "hi");
    tokio::select! {
        _ = memory.world.chat(&pinned) => panic!("the engine hangs"),
        () = memory.until(Outcome::GaveWay) => {}
    }
    small.until_open(0).await;
}

#[tokio::test]
async fn a_source_that_changes_meanwhile_leaves_no_summary() {
    let (asked, small) = engines(Mode::Hang).await;
    let pools = big_and_small(&asked, &small);
    let memory = remembering(pools, |_| {}).await;
    small.set(Mode::SlowlySay(2000, SUMMARY));
    memory.ask(&asking("auto", QUESTION)).await;
    small.until_open(1).await;
    assert!(memory.memory.delete(memory.ids[1]).unwrap());
    memory.until(Outcome::Outdated).await;
    let filter = Filter {
        tenant: "anonymous".to_owned(),
        ..Filter::default()
    };
    assert_eq!(memory.memory.summaries_among(&memory.ids, &filter), []);
    assert_eq!(memory.memory.summaries(), 0);
}

#[tokio::test]
async fn a_measurement_leaves_nothing_behind() {
    let (asked, small) = engines(Mode::Say(SUMMARY)).await;
    let pools = big_and_small(&asked, &small);
    let memory = remembering(pools, |_| {}).await;
    let caller = Caller {
        tenant: "anonymous".to_owned(),
        ..Caller::default()
    };
    let mut ask = Ask::question(QUESTION, caller);
    ask.hidden = vec![memory.ids[2]];
    let gateway = &memory.world.gateway;
    gateway.answer(gateway.serving(), ask).await.unwrap();
    // The next answer that may leave something comes after whatever this one began.
    memory.ask(&asking("auto", QUESTION)).await;
    memory.until(Outcome::Written).await;
    assert_eq!(small.bodies().len(), 1);
}

#[tokio::test]
async fn without_the_field_nothing_is_summarised() {
    let (asked, small) = engines(Mode::Say(SUMMARY)).await;
    let pools = big_and_small(&asked, &small);
    let memory = remembering(pools, |plan| plan.memory.as_mut().unwrap().summaries = None).await;
    memory.ask(&asking("auto", QUESTION)).await;
    let begun = memory
        .world
        .gateway
        .summaries()
        .iter()
        .map(|(_, count)| count)
        .sum::<u64>();
    assert_eq!((begun, small.connections()), (0, 0));
}
