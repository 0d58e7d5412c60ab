//! How bundles are numbered for those outside the set.
//!
//! Owns the marks of trust domains whose cluster left: one that comes back under another authority starts its own sequence
//! anew, and whoever imported its bundle takes a lower number for a rollback and the same number for a fork. So what is
//! served goes on above. What members are told is what the cluster signed, and is never renumbered.

use std::collections::{BTreeMap, BTreeSet};

use federation_model::{bundle::TrustBundle, names::ClusterName, spiffe::TrustDomain};
use proto::convert::member::MAX_MEMBERS;

use super::State;

/// The most trust domains that are remembered. The longest not seen is forgotten: importers of its bundle, if it comes back
/// under another authority, have to take it anew.
pub const MAX_LEFT: usize = 4 * MAX_MEMBERS;

/// What was served of a trust domain before its cluster left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// The highest number.
    pub served: u64,
    /// The revision with which it left.
    pub revision: u64,
}

/// By trust domain; at most [`MAX_LEFT`].
pub type Marks = BTreeMap<TrustDomain, Left>;

impl State {
    /// A bundle as it is served to those outside the set.
    #[must_use]
    pub fn served(&self, bundle: &TrustBundle) -> TrustBundle {
        let above = self.left.get(&bundle.trust_domain).map_or(0, |left| left.served);
        TrustBundle { sequence: bundle.sequence.saturating_add(above), ..bundle.clone() }
    }

    /// Remembers what was served of a member that goes. One that waits for approval was never served.
    pub(super) fn mark_left(&mut self, cluster: &ClusterName) {
        let Some(record) = self.members.get(cluster).filter(|record| !record.pending) else { return };
        let bundle = self.served(&record.member.bundle);
        let left = Left { served: bundle.sequence, revision: self.revision + 1 };
        self.left.insert(bundle.trust_domain, left);
        if self.left.len() > MAX_LEFT {
            let members: BTreeSet<_> = self.members.values().map(|record| &record.member.bundle.trust_domain).collect();
            let oldest = self.left.iter().filter(|(domain, _)| !members.contains(domain));
            let oldest = oldest.min_by_key(|(_, left)| left.revision).map(|(domain, _)| domain.clone());
            oldest.and_then(|domain| self.left.remove(&domain));
        }
    }
}

#[cfg(test)]
mod tests {
    use federation_model::spiffe::TrustDomain;

    use super::*;
    use crate::state::{
        Write,
        tests::{authority, empty_set, record},
    };

    fn west(sequence: u64, pending: bool) -> Write {
        let mut west = record("west");
        west.member.bundle = authority("west.example").bundle(sequence);
        west.pending = pending;
        Write::Member(west)
    }

    fn number(state: &State) -> u64 {
        state.served(&state.members[&"west".parse().unwrap()].member.bundle).sequence
    }

    #[test]
    fn a_trust_domain_that_comes_back_goes_on_above_what_was_served_of_it() {
        let gone = || Write::MemberGone("west".parse().unwrap());
        let state = empty_set().applied(&[west(3, false)]);
        assert_eq!(number(&state), 3);
        let back = state.applied(&[gone(), west(1, false)]);
        assert_eq!(number(&back), 4);
        assert_eq!(number(&back.applied(&[west(2, false)])), 5);
        assert_eq!(number(&back.applied(&[gone(), west(1, false)])), 5);
        let waiting = back.applied(&[gone(), west(7, true), gone(), west(1, false)]);
        assert_eq!(number(&waiting), 5, "what waits for approval is not served");
    }

    #[test]
    fn the_trust_domain_that_left_first_is_forgotten_when_there_are_too_many() {
        let mut state = empty_set().applied(&[west(3, false)]);
        let domain = |n: usize| TrustDomain::new(format!("d{n}.example")).unwrap();
        state.left = (0..MAX_LEFT).map(|n| (domain(n), Left { served: 1, revision: n as u64 })).collect();
        let state = state.applied(&[Write::MemberGone("west".parse().unwrap())]);
        assert_eq!(state.left.len(), MAX_LEFT);
        assert!(!state.left.contains_key(&domain(0)) && state.left.contains_key(&domain(1)));
    }
}
