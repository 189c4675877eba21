//! `/v1/memory/*`: write nodes and edges, search, attend, delete.
//!
//! A key reads and writes its own tenant's nodes and reads those that are shared; only admin keys write shared ones
//! and edges between them. Memory calls touch a disk and a CPU, so they run beside the async threads. Reading on:
//! weir-memory's `store.rs`.

use super::admission::Place;
use super::{Shared, Surfaces, body, deadline, extension};
use crate::auth::Identity;
use crate::extension::Extension;
use crate::gateway::Serving;
use crate::recall::embed;
use crate::record::LatencyRow;
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::{Path, Request, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use weir_memory::{
    Batch, EdgeMetadata, Filter, Memory, Metadata, NewEdge, NewNode, Node, NodeId, NodeSource,
    NodeType, Query, RecallLimits, SHARED_TENANT,
};
use weir_plan::Scope;

/// Most nodes or edges of one request.
const BATCH_MAX: usize = 1000;
/// Most hits of one search.
const HITS_MAX: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nodes {
    nodes: Vec<WrittenNode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenNode {
    id: Option<NodeId>,
    /// `shared`, for admin keys; else the key's own.
    tenant: Option<String>,
    text: String,
    #[serde(default, rename = "type")]
    node_type: NodeType,
    #[serde(default)]
    source: NodeSource,
    #[serde(default)]
    metadata: Metadata,
    vector: Option<Vec<f32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edges {
    edges: Vec<WrittenEdge>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEdge {
    src: NodeId,
    dst: NodeId,
    rel: String,
    weight: Option<f32>,
    #[serde(default)]
    metadata: EdgeMetadata,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sought {
    query: String,
    vector: Option<Vec<f32>>,
    #[serde(default)]
    domains: Vec<String>,
    #[serde(default)]
    types: Vec<NodeType>,
    k: Option<usize>,
    hops: Option<u8>,
    nodes_max: Option<usize>,
}

/// A memory call of one caller.
struct Call {
    serving: Arc<Serving>,
    identity: Identity,
    memory: Memory,
    /// How far the words of a search may travel to be embedded.
    weir: Extension,
    /// When the call must be answered.
    until: Instant,
    place: Place,
}

pub(crate) async fn write_nodes(
    State(surfaces): Shared,
    request: Request,
) -> Result<Json<Value>, Rescue> {
    let (call, bytes) = Call::begin(&surfaces, request).await?;
    let Nodes { nodes } = body::typed(&bytes)?;
    bounded("nodes", nodes.len())?;
    let nodes = nodes
        .into_iter()
        .enumerate()
        .map(|(index, node)| call.new_node(index, node))
        .collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    let written = call
        .blocking(move |memory, identity| {
            for node in &nodes {
                if let Some(stored) = memory.node(node.id)? {
                    may_change(&identity, &stored)?;
                }
            }
            Ok(memory.write(&Batch {
                nodes,
                edges: Vec::new(),
            })?)
        })
        .await?;
    Ok(Json(json!({
        "ids": ids, "inserted": written.inserted, "updated": written.updated,
        "unchanged": written.unchanged,
    })))
}

pub(crate) async fn write_edges(
    State(surfaces): Shared,
    request: Request,
) -> Result<Json<Value>, Rescue> {
    let (call, bytes) = Call::begin(&surfaces, request).await?;
    let Edges { edges } = body::typed(&bytes)?;
    bounded("edges", edges.len())?;
    let edges: Vec<NewEdge> = edges.into_iter().map(WrittenEdge::new_edge).collect();
    let written = call
        .blocking(move |memory, identity| {
            for (index, edge) in edges.iter().enumerate() {
                may_join(&identity, memory, index, edge)?;
            }
            Ok(memory.write(&Batch {
                nodes: Vec::new(),
                edges,
            })?)
        })
        .await?;
    Ok(Json(json!({"edges": written.edges})))
}

pub(crate) async fn search(
    State(surfaces): Shared,
    request: Request,
) -> Result<Json<Value>, Rescue> {
    let (call, bytes) = Call::begin(&surfaces, request).await?;
    let query = call.query(body::typed(&bytes)?).await?;
    call.blocking(move |memory, _| {
        let found = memory.search(&query)?;
        let hits = found.hits.iter().filter_map(|hit| {
            let node = memory.node(hit.id).ok()??;
            let scores = [("cosine", json!(hit.cosine)), ("bm25", json!(hit.bm25))];
            Some(shown(
                &node,
                &[&scores[..], &[("strength", json!(hit.strength))]].concat(),
            ))
        });
        let hits: Vec<Value> = hits.collect();
        Ok(Json(
            json!({"hits": hits, "filter_share": found.filter_share}),
        ))
    })
    .await
}

pub(crate) async fn attend(
    State(surfaces): Shared,
    request: Request,
) -> Result<Json<Value>, Rescue> {
    let (call, bytes) = Call::begin(&surfaces, request).await?;
    let sought: Sought = body::typed(&bytes)?;
    let limits = call.limits(&sought)?;
    let query = call.query(sought).await?;
    call.blocking(move |memory, _| {
        let found = memory.search(&query)?;
        let recall = memory.recall(&query, &found, &limits);
        let nodes = recall.nodes.iter().filter_map(|recalled| {
            let node = memory.node(recalled.id).ok()??;
            let score = ("score", json!(recalled.score));
            let cosine = ("cosine", json!(recalled.cosine));
            Some(shown(
                &node,
                &[score, cosine, ("depth", json!(recalled.depth))],
            ))
        });
        let nodes: Vec<Value> = nodes.collect();
        Ok(Json(json!({
            "nodes": nodes, "entropy": recall.entropy, "depth": recall.depth,
            "nodes_used": recall.nodes_used,
        })))
    })
    .await
}

pub(crate) async fn delete_node(
    State(surfaces): Shared,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Value>, Rescue> {
    let (call, _) = Call::begin(&surfaces, request).await?;
    let unknown = || Rescue::not_found("the node");
    let id: NodeId = serde_json::from_value(json!(id)).map_err(|_| unknown())?;
    call.blocking(move |memory, identity| {
        let stored = memory.node(id)?.filter(|node| may_read(&identity, node));
        may_change(&identity, &stored.ok_or_else(unknown)?)?;
        if memory.delete(id)? {
            Ok(())
        } else {
            Err(unknown())
        }
    })
    .await?;
    Ok(Json(json!({"id": id, "deleted": true})))
}

impl Call {
    /// Checks who calls, reads the body and waits for a place.
    async fn begin(surfaces: &Surfaces, request: Request) -> Result<(Self, bytes::Bytes), Rescue> {
        let received = Instant::now();
        let serving = surfaces.gateway.serving();
        let identity = surfaces.identify(&serving, request.headers(), Scope::Memory)?;
        let memory = serving.memory.clone().ok_or_else(|| {
            let message = "this gateway has no memory: name one in its InferenceGateway";
            Rescue::new(StatusCode::NOT_FOUND, "no_memory", message)
        })?;
        let weir = extension(request.headers())?;
        let (_, bytes) = body::read(request, serving.plan.limits.body_max_bytes).await?;
        let until = deadline(&serving, &weir, received);
        let place = surfaces.enter(&serving, until).await?;
        let call = Self {
            serving,
            identity,
            memory,
            weir,
            until,
            place,
        };
        Ok((call, bytes))
    }

    fn new_node(&self, index: usize, node: WrittenNode) -> Result<NewNode, Rescue> {
        let tenant = match node.tenant {
            None => self.identity.tenant.clone(),
            Some(tenant) if tenant == self.identity.tenant || self.identity.has(Scope::Admin) => {
                tenant
            }
            Some(tenant) => {
                let message = format!("tenant {tenant:?} needs an admin key");
                return Err(Rescue::new(StatusCode::FORBIDDEN, "tenant", message));
            }
        };
        if node.text.trim().is_empty() {
            let message = "text is empty: send what shall be remembered";
            return Err(Rescue::field(format!("nodes[{index}].text"), message));
        }
        Ok(NewNode {
            id: node.id.unwrap_or_else(NodeId::random),
            tenant,
            text: node.text,
            node_type: node.node_type,
            source: node.source,
            metadata: node.metadata,
            vector: node.vector,
        })
    }

    /// The query with its vector; without an embedder, or where the only one lies beyond the request's privacy, the
    /// words alone find what they can.
    async fn query(&self, sought: Sought) -> Result<Query, Rescue> {
        if sought.query.trim().is_empty() {
            return Err(Rescue::field(
                "query",
                "query is empty: send a question or words",
            ));
        }
        let k = sought.k.unwrap_or(10);
        if k == 0 || k > HITS_MAX {
            return Err(Rescue::field(
                "k",
                format!("k is {k}: send 1 to {HITS_MAX}"),
            ));
        }
        let vector = match sought.vector {
            Some(vector) => Some(vector),
            None => {
                let mut spent = LatencyRow::default();
                let vector = embed(&self.serving, &self.weir, &sought.query, &mut spent).await;
                vector.map(|vector| vector.to_vec())
            }
        };
        let tenant = self.identity.tenant.clone();
        let filter = Filter {
            tenant,
            domains: sought.domains,
            types: sought.types,
        };
        Ok(Query {
            text: sought.query,
            vector,
            filter,
            k,
            exclude_edges: Vec::new(),
        })
    }

    /// The plan's limits, which a request may only lower.
    fn limits(&self, sought: &Sought) -> Result<RecallLimits, Rescue> {
        let plan = self.serving.plan.memory.as_ref();
        let hops_max = plan.map_or(2, |plan| u8::try_from(plan.hops).unwrap_or(u8::MAX));
        let nodes_max = plan.map_or(HITS_MAX, |plan| plan.nodes_max);
        let hops = sought.hops.unwrap_or(hops_max);
        if hops > hops_max {
            return Err(Rescue::field(
                "hops",
                format!("hops is {hops}: send 0 to {hops_max}"),
            ));
        }
        let wanted = sought.nodes_max.unwrap_or(nodes_max);
        if wanted == 0 || wanted > nodes_max {
            let message = format!("nodes_max is {wanted}: send 1 to {nodes_max}");
            return Err(Rescue::field("nodes_max", message));
        }
        Ok(RecallLimits {
            seeds: plan.map_or(RecallLimits::default().seeds, |plan| plan.seeds),
            hops,
            nodes_max: wanted,
        })
    }

    /// Works beside the async threads. Work that is late goes on, and keeps its place until it ends: the store cannot
    /// be stopped in the middle.
    async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce(&Memory, Identity) -> Result<T, Rescue> + Send + 'static,
    ) -> Result<T, Rescue> {
        let Self {
            memory,
            identity,
            until,
            place,
            ..
        } = self;
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            work(&memory, identity)
        });
        match tokio::time::timeout_at(until.into(), work).await {
            Ok(done) => done.map_err(|error| Rescue::internal("the memory call", &error))?,
            Err(_) => Err(Rescue::timeout(
                "the memory did not finish in time; what was sent may still be stored",
            )),
        }
    }
}

impl WrittenEdge {
    fn new_edge(self) -> NewEdge {
        let mut edge = NewEdge::new(self.src, self.dst, self.rel);
        edge.weight = self.weight.unwrap_or(edge.weight);
        edge.metadata = self.metadata;
        edge
    }
}

fn may_read(identity: &Identity, node: &Node) -> bool {
    node.tenant == identity.tenant || node.tenant == SHARED_TENANT || identity.has(Scope::Admin)
}

fn may_change(identity: &Identity, node: &Node) -> Result<(), Rescue> {
    if node.tenant == identity.tenant || identity.has(Scope::Admin) {
        return Ok(());
    }
    let message = format!("node {} belongs to another tenant", node.id);
    Err(Rescue::new(StatusCode::FORBIDDEN, "tenant", message))
}

/// An edge needs two nodes that the caller may read and one that it may change: what everybody recalls from shared
/// nodes is not one tenant's to write.
fn may_join(
    identity: &Identity,
    memory: &Memory,
    index: usize,
    edge: &NewEdge,
) -> Result<(), Rescue> {
    let mut changeable = false;
    for (end, id) in [("src", edge.src), ("dst", edge.dst)] {
        let stored = memory.node(id)?.filter(|node| may_read(identity, node));
        let node = stored.ok_or_else(|| {
            let message = format!("node {id} is not in your memory");
            Rescue::field(format!("edges[{index}].{end}"), message)
        })?;
        changeable |= may_change(identity, &node).is_ok();
    }
    if changeable {
        return Ok(());
    }
    let message = format!("edges[{index}] joins shared nodes only: that needs an admin key");
    Err(Rescue::new(StatusCode::FORBIDDEN, "tenant", message))
}

fn bounded(field: &str, count: usize) -> Result<(), Rescue> {
    if (1..=BATCH_MAX).contains(&count) {
        return Ok(());
    }
    Err(Rescue::field(
        field,
        format!("{field} has {count} entries: send 1 to {BATCH_MAX}"),
    ))
}

fn shown(node: &Node, scores: &[(&str, Value)]) -> Value {
    let mut shown = json!({
        "id": node.id, "type": node.node_type, "source": node.source, "text": node.text,
        "metadata": node.metadata,
    });
    for (name, value) in scores {
        shown[*name] = value.clone();
    }
    shown
}
