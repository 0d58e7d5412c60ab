use std::time::{Duration, SystemTime};

use federation_model::{
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
    web::{self, WebIdentity, WebPair, WebRoots},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::splice::{Counts, splice};

const NAME: &str = "api.example";
const LONG: Duration = Duration::from_secs(60);

fn configurations() -> (TlsConnector, TlsAcceptor) {
    let td = TrustDomain::new("east.example").unwrap();
    let validity = Validity::starting(Timestamp::from(SystemTime::now()), Duration::from_secs(3600));
    let authority = Authority::generate(&td, "east", validity).unwrap();
    let id = SpiffeId::new("spiffe://east.example/api").unwrap();
    let svid = authority.issue(&SvidRequest { id, names: vec![NAME.parse().unwrap()], validity }).unwrap();
    let identity = Arc::new(WebIdentity::default());
    identity.replace(WebPair::from_pem(&svid.certificate_pem(), svid.key_pem().expose()).unwrap());
    let roots = WebRoots::new([authority.certificate().clone()]).unwrap();
    let client = web::client_config(&roots, b"test").unwrap();
    let server = web::server_config(identity, b"test").unwrap();
    (Arc::new(client).into(), Arc::new(server).into())
}

/// A client and a server that have shaken hands; the client has said `first` before the server was done.
async fn pair(first: &[u8]) -> (TlsStream<TcpStream>, TlsStream<TcpStream>) {
    let (connector, acceptor) = configurations();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dial = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut stream = connector.connect(NAME.try_into().unwrap(), tcp).await.unwrap();
        stream.write_all(first).await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let answer = async { acceptor.accept(listener.accept().await.unwrap().0).await.unwrap() };
    let (client, server) = tokio::join!(dial, answer);
    (client.into(), server.into())
}

async fn text(end: &mut TlsEnd) -> Result<String, Outcome> {
    let (mut all, mut batch) = (Vec::new(), Vec::new());
    while end.read(&mut batch).await? {
        batch.drain(..).for_each(|bytes| all.extend_from_slice(&bytes));
    }
    Ok(String::from_utf8(all).unwrap())
}

/// What the other side of `end` and `end` itself see when each says something and ends, one after the other.
async fn exchange(mut end: TlsEnd, mut other: TlsStream<TcpStream>) {
    end.write(&mut vec![Bytes::from_static(b"ques"), Bytes::new(), Bytes::from_static(b"tion")]).await.unwrap();
    end.finish().await.unwrap();
    let mut question = String::new();
    other.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    other.write_all(b"answer").await.unwrap();
    other.shutdown().await.unwrap();
    assert_eq!(text(&mut end).await, Ok("answer".to_owned()));
}

#[tokio::test]
async fn a_half_close_is_a_close_notify_and_the_answer_still_arrives() {
    let (client, server) = pair(b"").await;
    exchange(TlsEnd::new(client, Outcome::DestinationReset), server).await;
    let (client, server) = pair(b"").await;
    exchange(TlsEnd::new(server, Outcome::ClientReset), client).await;
}

#[tokio::test]
async fn bytes_that_came_with_the_handshake_are_not_lost() {
    let (mut client, server) = pair(b"at once").await;
    client.shutdown().await.unwrap();
    assert_eq!(text(&mut TlsEnd::new(server, Outcome::ClientReset)).await, Ok("at once".to_owned()));
}

#[tokio::test]
async fn an_end_without_a_close_notify_is_a_reset() {
    let (client, mut server) = pair(b"").await;
    let mut end = TlsEnd::new(client, Outcome::DestinationReset);
    server.write_all(b"half").await.unwrap();
    server.flush().await.unwrap();
    socket2::SockRef::from(server.get_ref().0).shutdown(std::net::Shutdown::Both).unwrap();
    let mut batch = Vec::new();
    assert_eq!(end.read(&mut batch).await, Ok(true));
    assert_eq!(batch, [Bytes::from_static(b"half")]);
    assert_eq!(end.read(&mut batch).await, Err(Outcome::DestinationReset));
}

#[tokio::test]
async fn an_end_that_is_dropped_without_having_been_finished_is_no_clean_end() {
    let (mut client, server) = pair(b"").await;
    drop(TlsEnd::new(server, Outcome::ClientReset));
    assert_eq!(client.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_is_no_record_is_answered_with_an_alert_and_is_a_reset() {
    let (mut client, server) = pair(b"").await;
    let mut end = TlsEnd::new(server, Outcome::ClientReset);
    let TlsStream::Client(stream) = &mut client else { panic!("the first of the pair is the client") };
    stream.get_mut().0.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(end.read(&mut Vec::new()).await, Err(Outcome::ClientReset));
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert!(error.to_string().contains("fatal alert"), "{error}");
}

#[tokio::test]
async fn new_keys_of_the_other_side_are_taken_and_answered() {
    let (client, mut server) = pair(b"").await;
    let mut end = TlsEnd::new(client, Outcome::DestinationReset);
    for round in 0..3 {
        let TlsStream::Server(stream) = &mut server else { panic!("the second of the pair is the server") };
        stream.get_mut().1.refresh_traffic_keys().unwrap();
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        let mut batch = Vec::new();
        assert_eq!(end.read(&mut batch).await, Ok(true), "round {round}");
        end.write(&mut batch).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x', "round {round}");
    }
}

/// Four megabytes that do not repeat within a record.
fn megabytes() -> Vec<u8> {
    (0..1_u32 << 20).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()).collect()
}

async fn say_and_hear(stream: TlsStream<TcpStream>, said: &[u8]) -> Vec<u8> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let say = async {
        writing.write_all(said).await.unwrap();
        writing.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let hear = async { reading.read_to_end(&mut heard).await.unwrap() };
    tokio::join!(say, hear);
    heard
}

#[tokio::test]
async fn many_bytes_go_both_ways_at_the_same_time_and_none_is_changed() {
    let ((client, near), (far, destination)) = tokio::join!(pair(b""), pair(b""));
    let mut near_in = TlsEnd::new(near, Outcome::ClientReset);
    let mut far_in = TlsEnd::new(far, Outcome::DestinationReset);
    let (mut near_out, mut far_out) = (near_in.clone(), far_in.clone());
    let (near, far) = ((&mut near_in, &mut near_out), (&mut far_in, &mut far_out));
    let spliced = splice(near, far, Vec::new(), LONG, std::future::pending());
    let (up, mut down) = (megabytes(), megabytes());
    down.reverse();
    let (ended, answered, asked) = tokio::join!(spliced, say_and_hear(client, &up), say_and_hear(destination, &down));
    let bytes = up.len() as u64;
    assert_eq!(ended, (Outcome::Completed, Counts { sent: bytes, received: bytes }));
    assert!(answered == down && asked == up, "bytes were changed");
}

#[tokio::test]
async fn a_destination_that_breaks_off_is_no_clean_end_for_the_client() {
    let ((mut client, near), (far, mut destination)) = tokio::join!(pair(b""), pair(b""));
    let mut near_in = TlsEnd::new(near, Outcome::ClientReset);
    let mut far_in = TlsEnd::new(far, Outcome::DestinationReset);
    let (mut near_out, mut far_out) = (near_in.clone(), far_in.clone());
    let answer = async {
        destination.write_all(b"half of it").await.unwrap();
        destination.flush().await.unwrap();
        socket2::SockRef::from(destination.get_ref().0).shutdown(std::net::Shutdown::Write).unwrap();
    };
    let spliced =
        splice((&mut near_in, &mut near_out), (&mut far_in, &mut far_out), Vec::new(), LONG, std::future::pending());
    let ((), (outcome, counts)) = tokio::join!(answer, spliced);
    assert_eq!((outcome, counts.received), (Outcome::DestinationReset, 10));
    drop((near_in, near_out, far_in, far_out));
    let mut heard = Vec::new();
    assert!(client.read_to_end(&mut heard).await.is_err(), "a clean end after {heard:?}");
}
