//! Searching: one batch of questions to Qdrant, one look at the rows, then the fusion that the embedded store does.
//!
//! Qdrant filters inside its own walk, so a tenant with few nodes gets its best ones. A point counts only where its
//! version is the row's: one that is behind, or whose row is gone, is not found. While many nodes wait for their vectors, words
//! alone find them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use neo4rs::query;
use qdrant_client::qdrant::{
    Condition, DenseVector, Filter as Passing, Query as Asked, QueryPoints, ScoredPoint,
    SparseVector, VectorInput, query as asked, vector_input, vector_output,
};
use weir_memory::{Filter, NodeId, NodeType, Query, SHARED_TENANT, SearchResult, outside};
use weir_memory_live::MemoryError;

use crate::error::StoreError;
use crate::neo4j::Broken;
use crate::qdrant::{DENSE, WORDS, named, node_of, point_id};
use crate::row;
use crate::store::ExternalMemory;
use crate::write::strange;

/// Terms of a question whose idf is asked for; attention looks at no more.
const TERMS_MAX: usize = 64;

/// What a search found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finding {
    pub(crate) result: SearchResult,
    /// Versions of the rows that the hits were found by.
    pub(crate) versions: HashMap<NodeId, i64>,
    /// Inverse document frequency of the question's terms; empty where it was not asked for.
    pub(crate) idf: Vec<(Box<str>, f32)>,
}

/// Scores by node, each with the version of its point.
type Scores = BTreeMap<NodeId, (f32, i64)>;

/// Cosine and BM25 by node.
type Scored = Vec<(NodeId, Option<f32>, Option<f32>)>;

impl ExternalMemory {
    /// The strongest nodes that the filter lets through.
    pub(crate) async fn find(&self, query: &Query, idf: bool) -> Result<Finding, MemoryError> {
        self.check_open()?;
        let dimensions = self.inner.config.dimensions;
        let vector = query.vector.as_deref();
        let unit = vector.map(|vector| outside::unit_query(vector, dimensions));
        let unit = unit.transpose()?;
        let terms = outside::terms(&query.text);
        let words = sparse_question(terms.iter().map(|(term, _)| &**term));
        let pool = outside::pool(query.k);
        let passing = passing(&query.filter);
        let dense = unit.as_deref().map(dense_question);
        let mut questions = Vec::new();
        questions.extend(
            dense
                .clone()
                .map(|dense| asking(dense, DENSE, &passing, pool)),
        );
        questions.extend(
            words
                .clone()
                .map(|words| asking(words, WORDS, &passing, pool)),
        );
        let terms = &terms[..terms.len().min(TERMS_MAX)];
        let probed = if idf { terms } else { &[] };
        questions.extend(probed.iter().map(|(term, _)| probe(term)));
        let qdrant = &self.inner.qdrant;
        let (answers, passed, all) = tokio::try_join!(
            qdrant.query(questions),
            qdrant.count(Some(passing.clone())),
            qdrant.count(None)
        )?;
        let mut answers = answers.into_iter();
        let mut next = |asked: bool| -> Result<Scores, StoreError> {
            match asked {
                true => scores(answers.next().unwrap_or_default()),
                false => Ok(Scores::new()),
            }
        };
        let mut by_vector = next(dense.is_some())?;
        let mut by_words = next(words.is_some())?;
        let idf = probed.iter().zip(answers).filter_map(idf_of).collect();
        let counts = self.state().counts;
        if !by_words.is_empty() && !outside::by_vector_pays(counts.vectors, counts.nodes) {
            by_vector.clear();
        }
        let found_by_vector = !by_vector.is_empty();
        let dense = dense.filter(|_| found_by_vector);
        let questions = [(dense, DENSE), (words, WORDS)];
        self.complete(questions, [&mut by_vector, &mut by_words], pool)
            .await?;
        let (found, versions) = self.believed(&by_vector, &by_words).await?;
        let mut hits = outside::fuse(found, found_by_vector);
        hits.truncate(query.k);
        let result = SearchResult {
            hits,
            filter_share: passed as f32 / all.max(1) as f32,
        };
        Ok(Finding {
            result,
            versions,
            idf,
        })
    }

    /// Asks for the scores that each of two lists of `pool` nodes lacks of the other's.
    async fn complete(
        &self,
        questions: [(Option<VectorInput>, &str); 2],
        [first, second]: [&mut Scores; 2],
        pool: usize,
    ) -> Result<(), StoreError> {
        // A list that is not full has everything that there is to find; a full one lacks nodes that only the other has.
        let lacks = |own: &Scores, other: &Scores| -> Vec<NodeId> {
            let beyond = other.keys().filter(|id| !own.contains_key(id));
            beyond.copied().filter(|_| own.len() >= pool).collect()
        };
        let lacking = [lacks(first, second), lacks(second, first)];
        let (mut asked, mut incomplete) = (Vec::new(), Vec::new());
        let lists = [first, second].into_iter().zip(lacking);
        for ((question, using), (list, lacking)) in questions.into_iter().zip(lists) {
            if let Some(question) = question.filter(|_| !lacking.is_empty()) {
                let ids = lacking.iter().map(|id| point_id(*id));
                let among = Passing::must([Condition::has_id(ids)]);
                asked.push(asking(question, using, &among, lacking.len()));
                incomplete.push(list);
            }
        }
        let answers = self.inner.qdrant.query(asked).await?;
        for (list, answer) in incomplete.into_iter().zip(answers) {
            list.extend(scores(answer)?);
        }
        Ok(())
    }

    /// The nodes whose points say what their rows say.
    async fn believed(
        &self,
        by_vector: &Scores,
        by_words: &Scores,
    ) -> Result<(Scored, HashMap<NodeId, i64>), StoreError> {
        let ids: BTreeSet<NodeId> = by_vector.keys().chain(by_words.keys()).copied().collect();
        let versions = self.versions(&ids).await?;
        let score = |list: &Scores, id: NodeId| {
            let (score, version) = list.get(&id)?;
            (versions.get(&id) == Some(version)).then_some(*score)
        };
        let found = ids.iter().map(|id| {
            let words = score(by_words, *id).filter(|score| *score > 0.0);
            (*id, score(by_vector, *id), words)
        });
        let found = found.filter(|(_, cosine, words)| cosine.is_some() || words.is_some());
        Ok((found.collect(), versions))
    }

    async fn versions(&self, ids: &BTreeSet<NodeId>) -> Result<HashMap<NodeId, i64>, StoreError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let label = &self.inner.label;
        let statement = format!(
            "UNWIND $ids AS wanted MATCH (n:{label} {{id: wanted}}) \
             WITH n.id AS id, n.version AS version WHERE id IS NOT NULL AND version IS NOT NULL RETURN id, version"
        );
        let statement = query(&statement).param("ids", row::ids(ids));
        let what = "read versions";
        let rows = self.inner.neo4j.rows(what, statement).await?;
        let versions = rows
            .iter()
            .map(|row| Ok((row::id(row, "id")?, row.get("version")?)));
        let versions: Result<_, Broken> = versions.collect();
        versions.map_err(|broken| strange(what, broken))
    }
}

/// Which nodes a filter lets through, in Qdrant's words.
fn passing(filter: &Filter) -> Passing {
    let tenants = vec![filter.tenant.clone(), SHARED_TENANT.to_owned()];
    let mut must = vec![Condition::matches("tenant", tenants)];
    if !filter.domains.is_empty() {
        must.push(Condition::matches("domain", filter.domains.clone()));
    }
    let types = allowed_types(filter).map(|node_type| node_type.as_str().to_owned());
    must.push(Condition::matches("type", types.collect::<Vec<_>>()));
    let mut must_not = Vec::new();
    if !filter.hidden.is_empty() {
        let hidden = filter.hidden.iter().map(|id| point_id(*id));
        must_not.push(Condition::has_id(hidden));
    }
    Passing {
        must,
        must_not,
        ..Passing::default()
    }
}

/// The types that a filter lets through.
pub(crate) fn allowed_types(filter: &Filter) -> impl Iterator<Item = NodeType> {
    let all = NodeType::ALL.into_iter();
    all.filter(|node_type| filter.sees(*node_type))
}

fn dense_question(unit: &[f32]) -> VectorInput {
    let dense = DenseVector {
        data: unit.to_vec(),
    };
    VectorInput {
        variant: Some(vector_input::Variant::Dense(dense)),
    }
}

/// The terms, each as important as its idf says; `None` when there is none.
fn sparse_question<'a>(terms: impl Iterator<Item = &'a str>) -> Option<VectorInput> {
    let indices: BTreeSet<u32> = terms.map(outside::term_number).collect();
    if indices.is_empty() {
        return None;
    }
    let sparse = SparseVector {
        values: vec![1.0; indices.len()],
        indices: indices.into_iter().collect(),
    };
    Some(VectorInput {
        variant: Some(vector_input::Variant::Sparse(sparse)),
    })
}

fn asking(question: VectorInput, using: &str, filter: &Passing, limit: usize) -> QueryPoints {
    QueryPoints {
        query: Some(Asked {
            variant: Some(asked::Variant::Nearest(question)),
        }),
        using: Some(using.to_owned()),
        filter: Some(filter.clone()),
        limit: Some(limit as u64),
        with_payload: Some(vec!["version"].into()),
        ..QueryPoints::default()
    }
}

/// Asks for one text that holds a term, whoever's it is: its score over its weight is the term's idf. The text itself is
/// not read.
fn probe(term: &str) -> QueryPoints {
    QueryPoints {
        query: sparse_question(std::iter::once(term)).map(|question| Asked {
            variant: Some(asked::Variant::Nearest(question)),
        }),
        using: Some(WORDS.to_owned()),
        limit: Some(1),
        with_vectors: Some(vec![WORDS].into()),
        ..QueryPoints::default()
    }
}

fn idf_of(((term, _), answer): (&(Box<str>, u16), Vec<ScoredPoint>)) -> Option<(Box<str>, f32)> {
    let point = answer.into_iter().next()?;
    let Some(vector_output::Vector::Sparse(words)) = named(point.vectors, WORDS) else {
        return None;
    };
    let number = outside::term_number(term);
    let at = words.indices.iter().position(|index| *index == number)?;
    let weight = *words.values.get(at)?;
    (weight > 0.0).then(|| (term.clone(), point.score / weight))
}

fn scores(points: Vec<ScoredPoint>) -> Result<Scores, StoreError> {
    let of = |point: ScoredPoint| {
        let (id, version) = node_of(point.id.as_ref(), &point.payload)?;
        Ok((id, (point.score, version)))
    };
    points.into_iter().map(of).collect()
}
