//! What offered plans, endpoints and artifacts do to what is served.

use super::fixture::{artifact, plan, pool, revision};
use super::*;
use std::sync::Arc;
use weir_gateway::gateway::Serving;
use weir_plan::{CandidatePhase, CandidatePlan, EmbedderPlan, MemoryPlan};

fn world(places: Places) -> World {
    World::new(places, true).0
}

fn offer(world: &mut World, plan: &GatewayPlan) -> Result<(), Refusal> {
    world.offer(
        plan.revision,
        serde_json::to_string(plan).unwrap().as_bytes(),
    )
}

fn serving(world: &World) -> Arc<Serving> {
    world.gateway().unwrap().serving()
}

fn urls(world: &World, pool: &str) -> Vec<String> {
    let serving = serving(world);
    let found = serving.plan.pools.iter().find(|known| known.name == pool);
    let endpoints = found.unwrap().endpoints.iter();
    endpoints.map(|endpoint| endpoint.url.clone()).collect()
}

fn list(urls: &[&str]) -> Vec<u8> {
    let endpoints: Vec<Endpoint> = urls.iter().map(|url| Endpoint::keyless(url)).collect();
    serde_json::to_vec(&endpoints).unwrap()
}

fn streamed(counter: u64) -> GatewayPlan {
    GatewayPlan {
        revision: revision(counter),
        pools: vec![pool("small", &[])],
        ..plan("g")
    }
}

#[test]
fn a_newer_plan_is_served_and_an_older_one_refused() {
    let mut world = world(Places::default());
    let second = GatewayPlan {
        revision: revision(2),
        ..plan("second")
    };
    offer(&mut world, &second).unwrap();
    let refused = offer(&mut world, &plan("first")).unwrap_err();
    assert_eq!(refused.reason(), "older");
    assert_eq!(serving(&world).plan.gateway, "second");
    let mut elected = plan("elected");
    elected.revision = Revision {
        epoch: 2,
        counter: 0,
    };
    offer(&mut world, &elected).unwrap();
    assert_eq!(serving(&world).plan.gateway, "elected");
    let standing = world.gateway().unwrap().standing();
    assert_eq!((standing.refused, standing.refusals["older"]), (None, 1));
}

/// What is mounted has the revision of the plan that it is a part of.
#[test]
fn the_operators_plan_completes_the_part_of_it_that_was_mounted() {
    let mut world = world(Places::default());
    world.offer_read(plan("g")).unwrap();
    let whole = GatewayPlan {
        candidate: Some(CandidatePlan {
            router: None,
            rollout: "r".to_owned(),
            uid: "u".to_owned(),
            phase: CandidatePhase::Shadow,
        }),
        ..plan("g")
    };
    offer(&mut world, &whole).unwrap();
    assert_eq!(serving(&world).plan.candidate, whole.candidate);
    world.offer_read(plan("g")).unwrap();
    assert_eq!(serving(&world).plan.candidate, whole.candidate);
}

#[test]
fn a_plan_that_cannot_be_served_leaves_the_present_one_and_is_counted() {
    let mut world = world(Places::default());
    offer(&mut world, &plan("good")).unwrap();
    let mut twice = plan("twice");
    twice.revision = revision(2);
    twice.pools.push(twice.pools[0].clone());
    assert_eq!(offer(&mut world, &twice).unwrap_err().reason(), "invalid");
    let refused = world.offer(revision(3), b"{").unwrap_err();
    assert_eq!(refused.reason(), "unreadable");
    let mut other = plan("other");
    other.format.major += 1;
    other.revision = revision(4);
    assert_eq!(offer(&mut world, &other).unwrap_err().reason(), "format");
    assert_eq!(serving(&world).plan.gateway, "good");
    assert_eq!(world.gateway().unwrap().standing().refused, Some("format"));
    assert_eq!(world.revision(), Some(revision(1)));
}

#[test]
fn endpoints_of_one_pool_change_and_the_plan_stays() {
    let mut world = world(Places::default());
    offer(&mut world, &plan("g")).unwrap();
    let since = serving(&world).since;
    world
        .endpoints("small", revision(7), &list(&["http://pod-1"]))
        .unwrap();
    assert_eq!(urls(&world, "small"), ["http://pod-1"]);
    world
        .endpoints("small", revision(6), &list(&["http://pod-0"]))
        .unwrap();
    assert_eq!(urls(&world, "small"), ["http://pod-1"], "an older list");
    let refused = world
        .endpoints("small", revision(8), b"[{\"url\": 1}]")
        .unwrap_err();
    assert_eq!(refused.reason(), "endpoints");
    assert_eq!(serving(&world).since, since);
    world.endpoints("small", revision(9), &list(&[])).unwrap();
    assert!(urls(&world, "small").is_empty());
}

#[test]
fn a_plan_without_endpoints_keeps_those_that_are_known() {
    let mut world = world(Places::default());
    offer(&mut world, &plan("g")).unwrap();
    offer(&mut world, &streamed(2)).unwrap();
    assert_eq!(
        urls(&world, "small"),
        ["http://small:8080"],
        "of the mounted plan"
    );
    world
        .endpoints("small", revision(1), &list(&["http://pod-1"]))
        .unwrap();
    offer(&mut world, &streamed(3)).unwrap();
    assert_eq!(urls(&world, "small"), ["http://pod-1"], "of the stream");
    world.endpoints("small", revision(2), &list(&[])).unwrap();
    offer(&mut world, &streamed(4)).unwrap();
    assert!(urls(&world, "small").is_empty(), "at zero");
}

#[test]
fn endpoints_that_come_before_their_pool_are_there_when_it_comes() {
    let mut world = world(Places::default());
    world
        .endpoints("small", revision(1), &list(&["http://pod-1"]))
        .unwrap();
    offer(&mut world, &streamed(1)).unwrap();
    assert_eq!(urls(&world, "small"), ["http://pod-1"]);
}

#[test]
fn a_pool_that_means_another_model_does_not_inherit_endpoints() {
    let mut world = world(Places::default());
    offer(&mut world, &plan("g")).unwrap();
    let mut moved = streamed(2);
    moved.pools[0].privacy = weir_plan::Privacy::Cloud;
    offer(&mut world, &moved).unwrap();
    assert!(urls(&world, "small").is_empty());
}

#[test]
fn a_missing_artifact_leaves_the_present_router_which_says_so_until_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let places = Places {
        artifacts: Artifacts {
            kept: Some(folder.path().to_owned()),
            mounted: None,
        },
        ..Places::default()
    };
    let mut world = world(places);
    let (sha256, bytes) = artifact(1.0);
    let mut named = plan("g");
    named.router = Some(RouterPlan {
        version: "router-v7".to_owned(),
        sha256: sha256.clone(),
    });
    offer(&mut world, &named).unwrap();
    assert_eq!(world.missing(), Some(sha256.as_str()));
    assert_eq!(serving(&world).plan.router, None, "the default one decides");
    let missing = || world.gateway().unwrap().standing().router_missing;
    assert_eq!(missing().as_ref(), Some(&sha256));
    assert!(world.artifact(&sha256, b"other bytes").is_err());
    assert_eq!(serving(&world).plan.router, None);
    world.offer(revision(2), b"{").unwrap_err();
    world.artifact(&sha256, &bytes).unwrap();
    assert_eq!(
        world.gateway().unwrap().standing().refused,
        Some("unreadable"),
        "the newest plan is refused all the same"
    );
    assert_eq!(serving(&world).plan.router, named.router);
    assert_eq!(serving(&world).router.artifact().sha256(), sha256);
    assert_eq!(
        (
            world.missing(),
            world.gateway().unwrap().standing().router_missing
        ),
        (None, None)
    );
}

#[test]
fn the_last_good_plan_is_what_was_offered() {
    let folder = tempfile::tempdir().unwrap();
    let last_good = LastGood::within(folder.path());
    let mut world = world(Places {
        last_good: Some(last_good.clone()),
        ..Places::default()
    });
    let mut named = plan("g");
    named.router = Some(RouterPlan {
        version: "router-v7".to_owned(),
        sha256: "0".repeat(64),
    });
    offer(&mut world, &named).unwrap();
    assert_eq!(last_good.read().unwrap(), Some(named));
}

#[test]
fn a_plan_is_confirmed_only_while_it_is_the_operators_newest() {
    let mut world = world(Places::default());
    offer(&mut world, &plan("g")).unwrap();
    let stale = |world: &World| world.gateway().unwrap().is_stale();
    world.newest(revision(2));
    assert!(
        stale(&world),
        "the newest one was refused, or is on its way"
    );
    world.newest(revision(1));
    assert!(!stale(&world));
}

#[test]
fn a_candidate_is_tried_once_its_artifact_is_here_and_only_beside_the_router_of_the_plan() {
    let mut world = world(Places::default());
    let ((active, active_bytes), (tried, tried_bytes)) = (artifact(1.0), artifact(2.0));
    let version = |version: &str, sha256: &str| {
        Some(RouterPlan {
            version: version.to_owned(),
            sha256: sha256.to_owned(),
        })
    };
    let mut rolling = plan("g");
    rolling.router = version("v1", &active);
    rolling.candidate = Some(CandidatePlan {
        router: version("v2", &tried),
        rollout: "g-v2-1".to_owned(),
        uid: "1".to_owned(),
        phase: CandidatePhase::Canary { weight: 25 },
    });
    let digest = |world: &World| {
        let serving = serving(world);
        let candidate = serving.candidate.as_ref();
        candidate.map(|candidate| candidate.router.artifact().sha256().to_owned())
    };
    offer(&mut world, &rolling).unwrap();
    world.artifact(&tried, &tried_bytes).unwrap();
    assert_eq!(digest(&world), None, "the default router decides, not v1");
    world.artifact(&active, &active_bytes).unwrap();
    assert_eq!(digest(&world), Some(tried));
    let reported = crate::report::report(world.gateway(), world.revision());
    assert_eq!(reported.rollouts[0].rollout, "g-v2-1");
    rolling.candidate = None;
    rolling.revision = revision(2);
    offer(&mut world, &rolling).unwrap();
    assert_eq!(digest(&world), None);
    let reported = crate::report::report(world.gateway(), world.revision());
    assert!(reported.rollouts.is_empty());
}

#[tokio::test]
async fn a_refused_plan_leaves_the_link_to_the_memory_that_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(Places {
        tls: Some(folder.path().to_owned()),
        ..Places::default()
    });
    let remembering = |service: &str, counter| GatewayPlan {
        revision: revision(counter),
        memory: Some(MemoryPlan {
            name: "kb".to_owned(),
            embedding_model: "minilm".to_owned(),
            dimensions: 4,
            service: Some(service.to_owned()),
            embedder: EmbedderPlan::InProcess {
                source: String::new(),
            },
            seeds: 8,
            hops: 2,
            nodes_max: 16,
            summaries: None,
        }),
        ..plan("g")
    };
    offer(&mut world, &remembering("https://first:7444", 1)).unwrap();
    let link = Arc::clone(world.memory.as_ref().unwrap());
    let mut twice = remembering("https://second:7444", 2);
    twice.pools.push(twice.pools[0].clone());
    assert_eq!(offer(&mut world, &twice).unwrap_err().reason(), "invalid");
    assert!(Arc::ptr_eq(&link, world.memory.as_ref().unwrap()));
    offer(&mut world, &remembering("https://first:7444", 3)).unwrap();
    assert!(
        Arc::ptr_eq(&link, world.memory.as_ref().unwrap()),
        "the connection stays"
    );
}
