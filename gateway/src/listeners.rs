//! The listeners of the data path: one for every import address and port, and the one that routes by server name.
//!
//! Owns which sockets are open, kept in step with the tables. Never accepts: that is `accept`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use federation_model::addr::{Port, Transport};
use gateway_core::tables::Tables;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    accept::{Via, accept},
    path::DataPath,
};

/// The most import listeners at a time: each costs a file descriptor.
pub const MAX_LISTENERS: usize = 8192;
/// After how long an address that could not be opened is tried again; who has it may have let it go without a new table.
const RETRY: Duration = Duration::from_secs(2);
/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// Opens a TCP listener; on the unspecified IPv6 address it accepts IPv4 too, and no more than IPv4 where there is no IPv6.
///
/// # Errors
/// When the address is in use or not ours.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let everywhere = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match open(address, everywhere) {
        Err(_) if everywhere => open((Ipv4Addr::UNSPECIFIED, address.port()).into(), false),
        opened => opened,
    }
}

fn open(address: SocketAddr, both_families: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if both_families {
        socket.set_only_v6(false)?;
    }
    // A restarted gateway must not wait for the connections of its predecessor.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Keeps the import listeners in step with the tables until `stop`.
pub async fn follow(path: Arc<DataPath>, mut tables: watch::Receiver<Arc<Tables>>, stop: CancellationToken) {
    let mut open = Open { path, tasks: JoinSet::new(), running: BTreeMap::new(), failed: BTreeSet::new() };
    loop {
        let wanted = tables.borrow_and_update().listeners();
        open.reconcile(&wanted, &stop);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = tables.changed() => if changed.is_err() { break },
            // An ended accept loop is collected, so that the set does not grow.
            Some(_) = open.tasks.join_next() => {}
            () = tokio::time::sleep(RETRY), if !open.failed.is_empty() => {}
        }
    }
    while open.tasks.join_next().await.is_some() {}
}

struct Open {
    path: Arc<DataPath>,
    tasks: JoinSet<()>,
    running: BTreeMap<SocketAddr, CancellationToken>,
    failed: BTreeSet<SocketAddr>,
}

impl Open {
    fn reconcile(&mut self, wanted: &BTreeSet<(IpAddr, Port, Transport)>, stop: &CancellationToken) {
        let wanted: BTreeSet<SocketAddr> = wanted
            .iter()
            .filter(|(_, _, transport)| *transport == Transport::Tcp)
            .map(|(ip, port, _)| SocketAddr::new(*ip, port.number()))
            .take(MAX_LISTENERS)
            .collect();
        self.running.retain(|address, token| {
            let keep = wanted.contains(address);
            if !keep {
                token.cancel();
            }
            keep
        });
        self.failed.retain(|address| wanted.contains(address));
        for address in wanted {
            if !self.running.contains_key(&address) {
                self.open(address, stop);
            }
        }
    }

    fn open(&mut self, address: SocketAddr, stop: &CancellationToken) {
        match listen(address) {
            Ok(listener) => {
                let token = stop.child_token();
                self.tasks.spawn(accept(listener, Via::Address, self.path.clone(), token.clone()));
                self.running.insert(address, token);
                if self.failed.remove(&address) {
                    tracing::info!(%address, "the import address is open after all");
                }
            }
            // Said once, though it is tried again and again.
            Err(error) if self.failed.insert(address) => {
                tracing::warn!(%address, %error, "cannot listen on an import address; check outbound.vip_cidr and what else uses the port");
            }
            Err(_) => {}
        }
    }
}
