//! The plan to start with, before the operator is heard: the mounted one or the last good one, whichever is newer.
//!
//! The mounted plan names Services where the last good one may name pods that are gone by now, so its addresses are taken
//! where both know a pool. A file that cannot be used is named in the log and counts as absent.

use crate::last_good::LastGood;
use crate::plan_json::{self, PlanJsonError};
use crate::world::is_same;
use std::io;
use std::path::{Path, PathBuf};
use weir_plan::{GatewayPlan, chain};

/// Why the mounted plan cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountedError {
    /// It cannot be read.
    #[error("the plan {path} cannot be read")]
    Read { path: PathBuf, source: io::Error },
    /// It is no plan for this gateway.
    #[error("the plan {path} {what}")]
    Plan { path: PathBuf, what: PlanJsonError },
}

/// Reads the mounted plan.
pub(crate) fn mounted(path: &Path) -> Result<GatewayPlan, MountedError> {
    let json = std::fs::read(path).map_err(|source| MountedError::Read {
        path: path.to_owned(),
        source,
    })?;
    plan_json::parse(&json).map_err(|what| MountedError::Plan {
        path: path.to_owned(),
        what,
    })
}

/// The plan to start with, and what was wrong with those that cannot be used.
pub(crate) fn first(
    path: Option<&Path>,
    last_good: Option<&LastGood>,
) -> (Option<GatewayPlan>, Vec<String>) {
    let mut wrong = Vec::new();
    let mounted = path
        .map(mounted)
        .and_then(|read| read.map_err(|error| wrong.push(chain(&error))).ok());
    let kept = last_good.and_then(|last_good| {
        let read = last_good.read();
        read.map_err(|error| wrong.push(chain(&error)))
            .ok()
            .flatten()
    });
    let newest = match (mounted, kept) {
        (Some(mounted), Some(kept)) if kept.revision > mounted.revision => {
            Some(with_addresses_of(&mounted, kept))
        }
        (Some(mounted), _) => Some(mounted),
        (None, kept) => kept,
    };
    (newest, wrong)
}

fn with_addresses_of(mounted: &GatewayPlan, mut kept: GatewayPlan) -> GatewayPlan {
    for stable in mounted.served().filter(|pool| !pool.endpoints.is_empty()) {
        let known = kept.served_mut(&stable.name);
        if let Some(pool) = known.filter(|pool| is_same(pool, stable)) {
            pool.endpoints.clone_from(&stable.endpoints);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::fixture::{plan, pool, revision};

    struct Files {
        _folder: tempfile::TempDir,
        path: PathBuf,
        last_good: LastGood,
    }

    fn files(mounted: &str, kept: Option<&GatewayPlan>) -> Files {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mounted.json");
        std::fs::write(&path, mounted).unwrap();
        let last_good = LastGood::within(folder.path());
        if let Some(kept) = kept {
            last_good.write(kept).unwrap();
        }
        Files {
            _folder: folder,
            path,
            last_good,
        }
    }

    fn newer() -> GatewayPlan {
        GatewayPlan {
            revision: revision(2),
            pools: vec![
                pool("small", &["http://pod-1"]),
                pool("big", &["http://pod-2"]),
            ],
            ..plan("kept")
        }
    }

    fn text(plan: &GatewayPlan) -> String {
        serde_json::to_string(plan).unwrap()
    }

    #[test]
    fn the_newer_plan_is_served_at_the_addresses_that_last() {
        let files = files(&text(&plan("mounted")), Some(&newer()));
        let (first, wrong) = first(Some(&files.path), Some(&files.last_good));
        let first = first.unwrap();
        assert_eq!((first.gateway.as_str(), wrong.len()), ("kept", 0));
        assert_eq!(first.pools[0].endpoints[0].url, "http://small:8080");
        assert_eq!(first.pools[1].endpoints[0].url, "http://pod-2");
    }

    #[test]
    fn a_mounted_plan_that_is_newer_replaces_the_last_good_one() {
        let mut mounted = plan("mounted");
        mounted.revision = revision(3);
        let files = files(&text(&mounted), Some(&newer()));
        let (first, _) = first(Some(&files.path), Some(&files.last_good));
        assert_eq!(first, Some(mounted));
    }

    #[test]
    fn what_cannot_be_used_is_named_and_the_other_serves() {
        let files = files("{", Some(&newer()));
        let (found, wrong) = first(Some(&files.path), Some(&files.last_good));
        assert_eq!(found.unwrap().gateway, "kept");
        assert!(wrong[0].contains("mounted.json is no JSON"), "{wrong:?}");
        let (found, wrong) = first(Some(Path::new("/nowhere/plan.json")), None);
        assert!(
            found.is_none() && wrong[0].contains("/nowhere/plan.json"),
            "{wrong:?}"
        );
    }
}
