//! The life of a request, in order. Read [`Gateway::answer`] and [`Gateway::steps`]: one line a step.
//!
//! ```text
//! normalise -> embed -> search -> attend -> choose -> kept? -> context, prompt, dispatch -> judge -> (ask bigger) -> record, write back
//! ```
//!
//! Owns the order of the steps and what happens when one fails; each step is a file of its name. Streams and whole
//! answers take the same way and differ in [`Hold`] only. The lab forces arms through [`Gateway::attempt`], which is the
//! same dispatch. `docs/request.md` walks this file.

pub use crate::attempt::Attempt;
pub use crate::error::AnswerError;
pub use crate::prepare::Prepared;
pub use crate::record::Source;
pub use crate::stream::AnswerStream;

use crate::answer_cache::{Found, KeptAnswer, Work};
use crate::ask::Ask;
use crate::candidate::decide;
use crate::choose::{Chosen, choose};
use crate::decisions::Draft;
use crate::dispatch::{Hold, Order, Try, body, dispatch, sample};
use crate::gateway::Gateway;
use crate::prepare::tool_tokens;
use crate::prompt::{Target, TooLong, fit};
use crate::record::{NoveltyRow, TokenCounts};
use crate::serving::Serving;
use crate::tally::{logprobs, message};
use crate::verdict::{judge, judgeable};
use crate::write_back::WriteBack;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Instant;
use weir_embed::TokenCounter;
use weir_engine::{ChatRequest, Usage};
use weir_memory::context::{Context, assemble};
use weir_router::RecallMode;

/// What a response says about how it was decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// Names the decision.
    pub id: String,
    /// The model that answers.
    pub model: String,
    /// What of the recall entered the prompt.
    pub recall: RecallMode,
    /// Whether the answer is a bigger model's second attempt.
    pub escalated: bool,
    /// Whether it was given before; `None` where answers to such a request are not kept.
    pub cached: Option<bool>,
    /// The context blocks of the prompt.
    pub sources: Vec<Source>,
    /// The log row so far, when the client asked for it.
    pub explain: Option<Value>,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// How it was decided.
    pub decision: Decided,
    /// OpenAI's `choices[0].message`.
    pub message: Map<String, Value>,
    /// OpenAI's `choices[0].logprobs`, when the client asked for them.
    pub logprobs: Option<Value>,
    /// Why it ended.
    pub finish_reason: String,
    /// Tokens of the attempt that is returned.
    pub usage: Usage,
}

/// Where an answer comes from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A model, asked for this request; to be kept where there is work.
    Asked(Box<Try>, Option<Work>),
    /// An earlier request, of which it was kept.
    Kept(Arc<KeptAnswer>),
}

impl Gateway {
    /// Answers a request with `model: "auto"`, whole, by what was served when it came. Dropping the future frees the
    /// engine.
    pub async fn answer(&self, serving: Arc<Serving>, ask: Ask) -> Result<Answer, AnswerError> {
        let (explain, with_logprobs) = (ask.weir.explain, ask.client.logprobs);
        let (mut draft, mut prepared, origin) = self.decide(serving, ask, Hold::Whole).await?;
        let (asked, work) = match origin {
            Origin::Asked(asked, work) => (asked, work),
            Origin::Kept(kept) => return Ok(again(&mut draft, &kept, explain)),
        };
        let usage = self.settle(&mut draft, &prepared.serving, &asked);
        let taken = &asked.taken;
        let reason = taken
            .tally
            .finish_reason
            .clone()
            .unwrap_or_else(|| "stop".to_owned());
        draft.finish(Some(reason.clone()), None);
        if let Some(work) = work {
            work.keep(draft.row(), &taken.tally.text, usage);
        }
        self.write_back(WriteBack::of(&mut prepared));
        Ok(Answer {
            decision: draft.decided(explain),
            message: message(&taken.events, &taken.tally.text),
            logprobs: with_logprobs.then(|| logprobs(&taken.events)),
            finish_reason: reason,
            usage,
        })
    }

    /// Answers as a stream. Returns when the verdict on the first tokens has been reached, or with the first token where
    /// none is possible: what it says of the decision is final. Dropping the future or the stream frees the engine.
    pub async fn answer_stream(
        &self,
        serving: Arc<Serving>,
        ask: Ask,
    ) -> Result<AnswerStream, AnswerError> {
        let explain = ask.weir.explain;
        let (mut draft, prepared, origin) = self.decide(serving, ask, Hold::Verdict).await?;
        Ok(match origin {
            Origin::Asked(asked, work) => {
                let asked = (*asked, work);
                AnswerStream::new(self.clone(), draft, prepared, asked, explain)
            }
            Origin::Kept(kept) => AnswerStream::again(&mut draft, &kept, explain),
        })
    }

    /// Decides what would answer, and generates nothing.
    pub async fn route(&self, serving: Arc<Serving>, ask: Ask) -> Result<Value, AnswerError> {
        let id = self.new_decision_id();
        let prepared = self.prepare_in_time(serving, &ask, &id).await?;
        let chosen = choose(self, &prepared, &prepared.deciding, rand::random())?;
        Ok(route_value(&prepared, &chosen))
    }

    /// The steps, and the row of the request whether they succeed or fail.
    async fn decide(
        &self,
        serving: Arc<Serving>,
        ask: Ask,
        hold: Hold,
    ) -> Result<(Draft, Prepared, Origin), AnswerError> {
        let mut draft = self.draft(&serving, &ask, self.new_decision_id());
        match self.steps(serving, ask, hold, &mut draft).await {
            Ok((prepared, origin)) => Ok((draft, prepared, origin)),
            Err(error) => {
                draft.finish(None, Some(error.kind()));
                Err(error)
            }
        }
    }

    /// The life of a request, one line a step.
    async fn steps(
        &self,
        serving: Arc<Serving>,
        ask: Ask,
        hold: Hold,
        draft: &mut Draft,
    ) -> Result<(Prepared, Origin), AnswerError> {
        let id = draft.row().decision_id.clone();
        let mut prepared = self.prepare_in_time(serving, &ask, &id).await?;
        draft.prepared(&prepared);
        let (decision, ms) = timed(|| decide(self, &mut prepared));
        let chosen = draft.chosen(&prepared, decision?, ms);
        let active = &prepared.serving.router;
        self.familiarity().saw(active, &prepared.features);
        self.familiarity().chose(&chosen.choice);
        if let Some(rank) = chosen.instead_of {
            self.engines().wanted(&prepared.serving.plan.pools[rank]);
        }
        let whole = hold == Hold::Whole;
        let work = match self.answers().find(&prepared, &chosen, whole).await {
            Some(Found::Answer { kept, near }) => {
                draft.kept(&kept, near);
                return Ok((prepared, Origin::Kept(kept)));
            }
            Some(Found::Nothing(work)) => {
                draft.missed();
                Some(work)
            }
            None => None,
        };
        let first = self.first_answer(&prepared, &chosen, hold, draft).await?;
        draft.tried(&prepared, &first);
        let (judged, ms) = timed(|| judge(self, &prepared, &first));
        let Some(judged) = judged? else {
            return Ok((prepared, Origin::Asked(Box::new(first), work)));
        };
        draft.judged(&judged, ms);
        let kept = match judged.verdict.ask {
            Some(rank) => self.ask_bigger(&prepared, first, rank, draft).await,
            None => first,
        };
        Ok((prepared, Origin::Asked(Box::new(kept), work)))
    }

    /// The chosen arm; when its pool is away, the next best permitted arm on another, under a guardrail by its rule.
    async fn first_answer(
        &self,
        prepared: &Prepared,
        chosen: &Chosen,
        hold: Hold,
        draft: &mut Draft,
    ) -> Result<Try, AnswerError> {
        let arms = &prepared.deciding.router.arms().arms;
        let deadline = prepared.deadline();
        let mut arm = chosen.arm;
        let mut failed = Vec::new();
        loop {
            let order = Order {
                arm,
                class: chosen.choice.sampling,
                seed: None,
                hold: hold_for(self, prepared, arm, hold),
                deadline,
            };
            let error = match self.try_arm(prepared, order).await {
                Ok(tried) => return Ok(tried),
                Err(AnswerError::Engine(error)) if error.retryable() => error,
                Err(error) => return Err(error),
            };
            failed.push(arms[arm].rank);
            draft.failed_over(&prepared.serving.plan.pools[arms[arm].rank], error.kind());
            match chosen
                .next_best(arms, &failed)
                .filter(|_| Instant::now() < deadline)
            {
                Some(next) => arm = next,
                None => return Err(error.into()),
            }
        }
    }

    /// The second attempt: same recall, same context, a bigger model. When it fails the first answer stands.
    async fn ask_bigger(
        &self,
        prepared: &Prepared,
        first: Try,
        rank: usize,
        draft: &mut Draft,
    ) -> Try {
        let pools = &prepared.serving.plan.pools;
        let table = prepared.deciding.router.arms();
        let Some(arm) = table.with_rank(first.arm, rank) else {
            return first;
        };
        let hold = if first.whole() {
            Hold::Whole
        } else {
            Hold::First
        };
        let deadline = prepared.deadline();
        let order = Order {
            arm,
            class: first.class,
            seed: None,
            hold,
            deadline,
        };
        match self.try_arm(prepared, order).await {
            Ok(second) => {
                draft.asked_again(&pools[rank], None);
                draft.tried(prepared, &second);
                let usage = first.taken.tally.used(first.prompt_tokens);
                let started = first.taken.started;
                let until = second.taken.started.duration_since(started);
                draft.spent(&pools[first.rank], usage, (started, until));
                second
            }
            Err(error) => {
                draft.asked_again(&pools[rank], Some(error.kind()));
                first
            }
        }
    }

    /// Context, prompt and dispatch for one arm.
    pub(crate) async fn try_arm(
        &self,
        prepared: &Prepared,
        order: Order,
    ) -> Result<Try, AnswerError> {
        let started = Instant::now();
        let Order {
            arm,
            class,
            seed,
            hold,
            deadline,
        } = order;
        let serving = &prepared.serving;
        let chosen = prepared.deciding.router.arms().arms[arm];
        let pool = &serving.plan.pools[chosen.rank];
        let counter = serving.counter(pool);
        let counted = (pool, &counter);
        let blocks = || context(prepared, chosen.recall, chosen.context_tokens, &counter);
        let context = serving.settled(counted, deadline, blocks).await;
        let mut exact = counter.exact();
        let target = || Target {
            counter: &counter,
            context_tokens: pool.context_tokens,
            max_tokens: prepared.max_tokens(),
            extra_tokens: tool_tokens(&prepared.ask, &counter),
        };
        let Ask { messages, weir, .. } = &prepared.ask;
        let fitted = || fit(messages, &context, weir.citations, &target());
        let prompt = serving.settled(counted, deadline, fitted).await;
        exact &= counter.exact();
        let prompt = prompt.map_err(|TooLong { prompt_tokens }| AnswerError::PromptTooLong {
            model: pool.model.clone(),
            prompt_tokens,
            context_tokens: pool.context_tokens,
        })?;
        let client = &prepared.ask.client;
        let sampling = prepared.deciding.sampling(client, class, pool, seed);
        let body = body(&prepared.ask, pool, &prompt, &sampling);
        let prompt_ms = started.elapsed().as_secs_f64() * 1e3;
        let request = ChatRequest {
            body,
            prefix: Some(prepared.ask.prefix(&prompt.messages)),
            priority: weir.priority.into(),
            deadline,
        };
        let taken = dispatch(&serving.engines, pool, request, hold).await?;
        Ok(Try {
            arm,
            rank: chosen.rank,
            class,
            hold,
            sampling,
            context,
            prompt_tokens: prompt.tokens,
            turns_cut: prompt.turns_cut,
            token_counts: TokenCounts::of(exact),
            prompt_ms,
            taken,
        })
    }

    /// The kept attempt has ended: its tokens, cost and time are counted, and its speed is learned when it is whole.
    pub(crate) fn settle(&self, draft: &mut Draft, serving: &Serving, kept: &Try) -> Usage {
        let pool = &serving.plan.pools[kept.rank];
        let (started, total) = (kept.taken.started, kept.taken.started.elapsed());
        let total_s = total.as_secs_f64();
        let usage = kept.taken.tally.used(kept.prompt_tokens);
        if kept.taken.tally.finish_reason.is_some() {
            let (tally, first_s) = (&kept.taken.tally, kept.taken.first_s);
            self.speeds()
                .learn(pool, &sample(tally, kept.prompt_tokens, first_s, total_s));
        }
        draft.spent(pool, usage, (started, total));
        usage
    }
}

/// An answer that was kept, given again.
fn again(draft: &mut Draft, kept: &KeptAnswer, explain: bool) -> Answer {
    draft.finish(Some(kept.finish_reason.clone()), None);
    Answer {
        decision: draft.decided(explain),
        message: message(&[], &kept.text),
        logprobs: None,
        finish_reason: kept.finish_reason.clone(),
        usage: kept.usage,
    }
}

/// A stream whose answer cannot be judged is held for its first token only.
fn hold_for(gateway: &Gateway, prepared: &Prepared, arm: usize, wanted: Hold) -> Hold {
    if wanted == Hold::Verdict && !judgeable(gateway, prepared, arm) {
        return Hold::First;
    }
    wanted
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed().as_secs_f64() * 1e3)
}

/// The blocks of the recall that an arm asks for, within its tokens as its model counts them.
fn context(
    prepared: &Prepared,
    recall: RecallMode,
    budget_tokens: u32,
    counter: &TokenCounter,
) -> Context {
    let candidates = match recall {
        RecallMode::None => return Context::default(),
        RecallMode::Vector => &prepared.remembered.vector,
        RecallMode::Graph => &prepared.remembered.graph,
    };
    assemble(candidates, budget_tokens as usize, &|text| {
        counter.count_page(text)
    })
}

/// What `POST /v1/route` answers.
fn route_value(prepared: &Prepared, chosen: &Chosen) -> Value {
    let table = prepared.deciding.router.arms();
    let pools = &prepared.serving.plan.pools;
    let model = |rank: usize| pools.get(rank).map(|pool| pool.model.as_str());
    let arm = table.arms[chosen.arm];
    let arms: Vec<Value> = table
        .arms
        .iter()
        .enumerate()
        .map(|(index, arm)| {
            json!({
                "recall": arm.recall, "model": model(arm.rank), "context_tokens": arm.context_tokens,
                "masked": chosen.mask[index], "quality": chosen.choice.qualities[index],
                "latency_s": chosen.inputs.latency_s[index], "cost": chosen.inputs.cost[index],
                "utility": chosen.utility(index), "probability": chosen.choice.probabilities[index],
            })
        })
        .collect();
    let guardrail = chosen.guardrail.as_ref().map(|rule| &rule.name);
    let novelty = NoveltyRow::of(&prepared.deciding.router, &prepared.features);
    json!({
        "model": model(arm.rank), "recall": arm.recall, "context_tokens": arm.context_tokens,
        "sampling": table.sampling[chosen.choice.sampling].name, "explored": chosen.choice.explored,
        "guardrail": guardrail, "held_back": chosen.choice.held_back, "arms": arms, "novelty": novelty,
        "retrieval": prepared.remembered.row,
    })
}
