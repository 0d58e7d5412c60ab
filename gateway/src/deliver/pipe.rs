//! The joint between a connection that is spliced and a protocol that is spoken on it.
//!
//! Owns how an end crosses it: what was shut down ends cleanly, what was dropped ends with the outcome its speaker tells.
//! Never looks at the bytes.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use federation_model::outcome::Outcome;
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, ReadHalf, WriteHalf,
        duplex, split,
    },
    sync::watch,
};

use crate::splice::{LINGER, Sink, Source, right_sized};

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
    ended: Ended,
}

/// Where bytes go to be heard.
#[derive(Debug)]
pub(super) struct PipeSink {
    write: WriteHalf<DuplexStream>,
    ended: Ended,
}

/// How the speaker ended, once it has.
#[derive(Debug, Clone)]
struct Ended(watch::Receiver<Option<Outcome>>);

impl Ended {
    /// Waits for it. A speaker that is dropped tells nothing.
    async fn told(&mut self) -> Outcome {
        self.0.wait_for(Option::is_some).await.ok().and_then(|outcome| *outcome).unwrap_or(Outcome::Aborted)
    }
}

/// A pipe: the side that is spoken on, the two ends for a splice, and where the speaker tells how it ended.
pub(super) fn pipe() -> (Spoken, PipeSource, PipeSink, watch::Sender<Option<Outcome>>) {
    let (near, far) = duplex(CAPACITY);
    let (read, write) = split(near);
    let shut = Arc::new(AtomicBool::new(false));
    let (tell, ended) = watch::channel(None);
    let ended = Ended(ended);
    let source = PipeSource { read, shut: shut.clone(), ended: ended.clone() };
    (Spoken { io: far, shut }, source, PipeSink { write, ended }, tell)
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
        let read = std::future::poll_fn(|cx| {
            // Given back where nothing is there, so that an idle connection holds no buffer.
            let mut buffer = BytesMut::with_capacity(CAPACITY);
            let read = ready!(pin!(self.read.read_buf(&mut buffer)).poll(cx));
            Poll::Ready(read.map(|_| buffer))
        });
        match read.await {
            Ok(buffer) if !buffer.is_empty() => {
                batch.push(right_sized(buffer));
                Ok(true)
            }
            Ok(_) if self.shut.load(Ordering::Acquire) => Ok(false),
            Ok(_) | Err(_) => Err(self.ended.told().await),
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
            self.write.write_all(&bytes).await.map_err(|_| Outcome::DestinationReset)?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Outcome> {
        self.write.shutdown().await.map_err(|_| Outcome::DestinationReset)
    }

    fn reset(&mut self, _outcome: Outcome) {
        // The speaker is dropped, which ends what it speaks with.
    }

    async fn stopped(&mut self) -> Outcome {
        let outcome = self.ended.told().await;
        if outcome == Outcome::Completed {
            // Most clients close by themselves now. One that does not would keep the connection of a speaker that has ended.
            tokio::time::sleep(LINGER).await;
            return Outcome::IdleTimeout;
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::splice::splice;

    #[tokio::test]
    async fn what_was_shut_down_ends_cleanly_and_what_was_dropped_ends_as_told() {
        let mut batch = Vec::new();
        let (mut spoken, mut source, _sink, _tell) = pipe();
        spoken.write_all(b"last words").await.unwrap();
        spoken.shutdown().await.unwrap();
        assert_eq!((source.read(&mut batch).await, source.read(&mut Vec::new()).await), (Ok(true), Ok(false)));
        assert_eq!(batch, ["last words"]);

        let (spoken, mut source, mut sink, tell) = pipe();
        drop(spoken);
        tell.send_replace(Some(Outcome::Denied));
        assert_eq!(source.read(&mut batch).await, Err(Outcome::Denied));
        assert_eq!(sink.stopped().await, Outcome::Denied);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_close_does_not_keep_a_connection_whose_speaker_has_ended() {
        struct Silent;
        impl Source for Silent {
            async fn read(&mut self, _batch: &mut Vec<Bytes>) -> Result<bool, Outcome> {
                std::future::pending().await
            }
            fn stop(&mut self, _outcome: Outcome) {}
            fn decline(&mut self, _outcome: Outcome) {}
        }
        let ((mut spoken, mut source, mut sink, tell), (_far, _heard, mut client_out, _tell)) = (pipe(), pipe());
        spoken.write_all(b"last words").await.unwrap();
        spoken.shutdown().await.unwrap();
        drop(spoken);
        tell.send_replace(Some(Outcome::Completed));
        let (idle, never) = (Duration::from_secs(3600), std::future::pending());
        let client = (&mut Silent, &mut client_out);
        let carried = splice(client, (&mut source, &mut sink), Vec::new(), idle, never);
        let (outcome, counts) = timeout(Duration::from_secs(60), carried).await.expect("it ends by itself");
        assert_eq!((outcome, counts.received), (Outcome::IdleTimeout, 10));
    }
}
