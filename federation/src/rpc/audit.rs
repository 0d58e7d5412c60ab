//! The audit log as operators read it, and what strangers write into it.
//!
//! Owns reading the log from the disk in small parts, its export with a seal, and the entries of refused joins. Never
//! changes an entry.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError},
    time::Instant,
};

use federation_model::{
    audit::{Action, Actor, Entry, Head},
    names::ClusterName,
};
use federation_pki::{ca::Authority, export::Header};
use futures::{Stream, stream};
use proto::{
    convert::{ConvertError, member::Refusal},
    federation::v1::{ExportAuditResponse, ListAuditRequest, ListAuditResponse},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    Context,
    refuse::{invalid, status},
};
use crate::{
    refused_joins::{self, Untold},
    registry::Undecided,
    state::audit::{By, SERVICE},
    store::{Store, StoreError, Wanted},
};

/// Entries of one answer; some MiB.
const MAX_LISTED: usize = 10_000;
/// Entries of one message, and of one look into the store: about 100 KiB.
const PAGE: usize = 256;
/// Searches at a time: each may read the whole log.
pub(super) const MAX_SEARCHES: usize = 2;

type Messages<T> = Result<T, Status>;

/// The entries that are asked for.
pub(super) async fn list(
    context: &Context,
    request: ListAuditRequest,
) -> Result<impl Stream<Item = Messages<ListAuditResponse>> + Send + 'static, Status> {
    let wanted = wanted(request).map_err(|error| invalid(&error))?;
    let _permit =
        context.searches.acquire().await.map_err(|_| status(Refusal::Unavailable, "the service is stopping"))?;
    let found = read(context.registry.store(), move |store| store.find(&wanted)).await?;
    let pages: Vec<_> = found
        .chunks(PAGE)
        .map(|page| Ok(ListAuditResponse { entries: page.iter().map(Entry::to_line).collect() }))
        .collect();
    Ok(stream::iter(pages))
}

fn wanted(request: ListAuditRequest) -> Result<Wanted, ConvertError> {
    let ListAuditRequest { since, limit, action, subject } = request;
    let limit = usize::try_from(limit).unwrap_or(MAX_LISTED);
    let action = Some(action).filter(|action| !action.is_empty()).map(|action| action.parse());
    Ok(Wanted {
        since: Some(since).filter(|since| *since > 0),
        limit: if limit == 0 { MAX_LISTED } else { limit.min(MAX_LISTED) },
        action: action.transpose().map_err(|error| ConvertError::new("ListAuditRequest", "action", error))?,
        subject,
    })
}

/// The log up to now, from its header to its seal.
pub(super) fn export(context: &Context) -> impl Stream<Item = Messages<ExportAuditResponse>> + Send + use<> {
    let state = context.registry.state();
    let (trail, trust_domain) = (&state.audit, context.service.id.trust_domain().clone());
    let header = Header { store_id: trail.origin.to_string(), trust_domain, first: trail.first };
    let authority = context.service.authority();
    let export = Export { context: context.clone(), authority, header, next: None, head: trail.head };
    stream::unfold(Some(export), |export| async {
        let mut export = export?;
        match export.part().await {
            Ok((lines, more)) => Some((Ok(ExportAuditResponse { lines }), more.then_some(export))),
            Err(status) => Some((Err(status), None)),
        }
    })
}

struct Export {
    context: Context,
    /// Header and seal are of one authority, even when another is taken into use meanwhile.
    authority: Arc<Authority>,
    header: Header,
    /// The next entry; nothing before the header.
    next: Option<u64>,
    /// The end of what is exported.
    head: Head,
}

impl Export {
    /// The next lines, and whether there are more.
    async fn part(&mut self) -> Result<(Vec<String>, bool), Status> {
        let authority = &self.authority;
        let Some(next) = self.next else {
            self.next = Some(self.header.first);
            return Ok((vec![self.header.line(authority)], true));
        };
        if next > self.head.index {
            let seal = self.header.seal_line(authority, self.head, self.context.clock.now());
            let seal =
                seal.map_err(|error| status(Refusal::Unavailable, format!("the log cannot be sealed: {error}")))?;
            return Ok((vec![seal], false));
        }
        let count = PAGE.min(usize::try_from(self.head.index - next).unwrap_or(PAGE).saturating_add(1));
        let page = read(self.context.registry.store(), move |store| store.entries(next, count)).await?;
        if page.first().is_none_or(|entry| entry.index != next) {
            let text = "the oldest entries were dropped while they were exported: export again";
            return Err(status(Refusal::Unavailable, text));
        }
        self.next = page.last().map(|entry| entry.index + 1);
        Ok((page.iter().map(Entry::to_line).collect(), true))
    }
}

/// Reads where a slow disk delays nobody.
async fn read<T, F>(store: &Arc<Store>, look: F) -> Result<T, Status>
where
    T: Send + 'static,
    F: FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
{
    let store = Arc::clone(store);
    match tokio::task::spawn_blocking(move || look(&store)).await {
        Ok(found) => found.map_err(|error| {
            tracing::error!(%error, "the audit log cannot be read");
            status(Refusal::Unavailable, error.to_string())
        }),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl Context {
    /// Tells the log that a join was refused, unless it was told enough of this address.
    pub(super) async fn tell_refused(&self, from: IpAddr, cluster: Option<&ClusterName>, why: String) {
        if !self.refused_joins().refused(from, Instant::now()) {
            return;
        }
        let by = By { actor: Actor::Stranger(from), from: Some(from), at: self.clock.now() };
        self.tell(by, cluster.map_or("-", ClusterName::as_str), why).await;
    }

    /// Tells the log of the refused joins that were only counted, from time to time.
    pub(crate) async fn keep_told(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(refused_joins::PAUSE) => {}
            }
            self.tell_untold(Instant::now()).await;
        }
    }

    async fn tell_untold(&self, now: Instant) {
        let untold = self.refused_joins().poll_untold(now);
        for Untold { from, count } in untold {
            let at = self.clock.now();
            let (by, subject, whose) = match from {
                Some(from) => (By { actor: Actor::Stranger(from), from: Some(from), at }, "-", "of this address"),
                None => (By::service(at), SERVICE, "of many addresses"),
            };
            self.tell(by, subject, format!("{count} more {whose}, which have no entry of their own")).await;
        }
    }

    async fn tell(&self, by: By, subject: &str, detail: String) {
        let write = by.entry(Action::JoinRefused, subject, &detail);
        let told: Result<_, Undecided<std::convert::Infallible>> =
            self.registry.decide(by, move |_| Ok((vec![write], ()))).await;
        // The refusal holds all the same; the owner of the store has said what is wrong with it.
        if told.is_err() {
            tracing::warn!(detail, "a refused join is not in the audit log");
        }
    }

    /// Holders of the lock only count, so a poisoned one is still whole.
    fn refused_joins(&self) -> std::sync::MutexGuard<'_, refused_joins::RefusedJoins> {
        self.refused_joins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use federation_pki::{ca::SvidRequest, identity::LiveIdentity, trust::TrustStore, validity::Validity};
    use tokio::{sync::watch, task::JoinSet};

    use super::*;
    use crate::{
        clock::Clock,
        issuer::InUse,
        metrics::Metrics,
        presence::Presence,
        registry::registry,
        rpc::{ServiceFacts, attempts, changes, rewinds, searches},
        state::{
            State,
            tests::{NOW, RULES},
        },
    };

    fn context(dir: &std::path::Path, tasks: &mut JoinSet<Result<(), StoreError>>) -> Context {
        let domain = federation_model::spiffe::TrustDomain::new("federation.internal").unwrap();
        let validity = Validity::starting(NOW, Duration::from_secs(60));
        let sealing = Arc::new(Authority::generate(&domain, "federation", validity).unwrap());
        let id = crate::authority::service_id(&domain);
        let svid = sealing.issue(&SvidRequest { id, names: Vec::new(), validity }).unwrap();
        let state = State::new("store-1", sealing.bundle(1));
        let store = Store::open(dir).unwrap();
        store.create(&state).unwrap();
        let (registry, owner) = registry(store, state, Arc::new(TrustStore::new()), Metrics::default());
        let stop = CancellationToken::new();
        tasks.spawn(owner.run(stop.clone()));
        Context {
            registry,
            presence: Presence::new(Metrics::default()),
            trust: Arc::new(TrustStore::new()),
            attempts: attempts(10),
            changes: changes(),
            rewinds: rewinds(),
            refused_joins: Arc::new(Mutex::default()),
            searches: searches(),
            metrics: Metrics::default(),
            clock: Clock::new(|| NOW.into()),
            tokens: RULES,
            service: Arc::new(ServiceFacts {
                in_use: watch::channel(InUse { authority: Arc::clone(&sealing), renewal: NOW }).1,
                identity: Arc::new(LiveIdentity::new(svid)),
                require_approval: false,
                id: crate::authority::service_id(&domain),
                names: Vec::new(),
                listen: ([127, 0, 0, 1], 1).into(),
                external: None,
            }),
            foreign: crate::foreign::Foreign::none(),
            stop,
        }
    }

    #[tokio::test]
    async fn refused_joins_that_were_only_counted_are_told_later() {
        let (dir, mut tasks) = (tempfile::tempdir().unwrap(), JoinSet::new());
        let context = context(dir.path(), &mut tasks);
        let from = "192.0.2.7".parse().unwrap();
        for _ in 0..3 {
            context.tell_refused(from, Some(&"west".parse().unwrap()), "token-unknown".to_owned()).await;
        }
        context.tell_untold(Instant::now()).await;
        context.tell_untold(Instant::now() + refused_joins::PAUSE).await;
        let entries = context.registry.store().entries(1, 9).unwrap();
        let told: Vec<_> = entries
            .iter()
            .map(|Entry { event, .. }| format!("{} {} {}", event.actor, event.subject, event.detail))
            .collect();
        assert_eq!(
            told,
            [
                "stranger:192.0.2.7 west token-unknown",
                "stranger:192.0.2.7 - 2 more of this address, which have no entry of their own"
            ]
        );
    }
}
