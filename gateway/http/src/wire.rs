//! The client's bytes: their count, when they last moved, and the version that the first of them are.
//!
//! Owns the reading and writing of the client's side and what is known of it at any time. Never acts on that: `drive` does.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use federation_model::outcome::Outcome;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::limits::{HttpLimits, JUDGED_FROM};

/// What every HTTP/2 connection begins with (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The type of the record that a ClientHello is in (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// The version of a connection, decided by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.1 or 1.0, or nothing that is HTTP: whoever reads it as HTTP/1.1 finds out.
    One,
    /// HTTP/2 with prior knowledge.
    Two,
}

/// What a client begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Its end.
    Nothing,
    Http(Version),
    /// A record of TLS, with which no request begins.
    Tls,
}

/// What has happened on a connection so far.
#[derive(Debug)]
pub(crate) struct Activity {
    started: Instant,
    /// Milliseconds from `started` to when bytes last moved.
    moved_at: AtomicU64,
    /// The same for the first byte of a head that is not complete, plus one; 0 when there is none.
    head_since: AtomicU64,
    timing_heads: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    open: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
    taken_back: AtomicU64,
    endpoint_broke: AtomicBool,
    malformed: AtomicBool,
    failed: AtomicBool,
    left_http: AtomicBool,
    ending: OnceLock<Outcome>,
}

/// Which limit on time has been reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Nothing moved.
    Idle,
    /// A head did not become complete.
    Head,
}

impl Activity {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            started: Instant::now(),
            moved_at: zero(),
            head_since: zero(),
            timing_heads: AtomicBool::new(true),
            sent: zero(),
            received: zero(),
            open: zero(),
            requests: zero(),
            refused: zero(),
            taken_back: zero(),
            endpoint_broke: AtomicBool::new(false),
            malformed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            left_http: AtomicBool::new(false),
            ending: OnceLock::new(),
        }
    }

    fn touch(&self) -> u64 {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.moved_at.store(millis, Relaxed);
        millis
    }

    fn read(&self, bytes: usize) {
        let now = self.touch();
        self.sent.fetch_add(bytes as u64, Relaxed);
        if self.timing_heads.load(Relaxed) && self.open.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(now + 1, Relaxed);
        }
    }

    fn fails(&self) {
        self.failed.store(true, Relaxed);
    }

    fn wrote(&self, bytes: usize) {
        self.touch();
        self.received.fetch_add(bytes as u64, Relaxed);
    }

    /// Heads are not timed: HTTP/2 sends them whole, and what follows an upgrade has none.
    pub(crate) fn stop_timing_heads(&self) {
        self.timing_heads.store(false, Relaxed);
        self.head_since.store(0, Relaxed);
    }

    /// A head is complete, and its request begins.
    pub(crate) fn begins(&self) {
        self.head_since.store(0, Relaxed);
        self.open.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
    }

    /// A request has ended.
    pub(crate) fn ends(&self, taken_back_at_once: bool, refused: bool) {
        self.open.fetch_sub(1, Relaxed);
        self.taken_back.fetch_add(taken_back_at_once.into(), Relaxed);
        self.refused.fetch_add(refused.into(), Relaxed);
    }

    pub(crate) fn endpoint_broke(&self) {
        self.endpoint_broke.store(true, Relaxed);
    }

    /// Reading or writing failed.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// The connection carries another protocol now, and ends when that does.
    pub(crate) fn leaves_http(&self) {
        self.left_http.store(true, Relaxed);
    }

    pub(crate) fn left_http(&self) -> bool {
        self.left_http.load(Relaxed)
    }

    /// The connection ends with `outcome`, and so does every request that is under way.
    pub(crate) fn end_with(&self, outcome: Outcome) {
        // The first reason counts.
        let _ = self.ending.set(outcome);
    }

    pub(crate) fn ending(&self) -> Option<Outcome> {
        self.ending.get().copied()
    }

    /// A request was malformed: over HTTP/1.1 the connection ends with that.
    pub(crate) fn is_malformed(&self) {
        self.malformed.store(true, Relaxed);
    }

    pub(crate) fn was_malformed(&self) -> bool {
        self.malformed.load(Relaxed)
    }

    pub(crate) fn requests_open(&self) -> bool {
        self.open.load(Relaxed) > 0
    }

    pub(crate) fn did_endpoint_break(&self) -> bool {
        self.endpoint_broke.load(Relaxed)
    }

    /// Whether the client asks only to take back: see [`JUDGED_FROM`].
    pub(crate) fn is_flood(&self) -> bool {
        let requests = self.requests.load(Relaxed);
        requests >= JUDGED_FROM && self.taken_back.load(Relaxed) >= requests / 2
    }

    /// When a limit will have been reached if nothing more happens, and which.
    pub(crate) fn deadline(&self, limits: HttpLimits) -> (Instant, Overdue) {
        let at = |millis| self.started + std::time::Duration::from_millis(millis);
        let idle = at(self.moved_at.load(Relaxed)) + limits.idle;
        match self.head_since.load(Relaxed) {
            0 => (idle, Overdue::Idle),
            since => {
                let head = at(since - 1) + limits.head;
                if head < idle { (head, Overdue::Head) } else { (idle, Overdue::Idle) }
            }
        }
    }

    /// Bytes from the client, bytes to it, requests, and those that were refused.
    pub(crate) fn totals(&self) -> [u64; 4] {
        [&self.sent, &self.received, &self.requests, &self.refused].map(|count| count.load(Relaxed))
    }
}

/// The client's bytes, the first of which may have been read already.
#[derive(Debug)]
pub(crate) struct Wire<I> {
    io: I,
    activity: Arc<Activity>,
    first: [u8; PREFACE.len()],
    /// Bytes of `first` that were read, and those of them handed on.
    filled: usize,
    given: usize,
}

impl<I: AsyncRead + Unpin> Wire<I> {
    pub(crate) fn new(io: I, activity: Arc<Activity>) -> Self {
        Self { io, activity, first: [0; PREFACE.len()], filled: 0, given: 0 }
    }

    /// Reads until it is known what the client speaks.
    pub(crate) fn poll_opening(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Opening>> {
        loop {
            if self.filled > 0 && self.first[0] == HANDSHAKE {
                return Poll::Ready(Ok(Opening::Tls));
            }
            if self.first[..self.filled] != PREFACE[..self.filled] {
                return Poll::Ready(Ok(Opening::Http(Version::One)));
            }
            if self.filled == PREFACE.len() {
                return Poll::Ready(Ok(Opening::Http(Version::Two)));
            }
            let mut rest = ReadBuf::new(&mut self.first[self.filled..]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut rest))?;
            match rest.filled().len() {
                0 if self.filled == 0 => return Poll::Ready(Ok(Opening::Nothing)),
                0 => return Poll::Ready(Ok(Opening::Http(Version::One))),
                bytes => {
                    self.activity.read(bytes);
                    self.filled += bytes;
                }
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Wire<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.given < self.filled {
            let end = self.filled.min(self.given + buf.remaining());
            buf.put_slice(&self.first[self.given..end]);
            self.given = end;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf)).inspect_err(|_| self.activity.fails())?;
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            self.activity.read(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Wire<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes)).inspect_err(|_| self.activity.fails())?;
        self.activity.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        let written = ready!(polled).inspect_err(|_| self.activity.fails())?;
        self.activity.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
