//! What `weir keys` asks of the API server, and what it says when there is nothing to do.

use super::conversation::{Calls, Exchange, call, conversation, in_time};
use crate::client::{ClusterClient, ListedKey};
use http::{Method, StatusCode};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use weir_plan::Scope;

const GATEWAY: &str = "/apis/weir.dev/v1alpha1/namespaces/demo/inferencegateways/support";
const SECRET: &str = "/api/v1/namespaces/demo/secrets/keys";
const SECRETS: &str = "/api/v1/namespaces/demo/secrets";

fn gateway(auth: &Value) -> Exchange {
    let object = json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "InferenceGateway",
        "metadata": {"name": "support", "namespace": "demo"},
        "spec": {"pools": {"matchLabels": {"app": "demo"}}, "auth": auth},
    });
    call(Method::GET, GATEWAY).answers(object)
}

fn with_keys() -> Exchange {
    gateway(&json!({"apiKeysSecretRef": {"name": "keys"}}))
}

fn secret(entries: &[&str]) -> Exchange {
    let value = |entry: &&str| {
        ByteString(
            format!("the key of {entry}, as it is")
                .replace(' ', "-")
                .into_bytes(),
        )
    };
    let data: serde_json::Map<String, Value> = entries
        .iter()
        .map(|entry| ((*entry).to_owned(), json!(value(entry))))
        .collect();
    let object =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": data});
    call(Method::GET, SECRET).answers(object)
}

fn no_secret() -> Exchange {
    call(Method::GET, SECRET).refuses(
        StatusCode::NOT_FOUND,
        "NotFound",
        "secrets \"keys\" not found",
    )
}

fn taken(method: Method, path: &'static str) -> Exchange {
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}});
    call(method, path).answers(object)
}

fn client(expected: Vec<Exchange>) -> (ClusterClient, Calls) {
    let (client, calls) = conversation(expected);
    let namespace = "demo".into();
    (ClusterClient { client, namespace }, calls)
}

fn wanted(tenant: &str, key_id: &str) -> ListedKey {
    ListedKey {
        tenant: tenant.into(),
        key_id: key_id.into(),
        scopes: vec![Scope::Ask, Scope::Memory],
    }
}

#[tokio::test]
async fn a_key_becomes_an_entry_of_the_secret_that_the_operator_reads() {
    let patch = taken(Method::PATCH, SECRET).with("fieldManager=weir.dev%2Fcli");
    let (client, calls) = client(vec![with_keys(), secret(&["acme.old"]), patch]);
    let created = in_time(client.create_key("support", wanted("acme", "laptop"))).await;
    let created = created.unwrap();
    calls.ended();
    let sent = calls.body(2);
    assert_eq!(
        sent["stringData"],
        json!({"acme.laptop.ask-memory": created.key})
    );
    assert_eq!(
        sent["metadata"]["labels"],
        json!({"weir.dev/watch": "true"})
    );
    assert!(sent["data"].is_null(), "the others are left alone: {sent}");
    assert_eq!((created.key.len(), &created.key[..5]), (69, "weir_"));
    assert!(!format!("{created:?}").contains(&created.key));
}

#[tokio::test]
async fn two_keys_are_never_the_same() {
    let mut keys = Vec::new();
    for _ in 0..2 {
        let (client, _calls) = client(vec![with_keys(), secret(&[]), taken(Method::PATCH, SECRET)]);
        let created = in_time(client.create_key("support", wanted("acme", "laptop"))).await;
        keys.push(created.unwrap().key);
    }
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_secret_that_is_missing_is_made() {
    let (client, calls) = client(vec![with_keys(), no_secret(), taken(Method::POST, SECRETS)]);
    in_time(client.create_key("support", wanted("acme", "laptop")))
        .await
        .unwrap();
    calls.ended();
    let sent = calls.body(2);
    assert_eq!(
        sent["metadata"]["labels"],
        json!({"weir.dev/watch": "true"})
    );
    assert!(sent["stringData"]["acme.laptop.ask-memory"].is_string());
}

#[tokio::test]
async fn a_name_that_another_key_has_or_that_none_can_have_is_refused_before_anything_is_written() {
    let (there, calls) = client(vec![with_keys(), secret(&["acme.laptop.judge"])]);
    let said = in_time(there.create_key("support", wanted("acme", "laptop"))).await;
    let said = said.unwrap_err().to_string();
    assert_eq!(
        said,
        "acme has a key laptop already: revoke it first, or give the new one another name"
    );
    calls.ended();
    let (odd, calls) = client(vec![with_keys(), secret(&[])]);
    let said = in_time(odd.create_key("support", wanted("ac me", "laptop"))).await;
    let said = said.unwrap_err().to_string();
    assert!(
        said.contains("does not say whose key it is: name it TENANT.KEYID"),
        "{said}"
    );
    calls.ended();
}

#[tokio::test]
async fn keys_are_listed_without_themselves_and_entries_that_open_nothing_are_told() {
    let (client, calls) = client(vec![
        with_keys(),
        secret(&["acme.b.judge", "acme.a", "odd"]),
    ]);
    let found = in_time(client.keys_of("support")).await.unwrap();
    calls.ended();
    let names: Vec<(&str, &[Scope])> = found
        .keys
        .iter()
        .map(|key| (key.key_id.as_str(), key.scopes.as_slice()))
        .collect();
    assert_eq!(
        names,
        [
            ("a", &[Scope::Ask, Scope::Memory][..]),
            ("b", &[Scope::Judge])
        ]
    );
    assert_eq!(found.errors.len(), 1);
    assert!(!format!("{found:?}").contains("as-it-is"));
}

#[tokio::test]
async fn a_key_is_revoked_whatever_its_scopes_and_no_other() {
    let entries = ["acme.laptop.ask", "acme.laptop2", "other.laptop"];
    let (revoking, calls) = client(vec![
        with_keys(),
        secret(&entries),
        taken(Method::PATCH, SECRET),
    ]);
    in_time(revoking.revoke_key("support", ("acme", "laptop")))
        .await
        .unwrap();
    calls.ended();
    assert_eq!(calls.body(2), json!({"data": {"acme.laptop.ask": null}}));
    let (nothing, calls) = client(vec![with_keys(), secret(&entries)]);
    let said = in_time(nothing.revoke_key("support", ("acme", "phone"))).await;
    assert_eq!(
        said.unwrap_err().to_string(),
        "acme has no key phone in Secret keys: weir keys list support shows those that are there"
    );
    calls.ended();
}

#[tokio::test]
async fn a_gateway_that_lets_everybody_ask_has_no_keys() {
    let (client, calls) = client(vec![gateway(&json!({"anonymous": {}}))]);
    let said = in_time(client.keys_of("support"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("set auth.apiKeysSecretRef, in place of auth.anonymous"),
        "{said}"
    );
    calls.ended();
}
