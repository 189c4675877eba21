//! Questions to an embedder's pool: the vectors of those that were asked lately, and those that are being asked.
//!
//! The same question at the same time is asked once. Whoever began may leave: one of those that wait asks in its place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;
use weir_embed::{QUESTION_BYTES_MAX, QUESTIONS_MAX, Recent};

type Vector = Arc<[f32]>;
/// The model that makes the vector, and the text.
type Question = (String, String);

/// Cheap to clone; clones share what is kept.
#[derive(Clone, Default)]
pub struct Questions(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    recent: Recent<Question, Vector, QUESTIONS_MAX>,
    under_way: HashMap<Question, UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    cell: Arc<OnceCell<Vector>>,
    /// How many wait for it.
    waiting: usize,
}

/// Somebody who waits for the vector of a question.
struct Waiting<'a> {
    questions: &'a Questions,
    question: Question,
    cell: Arc<OnceCell<Vector>>,
}

impl Questions {
    /// The vector of `text` by `model`: kept, of somebody who asks the same, or what `ask` gives.
    ///
    /// # Errors
    /// That of `ask`.
    pub(crate) async fn vector<E>(
        &self,
        model: &str,
        text: &str,
        ask: impl Future<Output = Result<Vector, E>>,
    ) -> Result<Vector, E> {
        let question = (model.to_owned(), text.to_owned());
        let cell = {
            let mut known = self.lock();
            if let Some(vector) = known.recent.get(&question) {
                return Ok(vector);
            }
            let under_way = known.under_way.entry(question.clone()).or_default();
            under_way.waiting += 1;
            Arc::clone(&under_way.cell)
        };
        let waiting = Waiting {
            questions: self,
            question,
            cell,
        };
        let vector = waiting.cell.get_or_try_init(|| ask).await?;
        waiting.keep(vector);
        Ok(Arc::clone(vector))
    }

    /// Forgets all of them; who waits is still answered.
    pub(crate) fn forget(&self) {
        *self.lock() = Known::default();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // What is behind this lock is valid after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// What it waits for, unless that was answered or forgotten meanwhile.
    fn under_way<'k>(&self, known: &'k mut Known) -> Option<&'k mut UnderWay> {
        let under_way = known.under_way.get_mut(&self.question);
        under_way.filter(|under_way| Arc::ptr_eq(&under_way.cell, &self.cell))
    }

    /// The first that has the vector keeps it for all.
    fn keep(&self, vector: &Vector) {
        let mut known = self.questions.lock();
        if self.under_way(&mut known).is_none() {
            return;
        }
        known.under_way.remove(&self.question);
        if self.question.1.len() <= QUESTION_BYTES_MAX {
            known.recent.put(self.question.clone(), Arc::clone(vector));
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut known = self.questions.lock();
        let Some(under_way) = self.under_way(&mut known) else {
            return;
        };
        under_way.waiting -= 1;
        if under_way.waiting == 0 {
            known.under_way.remove(&self.question);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    async fn made(value: f32) -> Result<Vector, ()> {
        tokio::task::yield_now().await;
        Ok([value].into())
    }

    #[tokio::test]
    async fn the_same_question_at_the_same_time_is_asked_once() {
        let questions = Questions::default();
        let ask = |text, value| questions.vector("m", text, made(value));
        let (first, second, other) = tokio::join!(ask("a", 1.0), ask("a", 2.0), ask("b", 3.0));
        assert_eq!((first, second), (made(1.0).await, made(1.0).await));
        assert_eq!(other, made(3.0).await);
        assert!(questions.lock().under_way.is_empty());
        assert_eq!(ask("a", 4.0).await, made(1.0).await, "it is kept");
    }

    #[tokio::test]
    async fn when_who_asks_leaves_another_one_asks() {
        let questions = Questions::default();
        let first = questions.vector("m", "a", pending::<Result<Vector, ()>>());
        let second = questions.vector("m", "a", made(2.0));
        let mut first = Box::pin(first);
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await, made(2.0).await);
    }

    #[tokio::test]
    async fn a_question_that_fails_or_is_left_by_all_leaves_nothing() {
        let questions = Questions::default();
        let failed = questions
            .vector("m", "a", async { Err::<Vector, _>("away") })
            .await;
        assert_eq!(failed, Err("away"));
        let left = questions.vector("m", "a", pending::<Result<Vector, ()>>());
        let mut left = Box::pin(left);
        assert!(futures_util::poll!(&mut left).is_pending());
        drop(left);
        assert!(questions.lock().under_way.is_empty());
    }

    #[tokio::test]
    async fn what_was_forgotten_while_it_was_asked_is_answered_and_not_kept() {
        let questions = Questions::default();
        let asking = questions.vector("m", "a", made(1.0));
        let mut asking = Box::pin(asking);
        assert!(futures_util::poll!(&mut asking).is_pending());
        questions.forget();
        assert_eq!(asking.await, made(1.0).await);
        let again = questions.vector("m", "a", made(2.0)).await;
        assert_eq!(again, made(2.0).await);
    }
}
