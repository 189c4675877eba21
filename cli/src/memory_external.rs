//! `weir memory export` and `import` of a memory in Qdrant and Neo4j, which they ask themselves.

use crate::args::ExternalStoreArgs;
use crate::fail::Failure;
use crate::memory_upkeep::{advance, bar};
use std::fs::File;
use std::io::{BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;
use weir_memory::MemoryConfig;
use weir_memory::upkeep::{Exported, ImportOptions, Imported, identity_of, import_into};
use weir_memory_external::{Blocking, ExternalConfig, ExternalMemory, Neo4jConfig, QdrantConfig};
use weir_plan::Secret;

/// Where a memory is kept that is named on the command line; `None` when none is.
pub(crate) fn servers(args: ExternalStoreArgs) -> Option<(String, QdrantConfig, Neo4jConfig)> {
    let key = args.qdrant_api_key.filter(|key| !key.is_empty());
    let qdrant = QdrantConfig {
        url: args.qdrant_url.unwrap_or_default(),
        api_key: key.map(Secret::new),
        ca: args.qdrant_ca,
    };
    let neo4j = Neo4jConfig {
        url: args.neo4j_url.unwrap_or_default(),
        user: args.neo4j_username,
        password: Secret::new(args.neo4j_password),
        database: args.neo4j_database,
        ca: args.neo4j_ca,
    };
    Some((args.collection?, qdrant, neo4j))
}

/// Writes the lines of a memory; `None` when the arguments name no servers.
pub(crate) async fn export(
    args: &ExternalStoreArgs,
    lines: &mut dyn Write,
) -> Option<Result<Exported, Failure>> {
    let (collection, qdrant, neo4j) = servers(args.clone())?;
    let work = async {
        let there = ExternalMemory::identity(&neo4j, &collection).await?;
        let (dimensions, embedding_model) = there.ok_or_else(|| {
            Failure::new(format!("there is no memory called {collection} in Neo4j"))
        })?;
        let identity = MemoryConfig {
            dimensions,
            embedding_model,
        };
        let memory = open((collection, qdrant, neo4j), identity).await?;
        let bar = bar();
        let exported = memory.export(lines, &mut |at| advance(&bar, at)).await;
        bar.finish_and_clear();
        Ok(exported?)
    };
    Some(work.await)
}

/// Reads an export in; `None` when the arguments name no servers.
pub(crate) async fn import(
    args: &ExternalStoreArgs,
    (file, options): (&Path, ImportOptions),
) -> Option<Result<Imported, Failure>> {
    let servers = servers(args.clone())?;
    let file = file.to_owned();
    let work = async {
        let identity = identity_of(&mut BufReader::new(File::open(&file)?))?;
        let memory = open(servers, identity).await?;
        let read = move || {
            let bar = bar();
            let tell = &mut |at| {
                advance(&bar, at);
                ControlFlow::Continue(())
            };
            let mut input = BufReader::new(File::open(&file)?);
            let read = import_into(&Blocking::new(memory), &mut input, options, tell);
            bar.finish_and_clear();
            Ok::<_, Failure>(read?)
        };
        tokio::task::spawn_blocking(read).await?
    };
    Some(work.await)
}

async fn open(
    (collection, qdrant, neo4j): (String, QdrantConfig, Neo4jConfig),
    identity: MemoryConfig,
) -> Result<ExternalMemory, Failure> {
    let config = ExternalConfig {
        collection,
        dimensions: identity.dimensions,
        embedding_model: identity.embedding_model,
        qdrant,
        neo4j,
    };
    let memory = ExternalMemory::new(config, None)?;
    memory.tend().await?;
    Ok(memory)
}
