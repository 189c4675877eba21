//! A small load generator: requests at a steady rate, requests as fast as they are answered, and open streams.
//!
//! One connection carries one request at a time. An answer that is no 200 or breaks is an infinite latency.

use crate::upstream::{MODEL, now_ns};
use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// An answer that is not whole by then counts as none.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that a steady rate begins with.
const CONNECTIONS: usize = 8;

/// Who is asked, and how.
#[derive(Clone, Debug)]
pub struct Address {
    /// Host and port.
    pub authority: String,
    /// Path of the chat.
    pub path: &'static str,
    /// What it needs to be told beside the body.
    pub headers: HeaderMap,
    /// The model to name.
    pub model: &'static str,
}

impl Address {
    /// A server that is asked for the scripted engine's model without more ado.
    pub fn plain(authority: &str) -> Self {
        Self {
            authority: authority.to_owned(),
            path: "/v1/chat/completions",
            headers: HeaderMap::new(),
            model: MODEL,
        }
    }

    /// A question that was not asked before, so that nothing can answer it but the engine.
    fn request(&self, stream: bool) -> anyhow::Result<Request<Full<Bytes>>> {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let number = ASKED.fetch_add(1, Ordering::Relaxed);
        let messages = json!([
            {"role": "system", "content": "You are a helpful assistant. Answer in one sentence."},
            {"role": "user", "content": format!("What is a weir, and what is it for? ({number})")},
        ]);
        let body = json!({"model": self.model, "messages": messages, "stream": stream, "max_tokens": 64, "temperature": 0});
        let mut request = Request::new(Full::new(Bytes::from(body.to_string())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.parse()?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(header::HOST, self.authority.parse()?);
        headers.insert(header::CONTENT_TYPE, "application/json".parse()?);
        Ok(request)
    }
}

/// One connection.
pub struct Connection {
    address: Arc<Address>,
    sender: SendRequest<Full<Bytes>>,
}

/// A stream whose first event is there.
pub struct Stream {
    _connection: Connection,
    body: Incoming,
    line: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is there.
    pub async fn open(address: &Arc<Address>) -> anyhow::Result<Self> {
        let connection = TcpStream::connect(&address.authority).await?;
        connection.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(connection)).await?;
        tokio::spawn(async move {
            // Whoever waits for an answer is told.
            let _ = driver.await;
        });
        Ok(Self {
            address: Arc::clone(address),
            sender,
        })
    }

    async fn send(&mut self, stream: bool) -> anyhow::Result<Response<Incoming>> {
        self.sender.ready().await?;
        let request = self.address.request(stream)?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let body = response.into_body().collect().await?.to_bytes();
            let said = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
            anyhow::bail!("{status}: {said}");
        }
        Ok(response)
    }

    /// Asks for a whole answer; milliseconds until all of it is there.
    ///
    /// # Errors
    /// It is no 200, it breaks, or it takes longer than 30 s.
    pub async fn ask(&mut self) -> anyhow::Result<f64> {
        let started = Instant::now();
        let asked = async {
            let answer = self
                .send(false)
                .await?
                .into_body()
                .collect()
                .await?
                .to_bytes();
            ensure!(answer.ends_with(b"}"), "an answer that is no JSON");
            anyhow::Ok(())
        };
        tokio::time::timeout(TIMEOUT, asked)
            .await
            .context("an answer in time")??;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }

    /// Asks for a stream and waits for its first event.
    ///
    /// # Errors
    /// It is no 200, it breaks, or it takes longer than 30 s.
    pub async fn stream(mut self) -> anyhow::Result<Stream> {
        let begun = async {
            let body = self.send(true).await?.into_body();
            let mut stream = Stream {
                _connection: self,
                body,
                line: Vec::new(),
            };
            let mut first = Vec::new();
            while first.is_empty() {
                ensure!(stream.read(&mut first).await?, "a stream without an event");
            }
            Ok(stream)
        };
        tokio::time::timeout(TIMEOUT, begun)
            .await
            .context("a first event in time")?
    }
}

impl Stream {
    /// Reads on; adds how many milliseconds each event was on its way. False at the end.
    async fn read(&mut self, delays: &mut Vec<f64>) -> anyhow::Result<bool> {
        let Some(frame) = self.body.frame().await else {
            return Ok(false);
        };
        let now = now_ns();
        for byte in frame?.into_data().unwrap_or_default() {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            if let Some(made) = made_at(&self.line) {
                delays.push(now.saturating_sub(made) as f64 / 1e6);
            }
            self.line.clear();
        }
        Ok(true)
    }

    /// Reads to the end; how many milliseconds each event was on its way.
    ///
    /// # Errors
    /// It breaks, or takes longer than 30 s.
    pub async fn finish(mut self) -> anyhow::Result<Vec<f64>> {
        let mut delays = Vec::new();
        let read = async {
            while self.read(&mut delays).await? {}
            anyhow::Ok(())
        };
        let read = tokio::time::timeout(TIMEOUT, read).await;
        read.context("the end of a stream in time")??;
        Ok(delays)
    }
}

/// The time in the text of an event, however its JSON is spaced.
fn made_at(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?;
    let (_, text) = line.split_once("\"content\"")?;
    let text = text.trim_start_matches([':', ' ', '"']);
    text.split_once(' ')?.0.parse().ok()
}

/// Asks `count` times, one request each `gap` whether those before are answered or not; the latencies in milliseconds.
///
/// # Errors
/// Nobody is there.
pub async fn steadily(
    address: &Arc<Address>,
    count: usize,
    gap: Duration,
) -> anyhow::Result<Vec<f64>> {
    let opened = try_join_all((0..CONNECTIONS).map(|_| Connection::open(address))).await?;
    let idle = Arc::new(Mutex::new(opened));
    let mut pace = tokio::time::interval(gap);
    let mut asked = Vec::new();
    // The first request of a connection is no measurement.
    for number in 0..CONNECTIONS + count {
        pace.tick().await;
        let (address, idle) = (Arc::clone(address), Arc::clone(&idle));
        asked.push(tokio::spawn(async move {
            let kept = {
                let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                if number < CONNECTIONS {
                    idle.pop()
                } else {
                    (!idle.is_empty()).then(|| idle.remove(0))
                }
            };
            let mut connection = match kept {
                Some(connection) => connection,
                None => Connection::open(&address).await?,
            };
            let latency = connection.ask().await?;
            idle.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
            anyhow::Ok(latency)
        }));
    }
    let mut latencies = Vec::new();
    for asked in asked {
        latencies.push(asked.await?.unwrap_or(f64::INFINITY));
    }
    Ok(latencies.split_off(CONNECTIONS))
}

/// What came of a closed loop.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// Whole answers.
    pub answers: u64,
    /// Answers a second.
    pub rate: f64,
}

/// Asks over so many connections, each again as soon as it is answered.
///
/// # Errors
/// Nobody is there, or a request fails.
pub async fn closed(
    address: &Arc<Address>,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Closed> {
    let mut opened = try_join_all((0..connections).map(|_| Connection::open(address))).await?;
    for connection in &mut opened {
        connection.ask().await?;
    }
    let started = Instant::now();
    let asking = opened.into_iter().map(|mut connection| {
        tokio::spawn(async move {
            let mut answered = 0u64;
            while started.elapsed() < time {
                connection.ask().await?;
                answered += 1;
            }
            anyhow::Ok(answered)
        })
    });
    let mut answers = 0;
    for asked in try_join_all(asking).await? {
        answers += asked?;
    }
    let rate = answers as f64 / started.elapsed().as_secs_f64();
    Ok(Closed { answers, rate })
}

/// Opens so many streams, some at a time, and waits for the first event of each.
///
/// # Errors
/// Nobody is there, or a stream fails.
pub async fn open_streams(address: &Arc<Address>, count: usize) -> anyhow::Result<Vec<Stream>> {
    let mut streams = Vec::new();
    while streams.len() < count {
        let batch = (count - streams.len()).min(32);
        let opening = (0..batch).map(|_| async { Connection::open(address).await?.stream().await });
        streams.extend(try_join_all(opening).await?);
    }
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Upstream;

    #[test]
    fn the_time_of_an_event_is_read_however_it_is_spaced() {
        for line in [
            r#"data: {"delta":{"content":"12 "}}"#,
            r#"data: {"delta": {"content": "12 "}}"#,
        ] {
            assert_eq!(made_at(line.as_bytes()), Some(12));
        }
        assert_eq!(made_at(b"data: [DONE]"), None);
    }

    #[tokio::test]
    async fn the_scripted_engine_is_asked_and_streams_what_it_was_told() {
        let upstream = Upstream::start().await.unwrap();
        let address = Arc::new(Address::plain(upstream.url.trim_start_matches("http://")));
        let latencies = steadily(&address, 5, Duration::from_millis(1))
            .await
            .unwrap();
        assert!(latencies.len() == 5 && latencies.iter().all(|latency| latency.is_finite()));
        assert!(
            closed(&address, 2, Duration::from_millis(20))
                .await
                .unwrap()
                .answers
                > 0
        );
        upstream.streams(7, Duration::ZERO);
        for stream in open_streams(&address, 3).await.unwrap() {
            // The first frame may have brought more than one.
            assert!(stream.finish().await.unwrap().len() < 7);
        }
    }
}
