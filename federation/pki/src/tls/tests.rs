#![expect(clippy::unwrap_in_result, reason = "results are what is tested; everything else must not fail")]

use std::time::Duration;

use federation_model::{
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use rustls::{ClientConnection, ConnectionCommon, ServerConnection, time_provider::TimeProvider};
use rustls_pki_types::{ServerName, UnixTime};

use super::*;
use crate::{
    Validity,
    ca::{Authority, SvidRequest},
    trust::TrustStore,
    verify::{Expect, PinnedAuthority},
};

const NOW: Timestamp = Timestamp(1_700_000_000);

#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(NOW.0)))
    }
}

fn authority(td: &str) -> Authority {
    let validity = Validity::starting(NOW, Duration::from_secs(86_400));
    Authority::generate(&TrustDomain::new(td).unwrap(), "root", validity).unwrap()
}

fn identity(authority: &Authority, path: &str) -> Arc<LiveIdentity> {
    let id = SpiffeId::new(format!("{}{path}", authority.trust_domain().id_string())).unwrap();
    let validity = Validity::starting(NOW, Duration::from_secs(3600));
    Arc::new(LiveIdentity::new(authority.issue(&SvidRequest { id, names: vec![], validity }).unwrap()))
}

/// Moves bytes until neither side has any; the errors of both sides.
fn shake(client: ClientConfig, server: ServerConfig) -> Result<(), String> {
    let (mut client, mut server) = (client, server);
    client.time_provider = Arc::new(Clock);
    server.time_provider = Arc::new(Clock);
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from("gateway").unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    for _ in 0..10 {
        carry(&mut client, &mut server)?;
        carry(&mut server, &mut client)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(client.tls13_tickets_received(), 0);
    Ok(())
}

fn carry<A, B>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) -> Result<(), String> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets().map_err(|e| e.to_string())?;
    }
    Ok(())
}

struct Pair {
    east: Authority,
    west: Authority,
    trust: Arc<TrustStore>,
}

impl Pair {
    fn new() -> Self {
        let (east, west) = (authority("east.example"), authority("west.example"));
        let trust = Arc::new(TrustStore::new());
        trust.replace([east.bundle(1), west.bundle(1)]).unwrap();
        Self { east, west, trust }
    }

    fn verifier(&self, expect: Expect) -> Arc<SpiffeVerifier> {
        Arc::new(SpiffeVerifier::new(Arc::clone(&self.trust), expect))
    }

    fn shake(&self, client: Option<Arc<LiveIdentity>>, clients: Clients, expect: Expect) -> Result<(), String> {
        let server = server_config(identity(&self.east, "/landbridge/gateway"), clients, b"x").unwrap();
        shake(client_config(client, self.verifier(expect), b"x").unwrap(), server)
    }
}

#[test]
fn two_members_shake_hands_and_a_removed_one_does_not() {
    let pair = Pair::new();
    let west = identity(&pair.west, "/landbridge/gateway");
    let all = || Clients::Required(pair.verifier(Expect::Any));
    assert_eq!(pair.shake(Some(Arc::clone(&west)), all(), Expect::Any), Ok(()));
    pair.trust.replace([pair.east.bundle(2)]).unwrap();
    let error = pair.shake(Some(west), all(), Expect::Any).unwrap_err();
    assert!(error.contains("not known here") && error.contains("west.example"), "{error}");
}

#[test]
fn ids_that_are_proven_but_not_expected_are_refused_on_either_side() {
    let pair = Pair::new();
    let west = identity(&pair.west, "/landbridge/gateway");
    let id = |text: &str| SpiffeId::new(text).unwrap();
    let gateway = id("spiffe://west.example/landbridge/gateway");
    let clients = |expect| Clients::Required(pair.verifier(expect));
    let server = id("spiffe://east.example/landbridge/gateway");
    let shake = |expect, wanted| pair.shake(Some(Arc::clone(&west)), clients(expect), Expect::Exactly(wanted));
    assert_eq!(shake(Expect::OneOf(vec![id("spiffe://a.example/b"), gateway.clone()]), server.clone()), Ok(()));
    let wanted = gateway.clone();
    assert_eq!(shake(Expect::When("a gateway", Arc::new(move |id| *id == wanted)), server.clone()), Ok(()));
    for expect in [
        Expect::Exactly(id("spiffe://west.example/landbridge/other")),
        Expect::OneOf(vec![]),
        Expect::When("nobody", Arc::new(|_| false)),
    ] {
        let error = shake(expect, server.clone()).unwrap_err();
        assert!(error.contains("the peer proved to be spiffe://west.example/landbridge/gateway"), "{error}");
    }
    let error = shake(Expect::Any, gateway).unwrap_err();
    assert!(error.contains("expected is spiffe://west.example/landbridge/gateway"), "{error}");
}

#[test]
fn clients_without_a_certificate_and_strangers_do_not_pass_where_a_certificate_is_required() {
    let pair = Pair::new();
    assert!(pair.shake(None, Clients::Required(pair.verifier(Expect::Any)), Expect::Any).is_err());
    let stranger = identity(&authority("north.example"), "/landbridge/gateway");
    let error = pair.shake(Some(stranger), Clients::Required(pair.verifier(Expect::Any)), Expect::Any).unwrap_err();
    assert!(error.contains("not known here"), "{error}");
}

#[test]
fn a_deferring_server_takes_unknown_clients_and_leaves_the_judgement_to_its_calls() {
    let pair = Pair::new();
    let stranger = || identity(&authority("north.example"), "/landbridge/gateway");
    assert_eq!(pair.shake(Some(stranger()), Clients::Deferred, Expect::Any), Ok(()));
    assert_eq!(pair.shake(None, Clients::Deferred, Expect::Any), Ok(()));
    let elsewhere = Expect::Exactly(SpiffeId::new("spiffe://west.example/elsewhere").unwrap());
    assert!(pair.shake(Some(stranger()), Clients::Deferred, elsewhere).is_err());
}

#[test]
fn a_replaced_identity_is_presented_in_the_next_handshake() {
    let pair = Pair::new();
    let live = identity(&pair.west, "/landbridge/gateway");
    let next = identity(&pair.west, "/landbridge/next");
    live.replace((*next.current()).clone());
    let wanted = SpiffeId::new("spiffe://west.example/landbridge/next").unwrap();
    let clients = Clients::Required(pair.verifier(Expect::Exactly(wanted)));
    assert_eq!(pair.shake(Some(live), clients, Expect::Any), Ok(()));
}

#[test]
fn a_pin_opens_a_handshake_with_its_federation_service_alone() {
    let fed = authority("federation.internal");
    let server = || server_config(identity(&fed, "/landbridge/federation"), Clients::Deferred, b"h2").unwrap();
    let client = |pin| client_config(None, Arc::new(PinnedAuthority(pin)), b"h2").unwrap();
    assert_eq!(shake(client(fed.fingerprint()), server()), Ok(()));
    let error = shake(client(authority("federation.internal").fingerprint()), server()).unwrap_err();
    assert!(error.contains("join token"), "{error}");
}

#[test]
fn the_hybrid_group_and_the_cheapest_cipher_come_first() {
    let provider = provider();
    assert_eq!(provider.kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(provider.cipher_suites[0].suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
}
