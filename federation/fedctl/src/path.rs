//! Whether datagrams reach the tunnel's port of a gateway, and how large they may be.
//!
//! Owns the question and what the answer means. No credential is needed: a QUIC server answers a version it does not know
//! with the versions it knows (RFC 9000 section 6). Only the way there is measured in size, since the answer is small; the way
//! back is measured from the other side. Never opens a connection, and leaves no state at the other end.
//!
//! ```text
//! HOST:PORT -- resolve --> address -- 1200 bytes --> answer: round trip time -- larger ones --> the largest that is answered
//!                (negotiation: the bytes)     (attempt: one size, a socket of its own)     (finding: the words)
//! ```

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use federation_model::addr::{GatewayAddr, Host};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tokio::{net::lookup_host, task::JoinSet, time::timeout};

mod attempt;
mod finding;
mod negotiation;
#[cfg(test)]
mod tests;

use attempt::{Attempt, attempt};
pub(crate) use finding::Origin;

/// The most paths of one command: each may take a socket and half a minute.
pub(crate) const MAX_PATHS: usize = 64;
/// The most characters of a reason that is read.
const MAX_REASON: usize = 300;
/// As a gateway has it: how many addresses of one name are tried, and how long the name may take.
const MAX_RESOLVED: usize = 4;
const RESOLVE_LIMIT: Duration = Duration::from_secs(3);

/// Bytes in a datagram of UDP over IPv4: the least that QUIC works with (RFC 9000 section 14.1), what fits 1280, the least that
/// IPv6 asks of a link, what fits 1380, left by most VPNs, and the most that a tunnel sends.
const OVER_V4: [u16; 4] = [1200, 1252, 1352, 1452];
/// The same over IPv6, whose header is 20 bytes longer; a tunnel sends no more over IPv4 than over IPv6.
const OVER_V6: [u16; 4] = [1200, 1232, 1332, 1452];

/// The way to one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Path {
    /// As it was asked for.
    pub(crate) peer: GatewayAddr,
    /// The address that the rest is about; none when the name has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<SocketAddr>,
    #[serde(flatten)]
    pub(crate) reach: Reach,
}

/// What is known of the way there. Later ones tell more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "reach", rename_all = "snake_case")]
pub(crate) enum Reach {
    /// The name has no address.
    Unresolved {
        #[serde(deserialize_with = "reason")]
        reason: String,
    },
    /// The operating system, or a router on the way, refuses to carry anything there.
    Blocked {
        #[serde(deserialize_with = "reason")]
        reason: String,
    },
    /// Nothing comes back: a firewall, the wrong address, or a link that carries no 1200 bytes.
    Silent,
    /// The host is there, and nothing listens on the port.
    Refused,
    /// A link on the way says that not even 1200 bytes fit.
    TooSmall,
    /// Something answers, and it is not QUIC version 1.
    Foreign,
    /// It answers.
    Reachable {
        /// The round trip time of the smallest datagram.
        rtt_micros: u64,
        /// The most bytes in a datagram that were answered: one of the sizes that are tried.
        #[serde(deserialize_with = "payload")]
        payload: u16,
    },
}

impl Path {
    /// Whether a tunnel can be opened over it.
    pub(crate) fn carries(&self) -> bool {
        match self.reach {
            Reach::Reachable { .. } => true,
            Reach::Unresolved { .. }
            | Reach::Blocked { .. }
            | Reach::Silent
            | Reach::Refused
            | Reach::TooSmall
            | Reach::Foreign => false,
        }
    }
}

/// Tries the way to every one of them, all at once, and gives the results in the same order. Whoever asks for more than
/// [`MAX_PATHS`] gets that many, and has to say so.
pub(crate) async fn probe(peers: &[GatewayAddr]) -> Vec<Path> {
    let mut probes = JoinSet::new();
    for (at, peer) in peers.iter().take(MAX_PATHS).cloned().enumerate() {
        probes.spawn(async move { (at, one(peer).await) });
    }
    let mut paths = probes.join_all().await;
    paths.sort_by_key(|(at, _)| *at);
    paths.into_iter().map(|(_, path)| path).collect()
}

async fn one(peer: GatewayAddr) -> Path {
    let addresses = match resolve(&peer).await {
        Ok(addresses) => addresses,
        Err(reason) => return Path { peer, address: None, reach: Reach::Unresolved { reason } },
    };
    let mut best: Option<(Reach, SocketAddr)> = None;
    // One after the other until one answers, as a gateway dials.
    for address in addresses {
        let reach = reach(address).await;
        if best.as_ref().is_none_or(|(known, _)| *known < reach) {
            best = Some((reach, address));
        }
        if let Some((Reach::Reachable { .. }, _)) = best {
            break;
        }
    }
    match best {
        Some((reach, address)) => Path { peer, address: Some(address), reach },
        None => Path { peer, address: None, reach: Reach::Unresolved { reason: "it has no address".to_owned() } },
    }
}

async fn resolve(peer: &GatewayAddr) -> Result<Vec<SocketAddr>, String> {
    let port = peer.port().number();
    match peer.host() {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, port)]),
        Host::Dns(name) => match timeout(RESOLVE_LIMIT, lookup_host((name.as_str(), port))).await {
            Ok(Ok(found)) => Ok(found.take(MAX_RESOLVED).collect()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err(format!("no answer of the DNS within {RESOLVE_LIMIT:?}")),
        },
    }
}

/// What fits is found from below, because what does not fit is mostly not answered at all.
async fn reach(to: SocketAddr) -> Reach {
    let [smallest, larger @ ..] = sizes(to.ip());
    let rtt = match attempt(to, smallest).await {
        Attempt::Answered(rtt) => rtt,
        Attempt::TooLarge => return Reach::TooSmall,
        Attempt::Refused => return Reach::Refused,
        Attempt::Blocked(reason) => return Reach::Blocked { reason },
        Attempt::Foreign => return Reach::Foreign,
        Attempt::Silent => return Reach::Silent,
    };
    let mut payload = smallest;
    for size in larger {
        match attempt(to, size).await {
            Attempt::Answered(_) => payload = size,
            Attempt::TooLarge | Attempt::Refused | Attempt::Blocked(_) | Attempt::Foreign | Attempt::Silent => break,
        }
    }
    Reach::Reachable { rtt_micros: u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX), payload }
}

/// A size that is tried over one family or the other: a pod may say anything.
fn payload<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    let size = u16::deserialize(from)?;
    if OVER_V4.contains(&size) || OVER_V6.contains(&size) {
        return Ok(size);
    }
    Err(D::Error::custom(format!("no datagram of {size} bytes is sent")))
}

/// It goes to a terminal.
fn reason<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let said = String::deserialize(from)?;
    Ok(said.chars().take(MAX_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// The sizes that are tried, ascending.
const fn sizes(ip: IpAddr) -> [u16; 4] {
    match ip {
        IpAddr::V4(_) => OVER_V4,
        IpAddr::V6(_) => OVER_V6,
    }
}
