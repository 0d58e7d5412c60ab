use super::*;

fn watch(watched: Watched) -> WatchId {
    WatchId { watched, namespace: None }
}

fn store() -> Store {
    Store::new("landbridge-system".parse().unwrap(), BTreeSet::new())
}

fn name(text: &str) -> Name {
    let (namespace, name) = text.split_once('/').unwrap_or(("", text));
    (namespace.to_owned(), name.to_owned())
}

fn value(kind: Kind, named: &str, spec: &str) -> Reading {
    let (namespace, name) = name(named);
    let json = format!(r#"{{"metadata": {{"namespace": "{namespace}", "name": "{name}"}}, "spec": {spec}}}"#);
    match crate::document::read_value(kind, &namespace, serde_json::from_str(&json).unwrap()) {
        Ok(object) => Reading::Object(Box::new(object)),
        Err(fault) => Reading::Fault(Box::new(fault)),
    }
}

fn service(name: &str, port: u32) -> Reading {
    value(Kind::Service, name, &format!(r#"{{"ports": [{{"port": {port}}}]}}"#))
}

fn policy(name: &str, action: &str) -> Reading {
    value(Kind::AuthorizationPolicy, name, &format!(r#"{{"action": "{action}", "to": [{{"services": ["api"]}}]}}"#))
}

/// A recorded sequence on one watch.
fn play(store: &mut Store, watch: &WatchId, events: impl IntoIterator<Item = Event>) {
    for event in events {
        store.handle_event(watch, event);
    }
}

fn list(names: &[(&str, u32)]) -> Vec<Event> {
    let listed = names.iter().map(|(text, port)| Event::Listed(name(text), service(text, *port)));
    std::iter::once(Event::Restarted).chain(listed).chain([Event::Complete]).collect()
}

/// The services in force as `name:port`.
fn services(store: &mut Store) -> Vec<String> {
    let manifests = store.manifests();
    manifests
        .objects
        .services
        .values()
        .map(|service| format!("{}:{}", service.key.name, service.ports[0].port))
        .collect()
}

fn reasons(manifests: &Manifests) -> Vec<&str> {
    manifests.quarantined.iter().map(|entry| entry.reason.as_str()).collect()
}

#[test]
fn a_list_counts_when_it_is_complete_and_what_it_lacks_is_gone() {
    let (mut store, watch) = (store(), watch(Watched::Services));
    play(&mut store, &watch, list(&[("shop/a", 1), ("shop/b", 2)]));
    assert_eq!(services(&mut store), ["a:1", "b:2"]);
    // The resource version was too old, and b vanished meanwhile.
    play(&mut store, &watch, [Event::Restarted, Event::Listed(name("shop/a"), service("shop/a", 11))]);
    assert!(!store.has_changed());
    assert_eq!(services(&mut store), ["a:1", "b:2"], "nothing flickers while the list is under way");
    play(&mut store, &watch, [Event::Listed(name("shop/c"), service("shop/c", 3)), Event::Complete]);
    assert_eq!(services(&mut store), ["a:11", "c:3"]);
}

#[test]
fn a_list_that_is_cut_short_changes_nothing() {
    let (mut store, watch) = (store(), watch(Watched::Services));
    play(&mut store, &watch, list(&[("shop/a", 1), ("shop/b", 2)]));
    play(&mut store, &watch, [Event::Restarted, Event::Listed(name("shop/c"), service("shop/c", 3))]);
    play(&mut store, &watch, list(&[("shop/b", 2)]));
    assert_eq!(services(&mut store), ["b:2"]);
}

#[test]
fn changes_apply_one_by_one_and_what_did_not_change_is_the_same_value() {
    let (mut store, watch) = (store(), watch(Watched::Services));
    play(&mut store, &watch, list(&[("shop/a", 1)]));
    let before = store.manifests();
    play(&mut store, &watch, [Event::Applied(name("shop/a"), service("shop/a", 1))]);
    assert!(!store.has_changed(), "a new resource version alone is no change");
    play(&mut store, &watch, list(&[("shop/a", 1)]));
    assert!(!store.has_changed(), "a new list of the same objects is no change");
    assert!(Arc::ptr_eq(&before.objects.services, &store.manifests().objects.services));
    play(&mut store, &watch, [Event::Applied(name("shop/b"), service("shop/b", 2)), Event::Deleted(name("shop/a"))]);
    assert!(store.has_changed());
    assert_eq!(services(&mut store), ["b:2"]);
    play(&mut store, &watch, [Event::Deleted(name("shop/a"))]);
    assert!(!store.has_changed());
}

#[test]
fn a_bad_version_leaves_the_one_before_in_force_over_a_new_list_too() {
    let (mut store, watch) = (store(), watch(Watched::Services));
    play(&mut store, &watch, list(&[("shop/a", 1)]));
    play(&mut store, &watch, [Event::Applied(name("shop/a"), service("shop/a", 0))]);
    for _ in 0..2 {
        let manifests = store.manifests();
        assert_eq!(reasons(&manifests).len(), 1);
        assert!(reasons(&manifests)[0].ends_with("its last good version stays in force"), "{manifests:?}");
        assert_eq!(services(&mut store), ["a:1"]);
        play(&mut store, &watch, list(&[("shop/a", 0)]));
    }
    play(&mut store, &watch, list(&[("shop/a", 2)]));
    assert_eq!((services(&mut store), reasons(&store.manifests()).len()), (vec!["a:2".to_owned()], 0));
    play(&mut store, &watch, list(&[("shop/a", 0)]));
    play(&mut store, &watch, [Event::Deleted(name("shop/a"))]);
    assert_eq!(store.manifests().quarantined, []);
    assert!(services(&mut store).is_empty());
}

#[test]
fn a_policy_that_was_never_good_refuses_what_it_selects_until_it_is_mended_or_gone() {
    let (mut store, watch) = (store(), watch(Watched::AuthorizationPolicies));
    let p = || name("shop/p");
    play(&mut store, &watch, [Event::Restarted, Event::Listed(p(), policy("shop/p", "OOPS")), Event::Complete]);
    let manifests = store.manifests();
    let broken: Vec<_> = manifests.objects.policies.broken.keys().map(|(_, key)| key.to_string()).collect();
    assert_eq!(broken, ["shop/p"]);
    let entry = manifests.quarantined[0].to_string();
    assert!(entry.starts_with("AuthorizationPolicy shop/p: spec.action: "), "{entry}");
    assert!(entry.ends_with("; calls to api of namespace shop are refused until it is mended"), "{entry}");
    play(&mut store, &watch, [Event::Applied(p(), policy("shop/p", "DENY"))]);
    let manifests = store.manifests();
    assert_eq!((manifests.objects.policies.broken.len(), manifests.objects.policies.authorization.len()), (0, 1));
    play(&mut store, &watch, [Event::Applied(p(), policy("shop/p", "OOPS"))]);
    let manifests = store.manifests();
    assert_eq!((manifests.objects.policies.broken.len(), manifests.objects.policies.authorization.len()), (0, 1));
    play(&mut store, &watch, [Event::Deleted(p())]);
    assert_eq!(*store.manifests().objects.policies, federation_model::policy::Policies::default());
    play(&mut store, &watch, [Event::Applied(p(), policy("shop/p", "OOPS")), Event::Deleted(p())]);
    assert_eq!(store.manifests().objects.policies.broken.len(), 0);
}

#[test]
fn the_list_of_one_namespace_says_nothing_of_another() {
    let mut store = store();
    let of = |namespace: &str| WatchId { watched: Watched::Services, namespace: Some(namespace.parse().unwrap()) };
    play(&mut store, &of("shop"), list(&[("shop/a", 1)]));
    play(&mut store, &of("bank"), list(&[("bank/b", 2)]));
    assert_eq!(services(&mut store), ["b:2", "a:1"]);
    play(&mut store, &of("shop"), list(&[]));
    assert_eq!(services(&mut store), ["b:2"]);
}

#[test]
fn a_kind_that_is_gone_takes_its_objects_with_it() {
    let (mut store, watch) = (store(), watch(Watched::Services));
    play(&mut store, &watch, list(&[("shop/a", 1)]));
    play(&mut store, &watch, [Event::Absent]);
    assert!(store.has_changed());
    assert!(services(&mut store).is_empty());
}

#[test]
fn namespaces_come_and_go_by_their_names() {
    let (mut store, watch) = (store(), watch(Watched::Namespaces));
    let listed = ["shop", "bank"].map(|text| Event::Listed(name(text), Reading::Name));
    play(&mut store, &watch, std::iter::once(Event::Restarted).chain(listed).chain([Event::Complete]));
    play(&mut store, &watch, [Event::Applied(name("new"), Reading::Name), Event::Deleted(name("shop"))]);
    let namespaces = store.manifests().namespaces.unwrap();
    assert_eq!(namespaces.iter().map(Namespace::as_str).collect::<Vec<_>>(), ["bank", "new"]);
}

#[test]
fn names_that_an_api_server_would_not_accept_break_nothing() {
    let (mut store, watch) = (store(), watch(Watched::Services));
    let odd = name("Shop/ä");
    play(&mut store, &watch, [Event::Applied(odd.clone(), service("Shop/ä", 1)), Event::Deleted(odd)]);
    assert_eq!(store.manifests().quarantined, []);
}
