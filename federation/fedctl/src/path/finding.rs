//! What the way to a gateway means to a person.
//!
//! Owns the words. Never sends anything.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use federation_model::{
    addr::{GatewayAddr, Host},
    finding::Finding,
};

use super::{
    Path, Reach,
    attempt::{ANSWERS_WITHIN, TRIES},
    sizes,
};
use crate::clock;

/// From where a path was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From where this program runs.
    Here,
    /// From a pod.
    Pod(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("from here"),
            Self::Pod(name) => write!(f, "from the pod {name}"),
        }
    }
}

impl Path {
    /// The finding, which says from where it was found.
    pub(crate) fn finding(&self, origin: &Origin) -> Finding {
        let check = format!("path to {}", self.peer);
        let to = self.to();
        let failed = |detail: String, hint: String| Finding::failed(&check, format!("{origin}: {detail}"), hint);
        match &self.reach {
            Reach::Unresolved { reason } => failed(
                format!("the name has no address: {}", plain(reason)),
                "the name as the other cluster advertises it (fedctl status there), and the DNS that is asked"
                    .to_owned(),
            ),
            Reach::Blocked { reason } => failed(
                format!("nothing is carried to {to}: {}", plain(reason)),
                "a route there, and the firewall on the way out".to_owned(),
            ),
            Reach::Silent => failed(
                format!(
                    "{to} does not answer {TRIES} datagrams of {}, {ANSWERS_WITHIN:?} after each",
                    bytes(self.smallest())
                ),
                format!(
                    "UDP port {} open in the firewalls, security groups and network policies of both sides, and the address \
                     that fedctl status shows there; an MTU under {} looks the same",
                    self.peer.port(),
                    self.link(self.smallest())
                ),
            ),
            Reach::Refused => failed(
                format!("{to} is there, and nothing listens on the port"),
                "the address that fedctl status shows there, and the Service of that gateway".to_owned(),
            ),
            Reach::TooSmall => failed(
                format!(
                    "a link on the way to {to} does not carry {}, the least that QUIC works with",
                    bytes(self.smallest())
                ),
                format!("an MTU of at least {} on the overlay or VPN", self.link(self.comfortable())),
            ),
            Reach::Foreign => failed(
                format!("what answers at {to} is no gateway: it does not speak QUIC version 1"),
                "the address and the UDP port of the tunnel, as fedctl status shows them there".to_owned(),
            ),
            Reach::Reachable { rtt_micros, payload } => {
                let detail = format!("{origin}: {to} answers in {}", clock::rtt(*rtt_micros));
                self.of_size(&check, detail, *payload)
            }
        }
    }

    fn of_size(&self, check: &str, detail: String, payload: u16) -> Finding {
        let largest = self.sizes()[3];
        if payload >= self.comfortable() {
            let most = if payload == largest { ", the most that a tunnel sends" } else { "" };
            return Finding::ok(check, format!("{detail}, with datagrams of up to {}{most}", bytes(payload)));
        }
        // What a large transfer needs in datagrams and in work for each, beside a path of 1500.
        let more = (u32::from(largest) * 100 / u32::from(payload)).saturating_sub(100);
        Finding::warning(
            check,
            format!(
                "{detail}; datagrams over {} are lost: transfers take {more} % more of them, and one more layer of \
                 encapsulation on the way would cut the tunnel off",
                bytes(payload)
            ),
            format!("an MTU of at least {} on the overlay or VPN, better 1500", self.link(self.comfortable())),
        )
    }

    /// The peer, with the address where its name alone does not say it.
    fn to(&self) -> String {
        match (self.peer.host(), self.address) {
            (Host::Dns(_), Some(address)) => address.to_string(),
            (Host::Dns(_) | Host::Ip(_), _) => GatewayAddr::to_string(&self.peer),
        }
    }

    fn sizes(&self) -> [u16; 4] {
        sizes(self.address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip()))
    }

    fn smallest(&self) -> u16 {
        self.sizes()[0]
    }

    /// The least with which nothing is amiss.
    fn comfortable(&self) -> u16 {
        self.sizes()[1]
    }

    /// The MTU of a link that carries a datagram of this size: with the headers of UDP, and of IPv4 or IPv6.
    fn link(&self, payload: u16) -> u16 {
        payload
            + match self.address {
                Some(SocketAddr::V6(_)) => 48,
                Some(SocketAddr::V4(_)) | None => 28,
            }
    }
}

/// It goes to a terminal, and may be of a DNS or of a pod.
fn plain(reason: &str) -> String {
    reason.replace(char::is_control, " ")
}

fn bytes(size: u16) -> String {
    format!("{size} bytes")
}
