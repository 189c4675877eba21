//! The last plan that was served, on the disk, for a start while the operator is away.
//!
//! `plan.json` in the state folder: `{"sha256": ..., "plan": {...}}`, the checksum over the plan as `serde_json` writes
//! it. Mode 0600, since a plan holds keys. A copy that is damaged is named and not used. Reading on: `first.rs`.

use crate::files;
use crate::plan_json::{self, PlanJsonError};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use weir_plan::GatewayPlan;

const FILE_NAME: &str = "plan.json";

/// The copy.
#[derive(Clone, Debug)]
pub(crate) struct LastGood {
    path: PathBuf,
}

/// Why the copy cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LastGoodError {
    /// It cannot be read.
    #[error("the last good plan {path} cannot be read")]
    Read { path: PathBuf, source: io::Error },
    /// It is not what was written.
    #[error("the last good plan {path} is damaged: {what}")]
    Damaged { path: PathBuf, what: &'static str },
    /// It is whole and no plan for this gateway.
    #[error("the last good plan {path} {what}")]
    Plan { path: PathBuf, what: PlanJsonError },
    /// It cannot be written.
    #[error("the last good plan {path} cannot be written")]
    Write { path: PathBuf, source: io::Error },
}

impl LastGood {
    /// The copy in a state folder.
    pub(crate) fn within(state: &Path) -> Self {
        Self {
            path: state.join(FILE_NAME),
        }
    }

    /// The plan, if one was ever written.
    pub(crate) fn read(&self) -> Result<Option<GatewayPlan>, LastGoodError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let path = self.path.clone();
                return Err(LastGoodError::Read { path, source });
            }
        };
        let damaged = |what| LastGoodError::Damaged {
            path: self.path.clone(),
            what,
        };
        let copy: Value =
            serde_json::from_slice(&bytes).map_err(|_| damaged("it is no JSON, or cut short"))?;
        let (sha256, plan) = match (copy.get("sha256"), copy.get("plan")) {
            (Some(Value::String(sha256)), Some(plan)) => (sha256, plan.to_string()),
            _ => return Err(damaged("it lacks its checksum or its plan")),
        };
        if *sha256 != digest(&plan) {
            return Err(damaged("its checksum is another"));
        }
        plan_json::parse(plan.as_bytes())
            .map(Some)
            .map_err(|what| LastGoodError::Plan {
                path: self.path.clone(),
                what,
            })
    }

    /// Replaces the copy.
    pub(crate) fn write(&self, plan: &GatewayPlan) -> Result<(), LastGoodError> {
        let write = || -> io::Result<()> {
            let plan = serde_json::to_value(plan)?;
            let sha256 = digest(&plan.to_string());
            let copy = json!({"sha256": sha256, "plan": plan});
            files::replace(&self.path, copy.to_string().as_bytes())
        };
        write().map_err(|source| LastGoodError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

fn digest(plan: &str) -> String {
    hex::encode(Sha256::digest(plan.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::fixture::plan;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_written_plan_reads_back_and_is_the_users_alone() {
        let folder = tempfile::tempdir().unwrap();
        let copy = LastGood::within(folder.path());
        assert_eq!(copy.read().unwrap(), None);
        let mut plan = plan("first");
        copy.write(&plan).unwrap();
        plan.objective.per_second = 0.1 + 0.2;
        copy.write(&plan).unwrap();
        assert_eq!(copy.read().unwrap(), Some(plan));
        let mode = std::fs::metadata(&copy.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_copy_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let copy = LastGood::within(folder.path());
        copy.write(&plan("original")).unwrap();
        let text = std::fs::read_to_string(&copy.path).unwrap();
        for (damage, says) in [
            (text.replace("original", "0riginal"), "checksum"),
            (text[..text.len() / 2].to_owned(), "cut short"),
            ("{}".to_owned(), "lacks"),
            (String::new(), "no JSON"),
        ] {
            std::fs::write(&copy.path, damage).unwrap();
            let error = copy.read().unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(FILE_NAME), "{error}");
        }
    }
}
