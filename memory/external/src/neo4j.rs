//! The client of Neo4j: one statement or one transaction at a time, each under a deadline.
//!
//! Streams are drained, so that an error that comes late is seen. Only what the server calls transient is asked again
//! (deadlocks between writers): a statement whose answer was lost may have been done. The driver's own `run` is not used,
//! since it repeats permanent errors too.

use std::time::Duration;

use neo4rs::{BoltType, ConfigBuilder, Error, Graph, Neo4jErrorKind, Query, Row, Txn};
use weir_memory::WriteError;

use crate::config::{ConfigError, Neo4jConfig};
use crate::error::{Server, StoreError};

/// Longest statement or transaction, as the server is told.
const SERVER_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for an answer: a server that was stopped says nothing at all.
const DEADLINE: Duration = Duration::from_secs(12);

/// Longest wait for a connection: a server that is short of processors takes seconds to greet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a transient error is answered by asking again.
const TRIES_MAX: u32 = 6;

/// Connections held at a time.
const CONNECTIONS_MAX: usize = 8;

/// Rows that come at a time.
const FETCH_ROWS: usize = 2000;

/// The client.
pub(crate) struct Neo4j {
    graph: Graph,
}

/// Why a transaction was given up, before it is known whether it may be tried again.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The server or the way to it.
    Server(Error),
    /// What was asked does not fit what is stored.
    Refused(WriteError),
    /// A row that this memory did not write.
    Strange(String),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<WriteError> for Broken {
    fn from(error: WriteError) -> Self {
        Self::Refused(error)
    }
}

impl From<neo4rs::DeError> for Broken {
    fn from(error: neo4rs::DeError) -> Self {
        Self::Strange(error.to_string())
    }
}

/// What came of a transaction that may have been refused.
pub(crate) type Transacted<T> = Result<Result<T, WriteError>, StoreError>;

impl Neo4j {
    /// Connects to nobody yet.
    pub(crate) fn new(config: &Neo4jConfig) -> Result<Self, ConfigError> {
        let mut builder = ConfigBuilder::default()
            .uri(&config.url)
            .user(&config.user)
            .password(config.password.expose())
            .fetch_size(FETCH_ROWS)
            .max_connections(CONNECTIONS_MAX)
            .connection_timeout(CONNECT_TIMEOUT)
            // In this version of the driver it is the longest wait for a free connection.
            .max_lifetime(CONNECT_TIMEOUT);
        if let Some(database) = &config.database {
            builder = builder.db(database.as_str());
        }
        if let Some(ca) = &config.ca {
            let unreadable = |error: std::io::Error| ConfigError::Authorities {
                server: "Neo4j",
                why: error.to_string(),
            };
            std::fs::metadata(ca).map_err(unreadable)?;
            builder = builder.with_client_certificate(ca);
        }
        let built = builder.build().and_then(Graph::connect);
        // The driver's words may hold the address.
        let graph = built.map_err(|_| ConfigError::Neo4jUrl)?;
        Ok(Self { graph })
    }

    /// The rows of a statement that changes nothing, or that may be done twice.
    pub(crate) async fn rows(
        &self,
        what: &'static str,
        query: Query,
    ) -> Result<Vec<Row>, StoreError> {
        let query = timed(query);
        let mut tries = 0;
        loop {
            let once = async {
                let mut stream = self.graph.execute(query.clone()).await?;
                let mut rows = Vec::new();
                while let Some(row) = stream.next().await? {
                    rows.push(row);
                }
                Ok::<_, Error>(rows)
            };
            let done = tokio::time::timeout(DEADLINE, once).await;
            let error = match done {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) => error,
                Err(_) => return Err(late(what)),
            };
            tries += 1;
            if !again(&error, tries).await {
                return Err(said(&error, what));
            }
        }
    }

    /// Begins a transaction, which ends undone unless it is committed.
    pub(crate) async fn begin(&self) -> Result<Transaction, Broken> {
        let inner = self.graph.start_txn().await?;
        Ok(Transaction { inner })
    }

    /// Does a transaction, again where the server was only busy. `work` begins and commits it.
    pub(crate) async fn transact<T, F>(
        &self,
        what: &'static str,
        work: impl Fn() -> F,
    ) -> Transacted<T>
    where
        F: Future<Output = Result<T, Broken>>,
    {
        let mut tries = 0;
        loop {
            let done = tokio::time::timeout(DEADLINE, work()).await;
            let error = match done {
                Ok(Ok(done)) => return Ok(Ok(done)),
                Ok(Err(Broken::Refused(refused))) => return Ok(Err(refused)),
                Ok(Err(Broken::Strange(why))) => {
                    let server = Server::Neo4j;
                    return Err(StoreError::Strange { server, what, why });
                }
                Ok(Err(Broken::Server(error))) => error,
                Err(_) => return Err(late(what)),
            };
            tries += 1;
            if !again(&error, tries).await {
                return Err(said(&error, what));
            }
        }
    }
}

/// A transaction that was begun.
pub(crate) struct Transaction {
    inner: Txn,
}

impl Transaction {
    /// The rows of a statement, all of them.
    pub(crate) async fn rows(&mut self, query: Query) -> Result<Vec<Row>, Broken> {
        let mut stream = self.inner.execute(timed(query)).await?;
        let mut rows = Vec::new();
        while let Some(row) = stream.next(self.inner.handle()).await? {
            rows.push(row);
        }
        Ok(rows)
    }

    /// Makes it durable.
    pub(crate) async fn commit(self) -> Result<(), Broken> {
        Ok(self.inner.commit().await?)
    }
}

/// A map as a parameter.
pub(crate) fn map<const N: usize>(entries: [(&str, BoltType); N]) -> BoltType {
    let entries = entries.into_iter();
    entries
        .map(|(key, value)| (key.to_owned(), value))
        .collect::<std::collections::HashMap<String, BoltType>>()
        .into()
}

fn timed(query: Query) -> Query {
    let milliseconds = i64::try_from(SERVER_TIMEOUT.as_millis()).unwrap_or(i64::MAX);
    query.extra("tx_timeout", milliseconds)
}

fn late(what: &'static str) -> StoreError {
    let server = Server::Neo4j;
    StoreError::Late { server, what }
}

/// Whether to ask again, after a pause: transient errors end by themselves, but not that of a transaction that is too large.
async fn again(error: &Error, tries: u32) -> bool {
    let transient = match error {
        Error::Neo4j(error) => {
            error.kind() == Neo4jErrorKind::Transient && !error.code().contains("OutOfMemory")
        }
        _ => false,
    };
    if transient && tries < TRIES_MAX {
        tokio::time::sleep(Duration::from_millis(10 << tries)).await;
        return true;
    }
    false
}

/// The error in words without an address or a value: of the server's own words only the code.
fn said(error: &Error, what: &'static str) -> StoreError {
    let server = Server::Neo4j;
    tracing::debug!(what, "Neo4j: {error}");
    match error {
        Error::AuthenticationError(_) => StoreError::Credentials(server),
        Error::Neo4j(error) if error.code().starts_with("Neo.ClientError.Security.") => {
            StoreError::Credentials(server)
        }
        Error::Neo4j(error) => StoreError::Refused {
            server,
            what,
            why: error.code().to_owned(),
        },
        Error::DeserializationError(error) => StoreError::Strange {
            server,
            what,
            why: error.to_string(),
        },
        _ => StoreError::Away(server),
    }
}
