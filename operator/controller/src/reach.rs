//! Whether external engines can be reached: a connection is tried now and then, nothing is asked.
//!
//! A new pool is looked at at once, every pool again after twenty seconds, so that its condition turns within half a minute
//! of a failure. A change puts the pool into the queue; the status is written there.

use crate::cache::Caches;
use crate::key::{Key, Kind};
use crate::queue::Queue;
use futures_util::StreamExt;
use kube::ResourceExt;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_crds::Engine;
use weir_reconcile::model_pool::Reach;

/// How often each pool is looked at.
const EVERY: Duration = Duration::from_secs(20);
/// How often it is looked for pools that are due.
const TICK: Duration = Duration::from_millis(250);
/// Longest wait for a connection.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Connections tried at the same time.
const CONCURRENT: usize = 32;

/// What was found out, by pool.
#[derive(Default)]
pub(crate) struct Reaches(Mutex<HashMap<Key, Look>>);

/// One look at one server.
struct Look {
    url: String,
    reach: Reach,
    at: Instant,
}

impl Reaches {
    /// What is known of a pool's server at `url`.
    pub(crate) fn get(&self, key: &Key, url: &str) -> Reach {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(key) {
            Some(look) if look.url == url => look.reach.clone(),
            _ => Reach::Unknown,
        }
    }

    /// Notes what was found; true when it is news.
    fn note(&self, key: &Key, url: String, reach: Reach) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let look = Look {
            url: url.clone(),
            reach: reach.clone(),
            at: Instant::now(),
        };
        let before = all.insert(key.clone(), look);
        before.is_none_or(|before| (before.url, before.reach) != (url, reach))
    }

    /// Looks at one pool now.
    pub(crate) async fn look(&self, key: &Key, url: &str) -> bool {
        let found = match tokio::time::timeout(TIMEOUT, connect(url)).await {
            Ok(Ok(())) => Reach::Reachable,
            Ok(Err(error)) => Reach::Unreachable(error.to_string()),
            Err(_) => Reach::Unreachable(format!("no answer within {} s", TIMEOUT.as_secs())),
        };
        self.note(key, url.to_owned(), found)
    }

    /// Looks at every external pool again and again until `stop`.
    pub(crate) async fn run(
        self: Arc<Self>,
        caches: Arc<Caches>,
        queue: Arc<Queue>,
        stop: CancellationToken,
    ) {
        loop {
            let looks = self.due(external(&caches)).into_iter().map(|(key, url)| {
                let (reaches, queue) = (self.clone(), queue.clone());
                async move {
                    if reaches.look(&key, &url).await {
                        queue.add(key);
                    }
                }
            });
            let all =
                futures_util::stream::iter(looks).for_each_concurrent(CONCURRENT, |look| look);
            tokio::select! {
                () = stop.cancelled() => return,
                () = all => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Those of the pools that were not looked at lately. Forgets all others.
    fn due(&self, external: Vec<(Key, String)>) -> Vec<(Key, String)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alive: HashSet<Key> = external.iter().map(|(key, _)| key.clone()).collect();
        all.retain(|key, _| alive.contains(key));
        let is_due = |(key, url): &(Key, String)| {
            let look = all.get(key).filter(|look| look.url == *url);
            look.is_none_or(|look| look.at.elapsed() >= EVERY)
        };
        external.into_iter().filter(is_due).collect()
    }
}

fn external(caches: &Caches) -> Vec<(Key, String)> {
    let of = |pool: Arc<weir_crds::ModelPool>| match &pool.spec.engine {
        Engine::External(engine) => {
            let namespace = pool.namespace().unwrap_or_default();
            let key = Key::new(Kind::ModelPool, &namespace, &pool.name_any());
            Some((key, engine.url.clone()))
        }
        _ => None,
    };
    caches.pools.state().into_iter().filter_map(of).collect()
}

async fn connect(url: &str) -> std::io::Result<()> {
    let bad = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "the URL names no host");
    let url: http::Uri = url.parse().map_err(|_| bad())?;
    let host = url.host().ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let usual = if url.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    TcpStream::connect((host, url.port_u16().unwrap_or(usual))).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_new_server_is_due_at_once_and_a_known_one_after_a_while() {
        let key = Key::new(Kind::ModelPool, "demo", "away");
        let pools = || vec![(key.clone(), "http://a".to_owned())];
        let reaches = Reaches::default();
        assert_eq!(reaches.due(pools()).len(), 1);
        reaches.note(&key, "http://a".into(), Reach::Reachable);
        assert!(reaches.due(pools()).is_empty());
        let moved = vec![(key.clone(), "http://b".to_owned())];
        assert_eq!(reaches.due(moved.clone()), moved);
        tokio::time::advance(EVERY).await;
        assert_eq!(reaches.due(pools()).len(), 1);
        reaches.due(Vec::new());
        assert_eq!(
            reaches.get(&key, "http://a"),
            Reach::Unknown,
            "it is forgotten"
        );
    }

    #[tokio::test]
    async fn a_server_that_goes_away_is_news_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/base", listener.local_addr().unwrap());
        let key = Key::new(Kind::ModelPool, "demo", "away");
        let reaches = Reaches::default();
        assert_eq!(reaches.get(&key, &url), Reach::Unknown);
        assert!(reaches.look(&key, &url).await);
        assert!(!reaches.look(&key, &url).await);
        assert_eq!(reaches.get(&key, &url), Reach::Reachable);
        assert_eq!(reaches.get(&key, "http://other"), Reach::Unknown);
        drop(listener);
        assert!(reaches.look(&key, &url).await);
        assert!(matches!(reaches.get(&key, &url), Reach::Unreachable(_)));
    }
}
