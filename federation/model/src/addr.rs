//! Ports, transports and the addresses of gateways.
//!
//! Owns their text forms. Never resolves a name.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU16,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// A TCP or UDP port, never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(NonZeroU16);

impl Port {
    /// The port, or nothing for 0.
    #[must_use]
    pub const fn new(port: u16) -> Option<Self> {
        match NonZeroU16::new(port) {
            Some(port) => Some(Self(port)),
            None => None,
        }
    }

    /// The number, 1 to 65535.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The transport protocol of a service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The label of SRV names, without the underscore.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Why a string is not a gateway address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("gateway address {text:?} is not valid: {reason}; write host:port, 192.0.2.1:15443 or [2001:db8::1]:15443")]
pub struct GatewayAddrError {
    text: String,
    reason: &'static str,
}

/// Why a string is not a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a DNS name; write labels of letters, digits and '-', joined with dots")]
pub struct DnsNameError {
    text: String,
}

/// A DNS name in lowercase, without a dot at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(String);

impl DnsName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = DnsNameError;
    fn from_str(text: &str) -> Result<Self, DnsNameError> {
        let name = dns_name(text).filter(|name| name.parse::<IpAddr>().is_err());
        name.map(Self).ok_or_else(|| DnsNameError { text: text.chars().take(120).collect() })
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The host of a gateway address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A DNS name, resolved anew at every dial.
    Dns(String),
}

/// Where a gateway can be reached: `host:port`, the host a name or a literal address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GatewayAddr {
    host: Host,
    port: Port,
}

impl GatewayAddr {
    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }
}

impl FromStr for GatewayAddr {
    type Err = GatewayAddrError;
    fn from_str(text: &str) -> Result<Self, GatewayAddrError> {
        let fail = |reason| GatewayAddrError { text: text.chars().take(120).collect(), reason };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| fail("the port is missing"))?;
        let port =
            port.parse().ok().and_then(Port::new).ok_or_else(|| fail("the port is not a number from 1 to 65535"))?;
        let host = if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            let ip: Ipv6Addr = v6.parse().map_err(|_| fail("the host is not an IPv6 address"))?;
            Host::Ip(ip.into())
        } else if let Ok(ip) = host.parse() {
            Host::Ip(IpAddr::V4(ip))
        } else {
            Host::Dns(dns_name(host).ok_or_else(|| fail("the host is neither a DNS name nor an address"))?)
        };
        Ok(Self { host, port })
    }
}

/// A DNS name in lowercase (RFC 1123 section 2.1 with underscores), at most 253 bytes.
fn dns_name(text: &str) -> Option<String> {
    let valid = |label: &str| {
        !label.is_empty()
            && label.len() <= crate::names::MAX_LABEL
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    (name.len() <= 253 && name.split('.').all(valid)).then(|| name.to_ascii_lowercase())
}

impl TryFrom<String> for GatewayAddr {
    type Error = GatewayAddrError;
    fn try_from(text: String) -> Result<Self, GatewayAddrError> {
        text.parse()
    }
}

impl From<GatewayAddr> for String {
    fn from(addr: GatewayAddr) -> Self {
        addr.to_string()
    }
}

impl fmt::Display for GatewayAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Dns(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl fmt::Debug for GatewayAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_addresses_survive_display_and_parse() {
        for text in ["east.example:15443", "192.0.2.1:1", "[2001:db8::1]:65535"] {
            assert_eq!(text.parse::<GatewayAddr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn dns_names_are_lowercase_and_addresses_are_none() {
        assert_eq!("API.Example.".parse::<DnsName>().unwrap().as_str(), "api.example");
        for text in ["", "a..b", "a b", "192.0.2.1", "::1", "*.example", "spiffe://a/b"] {
            assert!(text.parse::<DnsName>().is_err(), "{text}");
        }
    }

    #[test]
    fn gateway_addresses_without_a_usable_host_or_port_are_refused() {
        for text in ["east", "east:", "east:0", "east:70000", ":1", "[::g]:1", "2001:db8::1:443", "a..b:1", "a b:1"] {
            assert!(text.parse::<GatewayAddr>().is_err(), "{text}");
        }
    }
}
