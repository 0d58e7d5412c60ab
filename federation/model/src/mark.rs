//! What a revision of the cluster set is recognised by.
//!
//! Owns the mark: the first bytes of the head of the audit log as it was when the revision was made. The head stands for
//! everything that was ever done to the set, so two stores that differ in their past give the same revision other marks. Never
//! says which of the two is right.

use std::fmt;

use crate::audit::Head;

/// As many bytes as nobody finds a second log for.
const LEN: usize = 16;

/// The mark of one revision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark([u8; LEN]);

impl Mark {
    /// The mark of a revision after which the audit log ends with `head`.
    #[must_use]
    pub fn of(head: &Head) -> Self {
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(&head.hash.as_bytes()[..LEN]);
        Self(bytes)
    }

    /// Reads a mark; nothing when these bytes are none, as from versions before there were marks.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_the_beginning_of_a_head_and_no_other_number_of_bytes_is_one() {
        let head = Head::start("store-1");
        let mark = Mark::of(&head);
        assert!(head.hash.to_string().starts_with(&mark.to_string()));
        assert_eq!(Mark::from_bytes(mark.as_bytes()), Some(mark));
        assert_ne!(Mark::of(&Head::start("store-2")), mark);
        for bytes in [&[][..], &[7; LEN - 1], &[7; LEN + 1]] {
            assert_eq!(Mark::from_bytes(bytes), None);
        }
    }
}
