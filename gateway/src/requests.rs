//! The requests of one HTTP connection that have been let through and have not ended, and what refused the last one of others.
//!
//! Owns the list, by which a connection is judged again when policies change. Never judges.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use gateway_core::policy::{HttpRequest, Ruling};

/// How many different requests are remembered; HTTP/2 allows 256 at a time, and one after the other they end.
const MAX_REQUESTS: usize = 1024;

/// Requests under way, by method and path.
#[derive(Debug, Default)]
pub struct Requests(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    under_way: BTreeMap<(String, String), u32>,
    refused_by: Option<Ruling>,
}

impl Requests {
    /// A request is let through, unless it is refused at once.
    pub fn begin(&self, request: HttpRequest<'_>) {
        let requests = &mut self.locked().under_way;
        let key = (request.method.to_owned(), request.path.to_owned());
        if requests.len() < MAX_REQUESTS || requests.contains_key(&key) {
            *requests.entry(key).or_default() += 1;
        }
    }

    /// A request that began is not let through.
    pub fn refuse(&self, request: HttpRequest<'_>, by: Ruling) {
        self.end(request);
        self.locked().refused_by = Some(by);
    }

    /// What refused the last request that was.
    #[must_use]
    pub fn refused_by(&self) -> Option<Ruling> {
        self.locked().refused_by.clone()
    }

    /// A request that was let through has ended.
    pub fn end(&self, request: HttpRequest<'_>) {
        let requests = &mut self.locked().under_way;
        let key = (request.method.to_owned(), request.path.to_owned());
        if let Some(count) = requests.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                requests.remove(&key);
            }
        }
    }

    /// What is found of a request under way, of the first of which anything is.
    pub fn find<T>(&self, mut like: impl FnMut(HttpRequest<'_>) -> Option<T>) -> Option<T> {
        self.locked().under_way.keys().find_map(|(method, path)| like(HttpRequest { method, path }))
    }

    /// It is whole whenever the lock is free.
    fn locked(&self) -> MutexGuard<'_, State> {
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
        let slow = || requests.find(|request| (request.path == "/slow").then_some(())).is_some();
        requests.begin(request);
        requests.begin(request);
        requests.end(request);
        assert!(slow());
        requests.end(request);
        assert!(!slow());
        requests.end(request);
        assert!(!slow());
    }

    #[test]
    fn a_request_that_is_refused_is_not_under_way_and_what_refused_it_is_known() {
        let requests = Requests::default();
        let request = HttpRequest { method: "GET", path: "/" };
        requests.begin(request);
        let ruling = Ruling { rule: "shop/nobody".to_owned(), remedy: "ask".to_owned() };
        requests.refuse(request, ruling.clone());
        assert_eq!(requests.refused_by(), Some(ruling));
        assert!(requests.find(|_| Some(())).is_none());
    }
}
