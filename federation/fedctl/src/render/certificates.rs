//! Certificates: whose, by whom, until when.

use federation_model::time::Timestamp;
use federation_pki::certificate::CertificateFacts;
use proto::gateway::v1::{BundleStanding, Certificate, CertificateRole, ListCertificatesResponse};
use serde::Serialize;

use super::{Look, Mood, mood_cell, or_dash, some, text_of};
use crate::clock;

/// What is left of a certificate's life when a person should look: authorities are replaced in weeks, leaves in hours.
const SOON: u64 = 30 * 86_400;

/// Every certificate that those who were asked know of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct CertificatesView {
    pub(crate) certificates: Vec<CertificateView>,
    pub(crate) bundles: Vec<BundleView>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CertificateView {
    /// Nothing for the federation service.
    pub(crate) cluster: Option<String>,
    pub(crate) role: &'static str,
    pub(crate) id: String,
    pub(crate) subject: Option<String>,
    pub(crate) issuers: Vec<String>,
    pub(crate) serial: String,
    pub(crate) fingerprint: String,
    pub(crate) not_before: Option<String>,
    pub(crate) not_after: Option<String>,
    pub(crate) next_renewal: Option<String>,
    #[serde(skip)]
    times: [Option<Timestamp>; 3],
}

/// A member's bundle, as the gateway believes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BundleView {
    pub(crate) cluster: String,
    pub(crate) trust_domain: String,
    pub(crate) sequence: u64,
    pub(crate) authorities: Vec<String>,
    pub(crate) refusal: Option<String>,
    pub(crate) refused: Vec<String>,
}

impl From<ListCertificatesResponse> for CertificatesView {
    fn from(response: ListCertificatesResponse) -> Self {
        Self {
            certificates: response.certificates.into_iter().map(CertificateView::from).collect(),
            bundles: response.bundles.into_iter().map(BundleView::from).collect(),
        }
    }
}

impl From<Certificate> for CertificateView {
    fn from(certificate: Certificate) -> Self {
        let role = match certificate.role() {
            CertificateRole::Gateway => "gateway",
            CertificateRole::Peer => "peer",
            CertificateRole::Authority => "authority",
            CertificateRole::Federation => "federation",
            CertificateRole::Unspecified => "unknown",
        };
        let Certificate { not_before, not_after, next_renewal, .. } = certificate;
        let times = [not_before, not_after, next_renewal].map(clock::moment);
        let [not_before, not_after, next_renewal] = times.map(|time| time.and_then(clock::date));
        Self {
            cluster: some(certificate.cluster),
            role,
            id: certificate.id,
            subject: some(certificate.subject),
            issuers: certificate.issuers,
            serial: certificate.serial,
            fingerprint: certificate.fingerprint,
            not_before,
            not_after,
            next_renewal,
            times,
        }
    }
}

impl CertificateView {
    /// A certificate that was shown as it is, with those above it.
    pub(super) fn of(role: &'static str, chain: &[CertificateFacts], renewal: Option<Timestamp>) -> Option<Self> {
        let (facts, above) = chain.split_first()?;
        let issuer = Some(facts.issuer.clone()).filter(|_| !facts.self_issued);
        let further = above.iter().filter(|facts| !facts.self_issued).map(|facts| facts.issuer.clone());
        let times = [Some(facts.validity.not_before), Some(facts.validity.not_after), renewal];
        let [not_before, not_after, next_renewal] = times.map(|time| time.and_then(clock::date));
        Some(Self {
            cluster: None,
            role,
            id: facts.uri.clone().unwrap_or_default(),
            subject: some(facts.subject.clone()),
            issuers: issuer.into_iter().chain(further).collect(),
            serial: facts.serial.to_string(),
            fingerprint: facts.fingerprint.to_string(),
            not_before,
            not_after,
            next_renewal,
            times,
        })
    }
}

impl From<BundleStanding> for BundleView {
    fn from(bundle: BundleStanding) -> Self {
        let BundleStanding { cluster, trust_domain, sequence, authorities, refusal, refused } = bundle;
        Self { cluster, trust_domain, sequence, authorities, refusal: some(refusal), refused }
    }
}

impl CertificateView {
    /// How the end of its life is.
    fn mood(&self, look: Look) -> Mood {
        let [not_before, not_after, _] = self.times;
        let Some(not_after) = not_after else { return Mood::Bad };
        let left = not_after.since(look.now).as_secs();
        let life = not_after.since(not_before.unwrap_or_default()).as_secs();
        match self.role {
            _ if left == 0 => Mood::Bad,
            "authority" | "federation" if left < SOON.min(life / 4) => Mood::Doubtful,
            "gateway" | "peer" | "service" | "operator" if left < SOON.min(life / 4) => Mood::Doubtful,
            _ => Mood::Good,
        }
    }

    fn issued_by(&self) -> String {
        if self.issuers.is_empty() { "itself".to_owned() } else { self.issuers.join(" < ") }
    }
}

impl CertificatesView {
    /// Adds what another one knows of, but for what is there.
    pub(crate) fn extend(&mut self, more: impl IntoIterator<Item = CertificateView>) {
        for certificate in more {
            if self.certificates.iter().all(|held| held.fingerprint != certificate.fingerprint) {
                self.certificates.push(certificate);
            }
        }
    }

    /// Whether nothing has ended and nothing is refused.
    pub(crate) fn is_well(&self, look: Look) -> bool {
        let ended = self.certificates.iter().any(|certificate| certificate.mood(look) == Mood::Bad);
        !ended && self.bundles.iter().all(|bundle| bundle.refusal.is_none())
    }

    pub(crate) fn text(&self, look: Look) -> String {
        let mut table = look.table(&["CLUSTER", "ROLE", "ID", "EXPIRES", "RENEWAL", "ISSUED BY", "FINGERPRINT"]);
        for certificate in &self.certificates {
            let [_, not_after, renewal] = certificate.times;
            table.add_row([
                or_dash(certificate.cluster.as_deref().unwrap_or_default()).into(),
                certificate.role.into(),
                certificate.id.as_str().into(),
                mood_cell(clock::away(look.now, not_after), certificate.mood(look)),
                clock::away(look.now, renewal).into(),
                certificate.issued_by().into(),
                certificate.fingerprint.as_str().into(),
            ]);
        }
        let mut text = text_of(table);
        for bundle in &self.bundles {
            let Some(refusal) = &bundle.refusal else { continue };
            text.push_str(&format!("\n{}: not believed: {refusal}\n", bundle.cluster));
            for known in &bundle.authorities {
                text.push_str(&format!("  known    {known}\n"));
            }
            for offered in &bundle.refused {
                text.push_str(&format!("  offered  {offered}\n"));
            }
        }
        text
    }
}
