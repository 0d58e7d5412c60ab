//! What this cluster exports, with the endpoints that stay at home.
//!
//! Owns the local half of an export: addresses of endpoints never leave the cluster, only their number does
//! ([`crate::catalog`]). Never reads objects: `federation-catalog` does.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use crate::{
    addr::{Port, Transport},
    catalog::ExportedService,
    names::EndpointName,
};

/// One exported service of this cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalExport {
    /// What other clusters are told.
    pub service: ExportedService,
    /// Its endpoints, ready ones and those that still serve while terminating.
    pub endpoints: Vec<Endpoint>,
    /// How the destination sees the caller.
    pub deliver: Deliver,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deliver {
    /// The bytes of the client, nothing added; a client's own TLS passes through untouched.
    #[default]
    Plain,
    /// A PROXY protocol v2 header first: source address, principal, source cluster, assurance.
    ProxyV2,
}
