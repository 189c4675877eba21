//! The calls of a request, answered by an external memory.

use std::sync::Arc;
use std::time::Instant;

use neo4rs::query;
use weir_memory::upkeep::Erased;
use weir_memory::{Access, Batch, Node, NodeId, Query, RecallLimits, Written};
use weir_memory_live::{
    Asked, Attended, Embedder, Found, MemoryCalls, MemoryError, Passage, Presence, Recollection,
    Reply, Sought, Spent, Unembedded, Wanted, candidates, in_time, milliseconds, scored_hits,
    scored_nodes,
};

use crate::neo4j::Broken;
use crate::row;
use crate::search::Finding;
use crate::store::ExternalMemory;
use crate::write::{Edit, strange};

impl MemoryCalls for ExternalMemory {
    fn presence(&self) -> Presence {
        match self.why_away() {
            Some(why) => Presence::Away(why),
            None => Presence::Here(self.state().counts),
        }
    }

    fn recall(&self, asked: Asked) -> Reply<'_, Recollection> {
        Box::pin(async move { Ok(self.recollect(asked).await) })
    }

    fn search(&self, sought: Sought) -> Reply<'_, Found> {
        Box::pin(async move {
            let query = self.query(sought).await;
            let finding = self.find(&query, false).await?;
            let ids: Vec<NodeId> = finding.result.hits.iter().map(|hit| hit.id).collect();
            let nodes = self.nodes(&finding, &ids).await?;
            let result = finding.result;
            Ok(Found { result, nodes })
        })
    }

    fn attend(&self, sought: Sought, limits: RecallLimits) -> Reply<'_, Attended> {
        Box::pin(async move {
            let query = self.query(sought).await;
            let finding = self.find(&query, true).await?;
            let (recall, mut rows) = self.recall_around(&query, &finding, &limits).await?;
            let nodes = recall.nodes.iter();
            let nodes: Vec<Node> = nodes.filter_map(|node| rows.remove(&node.id)).collect();
            Ok(Attended { recall, nodes })
        })
    }

    fn write(&self, access: Access, batch: Batch) -> Reply<'_, Written> {
        Box::pin(async move {
            let edit = Edit {
                access: Some(access),
                nodes: batch.nodes,
                edges: batch.edges,
                ..Edit::default()
            };
            Ok(self.edit(&edit).await?.written)
        })
    }

    fn delete(&self, access: Access, id: NodeId) -> Reply<'_, bool> {
        Box::pin(async move {
            let edit = Edit {
                access: Some(access),
                remove: vec![id],
                ..Edit::default()
            };
            Ok(self.edit(&edit).await?.written.removed > 0)
        })
    }

    fn erase(&self, access: Access, subject: String, tenant: Option<String>) -> Reply<'_, Erased> {
        Box::pin(async move {
            if !access.admin {
                return Err(weir_memory::WriteError::EraseNeedsAdmin.into());
            }
            let edit = Edit {
                erase: Some((subject, tenant)),
                ..Edit::default()
            };
            let erased = self.erase_all(&edit).await?;
            for id in &erased.ids {
                self.handed_out().remove(id);
            }
            if let Some(embedder) = &self.inner.embedder {
                embedder.forget_questions();
            }
            Ok(erased)
        })
    }

    fn embed(&self, texts: Vec<String>) -> Reply<'_, Vec<Vec<f32>>> {
        Box::pin(Embedder::texts(self.inner.embedder.as_ref(), texts))
    }
}

impl ExternalMemory {
    async fn query(&self, sought: Sought) -> Query {
        let embedder = self.inner.embedder.as_ref();
        sought.query(embedder, self.inner.config.dimensions).await
    }

    /// The steps of a recall in their order; one that fails or is late is skipped.
    async fn recollect(&self, asked: Asked) -> Recollection {
        let mut spent = Spent::default();
        let started = Instant::now();
        let vector = match asked.vector {
            Some(vector) => Some(Arc::from(vector)),
            None if asked.embed => {
                let dimensions = self.inner.config.dimensions;
                Embedder::fitting(self.inner.embedder.as_ref(), &asked.text, dimensions).await
            }
            None => None,
        };
        spent.embed = milliseconds(started);
        let mut recollection = Recollection {
            vector,
            generation: self.state().generation,
            spent,
            ..Recollection::default()
        };
        let Some(wanted) = asked.wanted else {
            return recollection;
        };
        let query = Query {
            text: asked.text,
            vector: recollection.vector.as_deref().map(<[f32]>::to_vec),
            filter: wanted.filter.clone(),
            k: wanted.limits.seeds,
            exclude_edges: Vec::new(),
        };
        let started = Instant::now();
        let finding = in_time("search", self.find(&query, true)).await;
        let found = match &finding {
            Some(finding) => in_time("search", self.with_texts(finding, &wanted)).await,
            None => None,
        };
        recollection.spent.search = milliseconds(started);
        let started = Instant::now();
        if let Some(finding) = &finding {
            let work = self.attended(&query, finding, &wanted);
            recollection.attended = in_time("recall", work).await;
        }
        recollection.spent.attend = milliseconds(started);
        recollection.found = found;
        recollection
    }

    async fn with_texts(
        &self,
        finding: &Finding,
        wanted: &Wanted,
    ) -> Result<
        (
            weir_memory::SearchResult,
            Vec<weir_memory::context::Candidate>,
        ),
        MemoryError,
    > {
        let scored = scored_hits(&finding.result, wanted.candidates);
        let ids: Vec<NodeId> = scored.iter().map(|(id, _)| *id).collect();
        let nodes = self.nodes(finding, &ids).await?;
        Ok((finding.result.clone(), candidates(nodes, &scored)))
    }

    async fn attended(
        &self,
        query: &Query,
        finding: &Finding,
        wanted: &Wanted,
    ) -> Result<(weir_memory::Recall, Vec<weir_memory::context::Candidate>), MemoryError> {
        let limits = &wanted.limits;
        let (mut recall, mut rows) = self.recall_around(query, finding, limits).await?;
        recall.nodes.truncate(wanted.candidates);
        let nodes = recall.nodes.iter();
        let nodes: Vec<Node> = nodes.filter_map(|node| rows.remove(&node.id)).collect();
        let scored = scored_nodes(&recall);
        Ok((recall, candidates(nodes, &scored)))
    }
}

impl Unembedded for ExternalMemory {
    fn waiting(&self) -> usize {
        let state = self.state();
        match state.away {
            // Nothing can be read or stored meanwhile.
            Some(_) => 0,
            None => state.counts.pending,
        }
    }

    fn passages(&self, limit: usize) -> Reply<'_, Vec<Passage>> {
        Box::pin(async move {
            self.check_open()?;
            let (label, what) = (&self.inner.label, "look for nodes without a vector");
            let returned = row::returned(label);
            let statement = format!("MATCH (n:{label}_bare) {returned} LIMIT $limit");
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let statement = query(&statement).param("limit", limit);
            let rows = self.inner.neo4j.rows(what, statement).await?;
            let stored: Result<Vec<_>, Broken> = rows.iter().map(row::stored).collect();
            let stored = stored.map_err(|broken| strange(what, broken))?;
            let mut passages = Vec::with_capacity(stored.len());
            for row in stored {
                self.handed_out().insert(row.node.id, row.version);
                passages.push((row.node.id, row.node.indexed_text()));
            }
            Ok(passages)
        })
    }

    fn set(&self, vectors: Vec<(NodeId, Vec<f32>)>) -> Reply<'_, usize> {
        Box::pin(async move {
            let stored = self.put_vectors(&vectors).await?;
            let mut state = self.state();
            state.counts.pending = state.counts.pending.saturating_sub(stored);
            Ok(stored)
        })
    }

    /// No topics are joined in an external memory: it would ask Qdrant twice for each passage.
    fn join(&self, _limit: usize) -> Reply<'_, usize> {
        Box::pin(async { Ok(0) })
    }

    fn problem(&self) -> Option<String> {
        None
    }
}
