//! The PROXY protocol header that a destination gets for what a peer sent.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use federation_model::{caller::Caller, sni::Zone};
use gateway::proxy_protocol::{Introduction, TLV_ASSURANCE, TLV_PRINCIPAL, TLV_SOURCE_CLUSTER};
use gateway_core::header::StreamHeader;
use proxy_header::{ParseConfig, ProxyHeader, Tlv};

/// PP2_SUBTYPE_SSL_CLIENT_CERT
const CLIENT_CERTIFICATE: u8 = 0x28;
/// What no header is longer than (PROXY protocol, section 2.2): its length has 16 bits.
const LONGEST: usize = 16 + 65_535;

/// The first byte says whether the endpoint has IPv6; 16 bytes of address, two of port, and two that give the length of a
/// certificate, 0 for that of the header; then a stream header.
pub fn proxy_header(data: &[u8]) {
    let Some((place, data)) = data.split_first_chunk::<21>() else { return };
    let Ok(Some((mut header, _))) = StreamHeader::read(data) else { return };
    let number = |at: usize| u16::from_be_bytes([place[at], place[at + 1]]);
    let ip: [u8; 16] = place[1..17].try_into().unwrap();
    let ip = if place[0] & 1 == 0 { IpAddr::from([ip[0], ip[1], ip[2], ip[3]]) } else { IpAddr::from(ip) };
    let endpoint = SocketAddr::new(ip, number(17));
    if let (Caller::Workload { certificate, .. }, length @ 1..) = (&mut header.caller, number(19)) {
        *certificate = Some(Arc::new(vec![0x30; length.into()].into()));
    }
    let host = Zone::default().host_of(&header.destination.service);
    let introduction = Introduction {
        client: header.client,
        endpoint,
        caller: &header.caller,
        source_cluster: &"east".parse().unwrap(),
        authority: header.server_name.as_deref().unwrap_or(&host),
        trace: header.trace,
    };
    let sent = introduction.encode().unwrap();
    assert!(sent.len() <= LONGEST, "{} bytes", sent.len());
    assert_tells(&sent, &introduction);
    for end in super::cuts(sent.len()).filter(|end| *end < sent.len()) {
        assert!(ProxyHeader::parse(&sent[..end], version_two()).is_err(), "{end} bytes of {}", sent.len());
    }
}

const fn version_two() -> ParseConfig {
    ParseConfig { include_tlvs: true, allow_v1: false, allow_v2: true }
}

fn assert_tells(sent: &[u8], introduction: &Introduction<'_>) {
    let stream = [sent, b"\r\n\r\n\0\r\nQUIT\n of the client"].concat();
    let (header, length) = ProxyHeader::parse(&stream, version_two()).unwrap();
    assert_eq!(length, sent.len(), "what follows is the client's");
    let told = header.proxied_address().map(|told| (canonical(told.source), canonical(told.destination)));
    let client = introduction.client.map(|client| (canonical(client), canonical(introduction.endpoint)));
    assert_eq!(told, client);

    let mut tlvs = header.tlvs().map(Result::unwrap);
    assert_eq!(tlvs.next(), Some(Tlv::Authority(introduction.authority.into())));
    assert_eq!(tlvs.next(), Some(Tlv::UniqueId(Cow::Owned(introduction.trace.to_string().into_bytes()))));
    let caller = introduction.caller;
    let mut next = tlvs.next();
    if let Some(Tlv::Ssl(ssl)) = &next {
        let certificate = caller.certificate().unwrap();
        assert!(ssl.client_ssl() && ssl.client_cert_conn() && !ssl.client_cert_sess() && ssl.verify() == 0);
        let about: Vec<_> = ssl.tlvs().map(Result::unwrap).collect();
        let shown = Tlv::Custom(CLIENT_CERTIFICATE, certificate.as_ref().into());
        assert_eq!(about, [Tlv::SslVersion("TLSv1.3".into()), shown]);
        next = tlvs.next();
    } else {
        assert!(caller.certificate().is_none_or(|certificate| certificate.len() > 60_000), "it is not shown");
    }
    let mut expected = Vec::new();
    if let Some(id) = caller.principal() {
        expected.push((TLV_PRINCIPAL, id.to_string()));
    }
    expected.push((TLV_SOURCE_CLUSTER, introduction.source_cluster.to_string()));
    expected.push((TLV_ASSURANCE, caller.assurance().label().to_owned()));
    let expected = expected.into_iter().map(|(kind, text)| Tlv::Custom(kind, Cow::Owned(text.into_bytes())));
    assert!(next.into_iter().chain(tlvs).eq(expected), "{:?}", header);
}

/// The address whatever family it was sent in.
fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}
