//! What models cost on this machine: each one by threads and context, and what it is worth where its weights are real.
//!
//! Every point has an engine of its own, started as Weir starts them and asked through the gateway's client, so that the peak of its
//! memory is the point's. Prompts are never taken from the engine's cache, but where the layout of the cache is what is measured. Reading on: `engine.rs` (a process), `ask.rs` (what
//! it is asked), `packing.rs` (prompts with recalled passages), `report.rs` (the files).

mod ask;
mod engine;
mod packing;
mod report;

pub use engine::{Launch, MatrixError};
pub use packing::{RecallError, Recalled, recalled};
pub use report::{Matrix, Measured};

use crate::grade::{grade, quality};
use crate::questions::{Question, Scenario, Split};
use ask::{Answered, Asking};
use engine::Engine;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use weir_embed::TokenCounter;

/// Tokens of an answer whose speed is measured: enough for one, few beside the prompt.
const COMPLETION_TOKENS: u32 = 32;

/// Longest answer to a question, tokens.
const ANSWER_TOKENS: u32 = 48;

/// Requests that a layout is measured with: the first fills the cache.
const LAYOUT_QUESTIONS: usize = 5;

/// Tokens of a prompt and its answer where layouts and templates are compared, and where recalled passages may be whole.
const LAYOUT_CONTEXT: u32 = 2048;
const PASSAGES_CONTEXT: u32 = 4096;

/// Tokens of a context that the template and the answer leave.
const TEMPLATE_TOKENS: usize = 128;

/// Whose chat template an engine lays messages out with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// The model's own.
    Own,
    /// ChatML and nothing else: no system prompt of the model's maker, no tools.
    Minimal,
}

/// A model that is measured.
#[derive(Clone, Debug)]
pub struct Model {
    /// What it is called in the results.
    pub name: String,
    /// Its GGUF file.
    pub file: PathBuf,
    /// Size of the file, bytes.
    pub bytes: u64,
    /// Quantization of the file, such as `Q4_0`.
    pub quantization: String,
    /// Whether its answers mean something, so that they are graded.
    pub real: bool,
}

/// One engine: what it serves and how.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// The model.
    pub model: &'a Model,
    /// Threads.
    pub threads: u32,
    /// Tokens of a prompt and its answer.
    pub context_tokens: u32,
    /// How messages are laid out.
    pub template: Template,
}

/// What is measured and how.
pub struct MatrixOptions {
    /// The models, in the order of the rows.
    pub models: Vec<Model>,
    /// How an engine is started.
    pub launch: Launch,
    /// Threads that each is given.
    pub threads: Vec<u32>,
    /// Context sizes that each is given, tokens.
    pub contexts: Vec<u32>,
    /// Requests a point, after one that is not counted.
    pub repeats: usize,
    /// Graded questions; those that are answered without recall count.
    pub questions: Vec<Question>,
    /// Most of those that each model is asked.
    pub questions_max: usize,
    /// Questions with the passages that were recalled for them; without any, packing is not measured.
    pub recalled: Vec<Recalled>,
    /// Longest time that an engine may take to begin, and to answer one request.
    pub patience: Duration,
    /// Ends the measurement between two points.
    pub stop: CancellationToken,
}

/// Measures every model; what cannot be measured is told in the result's notes, and the rest goes on.
///
/// `progress` is told what is measured now, the points that are done and how many there are.
pub async fn matrix(
    options: &MatrixOptions,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Matrix {
    let questions = questions(options);
    let mut matrix = Matrix::default();
    let mut done = 0;
    let total = options.models.len() * (options.threads.len() * options.contexts.len() + 1);
    for model in &options.models {
        for point in points(options, model) {
            progress(&point.to_string(), done, total);
            let measured = unless_stopped(options, speed(options, point)).await;
            let Some(measured) = measured else {
                return matrix.stopped();
            };
            matrix.take(point, measured);
            done += 1;
        }
        progress(&format!("{} layouts", model.name), done, total);
        let measured = unless_stopped(options, variants(options, model, &questions)).await;
        let Some(measured) = measured else {
            return matrix.stopped();
        };
        matrix.take_variants(model, measured);
        done += 1;
    }
    matrix
}

async fn unless_stopped<T>(options: &MatrixOptions, work: impl Future<Output = T>) -> Option<T> {
    options.stop.run_until_cancelled(work).await
}

/// Test questions that need nothing of a memory.
fn questions(options: &MatrixOptions) -> Vec<&Question> {
    let plain = |question: &&Question| {
        question.scenario == Scenario::Simple && question.split == Split::Test
    };
    let questions = options.questions.iter().filter(plain);
    questions.take(options.questions_max).collect()
}

fn points<'a>(options: &'a MatrixOptions, model: &'a Model) -> impl Iterator<Item = Point<'a>> {
    options.threads.iter().flat_map(move |&threads| {
        options.contexts.iter().map(move |&context_tokens| Point {
            model,
            threads,
            context_tokens,
            template: Template::Own,
        })
    })
}

/// Speeds and memory of one point.
pub(crate) struct Speed {
    /// Each request that counts.
    answers: Vec<Answered>,
    /// Most that the engine's process ever had resident, bytes; `None` where the system does not say.
    peak_bytes: Option<u64>,
}

async fn speed(options: &MatrixOptions, point: Point<'_>) -> Result<Speed, MatrixError> {
    let engine = Engine::start(&options.launch, point, options.patience).await?;
    let asking = Asking::to(&engine, options.patience);
    let prompt_tokens = point.context_tokens.saturating_sub(COMPLETION_TOKENS);
    let words = asking.lengths().await?.words_of(prompt_tokens)?;
    let mut answers = Vec::with_capacity(options.repeats);
    for repeat in 0..options.repeats {
        let text = ask::text(repeat, words);
        answers.push(asking.measured(&text, COMPLETION_TOKENS).await?);
    }
    Ok(Speed {
        answers,
        peak_bytes: engine.peak_bytes(),
    })
}

/// What layouts, templates and packing do to one model, with all threads. Of each pair the first is how Weir does it, or the model's own.
pub(crate) struct Variants {
    /// Share of a later prompt over the same blocks that is computed again, from 0 to 1: blocks before the question, and after it.
    computed_again: (f64, f64),
    /// By template: the model's own, and the minimal one.
    templates: (Asked, Asked),
    /// By context: passages packed, and whole.
    packing: (Asked, Asked),
}

/// Questions that were asked in one way.
#[derive(Default)]
pub(crate) struct Asked {
    /// Tokens of each prompt.
    prompt_tokens: Vec<f64>,
    /// Milliseconds to each first token.
    first_token_ms: Vec<f64>,
    /// Quality of each answer, 1 to 5; empty where the weights are random.
    qualities: Vec<f64>,
}

async fn variants(
    options: &MatrixOptions,
    model: &Model,
    questions: &[&Question],
) -> Result<Variants, MatrixError> {
    let threads = options.threads.iter().max().copied().unwrap_or(1);
    let engine = async |context_tokens, template| {
        let point = Point {
            model,
            threads,
            context_tokens,
            template,
        };
        Engine::start(&options.launch, point, options.patience).await
    };
    let own = engine(LAYOUT_CONTEXT, Template::Own).await?;
    let asking = Asking::to(&own, options.patience);
    let lengths = asking.lengths().await?;
    let again = async |blocks_first| {
        let again = asking.computed_again(LAYOUT_QUESTIONS, &lengths, blocks_first);
        again.await
    };
    let computed_again = (again(true).await?, again(false).await?);
    let bare = async |engine: &Engine| {
        let prompts = questions.iter();
        let prompts = prompts.map(|&question| (question, question.question.clone()));
        asked(&Asking::to(engine, options.patience), model, prompts).await
    };
    let with_own = bare(&own).await?;
    drop(own);
    let with_minimal = match questions.is_empty() {
        true => Asked::default(),
        false => bare(&engine(LAYOUT_CONTEXT, Template::Minimal).await?).await?,
    };
    let packing = match options.recalled.is_empty() {
        true => <(Asked, Asked)>::default(),
        false => {
            let engine = engine(PASSAGES_CONTEXT, Template::Own).await?;
            packing(
                &Asking::to(&engine, options.patience),
                model,
                &options.recalled,
            )
            .await?
        }
    };
    Ok(Variants {
        computed_again,
        templates: (with_own, with_minimal),
        packing,
    })
}

/// Questions with their passages, packed and whole.
async fn packing(
    asking: &Asking,
    model: &Model,
    recalled: &[Recalled],
) -> Result<(Asked, Asked), MatrixError> {
    let counter = TokenCounter::from_gguf(&model.file).unwrap_or_else(|_| TokenCounter::estimate());
    let room = PASSAGES_CONTEXT as usize - ANSWER_TOKENS as usize - TEMPLATE_TOKENS;
    let each = |prompt: fn(&Recalled, &TokenCounter, usize) -> String| {
        let counter = &counter;
        let recalled = recalled.iter();
        recalled.map(move |found| (&found.question, prompt(found, counter, room)))
    };
    let packed = each(|found, counter, _| found.packed(counter));
    let whole = each(Recalled::whole);
    Ok((
        asked(asking, model, packed).await?,
        asked(asking, model, whole).await?,
    ))
}

/// Asks each question with its prompt.
async fn asked(
    asking: &Asking,
    model: &Model,
    prompts: impl Iterator<Item = (&Question, String)>,
) -> Result<Asked, MatrixError> {
    let mut asked = Asked::default();
    // Nobody reads what random weights answer.
    let max_tokens = if model.real { ANSWER_TOKENS } else { 1 };
    for (question, prompt) in prompts {
        let (text, answered) = asking.question(&prompt, max_tokens).await?;
        asked.prompt_tokens.push(answered.prompt_tokens);
        asked.first_token_ms.push(answered.first_token_ms);
        if model.real {
            asked.qualities.push(quality(grade(question, &text)));
        }
    }
    Ok(asked)
}
