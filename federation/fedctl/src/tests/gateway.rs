//! Commands against a gateway that answers what the test says.

use std::{path::PathBuf, sync::mpsc, thread};

use futures::stream::{self, BoxStream, StreamExt};
use proto::{
    federation::v1::{Finding, Level},
    gateway::v1::{
        self as wire, Done, Federation, Fingerprints, JoinProgress, Joined, Peer, PeerState, Status as GatewayStatus,
        Tunnel,
        gateway_admin_server::{GatewayAdmin, GatewayAdminServer},
        gateway_policies_server::GatewayPoliciesServer,
        join_progress::Step,
    },
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use super::{policy::Policies, *};

/// What the gateway answers.
#[derive(Clone, Default)]
pub(super) struct Script {
    status: GatewayStatus,
    steps: Vec<Step>,
    findings: Vec<Finding>,
    left: wire::LeaveResponse,
    standings: Vec<wire::RotationStanding>,
    certificates: wire::ListCertificatesResponse,
    policies: Policies,
    asked: Arc<Mutex<Vec<String>>>,
}

impl From<Policies> for Script {
    fn from(policies: Policies) -> Self {
        Self { policies, ..Self::default() }
    }
}

#[tonic::async_trait]
impl GatewayAdmin for Script {
    type JoinStream = BoxStream<'static, Result<JoinProgress, Status>>;

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<Self::JoinStream>, Status> {
        let wire::JoinRequest { token, dry_run, wait_seconds } = request.into_inner();
        let readable = token.parse::<JoinToken>().is_ok();
        self.asked.lock().unwrap().push(format!("join readable={readable} dry_run={dry_run} wait={wait_seconds}"));
        let steps = self.steps.clone().into_iter().map(|step| Ok(JoinProgress { step: Some(step) }));
        Ok(Response::new(stream::iter(steps).boxed()))
    }
    type RotateTrustStream = BoxStream<'static, Result<wire::RotationStanding, Status>>;

    async fn rotate_trust(
        &self,
        request: Request<wire::RotateTrustRequest>,
    ) -> Result<Response<Self::RotateTrustStream>, Status> {
        let request = request.into_inner();
        let action = request.action().as_str_name().trim_start_matches("ROTATE_ACTION_").to_lowercase();
        self.asked.lock().unwrap().push(format!("rotate {} {action} wait={}", request.cluster, request.wait_seconds));
        let told = if action == "status" { &self.standings[..1] } else { &self.standings };
        Ok(Response::new(stream::iter(Vec::from(told).into_iter().map(Ok)).boxed()))
    }
    async fn accept_bundle(
        &self,
        request: Request<wire::AcceptBundleRequest>,
    ) -> Result<Response<wire::AcceptBundleResponse>, Status> {
        let wire::AcceptBundleRequest { cluster, fingerprint } = request.into_inner();
        self.asked.lock().unwrap().push(format!("accept {cluster} {fingerprint}"));
        Ok(Response::new(wire::AcceptBundleResponse { sequence: 3 }))
    }
    async fn list_certificates(
        &self,
        _: Request<wire::ListCertificatesRequest>,
    ) -> Result<Response<wire::ListCertificatesResponse>, Status> {
        Ok(Response::new(self.certificates.clone()))
    }
    async fn leave(&self, request: Request<wire::LeaveRequest>) -> Result<Response<wire::LeaveResponse>, Status> {
        self.asked.lock().unwrap().push(format!("leave force={}", request.into_inner().force));
        Ok(Response::new(self.left.clone()))
    }
    async fn get_status(&self, _: Request<wire::GetStatusRequest>) -> Result<Response<GatewayStatus>, Status> {
        Ok(Response::new(self.status.clone()))
    }
    async fn list_services(
        &self,
        _: Request<wire::ListServicesRequest>,
    ) -> Result<Response<wire::ListServicesResponse>, Status> {
        Err(Status::internal("the tables are not compiled yet"))
    }
    async fn check(&self, _: Request<wire::CheckRequest>) -> Result<Response<wire::CheckResponse>, Status> {
        Ok(Response::new(wire::CheckResponse { findings: self.findings.clone() }))
    }
}

/// A gateway that serves until it is dropped.
pub(super) struct Serving {
    _dir: tempfile::TempDir,
    socket: String,
    script: Script,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Serving {
    pub(super) fn start(script: Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path: PathBuf = dir.path().join("admin.sock");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let (served, socket) = (script.clone(), format!("unix:{}", path.display()));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(path).unwrap();
                ready.send(()).unwrap();
                tonic::transport::Server::builder()
                    .add_service(GatewayPoliciesServer::new(served.policies.clone()))
                    .add_service(GatewayAdminServer::new(served))
                    .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async { drop(stopped.await) })
                    .await
                    .unwrap();
            });
        });
        is_ready.recv().unwrap();
        Self { _dir: dir, socket, script, stop: Some(stop), thread: Some(thread) }
    }

    pub(super) fn run(&self, arguments: &[&str], input: Option<&str>) -> Ran {
        fedctl(&[arguments, &["--gateway", &self.socket]].concat(), input)
    }

    fn asked(&self) -> Vec<String> {
        self.script.asked.lock().unwrap().clone()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking());
        }
    }
}

fn west() -> GatewayStatus {
    GatewayStatus {
        cluster: "west".to_owned(),
        trust_domain: "west.example".to_owned(),
        cluster_authority: Fingerprint::of(b"west").to_string(),
        federation: Some(Federation::default()),
        ..GatewayStatus::default()
    }
}

fn member_west() -> GatewayStatus {
    let authority = Fingerprint::of(b"federation").to_string();
    GatewayStatus { federation: Some(Federation { joined: true, authority, ..Federation::default() }), ..west() }
}

fn peer(cluster: &str, state: PeerState) -> Step {
    let tunnel = Tunnel { remote: "192.0.2.7:15443".to_owned(), rtt_micros: 800, ..Tunnel::default() };
    Step::Peer(Peer {
        cluster: cluster.to_owned(),
        state: state.into(),
        tunnels: if state == PeerState::Connected { vec![tunnel] } else { Vec::new() },
        ..Peer::default()
    })
}

fn fingerprints(federation: &[u8]) -> Step {
    Step::Fingerprints(Fingerprints {
        federation_authority: Fingerprint::of(federation).to_string(),
        ..Fingerprints::default()
    })
}

fn finding(level: Level) -> Step {
    Step::Finding(Finding {
        check: "clock".to_owned(),
        level: level.into(),
        detail: "40 s behind the federation service".to_owned(),
        hint: "timedatectl set-ntp true".to_owned(),
    })
}

fn joining(connected: u32) -> Script {
    let steps = vec![
        fingerprints(b"federation"),
        finding(Level::Ok),
        Step::Joined(Joined { already: false, members: 3, pending: false }),
        peer("east", PeerState::Dialling),
        peer("east", PeerState::Connected),
        Step::Done(Done { connected, expected: 2 }),
    ];
    Script { status: west(), steps, ..Script::default() }
}

#[test]
fn a_join_shows_both_fingerprints_and_ends_when_the_peers_are_connected() {
    let gateway = Serving::start(joining(2));
    let ran = gateway.run(&["join", &token("west").to_string(), "--wait", "30s"], None);
    ran.assert_code(0);
    insta::assert_snapshot!("join", format!("{}---\n{}", ran.stderr, ran.stdout));
    assert_eq!(gateway.asked(), ["join readable=true dry_run=false wait=30"]);
}

#[test]
fn a_join_that_waits_for_approval_says_so_with_the_fingerprint_to_compare() {
    let steps = vec![
        fingerprints(b"federation"),
        Step::Joined(Joined { already: false, members: 1, pending: true }),
        Step::Done(Done::default()),
    ];
    let gateway = Serving::start(Script { status: west(), steps, ..Script::default() });
    let ran = gateway.run(&["join", &token("west").to_string(), "--wait", "30s"], None);
    ran.assert_code(0);
    insta::assert_snapshot!("join_pending", format!("{}---\n{}", ran.stderr, ran.stdout));

    let mut status = member_west();
    status.federation.as_mut().unwrap().pending = true;
    let gateway = Serving::start(Script { status, ..Script::default() });
    let again = gateway.run(&["join", &token("west").to_string(), "-o", "json"], None);
    again.assert_code(0);
    assert!(again.stdout.contains("\"pending\": true") && gateway.asked().is_empty(), "{}", again.stdout);
}

#[test]
fn a_join_without_all_peers_ends_with_exit_code_1_unless_nobody_waits_for_them() {
    let gateway = Serving::start(joining(1));
    let token = token("west").to_string();
    gateway.run(&["join", &token], None).assert_code(1);
    gateway.run(&["join", &token, "--wait", "0s"], None).assert_code(0);
}

#[test]
fn a_join_in_json_is_one_value_on_standard_output() {
    let gateway = Serving::start(joining(2));
    let ran = gateway.run(&["join", &token("west").to_string(), "-o", "json"], None);
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&answer["joined"], &answer["peers"][0]["state"]), (&true.into(), &"connected".into()));
}

#[test]
fn a_person_is_asked_and_may_refuse() {
    let gateway = Serving::start(joining(2));
    let token = token("west").to_string();
    let refused = gateway.run(&["join", &token], Some("n\n"));
    refused.assert_code(2);
    assert!(
        refused.stderr.contains("Join? [y/N]") && refused.stderr.contains("nothing was changed"),
        "{}",
        refused.stderr
    );
    assert!(gateway.asked().is_empty());
    gateway.run(&["join", &token], Some("yes\n")).assert_code(0);
    let pin = Fingerprint::of(b"federation").to_string();
    let pinned = gateway.run(&["join", &token, "--federation-fingerprint", &pin], Some(""));
    pinned.assert_code(0);
    assert!(!pinned.stderr.contains("[y/N]"), "{}", pinned.stderr);
}

#[test]
fn a_token_is_read_from_standard_input_or_a_file() {
    let gateway = Serving::start(joining(2));
    let text = format!("\n{}\n", token("west"));
    gateway.run(&["join", "-"], Some(&text)).assert_code(0);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, text).unwrap();
    gateway.run(&["join", "--token-file", file.to_str().unwrap()], None).assert_code(0);
    assert_eq!(gateway.asked().len(), 2);
}

#[test]
fn what_cannot_work_is_refused_before_the_gateway_is_asked_to_join() {
    let gateway = Serving::start(joining(2));
    let west = token("west").to_string();
    let other = Fingerprint::of(b"another").to_string();
    for (arguments, reason) in [
        (vec!["join", &west[..west.len() - 9]], "cut short"),
        (vec!["join", "hello"], "not a join token"),
        (vec!["join", &token("east").to_string()], "the token is for cluster east"),
        (vec!["join", &west, "--federation-fingerprint", &other], "the token belongs to a federation"),
        (vec!["join", "--token-file", "/nowhere"], "the token file /nowhere cannot be read"),
    ] {
        let ran = gateway.run(&arguments, None);
        ran.assert_code(2);
        assert!(ran.stderr.contains(reason) && ran.stderr.contains("try: "), "{}", ran.stderr);
    }
    assert!(gateway.asked().is_empty());
}

#[test]
fn a_federation_service_with_another_authority_ends_the_join() {
    let gateway = Serving::start(Script { steps: vec![fingerprints(b"impostor")], ..joining(2) });
    let ran = gateway.run(&["join", &token("west").to_string()], None);
    ran.assert_code(2);
    assert!(ran.stderr.contains("not the one of the token"), "{}", ran.stderr);
}

#[test]
fn a_dry_run_shows_the_checks_and_fails_when_one_does() {
    let steps = vec![fingerprints(b"federation"), finding(Level::Failed), Step::Done(Done::default())];
    let gateway = Serving::start(Script { steps, ..joining(2) });
    let ran = gateway.run(&["join", &token("west").to_string(), "--dry-run"], Some(""));
    ran.assert_code(1);
    insta::assert_snapshot!("dry_run", ran.stdout);
    assert_eq!(gateway.asked(), ["join readable=true dry_run=true wait=60"]);
}

#[test]
fn a_member_that_joins_again_is_told_so() {
    let gateway = Serving::start(Script { status: member_west(), ..joining(2) });
    let ran = gateway.run(&["join", &token("west").to_string()], None);
    ran.assert_code(0);
    assert!(ran.stdout.contains("a member of this cluster set already"), "{}", ran.stdout);
    assert!(gateway.asked().is_empty());
}

#[test]
fn a_member_of_another_set_has_to_leave_first() {
    let mut status = member_west();
    status.federation.as_mut().unwrap().authority = Fingerprint::of(b"another").to_string();
    let gateway = Serving::start(Script { status, ..joining(2) });
    let ran = gateway.run(&["join", &token("west").to_string()], None);
    ran.assert_code(2);
    assert!(ran.stderr.contains("try: fedctl leave"), "{}", ran.stderr);
}

#[test]
fn a_join_that_ends_without_a_result_is_not_taken_for_one() {
    let gateway = Serving::start(Script { steps: Vec::new(), ..joining(2) });
    gateway.run(&["join", &token("west").to_string()], None).assert_code(2);
}

#[test]
fn leaving_asks_and_tells_when_the_federation_service_was_not_told() {
    let left = wire::LeaveResponse { federation_told: false, detail: "connection refused".to_owned() };
    let gateway = Serving::start(Script { status: member_west(), left, ..Script::default() });
    gateway.run(&["leave"], Some("\n")).assert_code(2);
    assert!(gateway.asked().is_empty());
    let ran = gateway.run(&["leave", "--force", "--yes"], Some(""));
    ran.assert_code(0);
    insta::assert_snapshot!("leave", ran.stdout);
    assert_eq!(gateway.asked(), ["leave force=true"]);
}

#[test]
fn leaving_no_set_changes_nothing() {
    let gateway = Serving::start(Script { status: west(), ..Script::default() });
    let ran = gateway.run(&["leave", "-o", "json"], None);
    ran.assert_code(0);
    assert!(ran.stdout.contains("\"left\": false"), "{}", ran.stdout);
    assert!(gateway.asked().is_empty());
}

#[test]
fn checks_end_with_exit_code_1_when_one_failed() {
    let found = |level: Level| {
        let Step::Finding(finding) = finding(level) else { unreachable!() };
        Script { status: west(), findings: vec![finding], ..Script::default() }
    };
    Serving::start(found(Level::Warning)).run(&["check"], None).assert_code(0);
    Serving::start(found(Level::Failed)).run(&["check"], None).assert_code(1);
}

#[test]
fn an_error_of_the_gateway_is_shown_with_its_words() {
    let gateway = Serving::start(Script { status: west(), ..Script::default() });
    let ran = gateway.run(&["services"], None);
    ran.assert_code(2);
    assert!(ran.stderr.contains("the tables are not compiled yet"), "{}", ran.stderr);
}

#[test]
fn the_status_of_one_is_shown_even_when_the_other_is_away() {
    let gateway = Serving::start(Script { status: west(), ..Script::default() });
    let ran = gateway.run(&["status", "--federation", "localhost:1", "--operator", "/nowhere"], None);
    ran.assert_code(2);
    assert!(ran.stdout.contains("west (west.example)"), "{}", ran.stdout);
    assert!(ran.stderr.contains("no operator credential"), "{}", ran.stderr);
}

fn rotation(phase: &str, sequence: u64, authorities: &[&str]) -> wire::RotationStanding {
    wire::RotationStanding {
        cluster: "west".to_owned(),
        phase: phase.to_owned(),
        sequence,
        authorities: authorities.iter().map(|name| Fingerprint::of(name.as_bytes()).to_string()).collect(),
        certificate: Fingerprint::of(if sequence > 2 { b"new" } else { b"old" }).to_string(),
        ..wire::RotationStanding::default()
    }
}

fn waiting_for_north() -> wire::RotationStanding {
    let north = wire::Blocker {
        cluster: "north".to_owned(),
        reason: "no tunnel to it is up, so that nobody knows what it believes".to_owned(),
        consequence: "north refuses tunnels of this cluster until it hears of version 2 of the bundle".to_owned(),
    };
    wire::RotationStanding { blockers: vec![north], ..rotation("preparing", 2, &["old", "new"]) }
}

#[test]
fn a_rotation_asks_first_tells_every_step_and_ends_when_it_is_done() {
    let done = wire::RotationStanding { done: true, ..rotation("settled", 3, &["new"]) };
    let first = rotation("settled", 1, &["old"]);
    let standings = vec![first, waiting_for_north(), rotation("draining", 2, &["old", "new"]), done];
    let gateway = Serving::start(Script { standings, ..Script::default() });
    let refused = gateway.run(&["trust", "rotate", "west"], Some("n\n"));
    refused.assert_code(2);
    assert!(refused.stderr.contains("Replace the authority of west?"), "{}", refused.stderr);
    assert_eq!(gateway.asked(), ["rotate west status wait=0"]);
    let ran = gateway.run(&["trust", "rotate", "west", "--yes"], None);
    ran.assert_code(0);
    insta::assert_snapshot!("rotate", format!("{}---\n{}", ran.stderr, ran.stdout));
    assert_eq!(gateway.asked().last().unwrap(), "rotate west begin wait=600");
}

#[test]
fn a_rotation_that_waits_names_who_blocks_it_and_forcing_says_what_breaks() {
    let gateway = Serving::start(Script { standings: vec![waiting_for_north()], ..Script::default() });
    let status = gateway.run(&["trust", "rotate", "west", "--status"], None);
    status.assert_code(1);
    insta::assert_snapshot!("rotate_blocked", status.stdout);
    let forced = gateway.run(&["trust", "rotate", "west", "--force"], Some("y\n"));
    assert!(forced.stderr.contains("then north refuses tunnels of this cluster"), "{}", forced.stderr);
    assert_eq!(gateway.asked().last().unwrap(), "rotate west force wait=600");
    let json = gateway.run(&["trust", "rotate", "west", "--status", "-o", "json"], None);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["blockers"][0]["cluster"], "north");
}

fn certificates() -> wire::ListCertificatesResponse {
    let certificate = |cluster: &str, role: wire::CertificateRole, id: &str, hours: u64| wire::Certificate {
        cluster: cluster.to_owned(),
        role: role.into(),
        id: id.to_owned(),
        issuers: if hours < 1000 { vec![format!("CN=Landbridge {cluster}")] } else { Vec::new() },
        serial: "0a".to_owned(),
        fingerprint: Fingerprint::of(id.as_bytes()).to_string(),
        not_before: NOW - 43_200,
        not_after: NOW + hours * 3600,
        next_renewal: if cluster == "west" && hours < 1000 { NOW + 1800 } else { 0 },
        subject: String::new(),
    };
    use wire::CertificateRole::{Authority, Federation, Gateway, Peer};
    wire::ListCertificatesResponse {
        certificates: vec![
            certificate("west", Gateway, "spiffe://west.example/landbridge/gateway", 12),
            certificate("west", Authority, "west.example", 87_600),
            certificate("east", Peer, "spiffe://east.example/landbridge/gateway", 2),
            certificate("east", Authority, "east.example", 87_600),
            certificate("", Federation, "federation.internal", 87_600),
        ],
        bundles: Vec::new(),
    }
}

fn refused() -> wire::ListCertificatesResponse {
    let shown = |name: &str| vec![Fingerprint::of(name.as_bytes()).to_string()];
    let bundle = wire::BundleStanding {
        cluster: "east".to_owned(),
        trust_domain: "east.example".to_owned(),
        sequence: 1,
        authorities: shown("known"),
        refusal: "there are two bundles of east with sequence 1".to_owned(),
        refused: shown("offered"),
    };
    wire::ListCertificatesResponse { bundles: vec![bundle], ..certificates() }
}

#[test]
fn certificates_are_listed_with_their_end_and_a_refused_bundle_is_a_failed_check() {
    let gateway = Serving::start(Script { certificates: certificates(), ..Script::default() });
    let ran = gateway.run(&["certs"], None);
    ran.assert_code(0);
    insta::assert_snapshot!("certs", ran.stdout);
    let gateway = Serving::start(Script { certificates: refused(), ..Script::default() });
    let ran = gateway.run(&["certs"], None);
    ran.assert_code(1);
    assert!(ran.stdout.contains("east: not believed: there are two bundles"), "{}", ran.stdout);
}

#[test]
fn a_refused_bundle_is_accepted_only_with_a_fingerprint_that_somebody_compared() {
    let gateway = Serving::start(Script { certificates: refused(), ..Script::default() });
    let alone = gateway.run(&["trust", "accept", "east"], None);
    alone.assert_code(2);
    assert!(alone.stderr.contains("--fingerprint"), "{}", alone.stderr);
    gateway.run(&["trust", "accept", "east"], Some("n\n")).assert_code(2);
    assert!(gateway.asked().is_empty());
    let offered = Fingerprint::of(b"offered").to_string();
    gateway.run(&["trust", "accept", "east"], Some("y\n")).assert_code(0);
    let ran = gateway.run(&["trust", "accept", "east", "--fingerprint", &offered], None);
    ran.assert_code(0);
    assert!(ran.stdout.contains("version 3 of its bundle"), "{}", ran.stdout);
    assert_eq!(gateway.asked(), [format!("accept east {offered}"), format!("accept east {offered}")]);
    let nothing = gateway.run(&["trust", "accept", "north"], None);
    nothing.assert_code(0);
    assert!(nothing.stdout.contains("nothing was changed"), "{}", nothing.stdout);
}
