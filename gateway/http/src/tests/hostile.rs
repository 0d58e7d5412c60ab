//! Clients that send anything at all.

use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::stage::{Set, rest, soon};

const ONE: &[u8] =
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: x, Upgrade\r\nUpgrade: y\r\n\r\n\
    3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n";
const TWO: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a\
    \0\0\x06\x01\x04\0\0\0\x03\x83\x86\x84\x41\x01a\0\0\x03\0\0\0\0\0\x03abc\0\0\x04\x03\0\0\0\0\x03\0\0\0\x08";

/// Something almost right: a few bytes of it written over, left out or put in.
fn damaged(words: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6).prop_map(move |damages| {
        let mut words = words.to_vec();
        for (index, byte, how) in damages {
            let at = index.index(words.len());
            match how {
                0 => words[at] = byte,
                1 => drop(words.remove(at)),
                _ => words.insert(at, byte),
            }
        }
        words
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_a_client_sends_the_connection_ends_and_every_request_is_recorded(
        words in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), damaged(ONE), damaged(TWO)],
        two in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let set = Set::echo(two);
            let mut stage = set.open();
            let (mut read, mut write) = tokio::io::split(&mut stage.client);
            let send = async {
                // The connection may end before everything is sent.
                let _ = write.write_all(&words).await;
                let _ = write.shutdown().await;
            };
            let _ = soon(async { tokio::join!(send, rest(&mut read)) }).await;
            let served = stage.served().await;
            prop_assert_eq!(served.requests, set.records().len() as u64);
            Ok(())
        })?;
    }
}
