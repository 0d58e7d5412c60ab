//! One watch, kept up for as long as the gateway runs.
//!
//! Owns when it is tried again and what is said of it meanwhile: a kind that does not exist is looked for in the next version, a
//! resource version that is too old starts a new list, everything else waits a little longer each time. Never decides what is in
//! force.

use std::{pin::pin, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::{Stream, StreamExt};
use kube::{
    Api, Client, ResourceExt,
    core::Status,
    runtime::watcher::{self, watcher},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::{
    lean::{Lean, LeanEndpointSlice, LeanNamespace, LeanPod, LeanService, Whole},
    standing::Standing,
    store::Event,
    watched::{WatchId, Watched},
};
use crate::call::CallError;

/// How long one watch request lasts, in seconds: a path that has gone dead is noticed five seconds after.
const WATCH_SECONDS: u32 = 60;
/// The most objects of one answer: with pods of 6 KiB, 3 MiB.
const PAGE: u32 = 500;
/// The first pause after a failure, and the longest. A random part is added, so that gateways do not come back all at once.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// The longest pause before a list that is read because the last one is too old: the API server is there.
const ANEW: Duration = Duration::from_secs(1);
/// The longest pause that an API server may ask for.
const MAX_ASKED: Duration = Duration::from_secs(60);
/// How often a kind that does not exist is looked for.
const LOOK: Duration = Duration::from_secs(10);
/// How long a kind must be gone before its objects are: an API server that starts may not know its custom resources yet.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// A watch that was tried again and has not failed for this long is up: while nothing changes, nothing arrives.
const PRESUMED_LIVE: Duration = Duration::from_secs(8);

/// What an API server says that never was where a watch wants to go on.
const FROM_THE_FUTURE: &str = "Too large resource version";

/// What a watch tells.
#[derive(Debug)]
pub(super) enum Told {
    Event(Event),
    Standing(Standing),
}

/// One watch.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) id: WatchId,
    /// The address of the API server, for people.
    pub(super) server: String,
    pub(super) sender: mpsc::Sender<(WatchId, Told)>,
}

/// Nobody listens any more.
#[derive(Debug)]
struct Closed;

/// What is to be done after a failure.
#[derive(Debug, PartialEq, Eq)]
enum After {
    /// The same watch goes on.
    Resume,
    /// A new list is read.
    Anew,
    /// The next version is tried.
    NextVersion,
}

impl Watch {
    /// Watches until nobody listens.
    pub(super) async fn run(self, client: Client) {
        let Closed = match self.id.watched {
            Watched::Namespaces => self.follow::<LeanNamespace>(client).await,
            Watched::Services => self.follow::<LeanService>(client).await,
            Watched::EndpointSlices => self.follow::<LeanEndpointSlice>(client).await,
            Watched::Pods => self.follow::<LeanPod>(client).await,
            Watched::ServiceExports | Watched::AuthorizationPolicies | Watched::PeerAuthentications => {
                self.follow::<Whole>(client).await
            }
        };
    }

    async fn follow<L: Lean>(self, client: Client) -> Closed {
        let mut missing_since = None;
        let mut pauses = Pauses::new();
        loop {
            for version in self.id.watched.versions() {
                let resource = self.id.watched.api_resource(version);
                let api = match &self.id.namespace {
                    Some(namespace) => Api::<L>::namespaced_with(client.clone(), namespace.as_str(), &resource),
                    None => Api::<L>::all_with(client.clone(), &resource),
                };
                loop {
                    let events =
                        watcher(api.clone(), watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE));
                    let mut stretch = Stretch { watch: &self, listing: true, troubled: false, arrived: false };
                    match stretch.run(events, &mut pauses).await {
                        Ok(After::NextVersion) => break,
                        Ok(After::Resume | After::Anew) => {}
                        Err(closed) => return closed,
                    }
                    if stretch.arrived {
                        missing_since = None;
                    }
                }
            }
            if let Err(closed) = self.look_again(&mut missing_since).await {
                return closed;
            }
        }
    }

    /// No version of the kind exists.
    async fn look_again(&self, missing_since: &mut Option<Instant>) -> Result<(), Closed> {
        let versions = self.id.watched.versions().join(" and ");
        self.tell(Told::Standing(Standing::Missing { wanted: format!("{} ({versions})", self.id.watched) })).await?;
        let since = *missing_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= GONE_AFTER {
            self.tell(Told::Event(Event::Absent)).await?;
        }
        sleep(LOOK).await;
        if self.sender.is_closed() { Err(Closed) } else { Ok(()) }
    }

    async fn tell(&self, told: Told) -> Result<(), Closed> {
        self.sender.send((self.id.clone(), told)).await.map_err(|_| Closed)
    }
}

/// A watch in one version, from its list until another is needed.
struct Stretch<'a> {
    watch: &'a Watch,
    listing: bool,
    troubled: bool,
    arrived: bool,
}

impl Stretch<'_> {
    async fn run<L: Lean>(
        &mut self,
        events: impl Stream<Item = watcher::Result<watcher::Event<L>>>,
        pauses: &mut Pauses,
    ) -> Result<After, Closed> {
        let mut events = pin!(events);
        loop {
            let next = if self.troubled && !self.listing {
                let Ok(next) = timeout(PRESUMED_LIVE, events.next()).await else {
                    pauses.reset();
                    self.is_live().await?;
                    continue;
                };
                next
            } else {
                events.next().await
            };
            match next {
                Some(Ok(event)) => {
                    if !matches!(event, watcher::Event::Init) {
                        pauses.reset();
                    }
                    self.arrived(event).await?;
                }
                Some(Err(error)) => {
                    let (standing, after) = judge(&error, self.watch);
                    if after == After::NextVersion {
                        return Ok(after);
                    }
                    let mut pause = pauses.next();
                    match standing {
                        Some(standing) => {
                            self.troubled = true;
                            self.watch.tell(Told::Standing(standing)).await?;
                        }
                        None => pause = pause.min(ANEW),
                    }
                    sleep(asked_for(&error).map_or(pause, |asked| asked.max(pause))).await;
                    if after == After::Anew {
                        return Ok(after);
                    }
                }
                None => return Ok(After::Anew),
            }
        }
    }

    async fn is_live(&mut self) -> Result<(), Closed> {
        self.troubled = false;
        self.watch.tell(Told::Standing(Standing::Live)).await
    }

    async fn arrived<L: Lean>(&mut self, event: watcher::Event<L>) -> Result<(), Closed> {
        let kind = self.watch.id.watched.kind();
        let name = |object: &L| (object.namespace().unwrap_or_default(), object.name_any());
        let event = match event {
            watcher::Event::Init => {
                self.listing = true;
                Event::Restarted
            }
            watcher::Event::InitApply(object) => Event::Listed(name(&object), object.read(kind)),
            watcher::Event::InitDone => {
                self.listing = false;
                self.arrived = true;
                self.watch.tell(Told::Event(Event::Complete)).await?;
                return self.is_live().await;
            }
            watcher::Event::Apply(object) => Event::Applied(name(&object), object.read(kind)),
            watcher::Event::Delete(object) => Event::Deleted(name(&object)),
        };
        if self.troubled && !self.listing {
            self.is_live().await?;
        }
        self.watch.tell(Told::Event(event)).await
    }
}

/// The pauses after failures that follow each other.
#[derive(Debug)]
struct Pauses(ExponentialBackoff);

impl Pauses {
    fn new() -> Self {
        let (first, longest) = PAUSES;
        let growing = ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest);
        Self(growing.with_jitter().without_max_times().build())
    }

    fn next(&mut self) -> Duration {
        self.0.next().unwrap_or(PAUSES.1)
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}

/// What a failure means for the watch, and how it stands then; as before when the failure is none.
fn judge(error: &watcher::Error, watch: &Watch) -> (Option<Standing>, After) {
    let (call, starts) = match error {
        watcher::Error::InitialListFailed(error) => (CallError::of(error, &watch.server), true),
        watcher::Error::WatchStartFailed(error) => (CallError::of(error, &watch.server), true),
        watcher::Error::WatchFailed(error) => (CallError::of(error, &watch.server), false),
        watcher::Error::WatchError(status) => (CallError::of_status(status, &watch.server), false),
        watcher::Error::NoResourceVersion => {
            let reason = "an object has no metadata.resourceVersion".to_owned();
            (CallError::Unreadable { server: watch.server.clone(), reason }, false)
        }
    };
    if starts && watch.id.watched.is_custom() && matches!(call, CallError::NotFound { .. }) {
        return (None, After::NextVersion);
    }
    if let CallError::Forbidden { reason } = &call {
        return (Some(Standing::Refused { check: can_i(reason, &watch.id) }), After::Resume);
    }
    let reason = call.to_string();
    if matches!(call, CallError::Expired { .. }) || reason.contains(FROM_THE_FUTURE) {
        tracing::debug!(watch = %watch.id, reason, "everything is listed anew");
        // The library does so by itself when a running watch is told, but not when a watch does not start for it.
        return (None, if starts { After::Anew } else { After::Resume });
    }
    (Some(Standing::Failing { reason }), After::Resume)
}

/// How long the API server asks to be left alone.
fn asked_for(error: &watcher::Error) -> Option<Duration> {
    let status: &Status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status,
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => return None,
    };
    let seconds = status.details.as_ref()?.retry_after_seconds;
    Some(Duration::from_secs(seconds.into()).min(MAX_ASKED))
}

/// The command that tells whether a right is there, from how its lack was told.
fn can_i(refusal: &str, id: &WatchId) -> String {
    let quoted = |text: &str| text.split('"').next().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    let user = refusal.split_once("User \"").and_then(|(_, rest)| quoted(rest));
    let verb = refusal.split_once(" cannot ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or("list");
    let scope = match (&id.namespace, id.watched) {
        (Some(namespace), _) => format!(" --namespace={namespace}"),
        (None, Watched::Namespaces) => String::new(),
        (None, _) => " --all-namespaces".to_owned(),
    };
    let user = user.map(|user| format!(" --as={user}")).unwrap_or_default();
    format!("kubectl auth can-i {verb} {}{scope}{user}", id.watched)
}

#[cfg(test)]
mod tests;
