//! `weir memory serve`: the memory service until it is told to end. What it does is weir-memory-service.

use crate::args::MemoryServeArgs;
use crate::fail::Failure;
use crate::memory_external::servers;
use crate::process_log::{self, LogFormat};
use weir_gateway::Stop;
use weir_memory_service::{EmbedderSource, Options, Server, Store};
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
    let store = match (args.path, servers(args.external)) {
        (Some(folder), _) => Store::Folder(folder),
        (None, Some((collection, qdrant, neo4j))) => Store::External {
            collection,
            qdrant,
            neo4j,
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
