//! What is kept where, and that both servers hold this memory and no other.
//!
//! In Neo4j a node has the label `Weir_<collection>`, an edge is a relationship of the same name with its relation as a
//! property. `_pending` marks a node whose point is behind, `_bare` one that waits for a vector, `_gone` what is left of a
//! removed node until its point is gone. One node `WeirStore` says whose vectors these are and counts the writes.

use neo4rs::query;

use crate::config::ExternalConfig;
use crate::error::StoreError;
use crate::neo4j::Neo4j;
use crate::qdrant::{Described, Qdrant};

/// Version of what is kept.
pub(crate) const FORMAT: i64 = 1;

/// The label of nodes and the type of relationships of a collection.
pub(crate) fn label(collection: &str) -> String {
    format!("Weir_{collection}")
}

/// Makes what is missing in both servers, and refuses a store of other vectors. May be done again and again.
pub(crate) async fn ensure(
    config: &ExternalConfig,
    neo4j: &Neo4j,
    qdrant: &Qdrant,
) -> Result<(), StoreError> {
    let label = label(&config.collection);
    constrain(neo4j, &label).await?;
    identify(config, neo4j).await?;
    match qdrant.describe().await? {
        Some(described) => check(config, &described)?,
        None => {
            qdrant.create(config.dimensions).await?;
            // Points that were lost with the collection are made anew from the rows.
            let lost = format!(
                "MATCH (n:{label}) WHERE NOT n:{label}_pending \
                 SET n:{label}_pending, n.since = timestamp() \
                 REMOVE n.vector_sum SET n:{label}_bare"
            );
            neo4j.rows("mark lost points", query(&lost)).await?;
        }
    }
    qdrant.index_payload().await
}

/// Uniqueness, and the indexes that reads use.
async fn constrain(neo4j: &Neo4j, label: &str) -> Result<(), StoreError> {
    let unique = |name: &str, label: &str, property: &str| {
        format!(
            "CREATE CONSTRAINT {name} IF NOT EXISTS FOR (n:{label}) REQUIRE n.{property} IS UNIQUE"
        )
    };
    let index = |property: &str| {
        format!("CREATE INDEX {label}_{property} IF NOT EXISTS FOR (n:{label}) ON (n.{property})")
    };
    let statements = [
        unique("WeirStore_name", "WeirStore", "name"),
        unique(&format!("{label}_id"), label, "id"),
        unique(&format!("{label}_gone_id"), &format!("{label}_gone"), "id"),
        index("subject"),
        index("time"),
        index("tenant"),
    ];
    for statement in &statements {
        neo4j.rows("create constraints", query(statement)).await?;
    }
    neo4j
        .rows("wait for indexes", query("CALL db.awaitIndexes(8)"))
        .await
        .map(drop)
}

/// Dimensions and embedding model of the store that is there; `None` when there is none of the name.
pub(crate) async fn stored_identity(
    neo4j: &Neo4j,
    collection: &str,
) -> Result<Option<(usize, String)>, StoreError> {
    let what = "identify the store";
    let statement =
        "MATCH (s:WeirStore {name: $name}) RETURN s.dimensions AS dimensions, s.model AS model";
    let rows = neo4j.rows(what, query(statement).param("name", collection));
    let Some(row) = rows.await?.into_iter().next() else {
        return Ok(None);
    };
    let identity = row.get::<i64>("dimensions").ok().zip(row.get("model").ok());
    let (dimensions, model) = identity.ok_or_else(|| StoreError::Strange {
        server: crate::error::Server::Neo4j,
        what,
        why: "the node of the store has no identity".to_owned(),
    })?;
    Ok(Some((usize::try_from(dimensions).unwrap_or(0), model)))
}

/// The store's own node: whose vectors these are, fixed when it is made.
async fn identify(config: &ExternalConfig, neo4j: &Neo4j) -> Result<(), StoreError> {
    let what = "identify the store";
    let statement = query(
        "MERGE (s:WeirStore {name: $name}) \
         ON CREATE SET s.format = $format, s.dimensions = $dimensions, s.model = $model, s.generation = 0 \
         RETURN s.format AS format, s.dimensions AS dimensions, s.model AS model",
    )
    .param("name", config.collection.as_str())
    .param("format", FORMAT)
    .param("dimensions", i64::try_from(config.dimensions).unwrap_or(i64::MAX))
    .param("model", config.embedding_model.as_str());
    let rows = neo4j.rows(what, statement).await?;
    let identity = rows.first().and_then(|row| {
        let numbers = row
            .get::<i64>("format")
            .ok()
            .zip(row.get::<i64>("dimensions").ok());
        numbers.zip(row.get::<String>("model").ok())
    });
    let Some(((format, dimensions), model)) = identity else {
        let server = crate::error::Server::Neo4j;
        let why = "the node of the store has no identity".to_owned();
        return Err(StoreError::Strange { server, what, why });
    };
    let name = &config.collection;
    if format != FORMAT {
        return Err(StoreError::Identity(format!(
            "the memory {name} in Neo4j has format {format}, this build reads format {FORMAT}"
        )));
    }
    if usize::try_from(dimensions) != Ok(config.dimensions) {
        return Err(other_dimensions(config, "Neo4j", &dimensions.to_string()));
    }
    if model != config.embedding_model {
        return Err(StoreError::Identity(format!(
            "the memory {name} in Neo4j holds vectors of the model {model:?}, not {:?}; vectors of two models cannot be \
             compared: name another collection",
            config.embedding_model
        )));
    }
    Ok(())
}

fn check(config: &ExternalConfig, described: &Described) -> Result<(), StoreError> {
    let name = &config.collection;
    match described.dimensions {
        Some(found) if found == config.dimensions => {}
        Some(found) => return Err(other_dimensions(config, "Qdrant", &found.to_string())),
        None => {
            return Err(StoreError::Identity(format!(
                "the collection {name} in Qdrant was not made by Weir: it has no vectors called {:?}; name another \
                 collection",
                crate::qdrant::DENSE
            )));
        }
    }
    if !described.has_words {
        return Err(StoreError::Identity(format!(
            "the collection {name} in Qdrant was not made by Weir: it has no sparse vectors called {:?} with the modifier \
             idf; name another collection",
            crate::qdrant::WORDS
        )));
    }
    Ok(())
}

fn other_dimensions(config: &ExternalConfig, server: &str, found: &str) -> StoreError {
    StoreError::Identity(format!(
        "the collection {} in {server} holds vectors of {found} dimensions, not {}: name another collection, or the \
         embedder that made them",
        config.collection, config.dimensions
    ))
}
