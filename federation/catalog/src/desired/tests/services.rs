use super::*;

#[test]
fn every_import_has_a_derived_service_on_an_allocated_port_that_the_gateway_pods_answer() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["http:80", "https:443"]))]);
    world.settle();
    let derived = world.derived("shop/cart");
    assert_eq!(derived.ports.iter().map(|port| port.port.number()).collect::<Vec<_>>(), [80, 443]);
    let slices: Vec<_> = world.present.slices.values().filter_map(|slice| slice.spec.as_ref()).collect();
    assert_eq!(slices.iter().map(|slice| slice.family).collect::<Vec<_>>(), [Family::V4, Family::V6]);
    for slice in slices {
        let allocated: Vec<_> = derived.ports.iter().map(|port| port.allocated).collect();
        assert_eq!(slice.ports.iter().map(|(_, _, port)| *port).collect::<Vec<_>>(), allocated);
        assert_eq!(slice.endpoints.len(), 1);
        assert!(slice.endpoints[0].ready);
    }
}

#[test]
fn once_the_objects_are_as_they_should_be_nothing_is_written() {
    let mut world = World::new().exporting(&[
        ("west", "shop/cart", exported(&["80"])),
        ("north", "shop/db", headless(&["sql:5432"], &["db-0", "db-1"])),
    ]);
    assert!(!world.settle().is_empty());
    assert_eq!(world.plan(), Plan::default());
}

#[test]
fn allocated_ports_survive_a_restart_of_whoever_allocates() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    world.settle();
    let before = world.derived("shop/cart").clone();
    world.planner = Planner::new("20000-20099".parse().unwrap(), BTreeSet::new());
    world.export(&[("west", "shop/cart", exported(&["80"])), ("west", "shop/api", exported(&["80"]))]);
    world.settle();
    assert_eq!(*world.derived("shop/cart"), before);
}

#[test]
fn no_port_is_allocated_twice_though_all_of_them_are_asked_for() {
    let mut world = World::new();
    let names: Vec<String> = (0..101).map(|n| format!("shop/s{n}")).collect();
    let exports: Vec<_> = names.iter().map(|name| ("west", name.as_str(), exported(&["80"]))).collect();
    world.export(&exports);
    world.settle();
    let services = world.present.services.values().filter_map(|service| service.placed.as_ref());
    let ports: BTreeSet<Port> =
        services.flat_map(|placed| placed.service.ports.iter().map(|port| port.allocated)).collect();
    assert_eq!(ports.len(), 100);
    let findings = world.plan().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].hint.contains("kubernetes.import_ports"), "{findings:?}");
}

#[test]
fn a_plan_whose_changes_are_not_seen_yet_allocates_the_same_ports_again() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    let first = world.plan();
    assert_eq!(world.plan(), first);
}

#[test]
fn a_freed_port_rests_before_another_import_gets_it() {
    let mut world = World::new();
    world.planner = Planner::new("20000-20001".parse().unwrap(), BTreeSet::new());
    world.export(&[("west", "shop/cart", exported(&["80"])), ("west", "shop/api", exported(&["80"]))]);
    world.settle();
    world.export(&[("west", "shop/api", exported(&["80"]))]);
    world.settle();
    world.export(&[("west", "shop/api", exported(&["80"])), ("west", "shop/late", exported(&["80"]))]);
    world.settle();
    assert_eq!(world.plan().findings.len(), 1, "a node may still lead clients of shop/cart to the free one");
    world.now = Timestamp(NOW.0 + 600);
    world.settle();
    assert_eq!(world.plan().findings, []);
    world.derived("shop/late");
}

#[test]
fn ports_that_the_gateway_listens_on_itself_are_not_allocated() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    let reserved = (20_000..20_099).filter_map(Port::new).collect();
    world.planner = Planner::new("20000-20099".parse().unwrap(), reserved);
    world.settle();
    assert_eq!(world.derived("shop/cart").ports[0].allocated.number(), 20_099);
}

#[test]
fn a_derived_service_that_somebody_edited_is_put_back() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    world.settle();
    let before = world.derived("shop/cart").clone();
    let name = DerivedService::name_of(&"shop/cart".parse().unwrap());
    let edited = world.present.services.get_mut(&name).unwrap().placed.as_mut().unwrap();
    edited.service.ports[0].port = Port::new(81).unwrap();
    let changes = world.settle();
    assert!(matches!(changes.as_slice(), [Change::Service(_), ..]), "{changes:?}");
    assert_eq!(world.derived("shop/cart").ports[0].port, before.ports[0].port);
}

#[test]
fn a_service_of_somebody_else_with_the_name_of_a_derived_one_is_left_alone_and_told() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    let name = DerivedService::name_of(&"shop/cart".parse().unwrap());
    let foreign = PresentService { uid: "theirs".to_owned(), ours: false, placed: None, exporters: Arc::default() };
    world.present.services.insert(name.clone(), foreign.clone());
    world.settle();
    assert_eq!(world.present.services[&name], foreign);
    let findings = world.plan().findings;
    assert!(findings[0].detail.contains(&name), "{findings:?}");
    assert!(world.present.slices.is_empty());
}

#[test]
fn an_unnamed_port_among_others_gets_a_name_in_the_derived_service_and_none_in_the_import() {
    let mut world = World::new().exporting(&[
        ("west", "shop/cart", exported(&["80"])),
        ("north", "shop/cart", exported(&["p80:81", "admin:82"])),
    ]);
    world.settle();
    let names: Vec<_> =
        world.derived("shop/cart").ports.iter().map(|port| port.name.clone().unwrap().to_string()).collect();
    assert_eq!(names.len(), 3);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 3, "{names:?}");
    let fields = world.import("shop/cart").fields.clone().unwrap();
    assert_eq!(fields.ports.iter().filter(|port| port.name.is_none()).count(), 1);
}

#[test]
fn a_headless_import_has_a_derived_service_for_each_endpoint_and_none_for_itself() {
    let mut world = World::new().exporting(&[("west", "shop/db", headless(&["sql:5432"], &["db-0", "db-1"]))]);
    world.settle();
    assert_eq!(world.present.services.len(), 2);
    assert_eq!(world.derived("shop/db/west/db-0").ports.len(), 1);
    assert_eq!(world.import("shop/db").fields.as_ref().unwrap().ips, Vec::<std::net::IpAddr>::new());
}

#[test]
fn a_gateway_pod_that_terminates_serves_what_it_has_and_takes_nothing_new() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    world.settle();
    world.present.gateways.get_mut("gateway-0").unwrap().terminating = true;
    let changes = world.settle();
    assert_eq!(changes.len(), 2, "both slices, and nothing else: {changes:?}");
    let slice = world.present.slices.values().next().unwrap().spec.as_ref().unwrap();
    let endpoint = &slice.endpoints[0];
    assert_eq!((endpoint.ready, endpoint.serving, endpoint.terminating), (false, true, true));
}

#[test]
fn client_affinity_of_the_import_is_that_of_the_derived_service() {
    let affine =
        ExportedService { session_affinity: SessionAffinity::ClientIp { timeout_seconds: 60 }, ..exported(&["80"]) };
    let mut world = World::new().exporting(&[("west", "shop/cart", affine)]);
    world.settle();
    assert_eq!(world.derived("shop/cart").session_affinity, SessionAffinity::ClientIp { timeout_seconds: 60 });
}

#[test]
fn a_service_of_udp_ports_alone_has_an_import_that_says_why_it_has_no_address() {
    let mut udp = exported(&["dns:53"]);
    udp.ports[0].transport = Transport::Udp;
    let mut world = World::new().exporting(&[("west", "shop/dns", udp)]);
    world.settle();
    assert!(world.present.services.is_empty());
    let condition = &world.import("shop/dns").conditions[0];
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "Pending"));
    assert!(condition.message.contains("TCP"), "{}", condition.message);
}

#[test]
fn an_import_without_a_port_says_whose_share_is_used_up_and_what_to_do() {
    let ports: Vec<String> = (1..=80).map(|number| format!("p{number}:{number}")).collect();
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    let mut world =
        World::new().exporting(&[("west", "shop/all", exported(&ports)), ("north", "shop/one", exported(&["80"]))]);
    world.settle();
    let all = world.derived("shop/all").clone();
    world.export(&[
        ("west", "shop/all", exported(&ports)),
        ("north", "shop/one", exported(&["80"])),
        ("west", "shop/new", exported(&["80"])),
        ("north", "shop/other", exported(&["80"])),
    ]);
    world.settle();
    assert_eq!(*world.derived("shop/all"), all, "what it holds stays");
    world.derived("shop/other");
    let condition = &world.import("shop/new").conditions[0];
    assert_eq!(condition.status, "False");
    assert!(condition.message.contains("cluster west already has its share"), "{}", condition.message);
    let findings = world.plan().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].detail.contains("shop/new:80"), "{findings:?}");
    assert!(findings[0].hint.contains("export fewer ports from west"), "{findings:?}");
}

#[test]
fn a_port_that_another_cluster_adds_takes_no_port_from_the_service() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["http:80"]))]);
    world.planner = Planner::new("20000-20000".parse().unwrap(), BTreeSet::new());
    world.settle();
    let before = world.derived("shop/cart").clone();
    world.export(&[
        ("west", "shop/cart", exported(&["http:80"])),
        ("north", "shop/cart", exported(&["http:80", "x:81"])),
    ]);
    world.settle();
    assert_eq!(*world.derived("shop/cart"), before);
    assert_eq!(world.import("shop/cart").conditions[0].status, "True");
    assert!(world.plan().findings[0].detail.contains("shop/cart:81"), "{:?}", world.plan().findings);
}
