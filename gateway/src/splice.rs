//! Bytes both ways, until both directions have ended.
//!
//! Owns half-close, resets, the byte counts and the idle limit. Never drops an end silently: whatever is not a clean end is
//! passed on as a reset with the outcome's code.
//!
//! A direction that fails at its source ends the connection. One that fails at its sink ends alone: a server that has
//! answered and reads no more must not lose its answer, which may still be on its way.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use federation_model::outcome::Outcome;
use gateway_tunnel::{RecvHalf, SendHalf};
use tokio::{net::TcpStream, time::Instant};

/// The most bytes read from a socket at once: fits the first-level windows, large enough to amortise the system call.
const READ_BUFFER: usize = 64 * 1024;
/// How long a client that has its answer may go on sending: as long as nginx lets it.
pub(crate) const LINGER: Duration = Duration::from_secs(5);
/// Chunks passed on at once; one system call writes them all.
pub const BATCH: usize = 32;

/// Where bytes come from.
pub trait Source: Send {
    /// Fills `batch` with what has arrived; `false` at the clean end. Loses nothing when dropped half-way.
    fn read(&mut self, batch: &mut Vec<Bytes>) -> impl Future<Output = Result<bool, Outcome>> + Send;
    /// Tells the other end that nothing more will be read, and that the connection is over.
    fn stop(&mut self, outcome: Outcome);
    /// Tells the other end that nothing more will be read, where that does not disturb what is sent to it.
    fn decline(&mut self, outcome: Outcome);
}

/// Where bytes go.
pub trait Sink: Send {
    /// Writes and empties `batch`.
    fn write(&mut self, batch: &mut Vec<Bytes>) -> impl Future<Output = Result<(), Outcome>> + Send;
    /// Ends cleanly.
    fn finish(&mut self) -> impl Future<Output = Result<(), Outcome>> + Send;
    /// Ends with an outcome.
    fn reset(&mut self, outcome: Outcome);
    /// Resolves when the other end will read no more.
    fn stopped(&mut self) -> impl Future<Output = Outcome> + Send;
}

/// One TCP connection, usable as a source and as a sink at the same time.
///
/// Its close is a RST until it was finished: whatever drops it half-way, the death of the process among it, must not look
/// like a clean end to the other side.
#[derive(Debug, Clone)]
pub struct TcpEnd {
    stream: Arc<TcpStream>,
    /// A write failed although the other side had not ended its direction: the end that reading finds then is not a clean
    /// one. The kernel tells of a reset once, and the writer may be the one to hear of it.
    failed: Arc<AtomicBool>,
    on_reset: Outcome,
}

impl TcpEnd {
    /// An end whose resets mean `on_reset`.
    #[must_use]
    pub fn new(stream: TcpStream, on_reset: Outcome) -> Self {
        let end = Self { stream: Arc::new(stream), failed: Arc::default(), on_reset };
        end.abort();
        end
    }

    /// The connection.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What its resets mean.
    #[must_use]
    pub fn on_reset(&self) -> Outcome {
        self.on_reset
    }

    /// Makes the close of the socket a RST, so that an abort never looks like a clean end.
    pub fn abort(&self) {
        self.linger(Some(Duration::ZERO));
    }

    /// Ends this direction cleanly.
    ///
    /// # Errors
    /// When the other side has reset the connection.
    pub fn finish(&self) -> Result<(), Outcome> {
        match socket2::SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write) {
            // The other side has closed both directions already: there is nobody left to tell.
            Err(error) if error.kind() == ErrorKind::NotConnected => {}
            Err(error) => return Err(self.write_failed(&error)),
            Ok(()) => {}
        }
        self.linger(None);
        Ok(())
    }

    fn linger(&self, linger: Option<Duration>) {
        // A socket that is gone already closes in no way at all.
        let _ = socket2::SockRef::from(&*self.stream).set_linger(linger);
    }

    fn write_failed(&self, error: &io::Error) -> Outcome {
        // A broken pipe is what a reset after the other side's end is told as: what it sent before is whole.
        if error.kind() != ErrorKind::BrokenPipe {
            self.failed.store(true, Ordering::Relaxed);
        }
        self.outcome_of(error)
    }

    fn outcome_of(&self, error: &io::Error) -> Outcome {
        tracing::debug!(%error, "socket failed");
        self.on_reset
    }
}

impl Source for TcpEnd {
    async fn read(&mut self, batch: &mut Vec<Bytes>) -> Result<bool, Outcome> {
        loop {
            self.stream.readable().await.map_err(|e| self.outcome_of(&e))?;
            // Allocated once bytes are there, so that an idle connection holds no buffer.
            let mut buffer = BytesMut::with_capacity(READ_BUFFER);
            match self.stream.try_read_buf(&mut buffer) {
                Ok(0) if self.failed.load(Ordering::Relaxed) => return Err(self.on_reset),
                Ok(0) => return Ok(false),
                Ok(_) => {
                    batch.push(right_sized(buffer));
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(self.outcome_of(&error)),
            }
        }
    }

    fn stop(&mut self, _outcome: Outcome) {
        self.abort();
    }

    fn decline(&mut self, _outcome: Outcome) {
        // TCP has no way to say it but a RST, which would take along what is still being sent.
    }
}

/// A small read does not keep a large buffer alive while it waits in a send window.
pub(crate) fn right_sized(buffer: BytesMut) -> Bytes {
    if buffer.len() < READ_BUFFER / 4 { Bytes::copy_from_slice(&buffer) } else { buffer.freeze() }
}

impl Sink for TcpEnd {
    async fn write(&mut self, batch: &mut Vec<Bytes>) -> Result<(), Outcome> {
        let mut first = 0;
        while first < batch.len() {
            self.stream.writable().await.map_err(|e| self.write_failed(&e))?;
            let written = {
                let mut slices = [IoSlice::new(&[]); BATCH];
                let count = (batch.len() - first).min(BATCH);
                for (slice, chunk) in slices.iter_mut().zip(&batch[first..]) {
                    *slice = IoSlice::new(chunk);
                }
                match self.stream.try_write_vectored(&slices[..count]) {
                    Ok(written) => written,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(self.write_failed(&error)),
                }
            };
            first += advance(&mut batch[first..], written);
        }
        batch.clear();
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Outcome> {
        Self::finish(self)
    }

    fn reset(&mut self, _outcome: Outcome) {
        self.abort();
    }

    async fn stopped(&mut self) -> Outcome {
        // TCP has no way to say it: a reset shows up when reading or writing.
        std::future::pending().await
    }
}

/// Consumes `written` bytes from the front; how many chunks are empty now.
fn advance(chunks: &mut [Bytes], mut written: usize) -> usize {
    let mut done = 0;
    for chunk in chunks {
        let step = chunk.len().min(written);
        chunk.advance(step);
        written -= step;
        if !chunk.is_empty() {
            break;
        }
        done += 1;
    }
    done
}

impl Source for RecvHalf {
    async fn read(&mut self, batch: &mut Vec<Bytes>) -> Result<bool, Outcome> {
        batch.resize(BATCH, Bytes::new());
        match self.read_chunks(batch).await? {
            Some(count) => {
                batch.truncate(count);
                Ok(true)
            }
            None => {
                batch.clear();
                Ok(false)
            }
        }
    }

    fn stop(&mut self, outcome: Outcome) {
        Self::stop(self, outcome);
    }

    fn decline(&mut self, outcome: Outcome) {
        Self::stop(self, outcome);
    }
}

impl Sink for SendHalf {
    async fn write(&mut self, batch: &mut Vec<Bytes>) -> Result<(), Outcome> {
        self.write_chunks(batch).await?;
        batch.clear();
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Outcome> {
        Self::finish(self)
    }

    fn reset(&mut self, outcome: Outcome) {
        Self::reset(self, outcome);
    }

    async fn stopped(&mut self) -> Outcome {
        match Self::stopped(self).await {
            Err(outcome) => outcome,
            // Everything has arrived, the end included: there is nothing to stop.
            Ok(()) => std::future::pending().await,
        }
    }
}

/// How many bytes went each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// From the client towards the destination.
    pub sent: u64,
    /// From the destination towards the client.
    pub received: u64,
}

/// What has moved so far, for the record and for the idle limit.
#[derive(Debug)]
struct Progress {
    started: Instant,
    /// Milliseconds from `started` to when bytes last moved.
    moved_at: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Progress {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { started: Instant::now(), moved_at: zero(), sent: zero(), received: zero() }
    }

    fn touch(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_at.store(millis, Ordering::Relaxed);
    }

    fn counts(&self) -> Counts {
        Counts { sent: self.sent.load(Ordering::Relaxed), received: self.received.load(Ordering::Relaxed) }
    }

    async fn idle_for(&self, limit: Duration) {
        loop {
            let deadline = self.started + Duration::from_millis(self.moved_at.load(Ordering::Relaxed)) + limit;
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// Why bytes no longer go one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// No more of them come, and that is not their end.
    Source(Outcome),
    /// No more of them are taken.
    Sink(Outcome),
}

/// Moves bytes between `client` and `destination` until both directions have ended, an end fails, nothing moves for `idle`,
/// or `cut` resolves with the outcome to end with. `first` was read from the client already and goes ahead of the rest.
pub async fn splice<C, D>(
    client: (&mut impl Source, &mut C),
    destination: (&mut impl Source, &mut D),
    first: Vec<Bytes>,
    idle: Duration,
    cut: impl Future<Output = Outcome>,
) -> (Outcome, Counts)
where
    C: Sink,
    D: Sink,
{
    let (client_in, client_out) = client;
    let (destination_in, destination_out) = destination;
    let progress = Progress::new();
    let ended = {
        let up = pump(client_in, destination_out, first, (&progress.sent, &progress));
        let down = pump(destination_in, client_out, Vec::new(), (&progress.received, &progress));
        tokio::select! {
            biased;
            outcome = cut => Err(outcome),
            both = async { tokio::try_join!(up, down) } => both,
            () = progress.idle_for(idle) => Err(Outcome::IdleTimeout),
        }
    };
    let outcome = match ended {
        // Each direction has told its two ends how it ended.
        Ok((None, None)) => Outcome::Completed,
        Ok((Some(outcome), None)) => {
            discard(client_in).await;
            outcome
        }
        Ok((_, Some(outcome))) => outcome,
        Err(outcome) => {
            client_in.stop(outcome);
            client_out.reset(outcome);
            destination_in.stop(outcome);
            destination_out.reset(outcome);
            outcome
        }
    };
    (outcome, progress.counts())
}

/// Reads what nobody wants until the end, for a while: a close with unread bytes is a RST, which takes along what was sent
/// before and has not arrived yet.
pub async fn discard(source: &mut impl Source) {
    let rest = async {
        let mut batch = Vec::new();
        while let Ok(true) = source.read(&mut batch).await {
            batch.clear();
            tokio::task::consume_budget().await;
        }
    };
    // Whoever does not end in time gets the RST.
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// Moves bytes one way; gives the outcome with which they were taken no more, when they were not to their end.
async fn pump(
    from: &mut impl Source,
    to: &mut impl Sink,
    first: Vec<Bytes>,
    progress: (&AtomicU64, &Progress),
) -> Result<Option<Outcome>, Outcome> {
    match flow(from, to, first, progress).await {
        Ok(()) => Ok(None),
        Err(Broken::Source(outcome)) => Err(outcome),
        Err(Broken::Sink(outcome)) => {
            from.decline(outcome);
            to.reset(outcome);
            Ok(Some(outcome))
        }
    }
}

async fn flow(
    from: &mut impl Source,
    to: &mut impl Sink,
    mut batch: Vec<Bytes>,
    (count, progress): (&AtomicU64, &Progress),
) -> Result<(), Broken> {
    loop {
        let bytes: usize = batch.iter().map(Bytes::len).sum();
        if bytes > 0 {
            progress.touch();
            to.write(&mut batch).await.map_err(Broken::Sink)?;
            count.fetch_add(bytes as u64, Ordering::Relaxed);
            progress.touch();
        }
        batch.clear();
        // Two ends that are always ready would keep the other direction, the cut and the whole thread waiting.
        tokio::task::consume_budget().await;
        let more = tokio::select! {
            biased;
            more = from.read(&mut batch) => more.map_err(Broken::Source)?,
            outcome = to.stopped() => return Err(Broken::Sink(outcome)),
        };
        if !more {
            return to.finish().await.map_err(Broken::Sink);
        }
    }
}

#[cfg(test)]
mod tests;
