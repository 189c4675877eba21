//! `weir keys`: who may ask a gateway in a cluster.
//!
//! The cluster is read and written by `weir-operator`'s client; here are the words.

use crate::args::{
    CreateKeyArgs, KeysArgs, KeysCommand, OfGateway, Output, RevokeKeyArgs, ScopeWord,
};
use crate::fail::Failure;
use crate::output::{columns, dim};
use serde_json::json;
use weir_operator::client::{ClusterClient, GatewayKeys, ListedKey};
use weir_plan::Scope;

pub(crate) async fn run(args: KeysArgs) -> Result<(), Failure> {
    match args.command {
        KeysCommand::Create(args) => create(args).await,
        KeysCommand::List(of) => list(&of).await,
        KeysCommand::Revoke(args) => revoke(&args).await,
    }
}

async fn create(args: CreateKeyArgs) -> Result<(), Failure> {
    let client = ClusterClient::connect(args.of.namespace.as_deref()).await?;
    let wanted = ListedKey {
        tenant: args.key.tenant,
        key_id: args.key.key_id,
        scopes: args.scopes.into_iter().map(scope).collect(),
    };
    let created = client.create_key(&args.of.gateway, wanted).await?;
    match args.of.output {
        Output::Json => {
            let mut value = serde_json::to_value(&created.listed)?;
            value["secret"] = json!(created.secret);
            value["key"] = json!(created.key);
            anstream::println!("{}", serde_json::to_string_pretty(&value)?);
        }
        Output::Text => {
            let told = format!(
                "key {} of {} is in Secret {}; it is shown this once:",
                created.listed.key_id, created.listed.tenant, created.secret
            );
            anstream::eprintln!("{}", dim(told));
            anstream::println!("{}", created.key);
        }
    }
    Ok(())
}

async fn list(of: &OfGateway) -> Result<(), Failure> {
    let client = ClusterClient::connect(of.namespace.as_deref()).await?;
    let found = client.keys_of(&of.gateway).await?;
    match of.output {
        Output::Json => {
            let errors = found.errors.iter();
            let errors = errors
                .map(|error| json!({"message": error.to_string(), "instead": error.instead()}));
            let value = json!({
                "gateway": of.gateway, "secret": found.secret, "keys": found.keys,
                "errors": errors.collect::<Vec<_>>(),
            });
            anstream::println!("{}", serde_json::to_string_pretty(&value)?);
        }
        Output::Text => anstream::println!("{}", text(&of.gateway, &found)),
    }
    Ok(())
}

async fn revoke(args: &RevokeKeyArgs) -> Result<(), Failure> {
    let client = ClusterClient::connect(args.of.namespace.as_deref()).await?;
    let (tenant, key_id) = (args.key.tenant.as_str(), args.key.key_id.as_str());
    client
        .revoke_key(&args.of.gateway, (tenant, key_id))
        .await?;
    match args.of.output {
        Output::Json => {
            let value = json!({"tenant": tenant, "key_id": key_id, "revoked": true});
            anstream::println!("{}", serde_json::to_string_pretty(&value)?);
        }
        Output::Text => anstream::println!("key {key_id} of {tenant} opens nothing any more"),
    }
    Ok(())
}

fn text(gateway: &str, found: &GatewayKeys) -> String {
    let mut parts = Vec::new();
    if found.keys.is_empty() {
        let why = match found.is_there {
            true => "has no key",
            false => "is not there yet",
        };
        parts.push(dim(format!(
            "Secret {} {why}: weir keys create {gateway} TENANT.NAME makes one",
            found.secret
        )));
    } else {
        let rows = found.keys.iter().map(|key| {
            let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
            vec![key.tenant.clone(), key.key_id.clone(), scopes.join(", ")]
        });
        parts.push(columns(&["TENANT", "KEY", "SCOPES"], rows.collect()));
    }
    let errors = found.errors.iter();
    parts.extend(errors.map(|error| format!("{error}: {}", error.instead())));
    parts.join("\n\n")
}

fn scope(word: ScopeWord) -> Scope {
    match word {
        ScopeWord::Ask => Scope::Ask,
        ScopeWord::Memory => Scope::Memory,
        ScopeWord::Judge => Scope::Judge,
        ScopeWord::Admin => Scope::Admin,
    }
}
