//! What a peer sends before the bytes of a connection.

use federation_model::{outcome::Outcome, spiffe::MAX_SPIFFE_ID};
use gateway_core::{
    header::{LENGTH_PREFIX, MAX_HEADER, MAX_REASON, StreamHeader, StreamReply},
    hello::MAX_SERVER_NAME,
};

/// What follows is what the peer that opened a stream sends on it.
pub fn stream_header(data: &[u8]) {
    super::assert_settles(data, &Ok(None), StreamHeader::read);
    let (header, taken) = match StreamHeader::read(data) {
        Ok(None) => return assert!(data.len() < LENGTH_PREFIX + MAX_HEADER, "the limit ends the waiting"),
        Ok(Some(read)) => read,
        Err(error) => {
            let _ = (error.outcome(), error.to_string());
            return;
        }
    };
    assert!(taken <= data.len());
    if let Some(id) = header.caller.principal() {
        assert!(!id.path().is_empty() && id.to_string().len() <= MAX_SPIFFE_ID, "{id} is no workload");
    }
    if let Some(name) = &header.server_name {
        assert!((1..=MAX_SERVER_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic()), "{name:?}");
    }
    let frame = header.encode().unwrap();
    let length = frame.len();
    assert_eq!(StreamHeader::read(&frame), Ok(Some((header, length))));
}

/// What follows is what a peer answers on a stream.
pub fn stream_reply(data: &[u8]) {
    super::assert_settles(data, &Ok(None), StreamReply::read);
    let (reply, taken) = match StreamReply::read(data) {
        Ok(None) => return assert!(data.len() < LENGTH_PREFIX + MAX_HEADER, "the limit ends the waiting"),
        Ok(Some(read)) => read,
        Err(error) => {
            let _ = (error.outcome(), error.to_string());
            return;
        }
    };
    assert!(taken <= data.len());
    if let StreamReply::Refused { outcome, reason, by } = &reply {
        assert_ne!(*outcome, Outcome::Completed, "a refusal is no success");
        let texts = by.iter().flat_map(|by| [&by.rule, &by.remedy]).chain([reason]);
        for text in texts {
            assert!(text.len() <= MAX_REASON && !text.chars().any(char::is_control), "{text:?}");
        }
    }
    let frame = reply.encode();
    let length = frame.len();
    assert_eq!(StreamReply::read(&frame), Ok(Some((reply, length))));
}
