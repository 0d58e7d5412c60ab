//! The client's end of a connection: its socket, or the TLS session that ends here.
//!
//! Owns how either is told that its connection goes no further. Never decides that it does not.

use std::time::Duration;

use bytes::Bytes;
use federation_model::outcome::Outcome;
use gateway_core::hello::{AlertDescription, alert};

use crate::{
    splice::{Sink, Source, TcpEnd, discard},
    tls_end::TlsEnd,
};

/// How long a client may take to receive the alert that ends its connection.
const ALERT_TIMEOUT: Duration = Duration::from_secs(1);

/// The client's end.
#[derive(Debug, Clone)]
pub enum ClientEnd {
    /// The socket: what the client says is carried as it is.
    Tcp(TcpEnd),
    /// The session: TLS ends here.
    Tls(TlsEnd),
}

impl ClientEnd {
    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &TcpEnd {
        match self {
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => tls.socket(),
        }
    }

    /// Ends it after its last record was written, by whoever found out that it goes no further.
    pub async fn part(self) {
        part(&mut self.socket().clone()).await;
    }

    /// Ends it with this alert; without one, or where it can no longer be said, with a reset.
    pub async fn refuse(self, description: Option<AlertDescription>) {
        let (mut tcp, last) = match (self, description) {
            (Self::Tcp(tcp), None) => return tcp.abort(),
            (Self::Tls(tls), None) => return tls.socket().abort(),
            (Self::Tcp(tcp), Some(description)) => (tcp, Some(Bytes::copy_from_slice(&alert(description)))),
            (Self::Tls(tls), Some(description)) => tls.into_last_words(description),
        };
        match last {
            Some(record) => last_record(&mut tcp, record).await,
            None => tcp.abort(),
        }
    }
}

/// Writes the last record of a connection, and ends it such that the client gets to read it.
async fn last_record(tcp: &mut TcpEnd, record: Bytes) {
    let mut batch = vec![record];
    // A client that does not take its alert is closed all the same.
    let _ = tokio::time::timeout(ALERT_TIMEOUT, tcp.write(&mut batch)).await;
    part(tcp).await;
}

/// Ends a socket whose last record was written: what the client still sends must not cost it that record.
async fn part(tcp: &mut TcpEnd) {
    let _ = TcpEnd::finish(tcp);
    discard(tcp).await;
}

impl Source for ClientEnd {
    async fn read(&mut self, batch: &mut Vec<Bytes>) -> Result<bool, Outcome> {
        match self {
            Self::Tcp(tcp) => tcp.read(batch).await,
            Self::Tls(tls) => tls.read(batch).await,
        }
    }

    fn stop(&mut self, outcome: Outcome) {
        match self {
            Self::Tcp(tcp) => tcp.stop(outcome),
            Self::Tls(tls) => tls.stop(outcome),
        }
    }

    fn decline(&mut self, outcome: Outcome) {
        match self {
            Self::Tcp(tcp) => tcp.decline(outcome),
            Self::Tls(tls) => tls.decline(outcome),
        }
    }
}

impl Sink for ClientEnd {
    async fn write(&mut self, batch: &mut Vec<Bytes>) -> Result<(), Outcome> {
        match self {
            Self::Tcp(tcp) => tcp.write(batch).await,
            Self::Tls(tls) => tls.write(batch).await,
        }
    }

    async fn finish(&mut self) -> Result<(), Outcome> {
        match self {
            Self::Tcp(tcp) => Sink::finish(tcp).await,
            Self::Tls(tls) => Sink::finish(tls).await,
        }
    }

    fn reset(&mut self, outcome: Outcome) {
        match self {
            Self::Tcp(tcp) => tcp.reset(outcome),
            Self::Tls(tls) => tls.reset(outcome),
        }
    }

    async fn stopped(&mut self) -> Outcome {
        match self {
            Self::Tcp(tcp) => tcp.stopped().await,
            Self::Tls(tls) => tls.stopped().await,
        }
    }
}
