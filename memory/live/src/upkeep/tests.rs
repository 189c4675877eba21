//! What upkeep lets go, how large its slices are, and who goes first.

use super::*;

use weir_memory::upkeep::SLICE_ROWS;
use weir_memory::{
    Batch, EdgeMetadata, MemoryConfig, Metadata, NewEdge, NewNode, NodeId, NodeType,
};

const DAY_MS: u64 = 86_400_000;

fn id(name: &str) -> NodeId {
    NodeId::derived("t", name, 0)
}

fn node(name: &str) -> NewNode {
    NewNode {
        id: id(name),
        vector: Some(vec![name.len() as f32, 1.0]),
        ..NewNode::new("t", name)
    }
}

fn open() -> (tempfile::TempDir, Memory) {
    let folder = tempfile::tempdir().unwrap();
    let config = MemoryConfig {
        dimensions: 2,
        embedding_model: "m".to_owned(),
    };
    let memory = Memory::open(folder.path(), &config).unwrap();
    (folder, memory)
}

fn write(memory: &Memory, nodes: Vec<NewNode>, edges: Vec<NewEdge>) {
    memory.write(&Batch { nodes, edges }).unwrap();
}

/// A memory with a hub of `edges` edges, the first of weight 1, each next one lighter.
fn hub(memory: &Memory, edges: usize) {
    let names: Vec<String> = (0..edges).map(|at| format!("n{at}")).collect();
    let mut nodes: Vec<NewNode> = names.iter().map(|name| node(name)).collect();
    nodes.push(node("hub"));
    let edge = |(at, name): (usize, &String)| NewEdge {
        weight: 1.0 / (at + 1) as f32,
        ..NewEdge::new(id("hub"), id(name), "near")
    };
    write(memory, nodes, names.iter().enumerate().map(edge).collect());
}

/// Keeps up until `done` or for a day, whatever comes first.
async fn kept_up(
    memory: &Memory,
    policy: UpkeepPolicy,
    done: impl Fn(&UpkeepCounts) -> bool,
) -> UpkeepCounts {
    let (upkept, stop) = (Arc::new(Upkept::default()), CancellationToken::new());
    let keeping = keep_up(memory.clone(), policy, Arc::clone(&upkept), stop.clone());
    let keeping = tokio::spawn(keeping);
    for _ in 0..86_400 {
        if done(&upkept.counts()) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stop.cancel();
    keeping.await.unwrap();
    upkept.counts()
}

fn pruning(policy: PrunePolicy) -> UpkeepPolicy {
    UpkeepPolicy {
        prune: Some(policy),
        tune: None,
    }
}

#[tokio::test(start_paused = true)]
async fn each_part_of_the_policy_lets_go_of_what_it_names_in_slices_of_bounded_rows() {
    let (_folder, memory) = open();
    hub(&memory, 3 * SLICE_ROWS);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ago = |days: u64| Some(now.as_millis() as u64 - days * DAY_MS);
    let trace = NewNode {
        node_type: NodeType::Trace,
        metadata: Metadata {
            timestamp: ago(31),
            ..Metadata::default()
        },
        ..node("trace")
    };
    let old = NewEdge {
        metadata: EdgeMetadata {
            timestamp: ago(200),
            ..EdgeMetadata::default()
        },
        ..NewEdge::new(id("n0"), id("n1"), "near")
    };
    write(&memory, vec![trace], vec![old]);
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    let policy = PrunePolicy {
        degree_max: 10,
        min_weight: 0.05,
        max_age: days(180),
        trace_age: days(30),
    };
    let counts = kept_up(&memory, pruning(policy), |counts| counts.passes > 0).await;
    assert_eq!((counts.traces, counts.old), (1, 1));
    // Twenty edges of 1 to 0.05 are heavy enough, ten of them are within the budget.
    assert_eq!(counts.light, 3 * SLICE_ROWS as u64 - 20);
    assert_eq!((counts.beyond_budget, memory.counts().edges), (10, 10));
    assert!(counts.slice_rows_max <= SLICE_ROWS as u64, "{counts:?}");
    assert!(
        counts.slices > 6 && counts.rows_read > 3 * SLICE_ROWS as u64,
        "{counts:?}"
    );
    assert_eq!(counts.rows_removed, counts.edges() + 1);
    assert_eq!((counts.waits, counts.failures), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_while_a_call_is_answered() {
    let (_folder, memory) = open();
    hub(&memory, 200);
    let (upkept, stop) = (Arc::new(Upkept::default()), CancellationToken::new());
    let policy = pruning(PrunePolicy::default());
    let keeping = keep_up(memory.clone(), policy, Arc::clone(&upkept), stop.clone());
    let call = memory.begin_call();
    let keeping = tokio::spawn(keeping);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let counts = upkept.counts();
    assert_eq!((counts.slices, counts.waits), (0, 1));
    assert_eq!(memory.counts().edges, 200);
    drop(call);
    while upkept.counts().passes == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(memory.counts().edges, 64);
    stop.cancel();
    keeping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_memory_at_rest_is_not_looked_through_again_unless_something_can_grow_old() {
    let (_folder, memory) = open();
    hub(&memory, 100);
    let never = |_: &UpkeepCounts| false;
    let counts = kept_up(&memory, pruning(PrunePolicy::default()), never).await;
    assert_eq!((counts.passes, counts.edges()), (1, 36));
    let ageing = PrunePolicy {
        max_age: Some(Duration::from_secs(86_400)),
        ..PrunePolicy::default()
    };
    let counts = kept_up(&memory, pruning(ageing), |counts| counts.passes >= 3).await;
    assert_eq!(counts.passes, 3);
    let nothing = kept_up(&memory, UpkeepPolicy::default(), never).await;
    assert_eq!(nothing, UpkeepCounts::default());
}

#[tokio::test(start_paused = true)]
async fn the_index_is_measured_for_its_target_and_again_after_as_many_writes() {
    let (_folder, memory) = open();
    let policy = |target_recall, every_writes| UpkeepPolicy {
        prune: None,
        tune: Some(TunePolicy {
            target_recall,
            every_writes,
        }),
    };
    let never = |_: &UpkeepCounts| false;
    let counts = kept_up(&memory, policy(0.9, 3), never).await;
    assert_eq!(
        (counts.measurements, counts.failures),
        (0, 0),
        "there is no vector yet"
    );
    write(&memory, vec![node("a"), node("bb")], Vec::new());
    let counts = kept_up(&memory, policy(0.9, 3), never).await;
    assert_eq!(counts.measurements, 1);
    let measured = memory.tuning().unwrap();
    assert_eq!(
        (measured.recall, measured.target, measured.vectors),
        (1.0, 0.9, 2)
    );
    for name in ["ccc", "dddd"] {
        write(&memory, vec![node(name)], Vec::new());
    }
    assert_eq!(
        kept_up(&memory, policy(0.9, 3), never).await.measurements,
        0
    );
    write(&memory, vec![node("eeeee")], Vec::new());
    assert_eq!(
        kept_up(&memory, policy(0.9, 3), never).await.measurements,
        1
    );
    assert_eq!(
        kept_up(&memory, policy(0.95, 3), never).await.measurements,
        1
    );
    assert_eq!(memory.tuning().unwrap().vectors, 5);
}
