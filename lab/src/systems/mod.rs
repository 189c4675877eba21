//! `weir lab systems`: four ways to answer the same questions, side by side on the same machine.
//!
//! Every question is asked of all four before the next, in an order drawn anew for each question, so that drift of the
//! machine hits all alike. Rows are appended as they come and a second run goes on where the first ended. What the systems
//! are is pinned here and in `dense`; what is reported is in `report`.

mod dense;
mod report;
mod row;

pub use report::report;
pub use row::SystemRow;

use crate::collect::ask;
use crate::corpus::Corpus;
use crate::grade::{best_f1, exact, grade};
use crate::questions::{Question, Split};
use crate::results::Results;
use dense::Dense;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use row::{Answered, RowFile};
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use weir_gateway::ask::Ask;
use weir_gateway::gateway::{Assets, Gateway};
use weir_memory::{Filter, Memory, NodeId, Query, RecallLimits};
use weir_plan::{GatewayPlan, LogSink};
use weir_router::{ArmTable, RecallMode};

/// Context of the fixed systems, in tokens.
const CONTEXT_TOKENS: u32 = 400;
/// The sampling class of the fixed systems: greedy.
const PRECISE: usize = 0;
/// Hits that a search returns, as in the gateway.
const SEEDS: usize = 64;
/// A signal that stops a run may reach its engines too, and their failure is seen up to this long before the signal is.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// A way to answer questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// The biggest model with the largest context, always: what quality is compared with.
    Biggest,
    /// The middle model with plain dense retrieval of ten whole passages: what speed is compared with.
    Naive,
    /// The smallest model with the largest context, always.
    Small,
    /// What the gateway decides.
    Routed,
}

impl System {
    /// All four, in the order of reports.
    pub const ALL: [Self; 4] = [Self::Biggest, Self::Naive, Self::Small, Self::Routed];

    /// The name in rows and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Biggest => "biggest",
            Self::Naive => "naive",
            Self::Small => "small",
            Self::Routed => "routed",
        }
    }
}

/// What to compare, and when to stop.
#[derive(Clone, Debug)]
pub struct SystemsOptions {
    /// Questions to ask; those of the training split are left out.
    pub questions: Vec<Question>,
    /// Asks this many of the test questions, drawn at random; all when absent.
    pub questions_max: Option<usize>,
    /// Rows as JSON Lines; continued when the file exists.
    pub rows: PathBuf,
    /// Folder of the results.
    pub results: PathBuf,
    /// The command, for the results.
    pub command: String,
    /// Seed of the order.
    pub seed: u64,
    /// Longest answer in tokens.
    pub max_tokens: u32,
    /// Whose memory is read.
    pub tenant: String,
    /// Stops before the next question after this long: all four answer the one at hand.
    pub time_max: Option<Duration>,
    /// Stops at once: the answer in flight is dropped, without a row, and asked for again by the next run.
    pub stop: CancellationToken,
}

impl SystemsOptions {
    /// All committed test questions, answers of 48 tokens.
    pub fn new(questions: Vec<Question>, rows: PathBuf, results: PathBuf) -> Self {
        Self {
            questions,
            questions_max: None,
            rows,
            results,
            command: "weir lab systems".to_owned(),
            seed: 1,
            max_tokens: 48,
            tenant: "lab".to_owned(),
            time_max: None,
            stop: CancellationToken::new(),
        }
    }
}

/// Why the comparison stopped.
#[derive(Debug, thiserror::Error)]
pub enum SystemsError {
    /// The plan cannot be served.
    #[error("cannot start a gateway for the comparison: {0}")]
    Gateway(String),
    /// The plan lacks what the systems need.
    #[error("the four systems need {0}; start a stack that has it")]
    Missing(&'static str),
    /// The memory cannot be read.
    #[error("cannot read the memory: {0}")]
    Memory(#[from] weir_memory::ReadError),
    /// Rows or results cannot be read or written.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How far a comparison is.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemsProgress {
    /// Questions that all four have answered.
    pub questions: usize,
    /// Questions to ask.
    pub total: usize,
    /// Estimate of the time left.
    pub left: Duration,
}

/// Asks all four systems, writes rows and results, and returns the results.
pub async fn systems(
    options: &SystemsOptions,
    mut plan: GatewayPlan,
    assets: Assets,
    progress: &mut (dyn FnMut(&SystemsProgress) + Send),
) -> Result<Results, SystemsError> {
    // The routed system is measured as it decides, not as it explores, and its log would only cost it time.
    plan.exploration.floor = 0.0;
    plan.logs.sink = LogSink::None;
    let bench = Bench::new(options, plan, assets)?;
    let mut file = RowFile::open(&options.rows)?;
    let mut questions = questions(options);
    questions.truncate(options.questions_max.unwrap_or(usize::MAX));
    let (started, before) = (Instant::now(), file.complete(&questions));
    for question in &questions {
        let over = options
            .time_max
            .is_some_and(|most| started.elapsed() >= most);
        if over || options.stop.is_cancelled() {
            break;
        }
        bench.question(question, options, &mut file).await?;
        let done = file.complete(&questions);
        let each = started.elapsed() / u32::try_from((done - before).max(1)).unwrap_or(1);
        let left = each * u32::try_from(questions.len() - done).unwrap_or(0);
        progress(&SystemsProgress {
            questions: done,
            total: questions.len(),
            left,
        });
    }
    let mut results = report(file.rows(), &options.command);
    results.notes.extend(bench.notes());
    let folder = options.results.display().to_string();
    results
        .write(&options.results)
        .map_err(|source| SystemsError::File {
            path: folder,
            source,
        })?;
    Ok(results)
}

/// The test questions in random order, so that any beginning of it is a fair sample. Those with a hidden page are put
/// between the others, whose order is the same with and without them.
fn questions(options: &SystemsOptions) -> Vec<&Question> {
    let test = options.questions.iter().filter(|q| q.split == Split::Test);
    let (mut questions, hiding): (Vec<_>, Vec<_>) = test.partition(|q| q.without.is_none());
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    questions.shuffle(&mut rng);
    for question in hiding {
        questions.insert(rng.random_range(0..=questions.len()), question);
    }
    questions
}

/// What came of an answer; `None` when the run was stopped meanwhile, so that no failure counts that the stop brought about.
async fn unless_stopped<T>(
    stop: &CancellationToken,
    asked: impl Future<Output = Result<T, String>>,
) -> Option<Result<T, String>> {
    let answered = stop.run_until_cancelled(asked).await?;
    if answered.is_err() {
        let stopped = tokio::time::timeout(SAME_SIGNAL, stop.cancelled()).await;
        return stopped.is_err().then_some(answered);
    }
    Some(answered)
}

struct Bench {
    gateway: Gateway,
    dense: Dense,
    memory: Memory,
    corpus: Corpus,
    table: ArmTable,
    models: Vec<String>,
    tenant: String,
}

impl Bench {
    fn new(
        options: &SystemsOptions,
        plan: GatewayPlan,
        assets: Assets,
    ) -> Result<Self, SystemsError> {
        let memory = assets
            .store()
            .cloned()
            .ok_or(SystemsError::Missing("a memory"))?;
        let dense = Dense::new(&plan, &assets, &options.tenant)?;
        let corpus = Corpus::read(&memory, &options.tenant, &options.questions)?;
        let models: Vec<String> = plan.pools.iter().map(|pool| pool.model.clone()).collect();
        let gateway =
            Gateway::new(plan, assets).map_err(|e| SystemsError::Gateway(e.to_string()))?;
        let table = gateway.serving().router.arms().clone();
        let tenant = options.tenant.clone();
        Ok(Self {
            gateway,
            dense,
            memory,
            corpus,
            table,
            models,
            tenant,
        })
    }

    async fn question(
        &self,
        question: &Question,
        options: &SystemsOptions,
        file: &mut RowFile,
    ) -> Result<(), SystemsError> {
        // Whoever asks first would pay for the embedding and warm it for the others; so it is made before, and everyone
        // is charged the same.
        let embed_s = self.dense.embed_seconds(&question.question).await;
        let mut order = System::ALL;
        let salt = question.id.bytes().fold(options.seed, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(salt));
        for system in order {
            if file.has(&question.id, system) {
                continue;
            }
            let asked = self.ask(system, question, options.max_tokens);
            let Some(answered) = unless_stopped(&options.stop, asked).await else {
                return Ok(());
            };
            let row = self.row(system, question, embed_s, answered).await;
            file.append(row)?;
        }
        Ok(())
    }

    async fn ask(
        &self,
        system: System,
        question: &Question,
        max_tokens: u32,
    ) -> Result<Answered, String> {
        let biggest = self.models.len().saturating_sub(1);
        match system {
            System::Naive => {
                let hidden = self.corpus.hidden(question);
                let asked = self.dense.ask(&question.question, hidden, max_tokens);
                asked.await
            }
            System::Biggest => self.fixed(question, biggest, max_tokens).await,
            System::Small => self.fixed(question, 0, max_tokens).await,
            System::Routed => self.routed(question, max_tokens).await,
        }
    }

    async fn fixed(
        &self,
        question: &Question,
        rank: usize,
        max_tokens: u32,
    ) -> Result<Answered, String> {
        let arm = self
            .table
            .find(RecallMode::Vector, rank, CONTEXT_TOKENS)
            .ok_or("the router's table has no arm with 400 tokens of the fused search")?;
        let started = Instant::now();
        let ask = self.asked(question, max_tokens);
        let prepared = self
            .gateway
            .prepare(&ask)
            .await
            .map_err(|e| e.to_string())?;
        let retrieval_s = started.elapsed().as_secs_f64();
        let attempt = self.gateway.attempt(&prepared, arm, PRECISE, Some(1)).await;
        let attempt = attempt.map_err(|e| e.to_string())?;
        Ok(Answered {
            text: attempt.text,
            model: self.models[rank].clone(),
            recall: RecallMode::Vector,
            latency_s: started.elapsed().as_secs_f64(),
            llm_s: attempt.latency_s,
            retrieval_s,
            prompt_tokens: attempt.prompt_tokens,
            completion_tokens: attempt.completion_tokens,
            cost: attempt.cost,
            second_attempt: false,
        })
    }

    fn asked(&self, question: &Question, max_tokens: u32) -> Ask {
        let hidden = self.corpus.hidden(question);
        ask(question, hidden, &self.tenant, max_tokens)
    }

    async fn routed(&self, question: &Question, max_tokens: u32) -> Result<Answered, String> {
        let started = Instant::now();
        let ask = self.asked(question, max_tokens);
        let answered = self.gateway.answer(self.gateway.serving(), ask).await;
        let answer = answered.map_err(|error| error.to_string())?;
        let latency_s = started.elapsed().as_secs_f64();
        let record = self.gateway.decision(&answer.decision.id);
        let record = serde_json::to_value(record).unwrap_or_default();
        let number = |path: &str| record.pointer(path).and_then(serde_json::Value::as_f64);
        let millis = |path: &str| number(path).unwrap_or(0.0) / 1000.0;
        let tokens = |path: &str| {
            record
                .pointer(path)
                .and_then(|v| v.as_u64()?.try_into().ok())
        };
        let text = answer
            .message
            .get("content")
            .and_then(|c| c.as_str())
            .unwrap_or_default();
        Ok(Answered {
            text: text.to_owned(),
            model: answer.decision.model.clone(),
            recall: answer.decision.recall,
            latency_s,
            llm_s: millis("/latency_ms/llm"),
            retrieval_s: ["embed", "retrieval", "attention"]
                .iter()
                .map(|part| millis(&format!("/latency_ms/{part}")))
                .sum(),
            prompt_tokens: tokens("/tokens/prompt").unwrap_or(answer.usage.prompt_tokens),
            completion_tokens: tokens("/tokens/completion")
                .unwrap_or(answer.usage.completion_tokens),
            cost: number("/cost").unwrap_or(0.0),
            second_attempt: answer.decision.escalated,
        })
    }

    async fn row(
        &self,
        system: System,
        question: &Question,
        embed_s: f64,
        answered: Result<Answered, String>,
    ) -> SystemRow {
        let mut row = SystemRow::new(system, question);
        let mode = answered
            .as_ref()
            .map_or(RecallMode::Vector, |answered| answered.recall);
        let ranked = self.ranked(system, question, mode).await;
        row.recall_at_5 = self.corpus.recall_at(question, &ranked, 5);
        row.recall_at_10 = self.corpus.recall_at(question, &ranked, 10);
        match answered {
            Err(error) => row.error = Some(error),
            Ok(mut answered) => {
                answered.latency_s += embed_s;
                answered.retrieval_s += embed_s;
                row.score = grade(question, &answered.text);
                row.exact = f64::from(u8::from(exact(question, &answered.text)));
                row.f1 = best_f1(&question.answers, &answered.text);
                row.answered = Some(answered);
            }
        }
        row
    }

    /// What the system's retrieval ranks first; nothing when it recalls nothing. Outside of any measured time.
    async fn ranked(&self, system: System, question: &Question, mode: RecallMode) -> Vec<NodeId> {
        if question.gold.is_empty() || mode == RecallMode::None {
            return Vec::new();
        }
        if system == System::Naive {
            let hidden = self.corpus.hidden(question);
            return self.dense.ranked(&question.question, hidden).await;
        }
        let query = Query {
            text: question.question.clone(),
            vector: self.dense.vector(&question.question).await,
            filter: Filter {
                tenant: self.tenant.clone(),
                hidden: self.corpus.hidden(question).to_vec(),
                ..Filter::default()
            },
            k: SEEDS,
            exclude_edges: Vec::new(),
        };
        let Ok(found) = self.memory.search(&query) else {
            return Vec::new();
        };
        if mode == RecallMode::Graph {
            let recall = self.memory.recall(&query, &found, &RecallLimits::default());
            recall.nodes.iter().map(|node| node.id).collect()
        } else {
            found.hits.iter().map(|hit| hit.id).collect()
        }
    }

    /// What a reader of the results must know.
    fn notes(&self) -> Vec<String> {
        let counts = self.memory.counts();
        vec![
            format!(
                "biggest: {} with {CONTEXT_TOKENS} tokens of the fused search, greedy; small: {} alike",
                self.models.last().map_or("", String::as_str),
                self.models.first().map_or("", String::as_str)
            ),
            self.dense.note(),
            "a question that is a heading of a FAQ is asked with all of that page hidden from the memory".to_owned(),
            "routed: the gateway's own decisions with exploration off; first tries are charged".to_owned(),
            "prompt caches of the engines are off (`cache_prompt: false`); the embedding is made before a question and \
             charged to all four alike"
                .to_owned(),
            format!(
                "memory: {} passages, {} with vectors; gold passages found for {} questions",
                counts.nodes, counts.vectors, self.corpus.complete()
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_with_a_hidden_page_stand_between_the_others_and_leave_their_order() {
        let order = |hiding: bool| -> Vec<String> {
            let mut set = crate::questions::read(None).unwrap();
            set.retain(|question| hiding || question.without.is_none());
            let options = SystemsOptions::new(set, PathBuf::new(), PathBuf::new());
            let order = questions(&options);
            order.iter().map(|question| question.id.clone()).collect()
        };
        let (all, others) = (order(true), order(false));
        let (hiding, left): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|id| id.starts_with("faq/test/"));
        assert!(!hiding.is_empty());
        assert_eq!(left, others);
    }

    #[tokio::test]
    async fn a_failure_counts_unless_a_stop_follows_at_its_heels() {
        let failing = || async { Err::<(), _>("the engine hung up".to_owned()) };
        let stop = CancellationToken::new();
        let counted = unless_stopped(&stop, failing()).await;
        assert_eq!(counted, Some(failing().await));
        let signal = async {
            tokio::time::sleep(SAME_SIGNAL / 10).await;
            stop.cancel();
        };
        let (cut_off, ()) = tokio::join!(unless_stopped(&stop, failing()), signal);
        assert_eq!(cut_off, None);
    }
}
