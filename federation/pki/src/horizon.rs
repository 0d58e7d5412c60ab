//! When trust breaks if nobody acts: which certificate or authority ends without a successor in sight, and when.
//!
//! Owns that foresight. What replaces itself in time is no break, however short it lives; what a person or another program
//! has to replace is one from a stated time before its end on. Never reads a clock, never judges a handshake.
//!
//! ```text
//! what                         is foreseen from
//! an authority                 30 days or a tenth of its life before its end, whichever is less
//! a certificate, intermediate  30 days or a quarter of its life before its end, whichever is less
//! the own certificate          the first renewal that fails, and as any certificate
//! what a faulty source gave    the fault
//! ```

use std::time::Duration;

use federation_model::{
    bundle::TrustBundle,
    names::ClusterName,
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use rustls_pki_types::CertificateDer;

use crate::{
    renew, trust,
    validity::{CLOCK_SKEW, Validity},
    verify::{self, Usage},
    x509::Parsed,
};

/// The longest time before an end at which it is foreseen: replacing an authority by hand takes days, rarely weeks.
pub const LONGEST_NOTICE: Duration = Duration::from_secs(30 * 86_400);
/// The part of its life, as a divisor, before whose begin nobody has to think of an authority's end. Issuers that replace
/// their authorities by themselves do it before, at five sixths of the life at the latest.
pub const AUTHORITY_NOTICE: u32 = 10;

/// A cluster as it is seen from here.
#[derive(Debug, Clone)]
pub struct Cluster<'a> {
    /// Its name.
    pub name: &'a ClusterName,
    /// What is believed of it.
    pub bundle: &'a TrustBundle,
    /// The chains it presents, leaf first; none without a tunnel.
    pub chains: Vec<&'a [CertificateDer<'static>]>,
}

/// How a source is from which the own identity is read.
#[derive(Debug, Clone, Copy)]
pub struct SourceState<'a> {
    /// The end of what it gave last.
    pub until: Timestamp,
    /// What is wrong with it.
    pub fault: Option<&'a str>,
}

/// Everything whose end matters.
#[derive(Debug, Clone)]
pub struct Outlook<'a> {
    /// This cluster, with the chain in use.
    pub own: Cluster<'a>,
    /// Why the last renewal failed; nothing when it did not.
    pub failing: Option<&'a str>,
    /// Where the own identity is read from; nothing when it is made here.
    pub source: Option<SourceState<'a>>,
    /// The other members.
    pub peers: Vec<Cluster<'a>>,
    /// What is believed of the federation service.
    pub federation: Option<&'a TrustBundle>,
    /// The bundles of trust domains outside the set.
    pub foreign: Vec<&'a TrustBundle>,
}

impl<'a> Outlook<'a> {
    /// What a cluster sees that looks at nothing but its own chain and bundle.
    #[must_use]
    pub fn alone(own: Cluster<'a>) -> Self {
        Self { own, failing: None, source: None, peers: Vec::new(), federation: None, foreign: Vec::new() }
    }
}

/// Whose part breaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// This cluster's.
    Own,
    /// Another member's.
    Peer(ClusterName),
    /// The federation service's.
    Federation,
    /// A foreign trust domain's.
    Foreign(TrustDomain),
}

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The certificate of a gateway.
    Certificate,
    /// A certificate between it and the authority.
    Intermediate,
    /// The authority that it stands under, or all of a bundle when that is not known.
    Authority,
    /// What a faulty source gave last.
    Source,
}

/// Something that stops working unless somebody acts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Break {
    /// The last moment at which it works.
    pub at: Timestamp,
    /// Whose it is.
    pub whose: Whose,
    /// What ends.
    pub part: Part,
    /// Why nothing replaces it, where that is known.
    pub why: Option<String>,
}

impl Break {
    /// How long it works still; nothing when it is over.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> Option<Duration> {
        (now <= self.at).then(|| self.at.since(now))
    }
}

/// What stops working if nobody acts, the first to do so first.
#[must_use]
pub fn foresee(outlook: &Outlook<'_>, now: Timestamp) -> Vec<Break> {
    let mut breaks = own(outlook, now);
    for peer in &outlook.peers {
        let whose = || Whose::Peer(peer.name.clone());
        // Of the chains of several gateways, or of tunnels judged at different times, the newest tells that renewal works.
        let newest = peer.chains.iter().max_by_key(|chain| chain.first().and_then(validity).map(|leaf| leaf.not_after));
        for (part, validity) in newest.into_iter().flat_map(|chain| links(chain, peer.bundle)) {
            breaks.extend(unless_early(renewed_by_now(&validity), now, broken(whose(), part, validity.not_after)));
        }
        breaks.extend(authority(whose(), peer.bundle, &peer.chains, now));
    }
    breaks.extend(outlook.federation.and_then(|bundle| authority(Whose::Federation, bundle, &[], now)));
    let foreign = |bundle: &&TrustBundle| authority(Whose::Foreign(bundle.trust_domain.clone()), bundle, &[], now);
    breaks.extend(outlook.foreign.iter().filter_map(foreign));
    breaks.sort();
    breaks
}

/// The last moment at which anything under a bundle is believed; nothing for one without readable authorities.
#[must_use]
pub fn believed_until(bundle: &TrustBundle) -> Option<Timestamp> {
    bundle.authorities.iter().filter_map(validity).map(|validity| validity.not_after).max()
}

fn own(outlook: &Outlook<'_>, now: Timestamp) -> Vec<Break> {
    let mut breaks = Vec::new();
    let bundle = outlook.own.bundle;
    for (part, validity) in outlook.own.chains.iter().flat_map(|chain| links(chain, bundle)) {
        let end = validity.not_after;
        let failing = outlook.failing.filter(|_| part == Part::Certificate).map(ToOwned::to_owned);
        // The next certificate stands under what the source gave since.
        let replaced = part == Part::Intermediate && outlook.source.is_some_and(|source| source.until > end);
        let from = if failing.is_some() { Timestamp(0) } else { renewed_by_now(&validity) };
        let ends = Break { why: failing, ..broken(Whose::Own, part, end) };
        breaks.extend(unless_early(from, now, ends).filter(|_| !replaced));
    }
    breaks.extend(authority(Whose::Own, bundle, &outlook.own.chains, now));
    if let Some((source, fault)) = outlook.source.and_then(|source| Some((source, source.fault?))) {
        let why = Some(fault.to_owned());
        breaks.push(Break { why, ..broken(Whose::Own, Part::Source, source.until) });
    }
    breaks
}

fn broken(whose: Whose, part: Part, at: Timestamp) -> Break {
    Break { at, whose, part, why: None }
}

fn unless_early(from: Timestamp, now: Timestamp, ends: Break) -> Option<Break> {
    (from <= now).then_some(ends)
}

/// The certificates of a chain below the authorities, which some present along with it.
fn links<'a>(
    chain: &'a [CertificateDer<'static>],
    bundle: &'a TrustBundle,
) -> impl Iterator<Item = (Part, Validity)> + 'a {
    let parts = std::iter::once(Part::Certificate).chain(std::iter::repeat(Part::Intermediate));
    let below = chain.iter().zip(parts).filter(|(der, _)| !bundle.authorities.contains(der));
    below.filter_map(|(der, part)| {
        let parsed = Parsed::from_der(der).ok()?;
        (parsed.subject() != parsed.issuer()).then(|| (part, parsed.validity()))
    })
}

/// When a certificate that renews itself would have been replaced.
fn renewed_by_now(validity: &Validity) -> Timestamp {
    renew::late(validity).max(before(validity.not_after, LONGEST_NOTICE))
}

/// The end of what carries a cluster: of the authority above its chains; of the whole bundle when that is not known, for an
/// authority that nobody uses any more may end.
fn authority(
    whose: Whose,
    bundle: &TrustBundle,
    chains: &[&[CertificateDer<'static>]],
    now: Timestamp,
) -> Option<Break> {
    let all: Vec<(Validity, &CertificateDer<'static>)> =
        bundle.authorities.iter().filter_map(|der| Some((validity(der)?, der))).collect();
    let last = |of: &mut dyn Iterator<Item = Validity>| of.max_by_key(|validity| validity.not_after);
    let above = |chain: &&[CertificateDer<'static>]| {
        last(&mut all.iter().filter(|(_, der)| carries(bundle, der, chain)).map(|(validity, _)| *validity))
    };
    let carrying = chains.iter().filter_map(above).min_by_key(|validity| validity.not_after);
    let ends = carrying.or_else(|| last(&mut all.iter().map(|(validity, _)| *validity)))?;
    let life = ends.not_after.since(ends.not_before);
    let from = before(ends.not_after, LONGEST_NOTICE.min(life / AUTHORITY_NOTICE));
    unless_early(from, now, broken(whose, Part::Authority, ends.not_after))
}

/// Whether a chain stands under this authority of a bundle, whatever has ended since its leaf was issued.
fn carries(bundle: &TrustBundle, authority: &CertificateDer<'static>, chain: &[CertificateDer<'static>]) -> bool {
    let alone = TrustBundle { authorities: vec![authority.clone()], ..bundle.clone() };
    let (Ok(roots), Some(leaf)) = (trust::roots(&alone), chain.first().and_then(validity)) else { return false };
    let issued = leaf.not_before.after(CLOCK_SKEW).min(leaf.not_after);
    let of_domain = |id: SpiffeId| *id.trust_domain() == bundle.trust_domain;
    verify::verify_under(chain, &roots, issued, Usage::Server).is_ok_and(of_domain)
}

fn validity(der: &CertificateDer<'static>) -> Option<Validity> {
    Parsed::from_der(der).ok().map(|parsed| parsed.validity())
}

fn before(end: Timestamp, by: Duration) -> Timestamp {
    Timestamp(end.0.saturating_sub(by.as_secs()))
}

#[cfg(test)]
mod tests;
