//! Between the connections and the store: who asks is known here, faults strike here, and what was asked is written down.
//!
//! Owns the store's lock, the tokens, and the news that something has changed. Never reads a socket.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{sync::watch, task::JoinSet};

use super::{
    access::{MASTERS, User},
    exec::{Running, Runs},
    failure::Failure,
    fault::{Asked, How, Ledger, refusal},
    handle::Caller,
    request::Request,
    store::Store,
    watch::{News, Watch},
    write::Answer,
};

/// What all connections share.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// The newest revision.
    moved: watch::Sender<u64>,
    /// How often all watches were ended.
    cut: watch::Sender<u64>,
    by_roles: bool,
    /// How often a watch that wants bookmarks gets one.
    pub(super) bookmark_every: Duration,
}

/// What the lock of the desk guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) ledger: Ledger,
    pub(super) running: Running,
    /// The commands that run in pods.
    pub(super) commands: JoinSet<()>,
    tokens: BTreeMap<String, User>,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    Answered(Answer),
    Refused(Failure),
    Watching(Watch, News),
    /// Nobody will ever answer.
    Hanging,
}

/// Now, in RFC 3339 to the second.
pub(super) fn now() -> String {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    now.format(&Rfc3339).unwrap_or_default()
}

impl Desk {
    pub(super) fn new(store: Store, by_roles: bool, bookmark_every: Duration) -> Self {
        let moved = watch::Sender::new(store.revision());
        let state = State {
            store,
            ledger: Ledger::default(),
            running: Running::default(),
            commands: JoinSet::new(),
            tokens: BTreeMap::new(),
        };
        let state = Mutex::new(state);
        Self { state, moved, cut: watch::Sender::new(0), by_roles, bookmark_every }
    }

    /// What it guards. Whoever changes it says so with [`Desk::tell`].
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everybody know that the store has moved.
    pub(super) fn tell(&self) {
        let revision = self.state().store.revision();
        self.moved.send_replace(revision);
    }

    pub(super) fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    pub(super) fn cut(&self) -> watch::Receiver<u64> {
        self.cut.subscribe()
    }

    pub(super) fn cut_watches(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Makes a token stand for a user.
    pub(super) fn admit(&self, token: &str, name: &str, groups: &[&str]) {
        self.state().tokens.insert(token.to_owned(), User::named(name, groups));
    }

    /// Does what the request asks, as whom the token says.
    pub(super) fn ask(&self, request: &Request, token: Option<&str>) -> Outcome {
        let mut state = self.state();
        let before = state.store.revision();
        let user = match token {
            None => Some(User::anonymous()),
            Some(token) => state.tokens.get(token).cloned(),
        };
        let name = user.as_ref().map(|user| user.name.clone()).unwrap_or_default();
        let outcome = match state.ledger.strikes(request) {
            Some(How::Hang) => Outcome::Hanging,
            Some(How::Status(code, retry_after)) => Outcome::Refused(refusal(code, retry_after)),
            None => user.map_or_else(
                || Outcome::Refused(Failure::unauthorized()),
                |user| {
                    let known = token.is_some() || self.by_roles;
                    if known {
                        self.answer(&mut state.store, request, &user)
                    } else {
                        Outcome::Refused(Failure::unauthorized())
                    }
                },
            ),
        };
        let code = match &outcome {
            Outcome::Answered(answer) => answer.code,
            Outcome::Refused(failure) => failure.code,
            Outcome::Watching(..) => 200,
            Outcome::Hanging => 0,
        };
        state.ledger.record(Asked::of(request, &name, code));
        let after = state.store.revision();
        drop(state);
        if before != after {
            self.moved.send_replace(after);
        }
        outcome
    }

    fn answer(&self, store: &mut Store, request: &Request, user: &User) -> Outcome {
        if self.by_roles
            && let Err(failure) = store.authorize(user, request)
        {
            return Outcome::Refused(failure);
        }
        if request.verb == "watch"
            && let Some(target) = &request.target
        {
            let kind = store.kinds.served(&target.group, &target.version, &target.plural);
            let watch =
                kind.ok_or_else(|| store.nowhere(&target.group)).and_then(|kind| store.watch(kind, request, target));
            return watch.map_or_else(Outcome::Refused, |(watch, news)| Outcome::Watching(watch, news));
        }
        let now = now();
        let caller = Caller { user, by_roles: self.by_roles, now: &now };
        store.handle(request, caller).map_or_else(Outcome::Refused, Outcome::Answered)
    }

    /// What runs in the pod that a request is for, when who asks may start a command there.
    pub(super) fn exec(&self, request: &Request, token: Option<&str>) -> Result<Arc<Runs>, Failure> {
        let mut state = self.state();
        let user = token.and_then(|token| state.tokens.get(token).cloned());
        let created = Request { verb: "create".to_owned(), ..request.clone() };
        let name = user.as_ref().map(|user| user.name.clone()).unwrap_or_default();
        let found = user.ok_or_else(Failure::unauthorized).and_then(|user| {
            if self.by_roles {
                state.store.authorize(&user, &created)?;
            }
            let target = request.target.clone().unwrap_or_default();
            let running = state.running.of(&target.namespace, &target.name);
            running.ok_or_else(|| Failure::new(404, "NotFound", format!("pods {:?} not found", target.name)))
        });
        let code = found.as_ref().map_or_else(|failure| failure.code, |_| 101);
        state.ledger.record(Asked::of(&created, &name, code));
        found
    }

    /// What the test itself asks: always allowed, never struck, not written down.
    pub(super) fn own(
        &self,
        method: &http::Method,
        (path, query): (&str, &str),
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let mut request = Request::read(method, path, query);
        request.user_agent = "the-test/1".to_owned();
        request.body = body.map(Value::to_string).unwrap_or_default().into();
        let (user, now) = (User::named("the-test", &[MASTERS]), now());
        let caller = Caller { user: &user, by_roles: false, now: &now };
        let result = self.state().store.handle(&request, caller);
        self.tell();
        result.map(|answer| answer.body)
    }

    /// What a watch has not told yet.
    pub(super) fn news(self: &Arc<Self>, watch: &mut Watch) -> News {
        self.state().store.news(watch)
    }
}
