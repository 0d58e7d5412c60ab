//! One TLS connection, usable as a source and as a sink at the same time.
//!
//! Owns how TLS ends: a half-close is a `close_notify`, and an end of the bytes without one is a reset (RFC 8446, section
//! 6.1). Never shakes hands and never verifies: that is done before.

use std::{
    io::{self, ErrorKind, IoSlice, Read as _, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Buf as _, Bytes};
use federation_model::outcome::Outcome;
use federation_pki::terminate::last_words;
use gateway_core::hello::AlertDescription;
use rustls::{Connection, ServerConnection};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::splice::{Sink, Source, TcpEnd};

/// An established TLS connection of a client or of a server.
///
/// Like [`TcpEnd`], its close is a RST until it was finished.
#[derive(Debug, Clone)]
pub struct TlsEnd {
    tcp: TcpEnd,
    /// Held while records are made or opened, never across an await. What is to be sent waits in it, so that records leave
    /// in the order in which they were made.
    session: Arc<Mutex<Connection>>,
    on_reset: Outcome,
}

impl TlsEnd {
    /// An end whose resets, and whatever else is no clean end, mean `on_reset`.
    #[must_use]
    pub fn new(stream: TlsStream<TcpStream>, on_reset: Outcome) -> Self {
        let (tcp, session) = match stream {
            TlsStream::Client(stream) => {
                let (tcp, session) = stream.into_inner();
                (tcp, Connection::from(session))
            }
            TlsStream::Server(stream) => {
                let (tcp, session) = stream.into_inner();
                (tcp, Connection::from(session))
            }
        };
        Self { tcp: TcpEnd::new(tcp, on_reset), session: Arc::new(Mutex::new(session)), on_reset }
    }

    /// The end of a client whose handshake was done over `tcp`.
    #[must_use]
    pub fn established(tcp: TcpEnd, session: ServerConnection) -> Self {
        let on_reset = tcp.on_reset();
        Self { tcp, session: Arc::new(Mutex::new(session.into())), on_reset }
    }

    /// The socket below.
    #[must_use]
    pub fn socket(&self) -> &TcpEnd {
        &self.tcp
    }

    /// The socket below, and the record that ends the session with an alert; nothing where it can no longer be said, as when
    /// the session is still used by somebody else.
    #[must_use]
    pub fn into_last_words(self, description: AlertDescription) -> (TcpEnd, Option<Bytes>) {
        let Self { tcp, session, .. } = self;
        let session =
            Arc::into_inner(session).map(|session| session.into_inner().unwrap_or_else(PoisonError::into_inner));
        let record = match session {
            Some(Connection::Server(session)) => last_words(session, (description as u8).into()),
            Some(Connection::Client(_)) | None => None,
        };
        (tcp, record.map(Bytes::from))
    }

    /// The connection below.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        self.tcp.stream()
    }

    fn session(&self) -> MutexGuard<'_, Connection> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the records in `arrived`; whether more may come after them.
    fn open(&self, mut arrived: &[u8], batch: &mut Vec<Bytes>) -> Result<bool, Outcome> {
        let mut session = self.session();
        loop {
            let state = match session.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    // The alert that says why; who does not take it sees the reset that follows.
                    let _ = send(&mut session, self.stream());
                    return Err(self.broken(&error));
                }
            };
            let length = state.plaintext_bytes_to_read();
            if length > 0 {
                let mut plain = vec![0; length];
                session.reader().read_exact(&mut plain).map_err(|error| self.broken(&error))?;
                batch.push(plain.into());
            }
            if state.peer_has_closed() {
                return Ok(false);
            }
            if arrived.is_empty() {
                break;
            }
            session.read_tls(&mut arrived).map_err(|error| self.broken(&error))?;
        }
        // New keys are answered (RFC 8446, section 4.6.3). What the socket does not take now leaves with the next write.
        send(&mut session, self.stream()).map(|_| true).map_err(|error| self.broken(&error))
    }

    /// Makes records of what is in `batch`, as much as fits into the buffer of the session.
    fn seal(&self, batch: &mut [Bytes]) -> Result<(), Outcome> {
        let mut session = self.session();
        let mut writer = session.writer();
        for chunk in batch {
            let taken = writer.write(chunk).map_err(|error| self.broken(&error))?;
            chunk.advance(taken);
            if !chunk.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Resolves when the socket has taken every record.
    async fn flush(&self) -> Result<(), Outcome> {
        loop {
            if send(&mut self.session(), self.stream()).map_err(|error| self.broken(&error))? {
                return Ok(());
            }
            self.stream().writable().await.map_err(|error| self.broken(&error))?;
        }
    }

    fn broken(&self, error: &dyn std::error::Error) -> Outcome {
        tracing::debug!(%error, "TLS connection failed");
        self.on_reset
    }
}

/// Writes the records that wait; whether none is left.
fn send(session: &mut Connection, stream: &TcpStream) -> io::Result<bool> {
    while session.wants_write() {
        match session.write_tls(&mut Unblocking(stream)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// The socket as rustls writes to it.
struct Unblocking<'a>(&'a TcpStream);

impl io::Write for Unblocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for TlsEnd {
    async fn read(&mut self, batch: &mut Vec<Bytes>) -> Result<bool, Outcome> {
        let before = batch.len();
        // The handshake may have read more than its own.
        let mut more = self.open(&[], batch)?;
        while more && batch.len() == before {
            let mut arrived = Vec::new();
            if !self.tcp.read(&mut arrived).await? {
                tracing::debug!("the connection ended without a close_notify");
                return Err(self.on_reset);
            }
            for records in arrived {
                more = more && self.open(&records, batch)?;
            }
        }
        // The end is told by the next read when bytes came before it.
        Ok(batch.len() > before)
    }

    fn stop(&mut self, _outcome: Outcome) {
        self.tcp.abort();
    }

    fn decline(&mut self, _outcome: Outcome) {
        // TLS has no way to say it either.
    }
}

impl Sink for TlsEnd {
    async fn write(&mut self, batch: &mut Vec<Bytes>) -> Result<(), Outcome> {
        let mut first = 0;
        while first < batch.len() {
            self.seal(&mut batch[first..])?;
            first += batch[first..].iter().take_while(|chunk| chunk.is_empty()).count();
            self.flush().await?;
        }
        batch.clear();
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Outcome> {
        self.session().send_close_notify();
        self.flush().await?;
        self.tcp.finish()
    }

    fn reset(&mut self, _outcome: Outcome) {
        self.tcp.abort();
    }

    async fn stopped(&mut self) -> Outcome {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
