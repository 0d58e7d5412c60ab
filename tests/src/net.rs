//! A datagram network inside the process, with latency, loss and partitions, behind quinn's socket trait.
//!
//! Owns delivery between its ports. Loss is drawn from a seeded generator, so that a run can be repeated. Never touches a
//! real socket.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, io,
    io::IoSliceMut,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tokio::time::{Instant, Sleep};

/// Datagrams that wait at one port; more are dropped, as a full socket buffer would.
const QUEUE: usize = 4096;

/// The network.
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

struct State {
    ports: BTreeMap<SocketAddr, Arc<PortQueue>>,
    /// Pairs that hear nothing of each other, lesser address first.
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    recorded: BTreeMap<SocketAddr, Vec<(SocketAddr, Vec<u8>)>>,
    loss: f64,
    latency: Duration,
    rng: SmallRng,
    dropped: u64,
}

#[derive(Default)]
struct PortQueue(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    datagrams: VecDeque<Datagram>,
    timer: Option<Pin<Box<Sleep>>>,
    waker: Option<Waker>,
}

struct Datagram {
    due: Instant,
    from: SocketAddr,
    bytes: Vec<u8>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("ports", &locked(&self.0).ports.len()).finish()
    }
}

impl Network {
    /// A network without loss or latency.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            ports: BTreeMap::new(),
            cut: BTreeSet::new(),
            recorded: BTreeMap::new(),
            loss: 0.0,
            latency: Duration::ZERO,
            rng: SmallRng::seed_from_u64(seed),
            dropped: 0,
        })))
    }

    /// The socket at `address`; one that was there before hears nothing any more.
    #[must_use]
    pub fn socket(&self, address: SocketAddr) -> Arc<dyn AsyncUdpSocket> {
        let queue = Arc::new(PortQueue::default());
        locked(&self.0).ports.insert(address, queue.clone());
        Arc::new(Socket { network: self.clone(), address, queue })
    }

    /// Loses this share of all datagrams, 0 to 1.
    pub fn lose(&self, share: f64) {
        locked(&self.0).loss = share;
    }

    /// Delays every datagram.
    pub fn delay(&self, latency: Duration) {
        locked(&self.0).latency = latency;
    }

    /// Nothing passes between the two any more.
    pub fn partition(&self, a: SocketAddr, b: SocketAddr) {
        locked(&self.0).cut.insert((a.min(b), a.max(b)));
    }

    /// Everything passes between the two again.
    pub fn heal(&self, a: SocketAddr, b: SocketAddr) {
        locked(&self.0).cut.remove(&(a.min(b), a.max(b)));
    }

    /// Takes the socket at `address` off the network, as if its host had lost power: it sends and hears nothing any more.
    pub fn unplug(&self, address: SocketAddr) {
        locked(&self.0).ports.remove(&address);
    }

    /// Sends a datagram from an address that needs no socket.
    pub fn inject(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.send(from, to, bytes);
    }

    /// Keeps every datagram that arrives at `address` from now on, so that a test can send it again.
    pub fn record(&self, address: SocketAddr) {
        locked(&self.0).recorded.insert(address, Vec::new());
    }

    /// What [`Network::record`] has kept so far: the sender and the bytes of each datagram.
    #[must_use]
    pub fn recorded(&self, address: SocketAddr) -> Vec<(SocketAddr, Vec<u8>)> {
        locked(&self.0).recorded.get(&address).cloned().unwrap_or_default()
    }

    /// How many datagrams did not arrive.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        locked(&self.0).dropped
    }

    /// Whether `queue` is that of the socket that is plugged in at `address` now.
    fn is_plugged(&self, address: SocketAddr, queue: &Arc<PortQueue>) -> bool {
        locked(&self.0).ports.get(&address).is_some_and(|plugged| Arc::ptr_eq(plugged, queue))
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let (queue, due) = {
            let mut state = locked(&self.0);
            if let Some(recorded) = state.recorded.get_mut(&to)
                && recorded.len() < QUEUE
            {
                recorded.push((from, bytes.to_vec()));
            }
            let lost = state.loss > 0.0 && {
                let loss = state.loss;
                state.rng.random_bool(loss)
            };
            let cut = state.cut.contains(&(from.min(to), from.max(to)));
            let queue = state.ports.get(&to).cloned();
            match queue {
                Some(queue) if !lost && !cut => (queue, Instant::now() + state.latency),
                Some(_) | None => {
                    state.dropped += 1;
                    return;
                }
            }
        };
        let mut queue = locked(&queue.0);
        if queue.datagrams.len() < QUEUE {
            queue.datagrams.push_back(Datagram { due, from, bytes: bytes.to_vec() });
        }
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }
}

struct Socket {
    network: Network,
    address: SocketAddr,
    queue: Arc<PortQueue>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated socket at {}", self.address)
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if !self.network.is_plugged(self.address, &self.queue) {
            return Ok(());
        }
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for segment in transmit.contents.chunks(size) {
            self.network.send(self.address, transmit.destination, segment);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut queue = locked(&self.queue.0);
        loop {
            let Some(due) = queue.datagrams.front().map(|datagram| datagram.due) else {
                queue.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            if due <= Instant::now() {
                queue.timer = None;
                break;
            }
            let timer = queue.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            timer.as_mut().reset(due);
            if timer.as_mut().poll(cx).is_pending() {
                queue.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        let mut count = 0;
        while count < bufs.len().min(meta.len()) {
            match queue.datagrams.front() {
                Some(datagram) if datagram.due <= Instant::now() => {}
                Some(_) | None => break,
            }
            let Some(datagram) = queue.datagrams.pop_front() else { break };
            let length = datagram.bytes.len().min(bufs[count].len());
            bufs[count][..length].copy_from_slice(&datagram.bytes[..length]);
            meta[count] = RecvMeta { addr: datagram.from, len: length, stride: length, ..RecvMeta::default() };
            count += 1;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}
