//! Steps 1 to 3 in order: everything that is known before the choice.
//!
//! Independent steps run at the same time; one that fails is skipped and its features are missing. Decides nothing: the
//! choice is `choose.rs`, the order of the whole request is `answer.rs`.

use crate::ask::Ask;
use crate::candidate::{Deciding, Trial, assign};
use crate::error::AnswerError;
use crate::gateway::Gateway;
use crate::normalise::Question;
use crate::prompt::{Size, size};
use crate::recall::{Remembered, check_filter, remember};
use crate::record::LatencyRow;
use crate::serving::Serving;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Instant;
use weir_embed::TokenCounter;
use weir_plan::Privacy;
use weir_router::{QueryFacts, StepFeatures};

/// A request up to the choice: what is known, and what the memory gave.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Features of the steps that happened: query, search, recall.
    pub features: Vec<StepFeatures>,
    /// What the client asked.
    pub ask: Ask,
    /// The question in one spelling.
    pub question: Question,
    pub(crate) serving: Arc<Serving>,
    /// The version that decides, after those steps.
    pub(crate) deciding: Deciding,
    /// The request's place in a rollout, while one runs.
    pub(crate) trial: Option<Trial>,
    /// Tokens of the conversation, by rank.
    pub(crate) sizes: Vec<Size>,
    pub(crate) remembered: Remembered,
    pub(crate) spent: LatencyRow,
}

impl Gateway {
    /// Everything before the choice: normalise, embed, search, attend.
    pub async fn prepare(&self, ask: &Ask) -> Result<Prepared, AnswerError> {
        self.prepare_on(self.serving(), ask, &self.new_decision_id())
            .await
    }

    /// The same, given up when the request's time is over.
    pub(crate) async fn prepare_in_time(
        &self,
        serving: Arc<Serving>,
        ask: &Ask,
        decision_id: &str,
    ) -> Result<Prepared, AnswerError> {
        let until = serving.deadline(&ask.weir, ask.received);
        let prepared = self.prepare_on(serving, ask, decision_id);
        let in_time = tokio::time::timeout_at(until.into(), prepared).await;
        in_time.unwrap_or_else(|_| {
            let waited = ask.received.elapsed();
            Err(AnswerError::Late { waited })
        })
    }

    async fn prepare_on(
        &self,
        serving: Arc<Serving>,
        ask: &Ask,
        decision_id: &str,
    ) -> Result<Prepared, AnswerError> {
        check_filter(&serving, ask)?;
        let queue = ask.received.elapsed().as_secs_f64() * 1e3;
        let mut spent = LatencyRow {
            queue,
            ..LatencyRow::default()
        };
        let question = Question::of(&ask.messages);
        let sizes = sizes(&serving, ask);
        let text = &question.retrieval;
        let (sizes, remembered) = tokio::join!(sizes, remember(&serving, ask, text, &mut spent));
        let embedding = remembered.embedding.as_deref();
        let query = query_features(&serving, ask, &question, embedding);
        let mut features = vec![query];
        features.extend(remembered.features.iter().cloned());
        let (deciding, trial) = assign(self, &serving, ask, decision_id, &features);
        let (ask, sizes) = (ask.clone(), sizes?);
        Ok(Prepared {
            features,
            ask,
            question,
            serving,
            deciding,
            trial,
            sizes,
            remembered,
            spent,
        })
    }
}

impl Prepared {
    /// When the request must be answered.
    pub(crate) fn deadline(&self) -> Instant {
        self.serving.deadline(&self.ask.weir, self.ask.received)
    }

    /// The client's own limit on the answer.
    pub(crate) fn max_tokens(&self) -> Option<u32> {
        self.ask.client.max_tokens
    }
}

/// Tokens of the conversation for every pool's model: counted off the async threads where the model's file is here, and
/// asked of the engines that the request may reach where it is not.
async fn sizes(serving: &Arc<Serving>, ask: &Ask) -> Result<Vec<Size>, AnswerError> {
    let privacy = serving.privacy(ask);
    let pools = serving.plan.pools.iter();
    let counters: Vec<TokenCounter> = pools
        .map(|pool| match pool.privacy <= privacy {
            true => serving.counter(pool),
            false => TokenCounter::estimate(),
        })
        .collect();
    let (all, asked) = (counters.clone(), ask.clone());
    let count =
        move || -> Vec<Size> { all.iter().map(|counter| size_of(&asked, counter)).collect() };
    let counted = tokio::task::spawn_blocking(count).await;
    let mut sizes = counted.map_err(|_| AnswerError::Lost {
        step: "counting tokens",
    })?;
    let deadline = serving.deadline(&ask.weir, ask.received);
    let guessed = sizes.iter_mut().zip(&counters).zip(&serving.plan.pools);
    let exactly = guessed
        .filter(|((_, counter), _)| !counter.missed().is_empty())
        .map(|((size, counter), pool)| async move {
            let make = || size_of(ask, counter);
            *size = serving.settled((pool, counter), deadline, make).await;
        });
    join_all(exactly).await;
    Ok(sizes)
}

fn size_of(ask: &Ask, counter: &TokenCounter) -> Size {
    size(&ask.messages, counter, tool_tokens(ask, counter))
}

/// Tokens of the tool descriptions, which the chat template prints too.
pub(crate) fn tool_tokens(ask: &Ask, counter: &TokenCounter) -> u32 {
    let tools = ask.client.passed.get("tools").filter(|_| ask.client.tools);
    tools.map_or(0, |tools| {
        u32::try_from(counter.count(&tools.to_string())).unwrap_or(u32::MAX)
    })
}

fn query_features(
    serving: &Serving,
    ask: &Ask,
    question: &Question,
    embedding: Option<&[f32]>,
) -> StepFeatures {
    let estimate = TokenCounter::estimate();
    let tokens: usize = ask
        .messages
        .iter()
        .map(|message| estimate.count(&message.text))
        .sum();
    QueryFacts {
        text: &question.text,
        domain: ask.weir.domain.as_deref(),
        turns: question.turns,
        conversation_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
        max_tokens: ask.client.max_tokens,
        tools: ask.client.tools,
        json: ask.client.json,
        budget_ms: ask.weir.budget_ms,
        device_class: ask.weir.device_class.as_deref(),
        privacy: match serving.privacy(ask) {
            Privacy::Local => 0,
            Privacy::OnPrem => 1,
            Privacy::Cloud => 2,
        },
        embedding,
    }
    .features()
}
