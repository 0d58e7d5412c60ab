//! The resumable stream of changes of the set.
//!
//! Owns reconnecting: from the last revision, to any address, with growing random pauses, for ever. Passes nothing on of a
//! service that went back to an older state of the same store. Never applies a change, but for the authorities of the service
//! itself, which the next connection needs.

use std::{collections::BTreeSet, fmt, pin::Pin, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use federation_model::{addr::GatewayAddr, mark::Mark, member::Change, names::ClusterName};
use futures::{Stream, StreamExt as _, stream};
use proto::federation::v1 as wire;
use tokio::{sync::watch, time::sleep};
use tonic::Streaming;

use crate::{
    call::{CallError, answer},
    membership::{MemberClient, MemberError},
};

/// The first pause; a service that restarts is back within a second or two.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause: a thousand gateways then knock about thirty times a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How much of the set's history is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// Which store the revision belongs to; empty when nothing is known.
    pub store_id: String,
    /// The last revision seen; 0 when nothing is known.
    pub revision: u64,
    /// What that revision is recognised by, when the service tells it.
    pub mark: Option<Mark>,
    /// The stores that were followed before this one, oldest first: a service that is recovered goes on under another id, so
    /// that one of these comes from a copy of before the recovery. At most [`MAX_FORMER`].
    pub former: Vec<String>,
}

/// Stores that are remembered: each is a recovery by an operator.
pub const MAX_FORMER: usize = 16;

impl Position {
    /// What a service says that has come to this position by itself, and not to `self`: an older revision of the same store, or
    /// another one of the same number. A service without an error in it refuses a watch then; one that is older, or lies, may
    /// offer its state all the same.
    #[must_use]
    pub fn contradicted_by(&self, offered: &Self) -> bool {
        let another = matches!((self.mark, offered.mark), (Some(held), Some(offered)) if held != offered);
        let older = offered.revision < self.revision || (offered.revision == self.revision && another);
        let same = self.store_id == offered.store_id;
        (same && older) || (!same && self.former.contains(&offered.store_id))
    }

    /// What is known after `offered` was taken in.
    fn followed_by(&self, offered: Self) -> Self {
        let mut former = self.former.clone();
        if !self.store_id.is_empty() && self.store_id != offered.store_id {
            former.push(self.store_id.clone());
            former.drain(..former.len().saturating_sub(MAX_FORMER));
        }
        Self { former, ..offered }
    }
}

/// One message of the watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchUpdate {
    /// What is known once the changes are applied.
    pub position: Position,
    /// Forget every member and foreign trust domain before applying the changes; never a revocation.
    pub reset: bool,
    /// What changed; may be empty.
    pub changes: Vec<Change>,
    /// Whether this cluster waits for approval: it is told of no other member then.
    pub pending: bool,
}

impl WatchUpdate {
    /// The members it tells of; nothing when it tells of all there are.
    #[must_use]
    pub fn names(&self) -> Option<BTreeSet<ClusterName>> {
        let named = self.changes.iter().filter_map(|change| match change {
            Change::Upsert(member) => Some(member.cluster.clone()),
            Change::Removed(cluster) => Some(cluster.clone()),
            Change::Federation(_)
            | Change::Foreign(_)
            | Change::ForeignRemoved(_)
            | Change::Revoked(_)
            | Change::Reinstated(_) => None,
        });
        (!self.reset).then(|| named.collect())
    }
}

/// What a watch tells.
#[derive(Debug)]
pub enum WatchEvent {
    /// The service answers.
    Connected {
        /// Where.
        address: GatewayAddr,
    },
    /// Something changed, or nothing since the last time.
    Update(WatchUpdate),
    /// The connection is lost or was not made.
    Disconnected {
        /// Why, and what to do.
        error: MemberError,
        /// The pause before the next attempt.
        retry_in: Duration,
    },
}

/// A watch that never ends; dropping it ends it.
pub struct Watch {
    events: Pin<Box<dyn Stream<Item = WatchEvent> + Send>>,
    acknowledged: watch::Sender<u64>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("acknowledged", &*self.acknowledged.borrow()).finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn new(client: MemberClient, since: Position) -> Self {
        let (acknowledged, acknowledgements) = watch::channel(since.revision);
        let machine =
            Machine { client, position: since, acknowledgements, attempts: 0, pauses: pauses(), state: State::Dial };
        let events = Box::pin(stream::unfold(machine, |machine| async { Some(machine.step().await) }));
        Self { events, acknowledged }
    }

    /// The next event. Cancel safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> WatchEvent {
        match self.events.next().await {
            Some(event) => event,
            // The machine always steps on.
            None => std::future::pending().await,
        }
    }

    /// Tells the service that everything up to `revision` is applied and kept.
    pub fn acknowledge(&self, revision: u64) {
        self.acknowledged.send_replace(revision);
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .build()
}

struct Machine {
    client: MemberClient,
    position: Position,
    acknowledgements: watch::Receiver<u64>,
    /// Counts connections, so that each starts at another address.
    attempts: usize,
    pauses: ExponentialBackoff,
    state: State,
}

enum State {
    Dial,
    Pause(Duration),
    Open(Box<Streaming<wire::WatchResponse>>),
}

impl Machine {
    async fn step(mut self) -> (WatchEvent, Self) {
        loop {
            match &mut self.state {
                State::Pause(pause) => {
                    sleep(*pause).await;
                    self.state = State::Dial;
                }
                State::Dial => match self.open().await {
                    Ok((address, responses)) => {
                        self.state = State::Open(Box::new(responses));
                        return (WatchEvent::Connected { address }, self);
                    }
                    Err(error) => return self.lost(error),
                },
                State::Open(responses) => {
                    let error = match responses.message().await {
                        Ok(Some(response)) => match self.update(response) {
                            Ok(update) => return (WatchEvent::Update(update), self),
                            Err(error) => error,
                        },
                        Ok(None) => CallError::Lost("the service ended the watch".to_owned()).into(),
                        Err(status) => CallError::from(status).into(),
                    };
                    return self.lost(error);
                }
            }
        }
    }

    async fn open(&mut self) -> Result<(GatewayAddr, Streaming<wire::WatchResponse>), MemberError> {
        let first = self.attempts;
        self.attempts = self.attempts.wrapping_add(1);
        let (mut client, address) = self.client.connect(first).await?;
        let opening = wire::WatchRequest {
            revision: self.position.revision,
            store_id: self.position.store_id.clone(),
            mark: self.position.mark.map(|mark| mark.as_bytes().to_vec().into()).unwrap_or_default(),
        };
        let mut acknowledgements = self.acknowledgements.clone();
        acknowledgements.mark_unchanged();
        let later = stream::unfold(acknowledgements, |mut receiver| async {
            receiver.changed().await.ok()?;
            let revision = *receiver.borrow_and_update();
            Some((wire::WatchRequest { revision, ..wire::WatchRequest::default() }, receiver))
        });
        let requests = stream::once(std::future::ready(opening)).chain(later);
        let responses = answer(client.watch(requests)).await?;
        Ok((address, responses))
    }

    fn update(&mut self, response: wire::WatchResponse) -> Result<WatchUpdate, MemberError> {
        let mark = Mark::from_bytes(&response.mark);
        let offered = Position { store_id: response.store_id, revision: response.revision, mark, former: Vec::new() };
        if self.position.contradicted_by(&offered) {
            let (seen, at) = (self.position.revision, offered.revision);
            let same = self.position.store_id == offered.store_id;
            return Err(if same { MemberError::Rewound { seen, at } } else { MemberError::Unrecovered { seen } });
        }
        let changes: Vec<Change> =
            response.changes.into_iter().map(TryInto::try_into).collect::<Result<_, _>>().map_err(CallError::from)?;
        for change in &changes {
            if let Change::Federation(bundle) = change {
                self.trust(bundle.clone());
            }
        }
        self.position = self.position.followed_by(offered);
        self.pauses = pauses();
        Ok(WatchUpdate { position: self.position.clone(), reset: response.reset, changes, pending: response.pending })
    }

    /// Believes the authorities the service announces, which it did over a connection verified by the former ones.
    fn trust(&self, bundle: federation_model::bundle::TrustBundle) {
        let former = self.client.bundle();
        let of_another_domain = former.as_ref().is_some_and(|held| held.trust_domain != bundle.trust_domain);
        if of_another_domain {
            tracing::error!(trust_domain = %bundle.trust_domain, "the federation service announced authorities of another trust domain; they are not used");
            return;
        }
        if let Err(error) = self.client.trust(bundle) {
            tracing::error!(%error, "the federation service announced authorities that cannot be used; the former ones stay");
            // The former ones were usable when they were set.
            former.map(|former| self.client.trust(former));
        }
    }

    fn lost(mut self, error: MemberError) -> (WatchEvent, Self) {
        let retry_in = self.pauses.next().unwrap_or(LONGEST_PAUSE);
        self.state = State::Pause(retry_in);
        (WatchEvent::Disconnected { error, retry_in }, self)
    }
}

#[cfg(test)]
mod tests {
    use federation_model::audit::Head;

    use super::*;

    fn at(store_id: &str, revision: u64, mark: Option<&str>) -> Position {
        let mark = mark.map(|log| Mark::of(&Head::start(log)));
        Position { store_id: store_id.to_owned(), revision, mark, former: Vec::new() }
    }

    #[test]
    fn a_store_that_was_followed_before_a_recovery_contradicts_until_there_is_another_one() {
        let recovered = at("a", 7, Some("a")).followed_by(at("b", 7, Some("b")));
        assert_eq!(recovered.former, ["a"]);
        for offered in [at("a", 5, None), at("a", 7, Some("a")), at("a", 9, Some("c"))] {
            assert!(recovered.contradicted_by(&offered), "{offered:?}");
        }
        let again = recovered.followed_by(at("c", 5, None));
        assert!(!recovered.contradicted_by(&again) && again.contradicted_by(&at("b", 8, None)));
        let many = (0..2 * MAX_FORMER).fold(again, |held, n| held.followed_by(at(&format!("s{n}"), 1, None)));
        assert_eq!(many.former.len(), MAX_FORMER);
        assert_eq!(Position::default().followed_by(at("a", 1, None)).former, [""; 0]);
    }

    #[test]
    fn only_an_older_state_of_the_same_store_or_another_one_of_the_same_number_contradicts() {
        let held = at("s", 5, Some("a"));
        for offered in [at("s", 4, Some("a")), at("s", 0, None), at("s", 5, Some("b"))] {
            assert!(held.contradicted_by(&offered), "{offered:?}");
        }
        let others = [at("s", 5, Some("a")), at("s", 5, None), at("s", 6, Some("b")), at("t", 1, Some("b"))];
        for offered in others {
            assert!(!held.contradicted_by(&offered), "{offered:?}");
        }
        assert!(!at("s", 5, None).contradicted_by(&at("s", 5, Some("b"))), "no mark is held");
        assert!(!Position::default().contradicted_by(&held));
    }
}
