use super::*;
use crate::{
    places::Places,
    tables::{
        Inputs,
        tests::{cluster, import, service, source, tables},
    },
};

/// What west is told of `shop/web` by a cluster that imports it as this.
fn told(import: Import, change: impl FnOnce(&mut Inputs)) -> ImportState {
    let mut inputs = tables(&[("shop/web", import)]).inner.inputs.clone();
    change(&mut inputs);
    Tables::compile(inputs).reports(|_| true)[&cluster("west")][&service("shop/web")]
}

#[test]
fn an_import_is_ready_when_it_has_its_address() {
    let ports = ["443/tcp"];
    let web = import(ImportKind::ClusterSetIp, &ports, &[("west", source(&ports, 0, &[]))]);
    assert_eq!(told(web.clone(), |_| {}), ImportState::Ready, "whether endpoints are ready is west's own business");
    assert_eq!(told(web, |inputs| inputs.places = Places::default()), ImportState::NoAddress);
}

#[test]
fn a_headless_import_is_ready_when_each_of_its_endpoints_there_has_an_address() {
    let ports = ["443/tcp"];
    let sources = [("north", source(&ports, 1, &["a"])), ("west", source(&ports, 2, &["a", "b"]))];
    let db = import(ImportKind::Headless, &ports, &sources);
    let without_b = |inputs: &mut Inputs| {
        let one = import(ImportKind::Headless, &ports, &[("west", source(&ports, 1, &["a"]))]);
        inputs.places = tables(&[("shop/web", one)]).inner.inputs.places.clone();
    };
    assert_eq!(told(db.clone(), |_| {}), ImportState::Ready);
    assert_eq!(told(db, without_b), ImportState::NoAddress);
}

#[test]
fn an_export_that_lost_a_conflict_is_not_said_to_be_reached() {
    let ports = ["443/tcp"];
    let plain = ImportSource { kind: ImportKind::ClusterSetIp, ..source(&ports, 1, &[]) };
    let headless = import(ImportKind::Headless, &ports, &[("north", source(&ports, 1, &["a"])), ("west", plain)]);
    assert_eq!(told(headless, |_| {}), ImportState::TypeConflict);
    // The other way around, the older export's one address leads to the endpoints of the headless one.
    let plain = import(ImportKind::ClusterSetIp, &ports, &[("west", source(&ports, 1, &["a"]))]);
    assert_eq!(told(plain, |_| {}), ImportState::Ready);
    let mut clash = import(ImportKind::ClusterSetIp, &ports, &[("west", source(&[], 1, &[]))]);
    assert_eq!(told(clash.clone(), |_| {}), ImportState::Ready, "a service may have no port");
    clash.conflicts.insert(Conflict::Port);
    assert_eq!(told(clash, |_| {}), ImportState::PortConflict);
}

#[test]
fn each_cluster_is_told_of_its_own_exports_alone() {
    let ports = ["443/tcp"];
    let of = |names: &[&str]| {
        let sources: Vec<_> = names.iter().map(|name| (*name, source(&ports, 1, &[]))).collect();
        import(ImportKind::ClusterSetIp, &ports, &sources)
    };
    let tables =
        tables(&[("shop/api", of(&["east", "west"])), ("shop/web", of(&["north", "west"])), ("own/x", of(&["east"]))]);
    let reports = tables.reports(|namespace| namespace.as_str() == "shop");
    let names: Vec<_> = reports.iter().map(|(to, report)| (to.as_str(), report.len())).collect();
    assert_eq!(names, [("north", 1), ("west", 2)]);
    let nowhere = tables.reports(|_| false);
    assert!(nowhere[&cluster("west")].values().all(|state| *state == ImportState::NoNamespace));
}
