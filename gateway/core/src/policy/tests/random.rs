//! Random policies and calls out of few words, so that much of it matches.

use std::collections::BTreeMap;

use federation_model::{
    addr::Port,
    caller::{Assurance, Caller},
    names::{ClusterName, ServiceKey},
    policy::{
        Action, AuthenticationMode, AuthorizationPolicy, BrokenPolicy, Effect, PeerAuthentication, Policies, PolicyKey,
        PolicyKind, SourceRule, TargetRule,
    },
    spiffe::{SpiffeId, TrustDomain},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    super::{Aspect, Call, HttpRequest, TrustDomainAliases},
    naive::World,
};

pub(super) const ROOT: &str = "landbridge-system";
const NAMESPACES: &[&str] = &["shop", "shop-eu", ROOT];
const DOMAINS: &[&str] = &["east.example", "west.example", "cluster.local"];
const PRINCIPALS: &[&str] = &[
    "*",
    "spiffe://east.example/*",
    "spiffe://east.example/ns/shop/*",
    "spiffe://east.example/ns/shop/sa/front*",
    "spiffe://east.example/ns/shop/sa/frontend",
    "spiffe://*/ns/shop/sa/frontend",
    "spiffe://*/ns/*",
    "spiffe://west.example/job",
    "cluster.local/ns/shop/sa/frontend",
    "cluster.local/ns/shop/*",
    "frontend.shop.serviceaccount.identity.linkerd.west.example",
];
const IDS: &[&str] = &[
    "spiffe://east.example/ns/shop/sa/frontend",
    "spiffe://west.example/ns/shop/sa/frontend",
    "spiffe://east.example/ns/shop/sa/front",
    "spiffe://east.example/ns/shop-eu/sa/cart",
    "spiffe://cluster.local/ns/shop/sa/frontend",
    "spiffe://west.example/job",
];
const SERVICES: &[&str] = &["*", "api", "ap*", "*pi", "web", "shop/api", "shop/*", "shop*/web", "*/api", "*-eu/*"];
const PATHS: &[&str] = &["*", "/", "/admin", "/admin/*", "/a*", "*.json", "/%61dmin", "/caf\u{e9}", "/a/../b"];
const REQUESTED: &[&str] =
    &["/", "/admin", "/admin/users", "/%61dmin", "/x.json", "/caf%c3%a9", "/a/../b", "//admin", "*", ""];
const METHODS: &[&str] = &["GET", "get", "OPTIONS", "P*", "*"];

fn few<T: std::fmt::Debug + Clone + std::str::FromStr + 'static>(
    words: &'static [&'static str],
) -> impl Strategy<Value = Vec<T>>
where
    T::Err: std::fmt::Debug,
{
    let parsed: Vec<T> = words.iter().map(|word| word.parse().unwrap()).collect();
    prop_oneof![2 => Just(Vec::new()), 3 => vec(select(parsed), 1..3)]
}

fn assurance() -> impl Strategy<Value = Assurance> {
    select(&[Assurance::None, Assurance::Attested, Assurance::Mtls][..])
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    prop_oneof![3 => Just(Vec::new()), 1 => vec(port(), 1..2)]
}

fn port() -> impl Strategy<Value = Port> {
    select(&[80, 443][..]).prop_map(|port| Port::new(port).unwrap())
}

pub(super) fn source() -> impl Strategy<Value = SourceRule> {
    let domains = select(DOMAINS).prop_map(|domain| TrustDomain::new(domain).unwrap());
    let domains = prop_oneof![3 => Just(Vec::new()), 1 => vec(domains, 1..2)];
    let least = option::weighted(0.2, assurance());
    let namespaces = few(&["shop", "shop*", "*-eu", "*"]);
    (few(PRINCIPALS), namespaces, few::<ClusterName>(&["east", "west"]), domains, least).prop_map(
        |(principals, namespaces, clusters, trust_domains, assurance)| SourceRule {
            principals,
            namespaces,
            clusters,
            trust_domains,
            assurance,
        },
    )
}

pub(super) fn target() -> impl Strategy<Value = TargetRule> {
    (few(SERVICES), ports(), few(METHODS), few(PATHS)).prop_map(|(services, ports, methods, paths)| TargetRule {
        services,
        ports,
        methods,
        paths,
    })
}

fn key() -> impl Strategy<Value = PolicyKey> {
    (select(NAMESPACES), "[a-f]")
        .prop_map(|(namespace, name)| PolicyKey { namespace: namespace.parse().unwrap(), name })
}

pub(super) fn action() -> impl Strategy<Value = Action> {
    let (allow, deny) = (Effect::Allow, Effect::Deny);
    select(vec![Action::Enforce(allow), Action::Enforce(deny), Action::Audit(allow), Action::Audit(deny)])
}

pub(super) fn authorization() -> impl Strategy<Value = AuthorizationPolicy> {
    (key(), action(), vec(source(), 0..3), vec(target(), 0..3))
        .prop_map(|(key, action, from, to)| AuthorizationPolicy { key, action, from, to })
}

fn authentication() -> impl Strategy<Value = PeerAuthentication> {
    let mode = select(&[AuthenticationMode::Strict, AuthenticationMode::Permissive][..]);
    (key(), few(SERVICES), mode).prop_map(|(key, services, mode)| PeerAuthentication { key, services, mode })
}

fn broken() -> impl Strategy<Value = ((PolicyKind, PolicyKey), BrokenPolicy)> {
    let kind = select(&[PolicyKind::Authorization, PolicyKind::Authentication][..]);
    let policy = few(SERVICES).prop_map(|services| BrokenPolicy { services, reason: "unknown field".to_owned() });
    ((kind, key()), policy)
}

fn aliases() -> impl Strategy<Value = TrustDomainAliases> {
    let domain = |text: &&str| TrustDomain::new(*text).unwrap();
    let both = DOMAINS[..2].iter().map(domain).collect();
    let known = BTreeMap::from([(TrustDomain::new("cluster.local").unwrap(), both)]);
    select(vec![TrustDomainAliases::default(), TrustDomainAliases(known)])
}

pub(super) fn world() -> impl Strategy<Value = World> {
    let authentication = prop_oneof![1 => Just(Vec::new()), 1 => vec(authentication(), 0..4)];
    let broken = prop_oneof![4 => Just(Vec::new()), 1 => vec(broken(), 1..3)];
    (vec(authorization(), 0..7), authentication, broken, aliases()).prop_map(
        |(authorization, authentication, broken, aliases)| World {
            policies: Policies {
                authorization: authorization.into_iter().map(|policy| (policy.key.clone(), policy)).collect(),
                authentication: authentication.into_iter().map(|policy| (policy.key.clone(), policy)).collect(),
                broken: broken.into_iter().collect(),
            },
            root: ROOT.parse().unwrap(),
            aliases,
        },
    )
}

/// A call that owns its parts.
#[derive(Debug, Clone)]
pub(super) struct Owned {
    pub(super) caller: Caller,
    pub(super) cluster: ClusterName,
    pub(super) service: ServiceKey,
    pub(super) port: Port,
    pub(super) aspect: OwnedAspect,
}

#[derive(Debug, Clone)]
pub(super) enum OwnedAspect {
    Bytes,
    Connection,
    Request(String, String),
}

impl Owned {
    pub(super) fn call(&self) -> Call<'_> {
        Call { caller: &self.caller, source_cluster: &self.cluster, service: &self.service, port: self.port }
    }

    pub(super) fn aspect(&self) -> Aspect<'_> {
        match &self.aspect {
            OwnedAspect::Bytes => Aspect::Bytes,
            OwnedAspect::Connection => Aspect::HttpConnection,
            OwnedAspect::Request(method, path) => Aspect::HttpRequest(HttpRequest { method, path }),
        }
    }
}

pub(super) fn call() -> impl Strategy<Value = Owned> {
    let id = select(IDS).prop_map(|id| SpiffeId::new(id).unwrap());
    let caller = (id, assurance()).prop_map(|(id, assurance)| match assurance {
        Assurance::None => Caller::Unknown,
        Assurance::Attested => Caller::Vouched { id },
        Assurance::Mtls => Caller::Workload { id, certificate: None },
    });
    let request = (select(METHODS), select(REQUESTED));
    let request = request.prop_map(|(method, path)| OwnedAspect::Request(method.to_owned(), path.to_owned()));
    let aspect = prop_oneof![1 => Just(OwnedAspect::Bytes), 1 => Just(OwnedAspect::Connection), 3 => request];
    let cluster = select(&["east", "west", "north"][..]).prop_map(|name| name.parse().unwrap());
    let service = select(&["shop/api", "shop/web", "shop-eu/api", "shop-eu/web", "other/api"][..]);
    let service = service.prop_map(|key| key.parse().unwrap());
    (caller, cluster, service, port(), aspect).prop_map(|(caller, cluster, service, port, aspect)| Owned {
        caller,
        cluster,
        service,
        port,
        aspect,
    })
}
