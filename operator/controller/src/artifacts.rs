//! Artifacts of routers that lie at an address: brought from the hosts that the operator's options allow.
//!
//! What came is kept here only until the reconcile has verified it and put it into its ConfigMap. An attempt that failed is made
//! again with growing waits. Redirects are not followed: what they lead to is no allowed host. Which hosts are allowed is
//! checked by `weir_reconcile::router_version`; this file asks whatever it is told to.

use crate::ca_bundle::CaBundle;
use crate::key::Key;
use crate::outside::{self, says};
use crate::queue::{Queue, doubled};
use reqwest::Client;
use reqwest::redirect::Policy;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use weir_reconcile::router_version::Found;
use weir_router::artifact::BYTES_MAX;

/// Longest that one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Wait after the first attempt that brought nothing usable, and the longest after further ones.
const AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Brings artifacts, and knows what came of the last attempt for each version.
pub(crate) struct Artifacts {
    ca_bundle: Arc<CaBundle>,
    queue: Arc<Queue>,
    known: Mutex<HashMap<Key, Download>>,
}

struct Download {
    url: String,
    /// Nothing while the first attempt runs.
    last: Option<Result<Vec<u8>, String>>,
    running: bool,
    attempts: u32,
    at: Instant,
}

impl Artifacts {
    pub(crate) fn new(ca_bundle: Arc<CaBundle>, queue: Arc<Queue>) -> Self {
        Self {
            ca_bundle,
            queue,
            known: Mutex::default(),
        }
    }

    /// What lies at `url` as far as it is known, and when to ask again. Begins an attempt where one is due; its end puts the
    /// version into the queue.
    pub(crate) fn find(self: &Arc<Self>, key: &Key, url: &str) -> (Found, Option<Duration>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let download = known
            .entry(key.clone())
            .or_insert_with(|| Download::of(url));
        if download.url != url {
            *download = Download::of(url);
        }
        if download.wait().is_none() {
            download.running = true;
            download.at = Instant::now();
            let (artifacts, key, url) = (self.clone(), key.clone(), url.to_owned());
            tokio::spawn(async move {
                let found = artifacts.fetch(&url).await;
                artifacts.note(&key, &url, found);
                artifacts.queue.add(key);
            });
        }
        let found = match &download.last {
            Some(Ok(bytes)) => Found::Bytes(bytes.clone()),
            Some(Err(why)) => Found::NotFetched(why.clone()),
            None => Found::Coming,
        };
        (found, download.wait())
    }

    /// Forgets what came for a version: it is kept elsewhere.
    pub(crate) fn forget(&self, key: &Key) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(key);
    }

    /// Forgets all versions but those that are left.
    pub(crate) fn retain(&self, lives: impl Fn(&Key) -> bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key, _| lives(key));
    }

    fn note(&self, key: &Key, url: &str, found: Result<Vec<u8>, String>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(download) = known.get_mut(key).filter(|download| download.url == url) {
            download.last = Some(found);
            download.running = false;
            download.attempts = download.attempts.saturating_add(1);
            download.at = Instant::now();
        }
    }

    /// The bytes at an address, or in words why there are none.
    async fn fetch(&self, url: &str) -> Result<Vec<u8>, String> {
        let client = self.client().map_err(|error| says(&error))?;
        let answer = client.get(url).send().await.map_err(|error| says(&error))?;
        if !answer.status().is_success() {
            return Err(format!("the server answered {}", answer.status()));
        }
        let bytes = outside::body(answer, BYTES_MAX).await;
        let bytes = bytes.map_err(|error| says(&error))?;
        bytes.ok_or_else(|| format!("it is larger than {} KiB", BYTES_MAX >> 10))
    }

    /// Goes through the proxy of this process's environment.
    fn client(&self) -> reqwest::Result<Client> {
        let client = Client::builder()
            .https_only(true)
            .redirect(Policy::none())
            .timeout(TIMEOUT);
        let authorities = self.ca_bundle.text().unwrap_or_default();
        outside::believing(client, &authorities)?.build()
    }
}

impl Download {
    fn of(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            last: None,
            running: false,
            attempts: 0,
            at: Instant::now(),
        }
    }

    /// How long no attempt is due; `None` when one is. What came and was not kept is not what its version means, and the server
    /// may have that later: it is asked for again like what did not come.
    fn wait(&self) -> Option<Duration> {
        let pause = match self.attempts {
            _ if self.running => TIMEOUT * 2,
            0 => return None,
            attempts => doubled(AGAIN, attempts),
        };
        let left = pause.checked_sub(self.at.elapsed());
        left.filter(|left| !left.is_zero())
    }
}
