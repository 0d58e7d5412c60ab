use super::*;

fn hub(namespaces: &[&str]) -> Hub {
    let namespaces: Vec<Namespace> = namespaces.iter().map(|text| text.parse().unwrap()).collect();
    Hub::new("landbridge-system".parse().unwrap(), &namespaces)
}

fn complete(hub: &mut Hub, watched: Watched) {
    let ids: Vec<_> = hub.standings.watches.keys().filter(|id| id.watched == watched).cloned().collect();
    for id in ids {
        hub.handle(id.clone(), Told::Event(Event::Restarted));
        hub.handle(id, Told::Event(Event::Complete));
    }
}

#[test]
fn nothing_is_published_before_every_kind_that_exists_was_listed_once() {
    let mut hub = hub(&[]);
    for watched in
        Watched::ALL.into_iter().filter(|watched| ![Watched::Pods, Watched::ServiceExports].contains(watched))
    {
        complete(&mut hub, watched);
        assert!(!hub.wants_to_publish());
    }
    assert_eq!(hub.standings.waiting().unwrap(), "waiting for pods, serviceexports");
    let exports = WatchId { watched: Watched::ServiceExports, namespace: None };
    let missing = Standing::Missing { wanted: "serviceexports (v1beta1)".to_owned() };
    hub.handle(exports, Told::Standing(missing));
    let pods = WatchId { watched: Watched::Pods, namespace: None };
    hub.handle(pods.clone(), Told::Standing(Standing::Refused { check: "kubectl auth can-i list pods".to_owned() }));
    let waiting = hub.standings.waiting().unwrap();
    assert!(waiting.starts_with("waiting for pods: a right is missing: `kubectl auth can-i list pods`"), "{waiting}");
    complete(&mut hub, Watched::Pods);
    assert!(hub.wants_to_publish());
    hub.publish();
    assert_eq!(hub.standings.waiting(), None);
    assert!(!hub.wants_to_publish());
    hub.handle(pods, Told::Event(Event::Restarted));
    assert_eq!(hub.standings.waiting(), None, "what was published once stays");
}

#[test]
fn a_tenant_watches_its_namespaces_alone_and_takes_them_to_exist() {
    let mut hub = hub(&["shop", "bank"]);
    assert_eq!(hub.standings.watches.len(), 12);
    assert!(hub.standings.watches.keys().all(|id| id.namespace.is_some() && id.watched != Watched::Namespaces));
    let namespaces = hub.store.manifests().namespaces.unwrap();
    assert_eq!(namespaces.iter().map(Namespace::as_str).collect::<Vec<_>>(), ["bank", "shop"]);
}

#[test]
fn only_a_change_of_state_wakes_who_listens() {
    let mut hub = hub(&[]);
    let mut told = hub.told.subscribe();
    let pods = WatchId { watched: Watched::Pods, namespace: None };
    told.mark_unchanged();
    hub.handle(pods.clone(), Told::Event(Event::Deleted((String::new(), "a".to_owned()))));
    hub.tell();
    assert!(!told.has_changed().unwrap());
    assert!(told.borrow().watches[&pods].newest.is_some());
    hub.handle(pods, Told::Standing(Standing::Live));
    hub.tell();
    assert!(told.has_changed().unwrap());
}
