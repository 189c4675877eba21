//! What `weir keys` does: API keys of a gateway, as entries of the Secret that its spec names.
//!
//! A key is made here, told once and kept nowhere else; nothing here reads one out again. The gateway learns of it as of every
//! change of its Secret. What an entry's name means is `weir-reconcile`'s `keys.rs`.

use super::{ClientError, ClusterClient, FIELD_MANAGER, patch_params};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, Patch, PostParams};
use rand::RngCore;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use weir_plan::Scope;
use weir_reconcile::names::WATCHED;
use weir_reconcile::{KeyError, api_keys};

/// What a key begins with, so that scanners of leaked secrets find it.
const PREFIX: &str = "weir_";
const KEY_BYTES: usize = 32;

/// A key as it is shown: everything but itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedKey {
    /// Whose data it reads and writes.
    pub tenant: String,
    /// Its name in logs.
    pub key_id: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
}

/// The keys of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayKeys {
    /// The Secret they lie in; it may be missing, and then there are none.
    pub secret: String,
    /// Whether that Secret is there.
    pub is_there: bool,
    /// In the order of tenants and names.
    pub keys: Vec<ListedKey>,
    /// Entries that open nothing.
    pub errors: Vec<KeyError>,
}

/// A key that was made, told this once.
#[derive(Clone, PartialEq, Eq)]
pub struct CreatedKey {
    /// What was made.
    pub listed: ListedKey,
    /// The Secret it lies in.
    pub secret: String,
    /// The key itself.
    pub key: String,
}

impl ClusterClient {
    /// The keys of a gateway.
    ///
    /// # Errors
    /// A gateway that is not there or asks for no key, or an API server that does not answer.
    pub async fn keys_of(&self, gateway: &str) -> Result<GatewayKeys, ClientError> {
        let (name, secret) = self.secret_of(gateway).await?;
        let is_there = secret.is_some();
        let (keys, errors) = api_keys(&secret.unwrap_or_default());
        let listed = keys.into_iter().map(|key| ListedKey {
            tenant: key.tenant,
            key_id: key.key_id,
            scopes: key.scopes,
        });
        Ok(GatewayKeys {
            secret: name,
            is_there,
            keys: listed.collect(),
            errors,
        })
    }

    /// Makes a key, and the Secret when there is none.
    ///
    /// # Errors
    /// A name that no key can have or that another has, or an API server that does not take it.
    pub async fn create_key(
        &self,
        gateway: &str,
        wanted: ListedKey,
    ) -> Result<CreatedKey, ClientError> {
        let key = new_key();
        let entry = entry(&wanted);
        let (name, secret) = self.secret_of(gateway).await?;
        is_a_key(&entry, &key)?;
        let there = api_keys(&secret.clone().unwrap_or_default()).0;
        let same =
            |one: &weir_plan::ApiKey| one.tenant == wanted.tenant && one.key_id == wanted.key_id;
        if there.iter().any(same) {
            return Err(ClientError::KeyIsThere {
                tenant: wanted.tenant,
                key_id: wanted.key_id,
            });
        }
        let data = BTreeMap::from([(entry, key.clone())]);
        let labels = watched();
        let what = format!("write Secret {name}");
        let written = if secret.is_some() {
            let patch = json!({"metadata": {"labels": labels}, "stringData": data});
            let patch = Patch::Merge(patch);
            self.secrets().patch(&name, &patch_params(), &patch).await
        } else {
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    labels: Some(labels),
                    ..ObjectMeta::default()
                },
                string_data: Some(data),
                ..Secret::default()
            };
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            self.secrets().create(&params, &secret).await
        };
        written.map_err(|error| self.failed(what, error))?;
        Ok(CreatedKey {
            listed: wanted,
            secret: name,
            key,
        })
    }

    /// Takes a key out of the Secret: it opens nothing from then on.
    ///
    /// # Errors
    /// A key that is not there, or an API server that does not take it.
    pub async fn revoke_key(
        &self,
        gateway: &str,
        (tenant, key_id): (&str, &str),
    ) -> Result<(), ClientError> {
        let (name, secret) = self.secret_of(gateway).await?;
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let of_key = |entry: &&String| {
            let mut parts = entry.split('.');
            parts.next() == Some(tenant) && parts.next() == Some(key_id)
        };
        // Two entries of one name can be there, of which the second opens nothing as long as the first is.
        let gone: BTreeMap<&String, Option<()>> = data
            .keys()
            .filter(of_key)
            .map(|entry| (entry, None))
            .collect();
        if gone.is_empty() {
            return Err(ClientError::NoKey {
                gateway: gateway.to_owned(),
                secret: name,
                tenant: tenant.to_owned(),
                key_id: key_id.to_owned(),
            });
        }
        let patch = Patch::Merge(json!({"data": gone}));
        let patched = self.secrets().patch(&name, &patch_params(), &patch).await;
        patched.map_err(|error| self.failed(format!("write Secret {name}"), error))?;
        Ok(())
    }

    /// The name of the Secret with a gateway's keys, and the Secret if it is there.
    async fn secret_of(&self, gateway: &str) -> Result<(String, Option<Secret>), ClientError> {
        let auth = self.gateway(gateway).await?.spec.auth;
        let reference = auth
            .api_keys_secret_ref
            .ok_or_else(|| ClientError::NoSecret {
                gateway: gateway.to_owned(),
            })?;
        let secret = self.secrets().get_opt(&reference.name).await;
        let secret = secret
            .map_err(|error| self.failed(format!("read Secret {}", reference.name), error))?;
        Ok((reference.name, secret))
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// 256 bits that nobody can guess.
fn new_key() -> String {
    let mut bytes = [0; KEY_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    format!("{PREFIX}{}", hex::encode(bytes))
}

/// Without it the operator does not read a Secret.
fn watched() -> BTreeMap<String, String> {
    let label = WATCHED.split_once('=').into_iter();
    label
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The name of a key's entry.
fn entry(key: &ListedKey) -> String {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    format!("{}.{}.{}", key.tenant, key.key_id, scopes.join("-"))
}

/// Refuses what a gateway would not take for a key.
fn is_a_key(entry: &str, key: &str) -> Result<(), ClientError> {
    let secret = Secret {
        string_data: Some(BTreeMap::from([(entry.to_owned(), key.to_owned())])),
        ..Secret::default()
    };
    match api_keys(&secret).1.first() {
        None => Ok(()),
        Some(error) => Err(ClientError::KeyName(format!(
            "{error}: {}",
            error.instead()
        ))),
    }
}

impl std::fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedKey")
            .field("listed", &self.listed)
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}
