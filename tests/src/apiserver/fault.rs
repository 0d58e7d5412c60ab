//! What a test makes go wrong, and the account of what was asked.
//!
//! Owns the faults that are still to come, and the log of requests. Never answers.

use std::collections::VecDeque;

use serde_json::json;

use super::{failure::Failure, request::Request};

/// Requests that are remembered: more than any test makes.
const REMEMBERED: usize = 100_000;

/// How requests go wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    how: How,
    verb: String,
    resource: String,
    times: usize,
}

/// What happens to a request instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// It is refused.
    Status(u16, Option<u64>),
    /// It is never answered.
    Hang,
}

impl Fault {
    fn new(how: How) -> Self {
        Self { how, verb: String::new(), resource: String::new(), times: 1 }
    }

    /// This HTTP status: 410, 429, 500, 503 or 504.
    #[must_use]
    pub fn status(code: u16) -> Self {
        Self::new(How::Status(code, None))
    }

    /// 429, to come again after some seconds.
    #[must_use]
    pub fn throttled(retry_after: u64) -> Self {
        Self::new(How::Status(429, Some(retry_after)))
    }

    /// No answer, until the connection ends.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(How::Hang)
    }

    /// Only for this verb (get, list, watch, create, update, patch, delete).
    #[must_use]
    pub fn verb(mut self, verb: &str) -> Self {
        verb.clone_into(&mut self.verb);
        self
    }

    /// Only for this resource, as `services` or `leases.coordination.k8s.io`, with `/status` where that is meant.
    #[must_use]
    pub fn resource(mut self, resource: &str) -> Self {
        resource.clone_into(&mut self.resource);
        self
    }

    /// As many times; once when it is not said.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }
}

/// One request that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who: the name of the user.
    pub user: String,
    /// The verb of RBAC: get, list, watch, create, update, patch, delete, deletecollection.
    pub verb: String,
    /// The resource, as `services` or `serviceexports.multicluster.x-k8s.io/status`; a plain path as it is.
    pub resource: String,
    /// The namespace; empty where there is none.
    pub namespace: String,
    /// The name; empty where there is none.
    pub name: String,
    /// The HTTP status of the answer; 0 when it was never answered.
    pub code: u16,
}

impl Asked {
    /// Whether it would change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str())
            && !self.resource.contains(".authorization.k8s.io")
            || self.resource.contains("rbac.authorization.k8s.io") && self.verb != "get"
    }

    pub(super) fn of(request: &Request, user: &str, code: u16) -> Self {
        let target = request.target.clone().unwrap_or_default();
        let resource = request.target.as_ref().map_or_else(
            || request.path.clone(),
            |target| {
                if target.subresource.is_empty() {
                    target.resource()
                } else {
                    format!("{}/{}", target.resource(), target.subresource)
                }
            },
        );
        let (namespace, name) = (target.namespace, target.name);
        Self { user: user.to_owned(), verb: request.verb.clone(), resource, namespace, name, code }
    }
}

/// What is to go wrong, and what was asked.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    faults: Vec<Fault>,
    asked: VecDeque<Asked>,
}

impl Ledger {
    pub(super) fn expect(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn heal(&mut self) {
        self.faults.clear();
    }

    /// What goes wrong with this request; none when nothing does.
    pub(super) fn strikes(&mut self, request: &Request) -> Option<How> {
        let asked = Asked::of(request, "", 0);
        let fits = |fault: &Fault| {
            (fault.verb.is_empty() || fault.verb == asked.verb)
                && (fault.resource.is_empty() || fault.resource == asked.resource)
        };
        let at = self.faults.iter().position(fits)?;
        let fault = &mut self.faults[at];
        fault.times = fault.times.saturating_sub(1);
        let how = fault.how.clone();
        if fault.times == 0 {
            self.faults.remove(at);
        }
        Some(how)
    }

    pub(super) fn record(&mut self, asked: Asked) {
        self.asked.push_back(asked);
        if self.asked.len() > REMEMBERED {
            self.asked.pop_front();
        }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.iter().cloned().collect()
    }

    pub(super) fn forget(&mut self) {
        self.asked.clear();
    }
}

/// The refusal with this HTTP status.
pub(super) fn refusal(code: u16, retry_after: Option<u64>) -> Failure {
    let (reason, message) = match code {
        410 => ("Expired", "The resourceVersion for the provided watch is too old."),
        429 => ("TooManyRequests", "The server is currently unable to handle this request, please try again later."),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504 => ("Timeout", "Timeout: request did not complete within the allotted timeout"),
        _ => ("InternalError", "Internal error occurred: a fault of the test"),
    };
    let details = retry_after.map_or_else(|| json!({}), |seconds| json!({"retryAfterSeconds": seconds}));
    Failure { details, retry_after, ..Failure::new(code, reason, message) }
}
