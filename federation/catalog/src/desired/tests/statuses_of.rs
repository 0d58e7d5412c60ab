use federation_model::export::Audience;

use super::*;

fn world_with_export(conditions: ExportConditions) -> World {
    let mut world = World::new();
    world.exports.insert(service("shop/cart"), vec![conditions.valid, conditions.ready]);
    world.present.exports.insert(service("shop/cart"), PresentExport { generation: 2, conditions: Vec::new() });
    world
}

fn told(world: &World) -> Vec<(String, String, String)> {
    let conditions = &world.present.exports[&service("shop/cart")].conditions;
    conditions.iter().map(|c| (c.kind.clone(), c.status.clone(), c.reason.clone())).collect()
}

#[test]
fn the_conditions_of_an_export_are_written_once_with_generation_and_time() {
    let mut world = world_with_export(ExportConditions::exported(&Audience::Everyone));
    assert_eq!(world.settle().len(), 1);
    let conditions = &world.present.exports[&service("shop/cart")].conditions;
    assert!(conditions.iter().all(|c| c.generation == 2 && c.since == NOW), "{conditions:?}");
    let exact = |kind: &str, reason: &str| (kind.to_owned(), "True".to_owned(), reason.to_owned());
    assert_eq!(told(&world), [exact("Valid", "Valid"), exact("Ready", "Exported")]);
}

#[test]
fn the_time_of_a_condition_is_kept_while_its_status_is_the_same() {
    let mut world = world_with_export(ExportConditions::without_service("none"));
    world.settle();
    world.now = Timestamp(NOW.0 + 50);
    let other = ExportConditions::of_invalid_type("ExternalName");
    world.exports.insert(service("shop/cart"), vec![other.valid, other.ready]);
    world.settle();
    let conditions = &world.present.exports[&service("shop/cart")].conditions;
    assert!(conditions.iter().all(|c| c.since == NOW), "another reason, the same status: {conditions:?}");
    let good = ExportConditions::exported(&Audience::Everyone);
    world.exports.insert(service("shop/cart"), vec![good.valid, good.ready]);
    world.settle();
    let conditions = &world.present.exports[&service("shop/cart")].conditions;
    assert!(conditions.iter().all(|c| c.since == world.now), "{conditions:?}");
}

#[test]
fn a_condition_of_another_writer_is_no_reason_to_write() {
    let mut world = world_with_export(ExportConditions::exported(&Audience::Everyone));
    world.settle();
    let there = world.present.exports.get_mut(&service("shop/cart")).unwrap();
    there.conditions.push(PresentCondition {
        kind: "example.com/Audited".to_owned(),
        status: "True".to_owned(),
        reason: "Audited".to_owned(),
        message: String::new(),
        generation: 1,
        since: Timestamp(5),
    });
    assert_eq!(world.settle(), []);
}

#[test]
fn a_message_longer_than_the_api_takes_is_cut_and_written_once() {
    let mut world = world_with_export(ExportConditions::without_service(&"é".repeat(20_000)));
    world.settle();
    let conditions = &world.present.exports[&service("shop/cart")].conditions;
    assert!(conditions[0].message.len() <= 32 * 1024);
    assert_eq!(world.settle(), []);
}

#[test]
fn an_import_is_ready_when_it_has_an_address_and_a_cluster_to_go_to() {
    let mut world = World::new().exporting(&[("west", "shop/cart", exported(&["80"]))]);
    let first = world.plan();
    first.changes.into_iter().for_each(|change| world.make(change));
    let second = world.plan();
    let is_status = |change: &Change| matches!(change, Change::ImportStatus(_));
    assert!(!second.changes.iter().any(is_status), "its address is being written into it: {second:?}");
    world.settle();
    let condition = &world.import("shop/cart").conditions[0];
    assert_eq!(
        (condition.kind.as_str(), condition.status.as_str(), condition.reason.as_str()),
        ("Ready", "True", "Ready")
    );
    assert_eq!(world.import("shop/cart").clusters, ["west".to_owned()].into());
}

#[test]
fn the_clusters_of_an_import_follow_who_can_be_reached() {
    let mut world =
        World::new().exporting(&[("west", "shop/cart", exported(&["80"])), ("north", "shop/cart", exported(&["80"]))]);
    world.settle();
    assert_eq!(world.import("shop/cart").clusters, ["west".to_owned()].into());
    world.reachable.insert(cluster("north"));
    let changes = world.settle();
    assert!(matches!(changes.as_slice(), [Change::ImportStatus(_)]), "one write for one change: {changes:?}");
}
