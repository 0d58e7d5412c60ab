//! The joint between a connection that is spliced and a protocol that is spoken on it.
//!
//! Owns how an end crosses it: what was shut down ends cleanly, what was dropped ends with the outcome its speaker tells.
//! Never looks at the bytes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use federation_model::outcome::Outcome;
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, ReadHalf, WriteHalf,
        duplex, split,
    },
    sync::oneshot,
};

use crate::splice::{Sink, Source};

/// Bytes that wait in each direction, and the most that is read at once.
const CAPACITY: usize = 64 * 1024;

/// The side that is spoken on.
#[derive(Debug)]
pub(super) struct Spoken {
    io: DuplexStream,
    shut: Arc<AtomicBool>,
}

/// Where the spoken bytes come from.
#[derive(Debug)]
pub(super) struct PipeSource {
    read: ReadHalf<DuplexStream>,
    shut: Arc<AtomicBool>,
    ended: oneshot::Receiver<Outcome>,
}

/// Where bytes go to be heard.
#[derive(Debug)]
pub(super) struct PipeSink(WriteHalf<DuplexStream>);

/// A pipe: the side that is spoken on, the two ends for a splice, and where the speaker tells how it ended.
pub(super) fn pipe() -> (Spoken, PipeSource, PipeSink, oneshot::Sender<Outcome>) {
    let (near, far) = duplex(CAPACITY);
    let (read, write) = split(near);
    let shut = Arc::new(AtomicBool::new(false));
    let (tell, ended) = oneshot::channel();
    (Spoken { io: far, shut: shut.clone() }, PipeSource { read, shut, ended }, PipeSink(write), tell)
}

impl AsyncRead for Spoken {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Spoken {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Before the end can be read on the other side.
        self.shut.store(true, Ordering::Release);
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Source for PipeSource {
    async fn read(&mut self, batch: &mut Vec<Bytes>) -> Result<bool, Outcome> {
        let mut buffer = BytesMut::with_capacity(CAPACITY);
        match self.read.read_buf(&mut buffer).await {
            Ok(0) if self.shut.load(Ordering::Acquire) => Ok(false),
            Ok(0) | Err(_) => Err((&mut self.ended).await.unwrap_or(Outcome::Aborted)),
            Ok(_) => {
                batch.push(buffer.freeze());
                Ok(true)
            }
        }
    }

    fn stop(&mut self, _outcome: Outcome) {
        // The speaker finds out when its side closes, with this value.
    }

    fn decline(&mut self, _outcome: Outcome) {
        // The same.
    }
}

impl Sink for PipeSink {
    async fn write(&mut self, batch: &mut Vec<Bytes>) -> Result<(), Outcome> {
        for bytes in batch.drain(..) {
            // Who hears no more says why when it ends.
            self.0.write_all(&bytes).await.map_err(|_| Outcome::DestinationReset)?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Outcome> {
        self.0.shutdown().await.map_err(|_| Outcome::DestinationReset)
    }

    fn reset(&mut self, _outcome: Outcome) {
        // The speaker is dropped, which ends what it speaks with.
    }

    async fn stopped(&mut self) -> Outcome {
        // It shows up when writing.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_shut_down_ends_cleanly_and_what_was_dropped_ends_as_told() {
        let mut batch = Vec::new();
        let (mut spoken, mut source, _sink, _tell) = pipe();
        spoken.write_all(b"last words").await.unwrap();
        spoken.shutdown().await.unwrap();
        assert_eq!((source.read(&mut batch).await, source.read(&mut Vec::new()).await), (Ok(true), Ok(false)));
        assert_eq!(batch, ["last words"]);

        let (spoken, mut source, _sink, tell) = pipe();
        drop(spoken);
        tell.send(Outcome::Denied).unwrap();
        assert_eq!(source.read(&mut batch).await, Err(Outcome::Denied));
    }
}
