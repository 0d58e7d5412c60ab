//! What the tables in force decide about a call that nobody makes.
//!
//! Owns the reading of the question, and the words of the answer. Never decides.

use federation_model::{
    addr::Port,
    caller::{Assurance, Caller},
    names::{ClusterName, ServiceKey},
    spiffe::parse_workload_id,
};
use gateway_core::{
    policy::{Aspect, Call, Considered, Entry, Explanation, HttpRequest},
    tables::Tables,
};
use proto::gateway::v1::{ConsideredPolicy, TestPolicyRequest, TestPolicyResponse, TestedCall};
use tonic::Status;

use crate::policy::aspect;

/// Explains what would become of the call, once for each port that is meant.
pub(super) fn test(request: &TestPolicyRequest, tables: &Tables) -> Result<TestPolicyResponse, Status> {
    let caller = caller(request)?;
    let cluster = cluster(request, &caller, tables)?;
    let service = service(request)?;
    let ports = ports(request.port, &service, tables)?;
    let http = (!request.method.is_empty()).then_some(HttpRequest { method: &request.method, path: &request.path });
    let call = |port: Port| Call { caller: &caller, source_cluster: &cluster, service: &service, port };
    let calls = ports.into_iter().map(|port| tested(tables, &call(port), http)).collect::<Result<_, _>>()?;
    Ok(TestPolicyResponse { calls, generation: tables.generation() })
}

fn caller(request: &TestPolicyRequest) -> Result<Caller, Status> {
    if request.principal.is_empty() {
        return Ok(Caller::Unknown);
    }
    let id = parse_workload_id(&request.principal).map_err(|error| Status::invalid_argument(error.to_string()))?;
    match request.assurance.as_str() {
        "" => Ok(Caller::Vouched { id }),
        word if word == Assurance::Attested.label() => Ok(Caller::Vouched { id }),
        word if word == Assurance::Mtls.label() => Ok(Caller::Workload { id, certificate: None }),
        other => {
            Err(Status::invalid_argument(format!("{other:?} is no assurance of a known caller: attested or mtls")))
        }
    }
}

/// The cluster that is written, else the member that has the principal's trust domain, else this one.
fn cluster(request: &TestPolicyRequest, caller: &Caller, tables: &Tables) -> Result<ClusterName, Status> {
    if !request.cluster.is_empty() {
        return request.cluster.parse().map_err(|error| Status::invalid_argument(format!("cluster: {error}")));
    }
    let domain = caller.principal().map(|id| id.trust_domain());
    let member = tables.members().values().find(|member| Some(&member.bundle.trust_domain) == domain);
    Ok(member.map_or_else(|| tables.cluster().clone(), |member| member.cluster.clone()))
}

fn service(request: &TestPolicyRequest) -> Result<ServiceKey, Status> {
    let invalid = |error| Status::invalid_argument(format!("service: {error}"));
    Ok(ServiceKey::new(request.namespace.parse().map_err(invalid)?, request.service.parse().map_err(invalid)?))
}

fn ports(port: u32, service: &ServiceKey, tables: &Tables) -> Result<Vec<Port>, Status> {
    let exported: Vec<Port> = tables.exported_ports(service).collect();
    if exported.is_empty() {
        return Err(Status::not_found(format!(
            "{service} is not exported by cluster {}: ask a gateway of a cluster that exports it, fedctl services shows which",
            tables.cluster()
        )));
    }
    if port == 0 {
        return Ok(exported);
    }
    let found = exported.iter().find(|exported| u32::from(exported.number()) == port);
    found.map(|port| vec![*port]).ok_or_else(|| {
        let there: Vec<String> = exported.iter().map(ToString::to_string).collect();
        Status::not_found(format!("{service} has no port {port}; it has {}", there.join(", ")))
    })
}

fn tested(tables: &Tables, call: &Call<'_>, http: Option<HttpRequest<'_>>) -> Result<TestedCall, Status> {
    let whole = aspect(tables, call);
    let asked = match (http, whole) {
        (None, whole) => whole,
        (Some(request), Aspect::HttpConnection | Aspect::HttpRequest(_)) => Aspect::HttpRequest(request),
        (Some(_), Aspect::Bytes) => {
            return Err(Status::failed_precondition(format!(
                "{}:{} is not delivered as http, so policies see no requests there: leave method and path out, or annotate \
                 its ServiceExport with landbridge.dev/deliver: http",
                call.service, call.port
            )));
        }
    };
    let Explanation { allowed, reason, remedy, policies, audited, omitted: _ } = tables.policies().explain(call, asked);
    let deciding = policies.iter().find(|policy| policy.decides);
    let rule = deciding.map(|policy| format!("{} {}", policy.kind, policy.policy));
    Ok(TestedCall {
        service: call.service.to_string(),
        port: call.port.number().into(),
        cluster: call.source_cluster.to_string(),
        principal: call.caller.principal().map(ToString::to_string).unwrap_or_default(),
        assurance: call.caller.assurance().label().to_owned(),
        allowed,
        rule: rule.unwrap_or_default(),
        reason,
        remedy: remedy.unwrap_or_default(),
        considered: policies.iter().map(considered).collect(),
        audited,
        delivered: tables.delivery(call.service, call.port).map(|mode| mode.label().to_owned()).unwrap_or_default(),
    })
}

fn considered(policy: &Considered) -> ConsideredPolicy {
    ConsideredPolicy {
        policy: format!("{} {}", policy.kind, policy.policy),
        action: policy.action.to_owned(),
        matched: policy.matched,
        detail: detail(policy),
    }
}

/// Which entries match, or what the first one that does not asks for.
fn detail(policy: &Considered) -> String {
    let parts: Vec<String> = [("from", &policy.from), ("to", &policy.to)]
        .into_iter()
        .filter_map(|(list, entries)| entry(list, entries))
        .collect();
    parts.join("; ")
}

fn entry(list: &str, entries: &[Entry]) -> Option<String> {
    if let Some(matching) = entries.iter().find(|entry| entry.mismatch.is_none()) {
        return Some(format!("{list}[{}] matches", matching.entry));
    }
    let first = entries.first()?;
    let mismatch = first.mismatch.as_ref()?;
    let field = mismatch.field.name();
    let got = if mismatch.got.is_empty() { "none" } else { &mismatch.got };
    Some(format!("{list}[{}].{field} wants {}, the call has {got}", first.entry, mismatch.wanted))
}
