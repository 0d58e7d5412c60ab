//! Bounds what a frame may turn into before it becomes values.
//!
//! Owns the walk over the lists of a frame. An empty entry is two bytes on the wire and hundreds as a value: eight megabytes
//! of them would become more than a gigabyte. Never judges what the entries say, and leaves what does not parse to the decoder.

use std::mem::size_of;

use prost::{
    bytes::{Buf, Bytes},
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use proto::tunnel::v1 as wire;

/// The most memory the entries of one message may take, in bytes; the largest message a session sends stays under a third.
pub const MAX_FOOTPRINT: usize = 64 * 1024 * 1024;

/// A list in a message.
struct List {
    field: u32,
    entry: usize,
    inside: &'static [Self],
}

const fn list(field: u32, entry: usize, inside: &'static [List]) -> List {
    List { field, entry, inside }
}

const SERVICE: &[List] = &[
    list(4, size_of::<String>(), &[]),
    list(5, size_of::<wire::Port>(), &[]),
    list(13, 2 * size_of::<String>(), &[]),
    list(14, 2 * size_of::<String>(), &[]),
];
const CATALOG: &[List] = &[list(2, size_of::<wire::Service>(), SERVICE)];
const SNAPSHOT: &[List] = &[list(4, 0, CATALOG)];
const DELTA: &[List] = &[list(3, size_of::<wire::Service>(), SERVICE), list(4, size_of::<wire::ServiceKey>(), &[])];
const CREDENTIAL: &[List] = &[list(1, size_of::<Bytes>(), &[])];
const REPORT: &[List] = &[list(1, size_of::<wire::ImportStanding>(), &[]), list(2, size_of::<wire::ServiceKey>(), &[])];
const MESSAGE: &[List] = &[list(2, 0, SNAPSHOT), list(3, 0, DELTA), list(10, 0, CREDENTIAL), list(12, 0, REPORT)];

/// Whether the entries of a frame fit into [`MAX_FOOTPRINT`].
pub(super) fn fits(frame: &[u8]) -> bool {
    let mut left = MAX_FOOTPRINT;
    spend(frame, MESSAGE, &mut left).is_some()
}

fn spend(mut body: &[u8], lists: &[List], left: &mut usize) -> Option<()> {
    while body.has_remaining() {
        let Ok((tag, kind)) = decode_key(&mut body) else { return Some(()) };
        let Some(list) = lists.iter().find(|list| list.field == tag && kind == WireType::LengthDelimited) else {
            match skip_field(kind, tag, &mut body, DecodeContext::default()) {
                Ok(()) => continue,
                Err(_) => return Some(()),
            }
        };
        let length = decode_varint(&mut body).ok().and_then(|length| usize::try_from(length).ok());
        let Some((entry, rest)) = length.and_then(|length| body.split_at_checked(length)) else { return Some(()) };
        *left = left.checked_sub(list.entry)?;
        spend(entry, list.inside, left)?;
        body = rest;
    }
    Some(())
}
