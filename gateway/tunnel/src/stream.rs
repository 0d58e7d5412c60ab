//! One application connection inside a tunnel.
//!
//! Owns its two halves and is the only place that finishes, resets and stops. Whatever is dropped without having been ended
//! is reset with [`Outcome::Aborted`]: quinn would make a clean end of it, and a cut-off upload would look complete. Never
//! copies: bytes go through as they come.

use std::{future::Future, sync::Arc};

use bytes::{Bytes, BytesMut};
use federation_model::{names::ClusterName, outcome::Outcome, spiffe::TrustDomain};
use gateway_core::{
    header::{HeaderError, StreamHeader, StreamReply},
    policy::Ruling,
};
use quinn::{ConnectionError, ReadError, StoppedError, WriteError};

use crate::{
    closing::{code, stream_outcome},
    config::READ_SIZE,
    inbound::HeadError,
    tunnel::StreamLease,
};

/// The sending half.
#[derive(Debug)]
pub struct SendHalf {
    stream: quinn::SendStream,
    lease: Arc<StreamLease>,
    ended: bool,
    /// Why the peer takes no more, once that was found out.
    declined: Option<Outcome>,
}

impl SendHalf {
    pub(crate) fn new(stream: quinn::SendStream, lease: Arc<StreamLease>) -> Self {
        Self { stream, lease, ended: false, declined: None }
    }

    /// Sends all of `bytes`, waiting where the peer does not keep up. When dropped half-way a part may have been sent.
    ///
    /// # Errors
    /// How the stream ended.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Outcome> {
        let result = self.stream.write_chunk(bytes).await;
        result.map_err(|error| self.failed(error))
    }

    /// Sends all of `chunks`, one after the other. When dropped half-way, what is left in `chunks` was not sent.
    ///
    /// # Errors
    /// How the stream ended.
    pub async fn write_chunks(&mut self, chunks: &mut [Bytes]) -> Result<(), Outcome> {
        let result = self.stream.write_all_chunks(chunks).await;
        result.map_err(|error| self.failed(error))
    }

    /// Ends this direction cleanly: everything written will arrive, then the end.
    ///
    /// # Errors
    /// When the stream had ended otherwise.
    pub fn finish(&mut self) -> Result<(), Outcome> {
        self.ended = true;
        match self.stream.finish() {
            Ok(()) => Ok(()),
            Err(_closed) => Err(Outcome::Aborted),
        }
    }

    /// Ends this direction at once; what is still on its way may be lost. Does nothing after the end.
    pub fn reset(&mut self, outcome: Outcome) {
        if !self.ended {
            self.ended = true;
            // Only fails when the stream has ended, which is what is wanted.
            let _ = self.stream.reset(code(outcome));
        }
    }

    /// Waits until the peer has everything including the end, wants no more, or is lost. Outlives `self`.
    pub fn stopped(&self) -> impl Future<Output = Result<(), Outcome>> + Send + 'static {
        let (stopped, lease, declined) = (self.stream.stopped(), Arc::clone(&self.lease), self.declined);
        async move {
            if let Some(outcome) = declined {
                return Err(outcome);
            }
            match stopped.await {
                Ok(None) => Ok(()),
                Ok(Some(code)) => Err(stream_outcome(code)),
                Err(StoppedError::ConnectionLost(error)) => Err(lease.tunnel.lost(&error)),
                Err(StoppedError::ZeroRttRejected) => Err(Outcome::TunnelLost),
            }
        }
    }

    fn failed(&mut self, error: WriteError) -> Outcome {
        match error {
            WriteError::Stopped(code) => {
                // QUIC wants a reset as answer, with the same code (RFC 9000 section 3.5).
                let _ = self.stream.reset(code);
                self.ended = true;
                *self.declined.insert(stream_outcome(code))
            }
            WriteError::ConnectionLost(error) => self.lease.tunnel.lost(&error),
            WriteError::ClosedStream => self.declined.unwrap_or(Outcome::Aborted),
            WriteError::ZeroRttRejected => Outcome::TunnelLost,
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.reset(Outcome::Aborted);
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct RecvHalf {
    stream: quinn::RecvStream,
    lease: Arc<StreamLease>,
    /// Bytes that came together with the header or the reply.
    ahead: Bytes,
    ended: bool,
}

impl RecvHalf {
    pub(crate) fn new(stream: quinn::RecvStream, lease: Arc<StreamLease>) -> Self {
        Self { stream, lease, ahead: Bytes::new(), ended: false }
    }

    /// The next bytes; nothing after a clean end. Loses nothing when dropped half-way.
    ///
    /// # Errors
    /// How the stream ended otherwise.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Outcome> {
        if !self.ahead.is_empty() {
            return Ok(Some(std::mem::take(&mut self.ahead)));
        }
        if self.ended {
            return Ok(None);
        }
        let chunk = self.stream.read_chunk(READ_SIZE, true).await.map_err(|error| self.failed(error))?;
        self.ended = chunk.is_none();
        Ok(chunk.map(|chunk| chunk.bytes))
    }

    /// As many chunks as there are, at least one; nothing after a clean end. Loses nothing when dropped half-way.
    ///
    /// # Errors
    /// How the stream ended otherwise.
    pub async fn read_chunks(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, Outcome> {
        if let Some(first) = chunks.first_mut()
            && !self.ahead.is_empty()
        {
            *first = std::mem::take(&mut self.ahead);
            return Ok(Some(1));
        }
        if self.ended {
            return Ok(None);
        }
        let count = self.stream.read_chunks(chunks).await.map_err(|error| self.failed(error))?;
        self.ended = count.is_none();
        Ok(count)
    }

    /// Asks the peer to send no more. Does nothing after the end.
    pub fn stop(&mut self, outcome: Outcome) {
        self.ahead = Bytes::new();
        if !self.ended {
            self.ended = true;
            // Only fails when the stream has ended, which is what is wanted.
            let _ = self.stream.stop(code(outcome));
        }
    }

    fn failed(&mut self, error: ReadError) -> Outcome {
        self.ended = true;
        match error {
            ReadError::Reset(code) => stream_outcome(code),
            ReadError::ConnectionLost(error) => self.lost(&error),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead => Outcome::Aborted,
            ReadError::ZeroRttRejected => Outcome::TunnelLost,
        }
    }

    fn lost(&self, error: &ConnectionError) -> Outcome {
        self.lease.tunnel.lost(error)
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        self.stop(Outcome::Aborted);
    }
}

/// A frame at the start of a stream that is not there yet.
#[derive(Debug, Default)]
pub(crate) struct FrameRead(BytesMut);

/// Finds a frame at the start of the bytes, and says how many of them it takes.
type Parse<T> = fn(&[u8]) -> Result<Option<(T, usize)>, HeaderError>;

/// Why there is no frame.
#[derive(Debug)]
pub(crate) enum FrameError {
    Header(HeaderError),
    Stream(Outcome),
}

impl FrameRead {
    /// Reads until `parse` finds its frame, and gives back what follows it. Loses nothing when dropped half-way. Holds at
    /// most one frame and one read.
    pub(crate) async fn read<T>(&mut self, recv: &mut RecvHalf, parse: Parse<T>) -> Result<T, FrameError> {
        loop {
            let Some(chunk) = recv.read().await.map_err(FrameError::Stream)? else {
                return Err(FrameError::Header(HeaderError::Truncated));
            };
            // Nearly always the frame and the first bytes come in one piece, which is then passed on uncopied.
            let whole = if self.0.is_empty() {
                chunk
            } else {
                self.0.extend_from_slice(&chunk);
                self.0.split().freeze()
            };
            match parse(&whole).map_err(FrameError::Header)? {
                Some((frame, taken)) => {
                    recv.ahead = whole.slice(taken..);
                    return Ok(frame);
                }
                None => self.0 = BytesMut::from(whole),
            }
        }
    }
}

/// An application connection this gateway carries to a peer. Its header and first bytes are under way.
#[derive(Debug)]
pub struct OutboundStream {
    /// The peer cluster.
    pub peer: ClusterName,
    /// Towards the destination.
    pub send: SendHalf,
    /// From the destination; what precedes its bytes is read by [`OutboundStream::reply`].
    pub recv: RecvHalf,
    frame: FrameRead,
}

impl OutboundStream {
    pub(crate) fn new(peer: ClusterName, send: SendHalf, recv: RecvHalf) -> Self {
        Self { peer, send, recv, frame: FrameRead::default() }
    }

    /// What the peer says to the header; to be read once, before anything else is read. Loses nothing when dropped half-way.
    ///
    /// # Errors
    /// How the stream ended without a reply.
    pub async fn reply(&mut self) -> Result<StreamReply, Outcome> {
        self.split().1.read().await
    }

    /// The sending half and the reply, side by side: bytes go out while the reply is waited for.
    pub fn split(&mut self) -> (&mut SendHalf, AwaitedReply<'_>) {
        (&mut self.send, AwaitedReply { recv: &mut self.recv, frame: &mut self.frame })
    }

    /// Resolves when the peer has said nothing on the tunnel for the time of its lease: the reply may come late, or never.
    pub fn silence(&self) -> impl Future<Output = ()> + Send + 'static {
        let lease = Arc::clone(&self.send.lease);
        async move { lease.tunnel.fell_silent().await }
    }

    /// Ends both directions at once.
    pub fn abort(&mut self, outcome: Outcome) {
        self.send.reset(outcome);
        self.recv.stop(outcome);
    }
}

/// What the peer will say to a header.
#[derive(Debug)]
pub struct AwaitedReply<'a> {
    recv: &'a mut RecvHalf,
    frame: &'a mut FrameRead,
}

impl AwaitedReply<'_> {
    /// As [`OutboundStream::reply`].
    ///
    /// # Errors
    /// How the stream ended without a reply.
    pub async fn read(&mut self) -> Result<StreamReply, Outcome> {
        match self.frame.read(self.recv, StreamReply::read).await {
            Ok(reply) => Ok(reply),
            Err(FrameError::Stream(outcome)) => Err(outcome),
            Err(FrameError::Header(error)) => Err(error.outcome()),
        }
    }
}

/// An application connection a peer carries to this gateway.
#[derive(Debug)]
pub struct InboundStream {
    /// The peer cluster, authenticated.
    pub peer: ClusterName,
    /// Its trust domain: principals it vouches for must lie in it.
    pub trust_domain: TrustDomain,
    /// What the stream is for, or why that is not known.
    pub header: Result<StreamHeader, HeadError>,
    /// Towards the client; what precedes the destination's bytes is written by [`InboundStream::reply`].
    pub send: SendHalf,
    /// From the client.
    pub recv: RecvHalf,
}

impl InboundStream {
    /// Answers the header; to be written once, before anything else is written.
    ///
    /// # Errors
    /// How the stream ended.
    pub async fn reply(&mut self, reply: &StreamReply) -> Result<(), Outcome> {
        self.send.write(reply.encode()).await
    }

    /// Answers the header with a refusal, and ends both directions.
    ///
    /// # Errors
    /// How the stream ended before.
    pub async fn refuse(mut self, outcome: Outcome, reason: &str, by: Option<&Ruling>) -> Result<(), Outcome> {
        self.recv.stop(outcome);
        self.reply(&StreamReply::Refused { outcome, reason: reason.to_owned(), by: by.cloned() }).await?;
        self.send.finish()
    }

    /// Ends both directions at once.
    pub fn abort(&mut self, outcome: Outcome) {
        self.send.reset(outcome);
        self.recv.stop(outcome);
    }
}
