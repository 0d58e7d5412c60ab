//! The requests of one HTTP connection that have been let through and have not ended.
//!
//! Owns the list, by which a connection is judged again when policies change. Never judges.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use gateway_core::policy::HttpRequest;

/// How many different requests are remembered; HTTP/2 allows 256 at a time, and one after the other they end.
const MAX_REQUESTS: usize = 1024;

/// Requests under way, by method and path.
#[derive(Debug, Default)]
pub struct Requests(Mutex<BTreeMap<(String, String), u32>>);

impl Requests {
    /// Lets a request through if `judge`, which asks the newest tables, does. The list is locked meanwhile: whoever judges
    /// it by newer tables finds the request in it, or `judge` has seen those tables.
    ///
    /// # Errors
    /// As `judge` says.
    pub fn admit<E>(&self, request: HttpRequest<'_>, judge: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut requests = self.locked();
        judge()?;
        let key = (request.method.to_owned(), request.path.to_owned());
        if requests.len() < MAX_REQUESTS || requests.contains_key(&key) {
            *requests.entry(key).or_default() += 1;
        }
        Ok(())
    }

    /// A request that was let through has ended.
    pub fn end(&self, request: HttpRequest<'_>) {
        let mut requests = self.locked();
        let key = (request.method.to_owned(), request.path.to_owned());
        if let Some(count) = requests.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                requests.remove(&key);
            }
        }
    }

    /// Whether any request under way is like that.
    pub fn any(&self, mut like: impl FnMut(HttpRequest<'_>) -> bool) -> bool {
        self.locked().keys().any(|(method, path)| like(HttpRequest { method, path }))
    }

    /// The list is whole whenever the lock is free.
    fn locked(&self) -> MutexGuard<'_, BTreeMap<(String, String), u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_under_way_until_each_of_its_kind_has_ended() {
        let requests = Requests::default();
        let request = HttpRequest { method: "GET", path: "/slow" };
        let slow = || requests.any(|request| request.path == "/slow");
        let let_through = || requests.admit(request, || Ok::<_, ()>(()));
        assert_eq!((let_through(), let_through()), (Ok(()), Ok(())));
        requests.end(request);
        assert!(slow());
        requests.end(request);
        assert!(!slow());
        requests.end(request);
        assert!(!slow());
    }

    #[test]
    fn a_request_is_not_under_way_when_it_is_refused_and_nobody_looks_while_it_is_judged() {
        let requests = Requests::default();
        let refused = requests.admit(HttpRequest { method: "GET", path: "/" }, || {
            assert!(requests.0.try_lock().is_err());
            Err("no")
        });
        assert_eq!(refused, Err("no"));
        assert!(!requests.any(|_| true));
    }
}
