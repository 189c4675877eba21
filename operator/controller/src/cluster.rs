//! The way to the cluster: a client, and whether this process may write.

use crate::lease::{Leadership, Term};
use kube::Client;
use tokio::sync::watch;

/// This process no longer leads, so it must not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this process no longer leads")]
pub(crate) struct NotLeading;

/// A client that knows whether it may write.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    leadership: watch::Receiver<Leadership>,
    term: Term,
}

impl Cluster {
    pub(crate) fn new(client: Client, leadership: watch::Receiver<Leadership>) -> Self {
        Self {
            client,
            leadership,
            term: Term::default(),
        }
    }

    /// The same, for as long as `term` lasts.
    pub(crate) fn during(self, term: Term) -> Self {
        Self { term, ..self }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Who leads, as it changes.
    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// The epoch in which this process leads.
    pub(crate) fn epoch(&self) -> Result<u64, NotLeading> {
        let epoch = self.leadership.borrow().epoch();
        epoch.filter(|_| !self.term.is_over()).ok_or(NotLeading)
    }

    /// Whether this process leads. Asked before each write, so that a former leader stops in the middle of its work.
    pub(crate) fn may_write(&self) -> Result<(), NotLeading> {
        self.epoch().map(|_| ())
    }
}
