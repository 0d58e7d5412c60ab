//! From a stream the peer opened to an [`InboundStream`] with its header.
//!
//! Owns the limits on headers. Never judges a header: the gateway does.

use std::sync::Arc;

use federation_model::outcome::Outcome;
use gateway_core::header::{HeaderError, StreamHeader};
use tokio::time::timeout;

use crate::{
    config::HEADER_LIMIT,
    stream::{FrameError, FrameRead, InboundStream, RecvHalf, SendHalf},
    tunnel::{StreamLease, Tunnel},
};

/// Why it is not known what a stream is for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HeadError {
    /// The header is not one.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The header did not come in time.
    #[error("the stream's header did not come within {HEADER_LIMIT:?}")]
    TooSlow,
}

impl HeadError {
    /// How the stream ends.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Header(error) => error.outcome(),
            Self::TooSlow => Outcome::ProtocolError,
        }
    }
}

/// Reads the header of a stream; nothing when the peer ended the stream before.
pub(crate) async fn read_head(
    tunnel: Arc<Tunnel>,
    (send, recv): (quinn::SendStream, quinn::RecvStream),
) -> Option<Box<InboundStream>> {
    let lease = StreamLease::inbound(&tunnel);
    let mut recv = RecvHalf::new(recv, Arc::clone(&lease));
    let mut send = SendHalf::new(send, lease);
    let mut frame = FrameRead::default();
    let header = match timeout(HEADER_LIMIT, frame.read(&mut recv, StreamHeader::read)).await {
        Ok(Ok(header)) => Ok(header),
        Ok(Err(FrameError::Header(error))) => Err(HeadError::Header(error)),
        Ok(Err(FrameError::Stream(outcome))) => {
            send.reset(outcome);
            return None;
        }
        Err(_elapsed) => Err(HeadError::TooSlow),
    };
    let trust_domain = tunnel.peer.gateway_id.trust_domain().clone();
    Some(Box::new(InboundStream { peer: tunnel.peer.cluster.clone(), trust_domain, header, send, recv }))
}
