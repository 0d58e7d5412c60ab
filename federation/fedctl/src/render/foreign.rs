//! Trust domains outside the cluster set.

use federation_client::operator::ForeignStatus;
use federation_model::{finding::Finding, time::Timestamp};
use serde::Serialize;

use super::{Look, Mood, mood_cell, or_dash, some, text_of};
use crate::clock;

/// One foreign trust domain, and how reading its bundle goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ForeignView {
    pub(crate) trust_domain: String,
    pub(crate) state: &'static str,
    pub(crate) url: String,
    pub(crate) profile: &'static str,
    pub(crate) endpoint_id: Option<String>,
    /// Nothing when its publisher counts nothing, or there is no bundle yet.
    pub(crate) sequence: Option<u64>,
    pub(crate) authorities: Vec<String>,
    pub(crate) added_at: Option<String>,
    pub(crate) changed_at: Option<String>,
    pub(crate) last_success: Option<String>,
    pub(crate) failures: u32,
    pub(crate) last_error: Option<String>,
    pub(crate) interval_seconds: u64,
    #[serde(skip)]
    mood: Mood,
    /// When it was read last, and when it changed last.
    #[serde(skip)]
    times: [Option<Timestamp>; 2],
}

/// How a trust domain is, in a word.
fn standing(status: &ForeignStatus) -> (&'static str, Mood) {
    match &status.bundle {
        None if status.failures > 0 => ("unread", Mood::Bad),
        None => ("pending", Mood::Doubtful),
        Some(_) if status.failures > 0 => ("stale", Mood::Doubtful),
        Some(bundle) if bundle.authorities.is_empty() => ("revoked", Mood::Doubtful),
        Some(_) if status.last_success.is_none() => ("pending", Mood::Doubtful),
        Some(_) => ("fresh", Mood::Good),
    }
}

impl From<ForeignStatus> for ForeignView {
    fn from(status: ForeignStatus) -> Self {
        let (state, mood) = standing(&status);
        let authorities = status.bundle.iter().flat_map(|bundle| bundle.fingerprints());
        Self {
            state,
            mood,
            url: status.source.url.to_string(),
            profile: status.source.profile.label(),
            endpoint_id: status.source.profile.endpoint_id().map(ToString::to_string),
            sequence: status.bundle.as_ref().filter(|_| status.sequenced).map(|bundle| bundle.sequence),
            authorities: authorities.map(|fingerprint| fingerprint.to_string()).collect(),
            added_at: clock::date(status.added_at),
            changed_at: status.changed_at.and_then(clock::date),
            last_success: status.last_success.and_then(clock::date),
            failures: status.failures,
            last_error: some(status.last_error),
            interval_seconds: status.interval.as_secs(),
            times: [status.last_success, status.changed_at],
            trust_domain: status.source.trust_domain.to_string(),
        }
    }
}

impl ForeignView {
    /// Whether its bundle is what its publisher says now.
    pub(crate) fn finding(&self, look: Look) -> Finding {
        let check = format!("foreign {}", self.trust_domain);
        let error = self.last_error.as_deref().unwrap_or_default();
        let again = format!("fedctl trust foreign refresh {}", self.trust_domain);
        let [read, _] = self.times;
        match self.state {
            "fresh" => {
                let sequence = self.sequence.map_or_else(|| "without a".to_owned(), |sequence| sequence.to_string());
                let authorities = super::count(self.authorities.len(), "authority", "authorities");
                let ago = clock::ago(look.now, read);
                Finding::ok(&check, format!("{authorities}, sequence {sequence}, read {ago} ago"))
            }
            "revoked" => Finding::warning(
                &check,
                "its publisher revoked every authority, so nothing of it is believed",
                format!("ask its publisher; fedctl trust foreign remove {} if it is gone", self.trust_domain),
            ),
            "pending" => Finding::warning(&check, "its bundle was not read yet", again),
            "unread" => Finding::failed(&check, format!("its bundle was never read: {error}"), again),
            _ => Finding::warning(
                &check,
                format!("{} failures in a row, the last good bundle stays: {error}", self.failures),
                again,
            ),
        }
    }
}

/// The trust domains, one a line, with the errors below.
pub(crate) fn table(all: &[ForeignView], look: Look) -> String {
    if all.is_empty() {
        return "No bundle of a trust domain outside the cluster set is read. Next: fedctl trust foreign add\n"
            .to_owned();
    }
    let mut table =
        look.table(&["FOREIGN", "STATE", "SEQUENCE", "AUTHORITIES", "READ", "CHANGED", "EVERY", "PROFILE", "URL"]);
    for view in all {
        let [read, changed] = view.times.map(|time| clock::ago(look.now, time));
        let sequence = view.sequence.map(|sequence| sequence.to_string()).unwrap_or_default();
        table.add_row([
            view.trust_domain.as_str().into(),
            mood_cell(view.state, view.mood),
            or_dash(&sequence).into(),
            view.authorities.len().into(),
            read.into(),
            changed.into(),
            clock::span(std::time::Duration::from_secs(view.interval_seconds)).into(),
            view.profile.into(),
            view.url.as_str().into(),
        ]);
    }
    let failing = all.iter().filter_map(|view| Some((view, view.last_error.as_deref()?)));
    let told = failing.map(|(view, error)| format!("{}: {error}\n", view.trust_domain));
    format!("{}{}", text_of(table), told.collect::<String>())
}
