//! Requests in the meantime: an open loop, so that a slow answer does not spare the system the next question.

use crate::ask::Gateway;
use anyhow::{Result, bail};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Requests that are sent at a constant rate until [`Load::end`].
pub(crate) struct Load {
    stop: Stop,
    sent: Arc<AtomicUsize>,
    sender: JoinHandle<Vec<JoinHandle<Outcome>>>,
    started: Instant,
}

/// Ends the sending when it is dropped, as after a step that failed.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// When a request was sent, and what was wrong with its answer.
type Outcome = (Duration, Option<String>);

impl Load {
    /// Asks `model` once every `gap`.
    pub(crate) fn start(gateway: &Gateway, model: &str, gap: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let (gateway, model) = (gateway.clone(), model.to_owned());
        let started = Instant::now();
        let sender = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(gap);
            let mut requests = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                ticks.tick().await;
                let (gateway, model, at) = (gateway.clone(), model.clone(), started.elapsed());
                let number = count.fetch_add(1, Ordering::Relaxed);
                requests.push(tokio::spawn(async move {
                    let question = format!("Question {number}: what comes next?");
                    let answer = gateway.chat(&model, &question, 4).await;
                    (at, answer.err().map(|error| format!("{error:#}")))
                }));
            }
            requests
        });
        Self {
            stop: Stop(stop),
            sent,
            sender,
            started,
        }
    }

    /// Seconds since the first request, for messages that can be found again in [`Load::end`]'s.
    pub(crate) fn at(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Requests sent so far.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops sending and waits for every answer; an error names the requests that failed. Gives the number of requests.
    pub(crate) async fn end(self) -> Result<usize> {
        let (total, failures) = self.outcome().await?;
        if failures.is_empty() {
            return Ok(total);
        }
        let shown = failures.iter().take(8).cloned().collect::<Vec<_>>();
        bail!(
            "{} of {total} requests failed:\n{}",
            failures.len(),
            shown.join("\n")
        )
    }

    /// Stops sending and waits for every answer: the number of requests, and what was wrong with those that failed.
    pub(crate) async fn outcome(self) -> Result<(usize, Vec<String>)> {
        drop(self.stop);
        let sent = self.sender.await?;
        let total = sent.len();
        let mut failures = Vec::new();
        for request in sent {
            let (at, failure) = request.await?;
            failures.extend(failure.map(|what| format!("  at {:.1} s: {what}", at.as_secs_f64())));
        }
        Ok((total, failures))
    }
}
