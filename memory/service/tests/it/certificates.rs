//! Who gets in: gateways of the service's own namespace, and nobody else.

use weir_gateway_cluster::{MemoryService, RemoteMemory};
use weir_memory_live::MemoryCalls;
use weir_memory_live::Presence;
use weir_memory_service::{Options, ServeError, Server};

use crate::world::{Authority, World, here, until};

/// Waits until the client has tried and failed.
async fn refused(asked: MemoryService) {
    let remote = RemoteMemory::new(asked);
    let tried = async || matches!(remote.presence(), Presence::Away(why) if why.contains("cannot be reached"));
    until("the client was refused", tried).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_a_gateways_of_the_namespace_is_refused() {
    let Some(world) = World::new() else { return };
    let service = world.serve().await;
    let elsewhere = Authority::new();
    let own = &world.authority;
    for (name, authority, uri) in [
        ("namespace", own, "weir://other/gateway/web"),
        ("kind", own, "weir://ns/memory/kb"),
        ("longer", own, "weir://ns/gateway/web/x"),
        ("nameless", own, "weir://ns/gateway/"),
        ("authority", &elsewhere, "weir://ns/gateway/web"),
    ] {
        let folder = world.path(name);
        authority.issue(&folder, uri, None);
        // It trusts the service in every case: the refusal is the service's.
        std::fs::copy(
            world.path("gateway-tls").join("ca.crt"),
            folder.join("ca.crt"),
        )
        .unwrap();
        let asked = MemoryService {
            tls: folder,
            ..world.asked(service.calls)
        };
        refused(asked).await;
    }
    let page = service.page("/metrics").await;
    assert!(
        !page.contains("weir_memory_calls_total"),
        "nothing was answered: {page}"
    );
    // It was not the service that was away.
    here(&world.client(service.calls)).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_another_authority_vouches_for_is_not_asked() {
    let Some(world) = World::new() else { return };
    let other = Authority::new();
    let folder = world.path("impostor");
    other.issue(&folder, "weir://ns/memory/kb", Some("localhost"));
    let service = crate::world::start(Options {
        tls: folder,
        ..world.options()
    })
    .await;
    refused(world.asked(service.calls)).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_are_used_without_a_restart() {
    let Some(world) = World::new() else { return };
    let (service, client) = world.connected().await;
    // Another authority signs both ends anew, in place.
    let renewed = Authority::new();
    renewed.issue(
        &world.path("memory-tls"),
        "weir://ns/memory/kb",
        Some("localhost"),
    );
    renewed.issue(&world.path("gateway-tls"), "weir://ns/gateway/web", None);
    here(&world.client(service.calls)).await;
    drop(client);
    service.stop().await;
}

#[tokio::test]
async fn a_certificate_that_does_not_say_whose_it_is_serves_nobody() {
    let Some(world) = World::new() else { return };
    let folder = world.path("nameless-service");
    world
        .authority
        .issue(&folder, "https://example.org", Some("localhost"));
    let refused = Server::bind(Options {
        tls: folder,
        ..world.options()
    });
    let error = refused.await.unwrap_err();
    assert!(matches!(error, ServeError::Tls(_)), "{error}");
    assert!(error.to_string().contains("weir://NAMESPACE/memory/NAME"));
}
