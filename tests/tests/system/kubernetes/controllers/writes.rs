//! How many writes a change costs the API server of an importing cluster, by what they are of.
//!
//! Each change is followed by one that is seen: whatever the first one costs has been planned with it, or before.

use super::*;

const CART: &str = "production/cart";

/// The writes of a gateway to objects whose name says `part`: resource and verb of each.
fn writes_of(world: &World, part: &str) -> Vec<String> {
    let of_part = |asked: &tests::apiserver::Asked| asked.name.contains(part) && !asked.resource.starts_with("leases");
    let mut writes: Vec<String> = world
        .east
        .double_of()
        .writes()
        .iter()
        .filter(|asked| of_part(asked))
        .map(|asked| {
            let kind = asked.resource.split('.').next().unwrap_or_default();
            let status = if asked.resource.ends_with("/status") { "/status" } else { "" };
            format!("{} {kind}{status}", asked.verb)
        })
        .collect();
    writes.sort();
    writes
}

/// A service that both export, and one that only west does, written down in east.
async fn settled() -> World {
    let world = World::doubles().await;
    world.east.gateway_pod("east-0", "10.244.1.7", true).await;
    world.west.put_yaml(&export(API, 8080).yaml()).await;
    world.west.put_yaml(&export(CART, 8080).yaml()).await;
    world.import(API).await;
    world.import(CART).await;
    world
}

/// Exports one more service, and waits until it is there: all that was asked for before has been planned by then.
async fn planned(world: &World, name: &str) {
    let service = format!("production/{name}");
    world.west.put_yaml(&export(&service, 8080).yaml()).await;
    world.import(&service).await;
}

#[tokio::test]
async fn another_number_of_endpoints_costs_no_write() {
    let world = settled().await;
    world.east.double_of().forget_requests();
    let endpoints = [10, 11, 12].map(|host| Ipv4Addr::new(10, 244, 0, host).into());
    world.west.put_yaml(&export(API, 8080).endpoints(&endpoints).yaml()).await;
    planned(&world, "late").await;
    assert_eq!(writes_of(&world, "api"), [""; 0]);
    assert_eq!(writes_of(&world, "cart"), [""; 0]);
}

#[tokio::test]
async fn a_new_service_costs_five_writes() {
    let world = settled().await;
    world.east.double_of().forget_requests();
    planned(&world, "late").await;
    planned(&world, "later").await;
    let writes: Vec<String> = writes_of(&world, "late").into_iter().collect();
    let [of_later, of_both] = [writes_of(&world, "later"), writes];
    assert_eq!(of_later.len() * 2, of_both.len(), "{of_both:#?}");
    // The import is written at once, and again with the address that its Service got.
    let five = [
        "patch endpointslices",
        "patch serviceimports",
        "patch serviceimports",
        "patch serviceimports/status",
        "patch services",
    ];
    assert_eq!(of_later, five);
}

#[tokio::test]
async fn one_more_exporter_costs_three_writes_and_one_less_costs_one() {
    let world = settled().await;
    world.east.double_of().forget_requests();
    let clusters = |names: &'static [&'static str]| {
        move |import: &Value| {
            let told = import["status"]["clusters"].as_array().cloned().unwrap_or_default();
            told.iter().filter_map(|cluster| cluster["cluster"].as_str()).eq(names.iter().copied())
        }
    };
    world.east.put_yaml(&export(API, 8080).yaml()).await;
    world.east.becomes(IMPORTS, "production", "api", clusters(&["east", "west"])).await;
    planned(&world, "late").await;
    let of_import =
        |writes: Vec<String>| writes.into_iter().filter(|write| !write.contains("serviceexports")).collect::<Vec<_>>();
    let three = ["patch serviceimports", "patch serviceimports/status", "patch services"];
    assert_eq!(of_import(writes_of(&world, "api")), three);
    world.east.double_of().forget_requests();
    world.east.delete(EXPORTS, "production", "api").await;
    world.east.becomes(IMPORTS, "production", "api", clusters(&["west"])).await;
    planned(&world, "later").await;
    assert_eq!(of_import(writes_of(&world, "api")), ["patch serviceimports/status"]);
}

#[tokio::test]
async fn a_cluster_that_becomes_unreachable_costs_one_write_for_each_of_its_services() {
    let world = settled().await;
    world.east.double_of().forget_requests();
    world.fleet.partition("east", "west");
    world.east().reaches("west", false).await;
    for name in ["api", "cart"] {
        world.east.becomes(IMPORTS, "production", name, |import| condition(import, "Ready").0 == "False").await;
        assert_eq!(writes_of(&world, name), ["patch serviceimports/status"]);
    }
}

#[tokio::test]
async fn the_next_leader_writes_nothing_that_is_there() {
    let mut world = settled().await;
    world.east.double_of().forget_requests();
    world.fleet["east"].stop().await;
    world.fleet["east"].start().await;
    world.fleet.connected().await;
    planned(&world, "late").await;
    let of_both =
        |part| writes_of(&world, part).into_iter().filter(|write| !write.contains("/status")).collect::<Vec<_>>();
    assert_eq!(of_both("api"), [""; 0]);
    assert_eq!(of_both("cart"), [""; 0]);
}
