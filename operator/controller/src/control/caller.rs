//! Who calls: what the client's certificate says, and nothing that a message says.
//!
//! One exception: a follower of this operator passes on whose stream it carries, and is believed because its own
//! certificate names the operator.

use crate::pki::identity_of;
use std::net::IpAddr;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Status};

/// Header with the name of the caller whose stream a follower carries.
pub(crate) const FOR: &str = "weir-for";
/// Header with the address of the caller whose call a follower carries.
pub(crate) const FROM: &str = "weir-from";

/// A gateway, as its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GatewayId {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl GatewayId {
    /// `weir://<namespace>/gateway/<name>`.
    pub(crate) fn uri(&self) -> String {
        format!("weir://{}/gateway/{}", self.namespace, self.name)
    }

    fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("weir://")?.split('/');
        let (namespace, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = kind == "gateway" && parts.next().is_none();
        (whole && !namespace.is_empty() && !name.is_empty()).then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// The name of the operator in a namespace.
pub(crate) fn operator_uri(namespace: &str) -> String {
    format!("weir://{namespace}/operator/weir")
}

/// The gateway that calls, or whose stream a follower of `operator` carries.
pub(crate) fn gateway<T>(request: &Request<T>, operator: &str) -> Result<GatewayId, Status> {
    let uri = certificate(request)
        .ok_or_else(|| Status::unauthenticated("a client certificate of Weir is needed"))?;
    let named = if uri == operator {
        header(request, FOR).unwrap_or_default().to_owned()
    } else {
        uri
    };
    GatewayId::parse(&named)
        .ok_or_else(|| Status::permission_denied(format!("{named:?} is no gateway")))
}

/// The address that calls, or whose call a follower of `operator` carries.
pub(crate) fn address<T>(request: &Request<T>, operator: &str) -> Option<IpAddr> {
    if certificate(request).as_deref() == Some(operator) {
        return header(request, FROM)?.parse().ok();
    }
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let address = info?.get_ref().remote_addr()?.ip();
    Some(address.to_canonical())
}

fn certificate<T>(request: &Request<T>) -> Option<String> {
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let certificates = info?.peer_certs()?;
    identity_of(certificates.first()?)
}

fn header<'a, T>(request: &'a Request<T>, name: &str) -> Option<&'a str> {
    request.metadata().get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_of_gateways_are_read() {
        let id = GatewayId {
            namespace: "demo".into(),
            name: "support".into(),
        };
        assert_eq!(GatewayId::parse(&id.uri()), Some(id));
        for other in [
            "weir://demo/memory/support",
            "weir://demo/gateway/",
            "weir:///gateway/support",
            "weir://demo/gateway/support/more",
            "https://demo/gateway/support",
        ] {
            assert_eq!(GatewayId::parse(other), None, "{other}");
        }
    }
}
