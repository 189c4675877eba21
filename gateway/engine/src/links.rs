//! Connections to engines: each carries one request at a time and is driven by the task that waits for its answer.
//!
//! No task and no channel of its own stands between a request and its socket: an event of an answer wakes nobody but who reads
//! it, and dropping an answer closes its connection at once. HTTP/1.1 alone, which all engines speak. Reading on:
//! `client.rs`, which builds the requests; `trust.rs` for whom a connection believes.

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tower::ServiceExt;

/// Below the five seconds after which llama.cpp closes an idle connection, so that none is reused as it closes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// How often connections that have waited for that long are looked for.
const TIDIED_EVERY: Duration = Duration::from_secs(1);

/// Connections made by one connector, and those that wait for their next request. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    connector: HttpsConnector<HttpConnector>,
    idle: Arc<Mutex<Idle>>,
}

/// Why a request got no head of an answer.
#[derive(Debug)]
pub(crate) enum LinkError {
    /// No connection came about.
    Connect(Box<dyn Error + Send + Sync>),
    /// The connection broke.
    Broke(hyper::Error),
}

#[derive(Debug, Default)]
struct Idle {
    by_origin: HashMap<Uri, Vec<(Box<Link>, Instant)>>,
    /// Whether somebody closes those that nobody asked for in time.
    tidied: bool,
}

/// One connection.
#[derive(Debug)]
struct Link {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once the connection is closed.
    driver: Option<Connection<MaybeHttpsStream<TokioIo<TcpStream>>, Full<Bytes>>>,
}

/// The body of an answer, with the connection that it comes from. When all of it has been read the connection waits for its
/// next request.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Incoming,
    /// `None` once the connection is given back.
    link: Option<Box<Link>>,
    home: Weak<Mutex<Idle>>,
    origin: Uri,
}

impl Links {
    pub(crate) fn new(connector: HttpsConnector<HttpConnector>) -> Self {
        Self {
            connector,
            idle: Arc::default(),
        }
    }

    /// Sends a request in origin form to `origin` (scheme, host and port) and waits for the head of its answer. One that a kept
    /// connection did not take, because the engine had just closed it, goes over another.
    pub(crate) async fn send(
        &self,
        origin: &Uri,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Answer>, LinkError> {
        loop {
            let (mut link, is_kept) = match self.kept(origin).await {
                Some(link) => (link, true),
                None => (self.connect(origin).await?, false),
            };
            let mut sent = pin!(link.sender.try_send_request(request));
            let sent = poll_fn(|cx| {
                let polled = sent.as_mut().poll(cx);
                if polled.is_ready() {
                    return polled;
                }
                link.drive(cx);
                sent.as_mut().poll(cx)
            });
            match sent.await {
                Ok(response) => {
                    let home = Arc::downgrade(&self.idle);
                    return Ok(response.map(|body| Answer {
                        body,
                        link: Some(link),
                        home,
                        origin: origin.clone(),
                    }));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if is_kept => request = unsent,
                    _ => return Err(LinkError::Broke(error.into_error())),
                },
            }
        }
    }

    /// The connection used last of those that wait and are still open.
    async fn kept(&self, origin: &Uri) -> Option<Box<Link>> {
        loop {
            let kept = lock(&self.idle).by_origin.get_mut(origin)?.pop();
            let (mut link, since) = kept?;
            poll_fn(|cx| {
                link.drive(cx);
                Poll::Ready(())
            })
            .await;
            if link.sender.is_ready() && since.elapsed() < IDLE_TIMEOUT {
                return Some(link);
            }
        }
    }

    async fn connect(&self, origin: &Uri) -> Result<Box<Link>, LinkError> {
        let connecting = self.connector.clone().oneshot(origin.clone());
        let io = connecting.await.map_err(LinkError::Connect)?;
        let (sender, driver) = http1::handshake(io).await.map_err(LinkError::Broke)?;
        let driver = Some(driver);
        Ok(Box::new(Link { sender, driver }))
    }
}

impl Link {
    /// Reads and writes what can be. What comes of it is told to who waits for the answer, failures too.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            self.driver = None;
        }
    }
}

impl Answer {
    /// The answer has been read: its connection waits for the next request, unless it must be closed.
    fn give_back(&mut self, cx: &mut Context<'_>) {
        let (Some(mut link), Some(home)) = (self.link.take(), self.home.upgrade()) else {
            return;
        };
        link.drive(cx);
        if !link.sender.is_ready() {
            return;
        }
        let mut idle = lock(&home);
        let kept = idle.by_origin.entry(self.origin.clone()).or_default();
        kept.push((link, Instant::now()));
        if !std::mem::replace(&mut idle.tidied, true) {
            tokio::spawn(tidy(Weak::clone(&self.home)));
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let answer = &mut *self;
        let mut frame = Pin::new(&mut answer.body).poll_frame(cx);
        if let (Poll::Pending, Some(link)) = (&frame, &mut answer.link) {
            link.drive(cx);
            frame = Pin::new(&mut answer.body).poll_frame(cx);
        }
        match &frame {
            Poll::Ready(None) => answer.give_back(cx),
            Poll::Ready(Some(Ok(_))) if answer.body.is_end_stream() => answer.give_back(cx),
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Closes connections that have waited for too long, as long as there are any.
async fn tidy(idle: Weak<Mutex<Idle>>) {
    loop {
        tokio::time::sleep(TIDIED_EVERY).await;
        let Some(idle) = idle.upgrade() else {
            return;
        };
        let mut idle = lock(&idle);
        idle.by_origin.retain(|_, kept| {
            kept.retain(|(_, since)| since.elapsed() < IDLE_TIMEOUT);
            !kept.is_empty()
        });
        if idle.by_origin.is_empty() {
            idle.tidied = false;
            return;
        }
    }
}

/// The data behind this lock is valid after every statement.
fn lock(idle: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
