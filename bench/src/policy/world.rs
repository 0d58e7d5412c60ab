//! Many policies of a regular kind, and calls whose verdict is known.
//!
//! Owns what is judged. Never judges.

use federation_model::{
    addr::Port,
    caller::Caller,
    names::{Namespace, ServiceKey},
    policy::{Action, AuthorizationPolicy, Effect, Policies, PolicyKey, SourceRule, TargetRule},
    spiffe::SpiffeId,
};

use super::{Kind, Prepared};

/// Policies in one namespace: one denies, the others allow, each for a service of its own.
const PER_NAMESPACE: usize = 10;
/// Calls of one kind: too many for what they touch to stay in the cache of one core.
const CALLS: usize = 1000;

/// Policies, and what is known of them.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) policies: Policies,
    pub(crate) root: Namespace,
    /// How many policies there are.
    count: usize,
    /// How many principals each names.
    each: usize,
    /// Whether all of them are for one service.
    crowded: bool,
}

impl World {
    /// Policies in as many namespaces as they need, ten in each.
    pub(crate) fn spread_out(policies: usize, principals: usize) -> Self {
        Self::build(policies, principals, false)
    }

    /// Policies that all allow callers of one service.
    pub(crate) fn crowded(policies: usize, principals: usize) -> Self {
        Self::build(policies, principals, true)
    }

    fn build(count: usize, principals: usize, crowded: bool) -> Self {
        let mut world = Self {
            policies: Policies::default(),
            root: name("landbridge-system"),
            count,
            each: principals / count,
            crowded,
        };
        for policy in 0..count {
            let service = world.service(policy);
            let key = PolicyKey { namespace: service.namespace.clone(), name: format!("policy-{policy}") };
            let effect = if world.denies(policy) { Effect::Deny } else { Effect::Allow };
            let ids = (0..world.each).map(|one| principal(policy, one));
            let principals = ids.map(|id| name(&id)).collect();
            let from = vec![SourceRule { principals, ..SourceRule::default() }];
            let to = vec![TargetRule { services: vec![name(service.name.as_str())], ..TargetRule::default() }];
            let policy = AuthorizationPolicy { key: key.clone(), action: Action::Enforce(effect), from, to };
            world.policies.authorization.insert(key, policy);
        }
        world
    }

    fn denies(&self, policy: usize) -> bool {
        !self.crowded && policy % PER_NAMESPACE == PER_NAMESPACE - 1
    }

    fn service(&self, policy: usize) -> ServiceKey {
        if self.crowded {
            return name("shop/api");
        }
        // The policy that denies is for the service of the first one that allows.
        let service = if self.denies(policy) { 0 } else { policy % PER_NAMESPACE };
        name(&format!("team-{}/api-{service}", policy / PER_NAMESPACE))
    }

    /// Calls that end so, of callers and to services all over the policies.
    pub(crate) fn calls(&self, kind: Kind) -> Vec<Prepared> {
        let policies = (0..CALLS).map(|call| call * 7919 % self.count);
        let calls = policies.zip(0..).map(|(policy, call)| match kind {
            Kind::Allowed => self.call(policy, call, |deny| !deny),
            Kind::Denied => self.call(policy, call, |deny| deny),
            Kind::NotAllowed => {
                let service = self.service(policy);
                prepare(&format!("spiffe://east.example/ns/elsewhere/sa/caller-{call}"), service)
            }
            Kind::Unselected => prepare(&principal(policy, call % self.each), name("elsewhere/api")),
        });
        calls.collect()
    }

    /// A caller that the policy, or the next one of the wanted effect, names.
    fn call(&self, policy: usize, call: usize, wanted: impl Fn(bool) -> bool) -> Prepared {
        let policy = (policy..).find(|policy| wanted(self.denies(*policy))).unwrap_or(policy) % self.count;
        prepare(&principal(policy, call % self.each), self.service(policy))
    }
}

fn prepare(id: &str, service: ServiceKey) -> Prepared {
    let id = SpiffeId::new(id).expect("the ids of this file are in the grammar of SPIFFE");
    let port = Port::new(80).expect("80 is a port");
    Prepared { caller: Caller::Vouched { id }, cluster: name("east"), service, port }
}

fn principal(policy: usize, one: usize) -> String {
    format!("spiffe://east.example/ns/team-{}/sa/caller-{policy}-{one}", policy % 977)
}

fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("the names of this file are in their grammar")
}
