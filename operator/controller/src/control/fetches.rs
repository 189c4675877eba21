//! How far model downloads are, as the pods that download say.
//!
//! A download has no certificate: what it says is taken when it comes from the address of the pod it names, and that pod
//! is one of the pool it names. It only moves a progress bar; what a model is, is read from the pod's own status.

use k8s_openapi::api::core::v1::Pod;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use weir_proto::control::v1::FetchProgress;

/// Progress by namespace, pool and pod.
#[derive(Default)]
pub(crate) struct Fetches(Mutex<HashMap<(String, String, String), FetchProgress>>);

impl Fetches {
    /// Takes note of a pod's progress.
    pub(crate) fn note(&self, progress: FetchProgress) {
        let key = (
            progress.namespace.clone(),
            progress.pool.clone(),
            progress.pod.clone(),
        );
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key, progress);
    }

    /// The progress of a pool: that of the pod which is furthest, of those in which a download goes on.
    pub(crate) fn of_pool(
        &self,
        (namespace, pool): (&str, &str),
        goes_on: impl Fn(&str) -> bool,
    ) -> Option<FetchProgress> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_pool = all
            .values()
            .filter(|one| one.namespace == namespace && one.pool == pool);
        let of_pool = of_pool.filter(|one| goes_on(&one.pod));
        of_pool.max_by_key(|one| one.downloaded_bytes).cloned()
    }

    /// Forgets pods that are gone.
    pub(crate) fn retain(&self, lives: impl Fn(&str, &str) -> bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(namespace, _, pod), _| lives(namespace, pod));
    }
}

/// Whether a pod is of the pool that is named, and calls from its own address.
pub(crate) fn is_from(pod: &Pod, pool: &str, address: IpAddr) -> bool {
    let labels = pod.metadata.labels.as_ref();
    let of_pool = labels.and_then(|labels| labels.get("weir.dev/pool"));
    let status = pod.status.as_ref();
    let own = status.and_then(|status| status.pod_ip.as_deref());
    let own: Option<IpAddr> = own.and_then(|own| own.parse().ok());
    of_pool.is_some_and(|found| found == pool) && own == Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_taken_from_the_pod_it_names_and_no_other() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "labels": {"weir.dev/pool": "small"}},
            "status": {"podIP": "10.0.0.7"}
        }))
        .unwrap();
        let own: IpAddr = "10.0.0.7".parse().unwrap();
        assert!(is_from(&pod, "small", own));
        assert!(!is_from(&pod, "big", own));
        assert!(!is_from(&pod, "small", "10.0.0.8".parse().unwrap()));
    }

    #[test]
    fn the_furthest_pod_speaks_for_the_pool() {
        let fetches = Fetches::default();
        for (pod, bytes) in [("a", 5), ("b", 9)] {
            fetches.note(FetchProgress {
                namespace: "demo".into(),
                pool: "small".into(),
                pod: pod.into(),
                downloaded_bytes: bytes,
                ..FetchProgress::default()
            });
        }
        let furthest = |goes_on: fn(&str) -> bool| {
            let progress = fetches.of_pool(("demo", "small"), goes_on);
            progress.map(|progress| progress.downloaded_bytes)
        };
        assert_eq!(furthest(|_| true), Some(9));
        assert_eq!(furthest(|pod| pod == "a"), Some(5), "b has its model");
        fetches.retain(|_, pod| pod == "a");
        assert_eq!(furthest(|_| true), Some(5));
    }
}
