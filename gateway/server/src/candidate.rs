//! Two versions of the router decide one request while a rollout runs; one of them is dispatched.
//!
//! Owns who gets the candidate: a user's bucket, one of 256, against the plan's weight, and nobody while the operator is
//! silent. Both versions choose from the same features with the same draw. A candidate that cannot choose hands the
//! request to the active version and is charged with an error. The choice itself is `choose.rs`; what is counted is
//! `evidence.rs`.

use crate::ask::{Ask, ClientSettings};
use crate::choose::{Chosen, choose};
use crate::dispatch::Sampling;
use crate::error::AnswerError;
use crate::evidence::{Dispatched, Role};
use crate::gateway::Gateway;
use crate::prepare::Prepared;
use crate::record::{ChoiceRow, RolloutRow, RouterRow, ShadowRow};
use crate::serving::Serving;
use sha2::{Digest, Sha256};
use weir_plan::{CandidatePhase, CandidatePlan, Pool, RouterPlan};
use weir_router::{Router, State, StepFeatures};

/// Groups of users that a rollout tells apart. A higher weight keeps every group that is in already.
const BUCKETS: u32 = 256;

/// A candidate with its artifact.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What the plan says of it.
    pub plan: CandidatePlan,
    /// The router, bound to the plan's pools.
    pub router: Router,
}

/// A version of the router with what it knows of one request.
#[derive(Clone, Debug)]
pub(crate) struct Deciding {
    pub(crate) router: Router,
    pub(crate) state: State,
    /// The version; `None` is the default artifact.
    pub(crate) plan: Option<RouterPlan>,
}

/// A request's place in a rollout.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) rollout: String,
    pub(crate) phase: CandidatePhase,
    pub(crate) bucket: u8,
    /// The version that is dispatched.
    pub(crate) role: Role,
    /// The one that only decides.
    pub(crate) other: Deciding,
}

/// The first decision as it is executed, with its part in a rollout.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) chosen: Chosen,
    pub(crate) rollout: Option<RolloutRow>,
    /// Counts the request for the version that is dispatched.
    pub(crate) dispatched: Option<Dispatched>,
}

impl Deciding {
    pub(crate) fn new(
        router: &Router,
        plan: Option<&RouterPlan>,
        features: &[StepFeatures],
    ) -> Self {
        let mut state = router.start();
        for step in features {
            router.observe(&mut state, step);
        }
        Self {
            router: router.clone(),
            state,
            plan: plan.cloned(),
        }
    }

    /// The router's sampling class as a pool's model samples it, with what the client set put over it. A class that
    /// samples takes the temperature of the model's card; a greedy one stays greedy.
    pub(crate) fn sampling(
        &self,
        client: &ClientSettings,
        class: usize,
        pool: &Pool,
        seed: Option<u64>,
    ) -> Sampling {
        let class = &self.router.arms().sampling[class];
        let card = pool
            .sampling
            .temperature
            .filter(|_| class.temperature > 0.0);
        let temperature = client.temperature.or(card);
        Sampling {
            class: class.name.clone(),
            temperature: temperature.unwrap_or(class.temperature),
            top_p: client.top_p.unwrap_or(class.top_p),
            seed,
        }
    }

    pub(crate) fn row(&self, serving: &Serving) -> RouterRow {
        serving.router_row(&self.router, self.plan.as_ref())
    }
}

/// The version that decides a request, and its place in the rollout if one runs.
pub(crate) fn assign(
    gateway: &Gateway,
    serving: &Serving,
    ask: &Ask,
    decision_id: &str,
    features: &[StepFeatures],
) -> (Deciding, Option<Trial>) {
    let active = Deciding::new(&serving.router, serving.plan.router.as_ref(), features);
    let candidate = serving.candidate.as_ref();
    let Some(candidate) = candidate.filter(|_| !gateway.is_stale()) else {
        return (active, None);
    };
    let CandidatePlan {
        router,
        rollout,
        phase,
        ..
    } = &candidate.plan;
    let tried = Deciding::new(&candidate.router, router.as_ref(), features);
    let bucket = bucket(rollout, ask, decision_id);
    let role = role(bucket, phase.weight());
    let (deciding, other) = match role {
        Role::Active => (active, tried),
        Role::Candidate => (tried, active),
    };
    let trial = Trial {
        rollout: rollout.clone(),
        phase: *phase,
        bucket,
        role,
        other,
    };
    (deciding, Some(trial))
}

/// Both versions choose; the one that the user belongs to is dispatched.
pub(crate) fn decide(gateway: &Gateway, prepared: &mut Prepared) -> Result<Decision, AnswerError> {
    let draw = rand::random();
    let chosen = choose(gateway, prepared, &prepared.deciding, draw);
    let Some(mut trial) = prepared.trial.take() else {
        return Ok(Decision {
            chosen: chosen?,
            rollout: None,
            dispatched: None,
        });
    };
    let evidence = gateway.evidence();
    let mut other = choose(gateway, prepared, &trial.other, draw);
    let chosen = match chosen {
        Ok(chosen) => chosen,
        Err(error) if trial.role == Role::Candidate && other.is_ok() => {
            let failed = evidence.dispatched(&trial.rollout, Role::Candidate);
            failed.end(prepared.ask.received.elapsed().as_secs_f64() * 1e3, true);
            trial.role = Role::Active;
            std::mem::swap(&mut prepared.deciding, &mut trial.other);
            std::mem::replace(&mut other, Err(error))?
        }
        Err(error) => return Err(error),
    };
    let agrees = other
        .as_ref()
        .is_ok_and(|other| same(&trial.other, other, &prepared.deciding, &chosen));
    evidence.decided(&trial.rollout, agrees);
    // The shadow compares no answers, since only one version gives any.
    let counted = trial.phase != CandidatePhase::Shadow;
    Ok(Decision {
        dispatched: counted.then(|| evidence.dispatched(&trial.rollout, trial.role)),
        rollout: Some(row(prepared, trial, other, agrees)),
        chosen,
    })
}

/// Whether two versions' choices would be executed in the same way.
fn same(a: &Deciding, of_a: &Chosen, b: &Deciding, of_b: &Chosen) -> bool {
    let executed = |deciding: &Deciding, chosen: &Chosen| {
        let table = deciding.router.arms();
        let class = &table.sampling[chosen.choice.sampling];
        (table.arms[chosen.arm], class.temperature, class.top_p)
    };
    executed(a, of_a) == executed(b, of_b)
}

fn row(
    prepared: &Prepared,
    trial: Trial,
    other: Result<Chosen, AnswerError>,
    agrees: bool,
) -> RolloutRow {
    let (choice, arm, error) = match other {
        Ok(chosen) => {
            let row = ChoiceRow::of(&chosen, prepared, &trial.other);
            (Some(row), Some(chosen.arm), None)
        }
        Err(error) => (None, None, Some(error.kind().to_owned())),
    };
    let shadow = ShadowRow {
        router: trial.other.row(&prepared.serving),
        choice,
        arm,
        agrees,
        error,
    };
    RolloutRow {
        name: trial.rollout,
        bucket: trial.bucket,
        weight: trial.phase.weight(),
        dispatched: trial.role,
        shadow,
    }
}

/// The user's group: everybody is in one, by name, by conversation, or by chance when neither is known.
fn bucket(rollout: &str, ask: &Ask, decision_id: &str) -> u8 {
    let (kind, who) = match (&ask.client.user, &ask.weir.session) {
        (Some(user), _) => ("user", user.as_str()),
        (None, Some(session)) => ("session", session.as_str()),
        (None, None) => ("decision", decision_id),
    };
    let mut hash = Sha256::new();
    for part in [rollout, ask.caller.tenant.as_str(), kind, who] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize()[0]
}

fn role(bucket: u8, weight: u32) -> Role {
    if u32::from(bucket) * 100 < weight * BUCKETS {
        Role::Candidate
    } else {
        Role::Active
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Caller;

    fn asking(tenant: &str, user: Option<&str>, session: Option<&str>) -> Ask {
        let caller = Caller {
            tenant: tenant.to_owned(),
            ..Caller::default()
        };
        let mut ask = Ask::question("hi", caller);
        ask.client.user = user.map(str::to_owned);
        ask.weir.session = session.map(str::to_owned);
        ask
    }

    #[test]
    fn a_user_keeps_its_bucket_and_rollouts_tenants_and_names_have_their_own() {
        let of = |rollout, ask: &Ask| bucket(rollout, ask, "decision-1");
        let ann = asking("acme", Some("ann"), Some("chat-1"));
        assert_eq!(
            of("r-1", &ann),
            of("r-1", &asking("acme", Some("ann"), None))
        );
        let differing = |change: &dyn Fn(usize) -> (String, Ask)| {
            let buckets = (0..8)
                .map(change)
                .map(|(rollout, ask)| bucket(&rollout, &ask, "d"));
            buckets.collect::<std::collections::BTreeSet<_>>().len() > 1
        };
        assert!(differing(&|n| (format!("r-{n}"), ann.clone())));
        assert!(differing(&|n| (
            "r".into(),
            asking(&n.to_string(), Some("ann"), None)
        )));
        assert!(differing(&|n| (
            "r".into(),
            asking("acme", None, Some(&n.to_string()))
        )));
        let nobody = asking("acme", None, None);
        let by_chance = (0..8).map(|n| bucket("r", &nobody, &n.to_string()));
        assert!(by_chance.collect::<std::collections::BTreeSet<_>>().len() > 1);
    }

    #[test]
    fn a_weight_takes_its_share_of_buckets_and_a_higher_one_keeps_them() {
        let tried =
            |weight| (0..=255).filter(move |bucket| role(*bucket, weight) == Role::Candidate);
        assert_eq!(tried(0).count(), 0);
        assert_eq!(tried(5).count(), 13);
        assert_eq!(tried(25).count(), 64);
        assert_eq!(tried(100).count(), 256);
        for weight in 0..100 {
            let higher: Vec<u8> = tried(weight + 1).collect();
            assert!(
                tried(weight).all(|bucket| higher.contains(&bucket)),
                "{weight}"
            );
        }
    }
}
