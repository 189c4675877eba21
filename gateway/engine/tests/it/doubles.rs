//! In-process engines, each with one behaviour. They speak raw HTTP/1.1 where a fault needs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use weir_engine::{ChatRequest, ChatStream, EngineError, Engines, Priority};
use weir_plan::{Endpoint, Pool, Secret};

/// What a double does with every connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    /// Answers `hello world`, in chunks of this many bytes.
    Answers { chunk: usize },
    /// Answers `hello world` and closes the connection.
    AnswersOnce,
    /// Answers without `[DONE]`, with CRLF and comments.
    AnswersOddly,
    /// Takes the request and says nothing.
    HangsBeforeHead,
    /// Sends one token and says nothing more.
    HangsInTheMiddle,
    /// Closes the connection instead of answering.
    ClosesAtOnce,
    /// Sends the head and closes.
    ClosesAfterHead,
    /// Sends one token and closes.
    ClosesInTheMiddle,
    /// Sends one token, then something that is not JSON.
    SendsGarbage,
    /// Sends one token, then an error event.
    SendsErrorEvent,
    /// Answers with this status and body.
    Refuses {
        status: u16,
        head: &'static str,
        body: &'static str,
    },
    /// Answers with a stream of these bytes, and ends it as an HTTP body ends.
    Streams(&'static str),
    /// Answers `/v1/embeddings` with two vectors, out of order.
    Embeds,
}

/// A running double.
pub(crate) struct Double {
    pub(crate) url: String,
    requests: Arc<AtomicUsize>,
    open: watch::Receiver<usize>,
    last: watch::Receiver<String>,
    task: tokio::task::JoinHandle<()>,
}

impl Double {
    pub(crate) async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let (opened, open) = watch::channel(0);
        let (said, last) = watch::channel(String::new());
        let counted = Arc::clone(&requests);
        let opened = Arc::new(opened);
        let said = Arc::new(said);
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (counted, opened, said) = (counted.clone(), opened.clone(), said.clone());
                tokio::spawn(async move {
                    opened.send_modify(|open| *open += 1);
                    while let Some(request) = read_request(&mut socket).await {
                        counted.fetch_add(1, Ordering::SeqCst);
                        said.send_replace(request);
                        if serve(&mut socket, does).await.is_none() {
                            break;
                        }
                    }
                    opened.send_modify(|open| *open -= 1);
                });
            }
        });
        Self {
            url,
            requests,
            open,
            last,
            task,
        }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        *self.open.borrow()
    }

    pub(crate) fn last_request(&self) -> String {
        self.last.borrow().clone()
    }

    /// Waits until every connection to this double is closed.
    pub(crate) async fn all_closed(&mut self) {
        let closed = self.open.wait_for(|open| *open == 0);
        tokio::time::timeout(Duration::from_secs(5), closed)
            .await
            .unwrap()
            .unwrap();
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = socket
            .read(&mut buffer)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        read.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse().ok())?
        });
        if body.len() >= length.unwrap_or(0usize) {
            return Some(text);
        }
    }
}

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const ROLE: &str = r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}]}"#;

fn token(text: &str) -> String {
    format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

fn whole_answer() -> String {
    let end = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#;
    let (hello, world) = (token("hello"), token(" world"));
    format!("{ROLE}\n\n{hello}{world}{end}\n\n{usage}\n\ndata: [DONE]\n\n")
}

async fn chunk(socket: &mut TcpStream, data: &str) -> Option<()> {
    let framed = format!("{:x}\r\n{data}\r\n", data.len());
    socket.write_all(framed.as_bytes()).await.ok()?;
    socket.flush().await.ok()
}

async fn head_and(socket: &mut TcpStream, data: &[&str]) -> Option<()> {
    socket.write_all(HEAD.as_bytes()).await.ok()?;
    for data in data {
        chunk(socket, data).await?;
    }
    Some(())
}

async fn answer_once(socket: &mut TcpStream) -> Option<()> {
    head_and(socket, &[&whole_answer()]).await?;
    socket.write_all(b"0\r\n\r\n").await.ok()?;
    None
}

/// Waits for the client to hang up: returns when it did.
async fn hang(socket: &mut TcpStream) -> Option<()> {
    let mut buffer = [0; 1];
    while socket.read(&mut buffer).await.ok()? > 0 {}
    None
}

/// `None` ends the connection.
async fn serve(socket: &mut TcpStream, does: Does) -> Option<()> {
    match does {
        Does::Answers { chunk: size } => {
            head_and(socket, &[]).await?;
            for part in whole_answer().as_bytes().chunks(size) {
                chunk(socket, std::str::from_utf8(part).unwrap()).await?;
            }
            socket.write_all(b"0\r\n\r\n").await.ok()
        }
        Does::AnswersOnce => answer_once(socket).await,
        Does::AnswersOddly => {
            let answer = whole_answer()
                .replace("data: [DONE]\n\n", "")
                .replace('\n', "\r\n");
            head_and(socket, &[": ping\r\n\r\n", &answer]).await?;
            socket.write_all(b"0\r\n\r\n").await.ok()
        }
        Does::HangsBeforeHead => hang(socket).await,
        Does::HangsInTheMiddle => {
            head_and(socket, &[&token("hello")]).await?;
            hang(socket).await
        }
        Does::ClosesAtOnce => None,
        Does::ClosesAfterHead => {
            head_and(socket, &[&format!("{ROLE}\n\n")]).await?;
            None
        }
        Does::ClosesInTheMiddle => {
            head_and(socket, &[&token("hello")]).await?;
            None
        }
        Does::SendsGarbage => {
            head_and(socket, &[&token("hello"), "data: <html>\n\n"]).await?;
            hang(socket).await
        }
        Does::SendsErrorEvent => {
            let error =
                r#"data: {"error":{"code":500,"message":"worker died","type":"server_error"}}"#;
            head_and(
                socket,
                &[&token("hello"), error, "\n\n", "data: [DONE]\n\n"],
            )
            .await?;
            hang(socket).await
        }
        Does::Refuses { status, head, body } => {
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status} X\r\n{head}content-length: {length}\r\n\r\n{body}");
            socket.write_all(answer.as_bytes()).await.ok()
        }
        Does::Streams(bytes) => {
            head_and(socket, &[]).await?;
            if !bytes.is_empty() {
                chunk(socket, bytes).await?;
            }
            socket.write_all(b"0\r\n\r\n").await.ok()
        }
        Does::Embeds => {
            let body = r#"{"data":[{"index":1,"embedding":[0.0,1.0]},{"index":0,"embedding":[1.0,0.0]}],"usage":{"prompt_tokens":7}}"#;
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            socket.write_all(answer.as_bytes()).await.ok()
        }
    }
}

/// A pool `small` of these doubles; the key is one that must never be shown.
pub(crate) fn pool(urls: &[&str]) -> Pool {
    let endpoint = |url: &&str| Endpoint {
        url: (*url).to_owned(),
        api_key: Some(Secret::new("sk-never-shown")),
    };
    Pool {
        model: "smol".to_owned(),
        upstream_model: "smol-upstream".to_owned(),
        context_tokens: 2048,
        slots: 8,
        endpoints: urls.iter().map(endpoint).collect(),
        ..Pool::local("small")
    }
}

/// An address where nothing listens.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

pub(crate) fn request(limit: Duration) -> ChatRequest {
    let body = serde_json::json!({"messages": [{"role": "user", "content": "hi"}]});
    let serde_json::Value::Object(body) = body else {
        unreachable!()
    };
    ChatRequest {
        body,
        prefix: None,
        priority: Priority::Normal,
        deadline: Instant::now() + limit,
    }
}

/// Asks with a generous deadline.
pub(crate) async fn ask(engines: &Engines, pool: &Pool) -> Result<ChatStream, EngineError> {
    engines.chat(pool, request(Duration::from_secs(20))).await
}

/// Reads to the end: the text, and the error that ended it.
pub(crate) async fn read(mut stream: ChatStream) -> (String, Option<EngineError>) {
    use futures_util::StreamExt;
    let mut text = String::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => text.push_str(event.delta.as_deref().unwrap_or("")),
            Err(error) => return (text, Some(error)),
        }
    }
    (text, None)
}
