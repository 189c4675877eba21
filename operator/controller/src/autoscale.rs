//! Replicas that follow the requests: what gateways report becomes a write to a pool's scale subresource.
//!
//! How many there should be is decided in `operator/reconcile`; this file brings the reports together and writes, as an
//! HPA would. When somebody else writes there too, Weir does not.

use crate::apply::MANAGER;
use crate::cache::Caches;
use crate::cluster::Cluster;
use crate::context::{Context, Stacks};
use crate::control::ledger::{Load as Reported, Process};
use crate::control::server::Hub;
use crate::key::{Key, Kind};
use crate::queue::doubled;
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
/// Pause after the first write that failed, and the longest after further ones.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
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
    /// Since when nothing that runs here may ask the pool.
    unasked_since: Option<Timestamp>,
    /// Writes that failed since one succeeded, and the last of them.
    failed: Option<(u32, Instant)>,
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
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let Context {
        cluster,
        caches,
        stacks,
        hub,
        ..
    } = &*context;
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
        let askers = askers(caches, stacks, &keys);
        for pool in pools {
            let key = key(&pool);
            let asked_by = askers.get(&key);
            let remembered = memory.entry(key).or_default();
            let since = (just_led, Timestamp::now());
            let replicas = step(hub, &pool, (asked_by, &mut *remembered), since);
            let Some(replicas) = replicas.filter(|_| remembered.may_write()) else {
                continue;
            };
            let written = scale(cluster, &pool, (replicas, &mut remembered.claimed)).await;
            remembered.wrote(written.is_ok());
            if let Err(error) = written {
                let what = format!("set the replicas to {replicas}: {error}");
                tracing::warn!(
                    pool = pool.name_any(),
                    error = what,
                    "a pool was not scaled"
                );
                context.statuses.failed(&*pool, &what).await;
            }
        }
    }
}

impl Remembered {
    /// Whether a write that failed has been left alone for long enough.
    fn may_write(&self) -> bool {
        self.failed
            .is_none_or(|(failures, at)| at.elapsed() >= doubled(AGAIN, failures))
    }

    fn wrote(&mut self, succeeded: bool) {
        let failures = self.failed.map_or(0, |(failures, _)| failures);
        self.failed = (!succeeded).then(|| (failures.saturating_add(1), Instant::now()));
    }
}

/// One step for one pool: the replicas to set, when they are others than now or not known to be Weir's. `just_led` holds while processes report here that counted for another leader.
fn step(
    hub: &Hub,
    pool: &ModelPool,
    (askers, memory): (Option<&Askers>, &mut Remembered),
    (just_led, now): (bool, Timestamp),
) -> Option<u32> {
    let scaling = pool.spec.autoscaling.as_ref()?;
    if other_scale_manager(pool).is_some() || weir_reconcile::condition::is_paused(&pool.metadata) {
        return None;
    }
    let namespace = pool.namespace().unwrap_or_default();
    let reported = hub.ledger().loads(&namespace, &pool.name_any());
    let known = (&mut memory.wanted, just_led);
    let load = match askers {
        Some(askers) => Load {
            asked_unseen: askers.unseen,
            ..load(&reported, &askers.pods, known, now)
        },
        // Nobody may ask it, so that nobody reports is no silence.
        None => Load {
            reported_since: Some(memory.unasked_since.unwrap_or(now)),
            ..Load::default()
        },
    };
    memory.unasked_since = match askers {
        Some(_) => None,
        None => load.reported_since,
    };
    let (replicas, scale) = autoscale(scaling, pool.spec.replicas, &load, (memory.scale, now));
    memory.scale = scale;
    (replicas != pool.spec.replicas || !memory.claimed).then_some(replicas)
}

/// Who may ask each pool; nobody a pool that is not there.
fn askers(caches: &Caches, stacks: &Stacks, pools: &HashSet<Key>) -> HashMap<Key, Askers> {
    let mut askers: HashMap<Key, Askers> = HashMap::new();
    let namespaces: BTreeSet<&str> = pools.iter().map(|key| key.namespace.as_str()).collect();
    for namespace in namespaces {
        let stack = stacks.get(caches, namespace);
        for pool in stack.pools.iter().filter(|pool| stack.embeds(pool)) {
            askers.entry(key(pool)).or_default().unseen = true;
        }
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

/// Sets the replicas. The API server notes who writes a custom resource's scale only when somebody owns the field already, and takes
/// a 0 for a field that is not there, which nobody owns then. So the first write and each to 0 claim it; without that, nobody
/// could tell that another one writes too.
pub(crate) async fn scale(
    cluster: &Cluster,
    pool: &ModelPool,
    (replicas, claimed): (u32, &mut bool),
) -> Result<(), kube::Error> {
    if cluster.may_write().is_err() {
        return Ok(());
    }
    let (name, namespace) = (pool.name_any(), pool.namespace().unwrap_or_default());
    let api: Api<ModelPool> = Api::namespaced(cluster.client(), &namespace);
    let written = if *claimed && replicas > 0 {
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
    written?;
    *claimed = true;
    tracing::info!(namespace, pool = name, replicas, "scaled");
    Ok(())
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

    /// A pool that may go to zero after a minute without requests.
    fn idle_pool() -> ModelPool {
        serde_json::from_value(json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "ModelPool",
            "metadata": {"name": "small", "namespace": "demo"},
            "spec": {"model": {"name": "small"}, "tier": "edge", "privacy": "local", "replicas": 1,
                     "engine": {"llamaCpp": {}}, "autoscaling": {"min": 0, "max": 2}},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_pool_that_nobody_may_ask_goes_to_its_minimum() {
        let (hub, pool, now) = (Hub::default(), idle_pool(), Timestamp::now());
        let silent = Askers::default();
        for (asked_by, replicas) in [(None, Some(0)), (Some(&silent), None)] {
            let mut memory = Remembered {
                claimed: true,
                ..Remembered::default()
            };
            let mut after = |time: SignedDuration| {
                let at = (false, now + time);
                step(&hub, &pool, (asked_by, &mut memory), at)
            };
            assert_eq!(
                after(SignedDuration::ZERO),
                None,
                "it was asked a moment ago"
            );
            let found = after(SignedDuration::from_hours(2));
            assert_eq!(found, replicas, "a gateway that says nothing may be asking");
        }
    }

    #[test]
    fn a_pool_whose_replicas_nobody_owns_is_claimed_as_it_is() {
        let (hub, pool, askers) = (Hub::default(), idle_pool(), Askers::default());
        let mut memory = Remembered::default();
        let now = (false, Timestamp::now());
        let first = step(&hub, &pool, (Some(&askers), &mut memory), now);
        assert_eq!(first, Some(pool.spec.replicas));
        memory.claimed = true;
        assert_eq!(step(&hub, &pool, (Some(&askers), &mut memory), now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn writes_that_fail_are_made_again_with_growing_pauses() {
        let mut memory = Remembered::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            memory.wrote(false);
            let mut waited = 0;
            while !memory.may_write() {
                tokio::time::advance(EVERY).await;
                waited += 1;
            }
            pauses.push(waited);
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60]);
        memory.wrote(true);
        assert!(memory.may_write());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_process_that_wanted_nothing_wakes_nobody() {
        let mut wanted = HashMap::new();
        let all = [reported("a", 0, 0)];
        let known = (&mut wanted, false);
        assert!(!load(&all, &pods(&["a"]), known, Timestamp::now()).wanted);
    }
}
