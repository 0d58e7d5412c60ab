//! Policies and what became of connections, over the administration socket.
//!
//! Owns the way from a question to the tables in force, and the messages of the answer. Never decides: the same tables judge
//! connections.

use std::sync::Arc;

use federation_model::{policy::PolicyKey, time::Timestamp};
use gateway_core::ledger::{Audited, Count};
use proto::gateway::v1::{
    AuditedCalls, ExplainConnectionRequest, ExplainConnectionResponse, ListPoliciesRequest, ListPoliciesResponse,
    ReportPoliciesRequest, ReportPoliciesResponse, TestPolicyRequest, TestPolicyResponse,
    gateway_policies_server::GatewayPolicies,
};
use tonic::{Request, Response, Status};

use super::{Administration, explain};

pub(super) mod list;
mod test;

/// The answers about policies.
#[derive(Debug)]
pub(super) struct Policies(pub(super) Arc<Administration>);

#[tonic::async_trait]
impl GatewayPolicies for Policies {
    async fn test_policy(&self, request: Request<TestPolicyRequest>) -> Result<Response<TestPolicyResponse>, Status> {
        let tables = self.0.tables.borrow().clone();
        test::test(&request.into_inner(), &tables).map(Response::new)
    }

    async fn list_policies(&self, _: Request<ListPoliciesRequest>) -> Result<Response<ListPoliciesResponse>, Status> {
        let administration = self.0.clone();
        let policies = tokio::task::spawn_blocking(move || list::policies(&administration)).await;
        let policies = policies.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(ListPoliciesResponse { policies }))
    }

    async fn report_policies(
        &self,
        request: Request<ReportPoliciesRequest>,
    ) -> Result<Response<ReportPoliciesResponse>, Status> {
        let ReportPoliciesRequest { since, policy } = request.into_inner();
        let policy = if policy.is_empty() { None } else { Some(policy_key(&policy)?) };
        let (calls, dropped) = self.0.audited.report(Timestamp(since), policy.as_ref());
        let calls = calls.iter().map(|(audited, count)| audited_calls(audited, count)).collect();
        Ok(Response::new(ReportPoliciesResponse { calls, dropped }))
    }

    async fn explain_connection(
        &self,
        request: Request<ExplainConnectionRequest>,
    ) -> Result<Response<ExplainConnectionResponse>, Status> {
        let trace = request.into_inner().trace;
        if trace.len() < MIN_TRACE || trace.len() > 32 || !trace.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Status::invalid_argument("a trace id is 8 to 32 hexadecimal digits"));
        }
        let connections = explain::stories(self.0.recorder.history(), &trace);
        Ok(Response::new(ExplainConnectionResponse { connections }))
    }
}

/// The shortest beginning of a trace id that is looked for, digits.
const MIN_TRACE: usize = 8;

fn policy_key(text: &str) -> Result<PolicyKey, Status> {
    let refused = || Status::invalid_argument(format!("{text:?} is not the name of a policy: write namespace/name"));
    let (namespace, name) = text.split_once('/').ok_or_else(refused)?;
    Ok(PolicyKey { namespace: namespace.parse().map_err(|_| refused())?, name: name.to_owned() })
}

fn audited_calls(audited: &Audited, count: &Count) -> AuditedCalls {
    AuditedCalls {
        policy: audited.policy.to_string(),
        principal: audited.principal.as_ref().map(ToString::to_string).unwrap_or_default(),
        assurance: audited.assurance.label().to_owned(),
        cluster: audited.cluster.to_string(),
        service: audited.service.to_string(),
        port: audited.port.number().into(),
        calls: count.calls,
        first: count.first.0,
        last: count.last.0,
    }
}
