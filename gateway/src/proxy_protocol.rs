//! The PROXY protocol v2 header that tells a destination who calls.
//!
//! Owns which TLVs are sent and their numbers. The encoding is the `proxy-header` crate's.

use std::net::SocketAddr;

use federation_model::{caller::Caller, names::ClusterName, trace::TraceContext};
use proxy_header::{ProxiedAddress, ProxyHeader, SslInfo, Tlv};

/// TLV with the caller's SPIFFE ID.
pub const TLV_PRINCIPAL: u8 = 0xE0;
/// TLV with the name of the cluster the caller is in.
pub const TLV_SOURCE_CLUSTER: u8 = 0xE1;
/// TLV that says how the principal is known: `mtls`, `attested` or `none`.
pub const TLV_ASSURANCE: u8 = 0xE2;

/// Within the TLV about TLS: the client's certificate in DER (PP2_SUBTYPE_SSL_CLIENT_CERT).
const SUB_TLV_CLIENT_CERTIFICATE: u8 = 0x28;
/// The version of TLS with which a gateway lets clients prove who they are, as OpenSSL calls it.
const TLS_VERSION: &str = "TLSv1.3";
/// The longest certificate that is passed on, in bytes: a header holds 65535, of which the longest SPIFFE ID and names take
/// under 3000. It tells nothing that the id does not.
const MAX_CERTIFICATE: usize = 60 * 1024;

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
        if let Some(ssl) = self.ssl() {
            header.append_tlv(Tlv::Ssl(ssl));
        }
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

impl Introduction<'_> {
    /// The certificate with which the client proved who it is to the gateway of its cluster, on this very connection, unless
    /// it is too large for a header. TLS that passes through is not told of: the destination sees it itself.
    fn ssl(&self) -> Option<SslInfo<'static>> {
        let certificate = self.caller.certificate().filter(|certificate| certificate.len() <= MAX_CERTIFICATE)?;
        let (speaks_tls, on_this_connection, of_the_session, verified) = (true, true, false, 0);
        let mut ssl = SslInfo::new(speaks_tls, on_this_connection, of_the_session, verified);
        ssl.append_tlv(Tlv::SslVersion(TLS_VERSION.into()));
        ssl.append_tlv(Tlv::Custom(SUB_TLV_CLIENT_CERTIFICATE, certificate.as_ref().into()));
        Some(ssl)
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
mod tests;
