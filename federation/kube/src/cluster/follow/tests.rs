use super::*;

fn id(watched: Watched, namespace: Option<&str>) -> WatchId {
    WatchId { watched, namespace: namespace.map(|text| text.parse().unwrap()) }
}

fn watch(watched: Watched) -> Watch {
    let (sender, _) = mpsc::channel(1);
    Watch { id: id(watched, None), server: "https://api".to_owned(), sender }
}

fn refusal(code: u16, message: &str) -> kube::Error {
    kube::Error::Api(Box::new(Status { code, message: message.to_owned(), ..Status::default() }))
}

#[test]
fn a_missing_right_is_told_as_the_command_that_shows_it() {
    let refused = r#"pods is forbidden: User "system:serviceaccount:landbridge-system:landbridge-gateway" cannot watch resource "pods" in API group "" at the cluster scope"#;
    assert_eq!(
        can_i(refused, &id(Watched::Pods, None)),
        "kubectl auth can-i watch pods --all-namespaces --as=system:serviceaccount:landbridge-system:landbridge-gateway"
    );
    assert_eq!(
        can_i("no", &id(Watched::ServiceExports, Some("shop"))),
        "kubectl auth can-i list serviceexports.multicluster.x-k8s.io --namespace=shop"
    );
    assert_eq!(can_i("no", &id(Watched::Namespaces, None)), "kubectl auth can-i list namespaces");
    let error = watcher::Error::InitialListFailed(refusal(403, refused));
    let (standing, after) = judge(&error, &watch(Watched::Pods));
    assert!(matches!(standing, Some(Standing::Refused { .. })), "{standing:?}");
    assert_eq!(after, After::Resume);
}

#[test]
fn only_a_kind_that_must_be_installed_is_looked_for_in_another_version() {
    let missing =
        || watcher::Error::InitialListFailed(refusal(404, "the server could not find the requested resource"));
    assert_eq!(judge(&missing(), &watch(Watched::ServiceExports)).1, After::NextVersion);
    assert_eq!(judge(&missing(), &watch(Watched::Pods)).1, After::Resume);
}

#[test]
fn a_watch_that_cannot_go_on_where_it_was_lists_anew() {
    let start =
        |code, message| judge(&watcher::Error::WatchStartFailed(refusal(code, message)), &watch(Watched::Pods)).1;
    assert_eq!(start(410, "too old resource version: 1 (2)"), After::Anew);
    assert_eq!(start(504, "Timeout: Too large resource version: 9, current: 3"), After::Anew);
    assert_eq!(start(500, "etcd is gone"), After::Resume);
    let running = Status { code: 410, message: "too old".to_owned(), ..Status::default() };
    let running = watcher::Error::WatchError(Box::new(running));
    assert_eq!(judge(&running, &watch(Watched::Pods)).1, After::Resume, "the library lists anew by itself");
}

#[test]
fn the_pause_that_an_api_server_asks_for_is_kept_within_reason() {
    let asked = |seconds: u32| {
        let status = format!(r#"{{"code": 429, "details": {{"retryAfterSeconds": {seconds}}}}}"#);
        let status: Status = serde_json::from_str(&status).unwrap();
        asked_for(&watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(status))))
    };
    assert_eq!(asked(3), Some(Duration::from_secs(3)));
    assert_eq!(asked(86_400), Some(MAX_ASKED));
    assert_eq!(asked_for(&watcher::Error::NoResourceVersion), None);
}

#[test]
fn pauses_grow_to_their_limit_and_begin_anew_after_a_success() {
    let mut pauses = Pauses::new();
    let within = |pause: Duration, expected: Duration| pause >= expected && pause <= 2 * expected;
    assert!(within(pauses.next(), PAUSES.0));
    for _ in 0..50 {
        pauses.next();
    }
    assert!(within(pauses.next(), PAUSES.1));
    pauses.reset();
    assert!(within(pauses.next(), PAUSES.0));
}
