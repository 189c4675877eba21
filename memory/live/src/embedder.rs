//! What makes vectors for a memory: a model in this process, or a pool's `/v1/embeddings`.
//!
//! It knows who is asked and whether asking again can help; which passages are asked about is decided in `fill.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_embed::{EmbedError, EmbedQueue};
use weir_engine::{EngineError, Engines};
use weir_plan::{Pool, chain};

use crate::calls::MemoryError;
use crate::questions::Questions;
use crate::recall::EMBED_BUDGET;

/// Longest wait for the vectors of one batch: an engine without a graphics card reads a few hundred tokens a second.
const BATCH_TIMEOUT: Duration = Duration::from_secs(120);

/// Passages that go into one request to a pool: few, so that a question does not wait long behind them.
const POOL_BATCH: usize = 8;

/// Passages that this process embeds at a time; its queue lets questions pass.
const IN_PROCESS_BATCH: usize = 32;

/// Who makes vectors.
#[derive(Clone)]
pub enum Embedder {
    /// A model in this process.
    InProcess(EmbedQueue),
    /// A pool.
    Pool {
        /// The engines by which it is asked. Those of the filler are its own, so that a passage that the engine refuses
        /// does not open the breaker for questions.
        engines: Engines,
        /// Says which pool and where its engine listens at the moment.
        pool: Arc<dyn Fn() -> Option<Pool> + Send + Sync>,
        /// What was asked lately, and what is being asked.
        questions: Questions,
    },
}

/// Why there are no vectors.
#[derive(Debug, PartialEq, Eq)]
pub enum NoVectors {
    /// Nobody could be asked: the same texts may get vectors later.
    Away(String),
    /// These texts were refused, or the answer was of no use.
    Refused(String),
}

impl Embedder {
    /// The pool that `pool` names whenever vectors are wanted.
    pub fn pool(engines: Engines, pool: impl Fn() -> Option<Pool> + Send + Sync + 'static) -> Self {
        let pool = Arc::new(pool);
        Self::Pool {
            engines,
            pool,
            questions: Questions::default(),
        }
    }

    /// Passages that are embedded together.
    pub fn batch(&self) -> usize {
        match self {
            Self::InProcess(_) => IN_PROCESS_BATCH,
            Self::Pool { .. } => POOL_BATCH,
        }
    }

    /// Forgets the questions whose vectors are kept in this process: one may name somebody whose nodes were erased.
    pub fn forget_questions(&self) {
        match self {
            Self::InProcess(queue) => queue.forget(),
            Self::Pool { questions, .. } => questions.forget(),
        }
    }

    /// Vectors of passages, in their order, without holding up questions.
    ///
    /// # Errors
    /// Nobody could be asked, or the texts were refused.
    pub async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, NoVectors> {
        match self {
            Self::InProcess(queue) => {
                let vectors = queue.embed_many(texts).await;
                vectors.map_err(|error| NoVectors::from(&error))
            }
            Self::Pool { engines, pool, .. } => {
                let deadline = Instant::now() + BATCH_TIMEOUT;
                let pool = pool().ok_or_else(no_pool)?;
                let embedded = engines.embeddings(&pool, &texts, deadline).await;
                let embedded = embedded.map_err(|error| NoVectors::from(&error));
                Ok(embedded?.vectors)
            }
        }
    }

    /// The vector of a question, within `budget`.
    ///
    /// # Errors
    /// As [`Embedder::passages`]; also when there is no vector in time.
    pub async fn question(&self, text: &str, budget: Duration) -> Result<Arc<[f32]>, NoVectors> {
        let vector = async {
            match self {
                Self::InProcess(queue) => {
                    let vector = queue.embed(text).await;
                    vector.map_err(|error| NoVectors::from(&error))
                }
                Self::Pool {
                    engines,
                    pool,
                    questions,
                } => {
                    let pool = pool().ok_or_else(no_pool)?;
                    let ask = async {
                        let (deadline, texts) = (Instant::now() + budget, [text.to_owned()]);
                        let embedded = engines.embeddings(&pool, &texts, deadline).await;
                        let embedded = embedded.map_err(|error| NoVectors::from(&error))?;
                        let first = embedded.vectors.into_iter().next();
                        first.map(Arc::from).ok_or_else(|| {
                            NoVectors::Refused("the embedder's pool sent no vector".to_owned())
                        })
                    };
                    questions.vector(&pool.upstream_model, text, ask).await
                }
            }
        };
        let late = |_| Err(NoVectors::Away(format!("no vector within {budget:?}")));
        tokio::time::timeout(budget, vector)
            .await
            .unwrap_or_else(late)
    }
}

impl Embedder {
    /// The vector of a question when it can be had in time and fits a memory of vectors of `dimensions` values.
    pub async fn fitting(
        embedder: Option<&Self>,
        text: &str,
        dimensions: usize,
    ) -> Option<Arc<[f32]>> {
        let vector = embedder?.question(text, EMBED_BUDGET).await;
        let vector = vector.map_err(|error| error.to_string());
        let fitting = vector.and_then(|vector| match vector.len() {
            length if length == dimensions => Ok(vector),
            length => Err(format!(
                "{length} dimensions, the memory holds {dimensions}"
            )),
        });
        fitting
            .inspect_err(|error| tracing::warn!(error, "the question was not embedded"))
            .ok()
    }

    /// Vectors of texts by a model in this process, in their order.
    ///
    /// # Errors
    /// There is no such model, or it refuses a text.
    pub async fn texts(
        embedder: Option<&Self>,
        texts: Vec<String>,
    ) -> Result<Vec<Vec<f32>>, MemoryError> {
        let Some(Self::InProcess(queue)) = embedder else {
            return Err(MemoryError::Away("the embedder is not loaded".to_owned()));
        };
        let failed = |error: EmbedError| MemoryError::Failed {
            what: "embedding",
            why: chain(&error),
        };
        match texts.as_slice() {
            // A single text is a question: it goes before passages, and is cached.
            [text] => Ok(vec![queue.embed(text).await.map_err(failed)?.to_vec()]),
            _ => queue.embed_many(texts).await.map_err(failed),
        }
    }
}

fn no_pool() -> NoVectors {
    NoVectors::Away("no pool embeds for this memory".into())
}

impl From<&EmbedError> for NoVectors {
    fn from(error: &EmbedError) -> Self {
        let why = chain(error);
        match error {
            EmbedError::Stopped => Self::Away(why),
            _ => Self::Refused(why),
        }
    }
}

impl From<&EngineError> for NoVectors {
    /// A connection that broke and an answer that did not come count as refusals too: a text may be what ends the engine
    /// or what it chokes on, and only a refusal makes the filler leave it alone in the end.
    fn from(error: &EngineError) -> Self {
        let why = error.to_string();
        match error {
            EngineError::NoEndpoint { .. }
            | EngineError::BreakerOpen { .. }
            | EngineError::Refused { .. }
            | EngineError::Untrusted { .. }
            | EngineError::BadEndpoint { .. }
            | EngineError::Status {
                status: 401 | 403 | 404 | 405 | 429 | 503,
                ..
            } => Self::Away(why),
            _ => Self::Refused(why),
        }
    }
}

impl fmt::Display for NoVectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Away(why) | Self::Refused(why)) = self;
        f.write_str(why)
    }
}

impl fmt::Debug for Embedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InProcess(_) => "Embedder::InProcess",
            Self::Pool { .. } => "Embedder::Pool",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use weir_embed::{QUESTION_BYTES_MAX, QUESTIONS_MAX};

    /// Answers the requests of one connection.
    fn answer(stream: TcpStream, counter: &AtomicUsize) {
        let mut reader = BufReader::new(stream);
        loop {
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).unwrap_or(0) > 2 {
                let lower = line.to_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if length == 0 || reader.read_exact(&mut body).is_err() {
                return;
            }
            let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
            let body = format!(
                "{{\"object\":\"list\",\"data\":[{{\"object\":\"embedding\",\"index\":0,\"embedding\":[{number},0]}}],\
                 \"usage\":{{\"prompt_tokens\":1,\"total_tokens\":1}}}}"
            );
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
            let said = format!("{head} {length}\r\n\r\n{body}");
            reader.get_mut().write_all(said.as_bytes()).unwrap();
        }
    }

    /// An engine whose vectors count its answers: the first one is [1, 0], the second [2, 0].
    fn engine() -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (
            listener.local_addr().unwrap(),
            Arc::new(AtomicUsize::new(0)),
        );
        let counter = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || answer(stream, &counter));
            }
        });
        (address, asked)
    }

    #[tokio::test]
    async fn a_pool_is_asked_once_for_a_question_of_one_model_until_it_is_forgotten() {
        let (address, asked) = engine();
        let model = Arc::new(Mutex::new("one".to_owned()));
        let named = Arc::clone(&model);
        let pool = move || {
            Some(Pool {
                upstream_model: named.lock().unwrap().clone(),
                endpoints: vec![weir_plan::Endpoint::keyless(&format!("http://{address}"))],
                ..Pool::local("embeddings")
            })
        };
        let embedder = Embedder::pool(Engines::new(), pool);
        let ask = |text: &str| {
            let (embedder, text) = (embedder.clone(), text.to_owned());
            async move {
                let vector = embedder.question(&text, Duration::from_secs(20)).await;
                vector.unwrap()[0] as usize
            }
        };
        assert_eq!((ask("a").await, ask("a").await, ask("b").await), (1, 1, 2));
        "two".clone_into(&mut model.lock().unwrap());
        assert_eq!(ask("a").await, 3, "another model makes other vectors");
        "one".clone_into(&mut model.lock().unwrap());
        assert_eq!(ask("a").await, 1);
        embedder.forget_questions();
        assert_eq!(ask("a").await, 4);
        // More questions than are kept: the first is gone, the newest is not.
        for number in 0..QUESTIONS_MAX {
            ask(&number.to_string()).await;
        }
        let before = asked.load(Ordering::SeqCst);
        ask(&(QUESTIONS_MAX - 1).to_string()).await;
        assert_eq!(asked.load(Ordering::SeqCst), before);
        ask("a").await;
        assert_eq!(asked.load(Ordering::SeqCst), before + 1);
        let long = "x".repeat(QUESTION_BYTES_MAX + 1);
        assert_ne!(ask(&long).await, ask(&long).await, "too long to be kept");
    }
}
