//! Replicas that follow the requests: what gateways report becomes a write to a pool's scale subresource.
//!
//! How many there should be is decided in `operator/reconcile`; this file brings the reports together and writes, as an
//! HPA would. When somebody else writes there too, Weir does not.

use crate::apply::MANAGER;
use crate::cache::Caches;
use crate::cluster::Cluster;
use crate::context::Stacks;
use crate::control::ledger::{Load as Reported, Process};
use crate::control::server::Hub;
use crate::key::{Key, Kind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_crds::ModelPool;
use weir_reconcile::model_pool::{Load, ScaleMemory, autoscale, other_scale_manager};
use weir_reconcile::names;

/// How often replicas are thought over.
const EVERY: Duration = Duration::from_secs(1);
/// A process that has not reported for this long does not report.
const STALE: Duration = Duration::from_secs(15);

/// What one step remembers of a pool for the next.
#[derive(Default)]
struct Remembered {
    scale: ScaleMemory,
    /// How often each process had wanted the pool.
    wanted: HashMap<Process, u64>,
    /// Whether the replicas are known to be Weir's to write.
    claimed: bool,
}

/// Who asks a pool.
#[derive(Default)]
struct Askers {
    /// Running pods of gateways: those whose silence matters.
    pods: BTreeSet<String>,
    /// Whether a memory's process does, which reports nothing.
    unseen: bool,
}

/// Scales pools until `stop`.
pub(crate) async fn run(
    (cluster, caches, stacks, hub): (Cluster, Arc<Caches>, Arc<Stacks>, Arc<Hub>),
    stop: CancellationToken,
) {
    let mut memory: HashMap<Key, Remembered> = HashMap::new();
    let mut led_since = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if cluster.may_write().is_err() {
            memory.clear();
            led_since = None;
            continue;
        }
        let just_led = led_since.get_or_insert_with(Instant::now).elapsed() < STALE;
        let mut pools = caches.pools.state();
        pools.retain(|pool| pool.spec.autoscaling.is_some());
        let keys: HashSet<Key> = pools.iter().map(|pool| key(pool)).collect();
        memory.retain(|key, _| keys.contains(key));
        let askers = askers(&caches, &stacks, &keys);
        for pool in pools {
            let key = key(&pool);
            let none = Askers::default();
            let asked_by = askers.get(&key).unwrap_or(&none);
            let remembered = memory.entry(key).or_default();
            if let Some(replicas) = step(&hub, &pool, (asked_by, &mut *remembered), just_led) {
                scale(&cluster, &pool, (replicas, &mut remembered.claimed)).await;
            }
        }
    }
}

/// One step for one pool: the replicas to set, when they are others than now. `just_led` holds while processes report here that counted for another leader.
fn step(
    hub: &Hub,
    pool: &ModelPool,
    (askers, memory): (&Askers, &mut Remembered),
    just_led: bool,
) -> Option<u32> {
    let scaling = pool.spec.autoscaling.as_ref()?;
    if other_scale_manager(pool).is_some() || weir_reconcile::condition::is_paused(&pool.metadata) {
        return None;
    }
    let namespace = pool.namespace().unwrap_or_default();
    let reported = hub.ledger().loads(&namespace, &pool.name_any());
    let now = Timestamp::now();
    let known = (&mut memory.wanted, just_led);
    let load = Load {
        asked_unseen: askers.unseen,
        ..load(&reported, &askers.pods, known, now)
    };
    let (replicas, scale) = autoscale(scaling, pool.spec.replicas, &load, (memory.scale, now));
    memory.scale = scale;
    (replicas != pool.spec.replicas).then_some(replicas)
}

/// Who may ask each pool.
fn askers(caches: &Caches, stacks: &Stacks, pools: &HashSet<Key>) -> HashMap<Key, Askers> {
    let mut askers: HashMap<Key, Askers> = HashMap::new();
    let namespaces: BTreeSet<&str> = pools.iter().map(|key| key.namespace.as_str()).collect();
    for namespace in namespaces {
        let stack = stacks.get(caches, namespace);
        for gateway in &stack.gateways {
            let pods = caches.pods_with(namespace, names::GATEWAY_LABEL, &gateway.name_any());
            let alive = pods.iter().filter(|pod| {
                let status = pod.status.as_ref();
                let phase = status.and_then(|status| status.phase.as_deref());
                pod.metadata.deletion_timestamp.is_none() && phase == Some("Running")
            });
            let alive: BTreeSet<String> = alive.map(ResourceExt::name_any).collect();
            for pool in stack.used(gateway) {
                let of_pool = askers.entry(key(pool)).or_default();
                of_pool.pods.extend(alive.iter().cloned());
                of_pool.unseen |= stack.embeds(pool);
            }
        }
    }
    askers
}

/// What all reports together say. `pods` are those whose silence matters.
fn load(
    reported: &[Reported],
    pods: &BTreeSet<String>,
    (wanted, just_led): (&mut HashMap<Process, u64>, bool),
    now: Timestamp,
) -> Load {
    let fresh: Vec<&Reported> = reported
        .iter()
        .filter(|one| one.at.elapsed() < STALE)
        .collect();
    let in_flight = |one: &&Reported| u64::from(one.load.in_flight) + u64::from(one.load.waiting);
    // A process that is heard for the first time began at zero. But after a change of leader it is not known since when it
    // counts, and that would bring up every pool that was ever wanted.
    let unheard = (!just_led).then_some(0);
    let grew = fresh.iter().any(|one| {
        let before = wanted.get(&one.process).copied().or(unheard);
        before.is_some_and(|before| one.load.wanted > before)
    });
    *wanted = reported
        .iter()
        .map(|one| (one.process.clone(), one.load.wanted))
        .collect();
    let heard: BTreeSet<&str> = fresh.iter().map(|one| one.process.pod.as_str()).collect();
    let all_heard = pods.iter().all(|pod| heard.contains(pod.as_str()));
    let since = fresh.iter().map(|one| {
        let elapsed = SignedDuration::try_from(one.since.elapsed()).unwrap_or_default();
        now.checked_sub(elapsed).unwrap_or(now)
    });
    Load {
        in_flight: fresh.iter().map(in_flight).sum(),
        wanted: grew,
        asked_unseen: false,
        reported_since: since.max().filter(|_| all_heard && !fresh.is_empty()),
    }
}

/// Sets the replicas. The API server notes who writes a custom resource's scale only when somebody owns the field already, so
/// the first write claims it; without that, nobody could tell that another one writes too.
pub(crate) async fn scale(
    cluster: &Cluster,
    pool: &ModelPool,
    (replicas, claimed): (u32, &mut bool),
) {
    if cluster.may_write().is_err() {
        return;
    }
    let (name, namespace) = (pool.name_any(), pool.namespace().unwrap_or_default());
    let api: Api<ModelPool> = Api::namespaced(cluster.client(), &namespace);
    let is_owned = |entry: &ManagedFieldsEntry| entry.subresource.as_deref() == Some("scale");
    let written = if *claimed || pool.managed_fields().iter().any(is_owned) {
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        api.patch_scale(&name, &params, &patch).await.map(|_| ())
    } else {
        let patch = Patch::Apply(json!({
            "apiVersion": weir_crds::API_VERSION, "kind": "ModelPool",
            "metadata": {"name": name}, "spec": {"replicas": replicas},
        }));
        let params = PatchParams::apply(MANAGER).force();
        api.patch(&name, &params, &patch).await.map(|_| ())
    };
    *claimed |= written.is_ok();
    match written {
        Ok(()) => tracing::info!(namespace, pool = name, replicas, "scaled"),
        // The next step tries again.
        Err(error) => tracing::warn!(namespace, pool = name, %error, "a pool was not scaled"),
    }
}

fn key(pool: &ModelPool) -> Key {
    let namespace = pool.namespace().unwrap_or_default();
    Key::new(Kind::ModelPool, &namespace, &pool.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::caller::GatewayId;
    use weir_proto::control::v1::PoolLoad;

    fn reported(pod: &str, in_flight: u32, wanted: u64) -> Reported {
        Reported {
            gateway: GatewayId {
                namespace: "demo".into(),
                name: "support".into(),
            },
            process: Process {
                pod: pod.into(),
                boot: "1".into(),
            },
            since: Instant::now(),
            at: Instant::now(),
            load: PoolLoad {
                pool: "small".into(),
                in_flight,
                waiting: 1,
                wanted,
                ..PoolLoad::default()
            },
        }
    }

    fn pods(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn loads_of_all_processes_add_up_and_a_silent_pod_is_noticed() {
        let mut wanted = HashMap::new();
        let now = Timestamp::now();
        let all = [reported("a", 2, 0), reported("b", 3, 0)];
        let sum = load(&all, &pods(&["a", "b"]), (&mut wanted, false), now);
        assert_eq!(sum.in_flight, 7);
        assert!(sum.reported_since.is_some());
        let silent = load(&all, &pods(&["a", "b", "c"]), (&mut wanted, false), now);
        assert_eq!(silent.reported_since, None);
        tokio::time::advance(STALE).await;
        let stale = load(&all, &pods(&["a"]), (&mut wanted, false), now);
        assert_eq!((stale.in_flight, stale.reported_since), (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_is_wanted_when_a_count_grew_since_the_last_step() {
        for just_led in [true, false] {
            let mut wanted = HashMap::new();
            let mut asked = |count: u64| {
                let known = (&mut wanted, just_led);
                let all = [reported("a", 0, count)];
                load(&all, &pods(&["a"]), known, Timestamp::now()).wanted
            };
            let first = asked(1);
            assert_eq!(first, !just_led, "it may be long ago, before this leader");
            assert!(asked(2));
            assert!(!asked(2));
            assert!(asked(3));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_process_that_wanted_nothing_wakes_nobody() {
        let mut wanted = HashMap::new();
        let all = [reported("a", 0, 0)];
        let known = (&mut wanted, false);
        assert!(!load(&all, &pods(&["a"]), known, Timestamp::now()).wanted);
    }
}
