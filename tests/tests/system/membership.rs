//! Coming into the set, staying in it without the federation service, and leaving it.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use federation::Clock;
use federation_client::{
    gateway::messages::{JoinRequest, LeaveRequest, join_progress::Step},
    membership::{Application, FederationEndpoint, JoinClient, MemberClient},
    watch::{Position, Watch, WatchEvent},
};
use federation_model::{
    finding::Level,
    lineage::Lineage,
    member::{Change, Member},
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
    continuity,
    identity::LiveIdentity,
    signer::Signer,
    token::JoinToken,
};
use futures::future::join_all;
use proto::convert::member::Refusal;
use tests::{
    client::{line, part, rest, say, soon},
    dns::{self, NO_SUCH_NAME, Type},
    fleet::{Federation, Fleet, Settings, clock_behind, host_of},
    http,
    manifests::Export,
    probe::Echo,
    wait::until,
};

const API: &str = "production/api";

/// East and west, whose service answers as `west`.
async fn serving() -> (Fleet, Echo) {
    let fleet = Fleet::of(&["east", "west"]).await;
    let echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    (fleet, echo)
}

async fn answered_by(fleet: &Fleet, from: &str) -> String {
    let mut stream = fleet[from].connect(API, 8080).await;
    let name = line(&mut stream).await.unwrap();
    assert_eq!(part(&mut stream).await.unwrap(), "bye\n");
    name
}

/// Why `cluster` may not join with `token`.
async fn refused(fleet: &Fleet, cluster: &str, token: &str) -> String {
    match fleet[cluster].join(token).await {
        Ok(_) => panic!("{cluster} joined with {token}"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_join_tells_every_step_and_repeating_it_changes_nothing() {
    let mut fleet = Fleet::of(&["east"]).await;
    fleet.add(Settings::of("west")).await;
    let token = fleet.federation().token("west").await;
    let request = JoinRequest { token: token.clone(), dry_run: false, wait_seconds: 30 };
    let mut steps = fleet["west"].admin().await.join(request).await.unwrap();
    let mut told = Vec::new();
    while let Some(step) = steps.next().await.unwrap() {
        told.push(step);
    }
    let Some(Step::Fingerprints(prints)) = told.first() else { panic!("{told:?}") };
    assert_eq!(prints.cluster_authority, fleet["west"].authority().fingerprint().to_string());
    let members = fleet.federation().operator().await.list_members().await.unwrap();
    assert!(members.federation.fingerprints().any(|f| f.to_string() == prints.federation_authority));
    assert!(told.iter().any(|step| matches!(step, Step::Joined(joined) if !joined.already && joined.members == 2)));
    assert!(told.iter().any(|step| matches!(step, Step::Peer(peer) if peer.cluster == "east")), "{told:?}");
    let Some(Step::Done(done)) = told.last() else { panic!("{told:?}") };
    assert_eq!((done.connected, done.expected), (1, 1));

    let revision = members.revision;
    assert!(fleet["west"].join(&token).await.unwrap(), "it says that it is a member already");
    let another = fleet.federation().token("west").await;
    assert!(fleet["west"].join(&another).await.unwrap());
    assert_eq!(fleet.federation().operator().await.list_members().await.unwrap().revision, revision);
}

#[tokio::test]
async fn a_dry_run_finds_out_everything_and_spends_nothing() {
    let mut fleet = Fleet::new().await;
    fleet.add(Settings::of("west")).await;
    let token = fleet.federation().token("west").await;
    let request = JoinRequest { token: token.clone(), dry_run: true, wait_seconds: 0 };
    let mut steps = fleet["west"].admin().await.join(request).await.unwrap();
    let mut checks = Vec::new();
    while let Some(step) = steps.next().await.unwrap() {
        if let Step::Finding(finding) = step {
            checks.push(finding.check);
        }
    }
    assert!(checks.len() > 4 && checks.iter().any(|check| check == "reachability"), "{checks:?}");
    assert!(fleet.federation().operator().await.list_members().await.unwrap().members.is_empty());
    assert!(!fleet["west"].join(&token).await.unwrap(), "the token is good still");
}

#[tokio::test]
async fn tokens_that_cannot_be_used_are_refused_with_what_to_do() {
    let mut fleet = Fleet::of(&["east"]).await;
    for name in ["west", "north"] {
        fleet.add(Settings::of(name)).await;
    }
    let create = "fedctl token create --cluster west";

    let token = fleet.federation().token("west").await;
    let truncated = &token[..token.len() - 7];
    assert!(refused(&fleet, "west", truncated).await.contains("copy"), "{}", refused(&fleet, "west", truncated).await);
    let nonsense = refused(&fleet, "west", "not a token").await;
    assert!(nonsense.contains("token"), "{nonsense}");

    let for_another = refused(&fleet, "north", &token).await;
    assert!(for_another.contains("for cluster west") && for_another.contains("--cluster north"), "{for_another}");

    let expired = fleet.federation().token_for("west", Duration::from_secs(1)).await;
    let end = expired.parse::<JoinToken>().unwrap().expires_at;
    until("the token's time is over", async || (Timestamp::from(SystemTime::now()) > end).then_some(())).await;
    let reason = refused(&fleet, "west", &expired).await;
    assert!(reason.contains("expired") && reason.contains(create), "{reason}");

    let revoked = fleet.federation().token("west").await;
    let mut operator = fleet.federation().operator().await;
    let id = revoked.parse::<JoinToken>().unwrap().id;
    operator.revoke_token(&id).await.unwrap();
    let reason = refused(&fleet, "west", &revoked).await;
    assert!(reason.contains("revoked") && reason.contains(create), "{reason}");

    assert!(!fleet["west"].join(&token).await.unwrap());
    fleet["west"].admin().await.leave(LeaveRequest { force: false }).await.unwrap();
    let used = refused(&fleet, "west", &token).await;
    assert!(used.contains("was used") && used.contains(create), "{used}");
    let members = operator.list_members().await.unwrap().members;
    assert_eq!(members.len(), 1, "nobody joined by any of these: {members:?}");
}

#[tokio::test]
async fn a_token_that_the_service_holds_for_expired_is_refused_whatever_the_gateways_clock_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut federation = Federation::start_in(dir.path()).await;
    // The token is made when the clock of the service is behind, and used when it is right again.
    federation.stop().await;
    federation.start(clock_behind(Duration::from_secs(50))).await;
    let token = federation.token_for("west", Duration::from_secs(45)).await;
    let parsed: JoinToken = token.parse().unwrap();
    federation.stop().await;
    federation.start(Clock::system()).await;
    let domain = TrustDomain::new("west.example").unwrap();
    let validity = Validity::starting(SystemTime::now().into(), Duration::from_secs(3600));
    let signer = Signer::Authority(Arc::new(Authority::generate(&domain, "west", validity).unwrap()));
    let gateway_id = SpiffeId::from_segments(domain, &["landbridge", "gateway"]).unwrap();
    let (cluster, now) = ("west".parse().unwrap(), SystemTime::now().into());
    let first = continuity::first(&cluster, &gateway_id, signer.certificates(), (&signer, now)).unwrap();
    let member = Member {
        cluster,
        gateway_id,
        advertise: Vec::new(),
        bundle: first.bundle.clone(),
        lineage: Lineage::new(vec![first]),
        region: String::new(),
        zone: String::new(),
        joined_at: Timestamp(0),
    };
    let application = Application { member: &member, signer: &signer, software: "test" };
    let mut client = JoinClient::connect(&parsed).await.unwrap();
    let error = client.join(application).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::TokenExpired), "{error}");
    assert!(error.to_string().contains("fedctl token create --cluster west"), "{error}");
    federation.stop().await;
}

#[tokio::test]
async fn a_token_of_another_federation_is_not_believed() {
    let mut ours = Fleet::new().await;
    ours.add(Settings::of("west")).await;
    let theirs = Fleet::new().await;
    let (token, foreign) = (ours.federation().token("west").await, theirs.federation().token("west").await);
    // Their pin with our addresses: what somebody sees who is sent to the wrong service.
    let token: JoinToken = token.parse().unwrap();
    let mut crossed: JoinToken = foreign.parse().unwrap();
    crossed.addresses = token.addresses;
    let reason = refused(&ours, "west", &crossed.to_string()).await;
    assert!(reason.contains("authority"), "{reason}");
    assert!(ours.federation().operator().await.list_members().await.unwrap().members.is_empty());
    // A member of one set is told to leave it before it joins another.
    ours.join("west").await;
    let reason = refused(&ours, "west", &foreign).await;
    assert!(reason.contains("leave"), "{reason}");
}

#[tokio::test]
async fn a_name_or_trust_domain_that_is_taken_is_refused_with_what_to_change() {
    let mut fleet = Fleet::of(&["east"]).await;
    let imposter = Settings { trust_domain: "east.example".to_owned(), ..Settings::of("west") };
    fleet.add(imposter).await;
    let reason = refused(&fleet, "west", &fleet.federation().token("west").await).await;
    assert!(reason.contains("east.example belongs to cluster east"), "{reason}");
    assert!(reason.contains("cluster.trust_domain"), "{reason}");

    let mut other = Fleet::new().await;
    other.add(Settings { trust_domain: "other.example".to_owned(), ..Settings::of("east") }).await;
    let reason = other["east"].join(&fleet.federation().token("east").await).await.unwrap_err().to_string();
    assert!(reason.contains("the name east belongs to") && reason.contains("cluster.name"), "{reason}");
    other["east"].stop().await;
}

#[tokio::test]
async fn traffic_and_restarts_go_on_without_the_federation_service_and_changes_wait_for_it() {
    let (mut fleet, _echo) = serving().await;
    fleet.stop_federation().await;
    assert_eq!(answered_by(&fleet, "east").await, "west");

    // A restarted gateway finds its peers from what is on its disk, even when its peer restarts as well.
    fleet["east"].stop().await;
    fleet["east"].start().await;
    fleet["east"].sees(API, &["west"]).await;
    assert_eq!(answered_by(&fleet, "east").await, "west");
    fleet["west"].kill().await;
    fleet["east"].kill().await;
    fleet["west"].start().await;
    fleet["east"].start().await;
    fleet["east"].sees(API, &["west"]).await;
    assert_eq!(answered_by(&fleet, "east").await, "west");
    // So do new exports: they travel from gateway to gateway.
    fleet["west"].export(&Export::new("production/new", 8080, fleet["west"].host(10)));
    fleet["east"].sees("production/new", &["west"]).await;
    let status = fleet["east"].admin().await.status().await.unwrap().federation.unwrap();
    assert!(status.joined && !status.connected, "{status:?}");
    assert_eq!(fleet["east"].get("/readyz").await.unwrap().0, 200, "being alone is no reason to be taken out");

    fleet.start_federation().await;
    fleet.add(Settings::of("north")).await;
    fleet.join("north").await;
    fleet.connected().await;
    for name in ["east", "west", "north"] {
        until("the gateway follows the service again", async || {
            let federation = fleet[name].admin().await.status().await.unwrap().federation.unwrap();
            (federation.connected && federation.revision == 3).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_member_that_reconnects_is_told_only_what_it_missed() {
    let mut fleet = Fleet::of(&["east", "west"]).await;
    let listing = fleet.federation().operator().await.list_members().await.unwrap();
    let endpoint = FederationEndpoint {
        addresses: vec![fleet.federation().grpc().to_string().parse().unwrap()],
        bundle: listing.federation,
        id: listing.federation_id,
    };
    let validity = Validity::starting(SystemTime::now().into(), Duration::from_secs(3600));
    let id = SpiffeId::new("spiffe://east.example/landbridge/gateway").unwrap();
    let svid = fleet["east"].authority().issue(&SvidRequest { id, names: Vec::new(), validity }).unwrap();
    let client = MemberClient::new(endpoint, Arc::new(LiveIdentity::new(svid))).unwrap();
    let next = async |watch: &mut Watch| loop {
        if let WatchEvent::Update(update) = soon("an update", watch.next()).await {
            break update;
        }
    };
    let mut watch = client.watch(Position::default());
    let first = next(&mut watch).await;
    assert!(first.reset && first.position.revision == 2, "{first:?}");
    drop(watch);

    fleet.kill_federation().await;
    fleet.start_federation().await;
    fleet.add(Settings::of("north")).await;
    fleet.join("north").await;
    fleet.federation().operator().await.remove_member(&"west".parse().unwrap()).await.unwrap();
    let mut watch = client.watch(first.position);
    let missed = next(&mut watch).await;
    assert!(!missed.reset && missed.position.revision == 4, "{missed:?}");
    let changed: Vec<_> = missed.changes.iter().map(name_of).collect();
    assert_eq!(changed, ["north", "west"], "{missed:?}");
}

fn name_of(change: &Change) -> &str {
    match change {
        Change::Upsert(member) => member.cluster.as_str(),
        Change::Removed(cluster) => cluster.as_str(),
        Change::Federation(_) => "the federation",
        Change::Foreign(bundle) => bundle.trust_domain.as_str(),
        Change::ForeignRemoved(trust_domain) => trust_domain.as_str(),
        Change::Revoked(_) | Change::Reinstated(_) => "a revocation",
    }
}

#[tokio::test]
async fn clusters_that_join_at_once_all_find_each_other() {
    let names = ["a", "b", "c", "d", "e"];
    let mut fleet = Fleet::new().await;
    for name in names {
        fleet.add(if name == "c" { Settings::outbound_only(name) } else { Settings::of(name) }).await;
    }
    join_all(names.map(|name| fleet.join(name))).await;
    fleet.connected().await;
    for name in names {
        fleet[name].export(&Export::new(API, 8080, fleet[name].host(10)));
    }
    for name in names {
        fleet[name].sees(API, &names).await;
    }
}

#[tokio::test]
async fn one_token_admits_one_cluster_even_when_two_use_it_at_once() {
    let (mut one, mut other) = (Fleet::new().await, Fleet::new().await);
    one.add(Settings::of("west")).await;
    other.add(Settings { trust_domain: "other.example".to_owned(), ..Settings::of("west") }).await;
    for _ in 0..3 {
        let token = one.federation().token("west").await;
        let joined = tokio::join!(one["west"].join(&token), other["west"].join(&token));
        assert!(joined.0.is_ok() != joined.1.is_ok(), "{joined:?}");
        let members = one.federation().operator().await.list_members().await.unwrap().members;
        assert_eq!(members.len(), 1);
        let winner = if joined.0.is_ok() { &one["west"] } else { &other["west"] };
        winner.admin().await.leave(LeaveRequest { force: false }).await.unwrap();
    }
}

#[tokio::test]
async fn a_join_survives_a_crash_of_the_federation_service() {
    let mut fleet = Fleet::new().await;
    fleet.add(Settings::of("east")).await;
    fleet.add(Settings::of("west")).await;
    let token = fleet.federation().token("west").await;
    fleet.join("east").await;
    fleet.kill_federation().await;
    fleet.start_federation().await;
    assert!(!fleet["west"].join(&token).await.unwrap(), "a token that was made before is good after");
    fleet.kill_federation().await;
    fleet.start_federation().await;
    fleet.connected().await;
    let members = fleet.federation().operator().await.list_members().await.unwrap().members;
    assert_eq!(members.len(), 2);
}

#[tokio::test]
async fn a_removed_member_is_cut_off_at_once() {
    let (fleet, _echo) = serving().await;
    let _east = Echo::start("east", fleet["east"].at(10, 9090), false).await.unwrap();
    fleet["east"].export(&Export::new("production/db", 9090, fleet["east"].host(10)));
    fleet["west"].sees("production/db", &["east"]).await;
    let mut out = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut out).await.unwrap(), "west");
    let mut back = fleet["west"].connect("production/db", 9090).await;
    assert_eq!(line(&mut back).await.unwrap(), "east");

    fleet.federation().operator().await.remove_member(&"west".parse().unwrap()).await.unwrap();
    assert!(rest(&mut out).await.is_err(), "a live connection to the removed cluster is cut");
    assert!(rest(&mut back).await.is_err(), "a live connection of the removed cluster is cut");
    fleet["east"].knows(&[]).await;
    fleet["east"].sees(API, &[]).await;
    let answer = dns::ask(fleet["east"].dns(), &host_of(API), Type::A).await.unwrap();
    assert_eq!(answer.code, NO_SUCH_NAME);
    until("the cut connections are recorded", async || {
        let metrics = fleet["east"].metrics().await;
        (metrics.ended("Outbound", "revoked") == 1.0 && metrics.ended("Inbound", "revoked") == 1.0).then_some(())
    })
    .await;
    // The removed cluster learns it as well, and may come back with a new token.
    fleet["west"].knows(&[]).await;
    until("west knows that it is no member", async || {
        let federation = fleet["west"].admin().await.status().await.unwrap().federation?;
        (!federation.joined).then_some(())
    })
    .await;
    fleet.join("west").await;
    fleet.connected().await;
    fleet["east"].sees(API, &["west"]).await;
    assert_eq!(answered_by(&fleet, "east").await, "west");
}

#[tokio::test]
async fn a_member_that_is_removed_while_it_is_away_is_refused_when_it_comes_back() {
    let (mut fleet, _echo) = serving().await;
    fleet["west"].stop().await;
    fleet.federation().operator().await.remove_member(&"west".parse().unwrap()).await.unwrap();
    fleet["east"].knows(&[]).await;
    fleet["west"].start().await;
    until("west learns that it was removed", async || {
        let federation = fleet["west"].admin().await.status().await.unwrap().federation?;
        (!federation.joined).then_some(())
    })
    .await;
    fleet["east"].sees(API, &[]).await;
    fleet["west"].reaches("east", false).await;
}

#[tokio::test]
async fn a_cluster_that_leaves_is_gone_everywhere_and_an_absent_service_can_be_left_by_force() {
    let (mut fleet, _echo) = serving().await;
    let left = fleet["west"].admin().await.leave(LeaveRequest { force: false }).await.unwrap();
    assert!(left.federation_told, "{left:?}");
    fleet["west"].knows(&[]).await;
    fleet["east"].knows(&[]).await;
    fleet["east"].sees(API, &[]).await;
    fleet["west"].sees(API, &["west"]).await;
    let again = fleet["west"].admin().await.leave(LeaveRequest { force: false }).await.unwrap();
    assert!(again.detail.contains("not a member"), "{again:?}");

    fleet.stop_federation().await;
    let error = fleet["east"].admin().await.leave(LeaveRequest { force: false }).await.unwrap_err().to_string();
    assert!(error.contains("--force"), "{error}");
    let forced = fleet["east"].admin().await.leave(LeaveRequest { force: true }).await.unwrap();
    assert!(!forced.federation_told, "{forced:?}");
    assert!(!fleet["east"].admin().await.status().await.unwrap().federation.unwrap_or_default().joined);
}

#[tokio::test]
async fn a_gateway_that_moves_tells_the_others_its_new_address() {
    let (mut fleet, _echo) = serving().await;
    fleet["west"].stop().await;
    let place = fleet.place();
    fleet["west"].move_to(place);
    fleet["west"].start().await;
    until("east knows the new address", async || {
        let tables = fleet["east"].tables().await;
        (tables["members"]["west"]["advertise"][0] == place.to_string()).then_some(())
    })
    .await;
    fleet["east"].sees(API, &["west"]).await;
    assert_eq!(answered_by(&fleet, "east").await, "west");
}

#[tokio::test]
async fn secrets_and_the_admin_socket_are_for_their_owner_alone() {
    let fleet = Fleet::of(&["east"]).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let state = fleet["east"].state();
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join("admin.sock")), 0o600);
    for file in ["ca/tls.key", "ca/tls.crt", "membership.pb"] {
        assert_eq!(mode(&state.join(file)), 0o600, "{file}");
    }
    let store = fleet.federation().store();
    for file in ["authority/ca.key", "operator/tls.key"] {
        assert_eq!(mode(&store.join(file)), 0o600, "{file}");
    }
    // The secrets of tokens are not kept: only who holds a token can use it.
    let token: JoinToken = fleet.federation().token("west").await.parse().unwrap();
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        kept.extend(std::fs::read(entry).unwrap());
    }
    let secret = token.secret.expose();
    assert!(kept.len() > 1000 && !kept.windows(secret.len()).any(|window| window == secret));
}

#[tokio::test]
async fn the_admin_ports_answer_and_change_nothing() {
    let (fleet, _echo) = serving().await;
    let east = &fleet["east"];
    assert_eq!(east.get("/livez").await.unwrap(), (200, "ok\n".to_owned()));
    assert_eq!(east.get("/readyz").await.unwrap().0, 200);
    assert_eq!(east.get("/nowhere").await.unwrap().0, 404);
    let (status, metrics) = east.get("/metrics").await.unwrap();
    assert!(status == 200 && metrics.ends_with("# EOF\n"), "{metrics}");
    for name in ["connections_open", "imports", "exports", "peers_reachable", "certificate_expiry_timestamp_seconds"] {
        assert!(metrics.contains(&format!("# HELP landbridge_gateway_{name} ")), "{name} is missing in {metrics}");
    }
    let tables = east.tables().await;
    assert_eq!(tables["cluster"], "east");
    assert_eq!(tables["imports"][API]["sources"]["west"]["ready"], 1);
    for method in ["POST", "DELETE"] {
        let (status, _) = http::request(east.admin_http(), method, "/debug/tables").await.unwrap();
        assert_eq!(status, 405, "{method}");
    }
    let federation = fleet.federation().admin();
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(http::get(federation, path).await.unwrap().0, 200, "{path}");
    }
    let services = east.admin().await.services().await.unwrap();
    assert_eq!((services[0].host.as_str(), services[0].sources.len()), (host_of(API).as_str(), 1));
    let findings = east.admin().await.check().await.unwrap();
    let failed = findings.iter().filter(|finding| finding.level == Level::Failed);
    assert_eq!(failed.count(), 0, "{findings:?}");
    let mut stream = east.connect(API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    assert_eq!(say(&mut stream, "all is well").await.unwrap(), "all is well");
    assert_eq!(east.admin().await.status().await.unwrap().connections, 1);
}
