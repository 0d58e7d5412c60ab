//! What this cluster exports, with the endpoints that stay at home.
//!
//! Owns the local half of an export: addresses of endpoints never leave the cluster, only their number does
//! ([`crate::catalog`]). Never reads objects: `federation-catalog` does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::{
    addr::{DnsName, Port, Transport},
    catalog::ExportedService,
    names::{ClusterName, EndpointName},
    spiffe::SpiffeId,
};

/// One exported service of this cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalExport {
    /// What other clusters are told.
    pub service: ExportedService,
    /// Its endpoints, ready ones and those that still serve while terminating.
    pub endpoints: Vec<Endpoint>,
    /// How the destination sees the caller, port by port.
    pub deliver: DeliverModes,
    /// Which other clusters are told of it, and may reach it.
    pub audience: Audience,
}

/// The other clusters that an export is for (`landbridge.dev/export-to` on the ServiceExport). The exporting cluster always
/// sees its own exports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Audience {
    /// All that are members, and those that become members. What is meant when nothing is said.
    #[default]
    Everyone,
    /// These, whether they are members or not; nobody when there are none.
    Only(BTreeSet<ClusterName>),
}

impl Audience {
    /// Whether the other cluster `cluster` is told of the export.
    #[must_use]
    pub fn includes(&self, cluster: &ClusterName) -> bool {
        match self {
            Self::Everyone => true,
            Self::Only(clusters) => clusters.contains(cluster),
        }
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => f.write_str("every cluster"),
            Self::Only(clusters) if clusters.is_empty() => f.write_str("no other cluster"),
            Self::Only(clusters) => {
                let names: Vec<&str> = clusters.iter().map(ClusterName::as_str).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

/// One endpoint of a local service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its name within a headless service.
    pub name: EndpointName,
    /// From service port to the port it listens on; a service port may be missing.
    pub ports: BTreeMap<(Port, Transport), Port>,
    /// Whether it takes new connections.
    pub state: EndpointState,
}

impl Endpoint {
    /// Where connections to `port` of the service go on this endpoint.
    #[must_use]
    pub fn target(&self, port: Port, transport: Transport) -> Option<SocketAddr> {
        self.ports.get(&(port, transport)).map(|target| SocketAddr::new(self.address, target.number()))
    }
}

/// Whether an endpoint takes new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointState {
    /// It does.
    Ready,
    /// It is going away, and serves as long as no ready one exists (KEP-1669).
    Terminating,
}

/// How a destination sees the caller (`landbridge.dev/deliver` on the ServiceExport).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Deliver {
    /// The bytes of the client, nothing added; a client's own TLS passes through untouched. What is done when nothing is said.
    #[default]
    Plain,
    /// The client's own TLS and nothing else: what does not begin with a ClientHello is refused.
    Passthrough,
    /// A PROXY protocol v2 header first: source address, certificate, principal, source cluster, assurance.
    ProxyV2,
    /// HTTP requests with headers that name the caller.
    Http,
    /// The bytes of the client over TLS to an endpoint that proves who it is; a client's own TLS passes through untouched.
    Tls(EndpointTls),
}

impl Deliver {
    /// The word in the annotation.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Passthrough => "passthrough",
            Self::ProxyV2 => "proxy-v2",
            Self::Http => "http",
            Self::Tls(_) => "tls",
        }
    }
}

impl fmt::Display for Deliver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What an endpoint must prove before it is sent a byte, and what it is shown (`landbridge.dev/tls-*` on the ServiceExport).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointTls {
    /// What the endpoint proves.
    pub proof: EndpointProof,
    /// What the gateway presents.
    pub presents: ClientIdentity,
}

/// What the certificate of an endpoint must prove.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EndpointProof {
    /// The name under which clients of the cluster set reach the service.
    #[default]
    ServiceHost,
    /// This name (`landbridge.dev/tls-server-name`).
    ServerName(DnsName),
    /// This id, under the bundle of its own trust domain (`landbridge.dev/tls-spiffe-id`).
    SpiffeId(SpiffeId),
}

/// What a gateway presents to an endpoint (`landbridge.dev/tls-client-identity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientIdentity {
    /// No certificate.
    #[default]
    None,
    /// Its own SVID.
    Gateway,
}

/// How each port of a service is delivered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliverModes {
    default: Deliver,
    exceptions: BTreeMap<Port, Deliver>,
}

impl DeliverModes {
    /// `default` for every port without an exception.
    #[must_use]
    pub fn new(default: Deliver, exceptions: BTreeMap<Port, Deliver>) -> Self {
        Self { default, exceptions }
    }

    /// How `port` of the service is delivered.
    #[must_use]
    pub fn mode_of(&self, port: Port) -> &Deliver {
        self.exceptions.get(&port).unwrap_or(&self.default)
    }
}

impl From<Deliver> for DeliverModes {
    fn from(default: Deliver) -> Self {
        Self::new(default, BTreeMap::new())
    }
}

impl fmt::Display for DeliverModes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default)?;
        self.exceptions.iter().try_for_each(|(port, mode)| write!(f, ", {port}={mode}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_of_nobody_includes_nobody_and_says_so() {
        let (north, west): (ClusterName, ClusterName) = ("north".parse().unwrap(), "west".parse().unwrap());
        let only = |clusters: &[&ClusterName]| Audience::Only(clusters.iter().map(|name| (*name).clone()).collect());
        let cases = [
            (Audience::Everyone, [true, true], "every cluster"),
            (only(&[&west, &north]), [true, true], "north, west"),
            (only(&[&west]), [false, true], "west"),
            (only(&[]), [false, false], "no other cluster"),
        ];
        for (audience, includes, text) in cases {
            assert_eq!([audience.includes(&north), audience.includes(&west)], includes, "{audience}");
            assert_eq!(audience.to_string(), text);
        }
    }

    #[test]
    fn a_port_without_an_exception_is_delivered_in_the_default_way() {
        let port = |number| Port::new(number).unwrap();
        let modes = DeliverModes::new(Deliver::Http, [(port(5432), Deliver::ProxyV2)].into());
        assert_eq!((modes.mode_of(port(5432)), modes.mode_of(port(80))), (&Deliver::ProxyV2, &Deliver::Http));
        assert_eq!(modes.to_string(), "http, 5432=proxy-v2");
        assert_eq!(DeliverModes::default().mode_of(port(80)), &Deliver::Plain);
    }
}
