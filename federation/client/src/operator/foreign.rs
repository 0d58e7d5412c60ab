//! The calls of operators about foreign trust domains.
//!
//! Owns their conversion. Never reads a bundle endpoint: the federation service does.

use std::time::Duration;

use federation_model::{bundle::TrustBundle, foreign::BundleSource, spiffe::TrustDomain, time::Timestamp};
use proto::{convert::ConvertError, federation::v1 as wire};

use super::{OperatorClient, OperatorError};
use crate::call::answer;

/// A foreign trust domain, and how reading its bundle goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignStatus {
    /// Where its bundle is read from.
    pub source: BundleSource,
    /// The last good bundle; none before the first.
    pub bundle: Option<TrustBundle>,
    /// Whether its publisher numbers its bundles.
    pub sequenced: bool,
    /// When it was added.
    pub added_at: Timestamp,
    /// When the bundle changed last.
    pub changed_at: Option<Timestamp>,
    /// When it was read last since the service started; nothing when it was not.
    pub last_success: Option<Timestamp>,
    /// Failures in a row.
    pub failures: u32,
    /// The last of them; empty when there is none.
    pub last_error: String,
    /// How often it is read.
    pub interval: Duration,
}

impl TryFrom<wire::ForeignStatus> for ForeignStatus {
    type Error = ConvertError;
    fn try_from(status: wire::ForeignStatus) -> Result<Self, ConvertError> {
        let moment = |seconds: u64| (seconds != 0).then_some(Timestamp(seconds));
        let source = status.source.ok_or_else(|| ConvertError::new("ForeignStatus", "source", "it is missing"))?;
        Ok(Self {
            source: source.try_into()?,
            bundle: status.bundle.map(TryInto::try_into).transpose()?,
            sequenced: status.sequenced,
            added_at: Timestamp(status.added_at),
            changed_at: moment(status.changed_at),
            last_success: moment(status.last_success),
            failures: status.failures,
            last_error: status.last_error,
            interval: Duration::from_secs(status.interval_seconds),
        })
    }
}

impl OperatorClient {
    /// Has the bundle of a foreign trust domain read from now on. `bootstrap` is what an `https_spiffe` endpoint is believed
    /// by at first.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn add_foreign(
        &mut self,
        source: &BundleSource,
        bootstrap: Option<&TrustBundle>,
    ) -> Result<ForeignStatus, OperatorError> {
        let request = wire::AddForeignRequest { source: Some(source.into()), bootstrap: bootstrap.map(Into::into) };
        let response = answer(self.0.add_foreign(request)).await?;
        let missing = || ConvertError::new("AddForeignResponse", "foreign", "it is missing");
        Ok(response.foreign.ok_or_else(missing)?.try_into()?)
    }

    /// Forgets a foreign trust domain; gives the revision without it.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn remove_foreign(&mut self, trust_domain: &TrustDomain) -> Result<u64, OperatorError> {
        let request = wire::RemoveForeignRequest { trust_domain: trust_domain.to_string() };
        Ok(answer(self.0.remove_foreign(request)).await?.revision)
    }

    /// Every foreign trust domain.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn list_foreign(&mut self) -> Result<Vec<ForeignStatus>, OperatorError> {
        statuses(answer(self.0.list_foreign(wire::ListForeignRequest {})).await?.foreign)
    }

    /// Has the bundle of one foreign trust domain, or of all, read now; gives what came of it.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn refresh_foreign(
        &mut self,
        trust_domain: Option<&TrustDomain>,
    ) -> Result<Vec<ForeignStatus>, OperatorError> {
        let trust_domain = trust_domain.map(ToString::to_string).unwrap_or_default();
        statuses(answer(self.0.refresh_foreign(wire::RefreshForeignRequest { trust_domain })).await?.foreign)
    }
}

fn statuses(foreign: Vec<wire::ForeignStatus>) -> Result<Vec<ForeignStatus>, OperatorError> {
    Ok(foreign.into_iter().map(TryInto::try_into).collect::<Result<_, ConvertError>>()?)
}
