//! The queue over a pretended model that counts its calls and can be held up.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::{EmbedError, EmbedQueue};

type Batch = Vec<String>;

/// A queue whose model reports each batch and then waits for a go.
fn held_queue() -> (EmbedQueue, Receiver<Batch>, Sender<()>) {
    let (seen, batches) = channel();
    let (go, wait) = channel();
    let queue = EmbedQueue::start((1, String::new()), move |texts: &[&str]| {
        seen.send(texts.iter().map(ToString::to_string).collect::<Batch>())
            .ok();
        wait.recv().map_err(|_| EmbedError::Stopped)?;
        Ok(texts.iter().map(|text| vec![text.len() as f32]).collect())
    });
    (queue, batches, go)
}

fn ask(
    queue: &EmbedQueue,
    text: &str,
) -> tokio::task::JoinHandle<Result<std::sync::Arc<[f32]>, EmbedError>> {
    let (queue, text) = (queue.clone(), text.to_owned());
    tokio::spawn(async move { queue.embed(&text).await })
}

/// Runs the tasks that can run.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn identical_queries_in_flight_are_computed_once() {
    let (queue, batches, go) = held_queue();
    let first = ask(&queue, "same");
    settle().await;
    assert_eq!(batches.recv().unwrap(), ["same"]);
    let second = ask(&queue, "same");
    settle().await;
    go.send(()).unwrap();
    assert_eq!(
        first.await.unwrap().unwrap(),
        second.await.unwrap().unwrap()
    );
    assert_eq!(queue.embed("same").await.unwrap()[0], 4.0, "from the cache");
    assert!(batches.try_recv().is_err(), "the model ran once");
}

#[tokio::test]
async fn a_forgotten_query_is_computed_anew() {
    let (queue, batches, go) = held_queue();
    for _ in 0..2 {
        let asked = ask(&queue, "who is jane");
        settle().await;
        assert_eq!(batches.recv().unwrap(), ["who is jane"]);
        go.send(()).unwrap();
        asked.await.unwrap().unwrap();
        queue.forget();
    }
}

#[tokio::test]
async fn a_query_under_way_when_all_are_forgotten_is_answered_and_not_remembered() {
    let (queue, batches, go) = held_queue();
    let asked = ask(&queue, "who is jane");
    settle().await;
    assert_eq!(batches.recv().unwrap(), ["who is jane"]);
    queue.forget();
    go.send(()).unwrap();
    asked.await.unwrap().unwrap();
    let again = ask(&queue, "who is jane");
    settle().await;
    assert_eq!(batches.recv().unwrap(), ["who is jane"], "evaluated again");
    go.send(()).unwrap();
    again.await.unwrap().unwrap();
    let known = ask(&queue, "who is jane");
    known.await.unwrap().unwrap();
    assert!(batches.try_recv().is_err(), "remembered from then on");
}

#[tokio::test]
async fn queries_that_wait_together_are_one_batch_and_go_before_bulk_work() {
    let (queue, batches, go) = held_queue();
    let texts = vec!["x".repeat(800), "y".repeat(800), "z".repeat(800)];
    let bulk = tokio::spawn({
        let queue = queue.clone();
        async move { queue.embed_many(texts).await }
    });
    settle().await;
    assert_eq!(
        batches.recv().unwrap(),
        ["x".repeat(800)],
        "bulk advances in small steps"
    );
    let (one, two) = (ask(&queue, "one"), ask(&queue, "two!"));
    settle().await;
    go.send(()).unwrap();
    assert_eq!(batches.recv().unwrap(), ["one", "two!"]);
    for _ in 0..3 {
        go.send(()).unwrap();
    }
    assert_eq!(one.await.unwrap().unwrap()[0], 3.0);
    assert_eq!(two.await.unwrap().unwrap()[0], 4.0);
    assert_eq!(bulk.await.unwrap().unwrap(), vec![vec![800.0]; 3]);
}

#[tokio::test]
async fn query_that_nobody_waits_for_is_not_computed() {
    let (queue, batches, go) = held_queue();
    let first = ask(&queue, "first");
    settle().await;
    batches.recv().unwrap();
    let gone = ask(&queue, "gone");
    settle().await;
    gone.abort();
    settle().await;
    let last = ask(&queue, "last");
    settle().await;
    go.send(()).unwrap();
    assert_eq!(batches.recv().unwrap(), ["last"]);
    go.send(()).unwrap();
    assert!(first.await.unwrap().is_ok() && last.await.unwrap().is_ok());
}

#[tokio::test]
async fn model_that_panics_fails_every_caller_instead_of_hanging_them() {
    let queue = EmbedQueue::start((1, String::new()), |_: &[&str]| panic!("on purpose"));
    assert_eq!(queue.embed("any").await, Err(EmbedError::Stopped));
    assert_eq!(queue.embed("other").await, Err(EmbedError::Stopped));
    assert_eq!(
        queue.embed_many(vec!["bulk".into()]).await,
        Err(EmbedError::Stopped)
    );
}

#[tokio::test]
async fn failed_evaluation_is_told_and_not_remembered() {
    let (queue, batches, go) = held_queue();
    drop(go);
    assert_eq!(queue.embed("any").await, Err(EmbedError::Stopped));
    assert_eq!(queue.embed("any").await, Err(EmbedError::Stopped));
    assert_eq!(batches.iter().take(2).count(), 2);
}

#[tokio::test]
async fn empty_bulk_work_is_done_at_once() {
    let (queue, _batches, _go) = held_queue();
    assert!(queue.embed_many(Vec::new()).await.unwrap().is_empty());
    assert_eq!(queue.dimensions(), 1);
}
