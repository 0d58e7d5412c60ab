//! What the policies of this cluster say of a call to one of its services, told and counted.
//!
//! Owns the way from a judgement to its record: the rule that decided, and what policies in AUDIT would have refused. Never
//! decides: the tables do.

use federation_model::{caller::Caller, export::Deliver, names::ClusterName, outcome::Outcome};
use gateway_core::{
    ledger::Audited,
    policy::{Aspect, Call, HttpRequest, Refusal, Rule, Ruling, Verdict},
    tables::Tables,
};

use crate::{history::Step, path::DataPath, record::Record};

/// What of a call to this port is judged when it begins.
#[must_use]
pub fn aspect(tables: &Tables, call: &Call<'_>) -> Aspect<'static> {
    match tables.delivery(call.service, call.port) {
        Some(Deliver::Http) => Aspect::HttpConnection,
        Some(Deliver::Plain | Deliver::Passthrough | Deliver::ProxyV2 | Deliver::Tls(_)) | None => Aspect::Bytes,
    }
}

/// How a connection is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It passes.
    Passes,
    /// It is to be told, request by request and in the words of HTTP, that nothing of it passes.
    ToBeTold,
}

/// Judges a connection that begins.
///
/// # Errors
/// When a policy refuses it: the outcome, and the reason with rule and caller.
pub fn admit(
    path: &DataPath,
    tables: &Tables,
    call: &Call<'_>,
    record: &mut Record,
) -> Result<Admitted, (Outcome, String)> {
    let aspect = aspect(tables, call);
    let judgement = tables.policies().judge(call, aspect);
    // What a policy would refuse of an HTTP connection is counted by its requests.
    if matches!(aspect, Aspect::Bytes) {
        count(path, call, &judgement.audited);
    }
    for rule in judgement.audited {
        record.tell(Step::Audited(rule));
    }
    match judgement.verdict {
        Verdict::Allowed(basis) => {
            record.tell(Step::Authorized(basis));
            Ok(Admitted::Passes)
        }
        Verdict::Refused(refusal) => {
            record.tell(Step::Refused(refusal.clone()));
            record.refused_by(Ruling::from(&*refusal));
            match aspect {
                Aspect::HttpConnection | Aspect::HttpRequest(_) => Ok(Admitted::ToBeTold),
                Aspect::Bytes => Err((Outcome::Denied, refusal.to_string())),
            }
        }
    }
}

/// Judges one request of a connection that is delivered as HTTP.
///
/// # Errors
/// When a policy refuses it.
pub fn rule_on(
    path: &DataPath,
    tables: &Tables,
    call: &Call<'_>,
    request: HttpRequest<'_>,
) -> Result<(), Box<Refusal>> {
    let judgement = tables.policies().judge(call, Aspect::HttpRequest(request));
    count(path, call, &judgement.audited);
    match judgement.verdict {
        Verdict::Allowed(_) => Ok(()),
        Verdict::Refused(refusal) => Err(refusal),
    }
}

/// What a refused caller is told, here or in another cluster: not the rule, which is for those who may read the policies. The
/// gateway of its cluster gets the name of the rule beside this, for its operators.
#[must_use]
pub fn told(cluster: &ClusterName, caller: &Caller) -> String {
    match caller.principal() {
        Some(id) => format!("the policies of cluster {cluster} refuse this call of {id}"),
        None => format!("the policies of cluster {cluster} refuse this call of a caller that is not known"),
    }
}

fn count(path: &DataPath, call: &Call<'_>, audited: &[Rule]) {
    for rule in audited {
        path.audited.count(Audited {
            policy: (*rule.policy).clone(),
            principal: call.caller.principal().cloned(),
            assurance: call.caller.assurance(),
            cluster: call.source_cluster.clone(),
            service: call.service.clone(),
            port: call.port,
        });
    }
}
