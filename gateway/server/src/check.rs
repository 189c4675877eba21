//! Whether a plan can be served with the assets that were made ready for it.
//!
//! Asked before anything is replaced: a plan that is refused changes nothing. Who asks is `gateway.rs`.

use crate::decisions::LogError;
use crate::serving::{Assets, MemoryAsset};
use weir_embed::EmbedQueue;
use weir_plan::{FORMAT, GatewayPlan};

/// Why a plan cannot be served. The one before it stays.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Written by another generation of Weir.
    #[error(
        "plan has format {found_major}.{found_minor}, this gateway serves {}.{} and one minor beside it",
        FORMAT.major, FORMAT.minor
    )]
    Format {
        /// Major version found.
        found_major: u32,
        /// Minor version found.
        found_minor: u32,
    },
    /// Two pools cannot be told apart.
    #[error("plan names {0:?} twice; names and models of pools are unique")]
    Duplicate(String),
    /// The plan names a memory that was not handed in, or the other way round.
    #[error("plan names memory {planned:?}, but {} memory was opened", if *opened { "a" } else { "no" })]
    Memory {
        /// Name in the plan.
        planned: Option<String>,
        /// Whether one was handed in.
        opened: bool,
    },
    /// The store holds other vectors than the plan says.
    #[error("memory holds vectors of {found} dimensions, the plan says {planned}")]
    Dimensions {
        /// In the plan.
        planned: usize,
        /// In the store.
        found: usize,
    },
    /// The embedder makes other vectors than the store holds.
    #[error("the embedder makes vectors of {found} dimensions, the memory holds {planned}")]
    Embedder {
        /// In the plan.
        planned: usize,
        /// Of the embedder.
        found: usize,
    },
    /// The decision log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Compares the plan with its assets.
pub(crate) fn check(plan: &GatewayPlan, assets: &Assets) -> Result<(), PlanError> {
    if !plan.format.is_served() {
        let (found_major, found_minor) = (plan.format.major, plan.format.minor);
        return Err(PlanError::Format {
            found_major,
            found_minor,
        });
    }
    for (position, pool) in plan.served().enumerate() {
        let twin = plan
            .served()
            .take(position)
            .find(|p| p.name == pool.name || p.model == pool.model);
        if let Some(twin) = twin {
            let name = if twin.name == pool.name {
                &pool.name
            } else {
                &pool.model
            };
            return Err(PlanError::Duplicate(name.clone()));
        }
    }
    match (&plan.memory, &assets.memory) {
        (None, None) | (Some(_), Some(MemoryAsset::Service(_))) => Ok(()),
        (Some(memory), Some(MemoryAsset::Open { store, embed })) => {
            let (planned, found) = (memory.dimensions, store.config().dimensions);
            if planned != found {
                return Err(PlanError::Dimensions { planned, found });
            }
            match embed.as_ref().map(EmbedQueue::dimensions) {
                Some(found) if found != planned => Err(PlanError::Embedder { planned, found }),
                _ => Ok(()),
            }
        }
        (planned, opened) => Err(PlanError::Memory {
            planned: planned.as_ref().map(|memory| memory.name.clone()),
            opened: opened.is_some(),
        }),
    }
}
