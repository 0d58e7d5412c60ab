//! Policies and calls in few words, for tests that state one fact each.

use federation_model::{
    addr::Port,
    caller::{Assurance, Caller},
    names::{ClusterName, ServiceKey},
    policy::{
        Action, AuthenticationMode, AuthorizationPolicy, BrokenPolicy, Effect, PeerAuthentication, Policies, PolicyKey,
        PolicyKind, SourceRule, TargetRule,
    },
    spiffe::SpiffeId,
};

use super::{
    super::{Aspect, Call, HttpRequest, Judgement, PolicyTable, TrustDomainAliases},
    random::ROOT,
};

pub(super) const FRONTEND: &str = "spiffe://east.example/ns/shop/sa/frontend";
pub(super) const CART: &str = "spiffe://east.example/ns/shop/sa/cart";

pub(super) const ALLOW: Action = Action::Enforce(Effect::Allow);
pub(super) const DENY: Action = Action::Enforce(Effect::Deny);
pub(super) const AUDIT_ALLOW: Action = Action::Audit(Effect::Allow);
pub(super) const AUDIT_DENY: Action = Action::Audit(Effect::Deny);

pub(super) fn key(text: &str) -> PolicyKey {
    let (namespace, name) = text.split_once('/').unwrap();
    PolicyKey { namespace: namespace.parse().unwrap(), name: name.to_owned() }
}

pub(super) fn from(principals: &[&str]) -> SourceRule {
    SourceRule { principals: principals.iter().map(|text| text.parse().unwrap()).collect(), ..SourceRule::default() }
}

pub(super) fn of_namespace(namespace: &str) -> SourceRule {
    SourceRule { namespaces: vec![namespace.parse().unwrap()], ..SourceRule::default() }
}

pub(super) fn known_at_least(least: Assurance) -> SourceRule {
    SourceRule { assurance: Some(least), ..SourceRule::default() }
}

pub(super) fn to(services: &[&str]) -> TargetRule {
    TargetRule { services: services.iter().map(|text| text.parse().unwrap()).collect(), ..TargetRule::default() }
}

pub(super) fn on(services: &[&str], port: u16) -> TargetRule {
    TargetRule { ports: vec![Port::new(port).unwrap()], ..to(services) }
}

pub(super) fn requests(services: &[&str], methods: &[&str], paths: &[&str]) -> TargetRule {
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    TargetRule { methods: parse(methods), paths: parse(paths), ..to(services) }
}

/// Policies that are added one after another.
#[derive(Default)]
pub(super) struct Written(pub(super) Policies);

impl Written {
    pub(super) fn policy(mut self, name: &str, action: Action, from: &[SourceRule], to: &[TargetRule]) -> Self {
        let policy = AuthorizationPolicy { key: key(name), action, from: from.to_vec(), to: to.to_vec() };
        self.0.authorization.insert(key(name), policy);
        self
    }

    pub(super) fn mode(mut self, name: &str, mode: AuthenticationMode, services: &[&str]) -> Self {
        let services = services.iter().map(|text| text.parse().unwrap()).collect();
        self.0.authentication.insert(key(name), PeerAuthentication { key: key(name), services, mode });
        self
    }

    pub(super) fn broken(mut self, name: &str, services: &[&str]) -> Self {
        let services = services.iter().map(|text| text.parse().unwrap()).collect();
        let reason = "spec.acton is not a field, write action".to_owned();
        self.0.broken.insert((PolicyKind::Authorization, key(name)), BrokenPolicy { services, reason });
        self
    }

    pub(super) fn table(&self) -> PolicyTable {
        PolicyTable::compile(&self.0, &ROOT.parse().unwrap(), &TrustDomainAliases::default())
    }

    pub(super) fn judge(&self, caller: &Caller, service: &str, aspect: Aspect<'_>) -> Judgement {
        with_call(caller, service, |call| self.table().judge(&call, aspect))
    }

    /// Whether a connection to a port that is not delivered as `http` passes.
    pub(super) fn admits(&self, caller: &Caller, service: &str) -> bool {
        self.judge(caller, service, Aspect::Bytes).is_allowed()
    }

    /// Whether a request of [`FRONTEND`] to shop/api passes.
    pub(super) fn answers(&self, method: &str, path: &str) -> bool {
        self.judge(&vouched(FRONTEND), "shop/api", request(method, path)).is_allowed()
    }
}

/// A call from cluster east to port 80 of the service.
pub(super) fn with_call<T>(caller: &Caller, service: &str, run: impl FnOnce(Call<'_>) -> T) -> T {
    let (service, cluster): (ServiceKey, ClusterName) = (service.parse().unwrap(), "east".parse().unwrap());
    run(Call { caller, source_cluster: &cluster, service: &service, port: Port::new(80).unwrap() })
}

pub(super) fn request<'a>(method: &'a str, path: &'a str) -> Aspect<'a> {
    Aspect::HttpRequest(HttpRequest { method, path })
}

pub(super) fn vouched(id: &str) -> Caller {
    Caller::Vouched { id: SpiffeId::new(id).unwrap() }
}

pub(super) fn proven(id: &str) -> Caller {
    Caller::Workload { id: SpiffeId::new(id).unwrap(), certificate: None }
}
