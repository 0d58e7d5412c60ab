//! The calls of operators about foreign trust domains.
//!
//! Owns converting them. Their callers are verified already.

use federation_model::{bundle::TrustBundle, spiffe::TrustDomain};
use futures::future::join_all;
use proto::{
    convert::{ConvertError, member::Refusal},
    federation::v1 as wire,
};
use tonic::Status;

use super::{
    Context,
    refuse::{invalid, status},
};
use crate::{
    foreign::interval,
    registry::Undecided,
    state::{
        ForeignRecord,
        audit::By,
        foreign::{ForeignRefusal, NewForeign},
    },
};

/// Adds a trust domain, or replaces what was said of it.
pub(super) async fn add(
    context: &Context,
    by: By,
    request: wire::AddForeignRequest,
) -> Result<wire::AddForeignResponse, Status> {
    let new = new_foreign(request).map_err(|error| invalid(&error))?;
    let now = context.clock.now();
    let decision = context.registry.decide(by, move |state| state.add_foreign(new, now));
    let (record, _) = decision.await.map_err(refused)?;
    Ok(wire::AddForeignResponse { foreign: Some(status_of(context, &record)) })
}

/// Forgets a trust domain.
pub(super) async fn remove(
    context: &Context,
    by: By,
    request: wire::RemoveForeignRequest,
) -> Result<wire::RemoveForeignResponse, Status> {
    let removed = trust_domain("RemoveForeignRequest", &request.trust_domain)?;
    let decision = context.registry.decide(by, move |state| state.remove_foreign(&removed).map(|writes| (writes, ())));
    let ((), revision) = decision.await.map_err(refused)?;
    Ok(wire::RemoveForeignResponse { revision })
}

/// All of them.
pub(super) fn list(context: &Context) -> wire::ListForeignResponse {
    let state = context.registry.state();
    wire::ListForeignResponse { foreign: state.foreign.values().map(|record| status_of(context, record)).collect() }
}

/// Has one or all of them read now, and waits for the end of it.
pub(super) async fn refresh(
    context: &Context,
    request: wire::RefreshForeignRequest,
) -> Result<wire::RefreshForeignResponse, Status> {
    let state = context.registry.state();
    let asked: Vec<TrustDomain> = match request.trust_domain.as_str() {
        "" => state.foreign.keys().cloned().collect(),
        name => {
            let trust_domain = trust_domain("RefreshForeignRequest", name)?;
            if !state.foreign.contains_key(&trust_domain) {
                return Err(refused(Undecided::Refused(ForeignRefusal::Unknown(trust_domain))));
            }
            vec![trust_domain]
        }
    };
    join_all(asked.iter().cloned().map(|trust_domain| context.foreign.refresh(trust_domain))).await;
    let state = context.registry.state();
    let records = asked.iter().filter_map(|trust_domain| state.foreign.get(trust_domain));
    Ok(wire::RefreshForeignResponse { foreign: records.map(|record| status_of(context, record)).collect() })
}

fn new_foreign(request: wire::AddForeignRequest) -> Result<NewForeign, ConvertError> {
    let source = request.source.ok_or_else(|| ConvertError::new("AddForeignRequest", "source", "it is missing"))?;
    let bootstrap = request.bootstrap.map(TrustBundle::try_from).transpose()?;
    Ok(NewForeign { source: source.try_into()?, bootstrap })
}

fn trust_domain(message: &'static str, text: &str) -> Result<TrustDomain, Status> {
    TrustDomain::new(text).map_err(|error| invalid(&ConvertError::new(message, "trust_domain", error)))
}

fn refused(undecided: Undecided<ForeignRefusal>) -> Status {
    match undecided {
        Undecided::Refused(refusal) => status(refusal.refusal(), refusal.to_string()),
        Undecided::Unavailable(reason) => status(Refusal::Unavailable, reason),
    }
}

fn status_of(context: &Context, record: &ForeignRecord) -> wire::ForeignStatus {
    let standing = context.foreign.standing(&record.source.trust_domain);
    wire::ForeignStatus {
        source: Some((&record.source).into()),
        bundle: record.bundle.as_ref().map(Into::into),
        sequenced: record.sequenced,
        added_at: record.added_at.0,
        changed_at: record.changed_at.map_or(0, |at| at.0),
        last_success: standing.last_success.map_or(0, |at| at.0),
        failures: standing.failures,
        last_error: standing.last_error,
        interval_seconds: interval(record).as_secs(),
    }
}
