//! One size of datagram, on a socket of its own: so what the network says of it is said of this size alone.
//!
//! Owns the socket and its patience. Never decides what is tried next.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover},
};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout},
};

use super::negotiation::{Ids, Speaks};

/// Datagrams of one size: one that is lost says nothing of its size.
pub(super) const TRIES: usize = 3;
/// How long each may take: three round trips around the world.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// The longest answer that is read. One that lists two hundred versions is shorter.
const LONGEST: usize = 1024;

/// What became of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It was answered, after this time.
    Answered(Duration),
    /// This host, or a router that says so, cannot carry it undivided.
    TooLarge,
    /// Nothing listens there.
    Refused,
    /// It is not carried there, in the words of the operating system.
    Blocked(String),
    /// What came back is not QUIC version 1.
    Foreign,
    /// Nothing came back.
    Silent,
}

/// A datagram that was sent, and when.
type Sent = (Ids, Instant);

/// Sends datagrams of this size until one is answered. Each has ids of its own, so that a late answer is to the right one.
pub(super) async fn attempt(to: SocketAddr, size: u16) -> Attempt {
    let socket = match socket(to).await {
        Ok(socket) => socket,
        Err(error) => return failed(&error),
    };
    let (mut sent, mut foreign) = (Vec::with_capacity(TRIES), false);
    for _ in 0..TRIES {
        let ids = Ids::random();
        let at = Instant::now();
        if let Err(error) = socket.send(&ids.datagram(size)).await {
            return failed(&error);
        }
        sent.push((ids, at));
        if let Ok(attempt) = timeout(ANSWERS_WITHIN, answer(&socket, &sent, &mut foreign)).await {
            return attempt;
        }
    }
    if foreign { Attempt::Foreign } else { Attempt::Silent }
}

/// Waits for the answer to one of them. What is no answer to any is remembered, and ends nothing: anybody could send it.
async fn answer(socket: &UdpSocket, sent: &[Sent], foreign: &mut bool) -> Attempt {
    let mut buffer = [0; LONGEST];
    loop {
        let length = match socket.recv(&mut buffer).await {
            Ok(length) => length,
            Err(error) => return failed(&error),
        };
        let answered = sent.iter().find_map(|(ids, at)| Some((ids.answered(&buffer[..length])?, at)));
        match answered {
            Some((Speaks::Version1, at)) => return Attempt::Answered(at.elapsed()),
            Some((Speaks::Others, _)) => return Attempt::Foreign,
            None => *foreign = true,
        }
    }
}

/// A socket that talks to this address alone, hears what routers say of it, and divides no datagram.
async fn socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Not what the kernel believes of the path is asked, but the path.
    match to {
        SocketAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?,
        SocketAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?,
    }
    socket.connect(to).await?;
    Ok(socket)
}

fn failed(error: &io::Error) -> Attempt {
    match Errno::from_io_error(error) {
        Some(Errno::MSGSIZE) => Attempt::TooLarge,
        Some(Errno::CONNREFUSED) => Attempt::Refused,
        Some(_) | None => Attempt::Blocked(error.to_string()),
    }
}
