use super::{
    properties::{CLUSTER, CLUSTER_SET, PresentProperty},
    *,
};

fn member() -> World {
    let mut world = World::new();
    world.present.properties = Some(BTreeMap::new());
    world.cluster_set = Some("federation.example".to_owned());
    world
}

fn values(world: &World) -> Vec<(String, String)> {
    let properties = world.present.properties.iter().flatten();
    properties.map(|(name, property)| (name.clone(), property.value.clone())).collect()
}

#[test]
fn a_member_has_both_properties_and_one_that_left_has_none() {
    let mut world = member();
    world.settle();
    let both = [(CLUSTER, "east"), (CLUSTER_SET, "federation.example")];
    assert_eq!(values(&world), both.map(|(name, value)| (name.to_owned(), value.to_owned())));
    world.cluster_set = None;
    world.settle();
    assert_eq!(values(&world), []);
}

#[test]
fn a_property_that_somebody_else_made_stays_and_a_contradiction_is_told() {
    let mut world = member();
    let theirs = PresentProperty { uid: "u".to_owned(), ours: false, value: "other.example".to_owned() };
    world.present.properties = Some([(CLUSTER_SET.to_owned(), theirs)].into());
    world.settle();
    assert_eq!(values(&world)[1].1, "other.example");
    assert!(world.plan().findings[0].detail.contains("other.example"));
    world.cluster_set = None;
    world.settle();
    assert_eq!(values(&world).len(), 1);
}

#[test]
fn nothing_is_written_where_the_kind_is_not_served() {
    let mut world = member();
    world.present.properties = None;
    assert_eq!(world.settle(), []);
}
