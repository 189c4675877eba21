//! RouterVersion: whether bytes are the artifact that was meant, what it says of itself, and whom it fits.
//!
//! Reads manifests only; evaluating a network is the gateway's business. Verified bytes are kept in an immutable ConfigMap
//! that nobody owns but the digest, so that deleting a version or its source never breaks what serves.

use crate::condition::{Seen, Verdict, rounded};
use crate::names;
use crate::object::Object;
use crate::stack::Stack;
use crate::validate::{On, Problem, name};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use weir_crds::{Holdout, InferenceGateway, RouterVersion, RouterVersionStatus};
use weir_plan::chain;
use weir_router::{Artifact, ArtifactError, Router};

/// Entry of the ConfigMap of verified bytes.
pub const ARTIFACT_KEY: &str = "router.onnx";

/// What was found where the version says its artifact is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Bytes.
    Bytes(Vec<u8>),
    /// There is no such ConfigMap.
    NoConfigMap,
    /// The ConfigMap has no such entry; these it has.
    NoEntry(Vec<String>),
    /// The operator may not ask the host of the address.
    HostNotAllowed(String),
    /// It is on its way.
    Coming,
    /// It did not come from its address, and why.
    NotFetched(String),
}

/// An artifact whose bytes are what its version says.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// Hash of the features it reads.
    pub feature_schema: String,
    /// Models of the ladder it was trained on.
    pub models: u32,
    /// How it did on held-out questions.
    pub holdout: Option<Holdout>,
}

/// Why an artifact is not what its version says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The file has another digest.
    #[error("the artifact has SHA-256 {found}, spec.sha256 says {expected}")]
    Digest {
        /// Of the bytes.
        found: String,
        /// By the spec.
        expected: String,
    },
    /// The file is no artifact.
    #[error("{0}")]
    Artifact(String),
    /// It reads other features than this build measures.
    #[error("{0}")]
    Schema(String),
}

/// Every problem of a version that only a cluster has.
pub fn validate(version: &RouterVersion) -> Vec<Problem> {
    let Some(url) = version
        .spec
        .artifact
        .url
        .as_ref()
        .filter(|url| is_local(url))
    else {
        return Vec::new();
    };
    let on = On::new("RouterVersion", &version.metadata.name, "spec.artifact");
    let name = name(&version.metadata.name);
    let instead = format!(
        "put the file into a ConfigMap with `kubectl create configmap {name} --from-file={ARTIFACT_KEY}=FILE`, and create \
         a RouterVersion with artifact: {{configMap: {{name: {name}}}}}"
    );
    let message = format!("{url} is a file of the machine that runs `weir up`");
    vec![on.problem("url", "SourceUnreachable", message, instead)]
}

fn is_local(url: &str) -> bool {
    url.starts_with("file://")
}

/// The address at which a version's artifact is to be asked for, given the hosts (`HOST` or `HOST:PORT`) that may be asked.
///
/// # Errors
/// What is found instead, where its host is not among them.
pub fn address<'a>(version: &'a RouterVersion, hosts: &[String]) -> Result<Option<&'a str>, Found> {
    let url = version.spec.artifact.url.as_deref();
    let Some(url) = url.filter(|url| !is_local(url)) else {
        return Ok(None);
    };
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if hosts
        .iter()
        .any(|allowed| allowed.eq_ignore_ascii_case(host))
    {
        Ok(Some(url))
    } else {
        Err(Found::HostNotAllowed(host.to_owned()))
    }
}

/// Looks the artifact up in the ConfigMap that the version names.
pub fn find(version: &RouterVersion, config_map: Option<&ConfigMap>) -> Found {
    let Some(config_map) = config_map else {
        return Found::NoConfigMap;
    };
    let key = version.spec.artifact.config_map.as_ref();
    let key = key
        .map(|reference| reference.key.as_str())
        .unwrap_or_default();
    let binary = config_map.binary_data.as_ref();
    match binary.and_then(|entries| entries.get(key)) {
        Some(bytes) => Found::Bytes(bytes.0.clone()),
        None => {
            let entries = binary.into_iter().flatten().map(|(name, _)| name.clone());
            Found::NoEntry(entries.collect())
        }
    }
}

/// What counts as a version's artifact: the bytes that were verified once and are kept, whatever became of the place where
/// they were found; without them what is found `there`.
pub fn counts(
    version: &RouterVersion,
    there: Option<Found>,
    kept: Option<Vec<u8>>,
) -> Option<Found> {
    let kept = kept.filter(|bytes| digest(bytes) == version.spec.sha256);
    match (there, kept) {
        (Some(_), Some(kept)) => Some(Found::Bytes(kept)),
        (there, _) => there,
    }
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Checks digest and manifest of an artifact.
///
/// # Errors
/// The bytes are others than the version says, or nothing that this build evaluates.
pub fn verify(version: &RouterVersion, bytes: &[u8]) -> Result<Verified, VerifyError> {
    let found = digest(bytes);
    if found != version.spec.sha256 {
        return Err(VerifyError::Digest {
            found,
            expected: version.spec.sha256.clone(),
        });
    }
    let artifact = Artifact::from_bytes(bytes).map_err(|error| match error {
        ArtifactError::Schema { .. } => VerifyError::Schema(chain(&error)),
        error => VerifyError::Artifact(chain(&error)),
    })?;
    let manifest = artifact.manifest();
    let verified = Verified {
        feature_schema: manifest.schema_hash.clone(),
        models: u32::try_from(manifest.arms.models).unwrap_or(u32::MAX),
        holdout: manifest.hold_out.as_ref().map(|held_out| Holdout {
            quality_regret: rounded(held_out.quality_regret.value),
            upper: rounded(held_out.quality_regret.high),
            speedup: rounded(held_out.speed_up.value),
        }),
    };
    Router::new(artifact).map_err(|error| VerifyError::Artifact(chain(&error)))?;
    Ok(verified)
}

/// The ConfigMap that keeps verified bytes, immutable and named by their digest.
pub fn build(version: &RouterVersion, bytes: &[u8]) -> Object {
    // Nothing in it names the version: two of one digest share it and must not write it in turn.
    let sha256 = &version.spec.sha256;
    let digits = sha256.get(..32).unwrap_or(sha256);
    Object::ConfigMap(Box::new(ConfigMap {
        metadata: ObjectMeta {
            name: Some(names::router(sha256)),
            namespace: version.metadata.namespace.clone(),
            labels: Some(names::selector(names::ROUTER_LABEL, digits)),
            ..ObjectMeta::default()
        },
        binary_data: Some(BTreeMap::from([(
            ARTIFACT_KEY.to_owned(),
            ByteString(bytes.to_vec()),
        )])),
        immutable: Some(true),
        data: None,
    }))
}

/// Names of the ConfigMaps of verified bytes that something needs: a version that names the digest, whether or not anybody
/// uses it, or a gateway's plan, whether or not its version is still there. `planned` are the digests that plans name.
pub fn needed(versions: &[RouterVersion], planned: &BTreeSet<String>) -> BTreeSet<String> {
    let named = versions.iter().map(|version| &version.spec.sha256);
    let digests = named.chain(planned);
    digests.map(|sha256| names::router(sha256)).collect()
}

/// The gateways that name a version.
pub fn used_by<'a>(version: &RouterVersion, stack: &'a Stack) -> Vec<&'a InferenceGateway> {
    let own = version.metadata.name.as_ref();
    let gateways = stack.gateways.iter();
    gateways
        .filter(|gateway| own.is_some() && gateway.spec.router.version.as_ref() == own)
        .collect()
}

/// The status of a version. `found` is what lies where the version says, `None` for one that names no such place.
pub fn status(
    version: &RouterVersion,
    stack: &Stack,
    found: Option<&Found>,
    now: Timestamp,
) -> RouterVersionStatus {
    let before = version.status.clone().unwrap_or_default();
    let seen = Seen {
        before: &before.conditions,
        generation: version.metadata.generation,
        now,
    };
    let used_by = used_by(version, stack);
    let (verified, compatible, artifact) = verdicts(version, stack, (found, &used_by));
    let ready = match (verified.is_true(), compatible.is_true()) {
        (true, true) => Verdict::yes("Verified", compatible.message.clone()),
        (true, false) => compatible.clone(),
        (false, _) => verified.clone(),
    };
    RouterVersionStatus {
        feature_schema: artifact
            .as_ref()
            .map(|artifact| artifact.feature_schema.clone()),
        models: artifact.as_ref().map(|artifact| artifact.models),
        holdout: artifact.and_then(|artifact| artifact.holdout),
        used_by_count: u32::try_from(used_by.len()).unwrap_or(u32::MAX),
        conditions: seen.conditions(vec![
            ("Ready", ready),
            ("Verified", verified),
            ("Compatible", compatible),
        ]),
    }
}

/// Whether the artifact is the one that was meant, whether it fits, and the artifact itself.
fn verdicts(
    version: &RouterVersion,
    stack: &Stack,
    (found, used_by): (Option<&Found>, &[&InferenceGateway]),
) -> (Verdict, Verdict, Option<Verified>) {
    let unknown = || Verdict::unknown("NotVerified", "the artifact was not verified");
    let problems = validate(version);
    let verified = match (problems.first(), found) {
        (Some(problem), _) => Err(Verdict::of_problems(problem, &problems)),
        (None, Some(Found::NoEntry(exist))) => Err(no_entry(version, exist)),
        (None, Some(Found::HostNotAllowed(host))) => Err(not_allowed(host)),
        (None, Some(Found::Coming)) => {
            let text = "the artifact is being fetched";
            Err(Verdict::unknown("Downloading", text))
        }
        (None, Some(Found::NotFetched(why))) => Err(not_fetched(version, why)),
        (None, Some(Found::NoConfigMap) | None) => Err(no_config_map(version)),
        (None, Some(Found::Bytes(bytes))) => Ok(verify(version, bytes)),
    };
    let is_verified = Verdict::yes("Verified", "the digest is as expected");
    match verified {
        Err(verdict) => (verdict, unknown(), None),
        Ok(Err(VerifyError::Schema(why))) => {
            (is_verified, Verdict::no("SchemaMismatch", why), None)
        }
        Ok(Err(error)) => (not_verified(version, &error), unknown(), None),
        Ok(Ok(artifact)) => {
            let compatible = compatible(&artifact, stack, used_by);
            (is_verified, compatible, Some(artifact))
        }
    }
}

fn not_verified(version: &RouterVersion, error: &VerifyError) -> Verdict {
    let place = match &version.spec.artifact.url {
        Some(url) => format!("at {url}"),
        None => "into the ConfigMap".to_owned(),
    };
    match error {
        VerifyError::Digest { .. } => Verdict::no(
            "DigestMismatch",
            format!(
                "{error}: put the file that was meant {place}, or create a RouterVersion with its digest"
            ),
        ),
        VerifyError::Artifact(why) | VerifyError::Schema(why) => {
            Verdict::no("NotAnArtifact", why.clone())
        }
    }
}

fn not_allowed(host: &str) -> Verdict {
    let text = format!(
        "the operator may not ask {host}: add it to artifactHosts of its chart, or put the file into a ConfigMap"
    );
    Verdict::no("HostNotAllowed", text)
}

fn not_fetched(version: &RouterVersion, why: &str) -> Verdict {
    let url = version.spec.artifact.url.as_deref().unwrap_or_default();
    let text = format!(
        "{url} did not come: {why}: it is asked for again; look at the address, the proxy and the certificate authorities"
    );
    Verdict::no("FetchFailed", text)
}

fn no_config_map(version: &RouterVersion) -> Verdict {
    let reference = version.spec.artifact.config_map.as_ref();
    let name = reference
        .map(|reference| reference.name.as_str())
        .unwrap_or_default();
    let text = format!(
        "no ConfigMap is called {name}: create it with `kubectl create configmap {name} --from-file={ARTIFACT_KEY}=FILE`"
    );
    Verdict::no("ConfigMapNotFound", text)
}

fn no_entry(version: &RouterVersion, exist: &[String]) -> Verdict {
    let reference = version.spec.artifact.config_map.as_ref();
    let (name, key) = reference.map_or(("", ""), |reference| {
        (reference.name.as_str(), reference.key.as_str())
    });
    let exist = match exist {
        [] => "it has none".to_owned(),
        exist => format!("it has {}", exist.join(", ")),
    };
    let text = format!("ConfigMap {name} has no entry {key} under binaryData: {exist}");
    Verdict::no("EntryNotFound", text)
}

/// Whether the artifact's arms fit the ladders of the gateways that use it. Arms are bound to a ladder by relative rank, so
/// one of another length works and starts cold; no model at all is what does not fit.
fn compatible(artifact: &Verified, stack: &Stack, used_by: &[&InferenceGateway]) -> Verdict {
    let mut other = Vec::new();
    for gateway in used_by {
        let name = gateway.metadata.name.as_deref().unwrap_or_default();
        let models = stack.answering(gateway).len();
        if models == 0 {
            let text = format!(
                "gateway {name} has no model to choose: give its pools the labels it selects"
            );
            return Verdict::no("NoModels", text);
        }
        if models != artifact.models as usize {
            other.push(format!("gateway {name} has {models}"));
        }
    }
    let made = format!("made for {} models", artifact.models);
    match other.as_slice() {
        [] => Verdict::yes("Fits", made),
        other => Verdict::yes(
            "FitsByRank",
            format!(
                "{made}, {}: arms are bound by relative rank",
                other.join(", ")
            ),
        ),
    }
}
