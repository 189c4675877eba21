//! gRPC's health service: it serves as long as `/readyz` says yes.
//!
//! No key needed, nothing private shown. Reading on: `http/health.rs`.

use crate::gateway::Gateway;
use futures_util::{Stream, stream};
use std::pin::Pin;
use std::time::Duration;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use weir_proto::gateway::v1::gateway_server::SERVICE_NAME;

/// The service's own name.
pub(super) const NAME: &str = "grpc.health.v1.Health";
/// How often a client that watches may hear of a change.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Whether calls are answered now.
pub(super) struct Health {
    gateway: Gateway,
}

/// A client that watches.
struct Watching {
    gateway: Gateway,
    /// Whether the service that it names is served at all.
    known: bool,
    told: Option<ServingStatus>,
    ended: bool,
}

type Watched = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

impl Health {
    pub(super) fn of(gateway: Gateway) -> Self {
        Self { gateway }
    }
}

fn is_served(service: &str) -> bool {
    service.is_empty() || service == SERVICE_NAME
}

fn standing(gateway: &Gateway) -> ServingStatus {
    match gateway.is_ready() {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    }
}

fn message(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Watched;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_served(&request.get_ref().service) {
            return Err(Status::not_found("no such service"));
        }
        Ok(Response::new(message(standing(&self.gateway))))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Watched>, Status> {
        let watching = Watching {
            gateway: self.gateway.clone(),
            known: is_served(&request.get_ref().service),
            told: None,
            ended: false,
        };
        Ok(Response::new(Box::pin(stream::unfold(
            watching,
            Watching::next,
        ))))
    }
}

impl Watching {
    /// The next change. A gateway that leaves says so and ends, since it waits for what is open.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Self)> {
        if self.ended {
            return None;
        }
        loop {
            let leaving = self.gateway.is_draining();
            let status = match self.known {
                true => standing(&self.gateway),
                false => ServingStatus::ServiceUnknown,
            };
            if self.told != Some(status) {
                self.told = Some(status);
                return Some((Ok(message(status)), self));
            }
            if leaving {
                self.ended = true;
                let status = Status::unavailable("the gateway is leaving");
                return Some((Err(status), self));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
