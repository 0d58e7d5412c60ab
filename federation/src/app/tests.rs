mod approval;
mod audit;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use federation_client::{
    call::CallError,
    dial::DialError,
    membership::{
        Application, FederationEndpoint, JoinClient, JoinError, Joined, MemberClient, MemberError, Publication,
    },
    operator::{Credential, OperatorClient, OperatorError, TokenState},
    watch::{Position, Watch, WatchEvent, WatchUpdate},
};
use federation_model::{
    addr::GatewayAddr,
    finding::Level,
    lineage::Lineage,
    member::{Change, Member},
    names::ClusterName,
    spiffe::{TrustDomain, parse_workload_id},
    time::Timestamp,
};
use federation_pki::{
    ca::{Authority, SvidRequest},
    continuity,
    signer::Signer,
    token::{JoinToken, TokenSecret},
    validity::Validity,
};
use proto::convert::member::Refusal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::timeout,
};

use super::*;

mod foreign;
mod recovery;
mod renewal;
mod revocation;
mod watches;

const DEADLINE: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(900);

/// A service in this process, on ports of the system's choice.
struct Service {
    directory: PathBuf,
    address: GatewayAddr,
    admin: SocketAddr,
    bundles: Option<SocketAddr>,
    bundles_web: Option<SocketAddr>,
    operator_dir: PathBuf,
    /// How far the service's clock is ahead, in seconds.
    ahead: Arc<AtomicU64>,
    stop: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
}

fn config(directory: &Path) -> Config {
    let mut config = Config::default();
    config.grpc.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.admin.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.store.url = format!("file:{}", directory.display());
    config.join.failures = 100;
    config
}

async fn service_with(config: Config) -> Service {
    service_at(config, Pace::default()).await
}

async fn service_at(config: Config, pace: Pace) -> Service {
    let ahead = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&ahead);
    let clock = Clock::new(move || SystemTime::now() + Duration::from_secs(read.load(Ordering::Relaxed)));
    let stop = CancellationToken::new();
    let directory = config.directory().unwrap();
    let program = start_with(config, stop.clone(), clock, pace).await.unwrap();
    let address = program.grpc_addr().to_string().parse().unwrap();
    let (admin, operator_dir) = (program.admin_addr(), program.operator_dir().to_owned());
    let (bundles, bundles_web) = (program.bundles_addr(), program.bundles_web_addr());
    let mut running = JoinSet::new();
    running.spawn(program.run());
    Service { directory, address, admin, bundles, bundles_web, operator_dir, ahead, stop, running }
}

async fn service(directory: &tempfile::TempDir) -> Service {
    service_with(config(directory.path())).await
}

impl Service {
    async fn operator(&self) -> OperatorClient {
        let credential = Credential::load(&self.operator_dir).unwrap();
        OperatorClient::connect(std::slice::from_ref(&self.address), credential).await.unwrap()
    }

    async fn token(&self, cluster: &str) -> JoinToken {
        self.operator().await.create_token(&name(cluster), TTL).await.unwrap().0
    }

    async fn stopped(mut self) {
        self.stop.cancel();
        timeout(DEADLINE, self.running.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    }
}

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

/// A cluster with an authority of its own.
struct Cluster {
    member: Member,
    authority: Arc<Authority>,
    signer: Signer,
}

fn cluster(text: &str) -> Cluster {
    cluster_in(text, &format!("{text}.example"))
}

fn cluster_in(text: &str, trust_domain: &str) -> Cluster {
    let trust_domain = TrustDomain::new(trust_domain).unwrap();
    let validity = Validity::starting(SystemTime::now().into(), Duration::from_secs(7 * 86_400));
    let authority = Arc::new(Authority::generate(&trust_domain, text, validity).unwrap());
    let signer = Signer::Authority(Arc::clone(&authority));
    let gateway_id = parse_workload_id(&format!("spiffe://{trust_domain}/landbridge/gateway")).unwrap();
    let authorities = vec![authority.certificate().clone()];
    let now = (&signer, SystemTime::now().into());
    let first = continuity::first(&name(text), &gateway_id, authorities, now).unwrap();
    let member = Member {
        cluster: name(text),
        gateway_id,
        advertise: vec![format!("{text}.example:15443").parse().unwrap()],
        bundle: authority.bundle(1),
        region: "north".to_owned(),
        zone: String::new(),
        lineage: Lineage::new(vec![first]),
        joined_at: Timestamp(0),
    };
    Cluster { member, authority, signer }
}

impl Cluster {
    fn application(&self) -> Application<'_> {
        Application { member: &self.member, signer: &self.signer, software: "landbridge-gateway/test" }
    }

    async fn join(&self, token: &JoinToken) -> Result<Joined, JoinError> {
        JoinClient::connect(token).await.unwrap().join(self.application()).await
    }

    fn identity(&self, id: &str) -> Arc<LiveIdentity> {
        let validity = Validity::starting(SystemTime::now().into(), Duration::from_secs(3600));
        let request = SvidRequest { id: parse_workload_id(id).unwrap(), names: Vec::new(), validity };
        Arc::new(LiveIdentity::new(self.authority.issue(&request).unwrap()))
    }

    fn client(&self, joined: &Joined) -> MemberClient {
        self.client_as(joined, &self.member.gateway_id.to_string())
    }

    fn client_as(&self, joined: &Joined, id: &str) -> MemberClient {
        let federation = FederationEndpoint {
            addresses: joined.addresses.clone(),
            bundle: joined.federation.clone(),
            id: joined.federation_id.clone(),
        };
        MemberClient::new(federation, self.identity(id)).unwrap()
    }
}

async fn joined(service: &Service, cluster: &Cluster) -> (Joined, MemberClient) {
    let token = service.token(cluster.member.cluster.as_str()).await;
    let joined = cluster.join(&token).await.unwrap();
    let client = cluster.client(&joined);
    (joined, client)
}

async fn event(watch: &mut Watch) -> WatchEvent {
    timeout(DEADLINE, watch.next()).await.expect("the watch says something")
}

/// The next update; what comes before it must not be an end.
async fn update(watch: &mut Watch) -> WatchUpdate {
    loop {
        match event(watch).await {
            WatchEvent::Connected { .. } => {}
            WatchEvent::Update(update) => return update,
            WatchEvent::Disconnected { error, .. } => panic!("{error}"),
        }
    }
}

fn subjects(update: &WatchUpdate) -> Vec<String> {
    let subject = |change: &Change| match change {
        Change::Upsert(member) => format!("+{}", member.cluster),
        Change::Removed(cluster) => format!("-{cluster}"),
        Change::Federation(_) => "federation".to_owned(),
        Change::Foreign(bundle) => format!("+{}", bundle.trust_domain),
        Change::ForeignRemoved(trust_domain) => format!("-{trust_domain}"),
        Change::Revoked(revocation) => format!("!{}", revocation.subject),
        Change::Reinstated(id) => format!("~{id}"),
    };
    update.changes.iter().map(subject).collect()
}

fn refusal(error: &JoinError) -> Option<Refusal> {
    error.refusal()
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_cluster_joins_and_learns_the_set() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let (west, east) = (cluster("west"), cluster("east"));
    joined(&service, &west).await;
    let token = service.token("east").await;
    let mut client = JoinClient::connect(&token).await.unwrap();
    let checked = client.check(east.application()).await.unwrap();
    assert!(checked.findings.iter().all(|finding| finding.level == Level::Ok), "{:?}", checked.findings);
    assert!(checked.skew_millis.abs() < 5_000);
    let answer = client.join(east.application()).await.unwrap();
    let names: Vec<_> = answer.members.iter().map(|member| member.cluster.as_str()).collect();
    assert_eq!(names, ["east", "west"]);
    assert_eq!((answer.position.revision, &answer.addresses[..]), (2, &[service.address.clone()][..]));
    assert_eq!(answer.federation_id.to_string(), "spiffe://federation.internal/landbridge/federation");
    let listing = service.operator().await.list_members().await.unwrap();
    assert_eq!(listing.members.len(), 2);
    assert_eq!(listing.members[0].software, "landbridge-gateway/test");
    service.stopped().await;
}

#[tokio::test]
async fn a_repeated_join_gives_the_same_answer() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let west = cluster("west");
    let token = service.token("west").await;
    let (first, second) = (west.join(&token).await.unwrap(), west.join(&token).await.unwrap());
    assert_eq!((first.member, first.position), (second.member, second.position));
    let thief = cluster_in("west", "west.example");
    assert_eq!(refusal(&thief.join(&token).await.unwrap_err()), Some(Refusal::TokenUsed));
}

#[tokio::test]
async fn tokens_that_are_no_good_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let (west, token) = (cluster("west"), service.token("west").await);

    let guessed = JoinToken { secret: TokenSecret::random(), ..token.clone() };
    let unknown = JoinToken { id: federation_pki::token::TokenId::random(), ..token.clone() };
    let errors = [west.join(&guessed).await.unwrap_err(), west.join(&unknown).await.unwrap_err()];
    assert_eq!(errors.each_ref().map(refusal), [Some(Refusal::TokenUnknown); 2]);
    assert_eq!(errors[0].to_string(), errors[1].to_string());
    assert!(errors[0].to_string().contains("fedctl token create"), "{}", errors[0]);

    let east = cluster("east");
    assert_eq!(refusal(&east.join(&token).await.unwrap_err()), Some(Refusal::TokenForAnotherCluster));

    service.ahead.store(2 * TTL.as_secs(), Ordering::Relaxed);
    assert_eq!(refusal(&west.join(&token).await.unwrap_err()), Some(Refusal::TokenExpired));
    service.ahead.store(0, Ordering::Relaxed);

    let mut operator = service.operator().await;
    operator.revoke_token(&token.id).await.unwrap();
    assert_eq!(refusal(&west.join(&token).await.unwrap_err()), Some(Refusal::TokenRevoked));
    let tokens = operator.list_tokens().await.unwrap();
    assert_eq!((tokens.len(), tokens[0].state), (1, TokenState::Revoked));

    let error = operator.revoke_token(&unknown.id).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::NotFound));
}

#[tokio::test]
async fn names_that_are_taken_and_clocks_that_differ_refuse_the_join() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    joined(&service, &cluster("west")).await;
    let token = service.token("west").await;
    let error = cluster_in("west", "other.example").join(&token).await.unwrap_err();
    assert_eq!(refusal(&error), Some(Refusal::ClusterTaken));
    assert!(error.to_string().contains("fedctl members remove west"), "{error}");
    let token = service.token("east").await;
    let error = cluster_in("east", "west.example").join(&token).await.unwrap_err();
    assert_eq!(refusal(&error), Some(Refusal::TrustDomainTaken));
    service.ahead.store(120, Ordering::Relaxed);
    let error = cluster("east").join(&token).await.unwrap_err();
    assert_eq!(refusal(&error), Some(Refusal::ClockSkew));
    assert!(error.to_string().contains("behind"), "{error}");
}

#[tokio::test]
async fn a_service_with_another_authority_is_not_believed() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (service, other) = (service(&here).await, service(&there).await);
    let token = service.token("west").await;
    let diverted = JoinToken { addresses: vec![other.address.clone()], ..token.clone() };
    let error = JoinClient::connect(&diverted).await.unwrap_err();
    assert!(matches!(&error, JoinError::Dial(DialError::PinMismatch { .. })), "{error}");
    let silent: GatewayAddr = "127.0.0.1:1".parse().unwrap();
    let some = JoinToken { addresses: vec![silent, service.address.clone()], ..token };
    assert_eq!(*JoinClient::connect(&some).await.unwrap().address(), service.address);
}

#[tokio::test]
async fn too_many_refused_joins_of_one_address_must_wait() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.join.failures = 2;
    let service = service_with(config).await;
    let (west, token) = (cluster("west"), service.token("west").await);
    for _ in 0..2 {
        let guess = JoinToken { secret: TokenSecret::random(), ..token.clone() };
        assert_eq!(refusal(&west.join(&guess).await.unwrap_err()), Some(Refusal::TokenUnknown));
    }
    assert_eq!(refusal(&west.join(&token).await.unwrap_err()), Some(Refusal::TooManyAttempts));
}

#[tokio::test]
async fn a_member_leaves_and_may_join_again_with_a_new_token() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let west = cluster("west");
    let (_, client) = joined(&service, &west).await;
    client.leave().await.unwrap();
    assert!(client.leave().await.unwrap_err().not_a_member());
    let (answer, _) = joined(&service, &west).await;
    assert_eq!(answer.members.len(), 1);
}

#[tokio::test]
async fn only_the_gateway_id_of_a_member_is_a_member() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let west = cluster("west");
    let (answer, _) = joined(&service, &west).await;
    let workload = west.client_as(&answer, "spiffe://west.example/ns/production/sa/frontend");
    assert!(workload.leave().await.unwrap_err().not_a_member());
    let forger = cluster_in("west", "west.example");
    let MemberError::Call(error) = forger.client(&answer).leave().await.unwrap_err() else { panic!("it connects") };
    assert_eq!(error.refusal(), Some(Refusal::CertificateRefused));
}

#[tokio::test]
async fn operators_are_those_with_a_credential_of_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let west = cluster("west");
    joined(&service, &west).await;
    let (mine, theirs) = (tempfile::tempdir().unwrap(), &service.operator_dir);
    let write = |file: &str, text: &str| {
        federation_runtime::state::write_private(&mine.path().join(file), text.as_bytes()).unwrap();
    };
    // A member's own certificate, shown as a credential: the service is believed, the caller is no operator.
    let identity = west.identity("spiffe://west.example/landbridge/operator/admin");
    write("tls.crt", &identity.current().certificate_pem());
    write("tls.key", identity.current().key_pem().expose());
    write("ca.crt", &std::fs::read_to_string(theirs.join("ca.crt")).unwrap());
    let connect =
        |credential| async { OperatorClient::connect(std::slice::from_ref(&service.address), credential).await };
    let error = connect(Credential::load(mine.path()).unwrap()).await.unwrap_err();
    assert!(matches!(error, OperatorError::Credential(_)), "{error}");

    let without = bare_operator_call(&service).await;
    assert_eq!(without.refusal(), Some(Refusal::NoCertificate), "{without}");
    let member = operator_call_as(&service, Some(west.identity(&west.member.gateway_id.to_string()))).await;
    assert_eq!(member.refusal(), Some(Refusal::NotAnOperator), "{member}");
}

/// An operator call without a client certificate.
async fn bare_operator_call(service: &Service) -> CallError {
    operator_call_as(service, None).await
}

async fn operator_call_as(service: &Service, identity: Option<Arc<LiveIdentity>>) -> CallError {
    use proto::federation::v1::{ListMembersRequest, operator_client::OperatorClient as Calls};
    let authority = {
        let pem = std::fs::read_to_string(service.operator_dir.join("ca.crt")).unwrap();
        use rustls::pki_types::pem::PemObject as _;
        rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    };
    let verifier = federation_pki::verify::PinnedAuthority(Fingerprint::of(&authority));
    let tls = federation_pki::tls::client_config(identity, Arc::new(verifier), ALPN).unwrap();
    let socket = tokio::net::TcpStream::connect(service.address.to_string()).await.unwrap();
    let host = rustls::pki_types::ServerName::try_from("federation").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(host, socket).await.unwrap();
    let mut stream = Some(hyper_util::rt::TokioIo::new(stream));
    let connector = tower::service_fn(move |_: http::Uri| {
        std::future::ready(stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://federation");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    Calls::new(channel).list_members(ListMembersRequest {}).await.unwrap_err().into()
}

#[tokio::test]
async fn the_admin_port_tells_readiness_metrics_and_members_but_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    joined(&service, &cluster("west")).await;
    let ready = timeout(DEADLINE, async {
        loop {
            let text = get(service.admin, "/readyz").await;
            if text.starts_with("HTTP/1.1 200") {
                return text;
            }
        }
    });
    assert!(ready.await.unwrap().contains("\"name\": \"identity\""));
    let metrics = get(service.admin, "/metrics").await;
    for line in ["landbridge_federation_members 1\n", "landbridge_federation_joins_total{outcome=\"joined\"} 1\n"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let members = get(service.admin, "/debug/members").await;
    assert!(members.contains("\"cluster\": \"west\"") && members.contains("\"used\": 1"), "{members}");
    assert!(!members.contains("secret"), "{members}");
}

#[tokio::test]
async fn a_store_serves_one_program_and_an_address_in_use_names_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let error = start(config(dir.path()), CancellationToken::new()).await.unwrap_err();
    assert!(format!("{error:#}").contains("is in use by landbridge-federation"), "{error:#}");
    let other = tempfile::tempdir().unwrap();
    let mut config = config(other.path());
    config.grpc.listen.set_port(service.address.port().number());
    let error = start(config, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains("set `grpc.listen` to a free address"), "{error}");
}
