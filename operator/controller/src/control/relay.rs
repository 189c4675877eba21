//! What a follower does with a stream: it passes it on to the leader, message by message, in both directions.
//!
//! The follower names the gateway in a header, and the leader believes it because the follower's own certificate says
//! that it is the operator. Nothing is kept here: when the leader is gone the stream ends, and the gateway comes back.

use crate::control::caller::{FOR, FROM, GatewayId};
use crate::control::server::Down;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Response, Status, Streaming};
use weir_proto::control::v1::control_client::ControlClient;
use weir_proto::control::v1::{
    Artifact, FetchAcknowledged, FetchProgress, GatewayMessage, GetArtifactRequest,
};

/// Longest wait for a connection to the leader.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The operator's own certificate and whom it trusts, as PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnTls {
    pub(crate) trusted: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The way to the leader.
pub(crate) struct Relay {
    tls: watch::Receiver<OwnTls>,
    /// The name in the leader's certificate.
    server_name: String,
    /// The channel in use, by the leader's address and the certificate it was made with.
    channel: Mutex<Option<(String, OwnTls, Channel)>>,
}

impl Relay {
    pub(crate) fn new(tls: watch::Receiver<OwnTls>, server_name: String) -> Self {
        Self {
            tls,
            server_name,
            channel: Mutex::new(None),
        }
    }

    /// Carries a gateway's stream to the leader.
    pub(crate) async fn connect(
        &self,
        leader: Option<String>,
        gateway: &GatewayId,
        up: Streaming<GatewayMessage>,
    ) -> Result<Response<Down>, Status> {
        let mut client = self.client(leader)?;
        // A broken stream ends for the leader as if the gateway had ended it.
        let up = up.map_while(Result::ok);
        let mut request = Request::new(up);
        named(&mut request, FOR, &gateway.uri())?;
        let down = client.connect(request).await?.into_inner();
        Ok(Response::new(Box::pin(down)))
    }

    /// Asks the leader for an artifact.
    pub(crate) async fn get_artifact(
        &self,
        leader: Option<String>,
        gateway: &GatewayId,
        request: GetArtifactRequest,
    ) -> Result<Response<Artifact>, Status> {
        let mut request = Request::new(request);
        named(&mut request, FOR, &gateway.uri())?;
        self.client(leader)?.get_artifact(request).await
    }

    /// Passes a download's progress on.
    pub(crate) async fn report_fetch(
        &self,
        leader: Option<String>,
        address: IpAddr,
        progress: FetchProgress,
    ) -> Result<Response<FetchAcknowledged>, Status> {
        let mut request = Request::new(progress);
        named(&mut request, FROM, &address.to_string())?;
        self.client(leader)?.report_fetch(request).await
    }

    fn client(&self, leader: Option<String>) -> Result<ControlClient<Channel>, Status> {
        let leader = leader.ok_or_else(|| Status::unavailable("no operator leads yet"))?;
        let tls = self.tls.borrow().clone();
        let mut kept = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((address, with, channel)) = &*kept
            && *address == leader
            && *with == tls
        {
            return Ok(ControlClient::new(channel.clone()));
        }
        let channel = self
            .channel_to(&leader, &tls)
            .map_err(|_| Status::unavailable("the leader's address is not usable"))?;
        *kept = Some((leader, tls, channel.clone()));
        Ok(ControlClient::new(channel))
    }

    fn channel_to(&self, leader: &str, tls: &OwnTls) -> Result<Channel, tonic::transport::Error> {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&tls.trusted))
            .identity(Identity::from_pem(&tls.certificate, &tls.key))
            .domain_name(&self.server_name);
        let endpoint = Endpoint::from_shared(format!("https://{leader}"))?
            .tls_config(config)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5))
            .tcp_nodelay(true);
        Ok(endpoint.connect_lazy())
    }
}

fn named<T>(request: &mut Request<T>, header: &'static str, value: &str) -> Result<(), Status> {
    let value = value
        .parse()
        .map_err(|_| Status::invalid_argument("the name of the caller is no header"))?;
    request.metadata_mut().insert(header, value);
    Ok(())
}
