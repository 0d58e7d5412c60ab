use super::*;

#[test]
fn rule_2_an_import_exists_where_its_namespace_does_and_nowhere_else() {
    let mut world = World::new()
        .exporting(&[("west", "shop/cart", exported(&["80"])), ("west", "elsewhere/cart", exported(&["80"]))]);
    world.settle();
    assert_eq!(world.present.imports.keys().map(ToString::to_string).collect::<Vec<_>>(), ["shop/cart"]);
    assert_eq!(world.present.services.len(), 1);
    world.present.namespaces.insert("elsewhere".parse().unwrap());
    world.settle();
    assert_eq!(world.present.imports.len(), 2, "the namespace was created later");
}

#[test]
fn rule_2_the_exporting_cluster_imports_too() {
    let mut world = World::new().exporting(&[("east", "shop/cart", exported(&["80"]))]);
    world.settle();
    assert_eq!(world.import("shop/cart").clusters, ["east".to_owned()].into());
}

#[test]
fn rule_4_the_addresses_are_those_of_the_derived_service_in_its_order_and_never_change() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    world.settle();
    let fields = world.import("shop/cart").fields.clone().unwrap();
    assert_eq!(fields.families().map(Family::label).collect::<Vec<_>>(), ["IPv4", "IPv6"]);
    world.export(&[("west", "shop/cart", exported(&["80", "admin:81"])), ("north", "shop/cart", exported(&["80"]))]);
    world.settle();
    assert_eq!(world.import("shop/cart").fields.as_ref().unwrap().ips, fields.ips);
}

#[test]
fn rule_4_a_cluster_that_cannot_be_reached_keeps_its_import_and_its_address() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    world.settle();
    let ips = world.import("shop/cart").fields.clone().unwrap().ips;
    world.reachable.clear();
    world.settle();
    let import = world.import("shop/cart");
    assert_eq!(import.fields.as_ref().unwrap().ips, ips);
    assert_eq!(import.clusters, BTreeSet::new(), "it counts for nothing meanwhile");
    assert_eq!(import.conditions[0].status, "False");
    assert!(import.conditions[0].message.contains("west"), "{}", import.conditions[0].message);
}

#[test]
fn rule_6_the_ports_are_the_union() {
    let mut world = World::new().exporting(&[
        ("west", "shop/cart", exported(&["http:80"])),
        ("north", "shop/cart", exported(&["http:80", "admin:81"])),
    ]);
    world.settle();
    let ports = &world.import("shop/cart").fields.as_ref().unwrap().ports;
    assert_eq!(ports.iter().map(|port| port.port.number()).collect::<Vec<_>>(), [80, 81]);
}

#[test]
fn an_import_that_somebody_edited_is_put_back() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    world.settle();
    let good = world.import("shop/cart").clone();
    let edits: [fn(&mut PresentImport); 5] = [
        |there| drop(there.labels.remove(MANAGED_BY)),
        |there| there.fields.as_mut().unwrap().ips.clear(),
        |there| there.fields = None,
        |there| there.exporters = Arc::default(),
        |there| drop(there.annotations.remove(DERIVED_SERVICE)),
    ];
    for edit in edits {
        edit(world.present.imports.get_mut(&service("shop/cart")).unwrap());
        let changes = world.settle();
        assert!(matches!(changes.first(), Some(Change::Import(_))), "{changes:?}");
        assert_eq!(world.import("shop/cart").fields, good.fields);
    }
}

#[test]
fn exported_labels_and_annotations_come_along_and_go_when_they_are_no_longer_exported() {
    let labelled = ExportedService {
        labels: [("team".to_owned(), "shop".to_owned()), ("app.kubernetes.io/managed-by".to_owned(), "me".to_owned())]
            .into(),
        annotations: [("example.com/docs".to_owned(), "any text".to_owned())].into(),
        ..exported(&["80"])
    };
    let mut world = World::new().exporting(&[("west", "shop/cart", labelled)]);
    world.settle();
    let import = world.import("shop/cart");
    assert_eq!(
        import.labels,
        labels([("team".to_owned(), "shop".to_owned())].into()),
        "what controllers act on is ours"
    );
    assert_eq!(import.annotations["example.com/docs"], "any text");
    world.export(&[("west", "shop/cart", exported(&["80"]))]);
    assert!(matches!(world.settle().as_slice(), [Change::Import(spec), ..] if spec.labels.is_empty()));
}

#[test]
fn an_import_of_another_implementation_is_left_alone_and_told() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    world.settle();
    let there = world.present.imports.get_mut(&service("shop/cart")).unwrap();
    there.ours = false;
    there.fields = None;
    let plan = world.plan();
    assert_eq!(plan.changes, []);
    assert!(plan.findings[0].detail.contains("ServiceImport shop/cart"), "{plan:?}");
    world.export(&[]);
    assert!(world.settle().iter().all(|change| !matches!(change, Change::DeleteImport { .. })));
}

#[test]
fn words_of_another_cluster_that_the_api_would_refuse_are_left_out() {
    let odd = ExportedService { internal_traffic_policy: Some("Sideways".to_owned()), ..exported(&["80"]) };
    let mut world = World::new().exporting(&[("west", "shop/cart", odd)]);
    world.settle();
    assert_eq!(world.import("shop/cart").fields.as_ref().unwrap().internal_traffic_policy, None);
}
