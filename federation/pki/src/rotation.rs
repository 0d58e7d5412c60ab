//! The change from one authority to the next, step by step, so that nobody distrusts anybody on the way.
//!
//! Owns the order and the gates. Every step follows from what is published, wanted and in use, so that a crash of anybody at
//! any moment loses nothing: whoever looks again finds the same next step. Never signs, publishes or waits itself.
//!
//! ```text
//! prepare   publish old and new, signed by old        until every member believes both
//! activate  use a certificate under the new one       until every tunnel is judged by it
//! retire    publish new alone, signed by new          done
//! ```

use std::{collections::BTreeMap, fmt, time::Duration};

use federation_model::{
    bundle::{MAX_AUTHORITIES, TrustBundle},
    names::ClusterName,
    time::Timestamp,
};
use rustls_pki_types::CertificateDer;

use crate::validity::{CLOCK_SKEW, Validity};

/// What is known of another member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerStanding {
    /// Whether a tunnel to it is up. One that none can exist to is not listed at all.
    pub connected: bool,
    /// The lowest sequence of this cluster's bundle that its gateways say they believe; none before they said so.
    pub believes: Option<u64>,
    /// Whether all of its tunnels are judged by the certificate in use.
    pub judges_by_newest: bool,
    /// What it said against the certificate in use.
    pub refusal: Option<String>,
    /// How far its clock is ahead of this one, in milliseconds; negative when it is behind.
    pub skew_millis: i64,
}

/// Everything a step depends on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The bundle of this cluster as it is published.
    pub published: &'a TrustBundle,
    /// Whether the federation service has the published bundle; true where there is none.
    pub told: bool,
    /// The authorities that shall remain.
    pub wanted: &'a [CertificateDer<'static>],
    /// Whether the certificate in use stands under one of `wanted`.
    pub in_use: bool,
    /// The other members.
    pub peers: &'a BTreeMap<ClusterName, PeerStanding>,
    /// Whether the next gate is to be passed whoever has not come.
    pub forced: bool,
}

/// A step that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The next authority was published beside the one in use.
    Published,
    /// Certificates of the next authority are in use.
    Activated,
    /// The former authority is not published any more.
    Retired,
    /// The rotation was given up.
    Cancelled,
}

impl Taken {
    /// The word for it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Activated => "activated",
            Self::Retired => "retired",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing changes.
    Settled,
    /// Members learn of the new authority.
    Preparing,
    /// Tunnels change over to certificates of the new authority.
    Draining,
    /// Members forget the old authority.
    Retiring,
}

impl Phase {
    /// The word for people and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Preparing => "preparing",
            Self::Draining => "draining",
            Self::Retiring => "retiring",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Who keeps a gate closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// The member; none for the federation service.
    pub cluster: Option<ClusterName>,
    /// Why, as a sentence about it.
    pub reason: String,
    /// What breaks when the gate is passed all the same.
    pub consequence: String,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Publish a bundle of these authorities.
    Publish {
        /// The phase that begins with it.
        phase: Phase,
        /// The authorities, those in use first.
        authorities: Vec<CertificateDer<'static>>,
    },
    /// Use a certificate under a wanted authority from now on.
    Activate,
    /// Wait for these.
    Wait {
        /// The phase that does not end yet.
        phase: Phase,
        /// Never empty.
        blockers: Vec<Blocker>,
    },
    /// Nothing is left to do; those who do not know the newest bundle yet will learn of it by themselves.
    Settled {
        /// Who does not know it yet.
        behind: Vec<Blocker>,
    },
    /// The bundle would hold too many authorities.
    TooMany(usize),
}

/// The next step.
#[must_use]
pub fn step(situation: &Situation<'_>) -> Step {
    let Situation { published, wanted, in_use, forced, .. } = situation;
    let missing: Vec<_> = wanted.iter().filter(|der| !published.authorities.contains(der)).cloned().collect();
    if !missing.is_empty() {
        let authorities: Vec<_> = published.authorities.iter().cloned().chain(missing).collect();
        if authorities.len() > MAX_AUTHORITIES {
            return Step::TooMany(authorities.len());
        }
        return Step::Publish { phase: Phase::Preparing, authorities };
    }
    if !in_use {
        let blockers = unbelieving(situation);
        return if blockers.is_empty() || *forced {
            Step::Activate
        } else {
            Step::Wait { phase: Phase::Preparing, blockers }
        };
    }
    if published.authorities.iter().any(|der| !wanted.contains(der)) {
        let blockers = undrained(situation);
        return if blockers.is_empty() || *forced {
            Step::Publish { phase: Phase::Retiring, authorities: wanted.to_vec() }
        } else {
            Step::Wait { phase: Phase::Draining, blockers }
        };
    }
    Step::Settled { behind: unbelieving(situation) }
}

/// Who does not believe the published bundle yet.
fn unbelieving(situation: &Situation<'_>) -> Vec<Blocker> {
    let sequence = situation.published.sequence;
    let untold = (!situation.told).then(|| Blocker {
        cluster: None,
        reason: format!("the federation service has not taken version {sequence} of the bundle yet"),
        consequence: "no member hears of the new authority, and all of them refuse certificates of it".to_owned(),
    });
    let peers = situation.peers.iter().filter_map(|(cluster, peer)| {
        let reason = match (peer.connected, peer.believes) {
            (_, Some(believes)) if believes >= sequence => return None,
            (true, Some(believes)) => format!("it believes version {believes} of the bundle, {sequence} is needed"),
            (true, None) => "it has not said yet which version of the bundle it believes".to_owned(),
            (false, _) => "no tunnel to it is up, so that nobody knows what it believes".to_owned(),
        };
        let consequence =
            format!("{cluster} refuses tunnels of this cluster until it hears of version {sequence} of the bundle");
        Some(Blocker { cluster: Some(cluster.clone()), reason, consequence })
    });
    untold.into_iter().chain(peers).collect()
}

/// Whose tunnels are still judged by a certificate of an authority that is to go.
fn undrained(situation: &Situation<'_>) -> Vec<Blocker> {
    let old = |(_, peer): &(&ClusterName, &PeerStanding)| peer.connected && !peer.judges_by_newest;
    let blocker = |(cluster, peer): (&ClusterName, &PeerStanding)| Blocker {
        cluster: Some(cluster.clone()),
        reason: match &peer.refusal {
            Some(refusal) => format!("it refuses the new certificate: {refusal}"),
            None => "it has not taken the new certificate for its tunnels yet".to_owned(),
        },
        consequence: format!("{cluster} cuts its tunnels with this cluster, and every connection in them"),
    };
    situation.peers.iter().filter(old).map(blocker).collect()
}

/// Whose clocks do not accept a certificate yet, and for how long. Whoever is not connected cannot be asked, and will tell.
#[must_use]
pub fn clocks_behind(
    validity: &Validity,
    peers: &BTreeMap<ClusterName, PeerStanding>,
    now: Timestamp,
) -> Vec<(ClusterName, Duration)> {
    let behind = peers.iter().filter(|(_, peer)| peer.connected).filter_map(|(cluster, peer)| {
        let theirs = i128::from(now.0) * 1000 + i128::from(peer.skew_millis);
        let accepted = (i128::from(validity.not_before.0) - i128::from(CLOCK_SKEW.as_secs())) * 1000;
        let wait = u64::try_from(accepted - theirs).ok().filter(|wait| *wait > 0)?;
        Some((cluster.clone(), Duration::from_millis(wait)))
    });
    behind.collect()
}

#[cfg(test)]
mod tests;
