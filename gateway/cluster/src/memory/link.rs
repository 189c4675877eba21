//! The connection to a memory service: made again whenever it breaks, and whether it is there now.
//!
//! One task asks the service to describe itself, soon again while it is away. A call that finds it gone says so, and until
//! the description comes no other call is made. What it describes must be what the plan says: vectors of two models
//! cannot be compared.

use super::MemoryService;
use crate::tls::Tls;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use weir_memory::Counts;
use weir_memory_live::{MemoryError, Presence, wire};
use weir_plan::chain;
use weir_proto::memory::v1::memory_client::MemoryClient;
use weir_proto::memory::v1::{DescribeRequest, Description};

/// A client of the service.
pub(crate) type Client = MemoryClient<Channel>;

/// What is said of a service that does not answer.
pub(super) const UNREACHABLE: &str = "the memory service cannot be reached";

/// How often a service that is there is asked.
const PERIOD: Duration = Duration::from_secs(5);

/// How often one that is away is asked.
const PERIOD_AWAY: Duration = Duration::from_millis(500);

/// Longest wait for a description, the connection included.
const PATIENCE: Duration = Duration::from_secs(2);

/// A peer that is gone without a word is noticed after two of these.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// The link to one service.
#[derive(Debug)]
pub(super) struct Link {
    service: MemoryService,
    state: Mutex<State>,
    /// Somebody wants to know now.
    again: Notify,
}

#[derive(Debug)]
enum State {
    Away(String),
    Here {
        client: Client,
        /// Which connection, so that a late failure of an old one does not end a new one.
        connection: u64,
        counts: Counts,
    },
}

impl Link {
    pub(super) fn new(service: MemoryService) -> Self {
        let state = State::Away("the memory service was not reached yet".to_owned());
        Self {
            service,
            state: Mutex::new(state),
            again: Notify::new(),
        }
    }

    pub(super) fn service(&self) -> &MemoryService {
        &self.service
    }

    pub(super) fn presence(&self) -> Presence {
        match &*self.state() {
            State::Away(why) => Presence::Away(why.clone()),
            State::Here { counts, .. } => Presence::Here(*counts),
        }
    }

    /// The client and which connection it has, while the service is there.
    pub(super) fn client(&self) -> Result<(Client, u64), MemoryError> {
        match &*self.state() {
            State::Away(why) => Err(MemoryError::Away(why.clone())),
            State::Here {
                client, connection, ..
            } => Ok((client.clone(), *connection)),
        }
    }

    /// A call on this connection found nobody.
    pub(super) fn lost(&self, connection: u64, status: &Status) {
        let mut state = self.state();
        if matches!(&*state, State::Here { connection: now, .. } if *now == connection) {
            tracing::warn!("the memory service is away: {}", chain(status));
            *state = State::Away(UNREACHABLE.to_owned());
            self.again.notify_one();
        }
    }

    /// A recall took all its time without an answer.
    pub(super) fn silent(&self) {
        let mut state = self.state();
        if matches!(&*state, State::Here { .. }) {
            tracing::warn!("the memory service is away: a recall was not answered");
            *state = State::Away("the memory service does not answer in time".to_owned());
            self.again.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for descriptions until the task is aborted.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut connection = 0;
        let mut connected: Option<(Tls, Client)> = None;
        loop {
            let described = self.describe(&mut connected, &mut connection).await;
            let period = match described {
                Ok((client, description)) => self.here(client, connection, &description),
                Err(error) => {
                    connected = None;
                    self.away(UNREACHABLE.to_owned(), &error);
                    PERIOD_AWAY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(period) => {}
                () = self.again.notified() => {}
            }
        }
    }

    /// By the connection that there is, or by a new one when there is none or the certificates were renewed.
    async fn describe(
        &self,
        connected: &mut Option<(Tls, Client)>,
        connection: &mut u64,
    ) -> Result<(Client, Description), String> {
        let tls = Tls::read(&self.service.tls).map_err(|error| chain(&error))?;
        let mut client = match connected {
            Some((with, client)) if *with == tls => client.clone(),
            _ => {
                let client = self.connect(&tls).map_err(|error| chain(&error))?;
                *connection += 1;
                *connected = Some((tls, client.clone()));
                client
            }
        };
        let described = tokio::time::timeout(PATIENCE, client.describe(DescribeRequest {})).await;
        let described = described.map_err(|_| format!("no answer within {PATIENCE:?}"))?;
        let description = described.map_err(|status| chain(&status))?;
        Ok((client, description.into_inner()))
    }

    fn connect(&self, tls: &Tls) -> Result<Client, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(self.service.url.clone())?
            .tls_config(tls.client())?
            .connect_timeout(PATIENCE)
            .tcp_nodelay(true)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        Ok(MemoryClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(wire::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(wire::MESSAGE_BYTES_MAX))
    }

    /// The service described itself: it is asked from now on if it holds what the plan says.
    fn here(&self, client: Client, connection: u64, description: &Description) -> Duration {
        if let Some(why) = self.unfit(description) {
            self.away(why.clone(), &why);
            return PERIOD_AWAY;
        }
        let size = |count| usize::try_from(count).unwrap_or(usize::MAX);
        let counts = Counts {
            nodes: size(description.nodes),
            edges: size(description.edges),
            vectors: size(description.vectors),
            pending: size(description.pending),
        };
        let mut state = self.state();
        if let State::Away(_) = &*state {
            tracing::info!(
                nodes = counts.nodes,
                pending = counts.pending,
                "the memory service is here"
            );
        }
        *state = State::Here {
            client,
            connection,
            counts,
        };
        PERIOD
    }

    /// Why it is not asked, though it answers.
    fn unfit(&self, description: &Description) -> Option<String> {
        if !description.away.is_empty() {
            return Some(description.away.clone());
        }
        let MemoryService {
            embedding_model,
            dimensions,
            ..
        } = &self.service;
        if description.dimensions as usize != *dimensions {
            return Some(format!(
                "the memory service holds vectors of {} dimensions, the plan says {dimensions}",
                description.dimensions
            ));
        }
        if description.embedding_model != *embedding_model {
            return Some(format!(
                "the memory service holds vectors of the model {:?}, the plan says {embedding_model:?}",
                description.embedding_model
            ));
        }
        None
    }

    /// Says it once for as long as it stays the same.
    fn away(&self, why: String, inside: &str) {
        let mut state = self.state();
        match &*state {
            State::Away(before) if *before == why => tracing::debug!("still away: {inside}"),
            _ => tracing::warn!("the memory service is away: {inside}"),
        }
        *state = State::Away(why);
    }
}
