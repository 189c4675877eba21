//! The whole way of a routed request over a small real memory: what of it enters the prompt, what the answer says of its
//! sources, and what the row says of the decision.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking_with, memory_plan, open_memory, plan, pool};
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_gateway::ask::{Ask, Caller};
use weir_plan::{EmbedderPlan, GatewayPlan, Guardrail, GuardrailAction, Performance, Pool};
use weir_router::{ArmTable, Artifact, RecallMode, Router};

pub(crate) const QUESTION: &str = "When does the heron fish?";
const HERON: &str = "The heron fishes at dawn.";
const REEDS: &str = "Reeds grow along ponds.";
const SECRET: &str = "A heron of globex nests in the tower.";

/// A small fast pool and a big slow one over a memory of three nodes.
pub(crate) struct Remembering {
    pub(crate) world: World,
    pub(crate) small: Echo,
    big: Echo,
    pub(crate) heron: Value,
    _folder: TempDir,
}

/// A router that prefers this recall, with 200 tokens of it, at this rank.
pub(crate) fn prefers(recall: RecallMode, rank: usize) -> Router {
    let table = ArmTable::standard(2);
    let best = table.find(recall, rank, 200).unwrap();
    let mut qualities = vec![2.0; table.arms.len()];
    qualities[best] = 4.5;
    Router::new(Artifact::constant(&table, &qualities)).unwrap()
}

async fn remembering(router: Router) -> Remembering {
    remembering_under(router, |_| {}).await
}

pub(crate) async fn remembering_under(
    router: Router,
    change: impl FnOnce(&mut GatewayPlan),
) -> Remembering {
    let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let speed = |tokens_per_second: f64| Performance {
        prefill_tokens_per_second: 10.0 * tokens_per_second,
        decode_tokens_per_second: tokens_per_second,
    };
    let pools = vec![
        Pool {
            performance: speed(1000.0),
            ..pool("small", &[&small])
        },
        Pool {
            performance: speed(10.0),
            ..pool("big", &[&big])
        },
    ];
    let in_process = EmbedderPlan::InProcess {
        source: String::new(),
    };
    let kb = memory_plan("none", 2, in_process);
    let (folder, memory) = open_memory(&kb);
    let mut plan = plan(pools);
    plan.memory = Some(kb);
    plan.guardrails = vec![Guardrail {
        name: "careful".to_owned(),
        domains: vec!["medical".to_owned()],
        then: GuardrailAction::UseBiggest,
    }];
    change(&mut plan);
    let world = World::with_memory(plan, router, Some(memory)).await;
    let nodes = json!({"nodes": [
        {"text": HERON, "vector": [1.0, 0.0], "metadata": {"title": "Heron"}},
        {"text": REEDS, "vector": [0.0, 1.0]},
        {"text": SECRET, "tenant": "globex"},
    ]});
    let written = world.post("/v1/memory/nodes", &nodes).await.json().await;
    let ids = &written["ids"];
    let edges = json!({"edges": [{"src": ids[0], "dst": ids[1], "rel": "near"}]});
    let joined = world.post("/v1/memory/edges", &edges).await.json().await;
    assert_eq!(joined["edges"], 1, "{written} {joined}");
    Remembering {
        world,
        small,
        big,
        heron: ids[0].clone(),
        _folder: folder,
    }
}

impl Remembering {
    /// The model that answered the question and the `weir` object of the answer.
    async fn ask(&self, mut weir: Value) -> (String, Value) {
        weir["explain"] = json!(true);
        let body = asking_with("auto", QUESTION, &json!({"weir": weir}));
        let reply = self.world.chat(&body).await;
        let model = reply.header("x-weir-model").to_owned();
        let recall = reply.header("x-weir-recall").to_owned();
        let weir = reply.json().await["weir"].clone();
        assert_eq!(weir["explain"]["executed"]["recall"], recall);
        (model, weir)
    }
}

/// The contents of the messages that an engine was sent last.
fn prompt(engine: &Echo) -> Vec<String> {
    let body = engine.bodies().pop().unwrap();
    let messages = body["messages"].as_array().unwrap().iter();
    messages
        .map(|message| message["content"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_is_recalled_stands_in_the_prompt_and_in_the_sources() {
    for (recall, reeds) in [(RecallMode::Vector, false), (RecallMode::Graph, true)] {
        let memory = remembering(prefers(recall, 0)).await;
        let (model, weir) = memory.ask(json!({"citations": true})).await;
        assert_eq!(model, "small-model");
        let prompt = prompt(&memory.small);
        let [system, context, question] = prompt.as_slice() else {
            panic!("{recall:?}: {prompt:?}");
        };
        assert!(system.contains("[1]"), "{system}");
        assert!(context.contains(HERON) && !context.contains(SECRET));
        assert_eq!(context.contains(REEDS), reeds, "{recall:?}: {context}");
        assert_eq!(question, QUESTION);
        let sources = weir["sources"].as_array().unwrap();
        let heron = sources.iter().find(|source| source["id"] == memory.heron);
        assert_eq!(heron.unwrap()["title"], "Heron", "{recall:?}: {weir}");
        assert_eq!(sources.len(), if reeds { 2 } else { 1 }, "{recall:?}");
    }
}

#[tokio::test]
async fn the_row_says_what_the_decision_was_made_from() {
    let memory = remembering(prefers(RecallMode::Vector, 0)).await;
    let (_, weir) = memory.ask(json!({})).await;
    let row = &weir["explain"];
    let steps = row["features"].as_array().unwrap();
    assert_eq!(steps.len(), 3, "query, search and recall: {row}");
    let probabilities = row["choice"]["outcome"]["probabilities"]
        .as_array()
        .unwrap();
    let sum: f64 = probabilities.iter().filter_map(Value::as_f64).sum();
    assert_eq!(probabilities.len(), ArmTable::standard(2).arms.len());
    assert!((sum - 1.0).abs() < 1e-9, "{probabilities:?}");
    assert_eq!(row["propensity"], 1.0, "nothing is explored here");
    let recalled = row["retrieval"]["node_ids"].as_array().unwrap();
    assert!(recalled.contains(&memory.heron), "{row}");
    assert_eq!(row["sources"], weir["sources"]);
}

#[tokio::test]
async fn a_measurement_hides_nodes_and_a_client_cannot() {
    let memory = remembering(prefers(RecallMode::Vector, 0)).await;
    let gateway = &memory.world.gateway;
    let caller = Caller {
        tenant: "anonymous".to_owned(),
        ..Caller::default()
    };
    let mut ask = Ask::question(QUESTION, caller);
    ask.hidden = vec![memory.heron.as_str().unwrap().parse().unwrap()];
    let answer = gateway.answer(gateway.serving(), ask).await.unwrap();
    let row = gateway.decision(&answer.decision.id).unwrap();
    let recalled = row.retrieval.unwrap().node_ids;
    assert!(!recalled.contains(&memory.heron.as_str().unwrap().to_owned()));
    let more = json!({"weir": {"hidden": [memory.heron]}});
    let refused = memory
        .world
        .chat(&asking_with("auto", QUESTION, &more))
        .await;
    assert_eq!(refused.json().await["error"]["param"], "weir.hidden");
}

#[tokio::test]
async fn memory_off_gives_no_context_and_masks_every_recall() {
    let memory = remembering(prefers(RecallMode::Vector, 0)).await;
    let (_, weir) = memory.ask(json!({"memory": "off"})).await;
    assert_eq!(prompt(&memory.small), [QUESTION]);
    assert_eq!(weir["sources"], json!([]));
    let row = &weir["explain"];
    assert_eq!(row["features"].as_array().unwrap().len(), 1);
    assert_eq!(row["retrieval"], Value::Null);
    for (arm, mask) in ArmTable::standard(2).arms.iter().zip(masks(row)) {
        let recalls = arm.recall != RecallMode::None;
        assert_eq!(mask == "recall", recalls, "{arm:?}");
    }
}

#[tokio::test]
async fn a_guardrail_of_the_domain_overrides_the_router_and_is_named() {
    let memory = remembering(prefers(RecallMode::Vector, 0)).await;
    let (model, weir) = memory.ask(json!({"domain": "medical"})).await;
    let row = &weir["explain"];
    assert_eq!(
        (model.as_str(), &row["guardrail"]),
        ("big-model", &json!("careful"))
    );
    assert_ne!(row["choice"]["outcome"]["arm"], row["executed"]["arm"]);
    let (model, weir) = memory.ask(json!({"domain": "law"})).await;
    assert_eq!(model, "small-model");
    assert_eq!(weir["explain"]["guardrail"], Value::Null);
    assert_eq!(memory.big.bodies().len(), 1);
}

#[tokio::test]
async fn a_budget_masks_what_would_take_longer() {
    let memory = remembering(prefers(RecallMode::Vector, 1)).await;
    let (model, _) = memory.ask(json!({})).await;
    assert_eq!(model, "big-model");
    let (model, weir) = memory.ask(json!({"budget_ms": 2000})).await;
    assert_eq!(model, "small-model");
    for (arm, mask) in ArmTable::standard(2)
        .arms
        .iter()
        .zip(masks(&weir["explain"]))
    {
        assert_eq!(mask == "budget", arm.rank == 1, "{arm:?}");
    }
}

/// The mask of every arm; `null` permits.
fn masks(row: &Value) -> Vec<Value> {
    row["choice"]["mask"].as_array().unwrap().clone()
}
