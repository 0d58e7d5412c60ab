//! The endpoint's side of a delivered connection.
//!
//! Owns nothing but the choice between the two kinds of it: a socket, or TLS on one.

use bytes::Bytes;
use federation_model::outcome::Outcome;

use crate::{
    splice::{Sink, Source, TcpEnd},
    tls_end::TlsEnd,
};

/// An endpoint that has accepted the connection, usable as a source and as a sink at the same time.
#[derive(Debug, Clone)]
pub enum EndpointEnd {
    /// It gets the bytes as they are.
    Tcp(TcpEnd),
    /// It gets them over TLS, and has proved who it is.
    Tls(TlsEnd),
}

impl Source for EndpointEnd {
    async fn read(&mut self, batch: &mut Vec<Bytes>) -> Result<bool, Outcome> {
        match self {
            Self::Tcp(end) => end.read(batch).await,
            Self::Tls(end) => end.read(batch).await,
        }
    }

    fn stop(&mut self, outcome: Outcome) {
        match self {
            Self::Tcp(end) => end.stop(outcome),
            Self::Tls(end) => end.stop(outcome),
        }
    }

    fn decline(&mut self, outcome: Outcome) {
        match self {
            Self::Tcp(end) => end.decline(outcome),
            Self::Tls(end) => end.decline(outcome),
        }
    }
}

impl Sink for EndpointEnd {
    async fn write(&mut self, batch: &mut Vec<Bytes>) -> Result<(), Outcome> {
        match self {
            Self::Tcp(end) => end.write(batch).await,
            Self::Tls(end) => end.write(batch).await,
        }
    }

    async fn finish(&mut self) -> Result<(), Outcome> {
        match self {
            Self::Tcp(end) => TcpEnd::finish(end),
            Self::Tls(end) => end.finish().await,
        }
    }

    fn reset(&mut self, outcome: Outcome) {
        match self {
            Self::Tcp(end) => end.reset(outcome),
            Self::Tls(end) => end.reset(outcome),
        }
    }

    async fn stopped(&mut self) -> Outcome {
        match self {
            Self::Tcp(end) => end.stopped().await,
            Self::Tls(end) => end.stopped().await,
        }
    }
}
