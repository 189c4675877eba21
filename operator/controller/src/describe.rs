//! What memory services say of their stores: each is asked now and then, over the same certificates as gateways use.
//!
//! A memory lets gateways of its namespace in, so the operator asks with a certificate of that form, which it issues to
//! itself and never writes down.

use crate::authority::Keeper;
use crate::cache::Caches;
use crate::key::{Key, Kind};
use crate::pki::{Authority, CERTIFICATE, Entries, Identity, KEY};
use crate::queue::Queue;
use futures_util::StreamExt;
use kube::ResourceExt;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use weir_crds::PrunedStatus;
use weir_proto::memory::v1::DescribeRequest;
use weir_proto::memory::v1::memory_client::MemoryClient;
use weir_reconcile::memory_store::{Counts, Tuning};

/// How often each memory is asked.
const EVERY: Duration = Duration::from_secs(10);
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Memories asked at the same time.
const CONCURRENT: usize = 8;

/// What was said last, or why nothing was, by memory.
#[derive(Default)]
pub(crate) struct Descriptions(Mutex<HashMap<Key, Result<Counts, String>>>);

/// Why a memory did not answer.
#[derive(Debug, thiserror::Error)]
enum DescribeError {
    #[error("no certificate for it yet")]
    Certificate,
    #[error("connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("{}", .0.message())]
    Refused(#[from] Box<tonic::Status>),
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    TooSlow,
}

impl Descriptions {
    /// What a memory said last.
    pub(crate) fn get(&self, key: &Key) -> Option<Result<Counts, String>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).cloned()
    }

    /// Asks every memory with a ready pod again and again until `stop`.
    pub(crate) async fn run(
        self: Arc<Self>,
        (caches, keeper, queue): (Arc<Caches>, Arc<Keeper>, Arc<Queue>),
        stop: CancellationToken,
    ) {
        let mut leaves: HashMap<String, Entries> = HashMap::new();
        loop {
            let due = ready(&caches);
            self.retain(&due);
            leaves.retain(|namespace, _| due.iter().any(|key| key.namespace == *namespace));
            if let Some(authority) = keeper.authority() {
                let asks = due.into_iter().filter_map(|key| {
                    let leaf = leaf(&authority, &mut leaves, &key.namespace)?;
                    Some(self.clone().ask(key, leaf, queue.clone()))
                });
                let asks: Vec<_> = asks.collect();
                let all =
                    futures_util::stream::iter(asks).for_each_concurrent(CONCURRENT, |ask| ask);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = all => {}
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn ask(self: Arc<Self>, key: Key, leaf: Entries, queue: Arc<Queue>) {
        let url = weir_reconcile::names::memory_url(&key.name, &key.namespace);
        let answer = tokio::time::timeout(TIMEOUT, describe(&url, &leaf)).await;
        let answer = answer.unwrap_or(Err(DescribeError::TooSlow));
        let found = answer.map_err(|error| error.to_string());
        let news = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(key.clone(), found.clone()).as_ref() != Some(&found)
        };
        if news {
            queue.add(key);
        }
    }

    fn retain(&self, due: &[Key]) {
        let due: HashSet<&Key> = due.iter().collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|key, _| due.contains(key));
    }
}

/// Memories that have a ready pod.
fn ready(caches: &Caches) -> Vec<Key> {
    let key = |memory: Arc<weir_crds::MemoryStore>| {
        let namespace = memory.namespace().unwrap_or_default();
        Key::new(Kind::MemoryStore, &namespace, &memory.name_any())
    };
    let has_ready_pod = |key: &Key| {
        let pods = caches.pods_with(&key.namespace, "weir.dev/memory", &key.name);
        !weir_reconcile::model_pool::endpoints(&pods).is_empty()
    };
    let all = caches.memories.state().into_iter().map(key);
    all.filter(has_ready_pod).collect()
}

/// A certificate with which a memory of the namespace lets the operator in.
fn leaf(
    authority: &Authority,
    leaves: &mut HashMap<String, Entries>,
    namespace: &str,
) -> Option<Entries> {
    let identity = Identity {
        uri: format!("weir://{namespace}/gateway/weir-operator"),
        dns: Vec::new(),
    };
    let kept = leaves.entry(namespace.to_owned()).or_default();
    match authority.leaf(kept, &identity, SystemTime::now()) {
        Ok(leaf) => {
            kept.clone_from(&leaf);
            Some(leaf)
        }
        Err(error) => {
            tracing::warn!(%error, "no certificate to ask memories with");
            None
        }
    }
}

async fn describe(url: &str, leaf: &Entries) -> Result<Counts, DescribeError> {
    let entry = |name: &str| leaf.get(name).ok_or(DescribeError::Certificate);
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(entry(crate::pki::CA)?))
        .identity(tonic::transport::Identity::from_pem(
            entry(CERTIFICATE)?,
            entry(KEY)?,
        ));
    let channel = Endpoint::from_shared(url.to_owned())?
        .tls_config(tls)?
        .connect()
        .await?;
    let said = MemoryClient::new(channel)
        .describe(DescribeRequest {})
        .await;
    let said = said.map_err(Box::new)?.into_inner();
    Ok(Counts {
        nodes: said.nodes,
        edges: said.edges,
        vectors: said.vectors,
        pending: said.pending,
        summaries: said.summaries,
        tuning: said.tuning.map(|tuning| Tuning {
            recall: tuning.recall,
            target: tuning.target,
            ef_search: tuning.ef_search,
            measured_at_ms: tuning.measured_at_ms,
        }),
        pruned: said
            .pruned
            .map_or_else(Default::default, |pruned| PrunedStatus {
                edges: pruned.edges,
                traces: pruned.traces,
            }),
        away: Some(said.away).filter(|why| !why.is_empty()),
        lag_seconds: said.lag_ms / 1000,
    })
}
