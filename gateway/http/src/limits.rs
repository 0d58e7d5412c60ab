//! The limits of one HTTP connection.
//!
//! Owns the numbers and their reasons. Never enforces them.

use std::time::Duration;

/// Limits that an operator may have an opinion on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// How long no byte may move between the gateway and the client, a kept-alive connection without requests included.
    pub idle: Duration,
    /// How long the head of an HTTP/1.1 request may take from its first byte to its last. Against clients that send one
    /// byte at a time to occupy the gateway.
    pub head: Duration,
}

impl Default for HttpLimits {
    /// An hour of silence, ten seconds for a head.
    fn default() -> Self {
        Self { idle: Duration::from_secs(3600), head: Duration::from_secs(10) }
    }
}

/// The head of a message, in bytes: what the largest common servers take at most, and room for a large certificate.
pub(crate) const HEAD_BYTES: u32 = 64 * 1024;
/// Fields of one head. hyper keeps this many on the stack; more would cost every request an allocation.
pub(crate) const FIELDS: usize = 100;
/// The target of a request, in bytes: twice what common servers take.
pub(crate) const TARGET_BYTES: usize = 16 * 1024;
/// Requests at a time on one HTTP/2 connection: over the 100 that clients assume, under what costs memory.
pub(crate) const STREAMS: u32 = 256;
/// Bytes in flight for one HTTP/2 stream: one window fills 100 Mbit/s over 80 ms.
pub(crate) const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes in flight for one HTTP/2 connection: it is also the most that streams nobody reads can hold.
pub(crate) const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes waiting to be sent for one HTTP/2 stream: with all streams stalled it is 32 MiB for a connection.
pub(crate) const SEND_BUFFER: usize = 128 * 1024;
/// Streams a client may reset before they were looked at; then the connection ends (CVE-2023-44487, rapid reset).
pub(crate) const UNSEEN_RESETS: usize = 20;
/// Streams reset for errors of the client; then the connection ends (CVE-2024-24549, RUSTSEC-2024-0003).
pub(crate) const ERROR_RESETS: usize = 256;
/// From this many requests on, a connection half of whose requests are taken back at once ends: each costs the endpoint.
pub(crate) const JUDGED_FROM: u64 = 500;
/// A request that the client takes back sooner than this, before an answer began, is taken back at once.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);
/// How often one request is sent: to the kept connection, to a new one, and once more when that ends unused.
pub(crate) const ATTEMPTS: usize = 3;
/// How long the settings of an HTTP/2 endpoint may take, where they must be known: several round trips inside a cluster.
pub(crate) const SETTINGS: Duration = Duration::from_secs(1);
/// How long the last words to a client may take to be written, and how long it is heard out after its answer, so that it
/// reads that first: a few round trips.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);
