//! `Engines`: the calls that the gateway makes to a pool, each tried on one replica after another.
//!
//! Retries happen only while nothing of an answer has been read, and only inside the pool that was handed in.
//! Reading on: `replica.rs` for who is asked next, `client.rs` for the wire.

use crate::attempts::Attempts;
use crate::client::{Call, Client, Target, read_body, read_json};
use crate::error::{EngineError, Reply};
use crate::json_span;
use crate::links::Answer;
use crate::prefix::Prefix;
use crate::queue::Priority;
use crate::replica::{Lease, Replicas, Turn};
use crate::stream::ChatStream;
use crate::tool_events::{self, ToolEvents, offered};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::Response;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_plan::{Endpoint, Pool};

const CHAT: &str = "/v1/chat/completions";
/// Largest whole answer that is read.
const ANSWER_MAX: usize = 64 << 20;

/// All engines that a gateway talks to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engines {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    replicas: Replicas,
}

/// A chat request for one pool.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// OpenAI's body. `model`, `stream` and `stream_options` are set by [`Engines::chat`]; ask for `logprobs` here.
    pub body: Map<String, Value>,
    /// How the prompt begins; `None` lets the load alone decide who is asked.
    pub prefix: Option<Prefix>,
    /// Who goes first where the pool has more to do than it works on at once.
    pub priority: Priority,
    /// When the whole answer must be there.
    pub deadline: Instant,
}

/// A body that is passed through to one pool.
#[derive(Clone, Debug)]
pub struct ForwardRequest<'a> {
    /// Path at the engine.
    pub path: &'a str,
    /// The body, untouched.
    pub body: Bytes,
    /// How the prompt begins; `None` lets the load alone decide who is asked.
    pub prefix: Option<Prefix>,
    /// Who goes first where the pool has more to do than it works on at once.
    pub priority: Priority,
    /// When the whole answer must be there.
    pub deadline: Instant,
    /// Names of the functions that the request offers for calling (see [`offered`]).
    pub offered: Vec<String>,
    /// How many answers are asked for (`n`).
    pub choices: u32,
}

/// A whole answer that was passed back.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// The answer as it came.
    pub body: Bytes,
    /// How long the request waited until its pool had a place for it.
    pub queued: Duration,
}

/// The vectors of some texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedded {
    /// One for each text, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of the texts, where the engine says so.
    pub tokens: Option<u32>,
}

/// An embeddings request for one pool.
struct EmbeddingsRequest {
    body: Bytes,
    inputs: usize,
    deadline: Instant,
}

impl Default for Engines {
    fn default() -> Self {
        Self::new()
    }
}

impl Engines {
    /// A client that knows no pool yet.
    pub fn new() -> Self {
        let inner = Inner {
            client: Client::new(),
            replicas: Replicas::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Takes over the pools of a new plan. Endpoints that stay keep their breaker and their count.
    pub fn set_pools<'a>(&self, pools: impl IntoIterator<Item = &'a Pool>) {
        let pools: Vec<&Pool> = pools.into_iter().collect();
        let names = pools.iter().map(|pool| pool.name.as_str()).collect();
        self.inner.client.retain(&names);
        self.inner.replicas.set_pools(&pools);
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn replicas(&self) -> &Replicas {
        &self.inner.replicas
    }

    /// Requests in flight at a pool's replicas.
    pub fn load(&self, pool_name: &str) -> usize {
        self.inner.replicas.load(pool_name)
    }

    /// Whether some replica of the pool would be asked now: it has one, and not every breaker is open.
    pub fn available(&self, pool: &Pool) -> bool {
        self.inner.replicas.available(pool)
    }

    /// Asks a pool for an answer, always as a stream, with usage. Returns once something of the answer is there;
    /// until then other replicas are tried.
    ///
    /// # Errors
    /// The last replica's error, or why no replica was asked.
    pub async fn chat(&self, pool: &Pool, request: ChatRequest) -> Result<ChatStream, EngineError> {
        let ChatRequest {
            body,
            prefix,
            priority,
            deadline,
        } = request;
        let request = ForwardRequest {
            path: CHAT,
            offered: offered(&body),
            body: chat_body(pool, body),
            prefix,
            priority,
            deadline,
            choices: 1,
        };
        self.stream(pool, request).await
    }

    /// Passes a body that asks for a stream through to a pool, untouched but for the model's name, and reads the events of
    /// the answer. Returns once something of the answer is there; until then other replicas are tried.
    ///
    /// # Errors
    /// The last replica's error, or why no replica was asked.
    pub async fn forward_stream(
        &self,
        pool: &Pool,
        request: ForwardRequest<'_>,
    ) -> Result<ChatStream, EngineError> {
        let body = renamed(pool, request.body);
        self.stream(pool, ForwardRequest { body, ..request }).await
    }

    async fn begin<'a>(
        &'a self,
        pool: &'a Pool,
        request: &'a ForwardRequest<'_>,
    ) -> Result<Attempts<'a>, EngineError> {
        let when = (request.priority, request.deadline);
        let replicas = &self.inner.replicas;
        replicas.begin(pool, request.prefix.as_ref(), when).await
    }

    async fn stream(
        &self,
        pool: &Pool,
        request: ForwardRequest<'_>,
    ) -> Result<ChatStream, EngineError> {
        let mut attempts = self.begin(pool, &request).await?;
        let silence = pool.hedge_after_ms.map(Duration::from_millis);
        loop {
            let lease = attempts.next()?;
            let begun = match silence.filter(|_| lease.others) {
                Some(silence) => self.hedged(lease, &request, (&mut attempts, silence)).await,
                None => self.stream_once(lease, &request).await,
            };
            match begun {
                Ok(stream) => return Ok(stream.queued_for(attempts.queued())),
                Err(error) => attempts.failed(error)?,
            }
        }
    }

    /// Asks one replica, and another one beside it when that says nothing for so long; the first to answer is taken.
    async fn hedged(
        &self,
        lease: Lease,
        request: &ForwardRequest<'_>,
        (attempts, silence): (&mut Attempts<'_>, Duration),
    ) -> Result<ChatStream, EngineError> {
        let mut first = pin!(self.stream_once(lease, request));
        if let Ok(begun) = tokio::time::timeout(silence, first.as_mut()).await {
            return begun;
        }
        let Some(lease) = attempts.beside() else {
            return first.await;
        };
        let second = pin!(self.stream_once(lease, request));
        match select(first, second).await {
            Either::Left((Ok(stream), _)) | Either::Right((Ok(stream), _)) => Ok(stream),
            Either::Left((Err(error), second)) => {
                attempts.failed(error)?;
                second.await
            }
            Either::Right((Err(error), first)) => {
                attempts.failed(error)?;
                first.await
            }
        }
    }

    /// Passes a body through to a pool and its whole answer back, bytes untouched but for calls that the engine left in the
    /// text. The model's name is replaced only when the engine knows the model by another one. Other replicas are tried
    /// until the answer is whole, since nothing of it has reached the client.
    ///
    /// # Errors
    /// The last replica's error, or why no replica was asked. Answers other than 2xx are errors, and so are those that hold
    /// an error or are no completion.
    pub async fn forward(
        &self,
        pool: &Pool,
        request: ForwardRequest<'_>,
    ) -> Result<Forwarded, EngineError> {
        let body = renamed(pool, request.body);
        let request = ForwardRequest { body, ..request };
        let mut attempts = self.begin(pool, &request).await?;
        loop {
            let lease = attempts.next()?;
            match self.forward_once(lease, &request).await {
                Ok(answer) => {
                    let body = match request.offered.is_empty() {
                        true => answer,
                        false => tool_events::whole(answer, request.offered.clone()),
                    };
                    let queued = attempts.queued();
                    return Ok(Forwarded { body, queued });
                }
                Err(error) => attempts.failed(error)?,
            }
        }
    }

    /// Asks a pool for the vectors of some texts, in their order.
    ///
    /// # Errors
    /// The last replica's error, or why no replica was asked.
    pub async fn embeddings(
        &self,
        pool: &Pool,
        inputs: &[String],
        deadline: Instant,
    ) -> Result<Embedded, EngineError> {
        let request = EmbeddingsRequest::new(pool, inputs, deadline);
        let when = (Priority::Normal, deadline);
        let mut attempts = self.inner.replicas.begin(pool, None, when).await?;
        loop {
            let lease = attempts.next()?;
            match self.embeddings_once(lease, &request).await {
                Ok(embedded) => return Ok(embedded),
                Err(error) => attempts.failed(error)?,
            }
        }
    }

    /// Really makes one vector at one endpoint, whatever its breaker says. Returns its length.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn probe_vector(
        &self,
        pool: &Pool,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<usize, EngineError> {
        let inputs = ["A weir is a low wall across a river.".to_owned()];
        let request = EmbeddingsRequest::new(pool, &inputs, deadline);
        let lease = alone(pool, endpoint)?;
        let embedded = self.embeddings_once(lease, &request).await?;
        Ok(embedded.vectors.first().map_or(0, Vec::len))
    }

    /// Really generates one token at one endpoint, whatever its breaker says: "it can generate", not "it listens".
    /// Returns how long that took.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn probe(
        &self,
        pool: &Pool,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<Duration, EngineError> {
        let since = Instant::now();
        let messages = json!([{"role": "user", "content": "Say yes."}]);
        let mut body = Map::new();
        body.insert("messages".to_owned(), messages);
        body.insert("max_tokens".to_owned(), json!(1));
        let request = ForwardRequest {
            path: CHAT,
            body: chat_body(pool, body),
            prefix: None,
            priority: Priority::Normal,
            deadline,
            offered: Vec::new(),
            choices: 1,
        };
        let stream = self.stream_once(alone(pool, endpoint)?, &request).await?;
        stream.read_to_end().await?;
        Ok(since.elapsed())
    }

    async fn embeddings_once(
        &self,
        mut lease: Lease,
        request: &EmbeddingsRequest,
    ) -> Result<Embedded, EngineError> {
        let until = patience(&lease, request.deadline);
        let call = Call {
            path: "/v1/embeddings",
            body: request.body.clone(),
            until,
        };
        let target = Arc::clone(&lease.target);
        let read = match self.inner.client.post(&target, call).await {
            Ok(response) => read_embeddings(&target, response, request.inputs, until).await,
            Err(error) => Err(error),
        };
        match &read {
            Ok(_) => lease.succeeded(),
            Err(error) => lease.failed(error),
        }
        read
    }

    async fn forward_once(
        &self,
        mut lease: Lease,
        request: &ForwardRequest<'_>,
    ) -> Result<Bytes, EngineError> {
        let call = Call {
            path: request.path,
            body: request.body.clone(),
            until: request.deadline,
        };
        let target = Arc::clone(&lease.target);
        let read = match self.inner.client.post(&target, call).await {
            Ok(response) => read_completion(&target, response, request.deadline).await,
            Err(error) => Err(error),
        };
        match &read {
            Ok(_) => lease.succeeded(),
            Err(error) => lease.failed(error),
        }
        read
    }

    async fn stream_once(
        &self,
        mut lease: Lease,
        request: &ForwardRequest<'_>,
    ) -> Result<ChatStream, EngineError> {
        let until = patience(&lease, request.deadline);
        let call = Call {
            path: request.path,
            body: request.body.clone(),
            until,
        };
        let response = match self.inner.client.post(&lease.target, call).await {
            Ok(response) => response,
            Err(error) => {
                lease.failed(&error);
                return Err(error);
            }
        };
        let tools = ToolEvents::new(request.offered.clone());
        let wanted = (request.choices, tools);
        ChatStream::new(lease, response.into_body(), request.deadline, wanted)
            .begin(until)
            .await
    }
}

/// One endpoint, asked without regard to what is known of it.
fn alone(pool: &Pool, endpoint: &Endpoint) -> Result<Lease, EngineError> {
    let lone = Pool {
        endpoints: vec![endpoint.clone()],
        ..pool.clone()
    };
    Replicas::default()
        .attempts(&lone, None, Turn::at_once())
        .next()
}

/// While another replica is left, one that says nothing gets half of the time.
fn patience(lease: &Lease, deadline: Instant) -> Instant {
    let now = Instant::now();
    let left = deadline.saturating_duration_since(now);
    if lease.others {
        now + left / 2
    } else {
        deadline
    }
}

/// The body with the model's name as the engine knows it.
fn renamed(pool: &Pool, body: Bytes) -> Bytes {
    match pool.upstream_model == pool.model {
        true => body,
        false => json_span::with_string(&body, "model", &pool.upstream_model),
    }
}

fn chat_body(pool: &Pool, mut body: Map<String, Value>) -> Bytes {
    body.insert(
        "model".to_owned(),
        Value::String(pool.upstream_model.clone()),
    );
    body.insert("stream".to_owned(), Value::Bool(true));
    body.insert("stream_options".to_owned(), json!({"include_usage": true}));
    Value::Object(body).to_string().into()
}

impl EmbeddingsRequest {
    fn new(pool: &Pool, inputs: &[String], deadline: Instant) -> Self {
        let model = &pool.upstream_model;
        let body = json!({"model": model, "input": inputs, "encoding_format": "float"});
        Self {
            body: body.to_string().into(),
            inputs: inputs.len(),
            deadline,
        }
    }
}

#[derive(Deserialize)]
struct WireWhole {
    choices: Option<Vec<IgnoredAny>>,
    error: Option<IgnoredAny>,
}

/// The bytes of a whole answer that is one.
async fn read_completion(
    target: &Target,
    response: Response<Answer>,
    until: Instant,
) -> Result<Bytes, EngineError> {
    let body = read_body(target, response, ANSWER_MAX, until).await?;
    match serde_json::from_slice::<WireWhole>(&body) {
        Ok(WireWhole {
            error: None,
            choices: Some(choices),
        }) if !choices.is_empty() => Ok(body),
        Ok(WireWhole { error: Some(_), .. }) => {
            let hidden = target.hidden();
            let reply = Reply {
                pool: &target.pool,
                status: 200,
                retry_after: None,
                hidden: &hidden,
            };
            Err(reply.into_error(&body))
        }
        _ => Err(target.bad_event("something that is not a completion")),
    }
}

#[derive(Deserialize)]
struct WireEmbeddings {
    data: Vec<WireEmbedding>,
    usage: Option<WireEmbeddingsUsage>,
}

#[derive(Deserialize)]
struct WireEmbeddingsUsage {
    prompt_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct WireEmbedding {
    index: usize,
    embedding: Vec<f32>,
}

async fn read_embeddings(
    target: &Target,
    response: Response<Answer>,
    expected: usize,
    until: Instant,
) -> Result<Embedded, EngineError> {
    let most = (ANSWER_MAX, "a list of embeddings");
    let mut wire: WireEmbeddings = read_json(target, response, most, until).await?;
    wire.data.sort_by_key(|embedding| embedding.index);
    if wire.data.len() != expected {
        let what = format!("{} embeddings for {expected} inputs", wire.data.len());
        return Err(target.bad_event(what));
    }
    let vectors = wire.data.into_iter().map(|embedding| embedding.embedding);
    Ok(Embedded {
        vectors: vectors.collect(),
        tokens: wire.usage.and_then(|usage| usage.prompt_tokens),
    })
}
