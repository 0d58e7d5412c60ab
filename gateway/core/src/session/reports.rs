//! What each end tells the other of the imports it has made of the other's exports.
//!
//! Owns what was said and what was heard in this session: a message holds what is different from those before it, which the
//! order of the stream makes whole. So a report costs what changed, one message is small beside a catalog, and no more than
//! one waits to be sent. Never judges a report: the owner of all of them does.

use std::sync::Arc;

use federation_model::{
    catalog::MAX_SERVICES,
    names::ServiceKey,
    report::{ImportReport, ImportState},
};
use proto::{convert::report::standing_message, tunnel::v1 as wire};

use super::{SessionError, SessionEvent};

/// The most entries of one message: about 140 KiB with the longest names there are.
pub const MAX_REPORTED: usize = 1000;

/// Both directions of one session.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// What is to be said; nothing while it is not known here.
    local: Option<Arc<ImportReport>>,
    /// What was said.
    told: ImportReport,
    /// Whether all of `local` was said.
    settled: bool,
    heard: Arc<ImportReport>,
}

impl Reports {
    pub(super) fn handle_local(&mut self, report: Arc<ImportReport>) {
        self.settled = self.told == *report;
        self.local = Some(report);
    }

    pub(super) fn poll_transmit(&mut self) -> Option<wire::ImportReport> {
        let local = self.local.as_ref().filter(|_| !self.settled)?;
        let changed = |(service, state): &(&ServiceKey, &ImportState)| self.told.get(*service) != Some(*state);
        let standings: Vec<(ServiceKey, ImportState)> =
            local.iter().filter(changed).take(MAX_REPORTED).map(|(service, state)| (service.clone(), *state)).collect();
        let gone = self.told.keys().filter(|service| !local.contains_key(*service));
        let withdrawn: Vec<ServiceKey> = gone.take(MAX_REPORTED - standings.len()).cloned().collect();
        let message = wire::ImportReport {
            standings: standings.iter().map(|(service, state)| standing_message(service, *state)).collect(),
            withdrawn: withdrawn.iter().map(Into::into).collect(),
        };
        self.settled = standings.len() + withdrawn.len() < MAX_REPORTED;
        self.told.retain(|service, _| withdrawn.binary_search(service).is_err());
        self.told.extend(standings);
        (!message.standings.is_empty() || !message.withdrawn.is_empty()).then_some(message)
    }

    /// What the peer says by now.
    pub(super) fn handle_report(&mut self, report: wire::ImportReport) -> Result<SessionEvent, SessionError> {
        let heard = Arc::make_mut(&mut self.heard);
        for service in report.withdrawn {
            let service = ServiceKey::try_from(service).map_err(SessionError::BadReport)?;
            heard.remove(&service);
        }
        for standing in report.standings {
            let (service, state) = standing.try_into().map_err(SessionError::BadReport)?;
            heard.insert(service, state);
        }
        if heard.len() > MAX_SERVICES {
            return Err(SessionError::TooManyReported(heard.len()));
        }
        Ok(SessionEvent::ImportReport(Arc::clone(&self.heard)))
    }
}
