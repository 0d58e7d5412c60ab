//! The loop of one connection: hyper's side of the client, everything in the nursery, the cut, the drain and the limits.
//!
//! Owns the order in which they are looked at, and which of them ends the connection. Never reads a byte.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use federation_model::outcome::Outcome;
use tokio::time::Sleep;

use crate::{
    limits::HttpLimits,
    nursery::{Keeper, Nursery},
    wire::{Activity, Overdue},
};

/// What ended a connection, when that was not the connection itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The gateway, with this outcome.
    Cut(Outcome),
    /// A limit on time.
    Overdue(Overdue),
    /// The client's requests were mostly taken back.
    Flood,
}

impl Stop {
    /// What a connection that ends so is recorded as.
    pub(crate) const fn outcome(self) -> Outcome {
        match self {
            Self::Cut(outcome) => outcome,
            Self::Overdue(Overdue::Idle) => Outcome::IdleTimeout,
            Self::Overdue(Overdue::Head) | Self::Flood => Outcome::BadRequest,
        }
    }
}

/// Looks at what may end a connection from outside.
pub(crate) struct Watch<'a, F, G> {
    cut: Pin<&'a mut F>,
    drain: Option<Pin<&'a mut G>>,
    sleep: Pin<Box<Sleep>>,
    pub(crate) activity: Arc<Activity>,
    limits: HttpLimits,
}

impl<'a, F: Future<Output = Outcome>, G: Future<Output = ()>> Watch<'a, F, G> {
    pub(crate) fn new(cut: Pin<&'a mut F>, drain: Pin<&'a mut G>, of: (&Arc<Activity>, HttpLimits)) -> Self {
        let (activity, limits) = of;
        let sleep = Box::pin(tokio::time::sleep_until(activity.deadline(limits).0));
        Self { cut, drain: Some(drain), sleep, activity: Arc::clone(activity), limits }
    }

    /// Whether the connection is to end now.
    pub(crate) fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        if let Poll::Ready(outcome) = self.cut.as_mut().poll(cx) {
            return Poll::Ready(Stop::Cut(outcome));
        }
        if self.activity.is_flood() {
            return Poll::Ready(Stop::Flood);
        }
        loop {
            let (deadline, what) = self.activity.deadline(self.limits);
            // The idle limit moves away all the time: it is looked at when the time of an earlier one has come.
            if deadline < self.sleep.deadline() {
                self.sleep.as_mut().reset(deadline);
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if deadline <= self.sleep.deadline() {
                return Poll::Ready(Stop::Overdue(what));
            }
            self.sleep.as_mut().reset(deadline);
        }
    }

    /// Ready once, when the connection is to end with the requests that are under way.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.drain.as_mut().map(|drain| drain.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => {
                self.drain = None;
                Poll::Ready(())
            }
            Some(Poll::Pending) | None => Poll::Pending,
        }
    }
}

/// hyper's side of a client, of either version.
pub(crate) trait Engine: Future<Output = hyper::Result<()>> + Unpin {
    /// Takes no more requests, finishes those it has, and ends.
    fn drain(&mut self);
}

/// Drives a connection until it ends or is stopped.
pub(crate) async fn drive<E, F, G>(
    engine: &mut E,
    nursery: &Nursery,
    watch: &mut Watch<'_, F, G>,
) -> Result<hyper::Result<()>, Stop>
where
    E: Engine,
    F: Future<Output = Outcome>,
    G: Future<Output = ()>,
{
    let mut keeper = Keeper::of(nursery);
    let mut ended = None;
    std::future::poll_fn(|cx| {
        let stop = |stop: Stop, activity: &Activity| {
            activity.end_with(stop.outcome());
            Poll::Ready(Err(stop))
        };
        if let Poll::Ready(reason) = watch.poll_stop(cx) {
            return stop(reason, &watch.activity);
        }
        if watch.poll_drain(cx).is_ready() && ended.is_none() {
            engine.drain();
        }
        if ended.is_none()
            && let Poll::Ready(result) = Pin::new(&mut *engine).poll(cx)
        {
            ended = Some(result);
        }
        if ended.is_none() || watch.activity.left_http() {
            keeper.poll(cx);
        }
        let over = !watch.activity.left_http() || watch.activity.ending().is_some();
        match ended.take_if(|_| over) {
            Some(result) => Poll::Ready(Ok(result)),
            None => match watch.poll_stop(cx) {
                Poll::Ready(reason) => stop(reason, &watch.activity),
                Poll::Pending => Poll::Pending,
            },
        }
    })
    .await
}
