//! Loopback addresses that belong to one cluster alone.
//!
//! Owns the claims, which hold between processes as well: test runners start several. Never shares an address, so that every
//! listener can have its usual port and a restarted one gets it again.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    ops::RangeInclusive,
    sync::atomic::{AtomicU32, Ordering},
};

/// 127.100.0.0, the first block; lower addresses are left to programs that run on their own.
const FIRST: u32 = 0x7f64_0000;
/// Addresses of one block: a /20.
const SIZE: u32 = 1 << 12;
/// Blocks up to 127.254.255.255.
const BLOCKS: u32 = 155 * 16;
/// Where a block's second half starts: the first half is for imports, the second for hosts.
const HOSTS: u32 = SIZE / 2;
/// The port whose listener marks a block as taken.
const CLAIM_PORT: u16 = 15999;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A block of loopback addresses.
#[derive(Debug)]
pub(super) struct Block {
    base: u32,
    _claim: TcpListener,
}

impl Block {
    /// Takes a block that nobody has.
    ///
    /// # Panics
    /// When none is left, which is a leak of the tests.
    #[must_use]
    pub(super) fn claim() -> Self {
        // Processes start at different places, so that they rarely meet.
        let start = std::process::id().wrapping_mul(97);
        for _ in 0..BLOCKS {
            let index = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % BLOCKS;
            let base = FIRST + index * SIZE;
            if let Ok(claim) = TcpListener::bind(SocketAddr::new(ip(base + SIZE - 2), CLAIM_PORT)) {
                return Self { base, _claim: claim };
            }
        }
        panic!("every block of loopback addresses is taken")
    }

    /// The range for import addresses.
    #[must_use]
    pub(super) fn imports(&self) -> String {
        format!("{}/21", ip(self.base))
    }

    /// Ports of the whole host that no other block has: those of derived Services are open on every address.
    #[must_use]
    pub(super) fn ports(&self) -> RangeInclusive<u16> {
        let index = (self.base - FIRST) / SIZE;
        let first = 20_000 + u16::try_from(index % 480).unwrap_or(0) * 20;
        first..=first + 19
    }

    /// A host, such as the gateway or a pod.
    #[must_use]
    pub(super) fn host(&self, number: u8) -> IpAddr {
        ip(self.base + HOSTS + u32::from(number))
    }
}

fn ip(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}
