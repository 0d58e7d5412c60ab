//! The service's own certificate and authority are replaced under members that follow it.

use std::os::unix::fs::PermissionsExt as _;

use federation_pki::verify::{Expect, SpiffeVerifier};
use rustls::pki_types::CertificateDer;

use super::*;

/// Certificates are due some twenty seconds after they were made, by a clock that the tests set. It stays within the skew
/// that members allow for, as theirs is the one of the system.
const PACE: Pace = Pace { lifetime: Duration::from_secs(40), look_every: Duration::from_millis(20) };
const PAST_HALF: u64 = 25;

impl Service {
    /// The certificate that a new connection gets, from a service that any of `authorities` speaks for.
    async fn presented(&self, authorities: &[CertificateDer<'static>]) -> Option<CertificateDer<'static>> {
        let trust = TrustStore::new();
        let trust_domain = TrustDomain::new("federation.internal").unwrap();
        trust
            .replace([TrustBundle {
                trust_domain: trust_domain.clone(),
                sequence: 1,
                authorities: authorities.to_vec(),
            }])
            .unwrap();
        let verifier = SpiffeVerifier::new(Arc::new(trust), Expect::Exactly(service_id(&trust_domain)));
        let tls = federation_pki::tls::client_config(None, Arc::new(verifier), ALPN).unwrap();
        let socket = tokio::net::TcpStream::connect(self.address.to_string()).await.unwrap();
        let host = rustls::pki_types::ServerName::try_from("federation").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(host, socket).await.ok()?;
        stream.get_ref().1.peer_certificates()?.first().cloned()
    }
}

fn authorities_of(service: &Service) -> Vec<CertificateDer<'static>> {
    federation_client::operator::authorities(&service.operator_dir).unwrap()
}

async fn until<T>(what: &str, mut done: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(done) = done().await {
                return done;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what}"))
}

#[tokio::test]
async fn the_certificate_is_renewed_under_members_that_follow_and_no_call_fails() {
    let dir = tempfile::tempdir().unwrap();
    let service = service_at(config(dir.path()), PACE).await;
    let (_, western) = joined(&service, &cluster("west")).await;
    let (_, eastern) = joined(&service, &cluster("east")).await;
    let mut watches = [western.watch(Position::default()), eastern.watch(Position::default())];
    for watch in &mut watches {
        assert!(update(watch).await.reset);
    }
    let authorities = authorities_of(&service);
    let mut operator = service.operator().await;
    let mut presented = service.presented(&authorities).await.unwrap();
    for (renewals, zone) in [(1, "a"), (2, "b")] {
        service.ahead.store(renewals * PAST_HALF, Ordering::Relaxed);
        presented = until("new connections get a new certificate", async || {
            // On connections that were open before, and on new ones.
            let listing = operator.list_members().await.unwrap();
            assert!(listing.members.iter().all(|member| member.watching), "a watch ended");
            let fresh = service.operator().await.list_members().await.unwrap();
            let now = service.presented(&authorities).await.expect("every handshake succeeds");
            (now != presented && fresh.certificate.first() == Some(&now)).then_some(now)
        })
        .await;
        let publication = Publication { zone: zone.to_owned(), ..Publication::default() };
        eastern.publish(&publication).await.unwrap();
        for watch in &mut watches {
            // An end of the watch would panic in there.
            assert_eq!(subjects(&update(watch).await), ["+east"]);
        }
    }
    service.stopped().await;
}

fn put(directory: &Path, authority: &Authority) {
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(directory.join("tls.key"), authority.key_pem().expose()).unwrap();
    std::fs::set_permissions(directory.join("tls.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(directory.join("tls.crt"), authority.certificate_pem()).unwrap();
}

fn external() -> Authority {
    let validity = Validity::starting(SystemTime::now().into(), Duration::from_secs(86_400));
    Authority::generate(&TrustDomain::new("federation.internal").unwrap(), "federation", validity).unwrap()
}

#[tokio::test]
async fn members_that_follow_believe_another_external_authority_before_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (external(), external());
    let given = dir.path().join("given");
    put(&given, &first);
    let mut config = config(&dir.path().join("store"));
    config.trust.ca_dir = Some(given.clone());
    let service = service_at(config, PACE).await;
    let former = [first.certificate().clone()];
    let (_, western) = joined(&service, &cluster("west")).await;
    let mut watch = western.watch(Position::default());
    update(&mut watch).await;
    let old_token = service.token("east").await;
    let old_credential = Credential::load(&service.operator_dir).unwrap();

    put(&given, &second);
    let [Change::Federation(both)] = &update(&mut watch).await.changes[..] else { panic!("the authority is told") };
    assert_eq!(both.authorities, [second.certificate().clone(), first.certificate().clone()]);
    assert!(service.presented(&former).await.is_some(), "the certificate in use is of the former one still");

    service.ahead.store(PAST_HALF, Ordering::Relaxed);
    let next = [second.certificate().clone()];
    until("the next authority is used", async || service.presented(&next).await).await;
    let last = update(&mut watch).await;
    let [Change::Federation(alone)] = &last.changes[..] else { panic!("the former one is taken back: {last:?}") };
    assert_eq!(alone.authorities, next);
    assert!(service.presented(&former).await.is_none());
    // The member dials anew, and the operator has a new credential where the service writes it.
    assert!(!update(&mut western.watch(last.position.clone())).await.reset);
    until("the operator credential is of the next authority", async || {
        (authorities_of(&service) == next).then_some(())
    })
    .await;
    assert_eq!(service.operator().await.list_members().await.unwrap().federation.authorities, next);
    assert!(OperatorClient::connect(std::slice::from_ref(&service.address), old_credential).await.is_err());
    let error = JoinClient::connect(&old_token).await.unwrap_err();
    assert!(matches!(&error, JoinError::Dial(DialError::PinMismatch { .. })), "{error}");
    joined(&service, &cluster("north")).await;
    service.stopped().await;
}
