//! What people and programs read, pinned.

use federation_client::operator::{ForeignStatus, TokenInfo, TokenState};
use federation_kube::install::{Applied, Manifest, Refusal, Removed};
use federation_model::{
    audit::{Action, Entry, Event, Head},
    bundle::TrustBundle,
    finding::{Finding, Level},
    foreign::{BundleSource, EndpointProfile},
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use proto::gateway::v1::{
    Export, Federation, ForeignBundle, Importer, Peer, PeerState, Quarantined, Service, Source, Status, Tunnel,
};

use super::{
    audit::EntryView,
    findings::FindingView,
    foreign::ForeignView,
    install::{InstalledView, ObjectView, RemovedView, UninstalledView},
    join::JoinView,
    members::FederationView,
    services::ServiceView,
    status::{GatewayView, StatusView},
    tokens::{NewTokenView, TokenView},
    *,
};
use crate::tests::{NOW, listing, listing_with_one_that_waits, token};

const LOOK: Look = Look { now: Timestamp(NOW), color: false };

fn text(text: &str) -> String {
    text.to_owned()
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

fn foreign_bundle(trust_domain: &str, authorities: usize) -> ForeignBundle {
    let authorities = vec![format!("SHA256:{}", "ef".repeat(32)); authorities];
    ForeignBundle { trust_domain: text(trust_domain), sequence: 7, authorities }
}

fn status() -> Status {
    let tunnel = |remote: &str, dialled| Tunnel {
        remote: text(remote),
        dialled,
        rtt_micros: 1_240,
        connected_at: NOW - 192,
        streams: 7,
        clock_skew_millis: -3,
        software: text("landbridge 0.1.0"),
    };
    let peer = |cluster: &str, state: PeerState| Peer {
        cluster: text(cluster),
        state: state.into(),
        trust_domain: format!("{cluster}.example"),
        ..Peer::default()
    };
    Status {
        advertise: vec!["west.example:15443".to_owned()],
        cluster: text("east"),
        trust_domain: text("east.example"),
        gateway_id: text("spiffe://east.example/landbridge/gateway"),
        software: text("landbridge 0.1.0"),
        started_at: NOW - 3_720,
        cluster_authority: format!("SHA256:{}", "ab".repeat(32)),
        certificate_expires_at: NOW + 80_000,
        federation: Some(Federation {
            joined: true,
            connected: true,
            addresses: vec![text("federation.example:15010")],
            revision: 7,
            last_error: String::new(),
            authority: format!("SHA256:{}", "cd".repeat(32)),
            pending: false,
        }),
        peers: vec![
            Peer {
                services: 3,
                tunnels: vec![tunnel("192.0.2.7:15443", true), tunnel("192.0.2.8:15443", false)],
                ..peer("west", PeerState::Connected)
            },
            Peer {
                last_error: text("no answer from 198.51.100.4:15443"),
                next_dial_in_millis: 2_350,
                ..peer("north", PeerState::Lost)
            },
            peer("south", PeerState::Waiting),
        ],
        quarantined: vec![
            Quarantined {
                file: text("manifests/api.yaml"),
                line: 12,
                object: text("Service shop/api"),
                reason: text("spec.ports[0].port: 0 is not a port number from 1 to 65535"),
            },
            Quarantined {
                file: text("manifests/big.yaml"),
                reason: text("the file is over 4 MiB"),
                ..Quarantined::default()
            },
        ],
        exports: 2,
        imports: 5,
        connections: 12,
        identity_source: text("self-signed"),
        ready: true,
        not_ready_reason: String::new(),
        warnings: vec![text("certificate: the certificate expires in 80000s: the agent is away")],
        foreign: vec![foreign_bundle("spire.example", 1), foreign_bundle("gone.example", 0)],
        certificate_serial: text("0a1b2c3d"),
    }
}

fn services() -> Vec<ServiceView> {
    let source = |cluster: &str, ready, local, reachable| Source {
        cluster: text(cluster),
        ready,
        local,
        reachable,
        priority: 0,
        weight: 100,
    };
    let importer = |cluster: &str, state: &str, why_not: &str, distance: &str| Importer {
        cluster: text(cluster),
        state: text(state),
        reached: why_not.is_empty(),
        why_not: text(why_not),
        distance: text(distance),
    };
    let api = Service {
        namespace: text("production"),
        name: text("api"),
        host: text("api.production.svc.clusterset.local"),
        headless: false,
        addresses: vec![text("127.80.12.7")],
        ports: vec![text("http 80/tcp"), text("443/tcp")],
        sources: vec![source("west", 3, false, true), source("east", 2, true, true)],
        conflicts: vec![text("PortConflict: west exports http as 8080")],
        export: Some(Export {
            restricted: true,
            clusters: vec![text("far"), text("north"), text("south"), text("west")],
            importers: vec![
                importer("far", "no-tunnel", "no tunnel", ""),
                importer("north", "reachable", "", "20 ms"),
                importer("south", "no-address", "it has no address there yet", "5 ms"),
                importer("west", "reachable", "", "5 ms"),
            ],
        }),
    };
    let db = Service {
        name: text("db"),
        host: text("db.production.svc.clusterset.local"),
        headless: true,
        addresses: vec![text("127.80.0.1"), text("127.80.0.2")],
        ports: vec![text("sql 5432/tcp")],
        sources: vec![source("north", 2, false, false)],
        conflicts: Vec::new(),
        export: None,
        ..api.clone()
    };
    [api, db].map(ServiceView::from).into()
}

fn tokens() -> Vec<TokenView> {
    let token = |id: u64, state, used_at: Option<u64>| TokenInfo {
        id: format!("{id:016x}").parse().unwrap(),
        cluster: "west".parse().unwrap(),
        created_at: Timestamp(NOW - 60),
        expires_at: Timestamp(NOW + 840),
        state,
        used_at: used_at.map(Timestamp),
    };
    let all = [
        token(1, TokenState::Ready, None),
        token(2, TokenState::Used, Some(NOW - 30)),
        token(3, TokenState::Expired, None),
        token(4, TokenState::Revoked, None),
    ];
    all.map(TokenView::from).into()
}

fn findings() -> Vec<FindingView> {
    let all = [
        Finding::ok("clock", "3 ms from the federation service"),
        Finding::warning("authority", "self-signed", "identity.source = \"files\" with a CA of your own"),
        Finding::failed("peer north", "no tunnel for 2m", "open UDP 15443 towards north"),
    ];
    all.map(|finding| FindingView::new("gateway", finding)).into()
}

/// One of each state: fresh, stale, revoked, unread, pending.
fn foreign_domains() -> Vec<ForeignView> {
    let status = |name: &str, sequence: Option<u64>, authorities: usize, failures: u32| ForeignStatus {
        source: BundleSource {
            trust_domain: TrustDomain::new(name).unwrap(),
            url: format!("https://{name}:8443/bundle").parse().unwrap(),
            profile: EndpointProfile::HttpsWeb,
        },
        bundle: sequence.map(|sequence| TrustBundle {
            trust_domain: TrustDomain::new(name).unwrap(),
            sequence,
            authorities: vec![b"authority".to_vec().into(); authorities],
        }),
        sequenced: sequence.is_some_and(|sequence| sequence > 0),
        added_at: Timestamp(NOW - 93_784),
        changed_at: sequence.map(|_| Timestamp(NOW - 3_720)),
        last_success: sequence.map(|_| Timestamp(NOW - 192)),
        failures,
        last_error: if failures > 0 { text("it answered 404 rather than 200") } else { String::new() },
        interval: std::time::Duration::from_secs(300),
    };
    let fresh = status("fresh.example", Some(7), 2, 0);
    let endpoint_id = SpiffeId::new("spiffe://fresh.example/spire/server").unwrap();
    let source = BundleSource { profile: EndpointProfile::HttpsSpiffe { endpoint_id }, ..fresh.source.clone() };
    let all = [
        ForeignStatus { source, ..fresh },
        status("stale.example", Some(0), 1, 3),
        status("revoked.example", Some(9), 0, 0),
        status("unread.example", None, 0, 1),
        status("pending.example", None, 0, 0),
    ];
    all.map(ForeignView::from).into()
}

#[test]
fn foreign_trust_domains_in_every_state() {
    let views = foreign_domains();
    insta::assert_snapshot!("foreign_table", foreign::table(&views, LOOK));
    insta::assert_snapshot!("foreign_json", json(&views[0]));
    assert!(foreign::table(&[], LOOK).contains("fedctl trust foreign add"));
    let findings: Vec<_> = views.iter().map(|view| FindingView::new("federation", view.finding(LOOK))).collect();
    insta::assert_snapshot!("foreign_findings", findings::table(&findings, LOOK));
    let levels: Vec<_> = findings.iter().map(|finding| finding.level).collect();
    assert_eq!(levels, [Level::Ok, Level::Warning, Level::Warning, Level::Failed, Level::Warning]);
    let federation = FederationView { foreign: views, ..FederationView::from(listing()) };
    assert!(members::overview(&federation, LOOK).contains("stale.example"));
}

#[test]
fn the_status_of_a_gateway() {
    let gateway = GatewayView::from(status());
    insta::assert_snapshot!("status_table", status::text(&gateway, LOOK));
    insta::assert_snapshot!("status_json", json(&StatusView { gateway: Some(gateway), federation: None }));
}

#[test]
fn a_gateway_that_has_just_been_made_is_told_what_comes_next() {
    let fresh = Status {
        federation: Some(Federation::default()),
        peers: Vec::new(),
        quarantined: Vec::new(),
        ready: false,
        not_ready_reason: text("manifests are not read yet"),
        ..status()
    };
    insta::assert_snapshot!("status_fresh", status::text(&fresh.into(), LOOK));
}

#[test]
fn a_gateway_without_its_federation_service_says_what_it_goes_on_with() {
    let federation =
        Federation { connected: false, last_error: text("connection refused"), ..status().federation.unwrap() };
    let text = status::text(&Status { federation: Some(federation), ..status() }.into(), LOOK);
    assert!(text.contains("away (federation.example:15010); going on with revision 7: connection refused"), "{text}");
}

#[test]
fn the_members_of_the_cluster_set() {
    let federation = FederationView::from(listing());
    insta::assert_snapshot!("members_table", members::overview(&federation, LOOK));
    insta::assert_snapshot!("members_json", json(&federation));
    let empty = FederationView { members: Vec::new(), ..federation };
    assert!(members::table(&empty, LOOK).contains("fedctl token create"));
}

#[test]
fn a_cluster_that_waits_for_approval_is_shown_with_all_its_authorities() {
    let federation = FederationView::from(listing_with_one_that_waits());
    insta::assert_snapshot!("members_pending", members::overview(&federation, LOOK));
    let south = federation.members.iter().find(|member| member.pending).unwrap();
    insta::assert_snapshot!("approval_plan", south.plan(LOOK));
    let waiting = Federation { pending: true, connected: true, revision: 0, ..status().federation.unwrap() };
    let status = Status { federation: Some(waiting), peers: Vec::new(), quarantined: Vec::new(), ..status() };
    insta::assert_snapshot!("status_pending", status::text(&status.into(), LOOK));
}

#[test]
fn the_entries_of_the_audit_log() {
    let actors = ["operator:admin", "member:west", "stranger:192.0.2.9", "service"];
    let actions = [Action::TokenCreated, Action::Join, Action::JoinRefused, Action::SetUp];
    let mut head = Head::start("s");
    let entry = |(actor, action): (&str, Action)| {
        let event =
            Event::new(actor.parse().unwrap(), action, "west", if action == Action::SetUp { "" } else { "token 0123" });
        let entry = Entry::next(&head, Timestamp(NOW), event);
        head = entry.head();
        EntryView::from(entry)
    };
    let entries: Vec<_> = actors.into_iter().zip(actions).map(entry).collect();
    insta::assert_snapshot!("audit_table", audit::table(&entries, LOOK));
    insta::assert_snapshot!("audit_json", json(&entries[0]));
    assert!(audit::table(&[], LOOK).contains("No entries"));
}

#[test]
fn the_services_and_their_conflicts() {
    insta::assert_snapshot!("services_table", services::table(&services(), LOOK));
    insta::assert_snapshot!("services_json", json(&services()));
    assert!(services::table(&[], LOOK).contains("ServiceExport"));
}

#[test]
fn tokens_in_every_state() {
    insta::assert_snapshot!("tokens_table", tokens::table(&tokens(), LOOK));
    insta::assert_snapshot!("tokens_json", json(&tokens()));
}

#[test]
fn a_new_token_with_what_to_know_of_it() {
    let token = token("west");
    let info = TokenInfo {
        id: token.id,
        cluster: token.cluster.clone(),
        created_at: Timestamp(NOW),
        expires_at: token.expires_at,
        state: TokenState::Ready,
        used_at: None,
    };
    let view = NewTokenView::new(&token, info);
    let remarks = view.remarks(LOOK).replace(&token.id.to_string(), "<id>");
    insta::assert_snapshot!("new_token", remarks);
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["token"], token.to_string());
    assert_eq!(json["federation_authority"], token.pin.to_string());
}

#[test]
fn findings_end_with_what_to_do_and_a_sum() {
    insta::assert_snapshot!("findings_table", findings::table(&findings(), LOOK));
    insta::assert_snapshot!("findings_json", json(&findings()));
}

#[test]
fn a_join_ends_with_the_next_step() {
    let joined = JoinView {
        cluster: text("west"),
        joined: true,
        members: 3,
        peers_expected: 2,
        peers_connected: 2,
        ..JoinView::default()
    };
    let partly = JoinView { peers_connected: 1, ..joined.clone() };
    let first = JoinView { members: 1, peers_expected: 0, peers_connected: 0, ..joined.clone() };
    let already = JoinView { already_member: true, ..joined.clone() };
    let texts: Vec<_> = [joined, partly, first, already].iter().map(|view| view.text(LOOK)).collect();
    insta::assert_snapshot!("join_texts", texts.join("--\n"));
}

#[test]
fn peers_are_told_as_they_change_and_kept_once() {
    let mut view = JoinView::default();
    let [west, north, _] = <[Peer; 3]>::try_from(status().peers).unwrap();
    assert_eq!(view.peer(north), "peer north: lost (no answer from 198.51.100.4:15443)");
    assert_eq!(view.peer(Peer { cluster: text("north"), ..west }), "peer north: connected, 192.0.2.7:15443, 1.2ms");
    assert_eq!(view.peers.len(), 1);
}

#[test]
fn colours_are_used_only_when_they_are_wanted() {
    let color = Look { color: true, ..LOOK };
    assert!(tokens::table(&tokens(), color).contains("\u{1b}["));
    assert!(!tokens::table(&tokens(), LOOK).contains("\u{1b}["));
}

fn refusal() -> Refusal {
    Refusal { reason: text("services is forbidden"), remedy: text("a context that may write Service") }
}

#[test]
fn installations_say_what_became_of_each_object() {
    let manifests = Manifest::read_all(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: a.example}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\n---\n\
         apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: shop}\n",
    )
    .unwrap();
    let next = || vec![text("fedctl token create --cluster east")];
    let well = [Applied::Kept, Applied::Unchanged, Applied::Created];
    let well = manifests.iter().zip(&well).map(|(manifest, applied)| ObjectView::new(manifest, applied)).collect();
    let well = InstalledView::new("https://east:6443/", well, next());
    assert!(well.is_well());
    insta::assert_snapshot!("installed", well.text(LOOK));
    let mut objects = vec![
        ObjectView::new(&manifests[0], &Applied::Configured),
        ObjectView::new(&manifests[1], &Applied::Refused(refusal())),
        ObjectView::held_back(&manifests[2]),
    ];
    objects[0].late(text("not established yet"));
    let ill = InstalledView::new("https://east:6443/", objects, next());
    assert!(!ill.is_well());
    insta::assert_snapshot!("installed_not", ill.text(LOOK));
    insta::assert_snapshot!("installed_json", json(&ill));
}

#[test]
fn removals_say_what_stays() {
    let objects = vec![
        RemovedView::new(text("Deployment shop/d"), "deleted", Removed::Deleted),
        RemovedView::new(text("Service shop/s"), "refused", Removed::Refused(refusal())),
    ];
    let unseen = vec![text("Role: roles is forbidden")];
    let view = UninstalledView::new("https://east:6443/", objects, unseen, vec![text("the namespace")]);
    assert!(!view.is_well());
    insta::assert_snapshot!("uninstalled", view.text(LOOK));
    let nothing = UninstalledView::new("https://east:6443/", Vec::new(), Vec::new(), Vec::new());
    assert_eq!((nothing.is_well(), nothing.text(LOOK).as_str()), (true, "nothing of it is there\n"));
}
