use super::*;

#[test]
fn what_nobody_exports_any_more_goes_with_everything_that_belongs_to_it() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    world.settle();
    world.export(&[]);
    let changes = world.settle();
    assert!(matches!(changes.first(), Some(Change::DeleteImport { .. })), "the name first: {changes:?}");
    assert!(world.present.imports.is_empty() && world.present.services.is_empty() && world.present.slices.is_empty());
}

#[test]
fn what_a_member_that_has_not_spoken_yet_may_export_stays() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    world.settle();
    world.export(&[]);
    world.unheard.insert(cluster("west"));
    assert_eq!(world.settle(), [], "the gateway was restarted while west is away");
    assert_eq!(world.present.services.len(), 1);
    world.unheard.clear();
    world.settle();
    assert!(world.present.services.is_empty(), "west spoke, or left");
}

#[test]
fn what_only_clusters_that_have_spoken_exported_goes_though_others_have_not() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    world.settle();
    world.export(&[]);
    world.unheard.insert(cluster("north"));
    world.settle();
    assert!(world.present.imports.is_empty() && world.present.services.is_empty());
}

#[test]
fn an_endpoint_of_a_headless_import_takes_its_service_along() {
    let mut world = World::new().exporting(&[("west", "shop/db", headless(&["5432"], &["db-0", "db-1"]))]);
    world.settle();
    world.export(&[("west", "shop/db", headless(&["5432"], &["db-1"]))]);
    world.settle();
    assert_eq!(world.present.services.len(), 1);
    world.derived("shop/db/west/db-1");
}

#[test]
fn what_somebody_else_made_is_never_deleted() {
    let mut world = World::new();
    let foreign = PresentService { uid: "u".to_owned(), ours: false, placed: None, exporters: Arc::default() };
    world.present.services.insert("landbridge-gateway".to_owned(), foreign);
    let slice = PresentSlice { uid: "u".to_owned(), ours: false, service: "landbridge-gateway".to_owned(), spec: None };
    world.present.slices.insert("landbridge-gateway-x1".to_owned(), slice);
    assert_eq!(world.settle(), []);
}

#[test]
fn a_namespace_that_is_deleted_takes_the_derived_services_along() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    world.settle();
    world.present.namespaces.clear();
    world.present.imports.clear();
    world.settle();
    assert!(world.present.services.is_empty());
}
