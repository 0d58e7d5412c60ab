//! What must hold for any input of a parser or an encoder.
//!
//! Owns one function for each of them, which takes arbitrary bytes and panics where a promise is broken. `tests/fuzz` runs
//! them under libFuzzer, a system test over the inputs checked in there and damaged copies of these. Never makes inputs.

#![expect(clippy::unwrap_used, reason = "what is unwrapped is what must hold")]

mod header;
mod hello;
mod http;
mod pattern;
mod policy;
mod proxy;

use std::fmt::Debug;

pub use header::{stream_header, stream_reply};
pub use hello::client_hello;
pub use http::http;
pub use pattern::{path, pattern};
pub use policy::policy;
pub use proxy::proxy_header;

/// One function under its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them. The name is that of the program in `tests/fuzz/fuzz_targets` and of the directory in `tests/fuzz/corpus`.
pub const TARGETS: [Target; 8] = [
    ("client_hello", client_hello),
    ("stream_header", stream_header),
    ("stream_reply", stream_reply),
    ("proxy_header", proxy_header),
    ("pattern", pattern),
    ("path", path),
    ("policy", policy),
    ("http", http),
];

/// A shorter input is cut everywhere.
const CUT_EVERYWHERE: usize = 256;

/// Asserts that bytes which arrive in pieces get one answer: `pending` up to some byte, and from there on what all of them
/// get.
fn assert_settles<T: PartialEq + Debug>(data: &[u8], pending: &T, read: impl Fn(&[u8]) -> T) {
    let whole = read(data);
    let mut settled = false;
    for end in cuts(data.len()) {
        let answer = read(&data[..end]);
        if settled || answer != *pending {
            assert_eq!(answer, whole, "{end} bytes of {}", data.len());
            settled = true;
        }
    }
}

/// Where an input is cut: everywhere when it is short, else near its ends and at regular places.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 64).max(1);
    let near = move |at: usize| at < CUT_EVERYWHERE / 4 || length - at < CUT_EVERYWHERE / 4;
    (0..=length).filter(move |at| length <= CUT_EVERYWHERE || near(*at) || at.is_multiple_of(step))
}
