//! Bundles served and read, between whole services and against endpoints that break the rules.

use std::{fmt::Write as _, sync::PoisonError, time::Instant};

use federation_client::operator::ForeignStatus;
use federation_model::{
    bundle::TrustBundle,
    foreign::{BundleSource, EndpointProfile},
};
use federation_pki::{
    bundle::{MAX_DOCUMENT, from_jwks, to_jwks},
    svid::Svid,
    tls::client_config,
    verify::{Expect, SpiffeVerifier},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::bundles::ALPN as HTTP;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Where nobody listens.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

fn domain(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

fn hour() -> Validity {
    Validity::starting(SystemTime::now().into(), Duration::from_secs(3600))
}

fn authority(name: &str) -> Authority {
    Authority::generate(&domain(name), name, hour()).unwrap()
}

fn svid(authority: &Authority, path: &str) -> Svid {
    let id = parse_workload_id(&format!("spiffe://{}{path}", authority.trust_domain())).unwrap();
    let names = vec!["127.0.0.1".parse().unwrap()];
    authority.issue(&SvidRequest { id, names, validity: hour() }).unwrap()
}

/// Puts a pair that `authority` signed into a directory.
fn write_pair(directory: &Path, authority: &Authority) {
    let svid = svid(authority, "/web");
    std::fs::write(directory.join("tls.key"), svid.key_pem().expose()).unwrap();
    std::fs::write(directory.join("tls.crt"), svid.certificate_pem()).unwrap();
}

/// A service that serves bundles with both profiles, its web certificate signed by `web`.
async fn publishing(directory: &tempfile::TempDir, web: &Authority) -> Service {
    let pair = directory.path().join("web");
    std::fs::create_dir_all(&pair).unwrap();
    write_pair(&pair, web);
    let mut config = config(&directory.path().join("store"));
    config.trust.domain = domain("there.internal");
    (config.bundles.listen, config.bundles.web_listen) = (Some(ANY_PORT), Some(ANY_PORT));
    config.bundles.web_dir = Some(pair);
    service_with(config).await
}

/// A service that reads bundles, and believes `web` about names.
async fn reading(directory: &tempfile::TempDir, web: &Authority) -> Service {
    let roots = directory.path().join("roots.pem");
    std::fs::write(&roots, web.certificate_pem()).unwrap();
    let mut config = config(&directory.path().join("store"));
    config.bundles.web_roots = Some(roots);
    service_with(config).await
}

fn source(trust_domain: &str, address: SocketAddr, endpoint_id: Option<&str>) -> BundleSource {
    let profile = match endpoint_id {
        None => EndpointProfile::HttpsWeb,
        Some(id) => EndpointProfile::HttpsSpiffe { endpoint_id: parse_workload_id(id).unwrap() },
    };
    let url = format!("https://{address}/{trust_domain}").parse().unwrap();
    BundleSource { trust_domain: domain(trust_domain), url, profile }
}

impl Service {
    /// Adds a foreign trust domain, and reads it.
    async fn add(&self, source: &BundleSource, bootstrap: Option<&TrustBundle>) -> ForeignStatus {
        self.operator().await.add_foreign(source, bootstrap).await.unwrap();
        self.refresh(source.trust_domain.as_str()).await
    }

    async fn refresh(&self, trust_domain: &str) -> ForeignStatus {
        let mut read = self.operator().await.refresh_foreign(Some(&domain(trust_domain))).await.unwrap();
        assert_eq!(read.len(), 1);
        read.remove(0)
    }

    /// Reads until it succeeds.
    async fn reads(&self, trust_domain: &str) -> ForeignStatus {
        let reading = async {
            loop {
                let status = self.refresh(trust_domain).await;
                if status.failures == 0 {
                    return status;
                }
            }
        };
        timeout(DEADLINE, reading).await.expect("the bundle is read in the end")
    }

    async fn own_bundle(&self) -> TrustBundle {
        self.operator().await.list_members().await.unwrap().federation
    }
}

#[tokio::test]
async fn either_profile_is_served_by_one_service_read_by_another_and_told_to_its_members() {
    let (here, there, web) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), authority("web.example"));
    let publisher = publishing(&there, &web).await;
    let (east, west) = (cluster("east"), cluster("west"));
    joined(&publisher, &east).await;
    let reader = reading(&here, &web).await;
    let (_, client) = joined(&reader, &west).await;
    let mut watch = client.watch(Position::default());
    assert_eq!(subjects(&update(&mut watch).await), ["federation", "+west"]);

    // By the service's own SVID, which is of another trust domain than the bundle.
    let id = "spiffe://there.internal/landbridge/federation";
    let east_source = source("east.example", publisher.bundles.unwrap(), Some(id));
    let own = publisher.own_bundle().await;
    let status = reader.add(&east_source, Some(&own)).await;
    assert_eq!((status.failures, status.last_error.as_str()), (0, ""));
    assert_eq!((status.bundle.as_ref(), status.sequenced), (Some(&east.member.bundle), true));
    assert_eq!(status.interval, Duration::from_secs(300));
    assert_eq!(update(&mut watch).await.changes, [Change::Foreign(east.member.bundle.clone())]);
    // By a certificate of the web, which is read right after the start.
    let web_source = source("there.internal", publisher.bundles_web.unwrap(), None);
    reader.operator().await.add_foreign(&web_source, None).await.unwrap();
    assert_eq!(reader.reads("there.internal").await.bundle, Some(own.clone()));
    assert_eq!(subjects(&update(&mut watch).await), ["+there.internal"]);

    let (answer, _) = joined(&reader, &cluster("north")).await;
    assert_eq!(answer.foreign, [east.member.bundle.clone(), own]);
    assert_eq!(subjects(&update(&mut watch).await), ["+north"]);
    let token = reader.token("east").await;
    let refusal = east.join(&token).await.unwrap_err();
    assert!(refusal.to_string().contains("`fedctl trust foreign remove east.example`"), "{refusal}");
    reader.operator().await.remove_foreign(&domain("east.example")).await.unwrap();
    assert_eq!(subjects(&update(&mut watch).await), ["-east.example"]);
    let metrics = get(reader.admin, "/metrics").await;
    let polled = |line: &str| {
        line.contains("polls_total{") && line.contains("\"there.internal\"") && line.contains("\"changed\"")
    };
    assert!(metrics.lines().any(|line| polled(line) && line.ends_with(" 1")), "{metrics}");
    let view = get(reader.admin, "/debug/foreign").await;
    assert!(view.contains("\"there.internal\"") && !view.contains("\"east.example\""), "{view}");
}

#[tokio::test]
async fn a_cluster_that_comes_back_under_another_authority_is_no_fork_to_importers() {
    let (here, there, web) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), authority("web.example"));
    let publisher = publishing(&there, &web).await;
    let reader = reading(&here, &web).await;
    let id = "spiffe://there.internal/landbridge/federation";
    let east_source = source("east.example", publisher.bundles.unwrap(), Some(id));
    let own = publisher.own_bundle().await;
    let mut last = 0;
    for east in [cluster("east"), cluster("east"), cluster("east")] {
        let (_, client) = joined(&publisher, &east).await;
        let status =
            if last == 0 { reader.add(&east_source, Some(&own)).await } else { reader.refresh("east.example").await };
        assert_eq!((status.failures, status.last_error.as_str()), (0, ""));
        let read = status.bundle.unwrap();
        assert_eq!(read.authorities, east.member.bundle.authorities);
        assert!(read.sequence > last, "{} after {last}", read.sequence);
        last = read.sequence;
        client.leave().await.unwrap();
    }
}

#[tokio::test]
async fn a_web_certificate_is_replaced_while_the_endpoint_runs_and_a_bad_one_is_not_taken() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (authority("web.example"), authority("web.example"));
    let publisher = publishing(&there, &old).await;
    let reader = reading(&here, &old).await;
    let source = source("there.internal", publisher.bundles_web.unwrap(), None);
    reader.operator().await.add_foreign(&source, None).await.unwrap();
    reader.reads("there.internal").await;
    std::fs::write(here.path().join("roots.pem"), new.certificate_pem()).unwrap();
    let status = reader.refresh("there.internal").await;
    assert!(status.last_error.contains("is not believed"), "{}", status.last_error);
    assert!(status.bundle.is_some());
    write_pair(&there.path().join("web"), &new);
    reader.reads("there.internal").await;
}

#[tokio::test]
async fn curl_reads_the_bundle_and_is_told_when_it_has_it_already() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        eprintln!("SKIPPED: curl is not on PATH, so nobody but this project's own client has read the bundle endpoint");
        return;
    }
    let (there, web) = (tempfile::tempdir().unwrap(), authority("web.example"));
    let publisher = publishing(&there, &web).await;
    let east = cluster("east");
    joined(&publisher, &east).await;
    let root = there.path().join("root.pem");
    std::fs::write(&root, web.certificate_pem()).unwrap();
    let address = publisher.bundles_web.unwrap();
    let curl = async |path: &str, more: &[&str]| {
        let mut command = tokio::process::Command::new("curl");
        command.args(["--silent", "--show-error", "--include", "--max-time", "20", "--noproxy", "*"]);
        // The pair is read right after the start.
        command.args(["--retry", "10", "--retry-all-errors", "--retry-delay", "1", "--cacert"]).arg(&root);
        let output = command.args(more).arg(format!("https://{address}{path}")).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let answer = curl("/east.example", &[]).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: application/json"), "{head}");
    let read = from_jwks(&domain("east.example"), body).unwrap();
    assert_eq!((read.bundle, read.refresh_hint), (east.member.bundle.clone(), Some(Duration::from_secs(300))));
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let again = curl("/east.example", &["--header", &format!("If-None-Match: {tag}")]).await;
    assert!(again.starts_with("HTTP/1.1 304"), "{again}");
    assert!(curl("/", &[]).await.contains(&format!("\"url\": \"https://{address}/east.example\"")));
    assert!(curl("/nobody.example", &[]).await.starts_with("HTTP/1.1 404"));
    assert!(curl("/east.example", &["--request", "PUT"]).await.starts_with("HTTP/1.1 405"));
}

#[tokio::test]
async fn clients_that_say_nothing_are_cut_off_and_do_not_take_every_place() {
    let (there, web) = (tempfile::tempdir().unwrap(), authority("web.example"));
    let publisher = publishing(&there, &web).await;
    let address = publisher.bundles.unwrap();
    let trust = TrustStore::new();
    trust.replace([publisher.own_bundle().await]).unwrap();
    let verifier = SpiffeVerifier::new(Arc::new(trust), Expect::Any);
    let connector = TlsConnector::from(Arc::new(client_config(None, Arc::new(verifier), HTTP).unwrap()));
    let connect = async || {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        connector.connect("127.0.0.1".try_into().unwrap(), socket).await.unwrap()
    };
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(connect().await);
    }
    // Those beyond the limit of one address at once, the others when their time is over.
    for mut stream in silent {
        let mut bytes = Vec::new();
        let ended = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
        assert!(ended.is_ok(), "a client that says nothing is cut off");
        assert!(!bytes.starts_with(b"HTTP/1.1 200"));
    }
    let mut stream = connect().await;
    stream.write_all(b"GET /there.internal HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    // The end of the bytes may lack the farewell of TLS.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.unwrap();
    assert!(bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes));
}

/// What a publisher answers.
#[derive(Clone)]
enum Answer {
    /// These bytes.
    Raw(Vec<u8>),
    /// Nothing, for ever.
    Silence,
}

impl Answer {
    fn document(text: &str) -> Self {
        Self::status("200 OK", "", text)
    }

    fn status(status: &str, headers: &str, text: &str) -> Self {
        let length = text.len();
        Self::Raw(format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{text}").into_bytes())
    }
}

/// A bundle endpoint that a test controls.
struct Publisher {
    address: SocketAddr,
    identity: Arc<LiveIdentity>,
    answer: Arc<Mutex<Answer>>,
    _tasks: JoinSet<()>,
}

impl Publisher {
    async fn start(authority: &Authority) -> Self {
        let identity = Arc::new(LiveIdentity::new(svid(authority, "/spire/server")));
        let tls = server_config(Arc::clone(&identity), Clients::Anyone, HTTP).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let (address, answer) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Answer::Silence)));
        let (mut tasks, answers) = (JoinSet::new(), Arc::clone(&answer));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, answers) = (acceptor.clone(), Arc::clone(&answers));
                connections.spawn(async move {
                    // A client that goes away ends its connection, nothing else.
                    let Ok(mut stream) = acceptor.accept(socket).await else { return };
                    let _ = stream.read(&mut [0; 4096]).await;
                    let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    match answer {
                        Answer::Raw(bytes) => {
                            let _ = stream.write_all(&bytes).await;
                            let _ = stream.shutdown().await;
                        }
                        Answer::Silence => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, identity, answer, _tasks: tasks }
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn publishes(&self, bundle: &TrustBundle) {
        self.answers(Answer::document(&to_jwks(bundle, Duration::from_secs(90))));
    }

    fn source(&self, trust_domain: &str) -> BundleSource {
        source(trust_domain, self.address, Some(&format!("spiffe://{trust_domain}/spire/server")))
    }
}

/// A service that reads spire.example, at sequence 5, and calm.example.
struct Siege {
    service: Service,
    spire: Authority,
    calm: Authority,
    publisher: Publisher,
    other: Publisher,
    good: TrustBundle,
    _dir: tempfile::TempDir,
}

impl Siege {
    async fn begin() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let service = reading(&dir, &authority("web.example")).await;
        let (spire, calm) = (authority("spire.example"), authority("calm.example"));
        let (publisher, other) = (Publisher::start(&spire).await, Publisher::start(&calm).await);
        let good = spire.bundle(5);
        publisher.publishes(&good);
        other.publishes(&calm.bundle(1));
        for (publisher, authority) in [(&publisher, &spire), (&other, &calm)] {
            let source = publisher.source(authority.trust_domain().as_str());
            let status = service.add(&source, Some(&authority.bundle(1))).await;
            assert_eq!((status.failures, status.interval.as_secs()), (0, 90), "{}", status.last_error);
        }
        Self { service, spire, calm, publisher, other, good, _dir: dir }
    }

    /// Reads spire.example, which must fail with `words` and change nothing.
    async fn refuses(&self, words: &str) -> u32 {
        let status = self.service.refresh("spire.example").await;
        assert!(status.last_error.contains(words), "{words}: {}", status.last_error);
        assert_eq!((status.bundle.as_ref(), status.interval.as_secs()), (Some(&self.good), 90), "{words}");
        status.failures
    }
}

#[tokio::test]
async fn documents_that_break_the_rules_leave_the_last_good_bundle() {
    let siege = Siege::begin().await;
    let Siege { spire, calm, good, .. } = &siege;
    let both = vec![good.authorities[0].clone(), authority("spire.example").certificate().clone()];
    let jwks = |bundle: &TrustBundle| Answer::document(&to_jwks(bundle, Duration::ZERO));
    let mut headers = "HTTP/1.1 200 OK\r\n".to_owned();
    for number in 0..2000 {
        write!(headers, "x-{number}: 1\r\n").unwrap();
    }
    let raw = |bytes: &[u8]| Answer::Raw(bytes.to_vec());
    let hostile = [
        (jwks(&spire.bundle(4)), "its sequence went back from 5 to 4"),
        (jwks(&TrustBundle { authorities: both, ..good.clone() }), "differs from the last one of the same sequence 5"),
        (Answer::document(r#"{"keys":[]}"#), "it has no sequence, and the last one had 5"),
        (jwks(&calm.bundle(6)), "is not usable"),
        (Answer::document("<html>"), "is not a SPIFFE bundle"),
        (Answer::document(r#"{"keys":[],"keys":[],"spiffe_sequence":9}"#), "stands twice"),
        (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xfe"), "is not UTF-8"),
        (raw(format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(MAX_DOCUMENT + 1)).as_bytes()), "more than"),
        (raw(headers.as_bytes()), "broke the exchange off"),
        (raw(b"SSH-2.0-none\r\n"), "broke the exchange off"),
        (raw(b""), "broke the exchange off"),
        (Answer::status("302 Found", "location: https://else.example/\r\n", ""), "redirects are not followed"),
        (Answer::status("404 Not Found", "", "{\"keys\":[]}"), "it answered 404"),
        (Answer::status("304 Not Modified", "", ""), "it answered 304"),
    ];
    for (number, (answer, words)) in (1..).zip(hostile) {
        siege.publisher.answers(answer);
        assert_eq!(siege.refuses(words).await, number);
    }
    let next = TrustBundle { sequence: 6, ..good.clone() };
    siege.publisher.publishes(&next);
    let status = siege.service.refresh("spire.example").await;
    assert_eq!((status.failures, status.bundle), (0, Some(next)));
}

#[tokio::test]
async fn an_endpoint_that_is_not_the_stated_one_is_not_believed_and_its_successor_is() {
    let siege = Siege::begin().await;
    let Siege { spire, calm, good, publisher, .. } = &siege;
    let another = authority("spire.example");
    let authorities = vec![good.authorities[0].clone(), another.certificate().clone()];
    let both = TrustBundle { sequence: 6, authorities, ..good.clone() };
    publisher.publishes(&both);
    publisher.identity.replace(svid(spire, "/another/server"));
    siege.refuses("expected is spiffe://spire.example/spire/server").await;
    publisher.identity.replace(svid(&another, "/spire/server"));
    siege.refuses("not signed by the authority of its trust domain").await;
    publisher.identity.replace(svid(calm, "/spire/server"));
    siege.refuses("it presents spiffe://calm.example/spire/server").await;

    // The good bundle's authority announces the next one, which then stands for the endpoint too.
    publisher.identity.replace(svid(spire, "/spire/server"));
    assert_eq!(siege.service.refresh("spire.example").await.bundle, Some(both.clone()));
    publisher.identity.replace(svid(&another, "/spire/server"));
    let nothing = TrustBundle { sequence: 7, authorities: Vec::new(), ..both };
    publisher.publishes(&nothing);
    assert_eq!(siege.service.refresh("spire.example").await.bundle, Some(nothing.clone()));
    let status = siege.service.refresh("spire.example").await;
    assert!(status.last_error.contains("everything of the trust domain"), "{}", status.last_error);
    assert_eq!(status.bundle, Some(nothing));
    // An operator begins anew with what the publisher hands over.
    publisher.publishes(&another.bundle(1));
    let status = siege.service.add(&publisher.source("spire.example"), Some(&another.bundle(0))).await;
    assert_eq!((status.failures, status.bundle), (0, Some(another.bundle(1))));
}

#[tokio::test]
async fn an_endpoint_that_never_answers_delays_no_other() {
    let siege = Siege::begin().await;
    siege.publisher.answers(Answer::Silence);
    siege.other.publishes(&siege.calm.bundle(2));
    let quick = async {
        let status = siege.service.refresh("calm.example").await;
        (status.bundle.map(|bundle| bundle.sequence), Instant::now())
    };
    let (_, (sequence, done)) = tokio::join!(siege.refuses("did not answer within"), quick);
    assert_eq!(sequence, Some(2));
    assert!(done.elapsed() > Duration::from_secs(2), "the other one was read while this one was silent");
    let metrics = get(siege.service.admin, "/metrics").await;
    let failures = |name: &str| format!("foreign_failures{{trust_domain=\"{name}\"}}");
    let of = |name: &str| metrics.lines().find(|line| line.contains(&failures(name))).map(str::to_owned);
    assert!(of("calm.example").unwrap().ends_with(" 0") && of("spire.example").unwrap().ends_with(" 1"), "{metrics}");
}

#[tokio::test]
async fn a_service_that_starts_again_has_its_bundles_while_their_endpoints_are_away() {
    let (dir, web) = (tempfile::tempdir().unwrap(), authority("web.example"));
    let service = reading(&dir, &web).await;
    let spire = authority("spire.example");
    let publisher = Publisher::start(&spire).await;
    publisher.publishes(&spire.bundle(5));
    service.add(&publisher.source("spire.example"), Some(&spire.bundle(1))).await;
    service.stopped().await;
    drop(publisher);
    let service = reading(&dir, &web).await;
    let status = service.refresh("spire.example").await;
    assert_eq!((status.bundle.as_ref(), status.last_success), (Some(&spire.bundle(5)), None));
    assert!(status.last_error.contains("cannot be reached"), "{}", status.last_error);
    assert_eq!(joined(&service, &cluster("west")).await.0.foreign, [spire.bundle(5)]);
}

#[tokio::test]
async fn what_cannot_be_foreign_is_refused_with_its_reason() {
    let (dir, web) = (tempfile::tempdir().unwrap(), authority("web.example"));
    let service = reading(&dir, &web).await;
    joined(&service, &cluster("west")).await;
    let mut operator = service.operator().await;
    for (source, refusal) in [
        (source("west.example", NOBODY, None), Refusal::TrustDomainTaken),
        (source("federation.internal", NOBODY, None), Refusal::TrustDomainTaken),
        (source("spire.example", NOBODY, Some("spiffe://spire.example/server")), Refusal::BundleInvalid),
    ] {
        assert_eq!(operator.add_foreign(&source, None).await.unwrap_err().refusal(), Some(refusal));
    }
    let unknown = domain("spire.example");
    assert_eq!(operator.remove_foreign(&unknown).await.unwrap_err().refusal(), Some(Refusal::NotFound));
    assert_eq!(operator.refresh_foreign(Some(&unknown)).await.unwrap_err().refusal(), Some(Refusal::NotFound));
    assert_eq!(operator.refresh_foreign(None).await.unwrap(), []);
}
