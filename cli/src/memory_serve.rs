//! `weir memory serve`: the memory service until it is told to end. What it does is weir-memory-service.

use crate::args::MemoryServeArgs;
use crate::fail::Failure;
use crate::process_log::{self, LogFormat};
use weir_gateway::Stop;
use weir_memory_service::{EmbedderSource, Neo4jConfig, Options, QdrantConfig, Server, Store};
use weir_plan::Secret;

pub(crate) async fn run(args: MemoryServeArgs) -> Result<(), Failure> {
    process_log::to_stderr(LogFormat::Json);
    let stop = Stop::default();
    stop.follow_signals(|_| tracing::info!("told to end: calls in flight finish"))?;
    let server = Server::bind(options(args)?).await?;
    let serving = server.run(stop.drain.clone());
    if let Some(ended) = stop.now.run_until_cancelled(serving).await {
        ended?;
    }
    Ok(())
}

fn options(args: MemoryServeArgs) -> Result<Options, Failure> {
    let embedder = match (args.embedder, args.embeddings_url) {
        (Some(folder), _) => EmbedderSource::Folder(folder),
        (None, Some(url)) => EmbedderSource::Pool {
            url,
            model: args.embeddings_model.unwrap_or_else(|| args.model.clone()),
            api_key: args.embeddings_api_key.map(Secret::new),
            ca: args.embeddings_ca,
        },
        (None, None) => return Err(Failure::new("give --embedder or --embeddings-url")),
    };
    let external = args.external;
    let secret = |value: String| (!value.is_empty()).then(|| Secret::new(value));
    let store = match (args.path, external.collection) {
        (Some(folder), _) => Store::Folder(folder),
        (None, Some(collection)) => Store::External {
            collection,
            qdrant: QdrantConfig {
                url: external.qdrant_url.unwrap_or_default(),
                api_key: external.qdrant_api_key.and_then(secret),
                ca: external.qdrant_ca,
            },
            neo4j: Neo4jConfig {
                url: external.neo4j_url.unwrap_or_default(),
                user: external.neo4j_username,
                password: Secret::new(external.neo4j_password),
                database: external.neo4j_database,
                ca: external.neo4j_ca,
            },
        },
        (None, None) => return Err(Failure::new("give --path or --collection")),
    };
    Ok(Options {
        store,
        model: args.model,
        dimensions: args.dimensions.get(),
        embedder,
        tls: args.tls,
        listen: args.listen,
        listen_health: args.listen_health,
    })
}
