//! The recall of one question: embed it, search, attend to the graph around the hits.
//!
//! Each step has a time budget, and one that fails or is late is skipped: the recollection then has no such part. A question
//! that was asked before is answered from what the memory kept, as long as nothing that it sees has changed. What the router
//! makes of it is gateway/server's `recall.rs`.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinError, spawn_blocking};
use weir_memory::context::Candidate;
use weir_memory::{
    Filter, Memory, Node, NodeId, Prepared, Query, ReadError, Recall, RecallKey, RecallLimits,
    Recollected, SearchResult, Sources,
};

use crate::calls::{Asked, Recollection, Spent, Wanted};
use crate::live::LiveMemory;

/// Longest that embedding may take.
pub const EMBED_BUDGET: Duration = Duration::from_millis(1000);
/// Longest that searching, and then attention, may take.
pub const STORE_BUDGET: Duration = Duration::from_millis(1000);

/// Why a recall ends early.
const GIVEN_UP: &str = "nobody waits for it any more";

/// Does the steps in order.
pub(crate) async fn recollect(memory: &LiveMemory, asked: Asked) -> Recollection {
    let mut spent = Spent::default();
    let started = Instant::now();
    let (vector, prepared) = match asked.vector {
        Some(vector) => (Some(Arc::from(vector)), None),
        None if asked.embed => embedded(memory, &asked.text, asked.wanted.as_ref()).await,
        None => (None, None),
    };
    spent.embed = milliseconds(started);
    let Some(wanted) = asked.wanted else {
        return Recollection {
            vector,
            generation: memory.store.generation(),
            spent,
            ..Recollection::default()
        };
    };
    let question = (asked.text, vector.clone(), prepared);
    let (found, attended) = remembered(memory, question, wanted, &mut spent).await;
    Recollection {
        vector,
        found,
        attended,
        generation: memory.store.generation(),
        spent,
    }
}

/// The question's vector and, where that takes a while, what the search can do without it in the meantime.
async fn embedded(
    memory: &LiveMemory,
    text: &str,
    wanted: Option<&Wanted>,
) -> (Option<Arc<[f32]>>, Option<Prepared>) {
    let mut vector = pin!(memory.vector_of(text));
    let at_once = poll_fn(|context| Poll::Ready(vector.as_mut().poll(context))).await;
    let (wanted, vector) = match (at_once, wanted) {
        (Poll::Ready(vector), _) => return (vector, None),
        (Poll::Pending, None) => return (vector.await, None),
        (Poll::Pending, Some(wanted)) => (wanted, vector),
    };
    let (text, filter, k) = (text.to_owned(), wanted.filter.clone(), wanted.limits.seeds);
    let prepared = memory.read_if_free(move |store| store.prepare(text, filter, k));
    tokio::join!(vector, prepared)
}

/// What the search found, with the text of its best hits.
type Found = (SearchResult, Vec<Candidate>);

/// What the search and the attention of a question gave.
type Steps = (Option<Found>, Option<(Recall, Vec<Candidate>)>);

/// From what was recalled for the same question lately, or step by step.
async fn remembered(
    memory: &LiveMemory,
    (text, vector, prepared): (String, Option<Arc<[f32]>>, Option<Prepared>),
    wanted: Wanted,
    spent: &mut Spent,
) -> Steps {
    let started = Instant::now();
    let Wanted {
        filter,
        limits,
        candidates,
    } = wanted;
    let key = RecallKey::new(&text, vector.as_deref(), &filter, (limits, candidates));
    if let Some(kept) = key.as_ref().and_then(|key| memory.store.recollected(key)) {
        spent.search = milliseconds(started);
        let (found, attended) = (kept.found.clone(), kept.recall.clone());
        return (
            Some((found, kept.hits.clone())),
            Some((attended, kept.nodes.clone())),
        );
    }
    let query = Query {
        text,
        vector: vector.as_deref().map(<[f32]>::to_vec),
        filter,
        k: limits.seeds,
        exclude_edges: Vec::new(),
    };
    steps(memory, (query, prepared), (limits, candidates, key), spent).await
}

/// Search and attention, one after the other on one thread; beside attention, another reads what was found and tells it.
async fn steps(
    memory: &LiveMemory,
    (query, prepared): (Query, Option<Prepared>),
    (limits, candidates, key): (RecallLimits, usize, Option<RecallKey>),
    spent: &mut Spent,
) -> Steps {
    let (tell, told) = oneshot::channel();
    let work = move |store: &Memory| {
        // Before the search, so that a write that comes beside it makes what was found old.
        let freshness = store.freshness(&query.filter);
        let prepared = prepared
            .unwrap_or_else(|| store.prepare(query.text.clone(), query.filter.clone(), query.k));
        let found = store.search_prepared(&query, Some(&prepared));
        let found = found.map_err(|error| error.to_string())?;
        if tell.is_closed() {
            return Err(GIVEN_UP.to_owned());
        }
        let reading = {
            let (store, found) = (store.clone(), found.clone());
            spawn_blocking(move || read_and_tell(&store, found, candidates, tell))
        };
        let asked = (&query, Some(&prepared));
        let recall = store.recall_prepared(asked, &found, &limits, candidates);
        let found = ended(Handle::current().block_on(reading))?;
        let nodes = attended(store, &query.filter, &recall, &found.1)?;
        if let Some(key) = key {
            let answer = Arc::new(Recollected {
                found: found.0.clone(),
                hits: found.1.clone(),
                recall: recall.clone(),
                nodes: nodes.clone(),
            });
            store.keep_recollected(key, freshness, &answer);
        }
        Ok((recall, nodes))
    };
    let started = Instant::now();
    let searched = async {
        let task = memory.begin_read(work).await;
        match told.await {
            Ok(found) => Ok((found, task)),
            Err(_) => Err(ended(task.await).err().unwrap_or_default()),
        }
    };
    let searched = in_time("search", searched).await;
    spent.search = milliseconds(started);
    let Some((found, task)) = searched else {
        return (None, None);
    };
    let started = Instant::now();
    let attended = in_time("recall", async { ended(task.await) }).await;
    spent.attend = milliseconds(started);
    (Some(Arc::unwrap_or_clone(found)), attended)
}

/// What a step gives; `None`, and a warning, where it fails or takes longer than [`STORE_BUDGET`].
pub async fn in_time<T, E: ToString>(
    step: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Option<T> {
    let done = match tokio::time::timeout(STORE_BUDGET, work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("nothing within {STORE_BUDGET:?}")),
    };
    done.inspect_err(|error| tracing::warn!(step, error, "a memory step was skipped"))
        .ok()
}

/// What a read gave, or that its thread died.
fn ended<T>(done: Result<Result<T, String>, JoinError>) -> Result<T, String> {
    done.unwrap_or_else(|_| Err("its thread died".to_owned()))
}

/// Reads the best hits and tells of them.
fn read_and_tell(
    store: &Memory,
    found: SearchResult,
    most: usize,
    tell: oneshot::Sender<Arc<Found>>,
) -> Result<Arc<Found>, String> {
    let candidates = known_or_read(store, &scored_hits(&found, most), &[]);
    let found = Arc::new((found, candidates.map_err(|error| error.to_string())?));
    tell.send(Arc::clone(&found)).map_err(|_| GIVEN_UP)?;
    Ok(found)
}

/// The best hits, each with what it says to a request: its cosine, or how strong it is among the others.
pub fn scored_hits(found: &SearchResult, most: usize) -> Vec<(NodeId, f32)> {
    let least = found.hits.last().map_or(0.0, |hit| hit.strength);
    let range = found.hits.first().map_or(0.0, |hit| hit.strength) - least;
    let scored = found.hits.iter().map(|hit| {
        let relative = if range > 0.0 {
            (hit.strength - least) / range
        } else {
            1.0
        };
        (hit.id, hit.cosine.unwrap_or(relative))
    });
    scored.take(most).collect()
}

/// The nodes of a recall, each with its share of the attention relative to the first.
pub fn scored_nodes(recall: &Recall) -> Vec<(NodeId, f32)> {
    let highest = recall.nodes.first().map_or(1.0, |node| node.score);
    let nodes = recall.nodes.iter();
    nodes.map(|node| (node.id, node.score / highest)).collect()
}

/// What gets the most of the attention; those that were `read` are not read again.
fn attended(
    store: &Memory,
    filter: &Filter,
    recall: &Recall,
    read: &[Candidate],
) -> Result<Vec<Candidate>, String> {
    let candidates = known_or_read(store, &scored_nodes(recall), read);
    let with_summaries =
        candidates.and_then(|candidates| with_summaries(store, filter, candidates));
    with_summaries.map_err(|error| error.to_string())
}

/// The candidates, each summary with what it was made from; a summary of several of them that was not found itself comes after
/// the best of these.
fn with_summaries(
    memory: &Memory,
    filter: &Filter,
    mut candidates: Vec<Candidate>,
) -> Result<Vec<Candidate>, ReadError> {
    let ids: Vec<NodeId> = candidates.iter().map(|one| one.node.id).collect();
    for Sources { summary, sources } in memory.summaries_among(&ids, filter) {
        let found = candidates.iter_mut().find(|one| one.node.id == summary);
        if let Some(found) = found {
            found.summarises = sources;
            continue;
        }
        let best = (candidates.iter()).position(|one| sources.contains(&one.node.id));
        if let Some((at, node)) = best.zip(memory.node(summary)?) {
            let score = candidates[at].score;
            let summary = Candidate {
                summarises: sources,
                ..Candidate::new(node, score)
            };
            candidates.insert(at + 1, summary);
        }
    }
    Ok(candidates)
}

/// The nodes that are there, in this order; those of `read` are not read again.
fn known_or_read(
    memory: &Memory,
    scored: &[(NodeId, f32)],
    read: &[Candidate],
) -> Result<Vec<Candidate>, ReadError> {
    let known = |id: NodeId| read.iter().find(|candidate| candidate.node.id == id);
    let unknown = scored.iter().filter(|(id, _)| known(*id).is_none());
    let ids: Vec<NodeId> = unknown.map(|(id, _)| *id).collect();
    let mut nodes = memory.nodes(&ids)?;
    let read_before = scored.iter().filter_map(|(id, _)| known(*id));
    nodes.extend(read_before.map(|candidate| candidate.node.clone()));
    Ok(candidates(nodes, scored))
}

/// The nodes with their scores, in the order of these; those that are not there are left out.
pub fn candidates(nodes: Vec<Node>, scored: &[(NodeId, f32)]) -> Vec<Candidate> {
    let mut by_id: HashMap<NodeId, Node> = nodes.into_iter().map(|node| (node.id, node)).collect();
    let candidate = |(id, score): &(NodeId, f32)| Some(Candidate::new(by_id.remove(id)?, *score));
    scored.iter().filter_map(candidate).collect()
}

/// Milliseconds since a step began.
pub fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_memory::{Access, Batch, MemoryConfig, NewEdge, NewNode, NodeType, SUMMARISES};

    use crate::calls::MemoryCalls;

    fn asked(candidates: usize) -> Asked {
        Asked {
            text: "words".to_owned(),
            vector: None,
            embed: false,
            wanted: Some(Wanted {
                filter: Filter {
                    tenant: "t".to_owned(),
                    ..Filter::default()
                },
                limits: RecallLimits::default(),
                candidates,
            }),
        }
    }

    fn open() -> (tempfile::TempDir, LiveMemory) {
        let folder = tempfile::tempdir().unwrap();
        let config = MemoryConfig {
            dimensions: 2,
            embedding_model: "m".to_owned(),
        };
        let store = Memory::open(folder.path(), &config).unwrap();
        (folder, LiveMemory::new(store, None))
    }

    #[tokio::test]
    async fn a_step_whose_turn_does_not_come_in_time_is_skipped() {
        let (_folder, memory) = open();
        let places = u32::try_from(memory.reads.available_permits()).unwrap();
        let others = memory.reads.acquire_many(places).await.unwrap();
        assert_eq!(recollect(&memory, asked(4)).await.found, None);
        drop(others);
        assert!(recollect(&memory, asked(4)).await.found.is_some());
    }

    #[tokio::test]
    async fn a_summary_comes_along_with_its_sources_and_says_what_they_are() {
        let (_folder, memory) = open();
        let nodes =
            ["words of the first", "words of the second"].map(|text| NewNode::new("t", text));
        let summary = NewNode {
            node_type: NodeType::Summary,
            ..NewNode::new("t", "both say little")
        };
        let sources: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
        let edge = |source: &NodeId| NewEdge::new(summary.id, *source, SUMMARISES);
        let edges: Vec<NewEdge> = sources.iter().map(edge).collect();
        let id = summary.id;
        let nodes = [nodes.to_vec(), vec![summary]].concat();
        memory.store.write(&Batch { nodes, edges }).unwrap();
        let hops = RecallLimits {
            hops: 0,
            ..RecallLimits::default()
        };
        let mut without_hops = asked(4);
        without_hops.wanted.as_mut().unwrap().limits = hops;
        let given = recollect(&memory, without_hops).await;
        let (recall, candidates) = given.attended.unwrap();
        assert!(
            recall.nodes.iter().all(|node| node.id != id),
            "none of its words was asked for: {recall:?}"
        );
        assert_eq!(candidates.len(), 3);
        assert_eq!(candidates[1].node.id, id, "after the best of its sources");
        let mut made_from = candidates[1].summarises.clone();
        made_from.sort_unstable();
        let mut expected = sources.clone();
        expected.sort_unstable();
        assert_eq!(made_from, expected);
        let mut hidden = asked(4);
        hidden.wanted.as_mut().unwrap().filter.hidden = vec![sources[0]];
        let (_, candidates) = recollect(&memory, hidden).await.attended.unwrap();
        let left: Vec<NodeId> = candidates.iter().map(|one| one.node.id).collect();
        assert_eq!(left, [sources[1]], "a summary of what is hidden is hidden");
    }

    #[tokio::test]
    async fn a_question_asked_again_is_answered_as_before_until_something_changes() {
        let (_folder, memory) = open();
        let write = |text: &str| {
            let batch = Batch {
                nodes: vec![NewNode::new("t", text)],
                edges: Vec::new(),
            };
            let access = Access {
                tenant: "t".to_owned(),
                admin: false,
            };
            memory.write(access, batch)
        };
        write("words of the first").await.unwrap();
        let parts = |given: Recollection| (given.vector, given.found, given.attended);
        let first = parts(recollect(&memory, asked(4)).await);
        let again = parts(recollect(&memory, asked(4)).await);
        assert_eq!(first, again);
        let counts = memory.store.cache_counts();
        assert_eq!((counts.hits, counts.misses, counts.entries), (1, 1, 1));
        // It needs no turn at the store.
        let places = u32::try_from(memory.reads.available_permits()).unwrap();
        let others = memory.reads.acquire_many(places).await.unwrap();
        assert_eq!(parts(recollect(&memory, asked(4)).await), first);
        drop(others);
        write("words of the second").await.unwrap();
        let (_, found, _) = parts(recollect(&memory, asked(4)).await);
        assert_eq!(found.unwrap().1.len(), 2);
        let (_, fewer, _) = parts(recollect(&memory, asked(1)).await);
        assert_eq!(
            fewer.unwrap().1.len(),
            1,
            "with fewer candidates it is another question"
        );
    }
}
