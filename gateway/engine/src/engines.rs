//! `Engines`: the calls that the gateway makes to a pool, each tried on one replica after another.
//!
//! Retries happen only while nothing of an answer has been read, and only inside the pool that was handed in.
//! Reading on: `replica.rs` for who is asked next, `client.rs` for the wire.

use crate::client::{Call, Client, Target, read_json};
use crate::error::{EngineError, Phase};
use crate::json_span;
use crate::prefix::Prefix;
use crate::replica::{Lease, Replicas};
use crate::stream::ChatStream;
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;
use weir_plan::{Endpoint, Pool};

const CHAT: &str = "/v1/chat/completions";
/// Largest answer to an embeddings request that is read.
const EMBEDDINGS_MAX: usize = 64 << 20;

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
    /// When the whole answer must be there.
    pub deadline: Instant,
}

/// An embeddings request for one pool.
struct EmbeddingsRequest {
    body: Bytes,
    inputs: usize,
    deadline: Instant,
}

/// The body of a passed-through answer. Dropping it closes the connection.
#[derive(Debug)]
pub struct ForwardBody {
    target: Target,
    lease: Lease,
    first: Option<Bytes>,
    body: Option<Incoming>,
    since: Instant,
    deadline: Pin<Box<Sleep>>,
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
        let deadline = request.deadline;
        let body = chat_body(pool, request.body);
        let mut attempts = (self.inner.replicas).attempts(pool, request.prefix.as_ref());
        loop {
            let lease = attempts.next()?;
            let target = Target::new(pool, &lease.endpoint);
            match self.chat_once(target, lease, body.clone(), deadline).await {
                Ok(stream) => return Ok(stream),
                Err(error) => attempts.failed(error)?,
            }
        }
    }

    /// Passes a body through to a pool and its answer back, bytes untouched. The model's name is replaced only when the
    /// engine knows the model by another one. Returns once the first bytes of a 2xx answer are there.
    ///
    /// # Errors
    /// The last replica's error, or why no replica was asked. Answers other than 2xx are errors too.
    pub async fn forward(
        &self,
        pool: &Pool,
        request: ForwardRequest<'_>,
    ) -> Result<Response<ForwardBody>, EngineError> {
        let ForwardRequest {
            path,
            body,
            prefix,
            deadline,
        } = request;
        let body = match pool.upstream_model == pool.model {
            true => body,
            false => json_span::with_string(&body, "model", &pool.upstream_model),
        };
        let mut attempts = self.inner.replicas.attempts(pool, prefix.as_ref());
        loop {
            let mut lease = attempts.next()?;
            let target = Target::new(pool, &lease.endpoint);
            let until = patience(&lease, deadline);
            let call = Call {
                path,
                body: body.clone(),
                until,
            };
            let error = match self.inner.client.post(&target, call).await {
                Ok(response) => {
                    match forward_body(target, lease, response, until, deadline).await {
                        Ok(response) => return Ok(response),
                        Err(error) => error,
                    }
                }
                Err(error) => {
                    lease.failed(&error);
                    error
                }
            };
            attempts.failed(error)?;
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
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let request = EmbeddingsRequest::new(pool, inputs, deadline);
        let mut attempts = self.inner.replicas.attempts(pool, None);
        loop {
            let lease = attempts.next()?;
            let target = Target::new(pool, &lease.endpoint);
            match self.embeddings_once(&target, lease, &request).await {
                Ok(vectors) => return Ok(vectors),
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
        let (target, lease) = alone(pool, endpoint)?;
        let vectors = self.embeddings_once(&target, lease, &request).await?;
        Ok(vectors.first().map_or(0, Vec::len))
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
        let (target, lease) = alone(pool, endpoint)?;
        let stream = self
            .chat_once(target, lease, chat_body(pool, body), deadline)
            .await?;
        stream.read_to_end().await?;
        Ok(since.elapsed())
    }

    async fn embeddings_once(
        &self,
        target: &Target,
        mut lease: Lease,
        request: &EmbeddingsRequest,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let until = patience(&lease, request.deadline);
        let call = Call {
            path: "/v1/embeddings",
            body: request.body.clone(),
            until,
        };
        let read = match self.inner.client.post(target, call).await {
            Ok(response) => read_embeddings(target, response, request.inputs, until).await,
            Err(error) => Err(error),
        };
        match &read {
            Ok(_) => lease.succeeded(),
            Err(error) => lease.failed(error),
        }
        read
    }

    async fn chat_once(
        &self,
        target: Target,
        mut lease: Lease,
        body: Bytes,
        deadline: Instant,
    ) -> Result<ChatStream, EngineError> {
        let until = patience(&lease, deadline);
        let response = match self
            .inner
            .client
            .post(
                &target,
                Call {
                    path: CHAT,
                    body,
                    until,
                },
            )
            .await
        {
            Ok(response) => response,
            Err(error) => {
                lease.failed(&error);
                return Err(error);
            }
        };
        ChatStream::new(target, lease, response.into_body(), deadline)
            .begin(until)
            .await
    }
}

/// One endpoint, asked without regard to what is known of it.
fn alone(pool: &Pool, endpoint: &Endpoint) -> Result<(Target, Lease), EngineError> {
    let lone = Pool {
        endpoints: vec![endpoint.clone()],
        ..pool.clone()
    };
    let replicas = Replicas::default();
    let lease = replicas.attempts(&lone, None).next()?;
    Ok((Target::new(pool, endpoint), lease))
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

fn chat_body(pool: &Pool, mut body: Map<String, Value>) -> Bytes {
    body.insert(
        "model".to_owned(),
        Value::String(pool.upstream_model.clone()),
    );
    body.insert("stream".to_owned(), Value::Bool(true));
    body.insert("stream_options".to_owned(), json!({"include_usage": true}));
    Value::Object(body).to_string().into()
}

async fn forward_body(
    target: Target,
    lease: Lease,
    response: Response<Incoming>,
    until: Instant,
    deadline: Instant,
) -> Result<Response<ForwardBody>, EngineError> {
    let (head, body) = response.into_parts();
    let mut forward = ForwardBody {
        target,
        lease,
        first: None,
        body: Some(body),
        since: Instant::now(),
        deadline: Box::pin(tokio::time::sleep_until(deadline.into())),
    };
    match tokio::time::timeout_at(until.into(), forward.frame()).await {
        Ok(Some(Ok(frame))) => {
            forward.lease.answering();
            forward.first = frame.into_data().ok();
        }
        Ok(Some(Err(error))) => return Err(error),
        Ok(None) => {}
        Err(_) => {
            let error = forward.target.timed_out(Phase::FirstEvent, forward.since);
            return Err(forward.fail(error));
        }
    }
    Ok(Response::from_parts(head, forward))
}

impl ForwardBody {
    fn fail(&mut self, error: EngineError) -> EngineError {
        self.body = None;
        self.lease.failed(&error);
        error
    }
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

impl Body for ForwardBody {
    type Data = Bytes;
    type Error = EngineError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EngineError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => {
                let error = self.target.reset(Phase::Answer, Some(error));
                Poll::Ready(Some(Err(self.fail(error))))
            }
            Poll::Ready(None) => {
                self.body = None;
                self.lease.succeeded();
                Poll::Ready(None)
            }
            Poll::Pending => {
                if self.deadline.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let error = self.target.timed_out(Phase::Answer, self.since);
                Poll::Ready(Some(Err(self.fail(error))))
            }
        }
    }
}

#[derive(Deserialize)]
struct WireEmbeddings {
    data: Vec<WireEmbedding>,
}

#[derive(Deserialize)]
struct WireEmbedding {
    index: usize,
    embedding: Vec<f32>,
}

async fn read_embeddings(
    target: &Target,
    response: Response<Incoming>,
    expected: usize,
    until: Instant,
) -> Result<Vec<Vec<f32>>, EngineError> {
    let most = (EMBEDDINGS_MAX, "a list of embeddings");
    let mut wire: WireEmbeddings = read_json(target, response, most, until).await?;
    wire.data.sort_by_key(|embedding| embedding.index);
    if wire.data.len() != expected {
        let what = format!("{} embeddings for {expected} inputs", wire.data.len());
        return Err(target.bad_event(what));
    }
    Ok(wire
        .data
        .into_iter()
        .map(|embedding| embedding.embedding)
        .collect())
}
