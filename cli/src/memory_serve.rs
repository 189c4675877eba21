//! `weir memory serve`: the memory service until it is told to end. What it does is weir-memory-service.

use crate::args::MemoryServeArgs;
use crate::fail::Failure;
use crate::memory_external::servers;
use crate::process_log::{self, LogFormat};
use weir_gateway::Stop;
use weir_memory::upkeep::PrunePolicy;
use weir_memory_service::{EmbedderSource, Options, Server, Store, TunePolicy, UpkeepPolicy};
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
    if let Some(share) = args.target_recall
        && !(share > 0.0 && share <= 1.0)
    {
        return Err(Failure::new(format!(
            "--target-recall {share} is no share: write a number above 0 and at most 1, for example 0.98"
        )));
    }
    let ages = args.max_age.is_some() || args.trace_age.is_some();
    let prunes = ages || args.degree_max.is_some() || args.min_weight.is_some();
    let upkeep = UpkeepPolicy {
        prune: prunes.then(|| PrunePolicy {
            degree_max: args.degree_max.unwrap_or(usize::MAX),
            min_weight: args.min_weight.unwrap_or(0.0),
            max_age: args.max_age,
            trace_age: args.trace_age,
        }),
        tune: args.target_recall.map(|target_recall| TunePolicy {
            target_recall,
            every_writes: args.tune_every_writes,
        }),
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
        upkeep,
        tls: args.tls,
        listen: args.listen,
        listen_health: args.listen_health,
    })
}
