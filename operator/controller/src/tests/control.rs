//! The control stream over real TLS: who gets in, what is told, who passes on.

use super::conversation::in_time;
use crate::cache::Caches;
use crate::control::caller::{GatewayId, operator_uri};
use crate::control::relay::{OwnTls, Relay};
use crate::control::server::{Hub, Service};
use crate::control::tls::accept;
use crate::key::{Key, Kind};
use crate::lease::Leadership;
use crate::pki::{Authority, CERTIFICATE, Entries, Identity, KEY, renew_authority};
use crate::queue::Queue;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use weir_crds::RouterRollout;
use weir_plan::GatewayPlan;
use weir_proto::control::v1::control_client::ControlClient;
use weir_proto::control::v1::control_server::ControlServer;
use weir_proto::control::v1::operator_message::Message;
use weir_proto::control::v1::{
    FetchProgress, GatewayMessage, GetArtifactRequest, Hello, OperatorMessage, PoolLoad, Report,
    RolloutEvidence, gateway_message,
};

pub(super) struct Operator {
    pub(super) address: SocketAddr,
    pub(super) hub: Arc<Hub>,
    queue: Arc<Queue>,
    leadership: watch::Sender<Leadership>,
    _tls: watch::Sender<OwnTls>,
}

pub(super) fn authority() -> Authority {
    let made = renew_authority(&Entries::new(), SystemTime::now()).unwrap();
    Authority::read(&made.unwrap()).unwrap()
}

pub(super) fn leaf(authority: &Authority, uri: &str, dns: &[&str]) -> Entries {
    let identity = Identity {
        uri: uri.into(),
        dns: dns.iter().map(|name| (*name).to_owned()).collect(),
    };
    let leaf = authority.leaf(&Entries::new(), &identity, SystemTime::now());
    leaf.unwrap()
}

pub(super) fn text(entries: &Entries, name: &str) -> String {
    String::from_utf8(entries[name].clone()).unwrap()
}

pub(super) async fn operator(authority: &Authority, leadership: Leadership) -> Operator {
    operator_with(authority, leadership, Caches::of(vec![])).await
}

async fn operator_with(authority: &Authority, leadership: Leadership, caches: Caches) -> Operator {
    let own = operator_uri("weir-system");
    let leaf = leaf(authority, &own, &["weir-operator.weir-system.svc"]);
    let tls = watch::Sender::new(OwnTls {
        trusted: authority.bundle.clone(),
        certificate: text(&leaf, CERTIFICATE),
        key: text(&leaf, KEY),
    });
    let leadership = watch::Sender::new(leadership);
    let (hub, queue) = (Arc::new(Hub::default()), Arc::new(Queue::default()));
    let service = Service {
        hub: hub.clone(),
        caches: Arc::new(caches),
        leadership: leadership.subscribe(),
        own,
        queue: queue.clone(),
        relay: Arc::new(Relay::new(
            tls.subscribe(),
            "weir-operator.weir-system.svc".into(),
        )),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = accept(listener, tls.subscribe());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(ControlServer::new(service))
            .serve_with_incoming(incoming),
    );
    Operator {
        address,
        hub,
        queue,
        leadership,
        _tls: tls,
    }
}

/// A channel with the certificate of `uri`, or none.
pub(super) async fn channel(
    authority: &Authority,
    address: SocketAddr,
    uri: Option<&str>,
) -> Channel {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&authority.bundle))
        .domain_name("weir-operator.weir-system.svc");
    if let Some(uri) = uri {
        let leaf = leaf(authority, uri, &[]);
        let (certificate, key) = (text(&leaf, CERTIFICATE), text(&leaf, KEY));
        tls = tls.identity(tonic::transport::Identity::from_pem(certificate, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.unwrap()
}

pub(super) struct Gateway {
    pub(super) up: mpsc::Sender<GatewayMessage>,
    down: Streaming<OperatorMessage>,
}

pub(super) async fn connect(channel: Channel) -> Result<Gateway, Status> {
    let (up, receiver) = mpsc::channel(8);
    let hello = gateway_message::Message::Hello(Hello {
        pod: "support-1".into(),
        boot: "b1".into(),
        ..Hello::default()
    });
    let message = Some(hello);
    up.send(GatewayMessage { message }).await.unwrap();
    let mut client = ControlClient::new(channel);
    let down = client.connect(ReceiverStream::new(receiver)).await?;
    Ok(Gateway {
        up,
        down: down.into_inner(),
    })
}

impl Gateway {
    pub(super) async fn next(&mut self) -> Message {
        let message = in_time(self.down.message()).await.unwrap();
        message.unwrap().message.unwrap()
    }

    async fn report(&self, in_flight: u32) {
        let report = gateway_message::Message::Report(Report {
            pools: vec![PoolLoad {
                pool: "small".into(),
                in_flight,
                ..PoolLoad::default()
            }],
            ..Report::default()
        });
        let message = Some(report);
        self.up.send(GatewayMessage { message }).await.unwrap();
    }
}

pub(super) fn id() -> GatewayId {
    GatewayId {
        namespace: "demo".into(),
        name: "support".into(),
    }
}

fn plan() -> GatewayPlan {
    serde_json::from_value(serde_json::json!({
        "format": weir_plan::FORMAT, "revision": {"epoch": 0, "counter": 0}, "gateway": "support",
        "pools": [], "memory": null, "router": null, "objective": weir_plan::Objective::default(),
        "exploration": {"floor": 0.01, "nearTieMargin": 0.02}, "guardrails": [],
        "privacy": {"default": "local", "max": "local"}, "auth": "anonymous",
        "limits": weir_plan::Limits::default(), "logs": weir_plan::Logs::default(),
    }))
    .unwrap()
}

fn publish(operator: &Operator, epoch: u64) {
    let published = operator
        .hub
        .plans
        .publish(&id(), epoch, (plan(), &BTreeSet::new()));
    assert!(published);
}

async fn reported(operator: &Operator) -> u32 {
    in_time(async {
        loop {
            let loads = operator.hub.ledger().loads("demo", "small");
            if let Some(load) = loads.first() {
                return load.load.in_flight;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_gateway_gets_its_plan_then_hears_that_the_leader_lives_and_its_reports_arrive() {
    let authority = authority();
    let operator = operator(&authority, Leadership::Leader { epoch: 3 }).await;
    publish(&operator, 3);
    let channel = channel(&authority, operator.address, Some(&id().uri())).await;
    let mut gateway = in_time(connect(channel)).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match gateway.next().await {
            Message::Plan(plan) => {
                assert_eq!(plan.revision.unwrap().epoch, 3);
                seen.push("plan");
            }
            Message::Alive(_) => seen.push("alive"),
            Message::Endpoints(_) => unreachable!("the plan has no pool"),
        }
    }
    assert!(seen.contains(&"plan"), "{seen:?}");
    gateway.report(4).await;
    assert_eq!(reported(&operator).await, 4);
}

/// What decides an attempt is weighed when it arrives, and not at the next look at the clock.
#[tokio::test]
async fn a_report_wakes_the_attempt_that_it_speaks_of_and_no_other() {
    let (authority, mut caches) = (authority(), Caches::of(vec![]));
    let mut rollouts: Writer<RouterRollout> = Writer::default();
    caches.rollouts = rollouts.as_reader();
    let attempt: RouterRollout = serde_json::from_value(serde_json::json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "RouterRollout",
        "metadata": {"name": "support-v2-1", "namespace": "demo"},
        "spec": {"gateway": "support", "from": {"version": "v1", "sha256": ""},
                 "to": {"version": "v2", "sha256": ""}, "shadow": {}, "canary": {}, "gate": {}},
    }))
    .unwrap();
    rollouts.apply_watcher_event(&Event::Apply(attempt));
    let operator = operator_with(&authority, Leadership::Leader { epoch: 3 }, caches).await;
    let channel = channel(&authority, operator.address, Some(&id().uri())).await;
    let gateway = connect(channel).await.unwrap();
    let evidence = |rollout: &str| RolloutEvidence {
        rollout: rollout.into(),
        ..RolloutEvidence::default()
    };
    let report = Report {
        rollouts: vec![evidence("nobody-knows-it"), evidence("support-v2-1")],
        ..Report::default()
    };
    let message = Some(gateway_message::Message::Report(report));
    gateway.up.send(GatewayMessage { message }).await.unwrap();
    let key = in_time(operator.queue.next()).await;
    assert_eq!(key, Key::new(Kind::RouterRollout, "demo", "support-v2-1"));
    assert_eq!(operator.queue.len(), 0);
}

#[tokio::test]
async fn nobody_gets_in_without_a_gateways_certificate() {
    let authority = authority();
    let operator = operator(&authority, Leadership::Leader { epoch: 3 }).await;
    let none = channel(&authority, operator.address, None).await;
    let refused = in_time(connect(none)).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let memory = "weir://demo/memory/kb";
    let other = channel(&authority, operator.address, Some(memory)).await;
    let refused = in_time(connect(other)).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_gateway_cannot_speak_for_another() {
    let authority = authority();
    let operator = operator(&authority, Leadership::Leader { epoch: 3 }).await;
    publish(&operator, 3);
    let own = channel(
        &authority,
        operator.address,
        Some("weir://demo/gateway/sales"),
    )
    .await;
    let mut request = Request::new(GetArtifactRequest {
        sha256: "00".into(),
    });
    let named = id().uri().parse().unwrap();
    request.metadata_mut().insert("weir-for", named);
    let refused = in_time(ControlClient::new(own).get_artifact(request)).await;
    assert_eq!(refused.err().unwrap().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_follower_passes_streams_on_in_both_directions() {
    let authority = authority();
    let leader = operator(&authority, Leadership::Leader { epoch: 3 }).await;
    let follows = Leadership::Follower {
        leader: Some(leader.address.to_string()),
    };
    let follower = operator(&authority, follows).await;
    publish(&leader, 3);
    let channel = channel(&authority, follower.address, Some(&id().uri())).await;
    let mut gateway = in_time(connect(channel)).await.unwrap();
    let mut got_plan = false;
    while !got_plan {
        got_plan = matches!(gateway.next().await, Message::Plan(_));
    }
    gateway.report(6).await;
    assert_eq!(reported(&leader).await, 6);
    assert!(follower.hub.ledger().loads("demo", "small").is_empty());
}

#[tokio::test]
async fn a_stream_ends_when_its_leader_no_longer_leads() {
    let authority = authority();
    let operator = operator(&authority, Leadership::Leader { epoch: 3 }).await;
    let channel = channel(&authority, operator.address, Some(&id().uri())).await;
    let mut gateway = in_time(connect(channel)).await.unwrap();
    operator
        .leadership
        .send_replace(Leadership::Follower { leader: None });
    let end = in_time(gateway.down.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
}

fn progress() -> FetchProgress {
    FetchProgress {
        namespace: "demo".into(),
        pool: "small".into(),
        pod: "small-1".into(),
        downloaded_bytes: 5,
        ..FetchProgress::default()
    }
}

#[tokio::test]
async fn progress_from_an_unknown_pod_is_refused() {
    let authority = authority();
    let operator = operator(&authority, Leadership::Leader { epoch: 3 }).await;
    let channel = channel(&authority, operator.address, None).await;
    let refused = in_time(ControlClient::new(channel).report_fetch(progress())).await;
    assert_eq!(refused.err().unwrap().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn progress_of_the_pod_that_calls_is_taken_through_a_follower_too() {
    let authority = authority();
    let pod: Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "small-1", "namespace": "demo", "labels": {"weir.dev/pool": "small"}},
        "status": {"podIP": "127.0.0.1"}
    }))
    .unwrap();
    let mut pods = Writer::default();
    pods.apply_watcher_event(&Event::Apply(pod));
    let mut caches = Caches::of(vec![]);
    caches.pods = pods.as_reader();
    let leader = operator_with(&authority, Leadership::Leader { epoch: 3 }, caches).await;
    let follows = Leadership::Follower {
        leader: Some(leader.address.to_string()),
    };
    let follower = operator(&authority, follows).await;
    let channel = channel(&authority, follower.address, None).await;
    in_time(ControlClient::new(channel).report_fetch(progress()))
        .await
        .unwrap();
    let fetches = &leader.hub.fetches;
    let known = fetches.of_pool(("demo", "small"), |pod| pod == "small-1");
    assert_eq!(known, Some(progress()));
}
