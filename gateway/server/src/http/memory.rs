//! `/v1/memory/*`: write nodes and edges, search, attend, delete, erase a subject.
//!
//! A key reads and writes its own tenant's nodes and reads those that are shared; only admin keys write shared ones
//! and edges between them. That rule is the memory's (`Access`), which checks it where it writes; here a request is read
//! and bounded. Reading on: weir-memory-live's `calls.rs`, weir-memory's `access.rs`.

use super::admission::Place;
use super::{Shared, Surfaces, body, extension};
use crate::auth::Identity;
use crate::extension::Extension;
use crate::gateway::Serving;
use crate::recall::{may_embed, want_vectors};
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use weir_memory::upkeep;
use weir_memory::{
    Access, Batch, EdgeMetadata, Filter, Metadata, NewEdge, NewNode, Node, NodeId, NodeSource,
    NodeType, RecallLimits,
};
use weir_memory_live::{MemoryCalls, MemoryError, Sought};
use weir_plan::Scope;

/// Most nodes or edges of one request.
const BATCH_MAX: usize = 1000;
/// Most hits of one search.
const HITS_MAX: usize = 256;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NodesRequest")]
pub(crate) struct Nodes {
    #[schemars(length(min = 1, max = BATCH_MAX))]
    nodes: Vec<WrittenNode>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WrittenNode {
    #[schemars(with = "Option<String>")]
    id: Option<NodeId>,
    /// `shared`, for admin keys; else the key's own.
    tenant: Option<String>,
    text: String,
    #[serde(default, rename = "type")]
    #[schemars(schema_with = "crate::openapi::node_type")]
    node_type: NodeType,
    #[serde(default)]
    #[schemars(schema_with = "crate::openapi::node_source")]
    source: NodeSource,
    #[serde(default)]
    #[schemars(schema_with = "crate::openapi::metadata")]
    metadata: Metadata,
    vector: Option<Vec<f32>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EdgesRequest")]
pub(crate) struct Edges {
    #[schemars(length(min = 1, max = BATCH_MAX))]
    edges: Vec<WrittenEdge>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WrittenEdge {
    #[schemars(with = "String")]
    src: NodeId,
    #[schemars(with = "String")]
    dst: NodeId,
    rel: String,
    weight: Option<f32>,
    #[serde(default)]
    #[schemars(schema_with = "crate::openapi::edge_metadata")]
    metadata: EdgeMetadata,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MemoryQuestion")]
pub(crate) struct Question {
    query: String,
    vector: Option<Vec<f32>>,
    #[serde(default)]
    domains: Vec<String>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    types: Vec<NodeType>,
    /// Hits, 10 without it.
    #[schemars(range(min = 1, max = HITS_MAX))]
    k: Option<usize>,
    /// Hops of the walk, at most the plan's.
    hops: Option<u8>,
    /// Nodes of the walk, at most the plan's.
    nodes_max: Option<usize>,
}

/// A memory call of one caller.
struct Call {
    serving: Arc<Serving>,
    access: Access,
    memory: Arc<dyn MemoryCalls>,
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
    let without_vector = nodes.iter().any(|node| node.vector.is_none());
    if without_vector {
        call.check_privacy()?;
    }
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    let batch = Batch {
        nodes,
        edges: Vec::new(),
    };
    let (access, serving) = (call.access.clone(), Arc::clone(&call.serving));
    let written = call
        .ask(move |memory| async move { memory.write(access, batch).await })
        .await?;
    // What was refused, or was there already, needs no vector.
    if without_vector && written.inserted + written.updated > 0 {
        want_vectors(&serving);
    }
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
    let batch = Batch {
        nodes: Vec::new(),
        edges: edges.into_iter().map(WrittenEdge::new_edge).collect(),
    };
    let access = call.access.clone();
    let written = call
        .ask(move |memory| async move { memory.write(access, batch).await })
        .await?;
    Ok(Json(json!({"edges": written.edges})))
}

pub(crate) async fn search(
    State(surfaces): Shared,
    request: Request,
) -> Result<Json<Value>, Rescue> {
    let (call, bytes) = Call::begin(&surfaces, request).await?;
    let sought = call.sought(body::typed(&bytes)?)?;
    let found = call
        .ask(move |memory| async move { memory.search(sought).await })
        .await?;
    let hits = found.nodes.iter().filter_map(|node| {
        let hit = found.result.hits.iter().find(|hit| hit.id == node.id)?;
        let scores = [
            ("cosine", json!(hit.cosine)),
            ("bm25", json!(hit.bm25)),
            ("strength", json!(hit.strength)),
        ];
        Some(shown(node, scores))
    });
    let hits: Vec<Value> = hits.collect();
    let filter_share = found.result.filter_share;
    Ok(Json(json!({"hits": hits, "filter_share": filter_share})))
}

pub(crate) async fn attend(
    State(surfaces): Shared,
    request: Request,
) -> Result<Json<Value>, Rescue> {
    let (call, bytes) = Call::begin(&surfaces, request).await?;
    let question: Question = body::typed(&bytes)?;
    let limits = call.limits(&question)?;
    let sought = call.sought(question)?;
    let attended = call
        .ask(move |memory| async move { memory.attend(sought, limits).await })
        .await?;
    let recall = &attended.recall;
    let nodes = attended.nodes.iter().filter_map(|node| {
        let recalled = recall.nodes.iter().find(|of| of.id == node.id)?;
        let scores = [
            ("score", json!(recalled.score)),
            ("cosine", json!(recalled.cosine)),
            ("depth", json!(recalled.depth)),
        ];
        Some(shown(node, scores))
    });
    let nodes: Vec<Value> = nodes.collect();
    Ok(Json(json!({
        "nodes": nodes, "entropy": recall.entropy, "depth": recall.depth,
        "nodes_used": recall.nodes_used,
    })))
}

pub(crate) async fn delete_node(
    State(surfaces): Shared,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Value>, Rescue> {
    let (call, _) = Call::begin(&surfaces, request).await?;
    let unknown = || Rescue::not_found("the node");
    let id: NodeId = id.parse().map_err(|_| unknown())?;
    let access = call.access.clone();
    let deleted = call
        .ask(move |memory| async move { memory.delete(access, id).await })
        .await?;
    match deleted {
        true => Ok(Json(json!({"id": id, "deleted": true}))),
        false => Err(unknown()),
    }
}

/// Which tenant's nodes an erasure is about; without it, every tenant's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Erasure {
    tenant: Option<String>,
}

/// Erases a subject, for admin keys. The receipt says what is gone, and what may still hold something that a memory cannot
/// reach.
pub(crate) async fn erase_subject(
    State(surfaces): Shared,
    Path(subject): Path<String>,
    query: Result<Query<Erasure>, QueryRejection>,
    request: Request,
) -> Result<Json<Value>, Rescue> {
    let Query(Erasure { tenant }) =
        query.map_err(|error| Rescue::field("tenant", error.body_text()))?;
    let (call, _) = Call::begin_as(Scope::Admin, &surfaces, request).await?;
    let access = call.access.clone();
    let erased = call
        .ask(move |memory| async move { memory.erase(access, subject, tenant).await })
        .await?;
    let answers = surfaces.gateway.answers().forget();
    Ok(Json(json!({
        "nodes": erased.nodes, "summaries": erased.summaries, "traces": erased.traces,
        "vectors": erased.vectors, "edges": erased.edges, "documents": erased.documents,
        "recollections": erased.recollections, "answers": answers,
        "ids": erased.ids, "generation": erased.generation, "erased_at": erased.erased_at,
        "caches": upkeep::CACHES, "not_erased": upkeep::BEYOND_REACH,
    })))
}

impl Call {
    /// Checks who calls, reads the body and waits for a place.
    async fn begin(surfaces: &Surfaces, request: Request) -> Result<(Self, bytes::Bytes), Rescue> {
        Self::begin_as(Scope::Memory, surfaces, request).await
    }

    /// As [`Call::begin`], for keys with another scope.
    async fn begin_as(
        scope: Scope,
        surfaces: &Surfaces,
        request: Request,
    ) -> Result<(Self, bytes::Bytes), Rescue> {
        let received = Instant::now();
        let serving = surfaces.gateway.serving();
        let identity = surfaces
            .identify(&serving, request.headers(), scope)
            .await?;
        let memory = serving.memory.clone().ok_or_else(|| {
            let message = "this gateway has no memory: name one in its InferenceGateway";
            Rescue::new(StatusCode::NOT_FOUND, "no_memory", message)
        })?;
        let weir = extension(request.headers())?;
        let (_, bytes) = body::read(request, serving.plan.limits.body_max_bytes).await?;
        let until = serving.deadline(&weir, received);
        let place = surfaces.enter(&serving, &identity.tenant, until).await?;
        let call = Self {
            serving,
            access: access(&identity),
            memory,
            weir,
            until,
            place,
        };
        Ok((call, bytes))
    }

    fn new_node(&self, index: usize, node: WrittenNode) -> Result<NewNode, Rescue> {
        if node.text.trim().is_empty() {
            let message = "text is empty: send what shall be remembered";
            return Err(Rescue::field(format!("nodes[{index}].text"), message));
        }
        Ok(NewNode {
            id: node.id.unwrap_or_else(NodeId::random),
            tenant: node.tenant.unwrap_or_else(|| self.access.tenant.clone()),
            text: node.text,
            node_type: node.node_type,
            source: node.source,
            metadata: node.metadata,
            vector: node.vector,
        })
    }

    /// Whether the caller's words may travel to what makes the memory's vectors.
    fn may_embed(&self) -> bool {
        may_embed(&self.serving, &self.access.tenant, &self.weir)
    }

    /// What is written without a vector gets one later, from the memory's embedder: refused where that is too far away.
    fn check_privacy(&self) -> Result<(), Rescue> {
        match self.serving.plan.vectors_from() {
            Some(pool) if !self.may_embed() => Err(Rescue::privacy(&pool.model)),
            _ => Ok(()),
        }
    }

    /// What is looked for; without an embedder, or where the only one lies beyond the request's privacy, the words alone
    /// find what they can.
    fn sought(&self, question: Question) -> Result<Sought, Rescue> {
        if question.query.trim().is_empty() {
            return Err(Rescue::field(
                "query",
                "query is empty: send a question or words",
            ));
        }
        let k = question.k.unwrap_or(10);
        if k == 0 || k > HITS_MAX {
            return Err(Rescue::field(
                "k",
                format!("k is {k}: send 1 to {HITS_MAX}"),
            ));
        }
        let embed = question.vector.is_none() && self.may_embed();
        if embed {
            want_vectors(&self.serving);
        }
        Ok(Sought {
            text: question.query,
            embed,
            vector: question.vector,
            filter: Filter {
                tenant: self.access.tenant.clone(),
                domains: question.domains,
                types: question.types,
                hidden: Vec::new(),
            },
            k,
        })
    }

    /// The plan's limits, which a request may only lower.
    fn limits(&self, question: &Question) -> Result<RecallLimits, Rescue> {
        let plan = self.serving.plan.memory.as_ref();
        let hops_max = plan.map_or(2, |plan| u8::try_from(plan.hops).unwrap_or(u8::MAX));
        let nodes_max = plan.map_or(HITS_MAX, |plan| plan.nodes_max);
        let hops = question.hops.unwrap_or(hops_max);
        if hops > hops_max {
            return Err(Rescue::field(
                "hops",
                format!("hops is {hops}: send 0 to {hops_max}"),
            ));
        }
        let wanted = question.nodes_max.unwrap_or(nodes_max);
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

    /// Asks the memory. A call that is late goes on, and keeps its place until it ends: the store cannot be stopped in the
    /// middle.
    async fn ask<T, F>(
        self,
        call: impl FnOnce(Arc<dyn MemoryCalls>) -> F + Send + 'static,
    ) -> Result<T, Rescue>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, MemoryError>> + Send + 'static,
    {
        let Self {
            memory,
            place,
            until,
            ..
        } = self;
        let work = tokio::spawn(async move {
            let _place = place;
            call(memory).await
        });
        match tokio::time::timeout_at(until.into(), work).await {
            Ok(Ok(done)) => Ok(done?),
            Ok(Err(error)) => Err(Rescue::internal("the memory call", &error)),
            Err(_) => Err(MemoryError::Late.into()),
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

fn access(identity: &Identity) -> Access {
    Access {
        tenant: identity.tenant.clone(),
        admin: identity.has(Scope::Admin),
    }
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

fn shown<const N: usize>(node: &Node, scores: [(&str, Value); N]) -> Value {
    let mut shown = json!({
        "id": node.id, "type": node.node_type, "source": node.source, "text": node.text,
        "metadata": node.metadata,
    });
    for (name, value) in scores {
        shown[name] = value;
    }
    shown
}
