//! The parts of a stream header, between messages of the tunnel and values of the model.
//!
//! Owns the wire form of callers, trace contexts and socket addresses. Never frames anything and never decides whether a
//! caller may be believed: the header codec and the authorize stage do.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use federation_model::{
    caller::Caller,
    spiffe::{SpiffeIdError, parse_workload_id},
    trace::TraceContext,
};
use rustls_pki_types::CertificateDer;

use super::ConvertError;
use crate::tunnel::v1 as wire;

/// The message of a caller; nothing when the caller is not known.
#[must_use]
pub fn caller_message(caller: &Caller) -> Option<wire::stream_header::Caller> {
    match caller {
        Caller::Unknown => None,
        Caller::Workload { id, .. } => Some(wire::stream_header::Caller::Workload(id.to_string())),
        Caller::Vouched { id } => Some(wire::stream_header::Caller::Vouched(id.to_string())),
    }
}

/// The bytes of the certificate of a caller; empty when there is none.
#[must_use]
pub fn certificate_bytes(caller: &Caller) -> Bytes {
    caller.certificate().map_or_else(Bytes::new, |certificate| Bytes::copy_from_slice(certificate))
}

/// The caller of a header; `certificate` is empty when there is none.
///
/// # Errors
/// When the id is not that of a workload.
pub fn caller(message: Option<wire::stream_header::Caller>, certificate: &[u8]) -> Result<Caller, SpiffeIdError> {
    Ok(match message {
        None => Caller::Unknown,
        Some(wire::stream_header::Caller::Workload(id)) => {
            let certificate = (!certificate.is_empty()).then(|| Arc::new(CertificateDer::from(certificate.to_vec())));
            Caller::Workload { id: parse_workload_id(&id)?, certificate }
        }
        Some(wire::stream_header::Caller::Vouched(id)) => Caller::Vouched { id: parse_workload_id(&id)? },
    })
}

impl From<&TraceContext> for wire::TraceContext {
    fn from(trace: &TraceContext) -> Self {
        Self {
            trace_id: Bytes::copy_from_slice(&trace.trace_id.to_be_bytes()),
            span_id: trace.span_id,
            sampled: trace.sampled,
        }
    }
}

impl TryFrom<wire::TraceContext> for TraceContext {
    type Error = ConvertError;
    fn try_from(message: wire::TraceContext) -> Result<Self, ConvertError> {
        let fail = |field, reason| ConvertError::new("TraceContext", field, reason);
        let id = <[u8; 16]>::try_from(message.trace_id.as_ref()).map_err(|_| fail("trace_id", "it is not 16 bytes"))?;
        let trace_id = u128::from_be_bytes(id);
        if trace_id == 0 {
            return Err(fail("trace_id", "it is zero"));
        }
        if message.span_id == 0 {
            return Err(fail("span_id", "it is zero"));
        }
        Ok(Self { trace_id, span_id: message.span_id, sampled: message.sampled })
    }
}

impl From<SocketAddr> for wire::SocketAddress {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
        };
        Self { ip, port: address.port().into() }
    }
}

impl TryFrom<wire::SocketAddress> for SocketAddr {
    type Error = ConvertError;
    fn try_from(message: wire::SocketAddress) -> Result<Self, ConvertError> {
        let fail = |field, reason| ConvertError::new("SocketAddress", field, reason);
        let ip = message.ip.as_ref();
        let ip = <[u8; 4]>::try_from(ip)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(ip).map(IpAddr::from))
            .map_err(|_| fail("ip", "it is neither 4 nor 16 bytes"))?;
        let port = u16::try_from(message.port).map_err(|_| fail("port", "it is over 65535"))?;
        Ok(Self::new(ip, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_without_a_path_is_no_caller() {
        for id in ["spiffe://east.example", "https://east.example/x", "", "spiffe://east.example/a//b"] {
            assert!(caller(Some(wire::stream_header::Caller::Vouched(id.to_owned())), &[]).is_err(), "{id}");
        }
    }

    #[test]
    fn trace_contexts_with_a_zero_or_short_id_are_refused() {
        let good = wire::TraceContext::from(&TraceContext { trace_id: 1, span_id: 1, sampled: false });
        let cases = [
            (wire::TraceContext { trace_id: Bytes::from_static(&[0; 16]), ..good.clone() }, "trace_id"),
            (wire::TraceContext { trace_id: Bytes::from_static(&[1; 15]), ..good.clone() }, "trace_id"),
            (wire::TraceContext { span_id: 0, ..good.clone() }, "span_id"),
        ];
        assert!(TraceContext::try_from(good).is_ok());
        for (message, field) in cases {
            assert_eq!(TraceContext::try_from(message).unwrap_err().field, field);
        }
    }

    #[test]
    fn addresses_of_another_length_or_port_are_refused() {
        let good = || wire::SocketAddress::from(SocketAddr::from(([192, 0, 2, 1], 7)));
        let short = wire::SocketAddress { ip: Bytes::from_static(&[1; 5]), ..good() };
        assert_eq!(SocketAddr::try_from(short).unwrap_err().field, "ip");
        let port = wire::SocketAddress { port: 65_536, ..good() };
        assert_eq!(SocketAddr::try_from(port).unwrap_err().field, "port");
    }

    proptest! {
        #[test]
        fn trace_contexts_and_addresses_survive_the_wire(
            trace_id in 1u128.., span_id in 1u64.., sampled: bool, ip: IpAddr, port: u16,
        ) {
            let trace = TraceContext { trace_id, span_id, sampled };
            prop_assert_eq!(TraceContext::try_from(wire::TraceContext::from(&trace)).unwrap(), trace);
            let address = SocketAddr::new(ip, port);
            prop_assert_eq!(SocketAddr::try_from(wire::SocketAddress::from(address)).unwrap(), address);
        }
    }
}
