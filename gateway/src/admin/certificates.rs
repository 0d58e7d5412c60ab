//! Every certificate that matters to this gateway, for people.
//!
//! Owns the translation. Never judges one.

use federation_model::{bundle::TrustBundle, time::Timestamp};
use federation_pki::certificate::CertificateFacts;
use proto::gateway::v1::{BundleStanding, Certificate, CertificateRole, ListCertificatesResponse};
use rustls::pki_types::CertificateDer;

use super::Administration;

/// Everything `fedctl certs` shows of a gateway.
pub(super) fn certificates(this: &Administration) -> ListCertificatesResponse {
    let own = this.config.cluster.name.as_str();
    let mut certificates = Vec::new();
    let svid = this.identity.live().current();
    let renewal = this.identity.standing().borrow().next_renewal;
    certificates.extend(leaf(own, CertificateRole::Gateway, svid.chain(), renewal));
    certificates.extend(authorities(own, CertificateRole::Authority, &this.identity.bundle()));
    let mut bundles = Vec::new();
    let refused = this.follower.refused();
    let members = this.follower.members().borrow().clone();
    for peer in this.tunnels.status() {
        let cluster = peer.cluster.as_str();
        let mut seen: Vec<&CertificateDer<'_>> = Vec::new();
        for tunnel in &peer.tunnels {
            let first = tunnel.certificates.first();
            if let Some(first) = first.filter(|first| !seen.contains(first)) {
                seen.push(first);
                certificates.extend(leaf(cluster, CertificateRole::Peer, &tunnel.certificates, None));
            }
        }
        if let Some(member) = members.get(&peer.cluster) {
            certificates.extend(authorities(cluster, CertificateRole::Authority, &member.bundle));
        }
    }
    let shown = |bundle: &TrustBundle| bundle.fingerprints().map(|shown| shown.to_string()).collect();
    for (cluster, member) in members.iter() {
        let refused = refused.get(cluster);
        bundles.push(BundleStanding {
            cluster: cluster.to_string(),
            trust_domain: member.bundle.trust_domain.to_string(),
            sequence: member.bundle.sequence,
            authorities: shown(&member.bundle),
            refusal: refused.map(|refused| refused.error.to_string()).unwrap_or_default(),
            refused: refused.map(|refused| shown(&refused.member.bundle)).unwrap_or_default(),
        });
    }
    for (cluster, refused) in refused.iter().filter(|(cluster, _)| !members.contains_key(*cluster)) {
        bundles.push(BundleStanding {
            cluster: cluster.to_string(),
            trust_domain: refused.member.bundle.trust_domain.to_string(),
            refusal: refused.error.to_string(),
            refused: shown(&refused.member.bundle),
            ..BundleStanding::default()
        });
    }
    if let Some(membership) = this.follower.current() {
        certificates.extend(authorities("", CertificateRole::Federation, &membership.federation));
    }
    ListCertificatesResponse { certificates, bundles }
}

/// A leaf with the names of those above it.
fn leaf(
    cluster: &str,
    role: CertificateRole,
    chain: &[CertificateDer<'_>],
    renewal: Option<Timestamp>,
) -> Option<Certificate> {
    let facts = CertificateFacts::of(chain.first()?).ok()?;
    let above = chain.iter().skip(1).filter_map(|der| CertificateFacts::of(der).ok());
    let mut issuers = vec![facts.issuer.clone()];
    issuers.extend(above.filter(|facts| !facts.self_issued).map(|facts| facts.issuer));
    Some(message(cluster, role, (facts, issuers), renewal))
}

fn authorities(cluster: &str, role: CertificateRole, bundle: &TrustBundle) -> Vec<Certificate> {
    let facts = bundle.authorities.iter().filter_map(|der| CertificateFacts::of(der).ok());
    let issuers = |facts: &CertificateFacts| {
        if facts.self_issued { Vec::new() } else { vec![facts.issuer.clone()] }
    };
    facts
        .map(|facts| {
            let issuers = issuers(&facts);
            let mut shown = message(cluster, role, (facts, issuers), None);
            shown.id = bundle.trust_domain.to_string();
            shown
        })
        .collect()
}

fn message(
    cluster: &str,
    role: CertificateRole,
    (facts, issuers): (CertificateFacts, Vec<String>),
    renewal: Option<Timestamp>,
) -> Certificate {
    Certificate {
        cluster: cluster.to_owned(),
        role: role.into(),
        id: facts.uri.unwrap_or_default(),
        issuers,
        serial: facts.serial.to_string(),
        fingerprint: facts.fingerprint.to_string(),
        not_before: facts.validity.not_before.0,
        not_after: facts.validity.not_after.0,
        next_renewal: renewal.map_or(0, |at| at.0),
        subject: facts.subject,
    }
}
