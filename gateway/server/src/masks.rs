//! What the router may choose from: privacy, availability, context fit, recall and budget, per arm.
//!
//! Pure. Masks act before the choice and are never the router's own decision; each one is named in the log row.

use serde::{Deserialize, Serialize};
use weir_plan::Privacy;
use weir_router::{Arm, RecallMode};

use crate::forecast::CONTEXT_OVERHEAD;

/// Tokens kept free for the answer when a prompt is fitted into a model's context.
pub const COMPLETION_RESERVE: u32 = 64;

/// Why an arm may not be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Masked {
    /// The pool is beyond what the request or the gateway permits.
    Privacy,
    /// The pool has no replica that can answer.
    Unavailable,
    /// The pool is at zero and another answers while this one is brought up.
    Cold,
    /// Nothing of this kind was recalled.
    Recall,
    /// The prompt does not fit the model's context.
    Context,
    /// The answer would take longer than the request's budget.
    Budget,
}

/// A pool as the masks see it; the index is its rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// How far its requests travel.
    pub privacy: Privacy,
    /// Whether a replica can answer.
    pub available: bool,
    /// Whether it is at zero and demand brings it up.
    pub cold: bool,
    /// Tokens of its context, answer included.
    pub context_tokens: u32,
    /// Tokens of the whole conversation with its tokenizer.
    pub whole_tokens: u32,
    /// Tokens of what is never cut: system prompt and last turn.
    pub least_tokens: u32,
}

/// What the request demands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Needs {
    /// Whether a pool at zero may be chosen.
    pub cold: bool,
    /// How far it may travel: the lesser of the request's and the gateway's.
    pub privacy: Privacy,
    /// Whether the search found something.
    pub vector: bool,
    /// Whether attention found something.
    pub graph: bool,
    /// The client's own limit on the answer.
    pub max_tokens: Option<u32>,
    /// Seconds left, when the client gave a budget.
    pub budget_s: Option<f64>,
}

impl PoolState {
    /// Whether `prompt` tokens and a short answer fit.
    pub fn fits(&self, prompt: u32, max_tokens: Option<u32>) -> bool {
        let reserve = COMPLETION_RESERVE.min(max_tokens.unwrap_or(COMPLETION_RESERVE));
        u64::from(prompt) + u64::from(reserve) <= u64::from(self.context_tokens)
    }
}

/// The mask of every arm; `None` permits.
///
/// History may be cut to fit, but only where no permitted pool holds the whole conversation. A budget that no arm is
/// expected to keep leaves the fastest arm, since a forecast may be wrong; the request's deadline ends it in any case.
pub fn masks(
    arms: &[Arm],
    pools: &[PoolState],
    needs: &Needs,
    latency_s: &[f64],
) -> Vec<Option<Masked>> {
    let fitted = |cut: bool| -> Vec<Option<Masked>> {
        arms.iter()
            .map(|arm| mask(arm, pools.get(arm.rank), needs, cut))
            .collect()
    };
    let mut masked = fitted(false);
    if masked.iter().all(Option::is_some) && masked.contains(&Some(Masked::Context)) {
        masked = fitted(true);
    }
    if let Some(budget_s) = needs.budget_s {
        keep_budget(&mut masked, latency_s, budget_s);
    }
    masked
}

fn mask(arm: &Arm, pool: Option<&PoolState>, needs: &Needs, cut: bool) -> Option<Masked> {
    let Some(pool) = pool else {
        return Some(Masked::Unavailable);
    };
    if pool.privacy > needs.privacy {
        return Some(Masked::Privacy);
    }
    if pool.cold && !needs.cold {
        return Some(Masked::Cold);
    }
    if !pool.available && !pool.cold {
        return Some(Masked::Unavailable);
    }
    let context = match arm.recall {
        RecallMode::None => 0,
        RecallMode::Vector if needs.vector => arm.context_tokens + CONTEXT_OVERHEAD,
        RecallMode::Graph if needs.graph => arm.context_tokens + CONTEXT_OVERHEAD,
        RecallMode::Vector | RecallMode::Graph => return Some(Masked::Recall),
    };
    let prompt = if cut {
        pool.least_tokens
    } else {
        pool.whole_tokens
    };
    let fits = pool.fits(prompt.saturating_add(context), needs.max_tokens);
    (!fits).then_some(Masked::Context)
}

fn keep_budget(masked: &mut [Option<Masked>], latency_s: &[f64], budget_s: f64) {
    let permitted = || {
        masked
            .iter()
            .zip(latency_s)
            .enumerate()
            .filter(|(_, (m, _))| m.is_none())
    };
    let Some((fastest, _)) = permitted().min_by(|(_, (_, a)), (_, (_, b))| a.total_cmp(b)) else {
        return;
    };
    for (arm, (mask, latency)) in masked.iter_mut().zip(latency_s).enumerate() {
        if mask.is_none() && *latency > budget_s && arm != fastest {
            *mask = Some(Masked::Budget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARMS: [Arm; 4] = [
        Arm {
            recall: RecallMode::None,
            rank: 0,
            context_tokens: 0,
        },
        Arm {
            recall: RecallMode::Vector,
            rank: 0,
            context_tokens: 200,
        },
        Arm {
            recall: RecallMode::None,
            rank: 1,
            context_tokens: 0,
        },
        Arm {
            recall: RecallMode::Graph,
            rank: 1,
            context_tokens: 400,
        },
    ];
    const SMALL: PoolState = PoolState {
        privacy: Privacy::Local,
        available: true,
        cold: false,
        context_tokens: 512,
        whole_tokens: 100,
        least_tokens: 50,
    };
    const BIG: PoolState = PoolState {
        privacy: Privacy::Cloud,
        context_tokens: 4096,
        ..SMALL
    };
    const NEEDS: Needs = Needs {
        cold: true,
        privacy: Privacy::Cloud,
        vector: true,
        graph: true,
        max_tokens: None,
        budget_s: None,
    };
    const SECONDS: [f64; 4] = [1.0, 2.0, 3.0, 4.0];

    #[test]
    fn everything_is_permitted_when_everything_fits() {
        assert_eq!(masks(&ARMS, &[SMALL, BIG], &NEEDS, &SECONDS), [None; 4]);
    }

    #[test]
    fn a_local_request_never_reaches_a_cloud_pool() {
        let needs = Needs {
            privacy: Privacy::Local,
            ..NEEDS
        };
        let masked = masks(&ARMS, &[SMALL, BIG], &needs, &SECONDS);
        assert_eq!(
            masked,
            [None, None, Some(Masked::Privacy), Some(Masked::Privacy)]
        );
    }

    #[test]
    fn pools_without_replicas_and_ranks_without_pools_are_unavailable() {
        let away = PoolState {
            available: false,
            ..SMALL
        };
        assert_eq!(
            masks(&ARMS, &[away], &NEEDS, &SECONDS),
            [Some(Masked::Unavailable); 4]
        );
    }

    #[test]
    fn a_pool_at_zero_is_chosen_or_masked_as_the_request_says() {
        let cold = PoolState {
            available: false,
            cold: true,
            ..BIG
        };
        assert_eq!(masks(&ARMS, &[SMALL, cold], &NEEDS, &SECONDS), [None; 4]);
        let warm_only = Needs {
            cold: false,
            ..NEEDS
        };
        let masked = masks(&ARMS, &[SMALL, cold], &warm_only, &SECONDS);
        assert_eq!(masked, [None, None, Some(Masked::Cold), Some(Masked::Cold)]);
    }

    #[test]
    fn nothing_recalled_leaves_the_arms_without_recall() {
        let needs = Needs {
            vector: false,
            graph: false,
            ..NEEDS
        };
        let masked = masks(&ARMS, &[SMALL, BIG], &needs, &SECONDS);
        assert_eq!(
            masked,
            [None, Some(Masked::Recall), None, Some(Masked::Recall)]
        );
    }

    #[test]
    fn a_long_conversation_goes_to_the_pool_that_holds_it_whole() {
        let long = |pool| PoolState {
            whole_tokens: 480,
            ..pool
        };
        let masked = masks(&ARMS, &[long(SMALL), long(BIG)], &NEEDS, &SECONDS);
        assert_eq!(
            masked,
            [Some(Masked::Context), Some(Masked::Context), None, None]
        );
        let masked = masks(&ARMS[..2], &[long(SMALL)], &NEEDS, &SECONDS[..2]);
        assert_eq!(
            masked,
            [None, None],
            "with no bigger pool its history is cut"
        );
    }

    #[test]
    fn the_budget_masks_slow_arms_but_always_leaves_the_fastest() {
        let needs = Needs {
            budget_s: Some(2.5),
            ..NEEDS
        };
        let masked = masks(&ARMS, &[SMALL, BIG], &needs, &SECONDS);
        assert_eq!(
            masked,
            [None, None, Some(Masked::Budget), Some(Masked::Budget)]
        );
        let needs = Needs {
            budget_s: Some(0.1),
            ..NEEDS
        };
        let masked = masks(&ARMS, &[SMALL, BIG], &needs, &SECONDS);
        assert_eq!(masked.iter().filter(|mask| mask.is_none()).count(), 1);
        assert_eq!(masked[0], None);
    }
}
