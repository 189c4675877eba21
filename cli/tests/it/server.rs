//! Where models are downloaded from in tests: answers over HTTP that are given one after the other.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

/// A server that gives each connection the next answer, and none to those after the last.
pub(crate) struct Server {
    pub(crate) address: String,
    /// The head of every request.
    pub(crate) asked: Receiver<String>,
}

impl Server {
    pub(crate) fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, asked) = channel();
        std::thread::spawn(move || {
            let (mut answers, mut open) = (answers.into_iter(), Vec::new());
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // The test has ended when nobody listens.
                if sender.send(head(&mut stream)).is_err() {
                    return;
                }
                match answers.next() {
                    Some(answer) => stream.write_all(&answer).unwrap(),
                    None => open.push(stream),
                }
            }
        });
        Self { address, asked }
    }
}

fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A whole answer; each of `headers` ends its line.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}
