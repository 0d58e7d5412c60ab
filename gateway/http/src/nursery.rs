//! The futures of one connection beside the connection itself: requests, the connection to the endpoint, tunnels.
//!
//! Owns them, and polls them inside the task that serves the connection: when that ends, they end. Never starts a task.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{Stream as _, stream::FuturesUnordered};

type Child = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the futures of a connection are put. There are at most a few for each of the requests that the connection may
/// have at a time, and hyper limits those.
#[derive(Clone)]
pub(crate) struct Nursery {
    /// Nothing once the connection has ended: children hold the nursery, and must not be held by it.
    arrived: Arc<Mutex<Option<Vec<Child>>>>,
}

impl std::fmt::Debug for Nursery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nursery").finish_non_exhaustive()
    }
}

impl Nursery {
    pub(crate) fn open() -> Self {
        Self { arrived: Arc::new(Mutex::new(Some(Vec::new()))) }
    }

    /// Takes a future in. After the end of the connection it is dropped.
    pub(crate) fn take_in(&self, child: impl Future<Output = ()> + Send + 'static) {
        let child: Child = Box::pin(child);
        if let Some(arrived) = &mut *self.lock() {
            arrived.push(child);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Child>>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Nursery {
    fn execute(&self, child: F) {
        self.take_in(child);
    }
}

/// Who polls what is in a nursery, and closes it in the end.
pub(crate) struct Keeper {
    nursery: Nursery,
    children: FuturesUnordered<Child>,
}

impl Keeper {
    pub(crate) fn of(nursery: &Nursery) -> Self {
        Self { nursery: nursery.clone(), children: FuturesUnordered::new() }
    }

    /// Polls every child that can go on, those that arrive meanwhile included.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(arrived) = &mut *self.nursery.lock() {
                self.children.extend(arrived.drain(..));
            }
            match Pin::new(&mut self.children).poll_next(cx) {
                Poll::Ready(Some(())) => {}
                Poll::Pending | Poll::Ready(None) => break,
            }
        }
        if self.nursery.lock().as_ref().is_some_and(|arrived| !arrived.is_empty()) {
            cx.waker().wake_by_ref();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Dropped outside the lock: what a child drops may want to put something in.
        let arrived = self.nursery.lock().take();
        drop(arrived);
    }
}
