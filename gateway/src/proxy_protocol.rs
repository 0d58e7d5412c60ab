//! The PROXY protocol v2 header that tells a destination who calls.
//!
//! Owns which TLVs are sent and their numbers. The encoding is the `proxy-header` crate's.

use std::net::SocketAddr;

use federation_model::{caller::Caller, names::ClusterName, trace::TraceContext};
use proxy_header::{ProxiedAddress, ProxyHeader, Tlv};

/// TLV with the caller's SPIFFE ID.
pub const TLV_PRINCIPAL: u8 = 0xE0;
/// TLV with the name of the cluster the caller is in.
pub const TLV_SOURCE_CLUSTER: u8 = 0xE1;
/// TLV that says how the principal is known: `mtls`, `attested` or `none`.
pub const TLV_ASSURANCE: u8 = 0xE2;

/// What a destination is told of a connection.
#[derive(Debug, Clone)]
pub struct Introduction<'a> {
    /// The client's address in its own cluster.
    pub client: Option<SocketAddr>,
    /// The endpoint the connection is delivered to.
    pub endpoint: SocketAddr,
    /// The caller.
    pub caller: &'a Caller,
    /// The cluster the caller is in.
    pub source_cluster: &'a ClusterName,
    /// The server name or host the client asked for.
    pub authority: &'a str,
    /// The trace context, sent as UNIQUE_ID.
    pub trace: TraceContext,
}

impl Introduction<'_> {
    /// The header's bytes; nothing when the parts do not fit into one header, which no valid SPIFFE ID reaches.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut header = match self.client.map(|client| same_family(client, self.endpoint)) {
            Some((client, endpoint)) => ProxyHeader::with_address(ProxiedAddress::stream(client, endpoint)),
            None => ProxyHeader::with_local(),
        };
        header.append_tlv(Tlv::Authority(self.authority.into()));
        header.append_tlv(Tlv::UniqueId(self.trace.to_string().into_bytes().into()));
        if let Some(id) = self.caller.principal() {
            header.append_tlv(Tlv::Custom(TLV_PRINCIPAL, id.to_string().into_bytes().into()));
        }
        header.append_tlv(Tlv::Custom(TLV_SOURCE_CLUSTER, self.source_cluster.as_str().as_bytes().into()));
        header.append_tlv(Tlv::Custom(TLV_ASSURANCE, self.caller.assurance().label().as_bytes().into()));
        let mut bytes = Vec::new();
        header.encode_v2(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// Both addresses in one family, as the header needs them: IPv4 becomes IPv4-mapped when the other is IPv6.
fn same_family(client: SocketAddr, endpoint: SocketAddr) -> (SocketAddr, SocketAddr) {
    let mapped = |addr: SocketAddr| match addr {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(_) => addr,
    };
    if client.is_ipv4() == endpoint.is_ipv4() { (client, endpoint) } else { (mapped(client), mapped(endpoint)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use federation_model::spiffe::SpiffeId;
    use proxy_header::ParseConfig;

    #[test]
    fn the_header_carries_address_principal_cluster_and_assurance() {
        let id = SpiffeId::new("spiffe://east.example/ns/production/sa/frontend").unwrap();
        let caller = Caller::Vouched { id: id.clone() };
        let introduction = Introduction {
            client: Some("10.0.0.5:1234".parse().unwrap()),
            endpoint: "[2001:db8::1]:80".parse().unwrap(),
            caller: &caller,
            source_cluster: &"east".parse().unwrap(),
            authority: "api.production.svc.clusterset.local",
            trace: TraceContext::from_random(7, 9),
        };
        let bytes = introduction.encode().unwrap();
        let (header, used) = ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap();
        assert_eq!(used, bytes.len());
        assert_eq!(header.proxied_address().unwrap().source, "[::ffff:10.0.0.5]:1234".parse().unwrap());
        let custom = |wanted| {
            header.tlvs().find_map(|tlv| match tlv {
                Ok(Tlv::Custom(kind, value)) if kind == wanted => Some(value.to_vec()),
                _ => None,
            })
        };
        assert_eq!(custom(TLV_PRINCIPAL).unwrap(), id.to_string().into_bytes());
        assert_eq!(custom(TLV_SOURCE_CLUSTER).unwrap(), b"east");
        assert_eq!(custom(TLV_ASSURANCE).unwrap(), b"attested");
    }
}
