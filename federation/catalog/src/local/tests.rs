use federation_model::{catalog::SessionAffinity, export::Deliver, names::Namespace, time::Timestamp};

use super::*;
use crate::objects::{AddressType, ObjectKey, PodObject, PodPhase, SliceEndpoint, SlicePort, TargetPort};

fn key(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

fn object(name: &str) -> ObjectKey {
    ObjectKey { namespace: "shop".parse::<Namespace>().unwrap(), name: name.into() }
}

fn number_of(number: u16) -> Port {
    Port::new(number).unwrap()
}

const TCP: Protocol = Protocol::Carried(Transport::Tcp);
const UDP: Protocol = Protocol::Carried(Transport::Udp);

fn port(name: &str, number: u16, target: TargetPort) -> ServicePortObject {
    ServicePortObject {
        name: (!name.is_empty()).then(|| name.parse().unwrap()),
        protocol: TCP,
        port: number_of(number),
        app_protocol: None,
        target_port: Some(target),
    }
}

fn service(name: &str, service_type: ServiceType) -> ServiceObject {
    ServiceObject {
        key: key(name),
        service_type,
        ports: vec![port("http", 80, TargetPort::Name("web".to_owned()))],
        session_affinity: SessionAffinity::None,
        internal_traffic_policy: Some("Cluster".to_owned()),
        traffic_distribution: None,
    }
}

fn slice_port(name: &str, number: Option<u16>) -> SlicePort {
    SlicePort { name: (!name.is_empty()).then(|| name.parse().unwrap()), protocol: TCP, port: number.map(number_of) }
}

fn ready(ip: &str) -> SliceEndpoint {
    SliceEndpoint {
        addresses: vec![ip.parse().unwrap()],
        ready: true,
        serving: true,
        terminating: false,
        hostname: None,
        pod: None,
    }
}

fn terminating(ip: &str) -> SliceEndpoint {
    SliceEndpoint { ready: false, terminating: true, ..ready(ip) }
}

fn unready(ip: &str) -> SliceEndpoint {
    SliceEndpoint { ready: false, serving: false, ..ready(ip) }
}

fn slice(name: &str, service: &str, ports: Vec<SlicePort>, endpoints: Vec<SliceEndpoint>) -> EndpointSliceObject {
    EndpointSliceObject {
        key: object(name),
        service: Some(service.parse().unwrap()),
        imported: false,
        address_type: AddressType::Ipv4,
        ports,
        endpoints,
    }
}

fn exporting(name: &str, annotations: &[(&str, &str)]) -> ServiceExportObject {
    ServiceExportObject {
        key: key(name),
        created: Timestamp(9),
        exported_labels: BTreeMap::new(),
        exported_annotations: BTreeMap::new(),
        annotations: annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

/// Objects with the exported service `shop/web` of this type and these slices.
fn objects(service_type: ServiceType, slices: Vec<EndpointSliceObject>) -> Objects {
    let mut objects = Objects::default();
    objects.insert_service(service("shop/web", service_type));
    objects.insert_service_export(exporting("shop/web", &[]));
    for slice in slices {
        objects.insert_endpoint_slice(slice);
    }
    objects
}

fn run(objects: &Objects) -> LocalState {
    compile(objects, &TrustDomain::new("east.example").unwrap())
}

fn reasons(state: &LocalState, name: &str) -> (String, String) {
    let conditions = &state.conditions[&key(name)];
    let text = |c: &crate::conditions::Condition| format!("{}={}/{}", c.kind, c.status, c.reason);
    (text(&conditions.valid), text(&conditions.ready))
}

fn targets_of(state: &LocalState) -> Vec<String> {
    let endpoints = &state.exports[&key("shop/web")].endpoints;
    endpoints.iter().map(|e| format!("{} {:?}", e.target(number_of(80), Transport::Tcp).unwrap(), e.state)).collect()
}

#[test]
fn a_service_without_an_export_is_not_exported() {
    let mut objects = objects(ServiceType::ClusterIp, vec![]);
    objects.insert_service(service("shop/api", ServiceType::ClusterIp));
    let state = run(&objects);
    assert_eq!(state.exports.keys().map(ToString::to_string).collect::<Vec<_>>(), ["shop/web"]);
    assert_eq!(reasons(&state, "shop/web"), ("Valid=True/Valid".into(), "Ready=True/Exported".into()));
    assert_eq!(state.catalog("east".parse().unwrap()).services.len(), 1);
}

#[test]
fn an_export_without_a_service_is_pending() {
    let mut objects = Objects::default();
    objects.insert_service_export(exporting("shop/web", &[]));
    let state = run(&objects);
    assert_eq!(reasons(&state, "shop/web"), ("Valid=False/NoService".into(), "Ready=False/Pending".into()));
    assert!(state.exports.is_empty());
}

#[test]
fn an_external_name_cannot_be_exported() {
    let state = run(&objects(ServiceType::ExternalName, vec![]));
    assert_eq!(reasons(&state, "shop/web"), ("Valid=False/InvalidServiceType".into(), "Ready=False/Failed".into()));
    assert!(state.exports.is_empty());
}

#[test]
fn every_type_with_an_address_becomes_a_clusterset_ip() {
    for service_type in [ServiceType::ClusterIp, ServiceType::NodePort, ServiceType::LoadBalancer] {
        let state = run(&objects(service_type, vec![]));
        assert_eq!(state.exports[&key("shop/web")].service.kind, ServiceKind::ClusterSetIp);
    }
}

#[test]
fn named_target_ports_may_differ_from_slice_to_slice() {
    let slices = vec![
        slice("web-1", "web", vec![slice_port("http", Some(8080))], vec![ready("10.0.0.1")]),
        slice("web-2", "web", vec![slice_port("http", Some(9090))], vec![ready("10.0.0.2")]),
    ];
    let state = run(&objects(ServiceType::ClusterIp, slices));
    assert_eq!(targets_of(&state), ["10.0.0.1:8080 Ready", "10.0.0.2:9090 Ready"]);
    assert_eq!(state.warnings, []);
}

#[test]
fn unready_endpoints_are_left_out_and_terminating_ones_kept_as_such() {
    let endpoints = vec![ready("10.0.0.1"), terminating("10.0.0.2"), unready("10.0.0.3")];
    let slices = vec![slice("web-1", "web", vec![slice_port("http", Some(8080))], endpoints)];
    let state = run(&objects(ServiceType::ClusterIp, slices));
    assert_eq!(targets_of(&state), ["10.0.0.1:8080 Ready", "10.0.0.2:8080 Terminating"]);
    let health = state.exports[&key("shop/web")].service.health;
    assert_eq!(health, EndpointCounts { ready: 1, terminating: 1 });
}

#[test]
fn slices_of_other_services_namespaces_and_clusters_are_not_read() {
    let ports = || vec![slice_port("http", Some(8080))];
    let mut elsewhere = slice("web-2", "web", ports(), vec![ready("10.0.0.2")]);
    elsewhere.key.namespace = "other".parse().unwrap();
    let mut imported = slice("web-3", "web", ports(), vec![ready("10.0.0.3")]);
    imported.imported = true;
    let mut fqdn = slice("web-4", "web", ports(), vec![ready("10.0.0.4")]);
    fqdn.address_type = AddressType::Fqdn;
    let other = slice("api-1", "api", ports(), vec![ready("10.0.0.5")]);
    let state = run(&objects(ServiceType::ClusterIp, vec![elsewhere, imported, fqdn, other]));
    assert_eq!(state.exports[&key("shop/web")].endpoints, []);
}

#[test]
fn a_port_that_no_slice_has_is_warned_of_and_its_endpoints_do_not_count() {
    let slices = vec![slice("web-1", "web", vec![slice_port("", Some(8080))], vec![ready("10.0.0.1")])];
    let state = run(&objects(ServiceType::ClusterIp, slices));
    assert_eq!(state.exports[&key("shop/web")].service.health.ready, 0);
    let text = state.warnings[0].to_string();
    assert!(text.contains("shop/web") && text.contains("\"http\"") && text.contains("80"), "{text}");
}

#[test]
fn a_slice_port_without_a_number_means_the_numbered_target_port() {
    let slices = || vec![slice("web-1", "web", vec![slice_port("http", None)], vec![ready("10.0.0.1")])];
    let mut numbered = objects(ServiceType::ClusterIp, slices());
    let mut other = service("shop/web", ServiceType::ClusterIp);
    other.ports = vec![port("http", 80, TargetPort::Number(number_of(8080)))];
    numbered.insert_service(other);
    assert_eq!(targets_of(&run(&numbered)), ["10.0.0.1:8080 Ready"]);
    let named = run(&objects(ServiceType::ClusterIp, slices()));
    assert_eq!(named.warnings.len(), 1, "only the slice knows what a name stands for");
}

#[test]
fn a_pod_with_addresses_of_both_families_is_one_endpoint() {
    let pod = |endpoint: SliceEndpoint| SliceEndpoint { pod: Some(object("web-a")), ..endpoint };
    let ports = || vec![slice_port("http", Some(8080))];
    let mut v6 = slice("web-0", "web", ports(), vec![pod(ready("fd00::1"))]);
    v6.address_type = AddressType::Ipv6;
    let v4 = slice("web-1", "web", ports(), vec![pod(ready("10.0.0.1"))]);
    let state = run(&objects(ServiceType::ClusterIp, vec![v6, v4]));
    assert_eq!(targets_of(&state), ["10.0.0.1:8080 Ready"]);
}

#[test]
fn slices_that_split_the_ports_of_an_address_complete_each_other() {
    let mut objects = objects(
        ServiceType::ClusterIp,
        vec![
            slice("web-1", "web", vec![slice_port("http", Some(8080))], vec![ready("10.0.0.1")]),
            slice("web-2", "web", vec![slice_port("admin", Some(8081))], vec![ready("10.0.0.1")]),
        ],
    );
    let mut two = service("shop/web", ServiceType::ClusterIp);
    two.ports.push(port("admin", 81, TargetPort::Name("admin".to_owned())));
    objects.insert_service(two);
    let state = run(&objects);
    let endpoints = &state.exports[&key("shop/web")].endpoints;
    assert_eq!(endpoints.len(), 1);
    assert_eq!(endpoints[0].ports.len(), 2);
}

#[test]
fn one_port_number_over_tcp_and_udp_leads_to_different_targets() {
    let dns =
        |name: &str, protocol| ServicePortObject { protocol, ..port(name, 80, TargetPort::Number(number_of(5353))) };
    let mut service = service("shop/web", ServiceType::ClusterIp);
    service.ports = vec![dns("t", TCP), dns("u", UDP)];
    let ports = vec![slice_port("t", Some(1053)), SlicePort { protocol: UDP, ..slice_port("u", Some(2053)) }];
    let mut objects = objects(ServiceType::ClusterIp, vec![slice("web-1", "web", ports, vec![ready("10.0.0.1")])]);
    objects.insert_service(service);
    let state = run(&objects);
    let endpoint = &state.exports[&key("shop/web")].endpoints[0];
    assert_eq!(endpoint.target(number_of(80), Transport::Tcp).unwrap().port(), 1053);
    assert_eq!(endpoint.target(number_of(80), Transport::Udp).unwrap().port(), 2053);
}

#[test]
fn a_headless_export_names_its_ready_endpoints_by_host_name_or_dashed_address() {
    let named =
        |name: &str, endpoint: SliceEndpoint| SliceEndpoint { hostname: Some(name.parse().unwrap()), ..endpoint };
    let ports = || vec![slice_port("http", Some(8080))];
    let endpoints = vec![
        named("web-1", ready("10.0.0.2")),
        named("web-0", ready("10.0.0.1")),
        ready("10.0.0.3"),
        named("web-9", terminating("10.0.0.4")),
    ];
    let mut v6 = slice("web-2", "web", ports(), vec![ready("fd00::5"), ready("fd00::")]);
    v6.address_type = AddressType::Ipv6;
    let slices = vec![slice("web-1", "web", ports(), endpoints), v6];
    let state = run(&objects(ServiceType::Headless, slices));
    let ServiceKind::Headless(names) = &state.exports[&key("shop/web")].service.kind else { panic!("not headless") };
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    assert_eq!(names, ["10-0-0-3", "fd00--5", "fd00-0-0-0-0-0-0-0", "web-0", "web-1"]);
}

#[test]
fn a_headless_service_without_ports_still_has_its_endpoints() {
    let mut portless = service("shop/web", ServiceType::Headless);
    portless.ports.clear();
    let mut objects = objects(ServiceType::Headless, vec![slice("web-1", "web", vec![], vec![ready("10.0.0.1")])]);
    objects.insert_service(portless);
    assert_eq!(run(&objects).exports[&key("shop/web")].service.health.ready, 1);
}

#[test]
fn more_headless_endpoints_than_the_limit_are_cut_with_a_warning() {
    let many = (0..=MAX_HEADLESS_ENDPOINTS).map(|n| ready(&format!("10.0.{}.{}", n / 256, n % 256))).collect();
    let slices = vec![slice("web-1", "web", vec![slice_port("http", Some(8080))], many)];
    let state = run(&objects(ServiceType::Headless, slices));
    let catalog = state.catalog("east".parse().unwrap());
    assert!(matches!(state.warnings[..], [Warning::ManyEndpoints { count: 257, .. }]));
    assert!(catalog.accepted_from(&"east".parse().unwrap()).is_ok());
}

#[test]
fn annotations_set_priority_weight_and_delivery() {
    let mut objects = objects(ServiceType::ClusterIp, vec![]);
    let annotations = [(PRIORITY, "3"), (WEIGHT, "250"), (DELIVER, "proxy-v2")];
    objects.insert_service_export(exporting("shop/web", &annotations));
    let state = run(&objects);
    let export = &state.exports[&key("shop/web")];
    assert_eq!((export.service.priority, export.service.weight), (3, 250));
    assert_eq!(export.deliver, Deliver::ProxyV2.into());
    assert_eq!(state.warnings, []);
}

#[test]
fn numbers_that_do_not_parse_give_the_default_and_a_warning() {
    for (annotation, value) in [(PRIORITY, "high"), (PRIORITY, "-1"), (WEIGHT, "0"), (WEIGHT, "1001"), (WEIGHT, "")] {
        let mut objects = objects(ServiceType::ClusterIp, vec![]);
        objects.insert_service_export(exporting("shop/web", &[(annotation, value)]));
        let state = run(&objects);
        let service = &state.exports[&key("shop/web")].service;
        assert_eq!((service.priority, service.weight), (DEFAULT_PRIORITY, DEFAULT_WEIGHT));
        assert!(state.warnings[0].to_string().contains(annotation), "{}", state.warnings[0]);
    }
}

#[test]
fn an_unknown_annotation_is_warned_of() {
    let mut objects = objects(ServiceType::ClusterIp, vec![]);
    objects.insert_service_export(exporting("shop/web", &[("landbridge.dev/wieght", "3")]));
    assert!(run(&objects).warnings[0].to_string().contains("wieght"));
}

#[test]
fn ports_that_are_not_carried_or_double_are_left_out_with_a_warning() {
    let mut service = service("shop/web", ServiceType::ClusterIp);
    let target = || TargetPort::Number(number_of(1));
    service.ports.push(ServicePortObject { protocol: Protocol::Other("SCTP".into()), ..port("sctp", 81, target()) });
    service.ports.push(port("again", 80, target()));
    service.ports.push(port("http", 82, target()));
    let mut objects = objects(ServiceType::ClusterIp, vec![]);
    objects.insert_service(service);
    let state = run(&objects);
    assert_eq!(state.exports[&key("shop/web")].service.ports.len(), 1);
    assert_eq!(state.warnings.len(), 3);
    assert!(state.warnings[0].to_string().contains("SCTP"));
}

#[test]
fn labels_and_annotations_beyond_the_limits_are_left_out_so_that_peers_accept_the_catalog() {
    let mut export = exporting("shop/web", &[]);
    export.exported_labels = (0..MAX_METADATA + 1).map(|n| (format!("l{n}"), String::new())).collect();
    export.exported_annotations = [("long".to_owned(), "x".repeat(MAX_METADATA_BYTES))].into();
    let mut objects = objects(ServiceType::ClusterIp, vec![]);
    objects.insert_service_export(export);
    let state = run(&objects);
    assert_eq!(state.warnings.len(), 2);
    assert!(state.catalog("east".parse().unwrap()).accepted_from(&"east".parse().unwrap()).is_ok());
}

#[test]
fn a_service_over_a_limit_is_held_back_alone_so_that_peers_accept_the_catalog() {
    let long = || Some("x".repeat(MAX_METADATA_BYTES + 1));
    let port_of = |n: u16| port(&format!("p{n}"), n, TargetPort::Number(number_of(n)));
    let mut many = service("shop/ports", ServiceType::ClusterIp);
    many.ports = (1..=65).map(port_of).collect();
    let mut protocol = service("shop/protocol", ServiceType::ClusterIp);
    protocol.ports[0].app_protocol = long();
    let mut policy = service("shop/policy", ServiceType::ClusterIp);
    policy.internal_traffic_policy = long();
    let mut distribution = service("shop/distribution", ServiceType::ClusterIp);
    distribution.traffic_distribution = long();
    let mut affinity = service("shop/affinity", ServiceType::ClusterIp);
    affinity.session_affinity = SessionAffinity::ClientIp { timeout_seconds: 86_401 };

    let mut objects = objects(ServiceType::ClusterIp, vec![]);
    for service in [many, protocol, policy, distribution, affinity] {
        objects.insert_service_export(exporting(&service.key.to_string(), &[]));
        objects.insert_service(service);
    }
    let state = run(&objects);
    assert_eq!(state.exports.keys().map(ToString::to_string).collect::<Vec<_>>(), ["shop/web"]);
    for (name, claimed, limit) in [
        ("shop/ports", "65 ports", "64 are accepted"),
        ("shop/protocol", "513 bytes", "512 are accepted"),
        ("shop/policy", "513 bytes", "512 are accepted"),
        ("shop/distribution", "513 bytes", "512 are accepted"),
        ("shop/affinity", "86401 seconds", "86400 are accepted"),
    ] {
        assert_eq!(reasons(&state, name), ("Valid=True/Valid".into(), "Ready=False/Failed".into()));
        let message = &state.conditions[&key(name)].ready.message;
        assert!(message.contains(claimed) && message.contains(limit), "{message}");
    }
    assert!(state.catalog("east".parse().unwrap()).accepted_from(&"east".parse().unwrap()).is_ok());
}

#[test]
fn the_youngest_exports_beyond_the_limit_are_held_back() {
    let mut objects = Objects::default();
    for n in 0..=MAX_SERVICES {
        let name = format!("shop/s{n}");
        objects.insert_service(service(&name, ServiceType::ClusterIp));
        let created = Timestamp(if n == 0 { 100 } else { 1 });
        objects.insert_service_export(ServiceExportObject { created, ..exporting(&name, &[]) });
    }
    let state = run(&objects);
    assert_eq!(state.exports.len(), MAX_SERVICES);
    assert_eq!(reasons(&state, "shop/s0").1, "Ready=False/Failed");
}

fn pod(name: &str, ip: &str) -> PodObject {
    PodObject {
        key: object(name),
        ips: vec![ip.parse().unwrap()],
        service_account: "frontend".into(),
        phase: PodPhase::Running,
        host_network: false,
        deleted: false,
    }
}

fn principals(pods: Vec<PodObject>) -> (Vec<String>, Vec<Warning>) {
    let mut objects = Objects::default();
    for pod in pods {
        objects.insert_pod(pod);
    }
    let state = run(&objects);
    (state.pods.iter().map(|(ip, id)| format!("{ip} {id}")).collect(), state.warnings)
}

#[test]
fn what_is_compiled_step_by_step_is_what_is_compiled_at_once() {
    let trust_domain = TrustDomain::new("east.example").unwrap();
    let mut compiler = Compiler::new(trust_domain.clone());
    let mut objects = Objects::default();
    // Few names, addresses and states, so that they meet often; the same sequence in every run.
    let mut seed = 7_u32;
    let mut below = |n: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % n
    };
    for step in 0..2_000 {
        let name = format!("p{}", below(6));
        match below(6) {
            0 => drop(Arc::make_mut(&mut objects.pods).remove(&object(&name))),
            1 => drop(objects.insert_service(service("shop/web", ServiceType::ClusterIp))),
            2 => drop(objects.insert_service_export(exporting("shop/web", &[]))),
            _ => {
                let phase = [PodPhase::Running, PodPhase::Running, PodPhase::Ended, PodPhase::Unsettled];
                let changed = PodObject {
                    phase: phase[below(4) as usize],
                    host_network: below(4) == 0,
                    service_account: ["frontend", "a b"][below(2) as usize].into(),
                    ..pod(&name, &format!("10.0.0.{}", below(4)))
                };
                objects.insert_pod(changed);
            }
        }
        compiler.update(&objects);
        assert_eq!(*compiler.state(), compile(&objects, &trust_domain), "step {step}");
    }
}

#[test]
fn what_did_not_change_is_not_compiled_again() {
    let mut compiler = Compiler::new(TrustDomain::new("east.example").unwrap());
    let mut objects = Objects::default();
    objects.insert_service(service("shop/web", ServiceType::ClusterIp));
    objects.insert_service_export(exporting("shop/web", &[]));
    objects.insert_pod(pod("a", "10.0.0.1"));
    compiler.update(&objects);
    let before = compiler.state().clone();
    assert!(!objects.insert_pod(pod("a", "10.0.0.1")), "it is the same pod");
    objects.insert_pod(pod("b", "10.0.0.2"));
    compiler.update(&objects);
    assert!(Arc::ptr_eq(&before.exports, &compiler.state().exports));
    assert_eq!(compiler.state().pods.len(), 2);
}

#[test]
fn the_address_of_a_running_pod_is_that_of_its_service_account() {
    let leaving = PodObject { deleted: true, ..pod("b", "10.0.0.2") };
    let (found, warnings) = principals(vec![pod("a", "10.0.0.1"), leaving]);
    let id = "spiffe://east.example/ns/shop/sa/frontend";
    assert_eq!(found, [format!("10.0.0.1 {id}"), format!("10.0.0.2 {id}")]);
    assert_eq!(warnings, []);
}

#[test]
fn pods_that_do_not_run_or_use_the_host_network_own_no_address() {
    let pods = vec![
        PodObject { phase: PodPhase::Unsettled, ..pod("a", "10.0.0.1") },
        PodObject { phase: PodPhase::Ended, ..pod("d", "10.0.0.3") },
        PodObject { host_network: true, ..pod("b", "10.0.0.2") },
        PodObject { host_network: true, ..pod("c", "10.0.0.2") },
    ];
    assert_eq!(principals(pods), (vec![], vec![]));
}

#[test]
fn an_address_of_two_running_pods_belongs_to_nobody() {
    let (found, warnings) = principals(vec![pod("a", "10.0.0.1"), pod("b", "10.0.0.1"), pod("c", "10.0.0.3")]);
    assert_eq!(found.len(), 1);
    assert!(warnings[0].to_string().contains("shop/a and shop/b"), "{}", warnings[0]);
    let host = PodObject { host_network: true, ..pod("b", "10.0.0.1") };
    assert_eq!(principals(vec![pod("a", "10.0.0.1"), host]).0, [] as [&str; 0]);
}

#[test]
fn an_address_that_went_from_one_pod_to_the_next_is_never_the_old_ones() {
    let old = |phase, deleted| PodObject { phase, deleted, ..pod("old", "10.0.0.1") };
    let new = |phase| PodObject { phase, service_account: "backend".into(), ..pod("new", "10.0.0.1") };
    let backend = vec!["10.0.0.1 spiffe://east.example/ns/shop/sa/backend".to_owned()];
    use PodPhase::{Ended, Running, Unsettled};
    assert_eq!(principals(vec![old(Ended, false), new(Running)]).0, backend, "the old one has ended");
    for (before, deleted) in [(Running, false), (Running, true), (Unsettled, true)] {
        for after in [Unsettled, Running] {
            let (found, warnings) = principals(vec![old(before, deleted), new(after)]);
            assert_eq!((found, warnings.len()), (vec![], 1), "{before:?} {deleted} {after:?}");
        }
    }
    assert_eq!(principals(vec![old(Ended, true), new(Unsettled)]), (vec![], vec![]), "the new one does not run yet");
    assert_eq!(principals(vec![old(Running, false), new(Ended)]).0.len(), 1, "one that has ended claims nothing");
}

#[test]
fn a_service_account_that_fits_no_spiffe_id_is_warned_of() {
    let odd = PodObject { service_account: "a b".into(), ..pod("a", "10.0.0.1") };
    let (found, warnings) = principals(vec![odd]);
    assert_eq!(found, [] as [&str; 0]);
    assert!(warnings[0].to_string().contains("shop/a"), "{}", warnings[0]);
}

#[test]
fn an_export_whose_clusters_cannot_be_read_is_held_back_and_says_why() {
    let mut objects = objects(ServiceType::ClusterIp, vec![]);
    objects.insert_service_export(exporting("shop/web", &[(EXPORT_TO, "west, North")]));
    let state = run(&objects);
    assert_eq!(reasons(&state, "shop/web"), ("Valid=True/Valid".to_owned(), "Ready=False/Failed".to_owned()));
    assert!(state.exports.is_empty());
    let message = &state.conditions[&key("shop/web")].ready.message;
    assert!(message.contains("\"North\"") && message.contains(EXPORT_TO), "{message}");
}

#[test]
fn the_ready_condition_names_the_clusters_an_export_is_for() {
    let mut objects = objects(ServiceType::ClusterIp, vec![]);
    let mut message = |annotations: &[(&str, &str)]| {
        objects.insert_service_export(exporting("shop/web", annotations));
        run(&objects).conditions[&key("shop/web")].ready.message.clone()
    };
    assert_eq!(message(&[]), "the service is in the catalog of this cluster");
    assert_eq!(message(&[(EXPORT_TO, "west,north")]), "the service is in the catalog of this cluster, for north, west");
    assert_eq!(message(&[(EXPORT_TO, "")]), "the service is in the catalog of this cluster, for no other cluster");
}
