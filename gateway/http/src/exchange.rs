//! One request and its response, as recorded.
//!
//! Owns the record and that there is exactly one for each request: a record that is dropped records that. Never decides
//! how a request ends, except that one dropped on the way was given up by the client, or ended with its connection.

use std::{sync::Arc, time::Duration};

use federation_model::{outcome::Outcome, trace::TraceContext};
use http::{Method, StatusCode, uri::PathAndQuery};
use tokio::time::Instant;

use crate::{body::Upload, destination::Observe, limits, wire::Activity};

/// One request and its response.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The method.
    pub method: Method,
    /// The target; absent for a plain `CONNECT`.
    pub target: Option<PathAndQuery>,
    /// The trace the request belongs to: the client's, else that of the connection.
    pub trace: TraceContext,
    /// The status the client was answered with; absent when it was not answered.
    pub status: Option<StatusCode>,
    /// Bytes of the request's body, after an upgrade those from the client.
    pub sent: u64,
    /// Bytes of the response's body, after an upgrade those from the endpoint.
    pub received: u64,
    /// From the request's head to the end of the response.
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the judge let it through.
    pub admitted: bool,
    /// The rule that refused it.
    pub rule: Option<String>,
    /// What to do about that rule.
    pub remedy: Option<String>,
}

impl Exchange {
    /// The path of the target without its query; empty when there is none.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.as_ref().map_or("", PathAndQuery::path)
    }
}

/// Where the exchanges of one connection are recorded.
#[derive(Debug)]
pub(crate) struct Desk<O> {
    pub(crate) activity: Arc<Activity>,
    pub(crate) observe: O,
}

/// An exchange that has not ended.
#[derive(Debug)]
pub(crate) struct Open<O: Observe> {
    pub(crate) exchange: Exchange,
    /// Set once somebody knows how it ended.
    ended: bool,
    /// Whether the judge refused it.
    pub(crate) refused: bool,
    upload: Option<Arc<Upload>>,
    started: Instant,
    desk: Arc<Desk<O>>,
}

impl<O: Observe> Open<O> {
    pub(crate) fn begin(desk: &Arc<Desk<O>>, request: &http::request::Parts, trace: TraceContext) -> Self {
        desk.activity.begins();
        let exchange = Exchange {
            method: request.method.clone(),
            target: request.uri.path_and_query().cloned(),
            trace,
            status: None,
            sent: 0,
            received: 0,
            took: Duration::ZERO,
            outcome: Outcome::ClientReset,
            admitted: false,
            rule: None,
            remedy: None,
        };
        Self { exchange, ended: false, refused: false, upload: None, started: Instant::now(), desk: Arc::clone(desk) }
    }

    /// From here on the bytes of the request's body are counted by `upload`.
    pub(crate) fn uploads(&mut self, upload: Arc<Upload>) {
        self.upload = Some(upload);
    }

    /// Whether the request's body broke off, and if so whether it is malformed.
    pub(crate) fn upload_fault(&self) -> Option<bool> {
        self.upload.as_ref().filter(|upload| upload.broke()).map(|upload| upload.malformed())
    }

    /// Whether the request's body broke off.
    pub(crate) fn upload_broke(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.broke())
    }

    /// The end is known; what is recorded later is how long the rest took.
    pub(crate) fn ends(&mut self, outcome: Outcome) {
        if !self.ended {
            self.ended = true;
            if outcome == Outcome::BadRequest {
                self.desk.activity.is_malformed();
            }
            self.exchange.outcome = outcome;
        }
    }

    /// The endpoint broke off: the connection may end with that.
    pub(crate) fn breaks(&mut self) {
        self.ends(Outcome::DestinationReset);
        self.desk.activity.endpoint_broke();
    }
}

impl<O: Observe> Drop for Open<O> {
    fn drop(&mut self) {
        let activity = &self.desk.activity;
        if !self.ended {
            self.exchange.outcome = activity.ending().unwrap_or(Outcome::ClientReset);
        }
        self.exchange.took = self.started.elapsed();
        if let Some(upload) = &self.upload {
            self.exchange.sent = self.exchange.sent.saturating_add(upload.bytes());
        }
        let at_once = !self.ended && self.exchange.status.is_none() && self.exchange.took < limits::AT_ONCE;
        activity.ends(at_once, self.refused);
        self.desk.observe.ended(&self.exchange);
    }
}
