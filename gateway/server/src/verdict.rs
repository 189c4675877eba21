//! Step 8: accept the answer, or ask a bigger model again.
//!
//! Reads the answer's own confidence and how much of it stands in the context; the router judges. Only bigger pools
//! within the request's privacy whose context fits are ever permitted; where there is none the answer is accepted
//! without a verdict. A bigger pool at zero that would have been asked is wanted, so that it is up for requests to come;
//! this one has an answer already and waits for none.

use crate::choose::{pool_forecasts, pool_states};
use crate::dispatch::{Hold, Try};
use crate::error::AnswerError;
use crate::forecast::CONTEXT_OVERHEAD;
use crate::gateway::Gateway;
use crate::prepare::Prepared;
use crate::tally::Tally;
use std::collections::HashSet;
use std::time::Duration;
use weir_router::{AnswerFacts, Arm, ArmTable, Finish, StepFeatures, Verdict, VerdictInputs};

/// Shorter words are mostly grammar.
const CONTENT_WORD_CHARS: usize = 4;

/// The second decision.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) features: StepFeatures,
    pub(crate) inputs: VerdictInputs,
    pub(crate) verdict: Verdict,
}

/// Judges an attempt; `None` where nothing bigger may be asked.
pub(crate) fn judge(
    gateway: &Gateway,
    prepared: &Prepared,
    attempt: &Try,
) -> Result<Option<Judged>, AnswerError> {
    let unjudged = prepared.ask.client.tools || attempt.taken.tally.tool_calls;
    if unjudged || attempt.hold == Hold::First {
        return Ok(None);
    }
    let router = &prepared.deciding.router;
    let table = router.arms();
    let with_cold = inputs(gateway, prepared, attempt.arm);
    if !with_cold.permitted.contains(&true) {
        return Ok(None);
    }
    let features = features(&attempt.taken.tally, attempt, table);
    let mut state = prepared.deciding.state.clone();
    router.observe(&mut state, &features);
    let pools = &prepared.serving.plan.pools;
    let is_cold = |rank: usize| with_cold.permitted[rank] && pools[rank].endpoints.is_empty();
    if (0..pools.len()).any(is_cold)
        && let Some(rank) = router.judge(&state, &with_cold)?.ask
        && is_cold(rank)
    {
        gateway.engines().wanted(&pools[rank]);
    }
    let up = (0..pools.len()).map(|rank| with_cold.permitted[rank] && !is_cold(rank));
    let inputs = VerdictInputs {
        permitted: up.collect(),
        ..with_cold.clone()
    };
    if !inputs.permitted.contains(&true) {
        return Ok(None);
    }
    let verdict = router.judge(&state, &inputs)?;
    Ok(Some(Judged {
        features,
        inputs,
        verdict,
    }))
}

/// Whether the answer of an arm could lead to a second attempt, or to the wish for one, as far as is known before it is
/// asked.
pub(crate) fn judgeable(gateway: &Gateway, prepared: &Prepared, arm: usize) -> bool {
    let asked = || inputs(gateway, prepared, arm).permitted.contains(&true);
    !prepared.ask.client.tools && asked()
}

/// What the router reads of an answer, or of its prefix.
pub(crate) fn features(tally: &Tally, attempt: &Try, table: &ArmTable) -> StepFeatures {
    let arm = table.arms[attempt.arm];
    AnswerFacts {
        mean_logprob: tally.mean_logprob(),
        min_logprob: tally.min_logprob,
        tokens: tally.tokens,
        finish: finish(tally.finish_reason.as_deref()),
        overlap: overlap(&tally.text, &attempt.context.text),
        rank: attempt.rank,
        models: table.models,
        context_tokens: arm.context_tokens,
    }
    .features()
}

/// What a verdict on an arm's answer is taken from, bigger pools at zero permitted as if they were up.
fn inputs(gateway: &Gateway, prepared: &Prepared, arm: usize) -> VerdictInputs {
    let plan = &prepared.serving.plan;
    let table = prepared.deciding.router.arms();
    let Arm {
        rank: asked,
        context_tokens: context,
        ..
    } = table.arms[arm];
    let privacy = prepared.serving.privacy(&prepared.ask);
    let overhead = if context == 0 { 0 } else { CONTEXT_OVERHEAD };
    let budget = prepared.ask.weir.budget_ms.map(Duration::from_millis);
    let left = budget.map(|budget| budget.saturating_sub(prepared.ask.received.elapsed()));
    let expected: Vec<_> = pool_forecasts(gateway, prepared)
        .iter()
        .map(|pool| pool.expect(context, prepared.max_tokens()))
        .collect();
    let permitted = pool_states(prepared)
        .into_iter()
        .enumerate()
        .map(|(rank, state)| {
            let in_time = left.is_none_or(|left| expected[rank].latency_s <= left.as_secs_f64());
            let prompt = state.least_tokens.saturating_add(context + overhead);
            !prepared.ask.over_budget
                && rank > asked
                && state.privacy <= privacy
                && (state.available || state.cold)
                && in_time
                && state.fits(prompt, prepared.max_tokens())
                && table.with_rank(arm, rank).is_some()
        });
    VerdictInputs {
        rank: asked,
        permitted: permitted.collect(),
        latency_s: expected.iter().map(|rank| rank.latency_s).collect(),
        cost: expected.iter().map(|rank| rank.cost).collect(),
        per_second: plan.objective.per_second,
        per_cost_unit: plan.objective.per_cost_unit,
        floor: plan.exploration.floor,
        draw: rand::random(),
        arm,
    }
}

fn finish(reason: Option<&str>) -> Finish {
    match reason {
        None => Finish::Prefix,
        Some("stop") => Finish::Stop,
        Some("length") => Finish::Length,
        Some(_) => Finish::Other,
    }
}

/// Share of the answer's content words that occur in the context; 0 without either.
fn overlap(answer: &str, context: &str) -> f32 {
    let answer = content_words(answer);
    if answer.is_empty() || context.is_empty() {
        return 0.0;
    }
    let context = content_words(context);
    let found = answer.intersection(&context).count();
    #[expect(clippy::cast_precision_loss, reason = "an answer has few words")]
    let share = found as f32 / answer.len() as f32;
    share
}

/// Lower-case words of at least four characters, and numbers.
fn content_words(text: &str) -> HashSet<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| {
            let long = word.chars().nth(CONTENT_WORD_CHARS - 1).is_some();
            long || word.starts_with(|c: char| c.is_ascii_digit())
        })
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_counts_content_words_and_numbers_once() {
        assert_eq!(
            overlap("The shutil module, module 3", "use shutil in Python 3"),
            2.0 / 3.0
        );
        assert_eq!(overlap("no", "anything"), 0.0);
        assert_eq!(overlap("words here", ""), 0.0);
    }

    #[test]
    fn an_answer_without_a_finish_reason_is_a_prefix() {
        assert_eq!(finish(None), Finish::Prefix);
        assert_eq!(finish(Some("stop")), Finish::Stop);
        assert_eq!(finish(Some("length")), Finish::Length);
        assert_eq!(finish(Some("content_filter")), Finish::Other);
    }
}
