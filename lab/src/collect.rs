//! `weir router collect`: asks questions under randomised arms and appends what came out to the outcome log.
//!
//! Questions come in random order and each is finished before the next begins, so that a run that stops early is still a
//! fair sample of whole designs. Everything that was answered is in the log; a second run goes on where the first ended.
//! The design is in `design`, the log in [`crate::outcomes`]; how a question is answered is the gateway's business.

use crate::corpus::Corpus;
use crate::design::{self, Trial};
use crate::grade::{grade, quality};
use crate::outcomes::{Design, OutcomeLog, OutcomeRow, OutcomesError, QuestionRow, Row};
use crate::questions::{Question, Split};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use weir_gateway::answer::{AnswerError, Prepared};
use weir_gateway::ask::{Ask, Caller};
use weir_gateway::gateway::{Assets, Gateway};
use weir_memory::NodeId;
use weir_plan::GatewayPlan;
use weir_router::train::Outcome;
use weir_router::{ArmTable, FeatureSchema};

/// Failures in a row after which the engines are considered gone.
const FAILURES_MAX: usize = 5;

/// What to collect, and when to stop.
#[derive(Clone, Debug)]
pub struct CollectOptions {
    /// Questions to ask; those of the other split are left out.
    pub questions: Vec<Question>,
    /// Which part of the questions to ask.
    pub split: Split,
    /// The log; continued when it exists.
    pub out: PathBuf,
    /// Arms tried per question.
    pub arms_per_question: usize,
    /// Seed of the design.
    pub seed: u64,
    /// Longest answer in tokens.
    pub max_tokens: u32,
    /// Whose memory is read.
    pub tenant: String,
    /// Stops after this many new outcomes.
    pub outcomes_max: Option<usize>,
    /// Stops after this long.
    pub time_max: Option<Duration>,
    /// Stops at once; the answer in flight is dropped.
    pub stop: CancellationToken,
}

impl CollectOptions {
    /// Five arms a question on the committed training questions, answers of 48 tokens.
    pub fn new(questions: Vec<Question>, out: PathBuf) -> Self {
        Self {
            questions,
            split: Split::Train,
            out,
            arms_per_question: 5,
            seed: 1,
            max_tokens: 48,
            tenant: "lab".to_owned(),
            outcomes_max: None,
            time_max: None,
            stop: CancellationToken::new(),
        }
    }
}

/// How far a collection is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CollectProgress {
    /// Outcomes in the log.
    pub done: usize,
    /// Outcomes of the whole design.
    pub total: usize,
    /// Outcomes of this run.
    pub new: usize,
    /// Answers of this run that failed and will be tried again by the next.
    pub failed: usize,
    /// Mean score of this run's outcomes.
    pub mean_score: f64,
    /// Mean seconds an outcome of this run took.
    pub mean_s: f64,
    /// Estimate of the time left.
    pub left: Duration,
}

/// Why a collection stopped early.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The plan cannot be served.
    #[error("cannot start a gateway for collecting: {0}")]
    Gateway(String),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] OutcomesError),
    /// The memory cannot be read.
    #[error("cannot read the memory: {0}")]
    Memory(#[from] weir_memory::ReadError),
    /// Nothing to ask.
    #[error("no question of the split `{0}` is left to ask")]
    NoQuestions(String),
    /// The engines do not answer.
    #[error("{FAILURES_MAX} answers in a row failed, the last with: {0}")]
    Failing(#[from] AnswerError),
}

/// Runs the design until it is complete or a limit is reached; says how far it got.
pub async fn collect(
    options: &CollectOptions,
    plan: GatewayPlan,
    assets: Assets,
    progress: &mut (dyn FnMut(&CollectProgress) + Send),
) -> Result<CollectProgress, CollectError> {
    let corpus = match assets.store() {
        Some(memory) => Corpus::read(memory, &options.tenant, &options.questions)?,
        None => Corpus::default(),
    };
    let models: Vec<String> = plan.pools.iter().map(|pool| pool.model.clone()).collect();
    let gateway = Gateway::new(plan, assets).map_err(|e| CollectError::Gateway(e.to_string()))?;
    let mut questions: Vec<&Question> = options
        .questions
        .iter()
        .filter(|q| q.split == options.split)
        .collect();
    if questions.is_empty() {
        return Err(CollectError::NoQuestions(
            format!("{:?}", options.split).to_lowercase(),
        ));
    }
    questions.shuffle(&mut ChaCha8Rng::seed_from_u64(options.seed));
    let table = gateway.serving().router.arms().clone();
    let log = OutcomeLog::open(&options.out, &design_of(options, &table, models))?;
    let total = questions.len() * options.arms_per_question;
    let mut run = Run::new((gateway, corpus), log, options, total);
    for question in questions {
        let trials = design::trials(
            &table,
            options.arms_per_question,
            options.seed,
            &question.id,
        );
        run.question(question, &trials, progress).await?;
        if run.is_over() {
            break;
        }
    }
    Ok(run.progress)
}

fn design_of(options: &CollectOptions, table: &ArmTable, models: Vec<String>) -> Design {
    Design {
        arms: table.clone(),
        models,
        arms_per_question: options.arms_per_question,
        seed: options.seed,
        max_tokens: options.max_tokens,
        schema: FeatureSchema::current().hash().to_owned(),
    }
}

/// The question as the lab asks it: short answers, and a prompt that the engine has never seen before.
///
/// Latency must be that of a cold prompt: with the engine's prompt cache on, the second arm of a question would be charged
/// for its last few tokens only.
pub(crate) fn ask(question: &Question, hidden: &[NodeId], tenant: &str, max_tokens: u32) -> Ask {
    let caller = Caller {
        tenant: tenant.to_owned(),
        request_id: "lab".to_owned(),
        ..Caller::default()
    };
    let mut ask = Ask::question(&question.question, caller);
    ask.hidden = hidden.to_vec();
    ask.client.max_tokens = Some(max_tokens);
    ask.client
        .passed
        .insert("cache_prompt".to_owned(), serde_json::Value::Bool(false));
    ask
}

struct Run<'a> {
    gateway: Gateway,
    corpus: Corpus,
    log: OutcomeLog,
    options: &'a CollectOptions,
    progress: CollectProgress,
    started: Instant,
    failures: usize,
}

impl<'a> Run<'a> {
    fn new(
        (gateway, corpus): (Gateway, Corpus),
        log: OutcomeLog,
        options: &'a CollectOptions,
        total: usize,
    ) -> Self {
        let progress = CollectProgress {
            done: log.done().len(),
            total,
            ..Default::default()
        };
        Self {
            gateway,
            corpus,
            log,
            options,
            progress,
            started: Instant::now(),
            failures: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.options.stop.is_cancelled()
            || self
                .options
                .outcomes_max
                .is_some_and(|most| self.progress.new >= most)
            || self
                .options
                .time_max
                .is_some_and(|most| self.started.elapsed() >= most)
    }

    /// Runs the trials of one question that are not in the log yet.
    async fn question(
        &mut self,
        question: &Question,
        trials: &[Trial],
        report: &mut (dyn FnMut(&CollectProgress) + Send),
    ) -> Result<(), CollectError> {
        let done = self.log.done();
        let left: Vec<Trial> = trials
            .iter()
            .filter(|trial| !done.contains(&(question.id.clone(), trial.arm)))
            .copied()
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        let ask = ask(
            question,
            self.corpus.hidden(question),
            &self.options.tenant,
            self.options.max_tokens,
        );
        let prepared = match self.gateway.prepare(&ask).await {
            Ok(prepared) => prepared,
            Err(error) => return self.failed(error),
        };
        if !self.log.has_question(&question.id) {
            self.log.append(Row::Question(QuestionRow {
                question: question.id.clone(),
                source: question.source.clone(),
                features: prepared.features.clone(),
            }))?;
        }
        for trial in left {
            if self.is_over() {
                break;
            }
            self.trial(question, &prepared, trial).await?;
            report(&self.progress);
        }
        Ok(())
    }

    async fn trial(
        &mut self,
        question: &Question,
        prepared: &Prepared,
        trial: Trial,
    ) -> Result<(), CollectError> {
        let attempt = self
            .gateway
            .attempt(prepared, trial.arm, trial.sampling, Some(trial.seed));
        let attempt = tokio::select! {
            attempt = attempt => attempt,
            () = self.options.stop.cancelled() => return Ok(()),
        };
        let attempt = match attempt {
            Ok(attempt) => attempt,
            Err(error) => return self.failed(error),
        };
        self.failures = 0;
        let score = grade(question, &attempt.text);
        self.log.append(Row::Outcome(Box::new(OutcomeRow {
            question: question.id.clone(),
            score,
            outcome: Outcome {
                arm: trial.arm,
                sampling: trial.sampling,
                seed: trial.seed,
                quality: quality(score),
                latency_s: attempt.latency_s,
                prompt_tokens: attempt.prompt_tokens,
                completion_tokens: attempt.completion_tokens,
                cost: attempt.cost,
                answer: attempt.answer,
                prefix: attempt.prefix,
                probability: trial.probability,
            },
            text: attempt.text,
        })))?;
        self.count(score);
        Ok(())
    }

    fn count(&mut self, score: f64) {
        let progress = &mut self.progress;
        progress.new += 1;
        progress.done += 1;
        progress.mean_score += (score - progress.mean_score) / progress.new as f64;
        progress.mean_s = self.started.elapsed().as_secs_f64() / progress.new as f64;
        let left = progress.total.saturating_sub(progress.done);
        progress.left = Duration::from_secs_f64(progress.mean_s * left as f64);
    }

    fn failed(&mut self, error: AnswerError) -> Result<(), CollectError> {
        self.failures += 1;
        self.progress.failed += 1;
        tracing::warn!(error = %error, "an answer failed; the next run tries it again");
        if self.failures >= FAILURES_MAX {
            Err(error.into())
        } else {
            Ok(())
        }
    }
}
