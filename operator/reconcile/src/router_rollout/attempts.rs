//! The attempts of one gateway, as they lie in the cluster: what they are called, which of them runs, how one ends.
//!
//! The next attempt begins only when the one before has ended, so the newest alone can run: an older one that does not say
//! how it ended has lost its status, as after a restore, and so has one at the version that decides. What the newest comes
//! to is decided in `router_rollout.rs`.

use super::{KEPT, builtin};
use crate::validate::name;
use weir_crds::{GatewayRouterStatus, RolloutPhase, RouterRollout, VersionRef};
use weir_router::gate::Reason;

/// Why an attempt that runs, or seems to, is ended without the gate.
pub(super) enum End {
    /// The spec names the active version again.
    Reverted,
    /// The spec names a third version.
    Superseded,
    /// It passed, and its status was lost.
    LostAfterPassing,
    /// A later one has begun, and its status was lost.
    LostBeforeLater,
}

impl End {
    pub(super) fn of(
        rollout: &RouterRollout,
        may_run: bool,
        (wanted, active): (&VersionRef, &VersionRef),
    ) -> Self {
        match (may_run, wanted == active) {
            (false, _) if rollout.spec.to == *active => Self::LostAfterPassing,
            (false, _) => Self::LostBeforeLater,
            (true, true) => Self::Reverted,
            (true, false) => Self::Superseded,
        }
    }

    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Reverted => Reason::SpecReverted,
            Self::LostAfterPassing => Reason::Passed,
            Self::Superseded | Self::LostBeforeLater => Reason::Superseded,
        }
    }

    pub(super) fn message(&self) -> &'static str {
        match self {
            Self::Reverted => "the gateway names the active version again",
            Self::Superseded => "the gateway names another version now",
            Self::LostAfterPassing => "its status was lost; its version decides",
            Self::LostBeforeLater => "its status was lost; a later attempt has begun",
        }
    }
}

/// Whether the version that an attempt tries is the one that decides by the gateway's status.
pub(super) fn decides(status: &GatewayRouterStatus, rollout: &RouterRollout) -> bool {
    let tried = &rollout.spec.to;
    (&status.active, &status.active_sha256) == (&tried.version, &tried.sha256)
}

/// The step that an attempt came to.
pub(super) fn step_of(rollout: &RouterRollout) -> usize {
    let status = rollout.status.as_ref();
    status.map_or(0, |status| status.step as usize)
}

/// The attempt that the gateway's state is about: one that runs, the one its status names, or the newest when it has no
/// status.
pub(super) fn current<'a>(
    remembered: Option<&GatewayRouterStatus>,
    attempts: &[&'a RouterRollout],
    may_run: impl Fn(&RouterRollout) -> bool,
) -> Option<&'a RouterRollout> {
    let mut newest_first = attempts.iter().rev();
    let running = newest_first.find(|rollout| !has_ended(rollout) && may_run(rollout));
    let named = || match remembered {
        Some(status) => attempts
            .iter()
            .find(|rollout| status.rollout.is_some() && rollout.metadata.name == status.rollout),
        None => attempts.last(),
    };
    let found = running.or_else(named).copied();
    found.filter(|rollout| has_ended(rollout) || may_run(rollout))
}

/// The version that decides. A rollout's success counts once: while the gateway still names it.
pub(super) fn active(
    remembered: Option<&GatewayRouterStatus>,
    current: Option<&RouterRollout>,
    wanted: Option<&VersionRef>,
) -> VersionRef {
    match (current, remembered) {
        (Some(rollout), _) if phase_of(rollout) == Some(RolloutPhase::Active) => {
            rollout.spec.to.clone()
        }
        (_, Some(status)) => VersionRef {
            version: status.active.clone(),
            sha256: status.active_sha256.clone(),
        },
        (Some(rollout), None) => rollout.spec.from.clone(),
        (None, None) => wanted.cloned().unwrap_or_else(builtin),
    }
}

/// The oldest attempts beyond those that are kept; never the one that the gateway's state is about.
pub(super) fn surplus(attempts: &[&RouterRollout], current: Option<&RouterRollout>) -> Vec<String> {
    let old = attempts.len().saturating_sub(KEPT);
    attempts[..old]
        .iter()
        .filter(|rollout| {
            let is_current = current.is_some_and(|one| one.metadata.name == rollout.metadata.name);
            has_ended(rollout) && !is_current
        })
        .map(|rollout| name(&rollout.metadata.name).to_owned())
        .collect()
}

fn phase_of(rollout: &RouterRollout) -> Option<RolloutPhase> {
    rollout.status.as_ref().and_then(|status| status.phase)
}

pub(super) fn has_ended(rollout: &RouterRollout) -> bool {
    phase_of(rollout).is_some_and(RolloutPhase::ended)
}

/// `<gateway>-<version>-<attempt>`, cut in front of the number where a name may not be longer.
pub(super) fn rollout_name(gateway: &str, version: &str, attempt: u32) -> String {
    const NAME_MAX: usize = 253;
    let number = format!("-{attempt}");
    let mut called = format!("{gateway}-{version}");
    called.truncate(NAME_MAX - number.len());
    called + &number
}

/// The number of an attempt; 0 for a name that the operator did not give.
pub(super) fn number(gateway: &str, rollout: &RouterRollout) -> u32 {
    let called = name(&rollout.metadata.name);
    let number = called
        .starts_with(gateway)
        .then(|| called.rsplit_once('-'))
        .flatten();
    number
        .and_then(|(_, number)| number.parse().ok())
        .unwrap_or(0)
}
