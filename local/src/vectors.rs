//! Fills in vectors in the background while words already find the passages.
//!
//! One task a memory, small batches through the embedder's bulk lane so that questions go first. It ends with its token and
//! loses at most one batch: what has no vector is found again by `pending_vectors`.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use weir_embed::EmbedQueue;
use weir_memory::Memory;

/// Passages embedded at a time.
const BATCH: usize = 32;

/// How often new passages are looked for when nobody announces them (nodes also arrive through the HTTP API).
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pause after a failure.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(10);

/// Runs until `stop`. `wake` announces new passages.
pub(crate) async fn fill(
    memory: Memory,
    embed: EmbedQueue,
    wake: Arc<Notify>,
    stop: CancellationToken,
) {
    loop {
        let pause = match fill_batch(&memory, &embed).await {
            Ok(0) => LOOK_EVERY,
            Ok(_) => Duration::ZERO,
            Err(error) => {
                tracing::warn!("vectors are late: {error}");
                PAUSE_AFTER_ERROR
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = wake.notified() => {}
        }
    }
}

/// Embeds one batch; how many passages got a vector.
async fn fill_batch(memory: &Memory, embed: &EmbedQueue) -> Result<usize, String> {
    if memory.counts().pending == 0 {
        return Ok(0);
    }
    let reader = memory.clone();
    let pending = tokio::task::spawn_blocking(move || reader.pending_vectors(BATCH))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| crate::chain(&error))?;
    let (ids, texts): (Vec<_>, Vec<_>) = pending.into_iter().unzip();
    if ids.is_empty() {
        return Ok(0);
    }
    let vectors = embed
        .embed_many(texts)
        .await
        .map_err(|error| crate::chain(&error))?;
    let rows: Vec<_> = ids.into_iter().zip(vectors).collect();
    let writer = memory.clone();
    tokio::task::spawn_blocking(move || writer.set_vectors(&rows))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| crate::chain(&error))
}
