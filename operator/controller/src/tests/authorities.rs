//! The certificate authority in its Secret: who hears of another one, and who makes one.

use super::conversation::{Calls, Exchange, call, conversation, in_time};
use crate::authority::Keeper;
use crate::cluster::Cluster;
use crate::lease::Leadership;
use crate::pki::{Authority, Entries, Identity, renew_authority};
use http::Method;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::core::ObjectMeta;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "/api/v1/namespaces/weir-system/secrets/weir-ca";
const SECRETS: &str = "/api/v1/namespaces/weir-system/secrets";
/// More than three years.
const LONG_AGO: Duration = Duration::from_secs(1_200 * 24 * 60 * 60);

/// An authority that was made at this time.
fn made(at: SystemTime) -> Entries {
    renew_authority(&Entries::new(), at).unwrap().unwrap()
}

fn bundle(entries: &Entries) -> String {
    Authority::read(entries).unwrap().bundle
}

fn secret(entries: &Entries, version: &str) -> Value {
    let data = entries.clone().into_iter();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some("weir-ca".into()),
            namespace: Some("weir-system".into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        },
        data: Some(
            data.map(|(name, bytes)| (name, ByteString(bytes)))
                .collect(),
        ),
        ..Secret::default()
    };
    serde_json::to_value(secret).unwrap()
}

fn read(entries: &Entries, version: &str) -> Exchange {
    call(Method::GET, SECRET).answers(secret(entries, version))
}

/// The first calls of a process that finds this authority: it reads, lists, reads again and watches.
fn begins(entries: &Entries, watch: Exchange) -> Vec<Exchange> {
    let list = json!({"apiVersion": "v1", "kind": "SecretList", "metadata": {"resourceVersion": "1"},
                      "items": [secret(entries, "1")]});
    let listed = call(Method::GET, SECRETS).with("metadata.name%3Dweir-ca");
    vec![
        read(entries, "1"),
        listed.with("!watch=").answers(list),
        read(entries, "1"),
        watch,
    ]
}

fn watches() -> Exchange {
    let asked = call(Method::GET, SECRETS).with("watch=true");
    asked.with("metadata.name%3Dweir-ca")
}

/// A process that keeps the authority, with the leadership it hears of.
struct Process {
    keeper: Arc<Keeper>,
    leads: watch::Sender<Leadership>,
    calls: Calls,
    stop: CancellationToken,
}

impl Process {
    fn follower(expected: Vec<Exchange>) -> Self {
        let (client, calls) = conversation(expected);
        let leads = watch::Sender::new(Leadership::Follower { leader: None });
        let own = Identity {
            uri: "weir://weir-system/operator".into(),
            dns: vec!["localhost".into()],
        };
        let cluster = Cluster::new(client, leads.subscribe());
        let keeper = Arc::new(Keeper::new(cluster, "weir-system", own));
        let stop = CancellationToken::new();
        let (runs, stopping) = (keeper.clone(), stop.clone());
        tokio::spawn(async move { runs.run(stopping).await });
        Self {
            keeper,
            leads,
            calls,
            stop,
        }
    }

    async fn trusts(&self, wanted: impl Fn(&str) -> bool) {
        let mut tls = self.keeper.tls();
        let trusted = tls.wait_for(|tls| wanted(&tls.trusted));
        drop(in_time(trusted).await.unwrap());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_follower_trusts_a_new_authority_as_soon_as_its_secret_is_another() {
    let (before, after) = (made(SystemTime::now()), made(SystemTime::now()));
    let event = json!({"type": "MODIFIED", "object": secret(&after, "2")});
    let mut expected = begins(&before, watches().answers(event));
    expected.push(read(&after, "2"));
    expected.push(watches().takes(Duration::from_secs(600)));
    let follower = Process::follower(expected);
    follower.trusts(|trusted| trusted == bundle(&before)).await;
    follower.trusts(|trusted| trusted == bundle(&after)).await;
    in_time(follower.calls.came(6)).await;
    follower.calls.ended();
}

#[tokio::test]
async fn an_authority_that_expired_while_nobody_led_is_replaced_as_soon_as_somebody_leads() {
    let expired = made(SystemTime::now() - LONG_AGO);
    let mut expected = begins(&expired, watches().takes(Duration::from_secs(600)));
    expected.push(read(&expired, "1"));
    expected.push(call(Method::PUT, SECRET).answers(secret(&expired, "2")));
    let process = Process::follower(expected);
    process.trusts(|trusted| trusted == bundle(&expired)).await;
    in_time(process.calls.came(4)).await;
    process.leads.send_replace(Leadership::Leader { epoch: 3 });
    let other = |trusted: &str| !trusted.is_empty() && trusted != bundle(&expired);
    process.trusts(other).await;
    process.calls.ended();
}
