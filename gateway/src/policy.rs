//! What the policies of this cluster say of a connection to one of its services, told and counted.
//!
//! Owns the way from a call to its record: the rule that decided, and what policies in AUDIT would have refused. Never
//! decides: the tables do, the same for connections that begin and for those that live.

use federation_model::outcome::Outcome;
use gateway_core::{
    ledger::Audited,
    policy::{Aspect, Call, Judgement, Rule, Verdict},
    tables::Tables,
};

use crate::{history::Step, path::DataPath, record::Record};

/// What the tables say of a connection as a whole.
pub fn judge(tables: &Tables, call: &Call<'_>) -> Judgement {
    tables.policies().judge(call, Aspect::Bytes)
}

/// Judges a connection that begins.
///
/// # Errors
/// When a policy refuses it: the outcome, and the reason with rule and caller.
pub fn admit(path: &DataPath, tables: &Tables, call: &Call<'_>, record: &mut Record) -> Result<(), (Outcome, String)> {
    let Judgement { verdict, audited } = judge(tables, call);
    for rule in audited {
        path.audited.count(counted(call, &rule));
        record.tell(Step::Audited(rule));
    }
    match verdict {
        Verdict::Allowed(basis) => {
            record.tell(Step::Authorized(basis));
            Ok(())
        }
        Verdict::Refused(refusal) => {
            record.refused_by(refusal.by.to_string(), refusal.remedy());
            Err((Outcome::Denied, refusal.to_string()))
        }
    }
}

fn counted(call: &Call<'_>, rule: &Rule) -> Audited {
    Audited {
        policy: (*rule.policy).clone(),
        principal: call.caller.principal().cloned(),
        assurance: call.caller.assurance(),
        cluster: call.source_cluster.clone(),
        service: call.service.clone(),
        port: call.port,
    }
}
