//! Bytes both ways, until both directions have ended.
//!
//! Owns half-close, resets, the byte counts and the idle limit. Never drops an end silently: whatever is not a clean end is
//! passed on as a reset with the outcome's code.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use federation_model::outcome::Outcome;
use gateway_tunnel::{RecvHalf, SendHalf};
use tokio::{net::TcpStream, time::Instant};

/// The most bytes read from a socket at once: fits the first-level windows, large enough to amortise the system call.
const READ_BUFFER: usize = 64 * 1024;
/// Chunks passed on at once; one system call writes them all.
pub const BATCH: usize = 32;

/// Where bytes come from.
pub trait Source: Send {
    /// Fills `batch` with what has arrived; `false` at the clean end. Loses nothing when dropped half-way.
    fn read(&mut self, batch: &mut Vec<Bytes>) -> impl Future<Output = Result<bool, Outcome>> + Send;
    /// Tells the other end that nothing more will be read.
    fn stop(&mut self, outcome: Outcome);
}

/// Where bytes go.
pub trait Sink: Send {
    /// Writes and empties `batch`.
    fn write(&mut self, batch: &mut Vec<Bytes>) -> impl Future<Output = Result<(), Outcome>> + Send;
    /// Ends cleanly.
    fn finish(&mut self) -> Result<(), Outcome>;
    /// Ends with an outcome.
    fn reset(&mut self, outcome: Outcome);
    /// Resolves when the other end will read no more.
    fn stopped(&mut self) -> impl Future<Output = Outcome> + Send;
}

/// One TCP connection, usable as a source and as a sink at the same time.
#[derive(Debug, Clone)]
pub struct TcpEnd {
    stream: Arc<TcpStream>,
    on_reset: Outcome,
}

impl TcpEnd {
    /// An end whose resets mean `on_reset`.
    #[must_use]
    pub fn new(stream: TcpStream, on_reset: Outcome) -> Self {
        Self { stream: Arc::new(stream), on_reset }
    }

    /// The connection.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Makes the close of the socket a RST, so that an abort never looks like a clean end.
    pub fn abort(&self) {
        // A socket that is gone already needs no RST.
        let _ = socket2::SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
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
}

/// A small read does not keep a large buffer alive while it waits in a send window.
fn right_sized(buffer: BytesMut) -> Bytes {
    if buffer.len() < READ_BUFFER / 4 { Bytes::copy_from_slice(&buffer) } else { buffer.freeze() }
}

impl Sink for TcpEnd {
    async fn write(&mut self, batch: &mut Vec<Bytes>) -> Result<(), Outcome> {
        let mut first = 0;
        while first < batch.len() {
            self.stream.writable().await.map_err(|e| self.outcome_of(&e))?;
            let written = {
                let mut slices = [IoSlice::new(&[]); BATCH];
                let count = (batch.len() - first).min(BATCH);
                for (slice, chunk) in slices.iter_mut().zip(&batch[first..]) {
                    *slice = IoSlice::new(chunk);
                }
                match self.stream.try_write_vectored(&slices[..count]) {
                    Ok(written) => written,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(self.outcome_of(&error)),
                }
            };
            first += advance(&mut batch[first..], written);
        }
        batch.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Outcome> {
        match socket2::SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write) {
            // The other side has closed both directions already: there is nobody left to tell.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            Err(error) => Err(self.outcome_of(&error)),
            Ok(()) => Ok(()),
        }
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
}

impl Sink for SendHalf {
    async fn write(&mut self, batch: &mut Vec<Bytes>) -> Result<(), Outcome> {
        self.write_chunks(batch).await?;
        batch.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Outcome> {
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
    let outcome = {
        let up = pump(client_in, destination_out, first, (&progress.sent, &progress));
        let down = pump(destination_in, client_out, Vec::new(), (&progress.received, &progress));
        tokio::select! {
            biased;
            outcome = cut => outcome,
            both = async { tokio::try_join!(up, down) } => both.err().unwrap_or(Outcome::Completed),
            () = progress.idle_for(idle) => Outcome::IdleTimeout,
        }
    };
    if outcome != Outcome::Completed {
        client_in.stop(outcome);
        client_out.reset(outcome);
        destination_in.stop(outcome);
        destination_out.reset(outcome);
    }
    (outcome, progress.counts())
}

async fn pump(
    from: &mut impl Source,
    to: &mut impl Sink,
    mut batch: Vec<Bytes>,
    (count, progress): (&AtomicU64, &Progress),
) -> Result<(), Outcome> {
    loop {
        let bytes: usize = batch.iter().map(Bytes::len).sum();
        if bytes > 0 {
            progress.touch();
            to.write(&mut batch).await?;
            count.fetch_add(bytes as u64, Ordering::Relaxed);
            progress.touch();
        }
        batch.clear();
        let more = tokio::select! {
            biased;
            more = from.read(&mut batch) => more?,
            outcome = to.stopped() => return Err(outcome),
        };
        if !more {
            return to.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::oneshot,
        task::JoinHandle,
    };

    /// A socket and the one it is connected to.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    struct Spliced {
        client: TcpStream,
        destination: TcpStream,
        cut: oneshot::Sender<Outcome>,
        end: JoinHandle<(Outcome, Counts)>,
    }

    #[expect(clippy::disallowed_methods, reason = "the test owns the task through its handle")]
    async fn spliced(first: Vec<Bytes>, idle: Duration) -> Spliced {
        let ((client, near), (far, destination)) = tokio::join!(pair(), pair());
        let (cut, when) = oneshot::channel();
        let end = tokio::spawn(async move {
            let mut near_in = TcpEnd::new(near, Outcome::ClientReset);
            let mut far_in = TcpEnd::new(far, Outcome::DestinationReset);
            let (mut near_out, mut far_out) = (near_in.clone(), far_in.clone());
            let cut = async { when.await.unwrap_or(Outcome::Aborted) };
            splice((&mut near_in, &mut near_out), (&mut far_in, &mut far_out), first, idle, cut).await
        });
        Spliced { client, destination, cut, end }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn one_direction_ends_while_the_other_goes_on() {
        let Spliced { mut client, mut destination, cut, end } =
            spliced(vec![Bytes::from_static(b"first ")], LONG).await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        destination.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "first question");
        destination.write_all(b"answer").await.unwrap();
        destination.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        assert_eq!(end.await.unwrap(), (Outcome::Completed, Counts { sent: 14, received: 6 }));
        drop(cut);
    }

    #[tokio::test]
    async fn a_reset_of_the_destination_is_a_reset_for_the_client() {
        let Spliced { mut client, destination, cut, end } = spliced(Vec::new(), LONG).await;
        socket2::SockRef::from(&destination).set_linger(Some(Duration::ZERO)).unwrap();
        drop(destination);
        let error = client.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(end.await.unwrap().0, Outcome::DestinationReset);
        drop(cut);
    }

    #[tokio::test]
    async fn a_cut_connection_is_reset_on_both_sides_with_the_outcome_given() {
        let Spliced { mut client, mut destination, cut, end } = spliced(Vec::new(), LONG).await;
        cut.send(Outcome::Revoked).unwrap();
        assert_eq!(end.await.unwrap().0, Outcome::Revoked);
        assert_eq!(client.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(destination.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_connection_without_a_byte_is_ended_at_the_idle_limit() {
        let Spliced { client, destination, cut, end } = spliced(Vec::new(), Duration::from_millis(10)).await;
        assert_eq!(end.await.unwrap().0, Outcome::IdleTimeout);
        drop((client, destination, cut));
    }

    #[test]
    fn written_bytes_are_consumed_across_chunks() {
        let mut chunks = [Bytes::from_static(b"abc"), Bytes::from_static(b"de"), Bytes::from_static(b"f")];
        assert_eq!(advance(&mut chunks, 4), 1);
        assert_eq!(chunks[1], Bytes::from_static(b"e"));
        assert_eq!(advance(&mut chunks[1..], 2), 2);
    }
}
