//! The datagram that every QUIC server answers, and its answer.
//!
//! Owns the bytes, which are the same in every version of QUIC (RFC 8999). Never sends them.

use rand::RngExt as _;

/// A version that nobody will ever have: reserved to be answered with a version negotiation (RFC 9000 section 15).
const RESERVED: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];
/// QUIC version 1, which tunnels have.
const VERSION_1: [u8; 4] = [0, 0, 0, 1];
/// A long header (RFC 8999 section 5.1), and the bit that every packet of version 1 has set.
const LONG_HEADER: u8 = 0x80;
const FIXED_BIT: u8 = 0x40;
/// Bytes of a connection id: the least that a client of version 1 may choose for a server.
const ID: usize = 8;

/// The connection ids of one datagram. Only who has seen it can answer it, and the answer says which one it is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    destination: [u8; ID],
    source: [u8; ID],
}

/// What a server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// QUIC version 1, perhaps with others.
    Version1,
    /// Other versions only.
    Others,
}

impl Ids {
    /// New ones.
    pub(super) fn random() -> Self {
        let mut rng = rand::rng();
        Self { destination: rng.random(), source: rng.random() }
    }

    /// A datagram of `size` bytes: what is behind the header means nothing to anybody.
    pub(super) fn datagram(&self, size: u16) -> Vec<u8> {
        let mut datagram = vec![LONG_HEADER | FIXED_BIT];
        datagram.extend_from_slice(&RESERVED);
        for id in [&self.destination, &self.source] {
            datagram.push(ID as u8);
            datagram.extend_from_slice(id);
        }
        datagram.resize(usize::from(size), 0);
        datagram
    }

    /// Reads the answer to this datagram: a version negotiation (RFC 8999 section 6) with both ids, swapped. Nothing for
    /// everything else.
    pub(super) fn answered(&self, datagram: &[u8]) -> Option<Speaks> {
        let (first, rest) = datagram.split_first()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (destination, rest) = id(rest)?;
        let (source, versions) = id(rest)?;
        let negotiates = first & LONG_HEADER != 0 && *version == [0; 4];
        let ours = destination == self.source && source == self.destination;
        let whole = !versions.is_empty() && versions.len().is_multiple_of(4);
        if !negotiates || !ours || !whole {
            return None;
        }
        let speaks = versions.chunks_exact(4).any(|version| version == VERSION_1);
        Some(if speaks { Speaks::Version1 } else { Speaks::Others })
    }
}

/// A connection id, and what is behind it.
fn id(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a server answers.
    fn answer(to: &Ids, versions: &[[u8; 4]]) -> Vec<u8> {
        let mut bytes = vec![LONG_HEADER | 0x2f, 0, 0, 0, 0];
        for id in [to.source, to.destination] {
            bytes.push(8);
            bytes.extend(id);
        }
        bytes.extend(versions.concat());
        bytes
    }

    #[test]
    fn a_datagram_has_a_long_header_a_reserved_version_and_the_size_asked_for() {
        let ids = Ids::random();
        let datagram = ids.datagram(1200);
        assert_eq!(datagram.len(), 1200);
        assert_eq!(datagram[0] & 0xc0, 0xc0);
        assert!(datagram[1..5].iter().all(|byte| byte & 0x0f == 0x0a), "{:?}", &datagram[1..5]);
        assert_eq!((datagram[5], &datagram[6..14]), (8, &ids.destination[..]));
        assert_eq!((datagram[14], &datagram[15..23]), (8, &ids.source[..]));
        assert!(datagram[23..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn an_answer_says_whether_version_1_is_spoken() {
        let ids = Ids::random();
        let other = [0x6b, 0x33, 0x43, 0xcf];
        assert_eq!(ids.answered(&answer(&ids, &[RESERVED, VERSION_1])), Some(Speaks::Version1));
        assert_eq!(ids.answered(&answer(&ids, &[other])), Some(Speaks::Others));
    }

    #[test]
    fn an_answer_to_other_ids_or_with_ids_in_the_order_of_the_question_is_none() {
        let (ids, other) = (Ids::random(), Ids::random());
        assert_eq!(ids.answered(&answer(&other, &[VERSION_1])), None);
        let echoed = Ids { destination: ids.source, source: ids.destination };
        assert_eq!(ids.answered(&answer(&echoed, &[VERSION_1])), None);
        let half = Ids { destination: other.destination, ..ids };
        assert_eq!(ids.answered(&answer(&half, &[VERSION_1])), None);
        assert_eq!(ids.answered(&ids.datagram(1200)), None, "an echo of the question is no answer");
    }

    #[test]
    fn an_answer_that_is_cut_or_of_another_kind_is_none() {
        let ids = Ids::random();
        let whole = answer(&ids, &[VERSION_1]);
        for length in 0..whole.len() {
            assert_eq!(ids.answered(&whole[..length]), None, "{length} bytes");
        }
        let changed = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            ids.answered(&bytes)
        };
        assert_eq!(changed(0, 0x4f), None, "a short header");
        assert_eq!(changed(4, 1), None, "a packet of version 1");
        assert_eq!(changed(5, 0xff), None, "an id that is longer than the rest");
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_are_no_answer(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
            prop_assert_eq!(Ids::random().answered(&bytes), None);
        }

        #[test]
        fn bytes_behind_a_true_header_never_panic(at in 0_usize..40, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let ids = Ids { destination: [1; ID], source: [2; ID] };
            let mut datagram = answer(&ids, &[VERSION_1]);
            datagram.truncate(at);
            datagram.extend(bytes);
            ids.answered(&datagram);
        }
    }
}
