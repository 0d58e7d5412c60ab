use std::net::Ipv4Addr;

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use prometheus_client::encoding::text::encode;

use super::*;
use crate::answer::tests::{question, tables};

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(10);

/// A server that runs until this is dropped.
struct Running {
    address: SocketAddr,
    tables: watch::Sender<Arc<Tables>>,
    registry: Registry,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

async fn start() -> Running {
    let mut registry = Registry::default();
    let config = DnsConfig { listen: (Ipv4Addr::LOCALHOST, 0).into(), ttl: Duration::from_secs(5) };
    let server = DnsServer::bind(config, &mut registry).await.unwrap();
    let (sender, receiver) = watch::channel(Arc::new(tables()));
    let (address, stop, mut tasks) = (server.local_addr(), CancellationToken::new(), JoinSet::new());
    tasks.spawn(server.run(receiver, stop.clone()));
    Running { address, tables: sender, registry, stop, tasks }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("the server answers in time")
}

async fn over_udp(server: &Running, query: &[u8]) -> Message {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect(server.address).await.unwrap();
    socket.send(query).await.unwrap();
    let mut buffer = [0; 4096];
    let length = in_time(socket.recv(&mut buffer)).await.unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn send_tcp(stream: &mut TcpStream, query: &[u8]) {
    let length = u16::try_from(query.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).await.unwrap();
    stream.write_all(query).await.unwrap();
}

async fn receive_tcp(stream: &mut TcpStream) -> Message {
    let length = in_time(stream.read_u16()).await.unwrap();
    let mut bytes = vec![0; length.into()];
    in_time(stream.read_exact(&mut bytes)).await.unwrap();
    Message::from_vec(&bytes).unwrap()
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    question(name, kind).to_vec().unwrap()
}

const WEB: &str = "web.shop.svc.clusterset.local.";
const BIG: &str = "big.shop.svc.clusterset.local.";

#[tokio::test]
async fn a_truncated_answer_is_whole_over_tcp_on_the_same_port() {
    let server = start().await;
    let cut = over_udp(&server, &query(BIG, RecordType::A)).await;
    assert!(cut.metadata.truncation);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    send_tcp(&mut stream, &query(BIG, RecordType::A)).await;
    let whole = receive_tcp(&mut stream).await;
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 200));
}

#[tokio::test]
async fn one_connection_carries_many_queries_also_sent_at_once() {
    let server = start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        send_tcp(&mut stream, &query(WEB, RecordType::A)).await;
    }
    for _ in 0..3 {
        assert_eq!(receive_tcp(&mut stream).await.answers.len(), 1);
    }
}

#[tokio::test]
async fn a_new_table_is_answered_from_at_once() {
    let server = start().await;
    assert_eq!(over_udp(&server, &query(WEB, RecordType::A)).await.answers.len(), 1);
    let empty = gateway_core::tables::Inputs {
        generation: 8,
        cluster: "east".parse().unwrap(),
        zone: federation_model::sni::Zone::default(),
        imports: Arc::default(),
        exports: Arc::default(),
        pods: Arc::default(),
        members: Arc::default(),
        reachable: Arc::default(),
        places: gateway_core::places::Places::default(),
        revocations: Arc::default(),
        policies: Arc::default(),
        nameservers: Arc::new([]),
    };
    server.tables.send_replace(Arc::new(Tables::compile(empty)));
    let gone = over_udp(&server, &query(WEB, RecordType::A)).await;
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn garbage_disturbs_nobody_and_queries_are_counted_by_type_and_code() {
    let server = start().await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(b"garbage", server.address).await.unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    send_tcp(&mut stream, b"garbage").await;
    let mut rest = Vec::new();
    assert_eq!(in_time(stream.read_to_end(&mut rest)).await.unwrap(), 0, "the connection is closed");
    over_udp(&server, &query(WEB, RecordType::A)).await;
    over_udp(&server, &query("example.com.", RecordType::AAAA)).await;
    let mut text = String::new();
    encode(&mut text, &server.registry).unwrap();
    for line in [
        r#"dns_queries_total{transport="udp",kind="a",code="noerror"} 1"#,
        r#"dns_queries_total{transport="udp",kind="aaaa",code="refused"} 1"#,
        "dns_ignored_total 2",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_are_served_when_others_end() {
    let server = start().await;
    let mut open = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        send_tcp(&mut stream, &query(WEB, RecordType::A)).await;
        receive_tcp(&mut stream).await;
        open.push(stream);
    }
    let mut waiting = TcpStream::connect(server.address).await.unwrap();
    send_tcp(&mut waiting, &query(WEB, RecordType::A)).await;
    assert_eq!(over_udp(&server, &query(WEB, RecordType::A)).await.answers.len(), 1, "datagrams are not held up");
    drop(open);
    assert_eq!(receive_tcp(&mut waiting).await.answers.len(), 1);
}

#[tokio::test]
async fn it_ends_when_told_and_frees_its_port() {
    let mut server = start().await;
    server.stop.cancel();
    in_time(server.tasks.join_next()).await.unwrap().unwrap();
    let config = DnsConfig { listen: server.address, ttl: Duration::ZERO };
    let again = DnsServer::bind(config, &mut Registry::default()).await.unwrap();
    assert_eq!(again.local_addr(), server.address);
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_setting() {
    let server = start().await;
    let config = DnsConfig { listen: server.address, ttl: Duration::ZERO };
    let error = DnsServer::bind(config, &mut Registry::default()).await.unwrap_err().to_string();
    assert!(error.contains(&server.address.to_string()) && error.contains("dns.listen"), "{error}");
}
