//! Changes and crashes while clients ask without a pause: what another pool could serve, no client loses.

use crate::support::{Stage, until};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use weir_testenv::servable_model;

/// What one request got.
#[derive(Clone, Debug)]
struct Reply {
    status: u16,
    model: String,
    text: String,
}

impl Reply {
    /// Whether a user would call it answered.
    fn answered(&self, streamed: bool) -> bool {
        let whole = !streamed || self.text.contains("data: [DONE]");
        self.status == 200 && whole && !self.text.contains("\"error\"")
    }

    /// Whether a stream had begun and then said that its engine failed: after the first word nothing can answer in its place.
    fn cut_off(&self) -> bool {
        let begun = self.text.contains("\"delta\":{\"content\":");
        self.status == 200 && begun && self.text.contains("\"code\":\"engine_failed\"")
    }
}

/// Clients that ask the router again and again, every other one for a stream.
struct Clients {
    stop: Arc<AtomicBool>,
    replies: Arc<Mutex<Vec<Reply>>>,
    failed: Arc<Mutex<Vec<Reply>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(address: &Value, count: usize) -> Self {
        let url = chat_url(address);
        let mut clients = Self {
            stop: Arc::default(),
            replies: Arc::default(),
            failed: Arc::default(),
            threads: Vec::new(),
        };
        for number in 0..count {
            let (url, stream) = (url.clone(), number % 2 == 1);
            let stop = Arc::clone(&clients.stop);
            let (replies, failed) = (Arc::clone(&clients.replies), Arc::clone(&clients.failed));
            clients.threads.push(std::thread::spawn(move || {
                let asker = Asker::new();
                while !stop.load(Ordering::SeqCst) {
                    let reply = asker.ask(&url, &question("auto", stream));
                    if !reply.answered(stream) {
                        failed.lock().unwrap().push(reply.clone());
                    }
                    replies.lock().unwrap().push(reply);
                }
            }));
        }
        clients
    }

    fn replies(&self) -> Vec<Reply> {
        self.replies.lock().unwrap().clone()
    }

    /// Waits for this many further replies and returns the last.
    fn until_more(&self, count: usize) -> Reply {
        let enough = self.replies().len() + count;
        until("the clients have more replies", || {
            let replies = self.replies();
            replies.last().filter(|_| replies.len() >= enough).cloned()
        })
    }

    /// Lets every client finish its request. Nothing may have failed but what is excused.
    fn stop(mut self, excused: impl Fn(&Reply) -> bool) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        let mut failed = self.failed.lock().unwrap();
        failed.retain(|reply| !excused(reply));
        let asked = self.replies().len();
        let (count, first) = (failed.len(), failed.first());
        assert!(count == 0, "{count} of {asked} failed: {first:#?}");
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// One client with its own connections.
struct Asker {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl Asker {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { runtime, client }
    }

    /// A connection that fails is a reply of status 0.
    fn ask(&self, url: &str, body: &Value) -> Reply {
        let asked = self.runtime.block_on(async {
            let response = self.client.post(url).json(body).send().await?;
            let model = response.headers().get("x-weir-model");
            let model = model.map_or("", |model| model.to_str().unwrap()).to_owned();
            let status = response.status().as_u16();
            let text = response.text().await?;
            Ok::<_, reqwest::Error>(Reply {
                status,
                model,
                text,
            })
        });
        asked.unwrap_or_else(|error| Reply {
            status: 0,
            model: String::new(),
            text: format!("{error:?}"),
        })
    }
}

fn chat_url(address: &Value) -> String {
    format!("{}/v1/chat/completions", address.as_str().unwrap())
}

fn question(model: &str, stream: bool) -> Value {
    json!({
        "model": model,
        "max_tokens": 4,
        "stream": stream,
        "messages": [{"role": "user", "content": "Say hello."}],
    })
}

fn pool<'a>(status: &'a Value, name: &str) -> &'a Value {
    let pools = status["pools"].as_array().map_or(&[][..], Vec::as_slice);
    let found = pools.iter().find(|pool| pool["name"] == name);
    found.unwrap_or(&Value::Null)
}

#[test]
fn a_stack_that_changes_twice_under_load_costs_no_request() {
    let Some(model) = servable_model() else {
        return;
    };
    let mut stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    let address = stage.up()["address"].clone();
    let clients = Clients::start(&address, 3);
    clients.until_more(3);

    let policy = "  limits: {bodyMax: 2Ki}\n  guardrails:\n    - name: careful\n      \
                  when: {domains: [finance]}\n      then: useBiggest\n";
    stage.replace_stack(&(stage.stack_of(&["small"], &model, "") + policy));
    let asker = Asker::new();
    let mut long = question("auto", false);
    long["messages"][0]["content"] = "x".repeat(3000).into();
    until("the new limit holds", || {
        let status = asker.ask(&chat_url(&address), &long).status;
        (status == 413).then_some(())
    });
    clients.until_more(3);

    stage.replace_stack(&(stage.stack_of(&["small", "second"], &model, "") + policy));
    stage.status_when("the second pool serves", |status| {
        pool(status, "second")["ready"] == true
    });
    clients.until_more(3);
    let second = format!("second-{}", stage.mark);
    let pinned = asker.ask(&chat_url(&address), &question(&second, false));
    assert_eq!(pinned.status, 200, "{pinned:?}");
    clients.stop(|_| false);
}

#[test]
fn an_engine_killed_under_load_costs_no_request_that_another_pool_could_serve() {
    let Some(model) = servable_model() else {
        return;
    };
    let mut stage = Stage::new();
    stage.write_stack(&["first", "second"], &model, "");
    let address = stage.up()["address"].clone();
    let clients = Clients::start(&address, 4);
    let victim = clients.until_more(8).model;
    let name = victim.split('-').next().unwrap().to_owned();
    let before = clients.replies().len();
    stage.kill_engine(&victim);
    let back = stage.status_when("the engine is back", |status| {
        let pool = pool(status, &name);
        pool["ready"] == true && pool["restarts"] == 1
    });
    assert!(stage.said().contains("signal 9"), "{back:#}");
    clients.until_more(8);
    let after = clients.replies().split_off(before);
    assert!(
        after.iter().any(|reply| reply.model != victim),
        "the other pool took over: {after:?}"
    );
    let asker = Asker::new();
    let pinned = asker.ask(&chat_url(&address), &question(&victim, false));
    assert_eq!(pinned.status, 200, "the engine answers again: {pinned:?}");
    clients.stop(Reply::cut_off);
}
