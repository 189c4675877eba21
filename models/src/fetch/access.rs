//! What opens doors on the way to a model: tokens, keys of an object store, certificate authorities.
//!
//! Everything comes from the environment, where Kubernetes puts a Secret's entries. Nothing of it is printed: `Debug` and
//! errors show names only. How a file is transferred is in `https.rs` and `hub.rs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Client};
use rusty_s3::actions::GetObject;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use super::FetchError;
use crate::Source;

/// A presigned address of a large object must outlive its slow download.
const PRESIGNED_FOR: Duration = Duration::from_secs(12 * 3600);

/// Credentials for sources, and whom to trust.
#[derive(Clone, Default)]
pub struct Access {
    /// Token of the Hugging Face hub (`HF_TOKEN`, else the hub's own token file); never sent on to another host by a
    /// redirect.
    pub hub_token: Option<String>,
    /// Address of another hub (`HF_ENDPOINT`).
    pub hub_endpoint: Option<String>,
    /// Bearer token for https sources (`WEIR_SOURCE_TOKEN`); never sent on to another host by a redirect.
    pub bearer_token: Option<String>,
    /// The object store (`AWS_*`).
    pub s3: S3Access,
    /// Certificate authorities to trust beside the usual ones, PEM (`WEIR_CA_BUNDLE`).
    pub ca_bundle: Option<PathBuf>,
}

/// How an S3 object store is reached.
#[derive(Clone, Default)]
pub struct S3Access {
    /// Address (`AWS_ENDPOINT_URL`); without one, Amazon's in the region.
    pub endpoint: Option<String>,
    /// Region (`AWS_REGION`, `AWS_DEFAULT_REGION`), `us-east-1` without one.
    pub region: Option<String>,
    /// Key id and secret (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`); without them requests are not signed.
    pub key: Option<(String, String)>,
    /// Token of temporary credentials (`AWS_SESSION_TOKEN`).
    pub session_token: Option<String>,
}

/// Where a file is and how errors name it. A presigned address is a credential and never shown.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) shown: String,
    pub(super) url: String,
    pub(super) bearer_token: Option<String>,
}

impl Access {
    /// The credentials that the environment holds; empty variables count as absent.
    pub fn from_env() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            hub_token: variable("HF_TOKEN").or_else(hub_token_file),
            hub_endpoint: variable("HF_ENDPOINT"),
            bearer_token: variable("WEIR_SOURCE_TOKEN"),
            s3: S3Access {
                endpoint: variable("AWS_ENDPOINT_URL"),
                region: variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")),
                key: variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY")),
                session_token: variable("AWS_SESSION_TOKEN"),
            },
            ca_bundle: variable("WEIR_CA_BUNDLE").map(PathBuf::from),
        }
    }

    pub(super) fn client(&self) -> Result<Client, FetchError> {
        let mut client = Client::builder()
            .connect_timeout(Duration::from_secs(30))
            .read_timeout(Duration::from_secs(60));
        if let Some(path) = &self.ca_bundle {
            for certificate in certificates(path)? {
                client = client.add_root_certificate(certificate);
            }
        }
        let path = self.ca_bundle.clone().unwrap_or_default();
        client.build().map_err(|error| FetchError::CaBundle {
            path,
            reason: error.to_string(),
        })
    }

    /// Where `source`, or `file` under it, is downloaded from.
    pub(super) fn address(
        &self,
        source: &Source,
        file: Option<&str>,
    ) -> Result<Address, FetchError> {
        let under = |base: &str| match file {
            Some(file) => format!("{}/{file}", base.trim_end_matches('/')),
            None => base.to_owned(),
        };
        let shown = under(&source.to_string());
        match source {
            Source::S3 { bucket, key } => Ok(Address {
                url: self.s3.presigned(bucket, &under(key))?,
                shown,
                bearer_token: None,
            }),
            _ => Ok(Address {
                url: shown.clone(),
                shown,
                bearer_token: self.bearer_token.clone(),
            }),
        }
    }
}

impl S3Access {
    fn presigned(&self, bucket: &str, key: &str) -> Result<String, FetchError> {
        let region = self.region.as_deref().unwrap_or("us-east-1");
        let endpoint = self
            .endpoint
            .clone()
            .unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let bad = || FetchError::S3Endpoint(endpoint.clone());
        let url = reqwest::Url::parse(&endpoint).map_err(|_| bad())?;
        let bucket = Bucket::new(url, UrlStyle::Path, bucket.to_owned(), region.to_owned())
            .map_err(|_| bad())?;
        let Some((id, secret)) = &self.key else {
            return Ok(bucket.object_url(key).to_string());
        };
        let credentials = match &self.session_token {
            Some(token) => Credentials::new_with_token(id, secret, token),
            None => Credentials::new(id, secret),
        };
        let action = GetObject::new(&bucket, Some(&credentials), key);
        Ok(action.sign(PRESIGNED_FOR).to_string())
    }
}

/// What the hub's own tools keep after a login.
fn hub_token_file() -> Option<String> {
    let home = match std::env::var_os("HF_HOME") {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir()?.join(".cache/huggingface"),
    };
    let token = std::fs::read_to_string(home.join("token")).ok()?;
    let token = token.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, FetchError> {
    let broken = |reason: String| FetchError::CaBundle {
        path: path.to_path_buf(),
        reason,
    };
    let pem = std::fs::read(path).map_err(|error| broken(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| broken(error.to_string()))?;
    if found.is_empty() {
        return Err(broken("holds no PEM certificate".into()));
    }
    Ok(found)
}

impl std::fmt::Debug for Access {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Access")
            .field("hub_token", &self.hub_token.is_some())
            .field("bearer_token", &self.bearer_token.is_some())
            .field("s3_key", &self.s3.key.is_some())
            .field("ca_bundle", &self.ca_bundle)
            .finish_non_exhaustive()
    }
}
