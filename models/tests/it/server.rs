//! A small HTTP server: one file, ranges, and a connection that breaks on demand.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How the server behaves.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    pub(crate) file: Vec<u8>,
    /// The connection breaks after as many bytes, as often as this list is long.
    pub(crate) breaks: Vec<usize>,
    /// None when empty.
    pub(crate) etag: &'static str,
    /// Ranges are answered from the start of the file.
    pub(crate) misplaced: bool,
    pub(crate) status: Option<&'static str>,
    /// What stands under `/api/`, where `status` does not hold.
    pub(crate) listing: Option<&'static str>,
    /// Every other path is elsewhere.
    pub(crate) elsewhere: Option<String>,
}

/// The server and what it was asked.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    behaviour: Arc<Mutex<Behaviour>>,
    ranges: Arc<Mutex<Vec<Option<usize>>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/models/a.gguf", listener.local_addr().unwrap());
        let server = Self {
            url,
            behaviour: Arc::new(behaviour.into()),
            ranges: Arc::default(),
            requests: Arc::default(),
        };
        let serve = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serve = serve.clone();
                tokio::spawn(async move { serve.answer(stream).await });
            }
        });
        server
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    /// First byte of each request's range, in order.
    pub(crate) fn ranges(&self) -> Vec<Option<usize>> {
        self.ranges.lock().unwrap().clone()
    }

    /// Each request's head, header names in lower case, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    async fn answer(&self, mut stream: TcpStream) {
        let (mut range, mut if_range) = (None, None);
        let mut head = String::new();
        let mut lines = BufReader::new(&mut stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            head.push_str(&line);
            head.push('\n');
            let Some((name, value)) = line.split_once(": ") else {
                if line.is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "range" => {
                    range = value
                        .strip_prefix("bytes=")
                        .and_then(|v| v.strip_suffix('-')?.parse().ok());
                }
                "if-range" => if_range = Some(value.to_owned()),
                _ => {}
            }
        }
        self.ranges.lock().unwrap().push(range);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.requests.lock().unwrap().push(head);
        let (head, body) = match self.aside(&path) {
            Some(aside) => aside,
            None => self.response(range, if_range),
        };
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&body).await;
        let _ = stream.shutdown().await;
    }

    /// The answer where it is not the file.
    fn aside(&self, path: &str) -> Option<(String, Vec<u8>)> {
        let behaviour = self.behaviour.lock().unwrap();
        if let Some(listing) = behaviour.listing.filter(|_| path.starts_with("/api/")) {
            let length = listing.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            return Some((head, listing.into()));
        }
        let elsewhere = behaviour.elsewhere.as_ref()?;
        let head =
            format!("HTTP/1.1 302 Found\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n");
        Some((head, Vec::new()))
    }

    fn response(&self, range: Option<usize>, if_range: Option<String>) -> (String, Vec<u8>) {
        let mut behaviour = self.behaviour.lock().unwrap();
        let etag = behaviour.etag;
        let total = behaviour.file.len();
        if let Some(status) = behaviour.status {
            return (
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"),
                Vec::new(),
            );
        }
        let range = range.filter(|_| if_range.is_none_or(|tag| tag == etag));
        let from = if behaviour.misplaced {
            0
        } else {
            range.unwrap_or(0)
        };
        if from >= total && range.is_some() {
            let head = "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\n";
            return (
                format!("{head}content-range: bytes */{total}\r\n\r\n"),
                Vec::new(),
            );
        }
        let status = if range.is_some() {
            "206 Partial Content"
        } else {
            "200 OK"
        };
        let length = total - from;
        let mut head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n");
        if !etag.is_empty() {
            head.push_str(&format!("etag: {etag}\r\n"));
        }
        if range.is_some() {
            let last = total - 1;
            head.push_str(&format!("content-range: bytes {from}-{last}/{total}\r\n"));
        }
        head.push_str("\r\n");
        let mut body = behaviour.file[from..].to_vec();
        if !behaviour.breaks.is_empty() {
            body.truncate(behaviour.breaks.remove(0));
        }
        (head, body)
    }
}
