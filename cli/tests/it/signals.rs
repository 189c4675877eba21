//! Ctrl-C as a terminal sends it: to `weir up` and everything in its process group, once and twice.

use crate::support::{Stage, until};
use reqwest::Response;
use serde_json::{Value, json};
use std::net::TcpStream;
use tokio::runtime::Runtime;
use weir_testenv::servable_model;

/// A stream that has begun and does not end before `tokens` are there.
struct Talking {
    runtime: Runtime,
    response: Response,
    read: Vec<u8>,
}

impl Talking {
    fn start(address: &Value, model: &str, tokens: u32) -> Self {
        let url = format!("{}/v1/chat/completions", address.as_str().unwrap());
        let body = json!({
            "model": model,
            "max_tokens": tokens,
            "ignore_eos": true,
            "stream": true,
            "messages": [{"role": "user", "content": "Tell a long story."}],
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let (response, first) = runtime.block_on(async {
            let mut response = client.post(url).json(&body).send().await.unwrap();
            let first = response.chunk().await.unwrap().unwrap();
            (response, first)
        });
        assert_eq!(response.status().as_u16(), 200);
        Self {
            runtime,
            response,
            read: first.to_vec(),
        }
    }

    /// Reads to the end: the text, and whether the connection broke.
    fn rest(mut self) -> (String, bool) {
        let broke = loop {
            match self.runtime.block_on(self.response.chunk()) {
                Ok(Some(chunk)) => self.read.extend(chunk),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        (String::from_utf8_lossy(&self.read).into_owned(), broke)
    }
}

/// A gateway with room for a long answer, which is not ended by its own time limit.
fn serve(stage: &mut Stage) -> Option<Value> {
    let model = servable_model()?;
    let text = stage.stack_of(&["small"], &model, "");
    let text = text.replace("contextTokens: 512", "contextTokens: 4096");
    stage.replace_stack(&(text + "  limits: {requestTimeout: 10m}\n"));
    Some(stage.up_as_job()["address"].clone())
}

#[test]
fn the_first_ctrl_c_lets_a_stream_finish_and_takes_nothing_new() {
    let mut stage = Stage::new();
    let Some(address) = serve(&mut stage) else {
        return;
    };
    let model = format!("small-{}", stage.mark);
    let talking = Talking::start(&address, &model, 300);
    stage.ctrl_c();
    stage.status_when("it drains", |status| status["phase"] == "draining");
    let listener = address.as_str().unwrap().trim_start_matches("http://");
    until("nothing new is taken", || {
        TcpStream::connect(listener).is_err().then_some(())
    });
    let (text, broke) = talking.rest();
    assert!(!broke && text.contains("data: [DONE]"), "{text}");
    assert!(!text.contains("\"error\""), "{text}");
    assert_eq!(stage.ended(), Some(0), "{}", stage.said());
    assert!(stage.said().contains("Ctrl-C"), "{}", stage.said());
    stage.no_process_left();
}

#[test]
fn the_second_ctrl_c_ends_everything_in_the_middle_of_a_stream() {
    let mut stage = Stage::new();
    let Some(address) = serve(&mut stage) else {
        return;
    };
    let model = format!("small-{}", stage.mark);
    let talking = Talking::start(&address, &model, 3900);
    stage.ctrl_c();
    stage.status_when("it drains", |status| status["phase"] == "draining");
    assert!(!stage.processes().is_empty(), "the engine still answers");
    stage.ctrl_c();
    assert_eq!(stage.ended(), Some(0), "{}", stage.said());
    stage.no_process_left();
    let (text, _) = talking.rest();
    assert!(!text.contains("data: [DONE]"), "it was waited for: {text}");
}
