//! What the admin port shows of the set.
//!
//! Owns the form of `/debug/members`. Never shows a secret, not even its hash.

use serde::Serialize;

use crate::{SOFTWARE, clock::Clock, presence::Presence, registry::Registry, state::tokens::TokenState};

/// The set, for people and scripts.
#[derive(Debug, Serialize)]
pub(crate) struct Set {
    software: &'static str,
    store_id: String,
    revision: u64,
    trust_domain: String,
    members: Vec<Member>,
    tokens: Tokens,
    revocations: usize,
}

#[derive(Debug, Serialize)]
struct Member {
    cluster: String,
    trust_domain: String,
    gateway_id: String,
    advertise: Vec<String>,
    authorities: Vec<String>,
    joined_at: u64,
    pending: bool,
    software: String,
    watches: u32,
    acknowledged: u64,
    last_seen: Option<u64>,
}

#[derive(Debug, Default, Serialize)]
struct Tokens {
    ready: usize,
    used: usize,
    expired: usize,
    revoked: usize,
}

impl Set {
    /// The set as it is now.
    pub(crate) fn now(registry: &Registry, presence: &Presence, clock: &Clock) -> Self {
        let (state, now) = (registry.state(), clock.now());
        let mut tokens = Tokens::default();
        for token in state.tokens.values() {
            match token.state(now) {
                TokenState::Ready => tokens.ready += 1,
                TokenState::Used => tokens.used += 1,
                TokenState::Expired => tokens.expired += 1,
                TokenState::Revoked => tokens.revoked += 1,
            }
        }
        let members = state.members.values().map(|record| {
            let (member, seen) = (&record.member, presence.of(&record.member.cluster));
            Member {
                cluster: member.cluster.to_string(),
                trust_domain: member.bundle.trust_domain.to_string(),
                gateway_id: member.gateway_id.to_string(),
                advertise: member.advertise.iter().map(ToString::to_string).collect(),
                authorities: member.bundle.fingerprints().map(|fingerprint| fingerprint.to_string()).collect(),
                joined_at: member.joined_at.0,
                pending: record.pending,
                software: record.software.clone(),
                watches: seen.watches,
                acknowledged: seen.acknowledged,
                last_seen: seen.last_seen.map(|at| at.0),
            }
        });
        Self {
            software: SOFTWARE,
            store_id: state.store_id.to_string(),
            revision: state.revision,
            trust_domain: state.federation.trust_domain.to_string(),
            members: members.collect(),
            tokens,
            revocations: state.revocations.len(),
        }
    }
}
