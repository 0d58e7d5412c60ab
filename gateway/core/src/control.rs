//! The framing of the control stream: four bytes of length, big endian, then a message.
//!
//! Owns the frame codec and its limits. Never interprets a message: [`crate::session`] does.

mod footprint;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;
pub use proto::tunnel::v1::ControlMessage;

pub use footprint::MAX_FOOTPRINT;

/// The longest message on the control stream, in bytes.
pub const MAX_CONTROL_FRAME: usize = 8 * 1024 * 1024;

const LENGTH: usize = 4;

/// A control stream that cannot be read or written any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// A frame is over the limit.
    #[error("a control message of {length} bytes, {MAX_CONTROL_FRAME} are accepted")]
    TooLarge {
        /// What its length field says.
        length: usize,
    },
    /// A frame holds so many entries that its values would not fit into memory.
    #[error("a control message whose entries take more than {MAX_FOOTPRINT} bytes of memory")]
    TooManyEntries,
    /// A frame is not a message.
    #[error("a control message does not parse: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// A message as a frame.
///
/// # Errors
/// When it is over [`MAX_CONTROL_FRAME`], which no message of a session is.
pub fn encode(message: &ControlMessage) -> Result<Bytes, ControlError> {
    let length = message.encoded_len();
    let prefix = u32::try_from(length).ok().filter(|_| length <= MAX_CONTROL_FRAME);
    let prefix = prefix.ok_or(ControlError::TooLarge { length })?;
    let mut frame = BytesMut::with_capacity(LENGTH + length);
    frame.put_u32(prefix);
    message.encode_raw(&mut frame);
    Ok(frame.freeze())
}

/// Messages out of the bytes of a control stream.
///
/// Holds one unfinished frame and what was fed since: a caller that polls until `None` after every piece it feeds bounds the
/// memory to [`MAX_CONTROL_FRAME`] and one piece.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, once all of it was fed.
    ///
    /// # Errors
    /// When the stream cannot be read any further.
    pub fn poll(&mut self) -> Result<Option<ControlMessage>, ControlError> {
        let Some(prefix) = self.buffer.first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAX_CONTROL_FRAME {
            return Err(ControlError::TooLarge { length });
        }
        if self.buffer.len() < LENGTH + length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH);
        let frame = self.buffer.split_to(length).freeze();
        if !footprint::fits(&frame) {
            return Err(ControlError::TooManyEntries);
        }
        Ok(Some(ControlMessage::decode(frame)?))
    }

    /// Whether the stream may end here: nothing of a further message was fed.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests;
