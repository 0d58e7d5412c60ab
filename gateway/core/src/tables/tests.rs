use federation_model::{
    catalog::{EndpointCounts, ExportedService, ServiceKind, SessionAffinity},
    derived::{DerivedAddresses, DerivedPort, DerivedService, PlacedService},
    export::DeliverModes,
    import::address::address_keys,
    time::Timestamp,
};

use super::*;
use crate::addresses::Assignments;

pub(crate) fn service(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

pub(crate) fn cluster(text: &str) -> ClusterName {
    text.parse().unwrap()
}

/// A port written `name:number/transport` or `number/transport`.
pub(crate) fn port(text: &str) -> ServicePort {
    let (rest, transport) = text.split_once('/').unwrap();
    let (name, number) = rest.split_once(':').map_or((None, rest), |(name, number)| (Some(name), number));
    ServicePort {
        name: name.map(|name| name.parse().unwrap()),
        transport: if transport == "udp" { Transport::Udp } else { Transport::Tcp },
        port: Port::new(number.parse().unwrap()).unwrap(),
        app_protocol: None,
    }
}

pub(crate) fn source(ports: &[&str], ready: u32, endpoints: &[&str]) -> ImportSource {
    ImportSource {
        kind: if endpoints.is_empty() { ImportKind::ClusterSetIp } else { ImportKind::Headless },
        exported_at: Timestamp(1),
        ports: ports.iter().map(|text| port(text)).map(|p| (p.port, p.transport)).collect(),
        health: EndpointCounts { ready, terminating: 0 },
        endpoints: endpoints.iter().map(|name| name.parse().unwrap()).collect(),
        priority: 0,
        weight: 100,
    }
}

pub(crate) fn import(kind: ImportKind, ports: &[&str], sources: &[(&str, ImportSource)]) -> Import {
    Import {
        kind,
        ports: ports.iter().map(|text| port(text)).collect(),
        session_affinity: SessionAffinity::None,
        internal_traffic_policy: None,
        traffic_distribution: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        sources: sources.iter().map(|(name, source)| (cluster(name), source.clone())).collect(),
        conflicts: BTreeSet::new(),
    }
}

/// A snapshot in cluster `east` where `west` and `north` are reachable.
pub(crate) fn tables(imports: &[(&str, Import)]) -> Tables {
    Tables::compile(inputs(imports))
}

fn inputs(imports: &[(&str, Import)]) -> Inputs {
    let imports: Imports = imports.iter().map(|(key, import)| (service(key), import.clone())).collect();
    let plan = crate::addresses::AddressPlan::new("127.80.0.0/16".parse().unwrap()).unwrap();
    Inputs {
        generation: 7,
        cluster: cluster("east"),
        zone: Zone::default(),
        places: Places::Range(Arc::new(plan.assign(&Assignments::default(), &address_keys(&imports)).assignments)),
        imports: Arc::new(imports),
        exports: Arc::default(),
        pods: Arc::default(),
        members: Arc::default(),
        reachable: Arc::new(["west", "north"].map(cluster).into()),
        revocations: Arc::default(),
        policies: Arc::default(),
        nameservers: Arc::new(["127.0.0.1".parse().unwrap()]),
    }
}

fn at(tables: &Tables, key: &str) -> IpAddr {
    tables.inner.inputs.places.addresses(&key.parse().unwrap())[0]
}

fn names(route: &Route) -> Vec<&str> {
    route.candidates.iter().map(|candidate| candidate.cluster.as_str()).collect()
}

fn sni(text: &str) -> SniTarget {
    SniTarget::parse(text, &Zone::default()).unwrap()
}

#[test]
fn an_import_address_leads_to_every_cluster_that_is_reachable_and_ready() {
    let ports = ["https:443/tcp"];
    let web = import(
        ImportKind::ClusterSetIp,
        &ports,
        &[
            ("east", source(&ports, 1, &[])),
            ("north", source(&ports, 0, &[])),
            ("south", source(&ports, 3, &[])),
            ("west", source(&ports, 2, &[])),
        ],
    );
    let tables = tables(&[("shop/web", web)]);
    let route = tables.by_address(SocketAddr::new(at(&tables, "shop/web"), 443), Transport::Tcp).unwrap();
    assert_eq!(names(&route), ["east", "west"], "north has no ready endpoint, south no tunnel");
    assert!(route.candidates[0].local && !route.candidates[1].local);
    assert_eq!(route.endpoint, None);
}

#[test]
fn strict_port_conflict_sends_traffic_only_to_clusters_that_expose_the_port() {
    let web = import(
        ImportKind::ClusterSetIp,
        &["udp:42/udp", "tcp:42/tcp"],
        &[("north", source(&["42/udp"], 1, &[])), ("west", source(&["42/tcp"], 1, &[]))],
    );
    let tables = tables(&[("shop/web", web)]);
    let route = |transport| tables.by_address(SocketAddr::new(at(&tables, "shop/web"), 42), transport).unwrap();
    assert_eq!(names(&route(Transport::Tcp)), ["west"]);
    assert_eq!(names(&route(Transport::Udp)), ["north"]);
}

#[test]
fn lookups_that_lead_nowhere_say_which_part_is_unknown() {
    let dead = import(ImportKind::ClusterSetIp, &["443/tcp"], &[("west", source(&["443/tcp"], 0, &[]))]);
    let tables = tables(&[("shop/web", dead)]);
    let ip = at(&tables, "shop/web");
    let unknown = "127.80.255.1".parse().unwrap();
    assert_eq!(tables.by_address(SocketAddr::new(unknown, 443), Transport::Tcp), Err(Outcome::UnknownService));
    assert_eq!(tables.by_address(SocketAddr::new(ip, 80), Transport::Tcp), Err(Outcome::UnknownPort));
    assert_eq!(tables.by_address(SocketAddr::new(ip, 443), Transport::Udp), Err(Outcome::UnknownPort));
    assert_eq!(tables.by_address(SocketAddr::new(ip, 0), Transport::Tcp), Err(Outcome::UnknownPort));
    assert_eq!(tables.by_address(SocketAddr::new(ip, 443), Transport::Tcp), Err(Outcome::NoHealthyCluster));
    assert_eq!(tables.by_name(&sni("api.shop.svc.clusterset.local")), Err(Outcome::UnknownService));
    assert_eq!(tables.by_name(&sni("outbound_.80_._.web.shop.svc.clusterset.local")), Err(Outcome::UnknownPort));
}

#[test]
fn terminating_endpoints_serve_only_while_no_cluster_has_a_ready_one() {
    let ports = ["443/tcp"];
    let leaving = ImportSource { health: EndpointCounts { ready: 0, terminating: 2 }, ..source(&ports, 0, &[]) };
    let alone = import(ImportKind::ClusterSetIp, &ports, &[("west", leaving.clone())]);
    let both = import(ImportKind::ClusterSetIp, &ports, &[("north", source(&ports, 1, &[])), ("west", leaving)]);
    let tables = tables(&[("shop/alone", alone), ("shop/both", both)]);
    let route = |key| tables.by_address(SocketAddr::new(at(&tables, key), 443), Transport::Tcp).unwrap();
    assert_eq!(names(&route("shop/alone")), ["west"]);
    assert_eq!(names(&route("shop/both")), ["north"]);
}

#[test]
fn the_address_of_a_headless_endpoint_leads_to_that_endpoint_in_its_cluster_alone() {
    let ports = ["db:5432/tcp"];
    let db = import(
        ImportKind::Headless,
        &ports,
        &[("north", source(&ports, 1, &["db-0"])), ("west", source(&ports, 2, &["db-0", "db-1"]))],
    );
    let tables = tables(&[("shop/db", db)]);
    assert_eq!(tables.addresses_of(&service("shop/db")).len(), 3);
    assert_eq!(tables.listeners().len(), 3);
    let route = tables.by_address(SocketAddr::new(at(&tables, "shop/db/west/db-0"), 5432), Transport::Tcp).unwrap();
    assert_eq!(names(&route), ["west"]);
    assert_eq!(route.endpoint.unwrap().as_str(), "db-0");
}

#[test]
fn in_kubernetes_the_allocated_port_says_what_is_meant_whatever_the_address() {
    let web = import(ImportKind::ClusterSetIp, &["443/tcp"], &[("west", source(&["443/tcp"], 1, &[]))]);
    let allocated = Port::new(20_017).unwrap();
    let placed = PlacedService {
        service: DerivedService {
            key: "shop/web".parse().unwrap(),
            ports: vec![DerivedPort {
                name: None,
                transport: Transport::Tcp,
                port: Port::new(443).unwrap(),
                allocated,
                app_protocol: None,
            }],
            session_affinity: SessionAffinity::None,
        },
        addresses: vec!["10.96.0.9".parse().unwrap(), "fd00::9".parse().unwrap()],
        created: Timestamp(1),
    };
    let places = Places::Derived(Arc::new(DerivedAddresses::new(&[placed])));
    let tables = Tables::compile(Inputs { places, ..inputs(&[("shop/web", web)]) });
    let route = |port| tables.by_address(SocketAddr::new("10.244.0.3".parse().unwrap(), port), Transport::Tcp);
    assert_eq!(route(20_017).unwrap().port.number(), 443);
    assert_eq!(route(443), Err(Outcome::UnknownService));
    assert_eq!(tables.addresses_of(&service("shop/web")).len(), 2, "one of each family");
    assert_eq!(tables.listeners(), [("::".parse().unwrap(), allocated, Transport::Tcp)].into());
    assert_eq!(tables.by_name(&sni("web.shop.svc.clusterset.local")).unwrap().port.number(), 443);
}

#[test]
fn an_endpoint_that_is_gone_is_unhealthy_and_a_service_that_changed_its_type_unknown() {
    let ports = ["db:5432/tcp"];
    let before =
        inputs(&[("shop/db", import(ImportKind::Headless, &ports, &[("west", source(&ports, 1, &["db-0"]))]))]);
    let lookup = |imports: Imports| {
        let inputs = Inputs { imports: Arc::new(imports), ..before.clone() };
        let ip = inputs.places.addresses(&"shop/db/west/db-0".parse().unwrap())[0];
        Tables::compile(inputs).by_address(SocketAddr::new(ip, 5432), Transport::Tcp)
    };
    let other = import(ImportKind::Headless, &ports, &[("west", source(&ports, 1, &["db-1"]))]);
    assert_eq!(lookup([(service("shop/db"), other)].into()), Err(Outcome::NoHealthyCluster));
    let whole = import(ImportKind::ClusterSetIp, &ports, &[("west", source(&ports, 1, &[]))]);
    assert_eq!(lookup([(service("shop/db"), whole)].into()), Err(Outcome::UnknownService));
    assert_eq!(lookup(Imports::new()), Err(Outcome::UnknownService));
}

#[test]
fn a_server_name_without_a_port_means_the_tls_port() {
    let app = |text: &str, protocol: &str| ServicePort { app_protocol: Some(protocol.to_owned()), ..port(text) };
    let cases: [(Vec<ServicePort>, Option<u16>); 9] = [
        (vec![port("8080/tcp")], Some(8080)),
        (vec![port("a:8080/tcp"), port("b:53/udp")], Some(8080)),
        (vec![port("http:80/tcp"), port("https:9443/tcp")], Some(9443)),
        (vec![port("a:443/tcp"), port("tls:9000/tcp")], Some(9000)),
        (vec![port("a:443/tcp"), app("b:9000/tcp", "HTTPS")], Some(9000)),
        (vec![app("a:443/tcp", "kubernetes.io/h2c"), app("b:9000/tcp", "kubernetes.io/wss")], Some(9000)),
        (vec![port("a:8443/tcp"), port("b:443/tcp")], Some(443)),
        (vec![port("a:8443/tcp"), port("b:80/tcp")], Some(8443)),
        (vec![port("a:8080/tcp"), port("b:80/tcp")], None),
    ];
    for (ports, expected) in cases {
        assert_eq!(tls_port(&ports).map(|port| port.port.number()), expected, "{ports:?}");
    }
    assert_eq!(tls_port(&[port("https:443/udp")]), None);
}

#[test]
fn behind_tls_that_ends_at_the_gateway_a_name_means_the_port_without_tls() {
    let app = |text: &str, protocol: &str| ServicePort { app_protocol: Some(protocol.to_owned()), ..port(text) };
    let cases: [(Vec<ServicePort>, Option<u16>); 9] = [
        (vec![port("https:8443/tcp")], Some(8443)),
        (vec![port("http:80/tcp"), port("https:443/tcp")], Some(80)),
        (vec![port("a:9000/tcp"), port("b:8443/tcp"), port("c:53/udp")], Some(9000)),
        (vec![port("a:9000/tcp"), app("b:9001/tcp", "TLS")], Some(9000)),
        (vec![port("a:9000/tcp"), port("http:9001/tcp"), port("b:443/tcp")], Some(9001)),
        (vec![port("a:9000/tcp"), app("b:9001/tcp", "kubernetes.io/h2c"), port("c:80/tcp")], Some(9001)),
        (vec![port("a:8080/tcp"), port("b:80/tcp")], Some(80)),
        (vec![port("a:8080/tcp"), port("b:9000/tcp")], Some(8080)),
        (vec![port("a:9001/tcp"), port("b:9000/tcp")], None),
    ];
    for (ports, expected) in cases {
        assert_eq!(plain_port(&ports).map(|port| port.port.number()), expected, "{ports:?}");
    }
    let ports = ["http:80/tcp", "https:443/tcp"];
    let tables = tables(&[("shop/web", import(ImportKind::ClusterSetIp, &ports, &[("west", source(&ports, 1, &[]))]))]);
    let behind = |name: &str| tables.port_behind(&sni(name)).map(|port| port.port.number());
    assert_eq!(behind("web.shop.svc.clusterset.local"), Ok(80));
    assert_eq!(behind("outbound_.443_._.web.shop.svc.clusterset.local"), Ok(443));
    assert_eq!(behind("outbound_.444_._.web.shop.svc.clusterset.local"), Err(Outcome::UnknownPort));
    assert_eq!(behind("api.shop.svc.clusterset.local"), Err(Outcome::UnknownService));
}

#[test]
fn a_server_name_leads_to_the_port_it_names_or_means() {
    let ports = ["http:80/tcp", "https:443/tcp"];
    let web = import(ImportKind::ClusterSetIp, &ports, &[("west", source(&ports, 1, &[]))]);
    let tables = tables(&[("shop/web", web)]);
    let port_of = |name: &str| tables.by_name(&sni(name)).unwrap().port.number();
    assert_eq!(port_of("web.shop.svc.clusterset.local"), 443);
    assert_eq!(port_of("outbound_.80_._.web.shop.svc.clusterset.local"), 80);
}

fn exported() -> Tables {
    let endpoint = |ip: &str, name: &str, state, ports: &[(u16, u16)]| Endpoint {
        address: ip.parse().unwrap(),
        name: name.parse().unwrap(),
        ports: ports.iter().map(|(p, t)| ((Port::new(*p).unwrap(), Transport::Tcp), Port::new(*t).unwrap())).collect(),
        state,
    };
    let exported = ExportedService {
        exported_at: Timestamp(1),
        kind: ServiceKind::ClusterSetIp,
        ports: vec![port("http:80/tcp"), port("admin:81/tcp")],
        health: EndpointCounts { ready: 1, terminating: 1 },
        session_affinity: SessionAffinity::None,
        priority: 0,
        weight: 100,
        internal_traffic_policy: None,
        traffic_distribution: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    };
    let export = LocalExport {
        service: exported,
        endpoints: vec![
            endpoint("10.0.0.1", "a", EndpointState::Terminating, &[(80, 8080), (81, 8081)]),
            endpoint("10.0.0.2", "b", EndpointState::Ready, &[(80, 8080)]),
        ],
        deliver: DeliverModes::new(Deliver::ProxyV2, [(Port::new(81).unwrap(), Deliver::Http)].into()),
        audience: Audience::Only([cluster("west")].into()),
    };
    let exports = Arc::new([(service("shop/web"), export)].into());
    Tables::compile(Inputs { exports, ..inputs(&[]) })
}

#[test]
fn local_endpoints_are_the_ready_ones_or_else_those_that_still_serve() {
    let tables = exported();
    let find = |port: u16, transport, endpoint: Option<&str>| {
        let endpoint = endpoint.map(|name| name.parse().unwrap());
        tables.local_endpoints(&service("shop/web"), Port::new(port).unwrap(), transport, endpoint.as_ref())
    };
    let one = |address: &str, mode| Ok((vec![address.parse().unwrap()], mode));
    assert_eq!(find(80, Transport::Tcp, None), one("10.0.0.2:8080", Deliver::ProxyV2));
    assert_eq!(find(81, Transport::Tcp, None), one("10.0.0.1:8081", Deliver::Http));
    assert_eq!(find(80, Transport::Tcp, Some("a")), one("10.0.0.1:8080", Deliver::ProxyV2));
    assert_eq!(find(80, Transport::Tcp, Some("c")), Err(Outcome::NoEndpoint));
    assert_eq!(find(82, Transport::Tcp, None), Err(Outcome::UnknownPort));
    assert_eq!(find(80, Transport::Udp, None), Err(Outcome::UnknownPort));
    let other = tables.local_endpoints(&service("shop/api"), Port::new(80).unwrap(), Transport::Tcp, None);
    assert_eq!(other, Err(Outcome::NotExported));
}

#[test]
fn a_service_is_exported_to_the_clusters_it_is_for_and_to_its_own() {
    let tables = exported();
    let exported = |name, port: u16, to| tables.exports_to(&service(name), Port::new(port).unwrap(), &cluster(to));
    let own = tables.cluster().as_str();
    assert!(exported("shop/web", 81, "west") && exported("shop/web", 81, own));
    assert!(!exported("shop/web", 81, "north") && !exported("shop/web", 82, "west") && !exported("shop/api", 81, own));
    assert_eq!(tables.audience(&service("shop/web")), Some(&Audience::Only([cluster("west")].into())));
    assert_eq!(tables.view().exports[&service("shop/web")].export_to, Some([cluster("west")].into()));
}

#[test]
fn a_principal_is_found_by_its_address_in_either_form() {
    let id = SpiffeId::new("spiffe://east.example/ns/shop/sa/web").unwrap();
    let pods = Arc::new([("10.0.0.9".parse().unwrap(), Arc::new(id.clone()))].into());
    let tables = Tables::compile(Inputs { pods, ..inputs(&[]) });
    assert_eq!(tables.principal_of("::ffff:10.0.0.9".parse().unwrap()), Some(&id));
    assert_eq!(tables.principal_of("10.0.0.8".parse().unwrap()), None);
}

#[test]
fn thousands_of_services_are_all_routed_by_address_and_by_name() {
    let ports = ["https:443/tcp"];
    let one = import(ImportKind::ClusterSetIp, &ports, &[("west", source(&ports, 1, &[]))]);
    let keys: Vec<String> = (0..5000).map(|n| format!("shop/s{n}")).collect();
    let imports: Vec<(&str, Import)> = keys.iter().map(|key| (key.as_str(), one.clone())).collect();
    let tables = tables(&imports);
    assert_eq!(tables.listeners().len(), 5000);
    for key in &keys {
        let by_address = tables.by_address(SocketAddr::new(at(&tables, key), 443), Transport::Tcp).unwrap();
        assert_eq!(by_address.service.to_string(), *key);
        assert_eq!(tables.by_name(&SniTarget::service(service(key))).unwrap(), by_address);
    }
}

#[test]
fn the_view_shows_what_routes() {
    let ports = ["https:443/tcp"];
    let web = import(ImportKind::ClusterSetIp, &ports, &[("west", source(&ports, 2, &[]))]);
    let tables = tables(&[("shop/web", web)]);
    let view = tables.view();
    let web = &view.imports[&service("shop/web")];
    assert_eq!((view.generation, web.kind, web.host.as_str()), (7, "ClusterSetIP", "web.shop.svc.clusterset.local"));
    assert_eq!(web.addresses.values().flatten().copied().collect::<Vec<_>>(), [at(&tables, "shop/web")]);
    assert_eq!(web.ports, ["https:443/tcp"]);
    assert!(web.sources[&cluster("west")].reachable);
}
