//! Step 9, as it goes: each step writes its part of the log row when it has happened.
//!
//! Only copies; nothing is decided here. The row itself is `record.rs`.

use crate::answer::Decided;
use crate::answer_cache::KeptAnswer;
use crate::ask::{Ask, ModelChoice};
use crate::candidate::{Deciding, Decision};
use crate::choose::Chosen;
use crate::decisions::Draft;
use crate::dispatch::Try;
use crate::gateway::Gateway;
use crate::message::Message;
use crate::normalise::asked;
use crate::prepare::Prepared;
use crate::record::{
    CacheRow, ChoiceRow, ChosenRow, ExecutedRow, FailedPool, LatencyRow, NoveltyRow, QueryRow,
    Record, RouterRow, Source, TokensRow, VerdictRow,
};
use crate::serving::{Serving, version_name};
use crate::verdict::Judged;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};
use weir_engine::Usage;
use weir_plan::{Pool, Privacy, QueryText, RouterPlan};
use weir_router::novelty::Profile;
use weir_router::{Choice, FeatureSchema, RecallMode, Router, StepFeatures};

/// What is known of a pinned answer when it has ended.
#[derive(Debug)]
pub(crate) struct Passed {
    /// Tokens used; `None` where nothing of an answer came.
    pub(crate) usage: Option<Usage>,
    /// Whether the engine did not say what was used, so that its events were counted.
    pub(crate) counted: bool,
    /// The engine's reason.
    pub(crate) finish_reason: Option<String>,
    /// Kind of the failure.
    pub(crate) error: Option<&'static str>,
    /// From arrival to the first token, milliseconds.
    pub(crate) ttft_ms: Option<f64>,
    /// Time spent waiting for a place at the pool, or for its first replica.
    pub(crate) held: Duration,
}

impl Gateway {
    /// The beginning of a request's row.
    pub(crate) fn draft(&self, serving: &Serving, ask: &Ask, decision_id: String) -> Draft {
        let received = jiff::Timestamp::now()
            .saturating_sub(
                jiff::SignedDuration::try_from(ask.received.elapsed()).unwrap_or_default(),
            )
            .unwrap_or_else(|_| jiff::Timestamp::now());
        let user = ask.client.user.as_deref();
        let row = Record {
            decision_id,
            request_id: ask.caller.request_id.clone(),
            timestamp: received.to_string(),
            gateway: serving.plan.gateway.clone(),
            tenant: ask.caller.tenant.clone(),
            key_id: ask.caller.key_id.clone(),
            user: user.map(|user| sha256(&format!("{}:{user}", ask.caller.tenant))),
            session: ask.weir.session.clone(),
            domain: ask.weir.domain.clone(),
            query: serving.query_row(&ask.messages),
            plan: serving.plan.revision,
            router: serving.router_row(&serving.router, serving.plan.router.as_ref()),
            ..Record::default()
        };
        let mut draft = Draft::new(row, ask.received, self.decisions().clone());
        draft.traceparent.clone_from(&ask.caller.traceparent);
        draft
    }

    /// The beginning of the row of a pinned request.
    pub(crate) fn pinned_draft(&self, serving: &Serving, ask: &Ask, pool: &Pool) -> Draft {
        let mut draft = self.draft(serving, ask, self.new_decision_id());
        draft.fill().executed = Some(ExecutedRow::pinned(pool, ask));
        draft
    }
}

impl Draft {
    /// Normalise, embed, search and attend have happened.
    pub(crate) fn prepared(&mut self, prepared: &Prepared) {
        let row = self.fill();
        row.features.clone_from(&prepared.features);
        row.retrieval.clone_from(&prepared.remembered.row);
        row.latency_ms = prepared.spent;
        // The memory tells how long its steps took; they follow one another from the moment in which it was asked.
        let LatencyRow {
            queue,
            embed,
            retrieval,
            attention,
            ..
        } = prepared.spent;
        let mut start_ms = 0.0;
        for (step, took_ms) in [
            ("queue", queue),
            ("embed", embed),
            ("retrieval", retrieval),
            ("attention", attention),
        ] {
            self.waterfall.add(step, start_ms, took_ms);
            start_ms += took_ms;
        }
    }

    /// The first decision has been taken; the request counts for the version that took it until the row is finished.
    pub(crate) fn chosen(
        &mut self,
        prepared: &Prepared,
        decision: Decision,
        router_ms: f64,
    ) -> Chosen {
        let Decision {
            chosen,
            rollout,
            dispatched,
        } = decision;
        self.dispatched = dispatched;
        self.waterfall.ended("router", router_ms);
        let row = self.fill();
        row.router = prepared.deciding.row(&prepared.serving);
        row.novelty = NoveltyRow::of(&prepared.deciding.router, &prepared.features);
        row.rollout = rollout;
        row.latency_ms.router += router_ms;
        row.propensity = Some(chosen.choice.propensity);
        row.explored = chosen.choice.explored;
        row.guardrail = chosen.guardrail.as_ref().map(|rule| rule.name.clone());
        row.choice = Some(ChoiceRow::of(&chosen, prepared, &prepared.deciding));
        chosen
    }

    /// An earlier request's answer is given, or that to a near duplicate. The request counts for no version of the router.
    pub(crate) fn kept(&mut self, answer: &KeptAnswer, near: bool) {
        if let Some(dispatched) = self.dispatched.take() {
            dispatched.withdraw();
        }
        let first_ms = self.elapsed_ms();
        let row = self.fill();
        row.latency_ms.ttft = first_ms;
        row.executed = Some(answer.executed.clone());
        row.sources.clone_from(&answer.sources);
        row.cache = Some(CacheRow::Hit {
            decision: answer.decision.clone(),
            near,
        });
    }

    /// There is none yet: the answer to this one may be kept.
    pub(crate) fn missed(&mut self) {
        self.fill().cache = Some(CacheRow::Miss);
    }

    /// A pool was asked in vain.
    pub(crate) fn failed_over(&mut self, pool: &Pool, error: &'static str) {
        self.fill().failover.push(FailedPool {
            pool: pool.name.clone(),
            error: error.to_owned(),
        });
    }

    /// An attempt gave something.
    pub(crate) fn tried(&mut self, prepared: &Prepared, attempt: &Try) {
        let serving = &prepared.serving;
        let pool = &serving.plan.pools[attempt.rank];
        let arm = prepared.deciding.router.arms().arms[attempt.arm];
        let since = attempt.taken.started.elapsed().as_secs_f64() - attempt.taken.first_s;
        let first_ms = self.elapsed_ms() - since.max(0.0) * 1e3;
        let asked_ms = self.waterfall.until(attempt.taken.started);
        let prompt_ms = attempt.prompt_ms;
        let held_ms = attempt.taken.held.as_secs_f64() * 1e3;
        let ready_ms = (asked_ms - held_ms).max(0.0);
        self.waterfall
            .add("prompt", (ready_ms - prompt_ms).max(0.0), prompt_ms);
        self.waterfall.add("queue", ready_ms, held_ms);
        let row = self.fill();
        if row.latency_ms.ttft == 0.0 {
            row.latency_ms.ttft = first_ms;
        }
        row.latency_ms.queue += held_ms;
        row.latency_ms.prompt += attempt.prompt_ms;
        row.sources = sources(attempt);
        row.executed = Some(ExecutedRow {
            arm: Some(attempt.arm),
            recall: arm.recall,
            model: pool.model.clone(),
            pool: pool.name.clone(),
            context_tokens: arm.context_tokens,
            sampling: Some(attempt.sampling.class.clone()),
            temperature: Some(attempt.sampling.temperature),
            top_p: Some(attempt.sampling.top_p),
            client_set: client_set(&prepared.ask),
            fallback_to_cloud: pool.privacy == Privacy::Cloud,
            turns_cut: attempt.turns_cut,
            token_counts: Some(attempt.token_counts),
        });
    }

    /// The second decision has been taken.
    pub(crate) fn judged(&mut self, judged: &Judged, router_ms: f64) {
        self.waterfall.ended("router", router_ms);
        let row = self.fill();
        row.latency_ms.router += router_ms;
        row.explored |= judged.verdict.explored;
        row.propensity = row
            .propensity
            .map(|choice| choice * judged.verdict.propensity);
        row.verdict = Some(VerdictRow {
            features: judged.features.clone(),
            inputs: judged.inputs.clone(),
            outcome: judged.verdict.clone(),
            asked: None,
            error: None,
        });
    }

    /// A bigger model was asked, and failed with `error` or answered.
    pub(crate) fn asked_again(&mut self, pool: &Pool, error: Option<&'static str>) {
        if let Some(verdict) = &mut self.fill().verdict {
            verdict.asked = Some(pool.model.clone());
            verdict.error = error.map(str::to_owned);
        }
    }

    /// Tokens, cost and time of an attempt, kept or not.
    pub(crate) fn spent(
        &mut self,
        pool: &Pool,
        usage: Usage,
        (started, took): (Instant, Duration),
    ) {
        let took_ms = took.as_secs_f64() * 1e3;
        let start_ms = self.waterfall.until(started);
        self.waterfall.asked(&pool.model, (start_ms, took_ms));
        let row = self.fill();
        row.tokens.prompt += usage.prompt_tokens;
        row.tokens.cached += usage.cached_tokens;
        row.tokens.completion += usage.completion_tokens;
        row.cost += cost_of(pool, usage);
        row.latency_ms.llm += took_ms;
    }

    /// A pinned answer has ended.
    pub(crate) fn passed(&mut self, pool: &Pool, passed: Passed) {
        let usage = passed.usage.unwrap_or_default();
        let total_ms = self.elapsed_ms();
        let queue_ms = passed.held.as_secs_f64() * 1e3;
        self.waterfall
            .asked(&pool.model, (queue_ms, total_ms - queue_ms));
        self.waterfall.add("queue", 0.0, queue_ms);
        let row = self.fill();
        row.cost = cost_of(pool, usage);
        row.tokens = TokensRow::from(usage);
        row.tokens.counted = passed.counted;
        row.latency_ms.ttft = passed.ttft_ms.unwrap_or(total_ms);
        row.latency_ms.queue = queue_ms;
        row.latency_ms.llm = total_ms - queue_ms;
        self.finish(passed.finish_reason, passed.error);
    }

    /// What the response says about the decision.
    pub(crate) fn decided(&self, explain: bool) -> Decided {
        let row = self.row();
        let executed = row.executed.as_ref();
        let again = row
            .verdict
            .as_ref()
            .and_then(|verdict| verdict.asked.as_ref());
        let failed = row
            .verdict
            .as_ref()
            .is_some_and(|verdict| verdict.error.is_some());
        Decided {
            id: row.decision_id.clone(),
            model: executed
                .map(|executed| executed.model.clone())
                .unwrap_or_default(),
            recall: executed.map_or(RecallMode::None, |executed| executed.recall),
            escalated: again.is_some() && !failed,
            cached: row.cache.as_ref().map(|_| row.is_cached()),
            sources: row.sources.clone(),
            explain: if explain { self.explained() } else { None },
        }
    }
}

impl Draft {
    /// The row so far, and its steps one after the other.
    fn explained(&self) -> Option<Value> {
        let mut row = serde_json::to_value(self.row()).ok()?;
        row["waterfall"] = serde_json::to_value(&self.waterfall).ok()?;
        Some(row)
    }
}

impl ChoiceRow {
    /// A choice of a version of the router for a request.
    pub(crate) fn of(chosen: &Chosen, prepared: &Prepared, deciding: &Deciding) -> Self {
        let Choice { arm, sampling, .. } = chosen.choice;
        let arm = deciding.router.arms().arms[arm];
        let pool = &prepared.serving.plan.pools[arm.rank];
        let sampling = deciding.sampling(&prepared.ask.client, sampling, pool, None);
        Self {
            chosen: Some(ChosenRow {
                recall: arm.recall,
                model: pool.model.clone(),
                pool: pool.name.clone(),
                context_tokens: arm.context_tokens,
                sampling: sampling.class,
                temperature: sampling.temperature,
                top_p: sampling.top_p,
                fallback_to_cloud: pool.privacy == Privacy::Cloud,
            }),
            tau: Some(deciding.router.artifact().manifest().tau),
            inputs: chosen.inputs.clone(),
            outcome: chosen.choice.clone(),
            mask: chosen.mask.clone(),
        }
    }
}

impl NoveltyRow {
    /// What a version of the router makes of a request before it chooses.
    pub(crate) fn of(router: &Router, features: &[StepFeatures]) -> Option<Self> {
        let reading = router.compare(features)?;
        let profile = router.artifact().manifest().profile.as_ref();
        let kinds = profile.map_or(&[][..], Profile::kinds);
        let kind = reading.kind.and_then(|kind| kinds.get(kind));
        Some(Self {
            distance: reading.distance,
            unusual: reading.unusual,
            kind: kind.map(|kind| kind.name.clone()),
        })
    }
}

impl ExecutedRow {
    fn pinned(pool: &Pool, ask: &Ask) -> Self {
        Self {
            arm: None,
            recall: RecallMode::None,
            model: pool.model.clone(),
            pool: pool.name.clone(),
            context_tokens: 0,
            sampling: None,
            temperature: ask.client.temperature,
            top_p: ask.client.top_p,
            client_set: client_set(ask),
            fallback_to_cloud: pool.privacy == Privacy::Cloud,
            turns_cut: 0,
            token_counts: None,
        }
    }
}

impl From<Usage> for TokensRow {
    fn from(usage: Usage) -> Self {
        Self {
            prompt: usage.prompt_tokens,
            cached: usage.cached_tokens,
            completion: usage.completion_tokens,
            counted: false,
        }
    }
}

impl Serving {
    /// The question as the plan allows it in a row.
    pub(crate) fn query_row(&self, messages: &[Message]) -> QueryRow {
        match self.plan.logs.query_text {
            QueryText::Full => QueryRow {
                text: Some(asked(messages).into_owned()),
                sha256: None,
            },
            QueryText::Hashed => QueryRow {
                text: None,
                sha256: Some(sha256(&asked(messages))),
            },
            QueryText::None => QueryRow::default(),
        }
    }

    /// A version of the router, as a row names it.
    pub(crate) fn router_row(&self, router: &Router, plan: Option<&RouterPlan>) -> RouterRow {
        RouterRow {
            version: version_name(plan).to_owned(),
            artifact_sha256: router.artifact().sha256().to_owned(),
            schema_hash: FeatureSchema::current().hash().to_owned(),
            models: self.plan.pools.len(),
            cold_start: router.cold_start(),
        }
    }
}

/// The context blocks of an attempt.
pub(crate) fn sources(attempt: &Try) -> Vec<Source> {
    let blocks = attempt.context.blocks.iter();
    blocks
        .map(|block| Source {
            number: block.number,
            id: block.id.to_string(),
            title: block.title.clone(),
            uri: block.uri.clone(),
            score: block.score,
            summarises: block.summarises.iter().map(ToString::to_string).collect(),
        })
        .collect()
}

/// What the client decided itself.
fn client_set(ask: &Ask) -> Vec<String> {
    let pinned = matches!(ask.model, ModelChoice::Pinned(_));
    [
        (pinned, "model"),
        (ask.client.temperature.is_some(), "temperature"),
        (ask.client.top_p.is_some(), "top_p"),
        (ask.client.max_tokens.is_some(), "max_tokens"),
        (ask.has_system(), "system"),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .map(|(_, name)| name.to_owned())
    .collect()
}

/// Price of an answer, in cost units.
pub(crate) fn cost_of(pool: &Pool, usage: Usage) -> f64 {
    let completion_tokens = usage.completion_tokens.into();
    pool.cost.of(usage.prompt_tokens.into(), completion_tokens)
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}
