//! Step 4: which recall, model, context and sampling answer. Masks and forecast, the router, then guardrails.
//!
//! The router's choice is a pure function of [`ChoiceInputs`] and the features; both are recorded. Guardrails override
//! after it and are recorded apart: they are not the router's decisions. Next step: `prompt.rs`.

use crate::candidate::Deciding;
use crate::error::AnswerError;
use crate::forecast::{Expected, PoolForecast, forecast};
use crate::gateway::Gateway;
use crate::masks::{Masked, Needs, PoolState, masks};
use crate::prepare::Prepared;
use std::time::Duration;
use weir_plan::{Guardrail, GuardrailAction, WhenCold};
use weir_router::{Arm, Choice, ChoiceInputs};

/// When to ask again where no pool can answer.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// The most that one request may lose by being answered now instead of waiting for a pool that starts, in points of
/// utility: one grade of five. The design bounds the mean loss of a router's choices at 0.1; a single request's may be
/// larger, since a pool at zero is up again within a minute or two, and one that loses more than a grade waits.
const SPILL_LOSS_MAX: f64 = 1.0;

/// The first decision.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) inputs: ChoiceInputs,
    pub(crate) choice: Choice,
    pub(crate) mask: Vec<Option<Masked>>,
    /// The arm to execute: the router's, or a guardrail's.
    pub(crate) arm: usize,
    /// The guardrail that set it.
    pub(crate) guardrail: Option<Guardrail>,
    /// Rank of the pool at zero that would have been chosen: this choice answers while that pool is brought up.
    pub(crate) instead_of: Option<usize>,
}

/// What a choice depends on besides the request and the plan, taken once.
struct Now {
    states: Vec<PoolState>,
    expected: Vec<Expected>,
    draw: f64,
}

impl Chosen {
    /// `quality - per_second latency - per_cost_unit cost` of an arm.
    pub(crate) fn utility(&self, arm: usize) -> f64 {
        let inputs = &self.inputs;
        self.choice.qualities[arm]
            - inputs.per_second * inputs.latency_s[arm]
            - inputs.per_cost_unit * inputs.cost[arm]
    }

    /// What a request loses when `other` answers it, by the estimates of this choice: utility, or quality where a guardrail
    /// decides, which looks at neither seconds nor costs. Exploration counts on neither side.
    fn loss(&self, other: &Self) -> f64 {
        match self.guardrail {
            Some(_) => self.choice.qualities[self.arm] - self.choice.qualities[other.arm],
            None => self.utility(self.choice.greedy) - self.utility(other.choice.greedy),
        }
    }

    /// Whether `other` may answer instead: what it loses is bounded, and the certificate does not hold it back.
    fn spills_to(&self, other: &Self) -> bool {
        self.loss(other) <= SPILL_LOSS_MAX && !self.choice.held.contains(&other.arm)
    }

    /// The best permitted arm whose rank is not in `failed`; under a guardrail the best by its rule. An arm that the
    /// certificate holds back comes last: it is better than no answer.
    pub(crate) fn next_best(&self, arms: &[Arm], failed: &[usize]) -> Option<usize> {
        let left = |arm: usize| self.inputs.permitted[arm] && !failed.contains(&arms[arm].rank);
        let worth = |arm: usize| (!self.choice.held.contains(&arm), self.utility(arm));
        let better = |&a: &usize, &b: &usize| {
            let (a, b) = (worth(a), worth(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        };
        match self.guardrail.as_ref().map(|rule| rule.then) {
            Some(GuardrailAction::UseBiggest) => biggest(arms, left, &self.choice.qualities),
            Some(GuardrailAction::UseSmallest) => smallest(arms, left, &self.choice.qualities),
            None => (0..arms.len()).filter(|&arm| left(arm)).max_by(better),
        }
    }
}

/// What a version of the router would answer with, at this draw.
///
/// A pool at zero is chosen as if it were up, since that is how it is known to be wanted. Where the plan says `spill`
/// another permitted pool that is up answers then, unless it is worse by more than [`SPILL_LOSS_MAX`]; otherwise the request
/// waits for the first replica in `dispatch.rs`.
pub(crate) fn choose(
    gateway: &Gateway,
    prepared: &Prepared,
    deciding: &Deciding,
    draw: f64,
) -> Result<Chosen, AnswerError> {
    let arms = &deciding.router.arms().arms;
    let forecasts = pool_forecasts(gateway, prepared);
    let now = Now {
        states: pool_states(prepared),
        expected: forecast(arms, &forecasts, prepared.max_tokens()),
        draw,
    };
    let chosen = choose_among(prepared, deciding, &now, true)?;
    let rank = arms[chosen.arm].rank;
    let spills = prepared.serving.plan.pools[rank].when_cold == Some(WhenCold::Spill);
    if now.states[rank].cold && spills {
        // Where no pool that is up may answer, or only a much worse one, the request waits all the same.
        if let Ok(other) = choose_among(prepared, deciding, &now, false)
            && chosen.spills_to(&other)
        {
            return Ok(Chosen {
                instead_of: Some(rank),
                ..other
            });
        }
    }
    Ok(chosen)
}

/// The choice among all pools, or among those that are up only.
fn choose_among(
    prepared: &Prepared,
    deciding: &Deciding,
    now: &Now,
    cold: bool,
) -> Result<Chosen, AnswerError> {
    let plan = &prepared.serving.plan;
    let router = &deciding.router;
    let arms = &router.arms().arms;
    let latency_s: Vec<f64> = now.expected.iter().map(|arm| arm.latency_s).collect();
    let mask = masks(arms, &now.states, &needs(prepared, cold), &latency_s);
    let inputs = ChoiceInputs {
        permitted: mask.iter().map(Option::is_none).collect(),
        latency_s,
        cost: now.expected.iter().map(|arm| arm.cost).collect(),
        per_second: plan.objective.per_second,
        per_cost_unit: plan.objective.per_cost_unit,
        floor: plan.exploration.floor,
        near_tie_margin: plan.exploration.near_tie_margin,
        draw: now.draw,
    };
    if !inputs.permitted.contains(&true) {
        return Err(nothing_permitted(prepared, &mask, &now.states));
    }
    let choice = router.choose(&deciding.state, &inputs)?;
    let guardrail = if prepared.ask.over_budget {
        Some(over_budget())
    } else {
        guardrail(&plan.guardrails, prepared.ask.weir.domain.as_deref()).cloned()
    };
    let permitted = |arm: usize| inputs.permitted[arm];
    let arm = match guardrail.as_ref().map(|rule| rule.then) {
        Some(GuardrailAction::UseBiggest) => biggest(arms, permitted, &choice.qualities),
        Some(GuardrailAction::UseSmallest) => smallest(arms, permitted, &choice.qualities),
        None => Some(choice.arm),
    };
    let arm = arm.expect("an arm is permitted, or nothing would have been chosen");
    Ok(Chosen {
        inputs,
        choice,
        mask,
        arm,
        guardrail,
        instead_of: None,
    })
}

/// The pools as the forecast sees them now.
pub(crate) fn pool_forecasts(gateway: &Gateway, prepared: &Prepared) -> Vec<PoolForecast> {
    let pools = prepared.serving.plan.pools.iter().zip(&prepared.sizes);
    pools
        .map(|(pool, size)| {
            let load = gateway.engines().load(&pool.name);
            PoolForecast::new(pool, gateway.speeds().of(pool), load, size.whole)
        })
        .collect()
}

/// The pools as the masks see them now.
pub(crate) fn pool_states(prepared: &Prepared) -> Vec<PoolState> {
    let serving = &prepared.serving;
    let pools = serving.plan.pools.iter().zip(&prepared.sizes);
    pools
        .map(|(pool, size)| PoolState {
            privacy: pool.privacy,
            available: serving.engines.available(pool),
            cold: pool.endpoints.is_empty() && pool.when_cold.is_some(),
            context_tokens: pool.context_tokens,
            whole_tokens: size.whole,
            least_tokens: size.least,
        })
        .collect()
}

fn needs(prepared: &Prepared, cold: bool) -> Needs {
    let budget = prepared.ask.weir.budget_ms.map(Duration::from_millis);
    let left = budget.map(|budget| budget.saturating_sub(prepared.ask.received.elapsed()));
    Needs {
        cold,
        privacy: prepared.serving.privacy(&prepared.ask),
        vector: !prepared.remembered.vector.is_empty(),
        graph: !prepared.remembered.graph.is_empty(),
        max_tokens: prepared.max_tokens(),
        budget_s: left.map(|left| left.as_secs_f64()),
    }
}

/// The rule for a tenant that has used up a budget, which no guardrail of the plan concerns: of these the request would have
/// been refused.
fn over_budget() -> Guardrail {
    Guardrail {
        name: "over-budget".to_owned(),
        domains: Vec::new(),
        then: GuardrailAction::UseSmallest,
    }
}

/// The first rule that matches.
pub(crate) fn guardrail<'a>(rules: &'a [Guardrail], domain: Option<&str>) -> Option<&'a Guardrail> {
    let domain = domain?;
    rules
        .iter()
        .find(|rule| rule.domains.iter().any(|one| one == domain))
}

/// The permitted arm of the biggest model; among those the one of highest expected quality.
fn biggest(arms: &[Arm], permitted: impl Fn(usize) -> bool, qualities: &[f64]) -> Option<usize> {
    (0..arms.len())
        .filter(|&arm| permitted(arm))
        .max_by(|&a, &b| {
            arms[a]
                .rank
                .cmp(&arms[b].rank)
                .then(qualities[a].total_cmp(&qualities[b]))
        })
}

/// The permitted arm of the smallest model; among those the one of highest expected quality.
fn smallest(arms: &[Arm], permitted: impl Fn(usize) -> bool, qualities: &[f64]) -> Option<usize> {
    (0..arms.len())
        .filter(|&arm| permitted(arm))
        .max_by(|&a, &b| {
            arms[b]
                .rank
                .cmp(&arms[a].rank)
                .then(qualities[a].total_cmp(&qualities[b]))
        })
}

/// What to tell a client when every arm is masked: the reason nearest to an answer.
fn nothing_permitted(
    prepared: &Prepared,
    mask: &[Option<Masked>],
    states: &[PoolState],
) -> AnswerError {
    let privacy = prepared.serving.privacy(&prepared.ask);
    // A pool that is only away comes back, and would hold the prompt then.
    let held_later = states.iter().any(|state| {
        let fits = state.fits(state.least_tokens, prepared.max_tokens());
        fits && !state.available && state.privacy <= privacy
    });
    if mask.contains(&Some(Masked::Context)) && !held_later {
        let within = |state: &PoolState| state.available && state.privacy <= privacy;
        let largest = (states.iter().enumerate())
            .filter(|(_, state)| within(state))
            .max_by_key(|(_, state)| state.context_tokens);
        if let Some((rank, state)) = largest {
            return AnswerError::PromptTooLong {
                model: prepared.serving.plan.pools[rank].model.clone(),
                prompt_tokens: state.least_tokens,
                context_tokens: state.context_tokens,
            };
        }
    }
    if !mask.is_empty() && mask.iter().all(|masked| *masked == Some(Masked::Privacy)) {
        return AnswerError::Privacy { privacy };
    }
    AnswerError::Unavailable {
        retry_after: RETRY_AFTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_router::ArmTable;

    #[test]
    fn the_biggest_permitted_model_answers_with_its_best_arm() {
        let arms = ArmTable::standard(2).arms;
        let mut permitted = vec![true; arms.len()];
        let mut qualities = vec![1.0; arms.len()];
        qualities[7] = 4.0;
        let of =
            |permitted: &[bool], qualities: &[f64]| biggest(&arms, |arm| permitted[arm], qualities);
        assert_eq!(of(&permitted, &qualities), Some(7));
        permitted[5..].fill(false);
        qualities[2] = 3.0;
        assert_eq!(of(&permitted, &qualities), Some(2));
        permitted.fill(false);
        assert_eq!(of(&permitted, &qualities), None);
    }

    #[test]
    fn the_smallest_permitted_model_answers_with_its_best_arm() {
        let arms = ArmTable::standard(2).arms;
        let mut permitted = vec![true; arms.len()];
        let mut qualities = vec![1.0; arms.len()];
        (qualities[3], qualities[7]) = (2.0, 5.0);
        let of = |permitted: &[bool], qualities: &[f64]| {
            smallest(&arms, |arm| permitted[arm], qualities)
        };
        assert_eq!(of(&permitted, &qualities), Some(3));
        permitted[..5].fill(false);
        assert_eq!(of(&permitted, &qualities), Some(7));
    }

    #[test]
    fn the_first_rule_of_the_domain_matches_and_no_domain_matches_none() {
        let rule = |name: &str| Guardrail {
            name: name.to_owned(),
            domains: vec!["medical".to_owned()],
            then: GuardrailAction::UseBiggest,
        };
        let rules = [rule("first"), rule("second")];
        assert_eq!(
            guardrail(&rules, Some("medical")).map(|r| r.name.as_str()),
            Some("first")
        );
        assert!(guardrail(&rules, Some("law")).is_none());
        assert!(guardrail(&rules, None).is_none());
    }
}
