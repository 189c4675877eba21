//! Router artifacts by digest: mounted beside the plan, kept on the disk, or as the operator sends them.
//!
//! Nothing is used whose SHA-256 is not the one that the plan names, wherever it lies. What decides while an artifact is
//! missing is `world.rs`'s matter.

use crate::files;
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;
use weir_plan::chain;
use weir_router::{Artifact, Router};

/// Largest artifact, in bytes.
pub(crate) const ARTIFACT_MAX: usize = 128 << 10;
/// Artifacts kept on the disk.
const KEPT: usize = 8;

/// Where artifacts are looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Artifacts {
    /// The folder of the mounted plan.
    pub(crate) mounted: Option<PathBuf>,
    /// A folder of our own.
    pub(crate) kept: Option<PathBuf>,
}

/// Why bytes are not the artifact that was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArtifactError {
    /// The plan names no digest.
    #[error("{0:?} is no SHA-256 in lower-case hexadecimal")]
    Name(String),
    /// Other bytes.
    #[error("artifact {wanted} has SHA-256 {found}")]
    Digest { wanted: String, found: String },
    /// Larger than any artifact.
    #[error("artifact {wanted} has {bytes} bytes, {ARTIFACT_MAX} are allowed")]
    Large { wanted: String, bytes: usize },
    /// The right bytes, and no router.
    #[error("artifact {wanted} is no router: {why}")]
    NoRouter { wanted: String, why: String },
    /// It cannot be read.
    #[error("artifact {path} cannot be read")]
    Read { path: PathBuf, source: io::Error },
}

impl Artifacts {
    /// The router of a digest, if its bytes are here. What lies under its name and is not it is named in the log.
    pub(crate) fn find(&self, sha256: &str) -> Option<Router> {
        let folders = [&self.mounted, &self.kept];
        let paths = folders
            .into_iter()
            .flatten()
            .map(|folder| path(folder, sha256));
        paths.filter(|_| is_digest(sha256)).find_map(|path| {
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                Err(source) => {
                    let error = ArtifactError::Read { path, source };
                    tracing::error!(error = chain(&error), "a router artifact is not used");
                    return None;
                }
            };
            let read = router(sha256, &bytes);
            let path = path.display();
            read.inspect_err(
                |error| tracing::error!(%error, %path, "a router artifact is not used"),
            )
            .ok()
        })
    }

    /// The router in these bytes, which are kept for the next start when they are what was asked for.
    pub(crate) fn take(&self, sha256: &str, bytes: &[u8]) -> Result<Router, ArtifactError> {
        let router = router(sha256, bytes)?;
        if let Some(folder) = &self.kept {
            let written = files::make_folder(folder)
                .and_then(|()| files::replace(&path(folder, sha256), bytes))
                .and_then(|()| prune(folder));
            if let Err(error) = written {
                tracing::warn!(%error, sha256, "a router artifact is not kept for the next start");
            }
        }
        Ok(router)
    }
}

fn path(folder: &std::path::Path, sha256: &str) -> PathBuf {
    folder.join(format!("{sha256}.onnx"))
}

/// Whether a name can be looked for: it becomes part of a path.
fn is_digest(sha256: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    sha256.len() == 64 && sha256.bytes().all(digit)
}

fn router(wanted: &str, bytes: &[u8]) -> Result<Router, ArtifactError> {
    let wanted = wanted.to_owned();
    if !is_digest(&wanted) {
        return Err(ArtifactError::Name(wanted));
    }
    let found = hex::encode(Sha256::digest(bytes));
    if found != wanted {
        return Err(ArtifactError::Digest { wanted, found });
    }
    if bytes.len() > ARTIFACT_MAX {
        let bytes = bytes.len();
        return Err(ArtifactError::Large { wanted, bytes });
    }
    let no_router = |error: &dyn std::error::Error| ArtifactError::NoRouter {
        wanted: wanted.clone(),
        why: chain(error),
    };
    let artifact = Artifact::from_bytes(bytes).map_err(|error| no_router(&error))?;
    Router::new(artifact).map_err(|error| no_router(&error))
}

/// Removes the oldest artifacts beyond [`KEPT`].
fn prune(folder: &std::path::Path) -> io::Result<()> {
    let mut kept: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.metadata()?.modified()?, entry.path()))
        })
        .collect::<io::Result<_>>()?;
    kept.sort();
    let surplus = kept.len().saturating_sub(KEPT);
    kept.iter()
        .take(surplus)
        .try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::fixture::artifact;

    fn places() -> (tempfile::TempDir, Artifacts) {
        let folder = tempfile::tempdir().unwrap();
        let places = Artifacts {
            mounted: Some(folder.path().join("mounted")),
            kept: Some(folder.path().join("kept")),
        };
        fs::create_dir(folder.path().join("mounted")).unwrap();
        (folder, places)
    }

    #[test]
    fn an_artifact_that_was_taken_is_found_again() {
        let (_folder, places) = places();
        let (sha256, bytes) = artifact(1.0);
        assert!(places.find(&sha256).is_none());
        places.take(&sha256, &bytes).unwrap();
        assert_eq!(places.find(&sha256).unwrap().artifact().sha256(), sha256);
    }

    #[test]
    fn wrong_bytes_are_refused_wherever_they_lie_and_the_right_ones_found_behind_them() {
        let (folder, places) = places();
        let ((sha256, bytes), (_, other)) = (artifact(1.0), artifact(2.0));
        let refused = places.take(&sha256, &other).unwrap_err();
        assert!(matches!(refused, ArtifactError::Digest { .. }), "{refused}");
        fs::write(path(&folder.path().join("mounted"), &sha256), other).unwrap();
        assert!(places.find(&sha256).is_none());
        places.take(&sha256, &bytes).unwrap();
        assert!(places.find(&sha256).is_some());
    }

    #[test]
    fn a_name_that_is_no_digest_is_no_path() {
        let (folder, places) = places();
        fs::write(folder.path().join("up.onnx"), artifact(1.0).1).unwrap();
        assert!(places.find("../up").is_none());
        let refused = places.take("../up", &artifact(1.0).1).unwrap_err();
        assert!(matches!(refused, ArtifactError::Name(_)), "{refused}");
    }

    #[test]
    fn the_disk_keeps_a_few_of_the_newest() {
        let (folder, places) = places();
        for quality in 0..12_u8 {
            let (sha256, bytes) = artifact(f32::from(quality) / 4.0);
            places.take(&sha256, &bytes).unwrap();
        }
        let kept = fs::read_dir(folder.path().join("kept")).unwrap().count();
        assert_eq!(kept, KEPT);
    }
}
